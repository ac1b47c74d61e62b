"""JSON pointers (RFC 6901)."""

from collections.abc import Iterable


def token(key: str | int) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")


def pointer(path: Iterable[str | int]) -> str:
    return "".join(f"/{token(key)}" for key in path)


def tokens(text: str) -> list[str]:
    return [t.replace("~1", "/").replace("~0", "~") for t in text.split("/")[1:]]
