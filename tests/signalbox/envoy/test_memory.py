"""How much memory Envoy may use."""

from pathlib import Path

from signalbox.envoy.memory import envoy_heap, usable_memory


def test_a_container_may_have_less_than_the_machine(tmp_path: Path) -> None:
    (tmp_path / "limit").write_text("104857600\n")
    (tmp_path / "none").write_text("max\n")
    files = (tmp_path / "none", tmp_path / "limit", tmp_path / "missing")

    assert usable_memory(files) == 104_857_600
    assert envoy_heap(files) == 78_643_200
    assert usable_memory(files[:1]) > 104_857_600
