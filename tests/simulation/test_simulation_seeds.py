"""Runs of the simulation: some fixed seeds, and every seed that ever found something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.options import Fault, draw_options
from tests.simulation.pinned_seeds import PINNED_SEEDS
from tests.simulation.simulation import explain, run_seed

FIXED_SEEDS = range(20_000, 20_015)
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", [*FIXED_SEEDS, *PINNED_SEEDS])
def test_no_promise_is_broken_in_the_run_of_a_seed(seed: int) -> None:
    outcomes = run_seed(seed)
    assert outcomes.violation is None, explain(outcomes)


def test_the_fixed_seeds_are_not_idle() -> None:
    runs = [run_seed(seed) for seed in FIXED_SEEDS[:5]]
    assert sum(run.acked for run in runs) > 50
    assert sum(run.reads for run in runs) > 20
    assert any(run.options.faults for run in runs)


def fingerprint(seed: int, hash_seed: str) -> str:
    """Of a run in a process of its own."""
    program = (
        f"from tests.simulation.simulation import run_seed; print(run_seed({seed}).fingerprint)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


def test_a_seed_replays_exactly_in_another_process_with_another_hash_seed() -> None:
    seed = 20_003
    first = run_seed(seed).fingerprint
    assert run_seed(seed).fingerprint == first
    assert fingerprint(seed, "1") == fingerprint(seed, "2") == str(first)


def test_options_are_valid_and_vary_from_seed_to_seed() -> None:
    drawn = [draw_options(seed) for seed in range(300)]
    for options in drawn:
        options.config().validate()
        assert len(options.expendable) < options.quorum.w
    assert {options.nodes for options in drawn} == {2, 3, 4, 5, 6, 7}
    assert {options.quorum.mode for options in drawn} == {"strict", "sloppy"}
    assert {fault for options in drawn for fault in options.faults} == set(Fault)
