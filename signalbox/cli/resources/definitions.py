"""Resources as definitions: applying them again changes nothing."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from definitions.signalbox_v1 import KINDS
from definitions.writing import write, write_values
from schemas.aggregate import Aggregate
from schemas.aggregates.api import API, ApiSpec
from signalbox.cli.failure import Failure
from signalbox.cli.http.documents import document as members


def definition(aggregate: Aggregate, resource: Mapping[str, Any]) -> bytes | None:
    """A resource of the server as YAML; None for a kind without a file form.

    Fields that are not part of its definition (version, position, times, gateway status) are in `status`.
    Raises Failure for a resource of a newer server that this version cannot write.
    """
    name = str(resource["name"])
    if aggregate is API:
        return write(
            name, resource["project"], _spec(name, resource["spec"]), _status(resource, ("project", "spec"))
        )
    kind = aggregate.view.__name__
    model = KINDS.get(kind)
    if model is None:
        return None
    values = {field: resource[field] for field in model.model_fields if field in resource}
    return write_values(kind, name, values, _status(resource, values))


def stream(documents: Iterable[bytes]) -> str:
    """Several documents as one YAML stream."""
    return "---\n".join(document.decode() for document in documents)


def _status(resource: Mapping[str, Any], in_spec: Iterable[str]) -> Mapping[str, Any]:
    left_out = {"name", "metadata", *in_spec}
    fields = {key: value for key, value in resource.items() if key not in left_out}
    return {**members(resource.get("metadata")), **fields}


def _spec(name: str, spec: Any) -> ApiSpec:
    try:
        return ApiSpec.model_validate(spec)
    except ValidationError as error:
        places = ", ".join(".".join(map(str, e["loc"])) for e in error.errors()[:5])
        raise Failure(
            f"the API {name!r} has fields that this version of the command line does not support ({places})",
            "use the command line of the server's version, or -o json",
        ) from error
