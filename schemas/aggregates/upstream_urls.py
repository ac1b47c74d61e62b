"""Checks of the URL and the base path of an upstream."""

from urllib.parse import unquote, urlsplit


def user_info_problem(url: str) -> str | None:
    """The reason for refusing a URL with user info; the text omits the user info, which may be a password.
    Raises ValueError."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return None
    host = parts.netloc.rpartition("@")[2]
    return (
        f"the URL of {host} has a user or password, which gateways do not send: leave it out, and have a "
        "set-headers policy set the request header authorization"
    )


def base_path_problem(path: str) -> str | None:
    """The reason for refusing a base path, if any."""
    if any(unquote(segment) in (".", "..") for segment in path.split("/")):
        return f"{path!r} has a segment . or .., which upstreams resolve: write the path that it stands for"
    return None
