"""The interface of a form: one format in which definitions are written."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from definitions.source.document_reader import DocumentReader
from schemas.aggregates.api import ApiSpec

DEFAULT_PROJECT = "default"


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """The result of reading one document; `spec` as in Definition."""

    kind: str
    name: str
    project: str
    form: str
    spec: ApiSpec | Mapping[str, Any]
    deployed: bool | None = None


class DefinitionForm(Protocol):
    """One module per form; `definitions.reading.FORMS` lists them."""

    TITLE: str
    """The fields by which users recognise the form, for error messages."""

    def claims(self, value: Mapping[str, Any]) -> bool:
        """Whether a document is written in this form."""
        ...

    def read(self, reader: DocumentReader, name: str | None) -> ParsedDocument | None:
        """The parsed document; None, and an error on `reader`, if it is invalid.

        `name`: for documents without a name.
        """
        ...
