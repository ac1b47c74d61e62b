"""The translators by kind of gateway."""

from collections.abc import Mapping
from typing import Any

from gateways.translator import Translator
from xds.translator import EnvoyTranslator

TRANSLATORS: Mapping[str, Translator[Any]] = {"envoy": EnvoyTranslator()}


def load_translators() -> None:
    """Imports everything that they need."""
    for translator in TRANSLATORS.values():
        translator.load()
