"""A node's faults by command, by file and by the clock: kept, found again, lifted for good."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from kvctl_node.admin import AdminCommands
from kvctl_node.errors import InvalidRequestError, StorageError
from kvctl_node.ports import Instant
from kvctl_node.protocol.client_messages import (
    AdminDone,
    ClientAdmin,
)
from kvctl_node.protocol.link_fault import FAULTS_FILE_NAME, LinkFault, decode_faults, encode_faults
from kvctl_node.runtime.fault_control import LOOK_INTERVAL_S, FaultControl
from kvctl_node.runtime.link_faults import LinkFaults

CUT = {"id": "f1", "kind": "link", "links": [["n1", "n2"]], "drop": True}
SLOW = {"id": "f2", "kind": "link", "links": [["n1", "n3"]], "delay_ms": 5}


class Rig:
    """One life of a node, as far as faults are concerned."""

    def __init__(self, home: Path) -> None:
        self.path = home / FAULTS_FILE_NAME
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.faults = LinkFaults("n1", random.Random(0))
        self.control = FaultControl(
            self.faults,
            "n1",
            home,
            record=lambda kind, **fields: self.events.append((kind, fields)),
        )
        self.control.load()
        self.now_s = 100.0

    @property
    def ids(self) -> list[str]:
        return [fault.id for fault in self.faults.reports()]

    @property
    def kept(self) -> list[str]:
        return [fault.id for fault in decode_faults(self.path.read_bytes())]

    def at(self, wall_ms: int) -> Instant:
        return Instant(self.now_s, wall_ms)

    def set(self, document: dict[str, Any]) -> None:
        self.control.on_set_command(document, self.at(0))

    def tick(self, wall_ms: int = 0) -> None:
        """A moment in which the file is looked at."""
        self.now_s += LOOK_INTERVAL_S
        self.control.on_tick(self.at(wall_ms))


def write(path: Path, *documents: dict[str, Any]) -> None:
    """What kvctl does while the node does not answer: replace the file."""
    draft = path.with_name("draft")
    faults = [LinkFault(**{**one, "links": tuple(map(tuple, one["links"]))}) for one in documents]
    draft.write_bytes(encode_faults(faults))
    draft.replace(path)


def test_a_fault_is_on_disk_when_the_command_is_answered_and_there_in_the_next_life(
    tmp_path: Path,
) -> None:
    first = Rig(tmp_path)
    first.set(CUT)
    first.set(SLOW)
    assert first.kept == ["f1", "f2"]
    assert Rig(tmp_path).ids == ["f1", "f2"]


def test_what_was_hit_before_a_clean_stop_is_remembered(tmp_path: Path) -> None:
    first = Rig(tmp_path)
    first.set(CUT)
    first.faults.outgoing("n2", [1, 2, 3])
    first.control.close()
    assert Rig(tmp_path).faults.reports()[0].hits == 3


def test_a_lifted_fault_does_not_come_back(tmp_path: Path) -> None:
    first = Rig(tmp_path)
    first.set(CUT)
    first.set(SLOW)
    first.faults.outgoing("n2", [1])
    (lifted,) = first.control.on_lift_command({"id": "f1"}, first.at(0))["lifted"]
    assert (lifted["id"], lifted["hits"]) == ("f1", 1)
    assert Rig(tmp_path).ids == ["f2"]
    first.control.on_lift_command({}, first.at(0))
    assert not first.path.exists()
    assert Rig(tmp_path).ids == []


def test_a_fault_is_lifted_by_the_clock_and_stays_lifted(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.set({**CUT, "expires_ms": 5000})
    assert rig.control.next_wakeup_s(rig.at(2000)) == 3.0
    rig.control.on_tick(rig.at(4999))
    assert rig.ids == ["f1"]
    rig.control.on_tick(rig.at(5000))
    assert rig.ids == []
    assert rig.control.next_wakeup_s(rig.at(5000)) is None
    assert Rig(tmp_path).ids == []
    assert rig.events[-1] == (
        "fault_lifted",
        {"fault": "f1", "fault_kind": "link", "hits": 0, "by": "expired"},
    )


def test_a_fault_put_into_the_file_is_in_force_a_moment_later_and_one_taken_out_is_not(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path)
    write(rig.path, CUT, SLOW)
    rig.control.on_tick(rig.at(0))
    assert rig.ids == ["f1", "f2"]
    write(rig.path, SLOW)
    rig.control.on_tick(rig.at(0))
    assert rig.ids == ["f1", "f2"], "it is not looked at in every turn"
    rig.tick()
    assert rig.ids == ["f2"]
    rig.path.unlink()
    rig.tick()
    assert rig.ids == []
    assert [kind for kind, _ in rig.events] == ["fault_set"] * 2 + ["fault_lifted"] * 2


def test_looking_at_its_own_file_changes_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.set(CUT)
    rig.faults.outgoing("n2", [1])
    rig.tick()
    assert rig.faults.reports()[0].hits == 1
    assert [kind for kind, _ in rig.events] == ["fault_set"]


def test_what_it_has_hit_survives_that_others_are_added_to_the_file(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.set(CUT)
    rig.faults.outgoing("n2", [1, 2])
    write(rig.path, CUT, SLOW)
    rig.tick()
    assert [(one.id, one.hits) for one in rig.faults.reports()] == [("f1", 2), ("f2", 0)]


def test_a_damaged_file_is_put_aside_and_the_node_serves_without_faults(tmp_path: Path) -> None:
    (tmp_path / FAULTS_FILE_NAME).write_bytes(b"{half")
    rig = Rig(tmp_path)
    assert rig.ids == []
    assert not rig.path.exists()
    assert (tmp_path / "faults.damaged").read_bytes() == b"{half"
    rig.tick()
    rig.set(CUT)
    assert rig.kept == ["f1"]


def test_a_fault_that_cannot_be_kept_is_not_set(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    rig = Rig(home)
    home.rmdir()
    with pytest.raises(StorageError, match="cannot be written"):
        rig.set(CUT)
    assert rig.ids == []


def test_healing_works_even_if_the_file_cannot_be_written_and_says_so(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    rig = Rig(home)
    rig.set(CUT)
    rig.set(SLOW)
    rig.path.unlink()
    home.rmdir()
    with pytest.raises(StorageError) as refused:
        rig.control.on_lift_command({"id": "f1"}, rig.at(0))
    assert "back after a restart" in refused.value.hint
    assert rig.ids == ["f2"]


def test_a_fault_of_other_nodes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="no link from or to n1"):
        Rig(tmp_path).set({**CUT, "links": [["n2", "n3"]]})


def test_the_commands_answer_plain_data(tmp_path: Path) -> None:
    rig, admin = Rig(tmp_path), AdminCommands()
    rig.control.register(admin)
    for command, arguments in (("fault_set", CUT), ("faults", {}), ("fault_lift", {"id": "f1"})):
        done = admin.run(ClientAdmin(1, command, arguments), rig.at(0))
        assert isinstance(done, AdminDone)
        ((_, (document,)),) = done.result.items()
        assert (document["id"], document["drop"]) == ("f1", True)
        assert list(map(list, document["links"])) == [["n1", "n2"]]
    assert admin.run(ClientAdmin(2, "faults", {}), rig.at(0)) == AdminDone(2, {"faults": []})
