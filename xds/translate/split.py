"""A unit that is split: each API has a scope and a route configuration of its own, its part of the unit.

The route configuration of the unit has one route per context instead of all routes of the API. Such a route
answers nothing: its name is the path that chooses the part's scope. The first filter of the chain copies it
into the header that chooses the scope, and the second has Envoy choose scope and route again. Where parts are
in groups, these filters take a request to the group, and two more like them to the part. All are disabled,
except on the routes of split units; so the listener is the same with and without them, and a split drains
nobody.

The routes of an API match everything below its context, so this changes none of the answers: the API that a
host and a path belong to is found by the same virtual hosts and the same order of contexts.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation
from envoy_data_plane.envoy.config.core.v3 import (
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
)
from envoy_data_plane.envoy.config.route.v3 import DirectResponseAction, FilterConfig, Route, RouteMatch
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import (
    HeaderMutation as HeaderMutationFilter,
)
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import (
    HeaderMutationPerRoute,
    Mutations,
)
from envoy_data_plane.envoy.extensions.filters.http.set_filter_state.v3 import Config as SetFilterState
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter

from gateways.config_resource import DeploymentRef
from gateways.model import DeployedApi, Segment
from gateways.translator import Part, PartGroup
from xds.encoding import Encoded, any_of, build, encode
from xds.scopes import PART_SEPARATOR
from xds.translate.names import (
    PART_RESELECT_FILTER,
    PART_SCOPE_FILTER,
    RESELECT_FILTER,
    SCOPE_FILTER,
    SCOPE_HEADER,
)
from xds.translate.paths import literal_path
from xds.translate.policies import http_filters
from xds.translate.policies.policy import disabled_filter


def split_filters() -> list[HttpFilter]:
    """They come before all filters that depend on the route."""
    return [
        disabled_filter(SCOPE_FILTER, build(HeaderMutationFilter)),
        disabled_filter(RESELECT_FILTER, build(SetFilterState, clear_route_cache=True)),
        disabled_filter(PART_SCOPE_FILTER, build(HeaderMutationFilter)),
        disabled_filter(PART_RESELECT_FILTER, build(SetFilterState, clear_route_cache=True)),
    ]


def splittable() -> bool:
    """Whether units may be split. The first route of a request, here that of the unit, decides which of the
    disabled filters it passes: a policy with such a filter needs the routes of its API there."""
    return not any(each.disabled for each in http_filters())


def part_of_api(unit: str, api: DeployedApi) -> Part:
    """The part of a unit that an API is.

    Another context or other hosts are another part: the unit turns to it when proxies have it.
    """
    return _part(unit, api.api, api.context, api.hosts, api.sandbox_hosts)


def part_of_deployment(unit: str, ref: DeploymentRef, name: str) -> Part | None:
    """The part with this name if its API has the one host that the deployment names, as most have: so a start
    does not read them all."""
    context = [Segment("literal", text) for text in ref.context.split("/")[1:]]
    part = _part(unit, ref.api, context, (ref.host,), ())
    return part if part.name == name else None


def _part(
    unit: str, api: str, segments: Sequence[Segment], hosts: tuple[str, ...], sandbox_hosts: tuple[str, ...]
) -> Part:
    context = literal_path(segments)
    bound = "\n".join((context, *hosts, "", *sandbox_hosts))
    digest = hashlib.sha256(bound.encode()).hexdigest()[:12]
    return Part(PART_SEPARATOR.join((unit, api, digest)), context, hosts, sandbox_hosts)


@lru_cache(maxsize=16_384)
def route_to_part(part: Part) -> Encoded:
    return _route_to(part.name, build(RouteMatch, path_separated_prefix=part.context))


@lru_cache(maxsize=16_384)
def route_to_group(group: PartGroup) -> Encoded:
    return _route_to(group.name, build(RouteMatch, prefix=group.path))


def _route_to(name: str, match: RouteMatch) -> Encoded:
    answer = build(DirectResponseAction, status=404)
    return Encoded(encode(build(Route, name=f"/{name}", match=match, direct_response=answer)))


@lru_cache(maxsize=2)
def dispatching_filters(*, grouped: bool) -> dict[str, object]:
    """The configuration of the filters in the route configuration of a split unit or of a group; `grouped`:
    it takes requests to groups, or is that of one. The first route of a request enables the filters."""
    scope = build(
        HeaderMutation,
        append=build(
            HeaderValueOption,
            header=build(HeaderValue, key=SCOPE_HEADER, value="%ROUTE_NAME%"),
            append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS,
        ),
    )
    mutations = build(Mutations, request_mutations=[scope])
    again = build(FilterConfig, config=any_of(build(SetFilterState, clear_route_cache=True)))
    filters: dict[str, object] = {
        SCOPE_FILTER: any_of(build(HeaderMutationPerRoute, mutations=mutations)),
        RESELECT_FILTER: any_of(again),
    }
    if grouped:
        filters |= {
            PART_SCOPE_FILTER: filters[SCOPE_FILTER],
            PART_RESELECT_FILTER: filters[RESELECT_FILTER],
        }
    return filters
