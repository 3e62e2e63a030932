"""A configuration file given to a cluster that exists: what it changes, field by field.

Every field of the configuration is looked at, those of sections and nodes one by one, so that none
can be changed in the file and silently keep its old value. A change is one of three:

* **applied when nodes start** (`APPLIED_AT_START`): settings each node keeps for itself, which may
  differ from what they were when its data was written. They are saved while no node runs.
* **set live** by another command: R, W and the mode.
* **refused**: what data on disk or promises to clients depend on, such as the number of partitions,
  the nodes, or how long a retry is recognised. This is the rule for every field not named here.

A port of 0 in the file leaves the choice to kvctl, and "" as the cluster's name does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from kvctl.errors import ContradictionError
from kvctl_node.config import ClusterConfig, NodeSpec

APPLIED_AT_START = frozenset(
    {
        "storage.memtable_bytes",
        "storage.frozen_memtables_max",
        "storage.compaction_fanout",
        "storage.bloom_bits_per_key",
        "storage.disk_reserve_bytes",
        "storage.database_bytes_max",
        "limits.requests_in_flight_max",
        "limits.frames_queued_max",
        "limits.hints_bytes_max",
        "limits.handoff_in_flight_max",
        "limits.handoff_per_s",
        "timing.gossip_interval_ms",
        "timing.suspect_after_ms",
        "timing.link_dead_after_ms",
        "timing.replica_timeout_ms",
        "timing.handoff_interval_ms",
        "repair.compare_interval_ms",
        "repair.recheck_pause_ms",
        "repair.keys_per_s",
        "repair.bytes_per_s",
        "repair.rebuild_interval_ms",
        "repair.reap_interval_ms",
    }
)
"""Not `repair.reap_grace_ms` or `timing.hint_ttl_ms`: hints that were kept under the old values are
still there. Not limits of sizes: what is stored may be larger than the new one."""
_LIVE = frozenset({"quorum.r", "quorum.w", "quorum.mode"})
_GIVEN_BY_KVCTL = frozenset({"cluster_id", "former_clusters", "made_at"})

SET_LIVE = "kvctl config set NAME=VALUE changes it, live."
FIXED_FOR_LIFE = "it is fixed when a cluster is made; kvctl down --purge, then up, makes a new one."
_IDENTITY = "kvctl gives it to a cluster itself; leave it out of the file."
_DOWN_FIRST = "kvctl down, then up with this file: nodes read it when they start."
_NAME = "leave it out of the file, or say which cluster is meant with -c."


class Change(NamedTuple):
    """A field in which a file and a cluster differ."""

    field: str
    """`repair.keys_per_s`, `partitions`, `n2.zone`."""
    actual: object
    wanted: object
    way_out: str
    """What to do if it is refused."""

    def refusal(self, cluster: str, *, why: str = "") -> ContradictionError:
        """The error that names the field, both values and the way out."""
        return ContradictionError(
            f"the configuration file's {self.field} {self.wanted} contradicts the cluster "
            f"{cluster}, which has {self.actual}{why}.",
            hint=self.way_out,
        )


def refuse_identity(name: str, file: ClusterConfig) -> None:
    """Raises `ContradictionError` if a file for a new cluster has what only kvctl gives, or the
    name of another one."""
    if file.name not in ("", name):
        raise ContradictionError(
            f"the configuration file's name {file.name} is not that of the cluster {name}.",
            hint=_NAME,
        )
    for field in _GIVEN_BY_KVCTL:
        if getattr(file, field):
            raise ContradictionError(f"the configuration file has a {field}.", hint=_IDENTITY)


def fixed_changes(config: ClusterConfig, wanted: ClusterConfig) -> list[Change]:
    """What a file would change that cannot be applied, in the configuration's order."""
    return [one for one in _changes(config, wanted) if one.field not in APPLIED_AT_START]


def apply_at_start(
    config: ClusterConfig, wanted: ClusterConfig, *, running: bool
) -> tuple[ClusterConfig, tuple[str, ...]]:
    """The configuration with what may change while no node runs, and a sentence for each change.

    Raises `ContradictionError` naming the first change if a node is `running`.
    """
    changes = [one for one in _changes(config, wanted) if one.field in APPLIED_AT_START]
    if changes and running:
        raise changes[0]._replace(way_out=_DOWN_FIRST).refusal(config.name, why=" and runs")
    for change in changes:
        section, _, name = change.field.partition(".")
        changed = msgspec.structs.replace(getattr(config, section), **{name: change.wanted})
        config = msgspec.structs.replace(config, **{section: changed})
    config.validate()
    return config, tuple(
        f"{change.field} is {change.wanted} from now on; it was {change.actual}."
        for change in changes
    )


def _changes(config: ClusterConfig, wanted: ClusterConfig) -> Iterator[Change]:
    """Every field that differs, the nodes' names first: their fields are compared by name."""
    ours, theirs = _names(config), _names(wanted)
    if ours != theirs:
        yield Change("nodes", ours, theirs, FIXED_FOR_LIFE)
    for field in config.__struct_fields__:
        actual, value = getattr(config, field), getattr(wanted, field)
        if field == "nodes":
            yield from _node_changes(config, wanted)
        elif isinstance(actual, msgspec.Struct):
            for name in actual.__struct_fields__:
                full = f"{field}.{name}"
                way_out = SET_LIVE if full in _LIVE else FIXED_FOR_LIFE
                yield from _change(full, getattr(actual, name), getattr(value, name), way_out)
        elif value or field not in _GIVEN_BY_KVCTL | {"name"}:
            way_out = {"name": _NAME}.get(field, FIXED_FOR_LIFE)
            yield from _change(
                field, actual, value, _IDENTITY if field in _GIVEN_BY_KVCTL else way_out
            )


def _node_changes(config: ClusterConfig, wanted: ClusterConfig) -> Iterator[Change]:
    actual_nodes = {spec.name: spec for spec in config.nodes}
    for spec in wanted.nodes:
        actual = actual_nodes.get(spec.name)
        for name in NodeSpec.__struct_fields__ if actual is not None else ():
            value = getattr(spec, name)
            if name.endswith("_port") and value == 0:
                continue
            yield from _change(f"{spec.name}.{name}", getattr(actual, name), value, FIXED_FOR_LIFE)


def _change(field: str, actual: object, wanted: object, way_out: str) -> Iterator[Change]:
    if actual != wanted:
        yield Change(field, actual, wanted, way_out)


def _names(config: ClusterConfig) -> str:
    return ",".join(spec.name for spec in config.nodes)
