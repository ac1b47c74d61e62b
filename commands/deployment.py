"""Rules of deployments: at most one per API and gateway is in force, no two APIs share host and context,
and no API answers requests of another one whose definition does not delegate the context."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from commands import api
from commands.decision import Decision, Others, Rejection, Request, Unchanged, rejected
from commands.overlapping import Operations, Places, delegated, losing, places_of, shared_keys, taking
from schemas.aggregates.deployment import DeploymentStarted, DeploymentStopped, DeploymentSuperseded
from schemas.aggregates.deployment import StartDeployment as Start
from schemas.aggregates.deployment import StopDeployment as Stop
from schemas.limits import MOST_CLAIMS, MOST_ERRORS, MOST_PLACES
from schemas.message import Event
from schemas.outcome import Complaint

NAMES_ARE_UNIQUE_FOREVER = True
MOST_NAMED = 5
"""Operations that a rejection names; further ones are only counted."""


@dataclass(frozen=True, slots=True)
class State:
    """A deployment in force on at least one gateway."""

    organization: str
    api: str
    revision: int
    context: str
    hosts: tuple[str, ...]
    gateways: tuple[str, ...]
    sandbox_hosts: tuple[str, ...] = ()

    @property
    def all_hosts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.hosts, *self.sandbox_hosts)))

    @property
    def claims(self) -> Iterable[str]:
        for gateway in self.gateways:
            base = f"organizations/{self.organization}/gateways/{gateway}"
            yield f"{base}/apis/{self.api}"
            for host in self.all_hosts:
                yield f"{base}/hosts/{host}{self.context}"

    @property
    def shared(self) -> Iterable[str]:
        for gateway in self.gateways:
            base = f"organizations/{self.organization}/gateways/{gateway}"
            for key in shared_keys(self.context, self.all_hosts):
                yield f"{base}/{key}"

    @property
    def references(self) -> Mapping[str, str]:
        base = f"organizations/{self.organization}"
        gateways = {f"/gateways/{i}": f"{base}/gateways/{name}" for i, name in enumerate(self.gateways)}
        return {"/api": f"{base}/apis/{self.api}", **gateways}


def decide(request: Request[Start | Stop], state: State | None, others: Others) -> Decision:
    command = request.command
    if isinstance(command, Stop):
        if state is None:
            return rejected(
                "not-found", f"No deployment {command.name!r} is in force.", name="is not in force"
            )
        return (DeploymentStopped(organization=command.organization, name=command.name, left=state.gateways),)
    if state is not None:
        return rejected("already-exists", f"There is a deployment {command.name!r}.", name="already exists")
    return _start(request.id, command, request.time, others)


def _start(id: str, command: Start, requested_at: str, others: Others) -> Decision:
    base = f"organizations/{command.organization}"
    published = others.state(f"{base}/apis/{command.api}")
    if not isinstance(published, api.State):
        return rejected("unknown-reference", f"There is no API {command.api!r}.", api="does not exist")
    number = command.revision or len(published.revisions)
    revision = published.revision(number)
    if revision is None:
        return rejected(
            "unknown-reference",
            f"The API {command.api!r} has no revision {number}; its newest is {len(published.revisions)}.",
            revision="does not exist",
        )
    gateways = _targets(base, command, others)
    if isinstance(gateways, Rejection):
        return gateways
    hosts = len(revision.all_hosts)
    if len(gateways) * hosts > MOST_CLAIMS:
        return rejected(
            "too-many-gateways",
            f"{len(gateways):,} gateways times {hosts:,} hosts is more than the "
            f"{MOST_CLAIMS:,} that one deployment may have; deploy to gateways or smaller environments "
            "one by one.",
            environment="has too many gateways for this API's hosts",
        )
    if len(gateways) * places_of(revision.context, revision.all_hosts) > MOST_PLACES:
        return rejected(
            "too-many-gateways",
            f"{len(gateways):,} gateways times {hosts:,} hosts, with so many labels and a context of so many "
            "segments, is more than one deployment may have; deploy to gateways or smaller environments one "
            "by one.",
            environment="has too many gateways for this API's hosts",
        )
    collision = _collision(base, command.api, gateways, revision, others)
    if collision is not None:
        return collision
    running = {g: others.holder(f"{base}/gateways/{g}/apis/{command.api}") for g in gateways}
    holders = {subject for subject in running.values() if subject is not None}
    if len(holders) == 1 and None not in running.values():
        (subject,) = holders
        current = others.state(subject)
        if isinstance(current, State) and current.revision == number:
            return Unchanged(subject)
    overlaps = _overlaps(base, command.api, gateways, revision, others)
    if overlaps:
        return Rejection("context-overlaps", overlaps[0].detail, overlaps)
    started = DeploymentStarted(
        organization=command.organization,
        name=command.name or id,
        api=command.api,
        revision=number,
        environment=command.environment,
        gateways=gateways,
        context=revision.context,
        hosts=revision.hosts,
        sandbox_hosts=revision.sandbox_hosts,
        requested_at=requested_at,
    )
    return (*_superseded(started, sorted(holders), others), started)


def _targets(base: str, command: Start, others: Others) -> tuple[str, ...] | Rejection:
    if command.gateway is not None:
        if others.state(f"{base}/gateways/{command.gateway}") is None:
            return rejected(
                "unknown-reference", f"There is no gateway {command.gateway!r}.", gateway="does not exist"
            )
        return (command.gateway,)
    environment = f"{base}/environments/{command.environment}"
    if others.state(environment) is None:
        return rejected(
            "unknown-reference",
            f"There is no environment {command.environment!r}.",
            environment="does not exist",
        )
    prefix = f"{base}/gateways/"
    names = sorted(s.removeprefix(prefix) for s in others.referrers(environment) if s.startswith(prefix))
    if not names:
        return rejected(
            "no-gateways",
            f"The environment {command.environment!r} has no gateways.",
            environment="has no gateways",
        )
    return tuple(names)


def _collision(
    base: str, name: str, gateways: tuple[str, ...], revision: api.Revision, others: Others
) -> Rejection | None:
    complaints: list[Complaint] = []
    for gateway in gateways:
        for host in revision.all_hosts:
            for holder in others.holders(f"{base}/gateways/{gateway}/hosts/{host}{revision.context}"):
                taken = others.state(holder)
                if isinstance(taken, State) and taken.api != name:
                    where = revision.context if host == "*" else f"{host}{revision.context}"
                    detail = f"API {taken.api!r} has {where} on gateway {gateway!r}"
                    complaints.append(Complaint(pointer="/api", detail=detail))
    if not complaints:
        return None
    return Rejection("context-taken", f"{complaints[0].detail}.", tuple(complaints))


@dataclass(frozen=True, slots=True)
class _Placed:
    """An API that is on a gateway, or is about to be deployed there."""

    name: str
    revision: api.Revision
    operations: tuple[str, ...]


def _overlaps(
    base: str, name: str, gateways: tuple[str, ...], revision: api.Revision, others: Others
) -> tuple[Complaint, ...]:
    """The errors if the deployment would take requests of other APIs, or they its own, without delegation."""
    published = others.state(f"{base}/apis/{name}")
    if not isinstance(published, api.State):
        return ()
    new = _Placed(name, revision, published.operations_of(revision))
    own = Operations.of(revision.context, new.operations)
    hosts = revision.all_hosts
    givers, takers = losing(revision.context, hosts), taking(revision.context, hosts)
    complaints: list[Complaint] = []
    for gateway in gateways:
        at = f"{base}/gateways/{gateway}"
        for other in _placed(base, at, givers, name, others):
            operations = Operations.of(other.revision.context, other.operations)
            complaints.extend(_taken(new, other, operations, gateway, new))
        for other in _placed(base, at, takers, name, others):
            complaints.extend(_taken(other, new, own, gateway, new))
        if len(complaints) > MOST_ERRORS:
            break
    return tuple(complaints)


def _placed(base: str, at: str, places: Places, but: str, others: Others) -> Iterable[_Placed]:
    """The APIs on a gateway, except `but`, that have one of these keys."""
    subjects: dict[str, None] = {}
    for claim in places.claims:
        subjects.update(dict.fromkeys(others.holders(f"{at}/{claim}")))
    for key in places.shared:
        subjects.update(dict.fromkeys(others.sharing(f"{at}/{key}")))
    for subject in subjects:
        placed = others.state(subject)
        if isinstance(placed, State) and placed.api != but:
            published = others.state(f"{base}/apis/{placed.api}")
            revision = published.revision(placed.revision) if isinstance(published, api.State) else None
            if isinstance(published, api.State) and revision is not None:
                yield _Placed(placed.api, revision, published.operations_of(revision))


def _taken(
    taker: _Placed, giver: _Placed, operations: Operations, gateway: str, new: _Placed
) -> Iterable[Complaint]:
    """The `operations` of `giver` that `taker` would answer, unless `giver` delegates the context.

    `new` is the API to be deployed; the other one is deployed already.
    """
    context = taker.revision.context
    if delegated(context, giver.revision.delegated_contexts):
        return
    covered = operations.covered(context)
    if not covered:
        return
    more = len(covered) - MOST_NAMED
    named = ", ".join(covered[:MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")
    at = context
    if context == giver.revision.context:
        at = ", ".join(f"{host}{context}" for host in taker.revision.all_hosts[:MOST_NAMED])
    delegate = f"let {giver.name!r} list {context} in its delegatedContexts and deploy that"
    if new is giver:
        ways = f"Undeploy {taker.name!r}, which is there already, from {gateway!r}, or {delegate}."
    else:
        ways = f"Choose another context or host, or {delegate}."
    detail = (
        f"On gateway {gateway!r} the API {taker.name!r} at {at} would answer requests of {giver.name!r} "
        f"at {giver.revision.context}: {named}. {ways}"
    )
    yield Complaint(pointer="/api", detail=detail)


def _superseded(started: DeploymentStarted, holders: list[str], others: Others) -> Iterable[Event]:
    taken = frozenset(started.gateways)
    for holder in holders:
        state = others.state(holder)
        if isinstance(state, State):
            left = tuple(g for g in state.gateways if g not in taken)
            yield DeploymentSuperseded(
                organization=started.organization,
                name=holder.rpartition("/")[2],
                by=started.name,
                gateways=left,
                state="active" if left else "superseded",
            )


def completed(event: DeploymentStarted, others: Others) -> DeploymentStarted:
    """The event with sandbox hosts; in events of older versions, which lack them, those of the revision."""
    published = others.state(f"organizations/{event.organization}/apis/{event.api}")
    revision = published.revision(event.revision) if isinstance(published, api.State) else None
    if revision is None or not revision.sandbox_hosts or event.sandbox_hosts:
        return event
    return event.model_copy(update={"sandbox_hosts": revision.sandbox_hosts})


def evolve(
    state: State | None, event: DeploymentStarted | DeploymentSuperseded | DeploymentStopped
) -> State | None:
    match event:
        case DeploymentStarted():
            return State(
                organization=event.organization,
                api=event.api,
                revision=event.revision,
                context=event.context,
                hosts=event.hosts,
                gateways=event.gateways,
                sandbox_hosts=event.sandbox_hosts,
            )
        case DeploymentSuperseded():
            if state is None or not event.gateways:
                return None
            return replace(state, gateways=event.gateways)
        case DeploymentStopped():
            return None
