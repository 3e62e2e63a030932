"""The repair section refuses values that would undo what it is for."""

import pytest

from kvctl_node.config import RepairConfig, TimingConfig
from kvctl_node.errors import ConfigError


def test_the_defaults_agree_with_each_other():
    RepairConfig().validate(TimingConfig())


@pytest.mark.parametrize(
    "values",
    [
        {"keys_per_s": 0},
        {"bytes_per_s": 0},
        {"rebuild_interval_ms": 0},
        {"compare_interval_ms": -1},
        {"reap_interval_ms": -1},
        {"recheck_pause_ms": TimingConfig().replica_timeout_ms},
        {"reap_grace_ms": TimingConfig().hint_ttl_ms},
    ],
)
def test_a_value_out_of_its_range_is_refused_by_name(values):
    with pytest.raises(ConfigError, match=f"repair.{next(iter(values))}"):
        RepairConfig(**values).validate(TimingConfig())


def test_zero_switches_the_background_off():
    RepairConfig(compare_interval_ms=0, reap_interval_ms=0).validate(TimingConfig())
