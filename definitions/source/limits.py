"""Limits on the size of documents."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """`nodes` are scalars, lists and mappings, `characters` those of the scalars; both are counted with every
    alias expanded. Of the findings of one document the first `findings` are kept and the others counted;
    after `file_findings` of a file, one per document is kept."""

    file_bytes: int = 256 * 1024 * 1024
    documents: int = 100_000
    document_bytes: int = 1024 * 1024
    depth: int = 64
    nodes: int = 200_000
    characters: int = 8 * 1024 * 1024
    findings: int = 1000
    file_findings: int = 10_000


DEFAULT = Limits()
