"""Deliberately broken nodes: what the checkers are worth is what they catch of these.

Each variant replaces a few methods of the real classes by a plausible mistake, most of them made by
some real store at some time. A simulation that lets one pass would let that mistake pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from kvctl_node.causality import siblings
from kvctl_node.causality.causal_context import CausalContext, Dot
from kvctl_node.causality.recent_requests import Applied, RecentRequests
from kvctl_node.causality.siblings import (
    StoredObject,
    decode_object,
    digest_of,
    encode_object,
    merge_objects,
    replace_version,
)
from kvctl_node.causality.trace_clock import TraceClock
from kvctl_node.identity import NodeIdentity, open_identity
from kvctl_node.node import Node
from kvctl_node.ports import Record, StorageEngine
from kvctl_node.protocol.client_messages import (
    PutKind,
)
from kvctl_node.protocol.messages import (
    ReplicaState,
)
from kvctl_node.replication import replica, request_checks
from kvctl_node.replication.coordination import Coordination
from kvctl_node.replication.doubted_copies import DoubtedCopies
from kvctl_node.replication.get_coordinator import GetCoordinator
from kvctl_node.replication.hinted_handoff import HintedHandoff
from kvctl_node.replication.prior_read import PriorRead
from kvctl_node.replication.put_coordinator import PutCoordinator
from kvctl_node.replication.quorum import Quorum
from kvctl_node.replication.read_round import ReadRound
from kvctl_node.replication.replica import Minted, Replica
from kvctl_node.replication.replica_service import ReplicaService
from kvctl_node.replication.request_batch import RequestBatch
from tests import virtual_hosts
from tests.virtual_hosts import DeathStep, Host, VirtualHosts

Variant = Callable[[pytest.MonkeyPatch], None]


def actor_without_epoch(patch: pytest.MonkeyPatch) -> None:
    """A node mints under its bare name: after it lost copies, it counts from one again."""
    patch.setattr(NodeIdentity, "actor", property(lambda self: self.name))
    patch.setattr(NodeIdentity, "actor_of", lambda self, my_actor: my_actor or self.name)


def copies_of_an_old_disk_keep_their_actor(patch: pytest.MonkeyPatch) -> None:
    """A copy from a backup goes on counting where it was when the backup was made."""
    patch.setattr(NodeIdentity, "actor_of", lambda self, my_actor: my_actor or self.actor)


def clock_without_detached_dots(patch: pytest.MonkeyPatch) -> None:
    """A bare vector clock: to have seen n1:7 means to have seen n1:1 to n1:6."""

    def with_dot(self: CausalContext, actor: str, counter: int, stamp_ms: int) -> CausalContext:
        return self.union(CausalContext(((actor, counter, stamp_ms),)))

    patch.setattr(CausalContext, "with_dot", with_dot)


def context_widened_around_an_existing_dot(patch: pytest.MonkeyPatch) -> None:
    """An overwriting put covers what arrived meanwhile without minting a new dot for that."""
    success = PutCoordinator._success

    def widen(self: PutCoordinator) -> Any:
        request, state = self._request, self.state
        record = state.storage.get(self._partition, request.key)
        if request.kind == PutKind.OVERWRITE and record is not None:
            stored = decode_object(record.content)
            mine = [
                one for one in stored.siblings if one.request == (request.client, request.sequence)
            ]
            if mine and len(stored.siblings) > 1:
                content = encode_object(StoredObject(stored.context, tuple(mine)))
                widened = Record(content, digest_of(content), record.recent, record.my_actor)
                state.storage.put(self._partition, request.key, widened)
                state.replica.merkle.on_change(self._partition, request.key, record, widened)
        return success(self)

    patch.setattr(PutCoordinator, "_success", widen)


def delete_drops_the_row(patch: pytest.MonkeyPatch) -> None:
    """A tombstone is not stored; the key is removed instead."""
    apply, mint = Replica.apply, Replica.mint

    def drop_if_deleted(self: Replica, partition: int, key: bytes, record: Record) -> None:
        if decode_object(record.content).deleted:
            self.storage.drop(partition, key)
            self.merkle.on_change(partition, key, record, None)

    def apply_and_drop(self: Replica, partition: int, key: bytes, *rest: bytes) -> Record:
        record = apply(self, partition, key, *rest)
        drop_if_deleted(self, partition, key, record)
        return record

    def mint_and_drop(
        self: Replica, partition: int, key: bytes, value: bytes | None, **options: Any
    ) -> Minted:
        minted = mint(self, partition, key, value, **options)
        drop_if_deleted(self, partition, key, minted.record)
        return minted

    patch.setattr(Replica, "apply", apply_and_drop)
    patch.setattr(Replica, "mint", mint_and_drop)


def write_quorum_counts_a_node_twice(patch: pytest.MonkeyPatch) -> None:
    """Acknowledgements are counted, not acknowledging nodes."""

    def add_ack(self: Quorum, node: str) -> bool:
        self.acked.append(node)
        self.filled.add(f"{node} for the {len(self.acked)}th time")
        return True

    patch.setattr(Quorum, "add_ack", add_ack)


def merge_keeps_one_sibling(patch: pytest.MonkeyPatch) -> None:
    """The last writer wins: of concurrent versions the youngest stays."""
    merge = merge_objects

    def merge_to_one(left: StoredObject, right: StoredObject, requests: Any = ()) -> StoredObject:
        merged = merge(left, right, requests)
        return StoredObject(merged.context, merged.siblings[-1:])

    patch.setattr(replica, "merge_objects", merge_to_one)


def answer_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    """What a turn has to say is sent before what it says is durable."""

    def complete(self: VirtualHosts, host: Host, node: Node, death: DeathStep | None) -> None:
        self._flush(host, node)
        host.storage.commit()

    patch.setattr(VirtualHosts, "_complete", complete)


def retry_mints_again(patch: pytest.MonkeyPatch) -> None:
    """A retried put is a new put."""

    def settle(self: PutCoordinator, prior: PriorRead, now: Any) -> None:
        self._replicate_after(prior, now)

    patch.setattr(PutCoordinator, "_settle", settle)


def one_dot_of_a_request_ends_alone(patch: pytest.MonkeyPatch) -> None:
    """Whoever supersedes a retried write has superseded only the attempt that was seen."""
    patch.setattr(siblings, "taken_along", lambda *_: set())


def requests_are_forgotten_at_once(patch: pytest.MonkeyPatch) -> None:
    """A request is remembered until the next put, whoever else may hold another dot of it."""

    def with_request(self: RecentRequests, applied: Applied, **_: Any) -> RecentRequests:
        return RecentRequests(0, (applied,))

    patch.setattr(RecentRequests, "with_request", with_request)


def late_requests_are_served(patch: pytest.MonkeyPatch) -> None:
    """A node that was paused acts on what its clients gave up long ago."""
    begin = PutCoordinator.__init__

    def begin_anew(self: PutCoordinator, state: Any, request: Any, *rest: Any) -> None:
        deadline_ms = rest[-1].wall_ms + state.timing.replica_timeout_ms
        begin(self, state, msgspec.structs.replace(request, deadline_ms=deadline_ms), *rest)

    patch.setattr(request_checks, "_check_deadline", lambda request, now: None)
    patch.setattr(PutCoordinator, "__init__", begin_anew)


def repeated_forward_is_served_again(patch: pytest.MonkeyPatch) -> None:
    """A message that the network repeats is a second request."""
    patch.setattr(Coordination, "_is_repeated", lambda self, sender, forward_id: False)


def damaged_copy_counts_as_absence(patch: pytest.MonkeyPatch) -> None:
    """A replica that cannot say what it holds is taken to hold nothing."""

    def add_no_evidence(self: GetCoordinator, node: str) -> None:
        self._found_disagreement().add_absent(node)
        self._quorum.add_ack(node)

    patch.setattr(GetCoordinator, "_add_no_evidence", add_no_evidence)


def miss_of_a_stand_in_counts_as_absence(patch: pytest.MonkeyPatch) -> None:
    """A fallback without the key answers that the key does not exist."""
    patch.setattr(ReplicaService, "_absence", lambda self, key: ReplicaState.ABSENT)


def hint_is_deleted_when_sent(patch: pytest.MonkeyPatch) -> None:
    """Handoff does not wait for the acknowledgement."""
    send = HintedHandoff._send

    def send_and_forget(self: HintedHandoff, target: str, queue: Any, now: Any) -> None:
        send(self, target, queue, now)
        for sent in queue.in_flight.values():
            hint = self._storage.hints.get(target, sent.key)
            if hint is not None:
                self._forget(queue, hint)
        queue.in_flight.clear()

    patch.setattr(HintedHandoff, "_send", send_and_forget)


def stand_in_keeps_no_hint(patch: pytest.MonkeyPatch) -> None:
    """A fallback acknowledges for another node and does not remember for whom."""
    keep = HintedHandoff.keep

    def forget_counted(self: HintedHandoff, *place: Any, counted: bool) -> None:
        if not counted:
            keep(self, *place, counted=counted)

    patch.setattr(HintedHandoff, "keep", forget_counted)


def blocking_read_trusts_r_answers(patch: pytest.MonkeyPatch) -> None:
    """Before it answers, a blocking read makes sure of no more replicas than any read asks."""
    patch.setattr(GetCoordinator, "_answers_to_vouch", lambda self: self._r)


def replacement_without_a_mark(patch: pytest.MonkeyPatch) -> None:
    """A second dot is a new write: whoever superseded the first has not heard of it."""

    def replace_unmarked(
        stored: StoredObject, dot: Dot, known: StoredObject, *, stamp_ms: int
    ) -> tuple[StoredObject, Dot]:
        replaced, second = replace_version(stored, dot, known, stamp_ms=stamp_ms)
        unmarked = tuple(
            msgspec.structs.replace(one, replaces=0) if one.dot == second else one
            for one in replaced.siblings
        )
        return StoredObject(replaced.context, unmarked, replaced.overtaken), second

    patch.setattr(replica, "replace_version", replace_unmarked)


def replacement_supersedes_for_good(patch: pytest.MonkeyPatch) -> None:
    """Two writers that find each other and replace their dots end each other's writes."""

    def replace_for_good(
        stored: StoredObject, dot: Dot, known: StoredObject, *, stamp_ms: int
    ) -> tuple[StoredObject, Dot]:
        replaced, second = replace_version(stored, dot, known, stamp_ms=stamp_ms)
        return StoredObject(replaced.context, replaced.siblings), second

    patch.setattr(replica, "replace_version", replace_for_good)


def overwrite_trusts_its_own_copy(patch: pytest.MonkeyPatch) -> None:
    """An overwriting put does not care what the other replicas held."""
    patch.setattr(ReadRound, "goes_beyond", lambda self, stored: False)


def what_replaced_a_damaged_copy_counts(patch: pytest.MonkeyPatch) -> None:
    """A copy that was put back from one replica is trusted as if it had never been damaged."""
    patch.setattr(DoubtedCopies, "add", lambda self, key: None)


def restored_backup_is_taken_for_a_crash(patch: pytest.MonkeyPatch) -> None:
    """A copy of a directory is used as if it had been there all along."""

    def open_regardless(storage: StorageEngine, **options: Any) -> NodeIdentity:
        return open_identity(storage, **{**options, "disk_doubt": ""})

    patch.setattr(virtual_hosts, "open_identity", open_regardless)


def batch_is_all_of_one_kind(patch: pytest.MonkeyPatch) -> None:
    """A replica that agrees to a batch is taken to agree to every request of it."""
    agree = RequestBatch._agree

    def agree_to_all(self: RequestBatch[Any], sender: str, but: Any, now: Any) -> None:
        agree(self, sender, (), now)

    patch.setattr(RequestBatch, "_agree", agree_to_all)


def trace_clocks_are_not_merged(patch: pytest.MonkeyPatch) -> None:
    """Every node counts its own events and never looks at the clocks that frames carry."""
    patch.setattr(TraceClock, "merge", lambda self, sender, encoded: None)


ALL: tuple[Variant, ...] = (
    actor_without_epoch,
    copies_of_an_old_disk_keep_their_actor,
    clock_without_detached_dots,
    context_widened_around_an_existing_dot,
    delete_drops_the_row,
    write_quorum_counts_a_node_twice,
    merge_keeps_one_sibling,
    answer_before_the_commit,
    retry_mints_again,
    one_dot_of_a_request_ends_alone,
    requests_are_forgotten_at_once,
    late_requests_are_served,
    repeated_forward_is_served_again,
    damaged_copy_counts_as_absence,
    miss_of_a_stand_in_counts_as_absence,
    hint_is_deleted_when_sent,
    stand_in_keeps_no_hint,
    blocking_read_trusts_r_answers,
    replacement_without_a_mark,
    replacement_supersedes_for_good,
    overwrite_trusts_its_own_copy,
    what_replaced_a_damaged_copy_counts,
    restored_backup_is_taken_for_a_crash,
    batch_is_all_of_one_kind,
    trace_clocks_are_not_merged,
)
