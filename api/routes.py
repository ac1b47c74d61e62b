"""All endpoints there are: those that follow from the catalog, and the few that do not."""

from collections.abc import Iterator

from api.definition_reader import YAML
from api.endpoint import JSON, Body, Endpoint, Parameter, ResponseDoc, Schema
from api.json_schemas import (
    CLOUDEVENT,
    METADATA,
    OPERATION,
    PROBLEM,
    REF,
    shown,
)
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
from api.resources.factory import aggregate_endpoints
from api.resources.presenter import DEFAULT_PRESENTER
from api.resources.presenters import PRESENTERS
from api.routers import (
    bulk_apply,
    bulk_apply_schemas,
    commands,
    dead_letters,
    deployment_status,
    documents,
    event_stream,
    health,
    live,
    operations,
    published_schemas,
    rebuild,
    statistics,
)
from schemas.boundary import BATCH, STRUCTURED
from schemas.catalog import AGGREGATES, EVENTS


def endpoints(found: dict[str, Schema]) -> list[Endpoint]:
    """Every endpoint. The component schemas they refer to are put into `found`."""
    found.update(Metadata=METADATA, Problem=PROBLEM, OperationStatus=OPERATION, CloudEvent=CLOUDEVENT)
    result: list[Endpoint] = []
    for aggregate in AGGREGATES:
        result += aggregate_endpoints(aggregate, PRESENTERS.get(aggregate.name, DEFAULT_PRESENTER), found)
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
        handle=commands.post,
        parameters=(ORG, PREFER),
        body=Body(
            content={
                STRUCTURED: (event, event_example),
                BATCH: ({"type": "array", "items": event, "maxItems": commands.MOST}, [event_example]),
                JSON: ({"type": "object"}, event_example["data"]),
            },
            optional_type=False,
        ),
        responses={
            200: ResponseDoc(
                description="Decided (`Prefer: wait`).",
                content={
                    JSON: ({"anyOf": [operation[0], _items({"$ref": REF + "OperationStatus"})]}, operation[1])
                },
                headers=("Signalbox-Position",),
            ),
            202: ResponseDoc(
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
        handle=bulk_apply.post,
        parameters=(
            ORG,
            Parameter(
                name="deploy",
                location="query",
                description="Deploy what is published, where the body does not say it.",
                schema={"type": "boolean", "default": False},
            ),
            Parameter(
                name="to",
                location="query",
                description="The gateway to deploy to; `local` when left out.",
            ),
            Parameter(
                name="source",
                location="query",
                description="What findings call a definition sent as YAML.",
            ),
        ),
        body=Body(
            content={
                JSON: (bulk_apply_schemas.BODY, bulk_apply_schemas.BODY["examples"][0]),
                **{media: ({"type": "string"}, "kind: API\n") for media in sorted(YAML)},
            }
        ),
        responses={
            200: ResponseDoc(
                description="One item per document, in order.",
                content={JSON: (bulk_apply_schemas.ANSWER, bulk_apply_schemas.ANSWER["examples"][0])},
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
        handle=operations.get,
        parameters=(
            in_path("id", "The command's id.", "019aa3b6-5b1f-7cc0-8e4b-6f0a4c8f3d21", {"type": "string"}),
            Parameter(
                name="organization",
                location="query",
                description="Whose command is meant, for callers who may see several organizations: ids are "
                "unique within one. Without it all that the caller may see are searched, and an id that "
                "several of them have used is answered with 409 and their names.",
                schema={"type": "string"},
            ),
        ),
        responses={
            200: ResponseDoc(
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
        handle=event_stream.get,
        parameters=(
            ORG,
            Parameter(
                name="after",
                location="query",
                description="Only events after this position.",
                schema=MIN_POSITION.schema,
            ),
            Parameter(
                name="type",
                location="query",
                description="Only events of this CloudEvents type.",
                schema={"type": "string", "enum": sorted(EVENTS)},
            ),
            Parameter(name="subject", location="query", description="Only events about this subject."),
            LIMITED,
            Parameter(
                name="follow",
                location="query",
                description="False ends the stream at the register's end.",
                schema={"type": "boolean", "default": True},
            ),
            Parameter(
                name="Last-Event-ID",
                location="header",
                description="Go on after this position (stream).",
                schema=MIN_POSITION.schema,
            ),
        ),
        responses={
            200: ResponseDoc(
                description="In the register's order.",
                content={
                    BATCH: ({"type": "array", "items": event}, [event_example]),
                    event_stream.EVENT_STREAM: (
                        {"type": "string"},
                        'id: 17\ndata: {"specversion": "1.0"}\n\n',
                    ),
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
        handle=documents.get,
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
        responses={
            200: ResponseDoc(
                description="Unchanged, byte for byte.",
                content={"*/*": ({}, "kind: API\n")},
                headers=("ETag",),
            ),
            304: ResponseDoc(description="Not changed.", headers=("ETag",)),
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
        handle=deployment_status.post,
        parameters=(ORG,),
        body=Body(content={JSON: (deployment_status.BODY, deployment_status.BODY["examples"][0])}),
        responses={
            200: ResponseDoc(
                description="By name.",
                content={JSON: (deployment_status.ANSWER, deployment_status.ANSWER["examples"][0])},
            )
        },
        problems=(400, 408, 413, 415, 422, 503),
    )
    found["LiveList"] = live.LIST
    yield Endpoint(
        method="GET",
        path=f"{ORGANIZATION}/live",
        id="list_live",
        tag="deployments",
        summary="What is live: the revision of each API on each gateway",
        description="The revision that a gateway's nodes acknowledged last and did not withdraw since, "
        "whatever was asked for later: a deployment that is refused leaves what was live before.",
        handle=live.get,
        parameters=(ORG, LIMITED, CURSOR, AS_OF, MIN_POSITION, live.GATEWAY, live.API),
        responses={
            200: ResponseDoc(
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
        handle=statistics.get,
        parameters=(ORG, statistics.MINUTES),
        responses={
            200: ResponseDoc(
                description="By minute.",
                content={JSON: (statistics.ANSWER, statistics.ANSWER["examples"][0])},
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
        handle=rebuild.post,
        parameters=(in_path("name", "The read model.", "resources", {"type": "string"}),),
        responses={
            200: ResponseDoc(
                description="Swapped in.",
                content={JSON: (rebuild.ANSWER, rebuild.ANSWER["examples"][0])},
            )
        },
        problems=(403, 404, 408, 413, 503),
    )
    yield from dead_letters.endpoints()
    yield from published_schemas.endpoints()
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
        responses={200: ResponseDoc(description="It does.", content={JSON: (status, {"status": "live"})})},
        public=True,
    )
    yield Endpoint(
        method="GET",
        path="/healthz/ready",
        id="ready",
        tag="process",
        summary="Whether the process is ready",
        handle=health.ready,
        responses={200: ResponseDoc(description="It is.", content={JSON: (status, {"status": "ready"})})},
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
        responses={
            200: ResponseDoc(
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
        responses={
            200: ResponseDoc(
                description="A page.", content={"text/html": ({"type": "string"}, "<!doctype html>")}
            )
        },
        public=True,
    )
