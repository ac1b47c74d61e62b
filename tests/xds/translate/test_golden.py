"""Golden files: `testdata/in/X.yaml` becomes `testdata/out/X.{listeners,clusters,scopes,routes}.yaml`.

`pytest tests/xds/translate/test_golden.py --update` writes them again; reviewers read the diff.
"""

import hashlib
from pathlib import Path

import pytest
import yaml

from tests.xds.translate.inputs import DATA, ONE_GROUP, Input, parse_input
from tests.xds.translate.proxy import resource, static_bootstrap, validate
from xds.translate import check
from xds.translator import EnvoyTranslator
from xds.types import CLUSTER, LISTENER, ROUTES, SCOPED_ROUTES

INPUTS = sorted((DATA / "in").glob("*.yaml"))
OUT = DATA / "out"
KINDS = {"listeners": LISTENER, "clusters": CLUSTER, "scopes": SCOPED_ROUTES, "routes": ROUTES}


def _read(path: Path) -> Input:
    return parse_input(path.read_text(encoding="utf-8"))


def _outputs(path: Path) -> dict[Path, str]:
    """What an input is translated to, as text per file."""
    entries = _read(path).entries
    files: dict[Path, str] = {}
    for kind, type in KINDS.items():
        resources = [resource(entry) for entry in sorted(entries, key=lambda e: e.name) if entry.type == type]
        text = yaml.safe_dump(resources, sort_keys=False, allow_unicode=True, width=110)
        files[OUT / f"{path.stem}.{kind}.yaml"] = text
    return files


@pytest.mark.parametrize("path", INPUTS, ids=lambda p: p.stem)
def test_an_input_becomes_its_golden_files(path: Path, request: pytest.FixtureRequest) -> None:
    for file, text in _outputs(path).items():
        if request.config.getoption("--update"):
            file.write_text(text, encoding="utf-8")
        assert text == file.read_text(encoding="utf-8"), f"{file.name} differs; --update writes it again"


def test_every_golden_file_has_its_input(request: pytest.FixtureRequest) -> None:
    expected = {OUT / f"{path.stem}.{kind}.yaml" for path in INPUTS for kind in KINDS}
    orphans = set(OUT.glob("*")) - expected
    if request.config.getoption("--update"):
        for orphan in orphans:
            orphan.unlink()
        orphans = set[Path]()
    assert not orphans


def test_other_golden_files_are_another_version_of_the_translator(request: pytest.FixtureRequest) -> None:
    digest = hashlib.sha256()
    for file in sorted(OUT.glob("*")):
        digest.update(file.name.encode() + file.read_bytes())
    known = DATA / "version"
    if request.config.getoption("--update"):
        known.write_text(f"{EnvoyTranslator.VERSION} {digest.hexdigest()}\n", encoding="utf-8")
    version, before = known.read_text(encoding="utf-8").split()
    assert (version, before) == (EnvoyTranslator.VERSION, digest.hexdigest()), (
        f"the translator makes other configuration than its version {version} did: raise VERSION in "
        "xds/translator.py above that of the last release, so that gateways get it, then --update"
    )


@pytest.mark.usefixtures("envoy")
@pytest.mark.parametrize("path", INPUTS, ids=lambda p: p.stem)
def test_envoy_accepts_the_output_of_each_input(path: Path, tmp_path: Path) -> None:
    given = _read(path)

    assert [check(api) for api in given.apis] == [()] * len(given.apis)
    for entries in (given.entries, given.split(ONE_GROUP), given.split(1)):
        assert validate(static_bootstrap(entries), tmp_path) == ""
