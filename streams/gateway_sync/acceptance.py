"""The deployments that no node has acknowledged, and those that replace them when they are rejected. Pure.

A deployment that is in force and has no note here has been acknowledged by some node. A gateway rejects the
resource of a whole unit: when one deployment in it was pending, that one is rejected; when several were,
each is tried again by itself. The notes are on the config topic, put together with the entries they concern,
so that a restart of gateway sync or its move to another process loses none of them.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace

from gateways.config_resource import ConfigResource, DeploymentRef

PENDING = "signalbox.io/pending"
"""Entry type of the note of an unacknowledged deployment. Its deployments: this one, the last acknowledged if
`version` contains `GOOD`, those superseded unanswered; `version` contains `TRIAL` if it is tried again."""
SUSPECT = "signalbox.io/suspect"
"""Entry type of the note of a deployment to be tried by itself. Its deployments: this one and those
superseded unanswered."""
GOOD = "good"
NO_GOOD = "none"
TRIAL = "trial"
SIGHTINGS = 2
CANDIDATES = 8

UnitOf = Callable[[str, DeploymentRef], str]
"""The unit of a deployment on a gateway."""
GatewayApi = tuple[str, str]
"""Gateway subject and API name."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A deployment in force that no node has acknowledged yet.

    `good` is the API's deployment that was acknowledged last, `candidates` are those that were superseded
    before any node answered, the oldest first. A node that acknowledged everything caused by events up to
    position `covered` has acknowledged this one. A `trial` was put without an event of its own: a node may
    have acknowledged the position before it had the trial.
    """

    ref: DeploymentRef
    good: DeploymentRef | None
    candidates: tuple[DeploymentRef, ...]
    covered: int
    trial: bool = False

    def acknowledged(self, deployment: str) -> "Pending":
        """The state after a node acknowledged a candidate; unchanged for other deployments."""
        for index, candidate in enumerate(self.candidates):
            if candidate.deployment == deployment:
                return replace(self, good=candidate, candidates=self.candidates[index + 1 :])
        return self

    def without(self, position: int) -> "Pending | None":
        """The pending deployment after this one was rejected: the newest candidate; None: use `good`."""
        if not self.candidates:
            return None
        *older, newest = self.candidates
        return Pending(newest, self.good, tuple(older), position + 1, trial=True)


@dataclass(frozen=True, slots=True)
class Suspect:
    """A deployment that was rejected together with others, and has to be tried by itself."""

    ref: DeploymentRef
    candidates: tuple[DeploymentRef, ...] = ()


@dataclass(slots=True)
class _Trial:
    """`since`: the end of the status topic when the trial was on the config topic; None: not known yet.
    `sightings` counts by connection how often its node acknowledged the trial's position since."""

    since: int | None = None
    sightings: Counter[str] = field(default_factory=Counter[str])


@dataclass(slots=True)
class Acceptance:
    _pending: dict[str, dict[str, Pending]] = field(default_factory=dict[str, dict[str, Pending]])
    """By gateway and API, in the order of `covered` unless the gateway is in `_unsorted`."""
    _unsorted: set[str] = field(default_factory=set[str])
    _suspects: dict[str, dict[str, Suspect]] = field(default_factory=dict[str, dict[str, Suspect]])
    """By gateway and API, in the order in which they are tried."""
    _changed: dict[tuple[str, str, str], None] = field(default_factory=dict[tuple[str, str, str], None])
    """Type, gateway and API of the notes that differ from the config topic."""
    _trials: dict[GatewayApi, "_Trial"] = field(default_factory=dict[GatewayApi, "_Trial"])

    def get(self, gateway: str, api: str) -> Pending | None:
        return self._pending.get(gateway, {}).get(api)

    def anything_pending(self, gateway: str) -> bool:
        return bool(self._pending.get(gateway))

    def in_force(self) -> Iterator[tuple[str, Pending]]:
        """All pending deployments, with their gateways."""
        for gateway, of_gateway in self._pending.items():
            for pending in of_gateway.values():
                yield gateway, pending

    # -- decisions

    def deployed(self, gateway: str, ref: DeploymentRef, before: DeploymentRef | None, position: int) -> None:
        """Records that a deployment replaces `before`, because of the event at `position`."""
        self.drop_suspect(gateway, ref.api)
        known = self.get(gateway, ref.api)
        if ref == before:
            return
        if known is None:
            self.set(gateway, ref.api, Pending(ref, before, (), position))
        elif ref == known.good:
            self.set(gateway, ref.api, None)
        else:
            candidates = tuple(c for c in (*known.candidates, known.ref) if c != ref)
            pending = Pending(ref, known.good, candidates[-CANDIDATES:], position)
            self.set(gateway, ref.api, pending)

    def stopped(self, gateway: str, api: str) -> None:
        """Records that an API was removed from a gateway: none of its deployments is tried again."""
        self.drop_suspect(gateway, api)
        self.set(gateway, api, None)

    def set(self, gateway: str, api: str, pending: Pending | None) -> None:
        known = self._pending.get(gateway, {}).pop(api, None)
        if known == pending is None:
            return
        self._trials.pop((gateway, api), None)
        if pending is not None:
            if pending.trial:
                self._trials[gateway, api] = _Trial()
            of_gateway = self._pending.setdefault(gateway, {})
            if of_gateway and next(reversed(of_gateway.values())).covered > pending.covered:
                self._unsorted.add(gateway)
            of_gateway[api] = pending
        elif not self._pending.get(gateway):
            self._pending.pop(gateway, None)
        self._changed[PENDING, gateway, api] = None

    def drop_suspect(self, gateway: str, api: str) -> None:
        """Drops the suspect of an API, whose deployment was started or stopped since."""
        suspects = self._suspects.get(gateway, {})
        if suspects.pop(api, None) is not None:
            self._changed[SUSPECT, gateway, api] = None
            if not suspects:
                del self._suspects[gateway]

    def suspect(self, gateway: str, pending: Pending) -> None:
        """Has a pending deployment, rejected together with others, tried by itself."""
        self.set(gateway, pending.ref.api, None)
        suspects = self._suspects.setdefault(gateway, {})
        suspects[pending.ref.api] = Suspect(pending.ref, pending.candidates)
        self._changed[SUSPECT, gateway, pending.ref.api] = None

    def suspected(self) -> tuple[str, ...]:
        """The gateways with suspects."""
        return tuple(self._suspects)

    def due(self, gateway: str, unit_of: UnitOf) -> list[Suspect]:
        """Takes the next suspect of each unit in which nothing is pending."""
        busy = {unit_of(gateway, pending.ref) for pending in self._pending.get(gateway, {}).values()}
        due: list[Suspect] = []
        for suspect in tuple(self._suspects.get(gateway, {}).values()):
            unit = unit_of(gateway, suspect.ref)
            if unit not in busy:
                busy.add(unit)
                self.drop_suspect(gateway, suspect.ref.api)
                due.append(suspect)
        return due

    # -- answers of nodes

    def acknowledged(self, gateway: str, refs: Iterable[DeploymentRef]) -> None:
        """Records that a node acknowledged a resource with these deployments, perhaps superseded ones."""
        if self.anything_pending(gateway):
            for ref in refs:
                self.acknowledged_one(gateway, ref.api, ref.deployment)

    def acknowledged_one(self, gateway: str, api: str, deployment: str) -> None:
        """Records that a node acknowledged a deployment of an API; older reports change nothing."""
        pending = self.get(gateway, api)
        if pending is None:
            return
        if pending.ref.deployment == deployment:
            self.set(gateway, api, None)
        elif (left := pending.acknowledged(deployment)) is not pending:
            self._pending[gateway][api] = left
            self._changed[PENDING, gateway, api] = None

    def acknowledged_up_to(
        self, gateway: str, position: int, exceptions: Collection[str], connection: str = "", at: int = 0
    ) -> None:
        """Records that a node acknowledged the effects of events up to a position, except these deployments.

        `at`: the report's position on the status topic. A trial counts as acknowledged when one connection
        has reported it twice since: the first report may be from before its server had the trial.
        """
        pending = self._pending.get(gateway, {})
        if gateway in self._unsorted:
            self._unsorted.discard(gateway)
            in_order = sorted(pending.items(), key=lambda item: item[1].covered)
            pending.clear()
            pending.update(in_order)
        acknowledged: list[str] = []
        for api, each in pending.items():
            if each.covered > position + 1:
                break
            if each.ref.deployment not in exceptions and (
                each.covered <= position or self._seen_again(gateway, api, connection, at)
            ):
                acknowledged.append(api)
        for api in acknowledged:
            self.set(gateway, api, None)

    def _seen_again(self, gateway: str, api: str, connection: str, at: int) -> bool:
        trial = self._trials.get((gateway, api))
        if trial is None or trial.since is None or at <= trial.since or not connection:
            return False
        trial.sightings[connection] += 1
        return trial.sightings[connection] >= SIGHTINGS

    @property
    def untimed(self) -> bool:
        """Whether there are trials without the end of the status topic at their beginning."""
        return any(trial.since is None for trial in self._trials.values())

    def timed(self, end: int) -> None:
        """Sets the end of the status topic for trials without it; they are on the config topic."""
        for trial in self._trials.values():
            if trial.since is None:
                trial.since = end

    def to_blame(self, gateway: str, refs: Iterable[DeploymentRef]) -> list[Pending]:
        """The pending deployments of a rejected entry in force that no node ever acknowledged."""
        if not self.anything_pending(gateway):
            return []
        found = ((ref, self.get(gateway, ref.api)) for ref in refs)
        return [pending for ref, pending in found if pending is not None and pending.ref == ref]

    # -- the config topic

    @property
    def changed(self) -> bool:
        """Whether there are notes to be put."""
        return bool(self._changed)

    def load(self, entry: ConfigResource) -> None:
        """Loads a note; ignores other entries."""
        gateway, _, _ = entry.name.partition("/apis/")
        if entry.type == PENDING:
            first, *others = entry.deployments
            marks = entry.version.split()
            good = others.pop(0) if GOOD in marks else None
            pending = Pending(first, good, tuple(others), entry.position, trial=TRIAL in marks)
            self.set(gateway, first.api, pending)
            self._unsorted.add(gateway)
            self._changed.pop((PENDING, gateway, first.api))
        elif entry.type == SUSPECT:
            first, *others = entry.deployments
            self._suspects.setdefault(gateway, {})[first.api] = Suspect(first, tuple(others))

    def notes(self, partition: int) -> list[ConfigResource]:
        """The notes to put; those that are no longer valid without a body."""
        return [self._note(*key, partition) for key in self._changed]

    def noted(self) -> None:
        """Records that all notes are on the config topic."""
        self._changed.clear()

    def _note(self, type: str, gateway: str, api: str, partition: int) -> ConfigResource:
        name = f"{gateway}/apis/{api}/{partition}"
        if type == PENDING and (pending := self.get(gateway, api)) is not None:
            good = (pending.good,) if pending.good is not None else ()
            version = (GOOD if good else NO_GOOD) + (f" {TRIAL}" if pending.trial else "")
            refs = (pending.ref, *good, *pending.candidates)
            return ConfigResource("", "", type, name, version, pending.covered, b"-", (), refs)
        if type == SUSPECT and (suspect := self._suspects.get(gateway, {}).get(api)) is not None:
            refs = (suspect.ref, *suspect.candidates)
            return ConfigResource("", "", type, name, NO_GOOD, 0, b"-", (), refs)
        return ConfigResource("", "", type, name, "", 0, b"")
