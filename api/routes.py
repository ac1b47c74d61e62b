"""All endpoints there are: those that follow from the catalog, and the few that do not."""

from collections.abc import Iterator

from api import (
    applying,
    applying_shapes,
    commanding,
    counting,
    documenting,
    eventing,
    health,
    living,
    operating,
    parking,
    progressing,
    rebuilding,
    schemas,
)
from api.endpoint import JSON, Body, Documented, Endpoint, Parameter, Schema
from api.parameters import (
    AS_OF,
    CURSOR,
    IF_NONE_MATCH,
    LIMITED,
    MIN_POSITION,
    ORG,
    ORGANIZATION,
    PREFER,
    PREFIX,
    in_path,
)
from api.presenter import PLAIN
from api.presenters import PRESENTERS
from api.reading import YAML
from api.resource_routes import of_aggregate
from api.shapes import (
    CLOUDEVENT,
    METADATA,
    OPERATION,
    PROBLEM,
    REF,
    shown,
)
from schemas.boundary import BATCH, STRUCTURED
from schemas.catalog import AGGREGATES, EVENTS


def endpoints(found: dict[str, Schema]) -> list[Endpoint]:
    """Every endpoint. The component schemas they refer to are put into `found`."""
    found.update(Metadata=METADATA, Problem=PROBLEM, OperationStatus=OPERATION, CloudEvent=CLOUDEVENT)
    result: list[Endpoint] = []
    for aggregate in AGGREGATES:
        result += of_aggregate(aggregate, PRESENTERS.get(aggregate.name, PLAIN), found)
    return [*result, *_fixed(found)]


def _fixed(found: dict[str, Schema]) -> Iterator[Endpoint]:
    operation = shown("OperationStatus", found)
    event: Schema = {"$ref": REF + "CloudEvent"}
    event_example = {
        "specversion": "1.0",
        "id": "019aa3b6-5b1f-7cc0-8e4b-6f0a4c8f3d21",
        "source": "/teams/shop",
        "type": "io.signalbox.project.command.define.v1",
        "data": {"organization": "default", "name": "shop", "display_name": "Shop"},
    }
    yield Endpoint(
        method="POST",
        path=f"{ORGANIZATION}/commands",
        id="post_commands",
        tag="commands",
        summary="Any command, as a CloudEvent",
        description="Structured, batched, or binary (`ce-` headers). The event's id is the command's.",
        handle=commanding.post,
        parameters=(ORG, PREFER),
        body=Body(
            content={
                STRUCTURED: (event, event_example),
                BATCH: ({"type": "array", "items": event, "maxItems": commanding.MOST}, [event_example]),
                JSON: ({"type": "object"}, event_example["data"]),
            },
            optional_type=False,
        ),
        answers={
            200: Documented(
                description="Decided (`Prefer: wait`).",
                content={
                    JSON: ({"anyOf": [operation[0], _items({"$ref": REF + "OperationStatus"})]}, operation[1])
                },
                headers=("Signalbox-Position",),
            ),
            202: Documented(
                description="Handed in; durable.",
                content={
                    JSON: ({"anyOf": [operation[0], _items({"$ref": REF + "OperationStatus"})]}, operation[1])
                },
                headers=("Signalbox-Position",),
            ),
        },
        problems=(400, 404, 408, 409, 412, 413, 415, 422, 503),
    )
    yield Endpoint(
        method="POST",
        path=f"{ORGANIZATION}/apply",
        id="apply",
        tag="apply",
        summary="Publish, and deploy, any number of definitions",
        description="The good ones are handed in together, the bad ones reported. Waits for all outcomes.",
        handle=applying.post,
        parameters=(
            ORG,
            Parameter(
                name="deploy",
                where="query",
                description="Deploy what is published, where the body does not say it.",
                schema={"type": "boolean", "default": False},
            ),
            Parameter(
                name="to",
                where="query",
                description="The gateway to deploy to; `local` when left out.",
            ),
            Parameter(
                name="source",
                where="query",
                description="What findings call a definition sent as YAML.",
            ),
        ),
        body=Body(
            content={
                JSON: (applying_shapes.BODY, applying_shapes.BODY["examples"][0]),
                **{media: ({"type": "string"}, "kind: API\n") for media in sorted(YAML)},
            }
        ),
        answers={
            200: Documented(
                description="One item per document, in order.",
                content={JSON: (applying_shapes.ANSWER, applying_shapes.ANSWER["examples"][0])},
                headers=("Signalbox-Position",),
            )
        },
        problems=(400, 408, 413, 415, 422, 503),
    )
    yield Endpoint(
        method="GET",
        path=f"{PREFIX}/operations/{{id}}",
        id="get_operation",
        tag="commands",
        summary="What became of a command",
        handle=operating.get,
        parameters=(
            in_path("id", "The command's id.", "019aa3b6-5b1f-7cc0-8e4b-6f0a4c8f3d21", {"type": "string"}),
            Parameter(
                name="organization",
                where="query",
                description="Whose command is meant, for callers who may see several organizations: ids are "
                "unique within one. Without it all that the caller may see are searched, and an id that "
                "several of them have used is answered with 409 and their names.",
                schema={"type": "string"},
            ),
        ),
        answers={
            200: Documented(
                description="Pending, accepted or rejected.",
                content={JSON: operation},
                headers=("Signalbox-Position",),
            )
        },
        problems=(400, 404, 409),
    )
    yield Endpoint(
        method="GET",
        path=f"{ORGANIZATION}/events",
        id="list_events",
        tag="events",
        summary="History, as CloudEvents; live as server-sent events",
        description="With `Accept: text/event-stream` events come as they happen.",
        handle=eventing.get,
        parameters=(
            ORG,
            Parameter(
                name="after",
                where="query",
                description="Only events after this position.",
                schema=MIN_POSITION.schema,
            ),
            Parameter(
                name="type",
                where="query",
                description="Only events of this CloudEvents type.",
                schema={"type": "string", "enum": sorted(EVENTS)},
            ),
            Parameter(name="subject", where="query", description="Only events about this subject."),
            LIMITED,
            Parameter(
                name="follow",
                where="query",
                description="False ends the stream at the register's end.",
                schema={"type": "boolean", "default": True},
            ),
            Parameter(
                name="Last-Event-ID",
                where="header",
                description="Go on after this position (stream).",
                schema=MIN_POSITION.schema,
            ),
        ),
        answers={
            200: Documented(
                description="In the register's order.",
                content={
                    BATCH: ({"type": "array", "items": event}, [event_example]),
                    eventing.EVENT_STREAM: ({"type": "string"}, 'id: 17\ndata: {"specversion": "1.0"}\n\n'),
                },
                headers=("Signalbox-Position", "Link"),
            )
        },
        problems=(400,),
    )
    yield Endpoint(
        method="GET",
        path=f"{ORGANIZATION}/documents/{{sha256}}",
        id="get_document",
        tag="documents",
        summary="A definition as it was written",
        description="Of a revision of one of the organization's APIs.",
        handle=documenting.get,
        parameters=(
            ORG,
            in_path(
                "sha256",
                "SHA-256 of the document.",
                "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            ),
            IF_NONE_MATCH,
        ),
        answers={
            200: Documented(
                description="Unchanged, byte for byte.",
                content={"*/*": ({}, "kind: API\n")},
                headers=("ETag",),
            ),
            304: Documented(description="Not changed.", headers=("ETag",)),
        },
        problems=(404, 503),
    )
    yield Endpoint(
        method="POST",
        path=f"{ORGANIZATION}/deployments/facts",
        id="deployment_facts",
        tag="deployments",
        summary="How far many deployments have come",
        description="Waits, when asked to, until none of them is pending.",
        handle=progressing.post,
        parameters=(ORG,),
        body=Body(content={JSON: (progressing.BODY, progressing.BODY["examples"][0])}),
        answers={
            200: Documented(
                description="By name.",
                content={JSON: (progressing.ANSWER, progressing.ANSWER["examples"][0])},
            )
        },
        problems=(400, 408, 413, 415, 422, 503),
    )
    found["LiveList"] = living.LIST
    yield Endpoint(
        method="GET",
        path=f"{ORGANIZATION}/live",
        id="list_live",
        tag="deployments",
        summary="What is live: the revision of each API on each gateway",
        description="The revision that a gateway's nodes acknowledged last and did not withdraw since, "
        "whatever was asked for later: a deployment that is refused leaves what was live before.",
        handle=living.get,
        parameters=(ORG, LIMITED, CURSOR, AS_OF, MIN_POSITION, living.GATEWAY, living.API),
        answers={
            200: Documented(
                description="A page.",
                content={JSON: shown("LiveList", found)},
                headers=("Signalbox-Position", "Link"),
            )
        },
        problems=(400, 404, 503),
    )
    yield Endpoint(
        method="GET",
        path=f"{ORGANIZATION}/statistics",
        id="statistics",
        tag="process",
        summary="What happened per minute",
        description="Kept where Signalbox runs on Kafka.",
        handle=counting.get,
        parameters=(ORG, counting.MINUTES),
        answers={
            200: Documented(
                description="By minute.",
                content={JSON: (counting.ANSWER, counting.ANSWER["examples"][0])},
            )
        },
        problems=(400, 404),
    )
    yield Endpoint(
        method="POST",
        path=f"{PREFIX}/readmodels/{{name}}/rebuild",
        id="rebuild_read_model",
        tag="process",
        summary="Fill a read model anew from the log, beside the live one",
        handle=rebuilding.post,
        parameters=(in_path("name", "The read model.", "resources", {"type": "string"}),),
        answers={
            200: Documented(
                description="Swapped in.",
                content={JSON: (rebuilding.ANSWER, rebuilding.ANSWER["examples"][0])},
            )
        },
        problems=(403, 404, 408, 413, 503),
    )
    yield from parking.endpoints()
    yield from schemas.endpoints()
    yield from _of_process()


def _items(schema: Schema) -> Schema:
    return {
        "type": "object",
        "required": ["items"],
        "properties": {"items": {"type": "array", "items": schema}},
    }


def _of_process() -> Iterator[Endpoint]:
    status: Schema = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}
    yield Endpoint(
        method="GET",
        path="/healthz/live",
        id="live",
        tag="process",
        summary="Whether the process lives",
        handle=health.live,
        answers={200: Documented(description="It does.", content={JSON: (status, {"status": "live"})})},
        public=True,
    )
    yield Endpoint(
        method="GET",
        path="/healthz/ready",
        id="ready",
        tag="process",
        summary="Whether the process is ready",
        handle=health.ready,
        answers={200: Documented(description="It is.", content={JSON: (status, {"status": "ready"})})},
        problems=(503,),
        public=True,
    )
    yield Endpoint(
        method="GET",
        path="/metrics",
        id="metrics",
        tag="process",
        summary="Metrics for Prometheus",
        description="Of all organizations together: for callers who may see all of them.",
        handle=health.metrics,
        answers={
            200: Documented(
                description="In the text format.",
                content={"text/plain": ({"type": "string"}, "signalbox_up 1\n")},
            )
        },
        problems=(403,),
    )
    yield Endpoint(
        method="GET",
        path="/",
        id="root",
        tag="process",
        summary="Where to go from here",
        handle=health.root,
        answers={
            200: Documented(
                description="A page.", content={"text/html": ({"type": "string"}, "<!doctype html>")}
            )
        },
        public=True,
    )
