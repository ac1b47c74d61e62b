"""Files that are wrong, and what is found in each."""

from dataclasses import dataclass

API = """\
apiVersion: signalbox.io/v1
kind: API
metadata: {name: orders}
spec:
  context: /orders
  upstream: http://orders:8080
  operations: [{method: GET, path: /}]
"""


WSO2 = """\
apiVersion: gateway.api-platform.wso2.com/v1
kind: RestApi
metadata: {name: orders}
spec:
  displayName: Orders
  version: v1.0
  context: /orders
  upstream: {main: {url: http://orders:8080}}
  operations: [{method: GET, path: /}]
"""


OPENAPI = """\
openapi: 3.0.3
info: {title: Orders, version: "1"}
servers: [{url: "http://orders:8080"}]
paths:
  /orders: {get: {responses: {"200": {description: Fine.}}}}
"""


@dataclass(frozen=True)
class Row:
    """`document` has the findings `rule line:column pointer`, and no others."""

    about: str
    document: str | bytes
    findings: tuple[str, ...]


def api(before: str, after: str) -> str:
    return _changed(API, before, after)


def wso2(before: str, after: str) -> str:
    return _changed(WSO2, before, after)


def openapi(before: str, after: str) -> str:
    return _changed(OPENAPI, before, after)


def _changed(text: str, before: str, after: str) -> str:
    assert text.count(before) == 1, f"{before!r} must be there once"
    return text.replace(before, after)


TEXT = (
    Row("an anchor within itself", "a: &x [*x]", ("alias 1:8 /a/0",)),
    Row("an alias without anchor", "a: *y", ("alias 1:4 /a",)),
    Row("a tab indents", "a:\n\tb: 1", ("syntax 2:1 ",)),
    Row("never closed", "a: [1, 2", ("syntax 1:9 ",)),
    Row("an unknown directive", "%FOO\n---\na: 1", ("syntax 1:5 ",)),
    Row("UTF-16", "a: 1".encode("utf-16"), ("not-utf-8 1:1 ",)),
    Row("UTF-16 without a mark", "a: 1".encode("utf-16-be"), ("not-utf-8 1:1 ",)),
    Row("a byte of Latin-1", b"a: 1\nbc: \xe4", ("not-utf-8 2:5 ",)),
    Row("NUL", b"a: 1\nb: x\x00y", ("control-character 2:5 ",)),
    Row("a control character", "a: \x1b[0m", ("control-character 1:4 ",)),
    Row("text that is turned around", "a: b # \u202e", ("control-character 1:8 ",)),
    Row("nesting without end", "[" * 100_000, ("too-deep 1:65 " + "/0" * 64,)),
    Row("nesting without end, in blocks", "- " * 5000, ("too-deep 1:129 " + "/0" * 64,)),
    Row("text alone", "just words", ("unknown-form 1:1 ",)),
    Row("a list", "- a", ("unknown-form 1:1 ",)),
    Row("another form", "a: 1", ("unknown-form 1:1 ",)),
    Row("a form of tomorrow", "apiVersion: signalbox.io/v9", ("unknown-form 1:13 /apiVersion",)),
    Row("Swagger 2", 'swagger: "2.0"', ("unknown-form 1:10 /swagger",)),
    Row("a JSON document that breaks off", '{"openapi": "3.1.0", ', ("syntax 1:22 ",)),
    Row(
        "several mistakes in one document are all found",
        api("{name: orders}", "{name: orders, name: more, &a [1]: x, nmae: y, z: !!python/name:os.system }"),
        (
            "duplicate-key 3:26 /metadata/name",
            "key 3:38 /metadata",
            "unknown-field 3:49 /metadata/nmae",
            "unknown-field 3:58 /metadata/z",
            "tag 3:61 /metadata/z",
        ),
    ),
    Row("a duplicate key", API + "kind: API\n", ("duplicate-key 8:1 /kind",)),
    Row("a number beyond JSON", api("/orders\n", "1e999\n"), ("number 5:12 /spec/context",)),
    Row("a merge of text", api("metadata: {", "metadata: {<<: x, "), ("merge 3:12 /metadata",)),
)


SIGNALBOX = (
    Row("nothing but a version", "apiVersion: signalbox.io/v1", ("required 1:1 /kind",)),
    Row("an unknown kind", api("kind: API", "kind: Apo"), ("unknown-kind 2:7 /kind",)),
    Row("no name", api("{name: orders}", "{}"), ("required 3:1 /metadata/name",)),
    Row("no metadata", api("metadata: {name: orders}\n", ""), ("required 1:1 /metadata",)),
    Row("no spec", API.partition("spec:")[0], ("required 1:1 /spec",)),
    Row("an empty spec", API.partition("spec:")[0] + "spec:\n", ("required 4:6 /spec",)),
    Row("a name with a space", api("{name: orders}", "{name: my orders}"), ("name 3:18 /metadata/name",)),
    Row("a numeric name", api("{name: orders}", "{name: 1.10}"), ("needs-quotes 3:18 /metadata/name",)),
    Row(
        "escapes for what may not be in text",
        api("{name: orders}", '{name: orders, labels: {"a\\0": b, c: "\\x7f"}}')
        + '  displayName: "a\\0b"\n'
        + '  description: "one\\r\\ntwo\\tand \\u202e"\n'
        + '  policies: [{name: p, params: {a: ["\\n", "\\e"]}}]\n',
        (
            "character 3:26 /metadata/labels/a\\x00",
            "character 3:48 /metadata/labels/c",
            "character 8:16 /spec/displayName",
            "character 9:16 /spec/description",
            "character 10:43 /spec/policies/0/params/a/1",
        ),
    ),
    Row("no hosts at all", API + "  hosts: []\n", ("hosts 8:3 /spec/hosts",)),
    Row(
        "a delegated context that is another API's",
        API + "  delegatedContexts: [/orders, /orders/a, /orders-old]\n",
        ("delegated-context 8:43 /spec/delegatedContexts/2",),
    ),
    Row("an unquoted version", API + "  version: 1.10\n", ("needs-quotes 8:12 /spec/version",)),
    Row("an unquoted date is text", API + "  version: 2024-06-15\n", ()),
    Row("yes is text in YAML 1.2", API + "  version: yes\n", ()),
    Row(
        "labels are text",
        api("{name: orders}", "{name: orders, labels: {a: true, b: 1}}"),
        ("needs-quotes 3:38 /metadata/labels/a", "needs-quotes 3:47 /metadata/labels/b"),
    ),
    Row("a typing mistake", API + "  desciption: x\n", ("unknown-field 8:3 /spec/desciption",)),
    Row("snake_case", API + "  display_name: x\n", ("unknown-field 8:3 /spec/display_name",)),
    Row("a slash at the end", api("/orders\n", "/orders/\n"), ("pattern 5:12 /spec/context",)),
    Row("no context", api("  context: /orders\n", ""), ("required 4:1 /spec/context",)),
    Row("no upstream", api("  upstream: http://orders:8080\n", ""), ("required 4:1 /spec/upstreams",)),
    Row("no scheme", api("http://orders:8080", "orders:8080"), ("url-scheme 6:13 /spec/upstream",)),
    Row("another scheme", api("http://orders:8080", "ftp://orders"), ("url-scheme 6:13 /spec/upstream",)),
    Row("a query", api("http://orders:8080", "http://o/?x=1"), ("url 6:13 /spec/upstream",)),
    Row("a port out of range", api("orders:8080", "orders:99999"), ("url 6:13 /spec/upstream",)),
    Row("no host", api("orders:8080", ":8080"), ("url 6:13 /spec/upstream",)),
    Row("credentials", api("http://orders:8080", "http://u:p@o"), ("url 6:13 /spec/upstream",)),
    Row("a dot segment", api("http://orders:8080", "http://o/a/../b"), ("url 6:13 /spec/upstream",)),
    Row(
        "credentials, elsewhere", wso2("http://orders", "http://u:p@o"), ("url 8:26 /spec/upstream/main/url",)
    ),
    Row(
        "upstream twice",
        API + "  upstreams: [{name: a, url: http://a}]\n",
        ("contradiction 6:3 /spec/upstream",),
    ),
    Row(
        "several upstreams, and none chosen",
        api(
            "upstream: http://orders:8080", "upstreams: [{name: a, url: http://a}, {name: b, url: http://b}]"
        ),
        ("required 4:1 /spec/backends",),
    ),
    Row(
        "an upstream twice",
        api("upstream: http://orders:8080", "upstreams: [{name: a, url: http://a}, {name: a, url: http://b}]")
        + "  backends: [a]\n",
        ("duplicate-upstream 6:48 /spec/upstreams/1/name",),
    ),
    Row(
        "a backend that is not there",
        API + "  backends: [{upstream: stable}]\n",
        ("unknown-upstream 8:25 /spec/backends/0/upstream",),
    ),
    Row(
        "no weight at all",
        API + "  backends: [{upstream: default, weight: 0}]\n",
        ("weights 8:3 /spec/backends",),
    ),
    Row(
        "no operations",
        api("[{method: GET, path: /}]", "[]"),
        ("length 7:3 /spec/operations",),
    ),
    Row(
        "an operation twice, whatever its parameters are called",
        api("[{method: GET, path: /}]", "[{method: GET, path: '/{a}'}, {method: GET, path: '/{b}'}]"),
        ("duplicate-operation 7:45 /spec/operations/1",),
    ),
    Row(
        "a parameter twice",
        api("path: /}", "path: '/{a}/{a}'}"),
        ("path-template 7:36 /spec/operations/0/path",),
    ),
    Row(
        "half a segment is a parameter",
        api("path: /}", "path: '/v{a}'}"),
        ("path-template 7:36 /spec/operations/0/path",),
    ),
    Row(
        "a star in the middle",
        api("path: /}", "path: '/*/x'}"),
        ("path-template 7:36 /spec/operations/0/path",),
    ),
    Row("a method in lower case", api("GET", "get"), ("choice 7:25 /spec/operations/0/method",)),
    Row(
        "a duration without unit",
        API + "  resilience: {timeout: 15}\n",
        ("duration 8:25 /spec/resilience/timeout",),
    ),
    Row(
        "text where a number belongs",
        API + '  resilience: {retries: "3"}\n',
        ("type 8:25 /spec/resilience/retries",),
    ),
    Row(
        "too many retries",
        API + "  resilience: {retries: 11}\n",
        ("range 8:25 /spec/resilience/retries",),
    ),
    Row("text where a list belongs", API + "  hosts: a.example\n", ("type 8:10 /spec/hosts",)),
    Row("nothing where a list belongs", API + "  hosts:\n", ("type 8:9 /spec/hosts",)),
    Row(
        "everything at once",
        api("/orders\n", "orders\n")
        + "  hosts: [A.example, ok.example]\n  policies: [{nam: cors}]\n  plans: [1]\n",
        (
            "pattern 5:12 /spec/context",
            "pattern 8:11 /spec/hosts/0",
            "required 9:14 /spec/policies/0/name",
            "unknown-field 9:15 /spec/policies/0/nam",
            "needs-quotes 10:11 /spec/plans/0",
        ),
    ),
)


OF_WSO2 = (
    Row("another kind", wso2("RestApi", "Mcp"), ("unknown-kind 2:7 /kind",)),
    Row("another version", wso2(".com/v1", ".com/v7"), ("unknown-form 1:13 /apiVersion",)),
    Row(
        "everything missing",
        WSO2.partition("spec:")[0] + "spec: {}",
        (
            "required 4:1 /spec/displayName",
            "required 4:1 /spec/version",
            "required 4:1 /spec/context",
            "required 4:1 /spec/upstream",
            "required 4:1 /spec/operations",
        ),
    ),
    Row("a title with a slash", wso2("Orders", "a/b"), ("pattern 5:16 /spec/displayName",)),
    Row("a version without v", wso2("v1.0", '"1.0"'), ("pattern 6:12 /spec/version",)),
    Row("a version that is a number", wso2("v1.0", "1.0"), ("needs-quotes 6:12 /spec/version",)),
    Row("a slash at the end", wso2("/orders\n", "/orders/\n"), ("pattern 7:12 /spec/context",)),
    Row("url and ref", wso2("{url:", "{ref: x, url:"), ("contradiction 8:14 /spec/upstream/main",)),
    Row(
        "neither url nor ref", wso2("{url: http://orders:8080}", "{}"), ("required 8:14 /spec/upstream/main",)
    ),
    Row(
        "a ref to nowhere",
        wso2("{url: http://orders:8080}", "{ref: orders}"),
        ("unknown-upstream 8:26 /spec/upstream/main/ref",),
    ),
    Row(
        "another scheme",
        wso2("http://orders:8080", "ftp://orders"),
        ("url-scheme 8:26 /spec/upstream/main/url",),
    ),
    Row(
        "a host rewrite of one's own",
        wso2("{url:", "{hostRewrite: x, url:"),
        ("choice 8:34 /spec/upstream/main/hostRewrite",),
    ),
    Row(
        "definitions that break rules",
        WSO2 + "  upstreamDefinitions:\n    - {name: a, upstreams: [{url: http://a/x}]}\n"
        "    - {name: a, basePath: /b/, timeout: {connect: 5}, upstreams: [{url: http://b, weight: 101}]}\n"
        "    - {name: c}\n",
        (
            "url 11:35 /spec/upstreamDefinitions/0/upstreams/0/url",
            "duplicate-upstream 12:14 /spec/upstreamDefinitions/1/name",
            "pattern 12:27 /spec/upstreamDefinitions/1/basePath",
            "duration 12:51 /spec/upstreamDefinitions/1/timeout/connect",
            "range 12:91 /spec/upstreamDefinitions/1/upstreams/0/weight",
            "required 13:7 /spec/upstreamDefinitions/2/upstreams",
        ),
    ),
    Row(
        "a virtual host with a path",
        WSO2 + "  vhosts: {main: a.example;b/c}\n",
        ("pattern 10:18 /spec/vhosts/main",),
    ),
    Row(
        "virtual hosts without main", WSO2 + "  vhosts: {sandbox: a}\n", ("required 10:3 /spec/vhosts/main",)
    ),
    Row("a method they do not have", wso2("GET", "TRACE"), ("choice 9:25 /spec/operations/0/method",)),
    Row("a path without slash", wso2("path: /", "path: x"), ("pattern 9:36 /spec/operations/0/path",)),
    Row(
        "a policy with a full version",
        WSO2 + "  policies: [{name: cors, version: v1.0.0}]\n",
        ("pattern 10:36 /spec/policies/0/version",),
    ),
    Row(
        "a policy without version",
        WSO2 + "  policies: [{name: cors}]\n",
        ("required 10:14 /spec/policies/0/version",),
    ),
    Row(
        "a state that is a mapping",
        WSO2 + "  deploymentState: {a: b}\n",
        ("choice 10:3 /spec/deploymentState",),
    ),
    Row("a state of one's own", WSO2 + "  deploymentState: on\n", ("choice 10:20 /spec/deploymentState",)),
    Row(
        "a label with a space",
        wso2("{name: orders}", "{name: orders, labels: {a b: c}}"),
        ("label 3:35 /metadata/labels/a b",),
    ),
    Row(
        "an unknown match",
        wso2("[{method: GET, path: /}]", "[{match: {method: GET, path: {value: /, type: Regex}}}]"),
        ("choice 9:61 /spec/operations/0/match/path/type",),
    ),
    Row(
        "the oldest form, empty",
        "version: api-platform.wso2.com/v1\nkind: http/rest\n",
        ("required 1:1 /data",),
    ),
    Row(
        "the oldest form, everything missing",
        "version: api-platform.wso2.com/v1\nkind: http/rest\ndata: {}\n",
        (
            "required 3:1 /data/name",
            "required 3:1 /data/version",
            "required 3:1 /data/context",
            "required 3:1 /data/upstream",
            "required 3:1 /data/operations",
        ),
    ),
)


OF_OPENAPI = (
    Row("OpenAPI 2.9", openapi("3.0.3", "2.9.0"), ("unknown-form 1:10 /openapi",)),
    Row("a version that is a number", openapi("3.0.3", "3.1"), ("needs-quotes 1:10 /openapi",)),
    Row("no server", openapi('servers: [{url: "http://orders:8080"}]\n', ""), ("no-server 1:1 /servers",)),
    Row("a relative server", openapi("http://orders:8080", "/v1"), ("no-server 3:17 /servers/0/url",)),
    Row(
        "a variable without a value",
        openapi("http://orders:8080", "http://{host}"),
        ("server-variable 3:17 /servers/0/url",),
    ),
    Row("no paths", OPENAPI.partition("paths:")[0] + "paths: {}\n", ("no-operations 4:1 /paths",)),
    Row(
        "not OpenAPI",
        openapi("{description: Fine.}", "{}").replace(', version: "1"', ""),
        ("openapi 2:1 /info", "openapi 5:31 /paths/~1orders/get/responses/200"),
    ),
    Row(
        "references that lead nowhere or out",
        openapi("{description: Fine.}", '{$ref: "#/components/responses/x"}, "400": {$ref: "http://x/y"}'),
        (
            "reference 5:45 /paths/~1orders/get/responses/200/$ref",
            "external-reference 5:88 /paths/~1orders/get/responses/400/$ref",
        ),
    ),
    Row(
        "an undeclared path parameter",
        openapi("  /orders:", "  /orders/{id}:"),
        ("openapi 5:18 /paths/~1orders~1{id}/get",),
    ),
    Row(
        "a parameter within a segment",
        openapi(
            "  /orders: {", "  /orders.{f}: {parameters: [{name: f, in: path, required: true, schema: {}}], "
        ),
        ("path-template 5:3 /paths/~1orders.{f}",),
    ),
    Row("a title without letters", openapi("Orders", "訂單"), ("context 2:15 /info/title",)),
    Row(
        "an extension with a mistake",
        OPENAPI + "x-signalbox: {contxt: /o, hosts: [A]}\n",
        ("unknown-field 6:15 /x-signalbox/contxt", "pattern 6:35 /x-signalbox/hosts/0"),
    ),
    Row(
        "policies that are no list, where security asks for one",
        OPENAPI + "security: [{key: []}]\nx-signalbox: {policies: 3}\n",
        ("type 7:25 /x-signalbox/policies",),
    ),
)


ROWS = (*TEXT, *SIGNALBOX, *OF_WSO2, *OF_OPENAPI)
