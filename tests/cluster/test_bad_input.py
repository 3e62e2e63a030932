"""Hostile bytes, damaged files, full disks, closed streams: one sentence each, and nothing lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from kvctl.client import Client
from kvctl.cluster.directory import cluster_directory
from kvctl.cluster.local_cluster import Cluster
from kvctl.cluster.options import UpOptions
from kvctl.cluster.supervisor import Supervisor
from kvctl.errors import HomeError, NodeStartError, PortTakenError
from kvctl_node.config import ClusterConfig, NodeSpec, QuorumConfig, StorageConfig
from kvctl_node.errors import OverloadedError
from kvctl_node.runtime.security import (
    CLIENT_KEY_NAME,
    CurveKey,
    key_path,
    load_key,
    load_public_key,
)
from tests.cluster.node_events import events_of

Eventually = Callable[[Callable[[], object]], None]
NO_LINGER_S = 10


@pytest.fixture
def client(three_nodes: Cluster) -> Client:
    return three_nodes.client()


def run_kvctl(home: Path, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
    """The command line as a process of its own, with the standard streams given."""
    environment = {**os.environ, "KVCTL_HOME": str(home)}
    environment.pop("KVCTL_CLUSTER", None)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "kvctl", *arguments],
        env=environment,
        **{"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, **streams},
    )


# ---------------------------------------------------------------------- bytes on sockets


@pytest.fixture
def dealer() -> Iterator[Callable[[str, CurveKey | None, CurveKey | None], zmq.Socket[bytes]]]:
    """Makes a socket connected to an endpoint: with the server's key and one's own, or neither."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    def connect(
        endpoint: str, server: CurveKey | None = None, own: CurveKey | None = None
    ) -> zmq.Socket[bytes]:
        made = context.socket(zmq.DEALER)
        made.linger = 0
        if server is not None and own is not None:
            made.curve_serverkey = server.public.encode()
            made.curve_publickey = own.public.encode()
            made.curve_secretkey = own.secret.encode()
        made.connect(endpoint)
        kept.append(made)  # collected, it would be closed before its handshake is over
        return made

    kept: list[zmq.Socket[bytes]] = []
    yield connect
    context.destroy(linger=0)


def stranger() -> CurveKey:
    public, secret = zmq.curve_keypair()
    return CurveKey(public.decode(), secret.decode())


def test_a_node_serves_on_whatever_arrives_at_its_sockets_and_counts_it(
    three_nodes: Cluster,
    client: Client,
    eventually: Eventually,
    dealer: Callable[..., zmq.Socket[bytes]],
) -> None:
    spec = three_nodes.config.node("n1")
    keys = three_nodes.directory.keys
    server = load_public_key(key_path(keys, "n1"))
    ours = load_key(key_path(keys, CLIENT_KEY_NAME))

    def transport() -> dict[str, Any]:
        figures: dict[str, Any] = client.status("n1")["transport"]
        return figures

    before = transport()
    plain = []
    for port in (spec.client_port, spec.peer_port):
        for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 70_000, os.urandom(4096)):
            connection = socket.create_connection((spec.host, port), timeout=NO_LINGER_S)
            plain.append(connection)
            try:
                connection.sendall(noise)
            except OSError:
                pass  # the node hung up in the middle of it: as it should
    for endpoint in (spec.client_endpoint, spec.peer_endpoint):
        dealer(endpoint).send(b"no key at all")
        dealer(endpoint, server, stranger()).send(b"a stranger's key")
    # Peers are known by their own keys: that of the clients opens the clients' door only.
    dealer(spec.peer_endpoint, server, ours).send(b"not a peer")
    eventually(lambda: transport()["handshakes_refused"] >= before["handshakes_refused"] + 3)

    friend = dealer(spec.client_endpoint, server, ours)
    for garbage in (b"", b"\x00", b"\x02\xc1", b"\x02" + os.urandom(300), b"\x09\x90"):
        friend.send(garbage)
    friend.send_multipart([b"several", b"parts"])
    malformed = sum(before["clients"]["malformed"].values())
    eventually(lambda: sum(transport()["clients"]["malformed"].values()) >= malformed + 5)
    friend.send(b"\x02" * (three_nodes.config.limits.frame_bytes_max + 4096))
    client.put("after the noise", "fine", via="n1")
    assert client.get("after the noise", via="n1").value == b"fine"
    for connection in plain:
        connection.close()


# ---------------------------------------------------------------------- processes and directories


def test_a_second_process_on_a_data_directory_is_refused_and_leaves_no_word_of_its_own(
    three_nodes: Cluster, client: Client
) -> None:
    directory = three_nodes.directory
    intruder = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "kvctl_node"),
            *("--directory", str(directory.path), "--name", "n2", "--nonce", "feed"),
        ],
        stderr=subprocess.PIPE,
        timeout=20,
        check=False,
    )
    assert intruder.returncode == 73
    assert b"in use by process" in intruder.stderr
    client.put("undisturbed", "yes", via="n2")
    three_nodes.kill("n2")
    try:
        assert "in use" not in three_nodes.status().node("n2").reason
    finally:
        three_nodes.start("n2")


def test_a_node_whose_database_is_destroyed_says_so_and_a_wipe_brings_it_back(
    three_nodes: Cluster, client: Client
) -> None:
    for number in range(50):
        client.put(f"kept{number}", "safe", w=3)
    three_nodes.stop("n3")
    database = three_nodes.directory.node("n3") / "data.sqlite"
    database.write_bytes(b"no database, " * 1000)
    with pytest.raises(NodeStartError) as raised:
        three_nodes.start("n3")
    assert "wipe" in raised.value.hint
    assert "not a database" in three_nodes.status().node("n3").reason
    assert all(client.get(f"kept{number}").value == b"safe" for number in range(50))
    three_nodes.wipe("n3")
    assert three_nodes.status().node("n3").state == "up"
    assert all(client.get(f"kept{number}", via="n3").value == b"safe" for number in range(50))


def test_a_cluster_that_cannot_have_its_port_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"port {port}"):
            Supervisor(tmp_path).up("shop", UpOptions(nodes=1, base_port=port))
    assert not cluster_directory("shop", tmp_path).path.exists()


def test_a_cluster_is_not_made_anew_around_data_whose_configuration_is_gone(tmp_path: Path) -> None:
    directory = cluster_directory("shop", tmp_path)
    data = directory.node("n1")
    data.mkdir(parents=True)
    (data / "data.sqlite").write_bytes(b"precious")
    with pytest.raises(HomeError, match=r"cluster\.json is gone"):
        Supervisor(tmp_path).up("shop", UpOptions(nodes=1))
    assert (data / "data.sqlite").read_bytes() == b"precious"
    assert not directory.exists()


# ---------------------------------------------------------------------- disks


def small(**storage: Any) -> ClusterConfig:
    return ClusterConfig(
        nodes=(NodeSpec("n1"),),
        quorum=QuorumConfig(1, 1, 1),
        partitions=8,
        storage=StorageConfig(**storage),
    )


def test_a_full_database_refuses_writes_definitely_and_serves_reads() -> None:
    with Cluster(config=small(database_bytes_max=2 * 1024 * 1024)) as cluster:
        client = cluster.client()
        stored = 0
        with pytest.raises(OverloadedError):
            for stored in range(1000):
                client.put(f"k{stored}", bytes(8 * 1024))
        assert stored > 50
        assert not client.get(f"k{stored}").found
        assert all(client.get(f"k{number}").found for number in range(stored))
        node = cluster.status().node("n1")
        assert (node.state, "refuses writes" in node.reason) == ("up", True)
        cluster.kill("n1")
        cluster.start("n1")
        assert all(client.get(f"k{number}").found for number in range(stored))


def test_a_reserve_that_the_disk_does_not_have_refuses_writes_definitely() -> None:
    with Cluster(config=small(disk_reserve_bytes=1 << 60)) as cluster:
        client = cluster.client()
        with pytest.raises(OverloadedError):
            client.put("k", "v")
        assert not client.get("k").found
        assert "refuses writes" in cluster.status().node("n1").reason


def test_damaged_sstables_never_answer_wrongly_and_are_healed_by_themselves(
    eventually: Eventually,
) -> None:
    config = ClusterConfig(
        nodes=tuple(NodeSpec(name) for name in ("n1", "n2", "n3")),
        quorum=QuorumConfig(3, 2, 2),
        partitions=8,
        storage=StorageConfig(memtable_bytes=32 * 1024, compaction_fanout=100),
    )
    with Cluster(config=config) as cluster:
        client = cluster.client()
        expected = {f"k{number}": f"{number}" * 40 for number in range(1500)}
        with client.batch(64) as batch:
            for key, value in expected.items():
                batch.put(key, value, w=3)
        cluster.stop("n1")
        truncated, flipped, deleted, *_ = tables_of(cluster, "n1")
        truncated.write_bytes(truncated.read_bytes()[: truncated.stat().st_size // 2])
        flip_bits(flipped)
        deleted.unlink()
        cluster.start("n1")
        for key, value in expected.items():
            assert client.get(key, via="n1").value == value.encode()

        def is_healed() -> bool:
            snapshot = client.status("n1")
            return snapshot["state"] == "ok" and not snapshot["rebuilding"]

        eventually(is_healed)
        told = [event["kind"] for event in events_of(cluster, "n1")]
        assert told.index("table_quarantined") < told.index("table_given_up")
        assert told.index("table_replaced") < told.index("rebuild_finished")
        for name in ("n2", "n3"):
            cluster.kill(name)
        for key, value in expected.items():
            assert client.get(key, via="n1", r=1).value == value.encode(), "from its own disk"


def test_damage_stays_in_quarantine_while_there_is_nobody_to_rebuild_from(
    eventually: Eventually,
) -> None:
    with Cluster(config=small(memtable_bytes=32 * 1024, compaction_fanout=100)) as cluster:
        client = cluster.client()
        with client.batch(64) as batch:
            for number in range(1000):
                batch.put(f"k{number}", "v" * 40)
        cluster.stop("n1")
        flip_bits(tables_of(cluster, "n1")[0])
        cluster.start("n1")
        eventually(lambda: client.status("n1")["quarantine_kept"])
        node = cluster.status().node("n1")
        assert (node.state, "damaged" in node.reason) == ("up", True)
        assert "no other owners" in node.reason


def tables_of(cluster: Cluster, node: str) -> list[Path]:
    return sorted((cluster.directory.node(node) / "sstables").iterdir())


def flip_bits(path: Path) -> None:
    """One bit in every 256 bytes is another."""
    content = bytearray(path.read_bytes())
    for place in range(0, len(content), 256):
        content[place] ^= 0x10
    path.write_bytes(bytes(content))


# ---------------------------------------------------------------------- streams of the command line


@pytest.fixture(scope="module")
def filled(three_nodes: Cluster) -> Cluster:
    client = three_nodes.client()
    with client.batch(64) as batch:
        for number in range(3000):
            batch.put(f"line{number}", "x" * 50)
    return three_nodes


def test_a_pipe_closed_by_its_reader_ends_a_dump_quietly(filled: Cluster) -> None:
    dump = run_kvctl(filled.home, "-q", "dump", stdout=subprocess.PIPE)
    assert dump.stdout is not None
    assert json.loads(dump.stdout.readline())["enc"] == "utf-8"
    dump.stdout.close()
    assert dump.stderr is not None
    assert dump.stderr.read() == b""
    assert dump.wait(NO_LINGER_S) == 0


def test_a_load_whose_stderr_is_cut_off_goes_on_to_its_end(filled: Cluster) -> None:
    reader, writer = os.pipe()
    load = run_kvctl(
        filled.home, "load", stdin=subprocess.PIPE, stdout=writer, stderr=writer, bufsize=0
    )
    os.close(writer)
    assert load.stdin is not None
    load.stdin.write(b"nonsense\n")
    # As `kvctl load 2>&1 | head -1` does it: one line is read, then the reader is gone.
    assert os.read(reader, 1 << 16).startswith(b"line 1: ")
    os.close(reader)
    lines = b"".join(b'nonsense\n{"key":"after%d","value":"1"}\n' % one for one in range(1000))
    load.stdin.write(lines)
    load.stdin.close()
    assert load.wait(NO_LINGER_S) == 1
    client = filled.client()
    assert all(client.get(f"after{one}").found for one in range(1000))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize(
    "arguments", [("get", "line1"), ("--help",), ("-o", "json", "status"), ("-o", "table", "ls")]
)
def test_output_that_cannot_be_written_is_an_error_in_one_sentence(
    filled: Cluster, arguments: tuple[str, ...]
) -> None:
    with Path("/dev/full").open("wb") as full:
        command = run_kvctl(filled.home, *arguments, stdout=full)
        _, errors = command.communicate(timeout=20)
    assert command.returncode == 1
    assert b"No space left on device" in errors
    assert b"Traceback" not in errors
    assert b"itself failed" not in errors


def test_closed_standard_streams_are_refused_rather_than_mistaken_for_empty_ones(
    filled: Cluster,
) -> None:
    script = '"$0" -P -m kvctl put nothing - <&-; echo $?; "$0" -P -m kvctl get line1 >&-; echo $?'
    shell = subprocess.run(
        ["sh", "-c", script, sys.executable],
        env={**os.environ, "KVCTL_HOME": str(filled.home)},
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert shell.stdout.split() == [b"1", b"1"]
    assert shell.stderr.count(b"error: ") == 2
    assert b"itself failed" not in shell.stderr
    assert not filled.client().get("nothing").found


def test_ctrl_c_ends_a_load_with_130_and_says_how_far_it_came(
    filled: Cluster, eventually: Eventually
) -> None:
    load = run_kvctl(filled.home, "load", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert load.stdin is not None
    load.stdin.write(b'{"key":"begun","value":"1"}\n' + b'{"key":"too long","value":"')
    load.stdin.write(b"x" * (2 << 20) + b'"}\n')
    load.stdin.write(b'{"key":"begun too","value":"1"}\n' * 300)
    load.stdin.flush()
    client = filled.client()
    eventually(lambda: client.get("begun too").found)
    load.send_signal(signal.SIGINT)
    _, errors = load.communicate(timeout=NO_LINGER_S)
    assert load.returncode == 130
    assert b"line 2 (too long): the value has 2097152 bytes" in errors
    assert b"interrupted: " in errors
    assert b"1 refused" in errors
