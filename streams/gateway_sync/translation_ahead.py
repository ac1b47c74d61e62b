"""Translates the deployments of a large batch of events in another process, before they are compiled.

What is not translated there, because the process does not run or a unit has several APIs, is translated when
it is compiled: with the same result.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gateways.compiler import compile_api, denied_upstreams, upstreams_of
from gateways.config_resource import ConfigResource, DeploymentRef
from gateways.model import GatewaySettings, Unsupported
from gateways.translator import Translator
from schemas.aggregates.api import ApiSpec
from schemas.aggregates.deployment import DeploymentStarted
from schemas.catalog import GATEWAY
from schemas.message import Event

MANY = 16
"""Deployments of a batch that are worth a call of the process."""


class Ahead(NamedTuple):
    """A deployment to translate; `unit`: the one that it has for itself, empty when there are other APIs."""

    organization: str
    ref: DeploymentRef
    unit: str
    spec: ApiSpec


class Translation(NamedTuple):
    """What a gateway does not support, upstreams that it denies, and the entries of `unit` (position 0)."""

    unit: str
    findings: tuple[Unsupported, ...]
    denied: tuple[str, ...]
    entries: tuple[ConfigResource, ...]


def translations(
    translator: Translator[Any], settings: GatewaySettings, many: Sequence[Ahead]
) -> list[Translation | None]:
    """Pure. None: it failed, and fails again when it is compiled, which reports it."""
    return [_translation(translator, settings, one) for one in many]


def _translation(translator: Translator[Any], settings: GatewaySettings, one: Ahead) -> Translation | None:
    ref = one.ref
    try:
        api = compile_api(one.organization, ref.api, ref.revision, ref.deployment, one.spec)
        findings = translator.check(api)
        denied = denied_upstreams(settings.access, upstreams_of(api))
        entries: tuple[ConfigResource, ...] = ()
        if one.unit and not findings and not denied:
            entries = translator.unit_entries(settings, one.unit, [translator.translate(settings, api)], 0)
    except Exception:
        return None
    return Translation(one.unit, findings, denied, entries)


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
