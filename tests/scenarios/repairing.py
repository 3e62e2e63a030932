"""Steps that scenarios of repair share: commands, disks filled and wiped, messages lost."""

from kvctl_node.causality.causal_context import EMPTY_CONTEXT
from kvctl_node.causality.siblings import EMPTY_OBJECT, encode_object, put_version
from kvctl_node.config import RepairConfig
from kvctl_node.protocol.client_messages import (
    AdminDone,
    ClientAdmin,
    PutDone,
)
from kvctl_node.protocol.messages import (
    ReplicaPut,
)

BY_COMMAND_ONLY = RepairConfig(compare_interval_ms=0, keys_per_s=1_000_000)


def admin(cluster, via, command, **arguments):
    number = 5_000_000 + len(cluster.replies)
    cluster.send(via, ClientAdmin(number, command, arguments))
    reply = cluster.answer(number)
    assert isinstance(reply, AdminDone), reply
    return reply.result


def finished_row(cluster, via, session, seconds=120.0):
    """Wait for a comparison and return what it came to."""

    def row():
        return admin(cluster, via, "repair_status", sessions=[session])["pairs"][0]

    assert cluster.run_until(lambda: row()["finished"], seconds), row()
    return row()


def compare(cluster, a, b, **arguments):
    return finished_row(cluster, a, admin(cluster, a, "merkle", peer=b, **arguments)["session"])


def repair(cluster, a, b):
    return finished_row(cluster, a, admin(cluster, a, "repair", peers=[b])["sessions"][b])


def store(cluster, name, key, content):
    """Put an object on one node's disk, past the network."""
    node = cluster.node(name)
    node.state.replica.apply(node.state.map.partition_of(key), key, content, b"", b"")


def version(value, actor="n1#1"):
    stored, _ = put_version(
        EMPTY_OBJECT, value, actor=actor, seen=EMPTY_CONTEXT, stamp_ms=1_700_000_000_000
    )
    return encode_object(stored)


def fill(cluster, count):
    """The same keys on every owner's disk."""
    for number in range(count):
        key = b"key%06d" % number
        for name in cluster.copies(key.decode()):
            store(cluster, name, key, version(b"v%06d" % number * 10))
    for host in cluster.hosts.values():
        host.storage.commit()


def losing(receiver, *kinds):
    """A tap that loses messages of these kinds to one node."""
    return lambda _, to, message: not (to == receiver and isinstance(message, kinds))


def put_missing_at(cluster, name, key, value, **options):
    """A put that one replica never sees, with the coordinator's time long over."""
    cluster.tap = losing(name, ReplicaPut)
    assert isinstance(cluster.put("n1", key, value, **options), PutDone)
    cluster.run_for(3)
    cluster.tap = None


def drop_hints(cluster):
    """As if they had expired: what anti-entropy is for."""
    for host in cluster.hosts.values():
        handoff = host.node.state.handoff
        for queue in list(host.storage.hints.queues()):
            for hint in host.storage.hints.page(queue.target, b"", 10_000):
                host.storage.hints.delete(hint.target, hint.key)
        handoff._queues.clear()
        handoff._bytes = 0


def hold_hints(cluster):
    for name in cluster.hosts:
        admin(cluster, name, "hints_hold", held=True)


def watch(cluster, *kinds):
    seen = []
    cluster.tap = lambda sender, receiver, message: (
        seen.append((sender, receiver, message)) or True if isinstance(message, kinds) else True
    )
    return seen
