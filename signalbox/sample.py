"""The sample API that a first start deploys."""

from importlib import resources

NAME = "hello"
CONTEXT = "/hello"
UPSTREAM = "http://upstream.invalid"


def sample(upstream: str) -> str:
    """The definition of the sample API (YAML, `signalbox.io/v1`), served by `upstream` (a URL)."""
    text = resources.files("signalbox").joinpath("sample", "hello.yaml").read_text(encoding="utf-8")
    if UPSTREAM not in text:
        raise ValueError(f"the packaged sample does not mention {UPSTREAM}")
    return text.replace(UPSTREAM, upstream)
