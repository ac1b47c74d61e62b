"""Envoy's messages are imported without the validators that nothing uses."""

import pydantic
import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from pydantic.dataclasses import dataclass, is_pydantic_dataclass

from xds.encoding import build, encode


def test_messages_are_standard_dataclasses_that_the_library_takes() -> None:
    assert not is_pydantic_dataclass(Cluster)
    made = Cluster(name="one", alt_stat_name="other")
    assert bytes(made) == encode(build(Cluster, name="one", alt_stat_name="other"))
    assert Cluster.parse(bytes(made)) == made
    assert made.to_dict() == {"name": "one", "altStatName": "other"}


def test_other_dataclasses_are_validated() -> None:
    @dataclass(frozen=True)
    class Other:
        number: int

    assert Other(number=1).number == 1
    with pytest.raises(pydantic.ValidationError):
        pydantic.TypeAdapter(Other).validate_python({"number": "none"})
