"""Translates the deployments of a large batch of events in another process, before they are compiled.

What is not translated there, because the process does not run or a unit has several APIs, is translated when
it is compiled: with the same result.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from sys import intern
from typing import Any, NamedTuple

from gateways.compiler import compile_api, denied_upstreams, upstreams_of
from gateways.config_resource import ConfigResource, DeploymentRef
from gateways.model import GatewaySettings, Unsupported
from gateways.translator import Translator
from schemas.aggregates.api import ApiSpec
from schemas.aggregates.deployment import DeploymentStarted
from schemas.catalog import GATEWAY
from schemas.limits import HISTORY
from schemas.message import Event
from streams.compute_process import Compute, NotComputed

MANY = 16
"""Deployments that are worth a call of the process, and go to it together."""


class Ahead(NamedTuple):
    """A deployment to translate; `unit`: the one that it has for itself, empty when there are other APIs.

    `spec` is JSON, which is passed on faster than the model.
    """

    organization: str
    ref: DeploymentRef
    unit: str
    spec: bytes

    @classmethod
    def of(cls, organization: str, ref: DeploymentRef, unit: str, spec: ApiSpec) -> "Ahead":
        return cls(organization, ref, unit, spec.__pydantic_serializer__.to_json(spec))


class Made(NamedTuple):
    """An entry without what its gateway has in common; `carries`: the deployment."""

    type: str
    name: str
    version: str
    body: bytes
    requires: tuple[tuple[str, str], ...]
    carries: bool


class Translation(NamedTuple):
    """What a gateway does not support, upstreams that it denies, and the entries of `unit`."""

    unit: str
    findings: tuple[Unsupported, ...]
    denied: tuple[str, ...]
    made: tuple[Made, ...]

    def entries(
        self, settings: GatewaySettings, ref: DeploymentRef, position: int
    ) -> tuple[ConfigResource, ...]:
        gateway, kind = settings.subject, settings.kind
        return tuple(
            [
                ConfigResource(
                    *(gateway, kind, intern(each.type), each.name, each.version, position, each.body),
                    *(_shared(each.requires), (ref,) if each.carries else ()),
                )
                for each in self.made
            ]
        )


@lru_cache(maxsize=1024)
def _shared(requires: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """One object for all entries that require the same, instead of a copy from each call."""
    return requires


_Chunk = asyncio.Task[Sequence[Translation | None]]


def translations(
    translator: Translator[Any], settings: GatewaySettings, many: Sequence[Ahead]
) -> list[Translation | None]:
    """Pure. None: it failed, and fails again when it is compiled, which reports it."""
    return [_translation(translator, settings, one) for one in many]


def _translation(translator: Translator[Any], settings: GatewaySettings, one: Ahead) -> Translation | None:
    ref = one.ref
    try:
        # As events are read: without the bounds on commands.
        spec = ApiSpec.__pydantic_validator__.validate_json(one.spec, context=HISTORY)
        api = compile_api(one.organization, ref.api, ref.revision, ref.deployment, spec)
        findings = translator.check(api)
        denied = denied_upstreams(settings.access, upstreams_of(api))
        made: tuple[Made, ...] = ()
        if one.unit and not findings and not denied:
            entries = translator.unit_entries(settings, one.unit, [translator.translate(settings, api)], 0)
            made = tuple(_made(entry, ref) for entry in entries)
    except Exception:
        return None
    return Translation(one.unit, findings, denied, made)


def _made(entry: ConfigResource, ref: DeploymentRef) -> Made:
    if entry.deployments not in ((), (ref,)):
        raise ValueError(f"{entry.name} carries other deployments than {ref.deployment}")
    return Made(entry.type, entry.name, entry.version, entry.body, entry.requires, bool(entry.deployments))


class TranslationsAhead:
    """Those of a batch of events. They are used while the process makes the next ones."""

    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self._begun: dict[tuple[str, DeploymentRef], tuple[GatewaySettings, _Chunk, int]] = {}
        """By gateway: the settings, the call, and the place in its result."""

    def begin(self, translator: Translator[Any], settings: GatewaySettings, many: Sequence[Ahead]) -> None:
        """Has the process, if it runs, translate these."""
        for start in range(0, len(many), MANY):
            some = many[start : start + MANY]
            chunk = asyncio.create_task(self._translated(translator, settings, some))
            for place, one in enumerate(some):
                self._begun[settings.subject, one.ref] = (settings, chunk, place)

    async def of(self, settings: GatewaySettings, ref: DeploymentRef) -> Translation | None:
        """The translation for these settings; None if there is none."""
        begun = self._begun.get((settings.subject, ref))
        if begun is None or begun[0] is not settings:
            return None
        _, chunk, place = begun
        return (chunk.result() if chunk.done() else await asyncio.shield(chunk))[place]

    def forget(self) -> None:
        """All are used."""
        self._begun.clear()

    async def _translated(
        self, translator: Translator[Any], settings: GatewaySettings, some: Sequence[Ahead]
    ) -> Sequence[Translation | None]:
        try:
            return await self._compute.run(translations, translator, settings, some)
        except NotComputed:
            return [None] * len(some)


def started_on_gateways(events: Sequence[Event]) -> Mapping[str, Sequence[DeploymentRef]]:
    """The deployments that many of `events` start, by the gateway's subject; none when these are few."""
    started: dict[str, list[DeploymentRef]] = {}
    for event in events:
        if isinstance(event, DeploymentStarted):
            for name in event.gateways:
                started.setdefault(GATEWAY.subject(event.organization, name), []).append(ref_of(event))
    return {gateway: refs for gateway, refs in started.items() if len(refs) >= MANY}


def ref_of(event: DeploymentStarted) -> DeploymentRef:
    host = event.hosts[0] if event.hosts else ""
    return DeploymentRef(event.name, event.api, event.revision, event.context, host)


def own_units(
    refs: Sequence[DeploymentRef], units: Sequence[str], members: Mapping[str, Mapping[str, DeploymentRef]]
) -> list[str]:
    """The unit of each deployment; empty when it has other APIs, of `members` (by unit) or of `refs`."""
    apis = Counter(unit for unit, _ in {(unit, ref.api) for unit, ref in zip(units, refs, strict=True)})
    return [
        unit if apis[unit] == 1 and members.get(unit, {}).keys() <= {ref.api} else ""
        for unit, ref in zip(units, refs, strict=True)
    ]
