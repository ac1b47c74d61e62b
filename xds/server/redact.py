"""Redaction of a proxy's rejection before it leaves this process.

Envoy quotes the rejected resource in its reasons: header values, keys, whole JSON documents. The first line
is kept up to the quoted content, with known names; everything that may be a value is removed.
"""

import re
from collections.abc import Iterable

LIMIT = 500
HIDDEN = "…"

_VALIDATION = re.compile(r"(constraint validation failed \([^{}\n\"']*?\))\s*:\s.*", re.DOTALL)
_CONTENTS = re.compile(r"[{<]|\b[a-z_0-9]+\s*:\s*\"|-----BEGIN")
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*(?:\"|$)|(?<![A-Za-z])'[^']*(?:'(?![A-Za-z])|$)")
_BIND = re.compile(r"(?<=cannot bind )'([0-9A-Za-z.:%\[\]-]{1,64})'(?=: )")
"""The address of the gateway's own listener, which is not secret and is needed to find a conflicting port."""
_SCHEME = re.compile(r"(?i)\b(bearer|basic)\s+\S+")
_SECRET = re.compile(
    r"(?i)([\w-]*(?:authorization|password|passwd|secret|token|api-?_?key|cookie|credential)[\w-]*\s*[:=]\s*)\S+"
)
_USERINFO = re.compile(r"(://)[^/\s@]+@")
_QUERY = re.compile(r"(\?)\S+")
_LONG = re.compile(r"(?<![\w+/=-])(?=[\w+/=-]*\d)(?=[\w+/=-]*[A-Za-z])[\w+/=-]{24,}(?![\w+/=-])")
_DEBUG_MARK = re.compile(r"[:\s]*goo\.gle/debug\w*\s*")
_SPACE = re.compile(r"\s+")


def redacted(reason: str, known: Iterable[str] = ()) -> str:
    """The reason without resource contents, at most 500 characters; `known` are names that may be shown."""
    names = sorted({name for name in known if name and name in reason}, key=len, reverse=True)
    text = reason
    for index, name in enumerate(names):
        text = re.sub(rf"['\"]?{re.escape(name)}['\"]?", f"\x00{index}\x00", text)
    text = _BIND.sub(r"\1", text)
    text = _VALIDATION.sub(r"\1", text).lstrip().split("\n", 1)[0]
    contents = _CONTENTS.search(text)
    if contents:
        text = text[: contents.start()].rstrip(" :,(") + " " + HIDDEN
    for pattern, shown in (
        (_DEBUG_MARK, ""),
        (_QUOTED, HIDDEN),
        (_SCHEME, rf"\1 {HIDDEN}"),
        (_SECRET, rf"\1{HIDDEN}"),
        (_USERINFO, rf"\1{HIDDEN}@"),
        (_QUERY, rf"\1{HIDDEN}"),
        (_LONG, HIDDEN),
    ):
        text = pattern.sub(shown, text)
    for index, name in enumerate(names):
        text = text.replace(f"\x00{index}\x00", name)
    text = _SPACE.sub(" ", text).strip()
    if len(text) > LIMIT:
        text = text[: LIMIT - 1] + HIDDEN
    return text or "rejected without a reason"
