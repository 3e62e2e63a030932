"""The configuration of a cluster: one document, read by kvctl and by every node.

A person writes a TOML file (see `sample_configs/`); `kvctl up` completes it with identities and
ports and keeps it as `cluster.json` in the cluster's directory. Both are the same `ClusterConfig`.
Unknown fields, wrong types and contradictions are refused at the door with `ConfigError`.

Units stand last in every name: `_ms` milliseconds, `_bytes`, `_s` seconds.
"""

from __future__ import annotations

import re
from enum import IntEnum
from pathlib import Path

import msgspec

from kvctl_node.documents import UNREADABLE, plain_text, why_unreadable
from kvctl_node.errors import ConfigError

NAME_PATTERN = re.compile(r"[a-z][a-z0-9-]{0,31}\Z")
ZONE_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
RESERVED_NAME = "client"
"""Not a node's: it is the name of the key that all clients share."""
PARTITIONS_MAX = 1 << 16
NODES_MAX = 256


class QuorumMode(IntEnum):
    """Who may count toward W and R."""

    DEFAULT = 0
    """On a request: whatever the cluster is set to."""
    STRICT = 1
    """Only the first N owners: a minority side answers `unavailable`."""
    SLOPPY = 2
    """The first healthy nodes clockwise; stand-ins keep hints."""

    @classmethod
    def parse(cls, text: str) -> QuorumMode:
        """`strict` or `sloppy`; raises `ConfigError` on anything else."""
        if text not in ("strict", "sloppy"):
            raise ConfigError(f"mode must be strict or sloppy, not {text!r}.")
        return cls[text.upper()]


class QuorumConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """N replicas per key, W acknowledgements per write, R answers per read. 1 <= R, W <= N."""

    n: int = 3
    r: int = 2
    w: int = 2
    mode: str = "sloppy"

    def validate(self) -> None:
        """Raises `ConfigError` when the numbers contradict each other."""
        if self.n < 1:
            raise ConfigError(f"N must be at least 1, not {self.n}.")
        for letter, value in (("R", self.r), ("W", self.w)):
            if not 1 <= value <= self.n:
                raise ConfigError(
                    f"{letter} must be between 1 and N={self.n}, not {value}.",
                    hint=f"choose {letter.lower()} from 1 to {self.n}, or raise the replica count.",
                )
        QuorumMode.parse(self.mode)


class StorageConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where acknowledged data lives until it is compacted."""

    durability: str = "os"
    """`os` survives kill -9; `fsync` survives power loss and costs a disk sync per turn."""
    memtable_bytes: int = 16 * 1024 * 1024
    """A memtable this large is frozen and flushed. Memory, overheads included, not payload."""
    frozen_memtables_max: int = 4
    """With this many waiting for a flush, the node refuses writes instead of growing."""
    compaction_fanout: int = 8
    """At least so many SSTables of similar size are merged into one. With 8 a record is rewritten
    less often than with 4: at a million keys a put cost 0.87 of the processor time. In exchange a
    read has more Bloom filters to ask."""
    bloom_bits_per_key: int = 24
    """24 bits give 0.16 % false positives or less (`kvctl_node.storage.bloom_filter`). Each is
    dear: a new key that some table may hold is put by itself instead of with all others of its
    frame."""
    disk_reserve_bytes: int = 32 * 1024 * 1024
    """With less free disk than this, writes are refused and reads go on."""
    database_bytes_max: int = 0
    """Upper bound on the commit log database, 0 for none; mainly to rehearse a full disk."""

    def validate(self) -> None:
        """Raises `ConfigError` when a value is out of its range."""
        if self.durability not in ("os", "fsync"):
            raise ConfigError(f"durability must be os or fsync, not {self.durability!r}.")
        for name, least in (
            ("memtable_bytes", 4096),
            ("frozen_memtables_max", 1),
            ("compaction_fanout", 2),
            ("bloom_bits_per_key", 1),
            ("disk_reserve_bytes", 0),
            ("database_bytes_max", 0),
        ):
            if getattr(self, name) < least:
                raise ConfigError(f"storage.{name} must be at least {least}.")


RECORD_OVERHEAD_BYTES = 64 * 1024
"""More than the clock of a record with one value takes."""


class LimitsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named limit for everything that could otherwise grow."""

    key_bytes_max: int = 1024
    value_bytes_max: int = 1024 * 1024
    siblings_max: int = 64
    """More concurrent versions than this and further blind puts are refused: `overloaded`."""
    requests_in_flight_max: int = 4096
    """Client requests one node coordinates at once; beyond it answers `overloaded`."""
    frame_bytes_max: int = 8 * 1024 * 1024
    """Largest frame accepted from a socket; larger ones close that connection."""
    frames_queued_max: int = 1000
    """High-water mark of every socket, in frames; beyond it peer traffic is dropped and counted."""
    clock_entries: int = 20
    """Version vectors longer than this lose their oldest entries where that is safe."""
    hints_bytes_max: int = 256 * 1024 * 1024
    """Objects kept for other nodes; beyond it a node refuses to stand in: `overloaded`."""
    handoff_in_flight_max: int = 64
    """Hints sent to one returning node and not yet acknowledged."""
    handoff_per_s: int = 4000
    """Hints pushed to one returning node per second, so that it is not flooded."""
    recent_requests_max: int = 32
    """Request ids remembered per key, so that retries do not apply twice."""

    @property
    def record_bytes_max(self) -> int:
        """A put may not make a record larger than this by leaving siblings.

        A record travels in one frame. Three sides of a partition may each bring it up to here, and
        what they merge to can still be read and repaired.
        """
        return max(self.frame_bytes_max // 3, self.value_bytes_max + RECORD_OVERHEAD_BYTES)

    def validate(self, quorum_n: int) -> None:
        """Raises `ConfigError` when a limit is below what the protocol needs."""
        for name in (
            "key_bytes_max",
            "value_bytes_max",
            "siblings_max",
            "requests_in_flight_max",
            "frames_queued_max",
            "recent_requests_max",
            "hints_bytes_max",
            "handoff_in_flight_max",
            "handoff_per_s",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"limits.{name} must be at least 1.")
        if self.frame_bytes_max < 2 * self.value_bytes_max:
            raise ConfigError("limits.frame_bytes_max must be at least twice value_bytes_max.")
        least = 2 * quorum_n + 4
        if self.clock_entries < least:
            raise ConfigError(
                f"limits.clock_entries must be at least 2N+4 = {least}, not {self.clock_entries}.",
                hint="a shorter clock forgets entries that concurrent coordinators still use.",
            )


class TimingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Intervals and timeouts. Whoever scales one down for a demo keeps their ratios."""

    gossip_interval_ms: int = 1000
    """Each node raises its heartbeat, gossips and probes its peers this often."""
    suspect_after_ms: int = 4000
    """Without a newer heartbeat for this long, by whatever path, a member is suspect (clusters of
    more than ten wait longer, see `kvctl_node.membership.failure_detector`)."""
    link_dead_after_ms: int = 2500
    """A probe unanswered for this long means a dead link; a closed connection means it at once."""
    replica_timeout_ms: int = 2000
    """How long a coordinator collects replica answers at most, within the client's deadline."""
    retry_window_ms: int = 120_000
    """Request ids are remembered at least this long; a client never retries later than that."""
    handoff_interval_ms: int = 1000
    """How often waiting hints are looked at, besides when their target returns."""
    hint_ttl_ms: int = 3 * 60 * 60 * 1000
    """Hints that did not count toward W are dropped after this long; Merkle repair takes over."""
    clock_skew_ms: int = 500
    """How far apart clocks may be without harm. A node whose clock is further off than half of it
    goes by the majority's (`kvctl_node.membership.cluster_clock`)."""

    def validate(self) -> None:
        """Raises `ConfigError` when intervals contradict each other."""
        for name in ("gossip_interval_ms", "replica_timeout_ms", "retry_window_ms"):
            if getattr(self, name) < 1:
                raise ConfigError(f"timing.{name} must be at least 1.")
        if self.link_dead_after_ms < 2 * self.gossip_interval_ms:
            raise ConfigError("timing.link_dead_after_ms must be at least two gossip intervals.")
        if self.suspect_after_ms < self.link_dead_after_ms + self.gossip_interval_ms:
            raise ConfigError(
                "timing.suspect_after_ms must be at least link_dead_after_ms plus one gossip "
                "interval.",
                hint="a member is asked directly, and given time to answer, before it is accused.",
            )


class RepairConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Anti-entropy by Merkle trees, and the forgetting of tombstones."""

    compare_interval_ms: int = 60_000
    """Each pair of nodes compares its trees this often in the background; 0: by command only."""
    recheck_pause_ms: int = 5_000
    """In the background only what differs twice, this far apart, is repaired."""
    keys_per_s: int = 20_000
    """Keys one node reads, lists and exchanges for its comparisons at most; each takes some ten
    microseconds."""
    bytes_per_s: int = 16 * 1024 * 1024
    """Content one node exchanges for its comparisons at most."""
    rebuild_interval_ms: int = 6 * 60 * 60 * 1000
    """The tree is built anew this often, reading every record and its checksum."""
    reap_grace_ms: int = 24 * 60 * 60 * 1000
    """Tombstones younger than this are never forgotten; longer than any hint lives."""
    reap_interval_ms: int = 10 * 60 * 1000
    """How often a node looks for tombstones that may be forgotten; 0: never."""

    def validate(self, timing: TimingConfig) -> None:
        """Raises `ConfigError` when a value contradicts another."""
        for name in ("keys_per_s", "bytes_per_s", "rebuild_interval_ms"):
            if getattr(self, name) < 1:
                raise ConfigError(f"repair.{name} must be at least 1.")
        for name in ("compare_interval_ms", "reap_interval_ms"):
            if getattr(self, name) < 0:
                raise ConfigError(f"repair.{name} must not be negative.")
        if self.recheck_pause_ms <= timing.replica_timeout_ms:
            raise ConfigError(
                "repair.recheck_pause_ms must be longer than timing.replica_timeout_ms.",
                hint="what a write has not reached yet would be taken for a difference.",
            )
        if self.reap_grace_ms <= timing.hint_ttl_ms + timing.retry_window_ms:
            raise ConfigError(
                "repair.reap_grace_ms must be longer than timing.hint_ttl_ms and "
                "retry_window_ms together.",
                hint="a late hint could bring back what was deleted.",
            )


class NodeSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One server: its name, its place in the ring, and (0 until chosen) its ports."""

    name: str
    capacity: float = 1.0
    """Relative: a server of capacity 2 owns twice as many virtual nodes as one of capacity 1."""
    zone: str = ""
    """Failure domain; "" puts the node in a zone of its own."""
    host: str = "127.0.0.1"
    client_port: int = 0
    peer_port: int = 0
    event_port: int = 0

    def validate(self) -> None:
        """Raises `ConfigError` when a field is out of its range."""
        if not NAME_PATTERN.match(self.name):
            raise ConfigError(
                f"{self.name!r} is not a node name.",
                hint="names are a letter, then up to 31 letters, digits or dashes, lower case.",
            )
        if self.name == RESERVED_NAME:
            raise ConfigError(f"{self.name!r} cannot be a node's name: the clients' key has it.")
        if self.zone and not ZONE_PATTERN.match(self.zone):
            raise ConfigError(
                f"the zone of {self.name} cannot be {self.zone!r}.",
                hint="zones are up to 64 letters, digits, dots, dashes or underscores.",
            )
        if not _is_ipv4(self.host):
            raise ConfigError(
                f"the host of {self.name} must be an IPv4 address, not {self.host!r}.",
                hint="for example 127.0.0.1, which only this machine can reach.",
            )
        if not 0.01 <= self.capacity <= 1000:
            raise ConfigError(
                f"the capacity of {self.name} must be from 0.01 to 1000, not {self.capacity}."
            )
        for port in (self.client_port, self.peer_port, self.event_port):
            if not 0 <= port <= 65535:
                raise ConfigError(f"{port} is not a port number.")
        chosen = [port for port in self.ports if port]
        if len(set(chosen)) != len(chosen):
            raise ConfigError(f"{self.name} is given one port twice: {chosen}.")

    @property
    def ports(self) -> tuple[int, int, int]:
        """Client, peer and event port."""
        return self.client_port, self.peer_port, self.event_port

    @property
    def client_endpoint(self) -> str:
        """Where clients connect."""
        return f"tcp://{self.host}:{self.client_port}"

    @property
    def peer_endpoint(self) -> str:
        """Where other nodes connect."""
        return f"tcp://{self.host}:{self.peer_port}"

    @property
    def event_endpoint(self) -> str:
        """Where subscribers to events connect."""
        return f"tcp://{self.host}:{self.event_port}"


class ClusterConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole cluster. `cluster_id` is "" in a file a person wrote, set once by `kvctl up`."""

    nodes: tuple[NodeSpec, ...]
    quorum: QuorumConfig = QuorumConfig()
    partitions: int = 1024
    """Q, the equal partitions of the circle; fixed for the cluster's life. A power of two."""
    storage: StorageConfig = StorageConfig()
    limits: LimitsConfig = LimitsConfig()
    timing: TimingConfig = TimingConfig()
    repair: RepairConfig = RepairConfig()
    cluster_id: str = ""
    name: str = ""
    former_clusters: tuple[str, ...] = ()
    """Ids of the clusters whose directory this one's was copied from, oldest first."""
    made_at: str = ""
    """Where kvctl made the directory: tells it from a copy (`kvctl.cluster.copied_cluster`). "":
    not to be compared, as on a second host."""

    def validate(self) -> None:
        """Raises `ConfigError` with the first contradiction found."""
        if not self.nodes:
            raise ConfigError("a cluster needs at least one node.")
        if len(self.nodes) > NODES_MAX:
            raise ConfigError(f"{len(self.nodes)} nodes; at most {NODES_MAX} are supported.")
        names = [spec.name for spec in self.nodes]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f"the node name {twice} is used twice.")
        for spec in self.nodes:
            spec.validate()
        self._validate_ports()
        self.quorum.validate()
        if self.quorum.n > len(self.nodes):
            raise ConfigError(
                f"N={self.quorum.n} replicas need at least as many nodes, not {len(self.nodes)}."
            )
        if not 8 <= self.partitions <= PARTITIONS_MAX or self.partitions & (self.partitions - 1):
            raise ConfigError(
                f"partitions must be a power of two from 8 to {PARTITIONS_MAX}, "
                f"not {self.partitions}."
            )
        self.storage.validate()
        self.limits.validate(self.quorum.n)
        self.timing.validate()
        self.repair.validate(self.timing)

    def _validate_ports(self) -> None:
        """Raises `ConfigError` if two nodes of one host want the same port."""
        takers: dict[tuple[str, int], str] = {}
        for spec in self.nodes:
            for port in spec.ports:
                taker = takers.setdefault((spec.host, port), spec.name)
                if port and taker != spec.name:
                    raise ConfigError(f"{taker} and {spec.name} are both given port {port}.")

    def node(self, name: str) -> NodeSpec:
        """The spec of a node; raises `ConfigError` if there is none of that name."""
        for spec in self.nodes:
            if spec.name == name:
                return spec
        known = ", ".join(spec.name for spec in self.nodes)
        raise ConfigError(f"there is no node {name!r}.", hint=f"the nodes are {known}.")


def _is_ipv4(text: str) -> bool:
    """Whether this is four numbers from 0 to 255. (`ipaddress` costs a command milliseconds.)"""
    parts = text.split(".")
    return len(parts) == 4 and all(
        part.isascii() and part.isdigit() and len(part) <= 3 and int(part) <= 255 for part in parts
    )


def parse_config(text: bytes, *, toml: bool, source: str) -> ClusterConfig:
    """Decode and validate a TOML or JSON document; `source` names it in errors (`ConfigError`)."""
    try:
        if toml:
            config = msgspec.toml.decode(plain_text(text), type=ClusterConfig)
        else:
            config = msgspec.json.decode(plain_text(text), type=ClusterConfig)
    except UNREADABLE as error:
        reason = why_unreadable(error, text)
        raise ConfigError(f"{source} is not a valid configuration: {reason}.") from error
    try:
        config.validate()
    except ConfigError as error:
        raise ConfigError(f"{source}: {error.message}", hint=error.hint) from error
    return config


def load_config(path: Path) -> ClusterConfig:
    """Read a `.toml` or `.json` configuration file. Raises `ConfigError`."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}.") from error
    return parse_config(text, toml=path.suffix != ".json", source=str(path))


def encode_config(config: ClusterConfig) -> bytes:
    """The JSON document that `load_config` reads back."""
    return msgspec.json.format(msgspec.json.encode(config), indent=2)
