"""The pages of hints and of Merkle trees."""

from __future__ import annotations

import pytest

from kvctl.view.merkle_descent import Child, KeySeen, Level, LevelSeen, Place
from kvctl.view.observation import Observation
from tests.tui.dashboard_pilot import (
    Dashboard,
    FakeReader,
    assert_snapshot,
    busy_cluster,
    run_dashboard,
)
from tests.unit.view.cluster_story import BEGAN_MS, answered, silent

SIZES = [(80, 24), (120, 35), (200, 60)]


def queue(count: int, delivered: int = 0, **more: object) -> dict[str, object]:
    return {
        "target": "n3",
        "count": count,
        "bytes": 40 * count,
        "oldest_ms": 8000,
        "delivered": delivered,
        "held": False,
        **more,
    }


def hints(*, held: bool = False) -> list[Observation]:
    """A queue that drains, and one that stands still."""
    return [
        *busy_cluster(),
        silent("n3", BEGAN_MS + 2500),
        answered("n4", BEGAN_MS + 2500, hints=[queue(80, held=held)]),
        answered("n5", BEGAN_MS + 2500, hints=[queue(7, held=held)]),
        answered("n4", BEGAN_MS + 3000, hints=[queue(40, 40, held=held)]),
    ]


def compared(state: str, **more: object) -> dict[str, object]:
    return {
        "a": "n1",
        "b": "n2",
        "state": state,
        "level": "leaves",
        "partitions": 20,
        "leaves_differing": 3,
        "keys_differing": 4,
        "bytes": 2048,
        "full_copy_bytes": 90_000,
        "finished": state != "comparing",
        **more,
    }


def merkle() -> list[Observation]:
    done = compared("repaired", b="n5", keys_repaired=4, last_success_ms=BEGAN_MS, level="done")
    return [
        *busy_cluster(),
        answered("n1", BEGAN_MS + 2500, repair=[compared("comparing"), done]),
    ]


def tree() -> FakeReader:
    """n1 and n2 differ in one key of leaf 17 of partition 34."""
    root = Place(("n1", "n2"))
    groups, partitions = (Place(root.pair, Level(level), 0) for level in (1, 2))
    leaves, keys = Place(root.pair, Level.LEAVES, 3), Place(root.pair, Level.KEYS, 3 * 64 + 17)
    same, other = "a" * 32, "b" * 32
    reader = FakeReader()
    reader.levels = {
        root: LevelSeen(root, (Child(0, (same, other)),)),
        groups: LevelSeen(groups, (Child(0, (same, other)), Child(1, (same, same)))),
        partitions: LevelSeen(
            partitions, tuple(Child(n, (same, other if n == 3 else same)) for n in range(20))
        ),
        leaves: LevelSeen(
            leaves,
            tuple(Child(3 * 64 + n, (same, other if n == 17 else same)) for n in range(64)),
        ),
        keys: LevelSeen(
            keys,
            keys=(
                KeySeen("user:1", ("1", None), ("n1:2 n2:1", None)),
                KeySeen("user:9", ("2", "2"), ("n4:1", "n4:1")),
            ),
        ),
    }
    return reader


def test_a_queue_that_drains_says_how_fast_and_until_when() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("4")
        row = next(line for line in dashboard.lines if line.startswith("n4"))
        assert row.split()[-4:-1] == ["8.0s", "80.0", "0.5s"]

    run_dashboard(scenario, *hints())


def test_f_pushes_h_holds_and_u_undoes_the_hold() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("4", "f")
        await dashboard.until(lambda: "kvctl handoff n4" in dashboard.notice)
        await dashboard.press("h")
        await dashboard.until(lambda: "kvctl hints hold" in dashboard.notice)
        await dashboard.press("u")
        await dashboard.until(lambda: "kvctl hints release" in dashboard.notice)
        assert dashboard.handle.calls == [
            ("push_hints", ["n4"]),
            ("hold_hints", True),
            ("hold_hints", False),
        ]

    run_dashboard(scenario, *hints())


def test_h_releases_what_is_held_and_r_starts_the_target() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("4")
        assert "held" in dashboard.text
        await dashboard.press("h", "r")
        await dashboard.until(lambda: len(dashboard.handle.calls) == 2)
        assert dashboard.handle.calls == [("hold_hints", False), ("start", "n3")]

    run_dashboard(scenario, *hints(held=True))


def test_the_ages_of_comparisons_change_together_and_not_every_second() -> None:
    began_ms = BEGAN_MS - BEGAN_MS % 10_000
    now_ms = began_ms
    compared_s = {"n2": 3, "n5": 8}
    seen = [
        compared("repaired", b=b, last_success_ms=began_ms + at * 1000, level="done")
        for b, at in compared_s.items()
    ]

    async def scenario(dashboard: Dashboard) -> None:
        nonlocal now_ms
        ages = []
        await dashboard.press("5")
        for second in range(10, 42):
            now_ms = began_ms + second * 1000
            await dashboard.settle()
            rows = [line.split() for line in dashboard.lines if line.startswith("n1-n")]
            ages.append(tuple(row[-1] for row in rows if row[0][3:] in compared_s))
        assert ages == [
            *[("<10s", "<10s")] * 3,
            *[("10s", "<10s")] * 5,
            *[("10s", "10s")] * 2,
            *[("20s", "20s")] * 10,
            *[("30s", "30s")] * 10,
            *[("40s", "40s")] * 2,
        ]

    told = [*busy_cluster(), answered("n1", began_ms + 10_000, repair=seen)]
    run_dashboard(scenario, *told, clock=lambda: now_ms)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_hints_and_merkle_trees_at_every_size(size: tuple[int, int]) -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("4")
        assert_snapshot(f"hints-{size[0]}x{size[1]}", dashboard.text)
        await dashboard.press("5")
        await dashboard.look_up()
        await dashboard.press("enter", "enter")
        await dashboard.look_up()
        assert_snapshot(f"merkle-{size[0]}x{size[1]}", dashboard.text)

    run_dashboard(scenario, *hints(), *merkle()[-1:], size=size, reader=tree())


def test_the_tree_is_descended_to_the_key_that_differs_and_left_again() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        async def enter(*keys: str) -> None:
            await dashboard.press(*keys, "enter")
            await dashboard.look_up()

        await dashboard.press("5")
        await dashboard.look_up()
        await enter("enter")
        assert "1 of 2 differ" in dashboard.text
        await enter()
        assert "1 of 20 differ" in dashboard.text
        await enter(*["down"] * 3)
        assert "partition 3" in dashboard.text and "1 of 64 differ" in dashboard.text
        await enter("pagedown", *["down"] * 7)
        line = next(line for line in dashboard.lines if line.startswith("user:1"))
        assert line.split() == ["user:1", "differs", "n1:2", "n2:1", "missing"]
        await dashboard.press("enter")  # below the keys there is nothing
        assert "user:1" in dashboard.text
        await dashboard.press("backspace")
        await dashboard.look_up()
        assert dashboard.app.page.query_one("#tree").cursor_key == str(3 * 64 + 17)
        for _ in range(3):
            await dashboard.press("backspace")
            await dashboard.look_up()
        assert "root  1 of 1 differ" in dashboard.text

    run_dashboard(scenario, *merkle(), reader=tree())


def test_a_tree_that_cannot_be_asked_for_says_why() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("5", "down")
        await dashboard.look_up()
        assert "n2 does not answer" in dashboard.text

    run_dashboard(scenario, *merkle(), reader=tree())


def test_a_late_answer_about_another_place_is_not_shown() -> None:
    reader = tree()
    late = reader.levels[Place(("n1", "n2"))]

    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("5")
        await dashboard.look_up()
        await dashboard.press("enter", "enter")
        dashboard.app.page.take(late)
        await dashboard.settle()
        assert "asking both" in dashboard.text
        await dashboard.look_up()
        dashboard.app.page.take(late)
        await dashboard.settle()
        assert "1 of 2 differ" in dashboard.text

    run_dashboard(scenario, *merkle(), reader=reader)


def test_m_compares_the_pair_and_shift_r_repairs() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("5", "down", "m")
        await dashboard.until(lambda: "kvctl merkle n1 n3" in dashboard.notice)
        await dashboard.press("R")
        await dashboard.until(lambda: "kvctl repair n1" in dashboard.notice)
        assert dashboard.handle.calls == [("compare", "n1", "n3"), ("repair", ["n1"])]

    run_dashboard(scenario, *merkle(), reader=tree())


def test_the_same_is_done_by_command() -> None:
    calls = {
        "hints hold": ("hold_hints", True),
        "handoff n4": ("push_hints", ["n4"]),
        "merkle n1 n2": ("compare", "n1", "n2"),
        "repair": ("repair", []),
        "link n1>n2 --drop": ("cut_links", ["n1>n2"]),
    }

    async def scenario(dashboard: Dashboard) -> None:
        for command in calls:
            dashboard.app.run_command(command)
        await dashboard.until(lambda: len(dashboard.handle.calls) == len(calls))
        assert dashboard.handle.calls == list(calls.values())

    run_dashboard(scenario, *merkle())
