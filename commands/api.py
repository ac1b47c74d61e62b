"""Rules of APIs: a revision never changes; publishing the same again changes nothing."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from urllib.parse import urlsplit

from commands.decision import Decision, Others, Rejection, Request, Unchanged, rejected
from commands.overlapping import within
from schemas.aggregates.api import (
    ApiDeleted,
    ApiPublished,
    ApiSpec,
    Backend,
    DeleteApi,
    PublishApi,
    content_digest,
)
from schemas.aggregates.upstream_urls import base_path_problem, user_info_problem
from schemas.outcome import Complaint

NAMES_ARE_UNIQUE_FOREVER = False


@dataclass(frozen=True, slots=True)
class Revision:
    """The parts of a revision that deployments need."""

    context: str
    hosts: tuple[str, ...]
    sandbox_hosts: tuple[str, ...] = ()
    delegated_contexts: tuple[str, ...] = ()
    operations: int = 0
    """The index in the state's lists of operations."""

    @property
    def all_hosts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.hosts, *self.sandbox_hosts)))


@dataclass(frozen=True, slots=True)
class State:
    """`operations` are the different lists that its revisions have, each operation as `GET /orders/{id}`."""

    organization: str
    project: str
    content: str
    revisions: tuple[Revision, ...]
    operations: tuple[tuple[str, ...], ...] = ()

    @property
    def claims(self) -> tuple[str, ...]:
        return ()

    @property
    def shared(self) -> tuple[str, ...]:
        return ()

    @property
    def references(self) -> Mapping[str, str]:
        return {"/project": f"organizations/{self.organization}/projects/{self.project}"}

    def revision(self, number: int) -> Revision | None:
        return self.revisions[number - 1] if 1 <= number <= len(self.revisions) else None

    def operations_of(self, revision: Revision) -> tuple[str, ...]:
        return self.operations[revision.operations]


def decide(request: Request[PublishApi | DeleteApi], state: State | None, others: Others) -> Decision:
    command = request.command
    if isinstance(command, DeleteApi):
        if state is None:
            return rejected("not-found", f"There is no {request.subject}.", name="does not exist")
        return (ApiDeleted(organization=command.organization, name=command.name),)
    complaints = tuple(inconsistencies(command.spec))
    if complaints:
        return Rejection("inconsistent", "The API contradicts itself.", complaints)
    content = content_digest(command.spec)
    if state is not None and state.content == content and state.project == command.project:
        return Unchanged(request.subject)
    return (
        ApiPublished(
            organization=command.organization,
            name=command.name,
            project=command.project,
            revision=len(state.revisions) + 1 if state else 1,
            digest=content,
            spec=command.spec,
            document=command.document,
        ),
    )


def evolve(state: State | None, event: ApiPublished | ApiDeleted) -> State | None:
    if isinstance(event, ApiDeleted):
        return None
    spec = event.spec
    before = state.revisions if state else ()
    lists = state.operations if state else ()
    operations = tuple(f"{operation.method} {operation.path}" for operation in spec.operations)
    if not before or lists[before[-1].operations] != operations:
        lists = (*lists, operations)
        index = len(lists) - 1
    else:
        index = before[-1].operations
    revision = Revision(spec.context, spec.hosts, spec.sandbox_hosts, spec.delegated_contexts, index)
    return State(event.organization, event.project, event.digest, (*before, revision), lists)


def inconsistencies(spec: ApiSpec) -> Iterator[Complaint]:
    """Contradictions between the fields of a specification."""
    if not spec.hosts:
        yield Complaint(pointer="/spec/hosts", detail="an API has a host; `*` is any")
    names: set[str] = set()
    for i, upstream in enumerate(spec.upstreams):
        if upstream.name in names:
            detail = f"{upstream.name!r} is defined twice"
            yield Complaint(pointer=f"/spec/upstreams/{i}/name", detail=detail)
        names.add(upstream.name)
    for i, upstream in enumerate(spec.upstreams):
        for j, endpoint in enumerate(upstream.endpoints):
            if fault := _unreachable(endpoint.url):
                yield Complaint(pointer=f"/spec/upstreams/{i}/endpoints/{j}/url", detail=fault)
        if fault := base_path_problem(upstream.base_path):
            yield Complaint(pointer=f"/spec/upstreams/{i}/base_path", detail=fault)
    for i, context in enumerate(spec.delegated_contexts):
        if not within(context, spec.context):
            detail = f"{context} is not {spec.context} or below it"
            yield Complaint(pointer=f"/spec/delegated_contexts/{i}", detail=detail)
    yield from _backends("/spec/backends", spec.backends, names)
    yield from _backends("/spec/sandbox_backends", spec.sandbox_backends, names)
    seen: dict[tuple[object, ...], int] = {}
    for i, operation in enumerate(spec.operations):
        yield from _backends(f"/spec/operations/{i}/backends", operation.backends, names)
        shape = tuple("{}" if s.startswith("{") else s for s in operation.path.split("/"))
        first = seen.setdefault((operation.method, shape, operation.headers), i)
        if first != i:
            yield Complaint(
                pointer=f"/spec/operations/{i}",
                detail=f"{operation.method} {operation.path} is the same as operation {first}",
            )


def _unreachable(url: str) -> str | None:
    """The reason why no gateway can connect to `url`, if any."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        return f"{url!r}: {error}"
    if not host:
        return f"{url!r} names no host"
    if problem := user_info_problem(url):
        return problem
    return f"{url!r}: there is no port 0" if port == 0 else None


def _backends(pointer: str, backends: tuple[Backend, ...], names: Set[str]) -> Iterator[Complaint]:
    for i, backend in enumerate(backends):
        if backend.upstream not in names:
            yield Complaint(
                pointer=f"{pointer}/{i}/upstream", detail=f"there is no upstream {backend.upstream!r}"
            )
    if backends and not any(b.weight for b in backends):
        yield Complaint(pointer=pointer, detail="at least one weight must be above 0")
