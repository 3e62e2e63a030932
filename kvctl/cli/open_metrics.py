"""Figures of the nodes in the OpenMetrics text format, as a scraper reads it.

    # TYPE kvctl_keys gauge
    # HELP kvctl_keys Keys the node holds a copy of.
    kvctl_keys{cluster="default",node="n1"} 1042
    ...
    # EOF

All samples of one metric stand together, a counter's end in `_total`, names carry their unit last.
Source: the OpenMetrics 1.0 specification.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from kvctl.cluster.facts import NODE_STATES, ClusterStatus, NodeStatus

GAUGE = "gauge"
COUNTER = "counter"
Figures = Mapping[str, Any]


class Sample(NamedTuple):
    """One value with the labels it has besides cluster and node."""

    value: float
    labels: tuple[tuple[str, str], ...] = ()


class Metric(NamedTuple):
    """A metric and where its samples come from."""

    name: str
    kind: str
    help: str
    samples: Callable[[Figures], Iterator[Sample]]
    """From a node's snapshot; yields nothing if the node did not say."""


def _at(snapshot: Figures, path: tuple[str, ...]) -> Any:
    value: Any = snapshot
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _one(*path: str) -> Callable[[Figures], Iterator[Sample]]:
    """The number at a place of the snapshot."""

    def samples(snapshot: Figures) -> Iterator[Sample]:
        value = _at(snapshot, path)
        if isinstance(value, int | float):
            yield Sample(float(value))

    return samples


SOCKETS = ("peers", "clients")


def _traffic(counter: str) -> Callable[[Figures], Iterator[Sample]]:
    """One counter of both sorts of traffic."""

    def samples(snapshot: Figures) -> Iterator[Sample]:
        for socket in SOCKETS:
            value = _at(snapshot, ("transport", socket, counter))
            if isinstance(value, int):
                yield Sample(float(value), (("socket", socket),))

    return samples


def _traffic_by_reason(counter: str) -> Callable[[Figures], Iterator[Sample]]:
    """A counter that is kept by reason, of both sorts of traffic."""

    def samples(snapshot: Figures) -> Iterator[Sample]:
        for socket in SOCKETS:
            reasons = _at(snapshot, ("transport", socket, counter))
            for reason, count in sorted(reasons.items()) if reasons else ():
                yield Sample(float(count), (("socket", socket), ("reason", str(reason))))

    return samples


def _peers(snapshot: Figures) -> Iterator[Sample]:
    for peer, seen in sorted(snapshot.get("peers", {}).items()):
        yield Sample(float(bool(seen.get("reachable"))), (("peer", peer),))


NODE_METRICS: tuple[Metric, ...] = (
    Metric("kvctl_keys", GAUGE, "Keys the node holds a copy of, an estimate.", _one("keys")),
    Metric("kvctl_hints", GAUGE, "Hints the node keeps for others.", _one("hints")),
    Metric("kvctl_conflicts", GAUGE, "Keys with siblings.", _one("conflicts")),
    Metric("kvctl_requests_in_flight", GAUGE, "Requests being coordinated.", _one("in_flight")),
    Metric("kvctl_generation", GAUGE, "How often the node has started.", _one("generation")),
    Metric("kvctl_accepts_writes", GAUGE, "1 while the node takes writes.", _one("accepts_writes")),
    Metric("kvctl_peer_reachable", GAUGE, "1 while the node can reach the peer.", _peers),
    Metric("kvctl_memtable_keys", GAUGE, "Keys in the memtable.", _one("storage", "memtable_keys")),
    Metric(
        "kvctl_memtable_bytes",
        GAUGE,
        "Size of the memtable.",
        _one("storage", "memtable_bytes"),
    ),
    Metric(
        "kvctl_frozen_memtables",
        GAUGE,
        "Memtables waiting for a flush.",
        _one("storage", "frozen_memtables"),
    ),
    Metric(
        "kvctl_commit_log_bytes", GAUGE, "Size of the commit log.", _one("storage", "log_bytes")
    ),
    Metric("kvctl_sstables", GAUGE, "SSTables in use.", _one("storage", "sstables")),
    Metric("kvctl_sstable_bytes", GAUGE, "Size of all SSTables.", _one("storage", "sstable_bytes")),
    Metric(
        "kvctl_bloom_negatives",
        COUNTER,
        "SSTables not opened because of their Bloom filter.",
        _one("storage", "bloom_negatives"),
    ),
    Metric(
        "kvctl_bloom_hits",
        COUNTER,
        "SSTables opened that held the key.",
        _one("storage", "bloom_hits"),
    ),
    Metric(
        "kvctl_bloom_false_positives",
        COUNTER,
        "SSTables opened in vain.",
        _one("storage", "bloom_false_positives"),
    ),
    Metric("kvctl_flushes", COUNTER, "Memtables flushed.", _one("storage", "flushes")),
    Metric("kvctl_compactions", COUNTER, "Compactions done.", _one("storage", "compactions")),
    Metric(
        "kvctl_compaction_due",
        GAUGE,
        "1 while SSTables are being merged, or wait for a quiet time to be.",
        _one("storage", "compaction_due"),
    ),
    Metric(
        "kvctl_corrupt_records",
        COUNTER,
        "Records whose checksum failed.",
        _one("storage", "corrupt_records"),
    ),
    Metric(
        "kvctl_unproven_partitions",
        GAUGE,
        "Partitions being rebuilt, in which the node counts in no read.",
        _one("unproven_partitions"),
    ),
    Metric(
        "kvctl_doubted_copies",
        GAUGE,
        "Copies that replaced damaged ones and were not yet compared.",
        _one("doubted_copies"),
    ),
    Metric(
        "kvctl_stale_requests",
        COUNTER,
        "Requests of peers not acted on, being past their deadline.",
        _one("stale_requests"),
    ),
    Metric("kvctl_uptime_seconds", GAUGE, "How long the node has run.", _one("uptime_s")),
    Metric("kvctl_cpu_seconds", COUNTER, "Processor time of the node.", _one("cpu_s")),
    Metric("kvctl_resident_bytes", GAUGE, "Memory of the node.", _one("rss_bytes")),
    Metric(
        "kvctl_huge_page_bytes",
        GAUGE,
        "Memory of the node in large pages, when it was last gone through.",
        _one("huge_page_bytes"),
    ),
    Metric("kvctl_turns", COUNTER, "Turns of the node's loop.", _one("turns")),
    Metric(
        "kvctl_messages_received",
        COUNTER,
        "Messages received, by socket.",
        _traffic("messages_in"),
    ),
    Metric(
        "kvctl_messages_sent",
        COUNTER,
        "Messages sent, by socket; to clients, one may answer several requests.",
        _traffic("messages_out"),
    ),
    Metric("kvctl_frames_received", COUNTER, "Frames received.", _traffic("frames_in")),
    Metric("kvctl_frames_sent", COUNTER, "Frames sent.", _traffic("frames_out")),
    Metric("kvctl_received_bytes", COUNTER, "Bytes received in frames.", _traffic("bytes_in")),
    Metric("kvctl_sent_bytes", COUNTER, "Bytes sent in frames.", _traffic("bytes_out")),
    Metric(
        "kvctl_messages_dropped",
        COUNTER,
        "Messages not sent, by reason.",
        _traffic_by_reason("dropped"),
    ),
    Metric(
        "kvctl_frames_malformed",
        COUNTER,
        "Frames not handled, by reason.",
        _traffic_by_reason("malformed"),
    ),
    Metric(
        "kvctl_handshakes_refused",
        COUNTER,
        "Connections without a key that is allowed.",
        _one("transport", "handshakes_refused"),
    ),
)


def exposition(status: ClusterStatus) -> str:
    """The whole text, the end mark included."""
    lines = [*_state_lines(status), *_quorum_lines(status)]
    for metric in NODE_METRICS:
        lines += _metric_lines(metric, status)
    lines.append("# EOF")
    return "\n".join(lines) + "\n"


def _metric_lines(metric: Metric, status: ClusterStatus) -> list[str]:
    samples = [
        (node, sample)
        for node in status.nodes
        if node.snapshot is not None
        for sample in metric.samples(node.snapshot)
    ]
    if not samples:
        return []
    name = f"{metric.name}_total" if metric.kind == COUNTER else metric.name
    return [
        *_head(metric.name, metric.kind, metric.help),
        *(
            f"{name}{_labels(status.cluster, node.id, sample.labels)} {_number(sample.value)}"
            for node, sample in samples
        ),
    ]


def _state_lines(status: ClusterStatus) -> Iterator[str]:
    """A stateset: one sample per node and state, 1 for the state it is in."""
    yield from _head("kvctl_node_state", "stateset", "The state of the node.")
    for node in status.nodes:
        for state in NODE_STATES:
            labels = _labels(status.cluster, node.id, (("kvctl_node_state", state),))
            yield f"kvctl_node_state{labels} {int(node.state == state)}"
    yield from _head(
        "kvctl_node_share_ratio", GAUGE, "Part of all replicas the node owns.", "ratio"
    )
    for node in status.nodes:
        yield _plain_gauge("kvctl_node_share_ratio", status, node, node.share)


def _plain_gauge(name: str, status: ClusterStatus, node: NodeStatus, value: float) -> str:
    return f"{name}{_labels(status.cluster, node.id, ())} {_number(value)}"


def _quorum_lines(status: ClusterStatus) -> Iterator[str]:
    yield from _head("kvctl_quorum", GAUGE, "N, R and W of the cluster.")
    quorum = status.quorum
    for letter, value in (("n", quorum.n), ("r", quorum.r), ("w", quorum.w)):
        labels = _label_set((("cluster", status.cluster), ("parameter", letter)))
        yield f"kvctl_quorum{labels} {value}"


def _head(name: str, kind: str, text: str, unit: str = "") -> list[str]:
    unit_line = [f"# UNIT {name} {unit}"] if unit else []
    return [f"# TYPE {name} {kind}", *unit_line, f"# HELP {name} {text}"]


def _labels(cluster: str, node: str, more: tuple[tuple[str, str], ...]) -> str:
    return _label_set((("cluster", cluster), ("node", node), *more))


def _label_set(labels: tuple[tuple[str, str], ...]) -> str:
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
