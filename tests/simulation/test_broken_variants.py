"""The checkers catch every deliberately broken variant within a stated number of seeds.

Where a mistake needs rare circumstances, the options of the runs are narrowed to them; then a few
seeds do, and the test stays quick. An unbroken cluster under the same options breaks no promise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from kvctl_node.config import QuorumConfig
from tests.simulation import broken_variants as variants
from tests.simulation.broken_variants import Variant
from tests.simulation.options import Action, Fault, Options
from tests.simulation.simulation import run_seed
from tests.virtual_network import LinkQuality

Circumstances = Callable[[Options], Options]


def as_drawn(options: Options) -> Options:
    """What the seed says."""
    return options


def three_nodes(options: Options, **changes: object) -> Options:
    """A small, strict cluster without faults, to be given some."""
    settled: dict[str, object] = {
        "nodes": 3,
        "quorum": QuorumConfig(3, 2, 2, "strict"),
        "expendable": (),
        "faults": {},
        "links": LinkQuality(),
        "clock_entries": 100,
        "actions_max": 60,
        "gather_s": 0.0,
    }
    small = replace(options, **{**settled, **changes})  # type: ignore[arg-type]
    return replace(small, doors=tuple(small.names))


def bit_flips(options: Options) -> Options:
    """One record of one disk is damaged again and again, and R=1 reads meet it."""
    return three_nodes(
        options,
        quorum=QuorumConfig(3, 1, 2, "strict"),
        expendable=("n1",),
        faults={Fault.BIT_FLIP: 1},
        fault_interval_s=0.1,
        keys=1,
        actions={Action.GET: 3, Action.OVERWRITE: 1},
    )


def damage_amid_cuts(options: Options) -> Options:
    """One record of one disk is damaged again and again, while links are cut."""
    return three_nodes(
        options,
        expendable=("n1",),
        faults={Fault.BIT_FLIP: 3, Fault.PARTITION: 2, Fault.CUT: 1},
        fault_interval_s=0.1,
        latency_s=(0.0005, 0.002),
        keys=1,
        clients=3,
        think_s=0.02,
        timeout_s=0.6,
        actions={Action.GET: 2, Action.OVERWRITE: 1, Action.BLIND: 2},
        actions_max=200,
    )


def restored_backups(options: Options) -> Options:
    """One disk is put back to an older state, and its copies coordinate again."""
    return three_nodes(
        options,
        expendable=("n1",),
        faults={Fault.RESTORE: 3, Fault.REBOOT: 1},
        fault_interval_s=0.2,
        keys=1,
        clients=2,
        think_s=0.05,
        actions={Action.BLIND: 1, Action.OVERWRITE: 1},
        actions_max=120,
    )


def deaths(options: Options) -> Options:
    """Processes die at every step of a turn."""
    return three_nodes(options, faults={Fault.KILL: 1}, fault_interval_s=0.1, think_s=0.02, keys=2)


def doubled_messages(options: Options) -> Options:
    """W = N, on links that repeat and lose."""
    return three_nodes(
        options,
        quorum=QuorumConfig(3, 2, 3, "strict"),
        links=LinkQuality(loss=0.1, duplicates=0.3, straggle_s=0.02),
    )


def late_doubles(options: Options) -> Options:
    """Five nodes, so that requests are forwarded, on links that repeat after a long while."""
    return three_nodes(
        options,
        nodes=5,
        links=LinkQuality(duplicates=0.3, straggle_s=1.9),
        latency_s=(0.0005, 0.002),
        timeout_s=4.0,
        think_s=0.05,
        keys=2,
        clients=2,
        actions={Action.BLIND: 1, Action.GET: 1},
    )


def pauses(options: Options) -> Options:
    """Nodes are stopped for longer than their clients wait."""
    return three_nodes(
        options,
        faults={Fault.PAUSE: 1},
        fault_interval_s=0.3,
        keys=1,
        clients=2,
        timeout_s=1.5,
        think_s=0.05,
        actions={Action.OVERWRITE: 1, Action.BLIND: 1},
        actions_max=100,
    )


def lost_coordinators(options: Options) -> Options:
    """Coordinators are cut off from the others, though not from their clients, which ask again."""
    return three_nodes(
        options,
        faults={Fault.PARTITION: 3, Fault.KILL: 1},
        fault_interval_s=0.3,
        keys=1,
        clients=3,
        timeout_s=1.5,
        think_s=0.05,
        actions={Action.OVERWRITE: 2, Action.BLIND: 2, Action.DELETE: 2},
        actions_max=120,
    )


def quiet_r_one(options: Options) -> Options:
    """R = W = 1 and slow links: replicas differ most of the time."""
    return three_nodes(
        options,
        quorum=QuorumConfig(3, 1, 1, "strict"),
        latency_s=(0.0001, 0.1),
        think_s=0.005,
        keys=1,
        actions={Action.BLOCKING_GET: 3, Action.OVERWRITE: 1},
    )


def racing_overwrites(options: Options) -> Options:
    """Overwrites and deletes of one key meet the replicas in every order."""
    return three_nodes(
        options,
        latency_s=(0.0001, 0.1),
        think_s=0.02,
        keys=1,
        clients=3,
        actions={Action.OVERWRITE: 3, Action.DELETE: 1, Action.READ_MODIFY_WRITE: 1},
    )


def stand_ins(options: Options) -> Options:
    """A sloppy cluster of five that is cut and loses processes, and one disk."""
    return three_nodes(
        options,
        nodes=5,
        quorum=QuorumConfig(3, 2, 2, "sloppy"),
        expendable=("n1",),
        faults={Fault.KILL: 1, Fault.WIPE: 1, Fault.PARTITION: 2},
        fault_interval_s=0.3,
    )


def full_frames(options: Options) -> Options:
    """Many clients, whose requests travel several in a frame, and links that lose messages."""
    return three_nodes(
        options,
        gather_s=0.02,
        links=LinkQuality(loss=0.2),
        latency_s=(0.0001, 0.1),
        clients=10,
        keys=4,
        think_s=0.02,
        timeout_s=4.0,
        actions={Action.GET: 2, Action.OVERWRITE: 2, Action.BLIND: 1},
        actions_max=200,
    )


@dataclass(frozen=True)
class Case:
    """A variant, where it shows, and what it breaks."""

    variant: Variant
    breaks: set[int]
    within: int
    """Seeds."""
    start: int = 0
    circumstances: Circumstances = as_drawn

    def __str__(self) -> str:
        return self.variant.__name__


CASES = [
    Case(variants.actor_without_epoch, {2}, 20),
    Case(variants.copies_of_an_old_disk_keep_their_actor, {2}, 40, 0, restored_backups),
    Case(variants.clock_without_detached_dots, {4}, 10),
    Case(variants.context_widened_around_an_existing_dot, {1}, 20),
    Case(variants.delete_drops_the_row, {2, 8, 19}, 10),
    Case(variants.write_quorum_counts_a_node_twice, {19}, 10, 0, doubled_messages),
    Case(variants.merge_keeps_one_sibling, {1}, 10),
    Case(variants.answer_before_the_commit, {2, 19}, 40, 0, deaths),
    Case(variants.retry_mints_again, {4, 20}, 40, 20, pauses),
    Case(variants.one_dot_of_a_request_ends_alone, {8}, 10, 0, lost_coordinators),
    Case(variants.requests_are_forgotten_at_once, {8}, 10, 0, lost_coordinators),
    Case(variants.late_requests_are_served, {20}, 40, 0, pauses),
    Case(variants.repeated_forward_is_served_again, {6, 20, 21}, 40, 0, late_doubles),
    Case(variants.damaged_copy_counts_as_absence, {10}, 10, 0, bit_flips),
    Case(variants.miss_of_a_stand_in_counts_as_absence, {10}, 30, 8, stand_ins),
    Case(variants.hint_is_deleted_when_sent, {15}, 10),
    Case(variants.stand_in_keeps_no_hint, {1, 19}, 30, 30, stand_ins),
    Case(variants.blocking_read_trusts_r_answers, {11}, 10, 0, quiet_r_one),
    Case(variants.replacement_without_a_mark, {1, 4, 8}, 40, 0, racing_overwrites),
    Case(variants.replacement_supersedes_for_good, {0, 1, 4}, 40, 0, racing_overwrites),
    Case(variants.overwrite_trusts_its_own_copy, {6, 8}, 20, 70, racing_overwrites),
    Case(variants.what_replaced_a_damaged_copy_counts, {10}, 20, 0, damage_amid_cuts),
    Case(variants.restored_backup_is_taken_for_a_crash, {1, 2, 10}, 20, 0, restored_backups),
    Case(variants.batch_is_all_of_one_kind, {6, 10}, 20, 20, full_frames),
    Case(variants.trace_clocks_are_not_merged, {22}, 5),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_checkers_catch_a_broken_variant(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.variant(monkeypatch)
    for seed in range(case.start, case.start + case.within):
        violation = run_seed(seed, tamper=case.circumstances).violation
        if violation is not None:
            assert violation.number in case.breaks, violation
            return
    raise AssertionError(f"{case} passed {case.within} seeds")


def test_every_broken_variant_has_its_case() -> None:
    assert {case.variant for case in CASES} == set(variants.ALL)


@pytest.mark.parametrize("circumstances", list(dict.fromkeys(case.circumstances for case in CASES)))
def test_an_unbroken_cluster_breaks_no_promise_under_the_same_circumstances(
    circumstances: Circumstances,
) -> None:
    assert run_seed(1, tamper=circumstances).violation is None
