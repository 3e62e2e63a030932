"""Ports for the nodes: chosen once, kept for the cluster's life, checked before every start.

A port is chosen below the range from which operating systems take the local ports of outgoing
connections (32768 up on Linux, 49152 up on macOS), or any program could sit on a node's port while
the node is down. The test for "free" binds with SO_REUSEADDR, as ZeroMQ does: connections of the
last run that are still in TIME_WAIT do not count, a listener does.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable

import msgspec
import psutil

from kvctl.cluster.options import PORTS_PER_NODE, number_ports
from kvctl.cluster.processes import words_for
from kvctl.errors import PortTakenError
from kvctl_node.config import NodeSpec

_FIRST_PORT = 16_384
_LAST_PORT = 32_767
_ATTEMPTS = 200


def is_free(host: str, port: int) -> bool:
    """True if a listener could bind to the port now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def choose_ports(
    nodes: tuple[NodeSpec, ...], *, reserved: Iterable[int], rng: random.Random
) -> tuple[NodeSpec, ...]:
    """Give every node that lacks them three free ports; ports already chosen stay.

    `reserved` are ports of other clusters, which may be down at the moment. Raises `PortTakenError`
    when no free block is found.
    """
    missing = tuple(spec for spec in nodes if 0 in _ports(spec))
    if not missing:
        return nodes
    avoid = set(reserved).union(*(_ports(spec) for spec in nodes))
    width = PORTS_PER_NODE * len(missing)
    for _ in range(_ATTEMPTS):
        base = rng.randrange(_FIRST_PORT, _LAST_PORT - width + 1)
        block = range(base, base + width)
        host = missing[0].host
        if avoid.isdisjoint(block) and all(is_free(host, port) for port in block):
            numbered = {spec.name: spec for spec in number_ports(missing, base)}
            return tuple(_filled(spec, numbered.get(spec.name, spec)) for spec in nodes)
    raise PortTakenError(
        f"found no {width} free ports in a row between {_FIRST_PORT} and {_LAST_PORT}.",
        hint="say where they are with --base-port.",
    )


def _filled(spec: NodeSpec, numbered: NodeSpec) -> NodeSpec:
    """The spec with its unchosen ports taken from `numbered`."""
    return msgspec.structs.replace(
        spec,
        client_port=spec.client_port or numbered.client_port,
        peer_port=spec.peer_port or numbered.peer_port,
        event_port=spec.event_port or numbered.event_port,
    )


def check_ports(nodes: Iterable[NodeSpec]) -> None:
    """Raises `PortTakenError`, naming the port and its holder, if a node could not bind."""
    for spec in nodes:
        for role, port in zip(("client", "peer", "event"), _ports(spec), strict=True):
            if not is_free(spec.host, port):
                raise PortTakenError(
                    f"port {port}, the {role} port of {spec.name}, is taken{_holder_words(port)}.",
                    hint="stop what uses it, then try again.",
                )


def _ports(spec: NodeSpec) -> tuple[int, int, int]:
    return spec.client_port, spec.peer_port, spec.event_port


def ports_of(nodes: Iterable[NodeSpec]) -> set[int]:
    """Every port the nodes were given."""
    return {port for spec in nodes for port in _ports(spec) if port}


def _holder_words(port: int) -> str:
    """` by NAME (process 7)` if the system lets us know, else nothing."""
    try:
        connections = psutil.net_connections(kind="tcp")
        for connection in connections:
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f" by {words_for(psutil.Process(connection.pid))}"
    except (psutil.Error, OSError):
        return ""  # some systems tell only root
    return ""
