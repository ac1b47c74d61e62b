"""Names from titles."""

import re
import unicodedata


def slug(title: str) -> str:
    """`Pétstore (v2)!` -> `petstore-v2`; empty when nothing of the title can be kept."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:80].strip("-")
