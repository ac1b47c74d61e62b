"""Splits the URLs of upstreams into server (scheme, host, port) and path."""

from definitions.source.document_reader import Node


def split_url(node: Node) -> tuple[str, str] | None:
    """`http://host:80/v2/` -> (`http://host:80`, `/v2`). None, and an error, for other text."""
    text = node.required()
    if text is None:
        return None
    scheme, found, rest = text.partition("://")
    if not found or scheme.lower() not in ("http", "https"):
        node.error("url-scheme", f"{text[:200]!r} must begin with http:// or https://")
        return None
    if "?" in rest or "#" in rest:
        node.error("url", f"{text[:200]!r} has a query or fragment, which an upstream cannot have")
        return None
    authority, _, path = rest.partition("/")
    if not authority or any(c.isspace() for c in rest):
        node.error("url", f"{text[:200]!r} is not a URL with a host")
        return None
    path = path.rstrip("/")
    return f"{scheme.lower()}://{authority}", f"/{path}" if path else ""
