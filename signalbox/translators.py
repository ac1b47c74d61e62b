"""The translators by kind of gateway. Loading one is slow, so it waits until it is asked for."""

import importlib
from collections.abc import Iterator, Mapping
from typing import cast

from gateways.translator import Translator

MODULES = {"envoy": "xds.translate"}


class Translators(Mapping[str, Translator]):
    def __getitem__(self, kind: str) -> Translator:
        return cast("Translator", importlib.import_module(MODULES[kind]))

    def __iter__(self) -> Iterator[str]:
        return iter(MODULES)

    def __len__(self) -> int:
        return len(MODULES)

    def load(self) -> None:
        """Loads them all."""
        for kind in self:
            _ = self[kind]
