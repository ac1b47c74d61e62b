"""What a form of definitions is: a way in which people write them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from definitions.document_reader import DocumentReader
from schemas.api import ApiSpec

DEFAULT_PROJECT = "default"


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """What a form makes of one document; `spec` as in Definition."""

    kind: str
    name: str
    project: str
    form: str
    spec: ApiSpec | Mapping[str, Any]
    deployed: bool | None = None


class DefinitionForm(Protocol):
    """One module per form; `definitions.reading.FORMS` lists them."""

    TITLE: str
    """How the form is recognised, for a person."""

    def claims(self, value: Mapping[str, Any]) -> bool:
        """Whether a document is written in this form."""
        ...

    def read(self, reader: DocumentReader, name: str | None) -> ParsedDocument | None:
        """What the document says; None, and an error on `reader`, when it does not hold together.

        `name` is for documents that carry none.
        """
        ...
