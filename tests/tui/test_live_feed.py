"""The live feed against real nodes: whatever happens to them, it goes on and tells the truth."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from kvctl.cluster.local_cluster import Cluster
from kvctl.view.condition import conditions_of
from kvctl.view.feed import FeedError
from kvctl.view.live_feed import LiveFeed, decode_event
from kvctl.view.observation import NodeAnswered, NodeEvent, Observation, ProcessWord
from kvctl.view.pace import Pace
from kvctl.view.process_lookup import ProcessLookup
from kvctl.view.reduce import reduce
from kvctl.view.state import ClusterView, Condition

DEADLINE_S = 15.0


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class Watcher:
    """A sink that reduces and remembers."""

    def __init__(self) -> None:
        self.view = ClusterView()
        self.observed: list[Observation] = []

    def observe(self, observation: Observation) -> None:
        self.observed.append(observation)
        self.view = reduce(self.view, observation)

    def replace(self, view: ClusterView) -> None:
        self.view = view

    async def until(self, condition: Callable[[ClusterView], object]) -> None:
        """Wait for the view to be so."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition(self.view):
                await asyncio.sleep(0.02)

    def answers_of(self, node: str) -> int:
        """How often a node has answered."""
        return sum(isinstance(one, NodeAnswered) and one.node == node for one in self.observed)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three nodes, shared; tests leave them up."""
    with Cluster(nodes=3) as running:
        yield running


def feed_of(cluster: Cluster) -> LiveFeed:
    return LiveFeed(
        cluster.name,
        clock=wall_clock_ms,
        look_up=ProcessLookup(cluster.name, cluster.home),
        home=cluster.home,
    )


def watch(cluster: Cluster, scenario: Callable[[Watcher], Awaitable[None]]) -> None:
    """Run a scenario while the feed runs."""

    async def run() -> None:
        watcher = Watcher()
        task = asyncio.create_task(feed_of(cluster).run(watcher))
        try:
            await watcher.until(is_all_up)
            await scenario(watcher)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def is_all_up(view: ClusterView) -> bool:
    """Three nodes, all up."""
    return len(view.nodes) == 3 and set(conditions_of(view).values()) == {Condition.UP}


def test_operations_of_other_clients_are_seen_once_with_their_replicas(cluster: Cluster) -> None:
    client = cluster.client()
    keys = [f"traced{number}" for number in range(12)]

    async def scenario(watcher: Watcher) -> None:
        for key in keys:
            await asyncio.to_thread(client.put, key, b"v")
        await asyncio.to_thread(client.get, "never written")
        await watcher.until(
            lambda view: {one.key for one in view.operations} >= {*keys, "never written"}
        )
        told = [one.key for one in watcher.view.operations if one.key in keys]
        assert sorted(told) == sorted(keys), "each once, though it is asked every second"
        for operation in watcher.view.operations:
            assert sorted(operation.asked) == ["n1", "n2", "n3"]
            assert operation.coordinator in operation.answered
        assert watcher.view.operations[-1].outcome == "not found"

    watch(cluster, scenario)


def test_a_node_that_stands_still_is_paused_and_delays_nobody(cluster: Cluster) -> None:
    async def scenario(watcher: Watcher) -> None:
        await asyncio.to_thread(cluster.pause, "n2")
        await watcher.until(lambda view: conditions_of(view)["n2"] is Condition.PAUSED)
        before = watcher.answers_of("n1")
        began_s = time.monotonic()
        await watcher.until(lambda view: watcher.answers_of("n1") >= before + 2)
        assert time.monotonic() - began_s < 4
        await asyncio.to_thread(cluster.resume, "n2")
        await watcher.until(is_all_up)

    watch(cluster, scenario)


def test_a_node_that_is_killed_is_dead_and_one_that_is_stopped_is_stopped(
    cluster: Cluster,
) -> None:
    async def scenario(watcher: Watcher) -> None:
        await asyncio.to_thread(cluster.kill, "n3")
        await watcher.until(lambda view: view.nodes["n3"].process is ProcessWord.DEAD)
        await asyncio.to_thread(cluster.start, "n3")
        await watcher.until(is_all_up)
        assert watcher.view.nodes["n3"].figures.generation >= 2
        await asyncio.to_thread(cluster.stop, "n3")
        await watcher.until(lambda view: view.nodes["n3"].process is ProcessWord.STOPPED)
        await asyncio.to_thread(cluster.start, "n3")
        await watcher.until(is_all_up)
        kinds = {one.kind for one in watcher.observed if isinstance(one, NodeEvent)}
        assert {"peer_unreachable", "member_suspected", "member_alive"} <= kinds

    watch(cluster, scenario)


def test_word_of_a_lost_or_found_peer_is_looked_into_before_the_next_round(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "until_next_round_s", lambda *_: 3600.0)

    async def scenario(watcher: Watcher) -> None:
        await asyncio.to_thread(cluster.kill, "n2")
        await watcher.until(lambda view: view.nodes["n2"].process is ProcessWord.DEAD)
        await asyncio.to_thread(cluster.start, "n2")
        await watcher.until(is_all_up)

    watch(cluster, scenario)


def test_the_first_event_after_a_quiet_time_has_all_nodes_asked(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "until_next_round_s", lambda *_: 3600.0)
    monkeypatch.setattr(Pace, "is_quiet", lambda *_: True)

    async def scenario(watcher: Watcher) -> None:
        await asyncio.to_thread(lambda: cluster.set_quorum(r=1))
        await watcher.until(lambda _: all(watcher.answers_of(name) > 1 for name in cluster.nodes))
        await asyncio.to_thread(lambda: cluster.set_quorum(r=2))

    watch(cluster, scenario)


def test_hints_and_quorum_of_the_nodes_are_seen(cluster: Cluster) -> None:
    client = cluster.client()

    async def scenario(watcher: Watcher) -> None:
        await asyncio.to_thread(cluster.kill, "n1")
        await watcher.until(lambda view: conditions_of(view)["n1"] is Condition.DOWN)
        for number in range(5):
            await asyncio.to_thread(client.put, f"key{number}", b"v")
        await watcher.until(lambda view: view.hints_total > 0)
        assert {target for _, target in watcher.view.hints} == {"n1"}
        await asyncio.to_thread(cluster.start, "n1")
        await watcher.until(lambda view: is_all_up(view) and view.hints_total == 0)
        await asyncio.to_thread(lambda: cluster.set_quorum(r=1))
        await watcher.until(lambda view: view.quorum.r == 1)
        await asyncio.to_thread(lambda: cluster.set_quorum(r=2))
        await watcher.until(lambda view: view.quorum.r == 2)

    watch(cluster, scenario)


def test_a_cluster_that_does_not_exist_is_told(cluster: Cluster) -> None:
    feed = LiveFeed(
        "nosuch",
        clock=wall_clock_ms,
        look_up=lambda node: ProcessWord.DEAD,
        home=cluster.home,
    )
    with pytest.raises(FeedError, match="nosuch"):
        asyncio.run(feed.run(Watcher()))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b'{"at": 1}',
        b'{"at":1,"node":"n1","generation":"x","seq":1,"kind":"k"}',
        b"\xff",
    ],
)
def test_bytes_that_are_no_event_are_left_out(line: bytes) -> None:
    assert decode_event(line) is None


def test_an_event_keeps_its_fields_apart_from_its_place() -> None:
    line = b'{"at":5,"node":"n1","generation":2,"seq":7,"kind":"hint_stored","target":"n3"}'
    assert decode_event(line) == NodeEvent(5, "n1", 2, 7, "hint_stored", {"target": "n3"})


def test_an_event_brings_its_trace_clock_less_what_is_no_count() -> None:
    head = b'{"at":5,"node":"n1","generation":2,"seq":7,"kind":"k","clock":'
    event = decode_event(head + b'{"n1":7,"n2":3,"n3":"x","n4":-1}}')
    assert event == NodeEvent(5, "n1", 2, 7, "k", {}, {"n1": 7, "n2": 3})
    assert decode_event(head + b"4}") == NodeEvent(5, "n1", 2, 7, "k", {}, {})
