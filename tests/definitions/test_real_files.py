"""Definitions that others wrote."""

import os
from pathlib import Path

import pytest

from definitions.reading import Reading, read
from schemas.aggregates.api import ApiSpec

REAL = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(autouse=True)
def real_files() -> None:
    if not REAL.is_dir() and os.environ.get("SIGNALBOX_REQUIRE_REAL") != "1":
        pytest.skip("no ../shared/data")


def _read(name: str) -> Reading:
    path = REAL / name
    return read(path.read_bytes(), path.name)


def _errors(reading: Reading) -> list[str]:
    return [f"{f.rule} {f.line}:{f.column} {f.pointer}" for f in reading.findings if f.severity == "error"]


def _one(name: str) -> ApiSpec:
    reading = _read(name)
    assert _errors(reading) == []
    (definition,) = reading.definitions
    assert isinstance(definition.spec, ApiSpec)
    assert definition.content == (REAL / name).read_bytes()
    return definition.spec


def test_every_wso2_file_is_read_but_the_one_that_is_not_yaml() -> None:
    readings = {p.name: _read(f"wso2/{p.name}") for p in sorted((REAL / "wso2").glob("*.yaml"))}
    assert {name for name, reading in readings.items() if _errors(reading)} == {"invalid.yaml"}
    assert _errors(readings["invalid.yaml"]) == ["syntax 22:10 "]
    current = [r for name, r in readings.items() if name not in ("invalid.yaml", "petstore.http-rest.yaml")]
    assert len(current) >= 5
    assert all(not reading.findings and len(reading.definitions) == 1 for reading in current)


def test_the_petstore_of_today() -> None:
    spec = _one("wso2/petstore.v1.yaml")
    assert (spec.display_name, spec.version, spec.context) == ("PetStore API test", "v1.0", "/petstoretest")
    assert [(u.name, u.endpoints[0].url, u.base_path) for u in spec.upstreams] == [
        ("main", "https://petstore.swagger.io", "/v2")
    ]
    assert [f"{o.method} {o.path}" for o in spec.operations] == [
        "GET /pet/{petId}",
        "POST /pet",
        "PUT /pet",
        "DELETE /pet/{petId}",
        "GET /store/inventory",
        "POST /store/order",
    ]
    assert [p.name for p in spec.policies] == ["set-headers"]


def test_the_petstore_of_old() -> None:
    reading = _read("wso2/petstore.http-rest.yaml")
    spec = _one("wso2/petstore.http-rest.yaml")
    assert [p.name for p in spec.policies] == ["api-key-auth"]
    assert [(b.upstream, b.weight) for b in spec.operations[0].backends] == [("default", 80)]
    assert spec.upstreams[0].connect_timeout == 5000
    assert spec.resilience is not None and spec.resilience.timeout == 60_000 and spec.resilience.retries == 3
    names = [p.name for p in spec.operations[0].policies]
    assert names[0] == "set-headers" and "JSON_TO_XML" in names
    warned = {f.rule: f.line for f in reading.findings}
    assert warned["unknown-upstream"] == 90
    assert {"not-used", "not-enforced", "expression"} <= warned.keys()


@pytest.mark.parametrize(
    ("name", "upstream", "operations"),
    [
        ("v3.0-petstore-expanded.yaml", "https://petstore.swagger.io/v2", 4),
        ("v3.0-petstore.yaml", "http://petstore.swagger.io/v1", 3),
        ("v3.0-uspto.yaml", "https://developer.uspto.gov/ds-api", 3),
    ],
)
def test_openapi_files_with_a_server(name: str, upstream: str, operations: int) -> None:
    spec = _one(f"openapi/{name}")
    assert spec.upstreams[0].endpoints[0].url + spec.upstreams[0].base_path == upstream
    assert len(spec.operations) == operations
    assert all(operation.operation_id for operation in spec.operations)


def test_openapi_files_that_no_gateway_could_serve_say_why() -> None:
    assert _errors(_read("openapi/v3.1-tictactoe.yaml")) == ["no-server 1:1 /servers"]
    assert _errors(_read("openapi/v3.1-webhook-example.yaml")) == [
        "no-server 1:1 /servers",
        "no-operations 6:1 /webhooks",
    ]


def test_every_openapi_file_gives_a_definition_or_a_finding() -> None:
    for path in sorted((REAL / "openapi").glob("*.yaml")):
        reading = _read(f"openapi/{path.name}")
        assert bool(reading.definitions) != bool(_errors(reading)), path.name


def test_the_finding_for_an_asyncapi_document_lists_the_supported_forms() -> None:
    for path in sorted((REAL / "asyncapi").iterdir()):
        assert [f.rule for f in _read(f"asyncapi/{path.name}").findings] == ["unknown-form"]
