"""Headers that belong to the gateway: values from callers and upstreams are not forwarded.

A caller's are removed before any other filter reads the request, an upstream's before any other filter reads
its answer. Headers that a policy of an API sets afterwards stay.
"""

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import (
    HeaderMutation,
    HeaderMutationRemoveOnMatch,
)
from envoy_data_plane.envoy.config.core.v3 import (
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.rbac.v3 import Permission, Policy, Principal
from envoy_data_plane.envoy.config.rbac.v3 import Rbac as Rules
from envoy_data_plane.envoy.config.rbac.v3 import RbacAction as Action
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import (
    HeaderMutation as HeaderMutationFilter,
)
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import Mutations
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    HeaderMutation as EarlyHeaderMutation,
)
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher

from xds.encoding import any_of, build
from xds.translate.headers import CLAIMS, OWN
from xds.translate.names import GATEWAY_PREFIX, SCOPE_HEADER


def early_mutation(*, forwarding: bool) -> TypedExtensionConfig:
    """Removes the gateway's headers from the request, and sets the scope from the normalised path.
    `forwarding`: the headers of the proxy in front about the original request are kept."""
    scope = build(
        HeaderMutation,
        append=build(
            HeaderValueOption,
            # Without PATH Envoy would use the caller's x-envoy-original-path, if present.
            header=build(HeaderValue, key=SCOPE_HEADER, value="%PATH(NQ:PATH)%"),
            append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
        ),
    )
    claims = build(StringMatcher, safe_regex=build(RegexMatcher, regex=OWN if forwarding else CLAIMS))
    mutations = [_removal(claims), scope]
    return build(
        TypedExtensionConfig,
        name="edge",
        typed_config=any_of(build(EarlyHeaderMutation, mutations=mutations)),
    )


def answers_filter() -> HttpFilter:
    """An upstream filter: removes the gateway's headers from answers of upstreams."""
    removal = _removal(build(StringMatcher, prefix=GATEWAY_PREFIX))
    mutations = build(Mutations, response_mutations=[removal])
    return build(
        HttpFilter,
        name="envoy.filters.http.header_mutation",
        typed_config=any_of(build(HeaderMutationFilter, mutations=mutations)),
    )


def several_hosts() -> HeaderMatcher:
    """Matches requests with several Host headers, which Envoy joins with commas."""
    return build(HeaderMatcher, name=":authority", string_match=build(StringMatcher, contains=","))


def host_filter() -> HttpFilter:
    """Refuses requests that `several_hosts` matches: the next server might choose another host."""
    policy = build(
        Policy,
        permissions=[build(Permission, header=several_hosts())],
        principals=[build(Principal, any=True)],
    )
    rules = build(Rules, action=Action.DENY, policies={"several-hosts": policy})
    return build(
        HttpFilter,
        name="envoy.filters.http.rbac",
        typed_config=any_of(build(Rbac, rules=rules, rules_stat_prefix="hosts_")),
    )


def _removal(names: StringMatcher) -> HeaderMutation:
    return build(HeaderMutation, remove_on_match=build(HeaderMutationRemoveOnMatch, key_matcher=names))
