"""One node of the store: a pure protocol core, a storage engine, and a runtime around them.

The story of one put, with the file it passes at each step:

    client ─▶ runtime/zmq_transport    bytes arrive on the client socket, over CURVE
              protocol/codec           a frame is checked and decoded into requests
              runtime/event_loop       the turn begins: everything that waits is drained
              node                     `on_client_put`: is the request sound? who shall coordinate?
              replication/slots        which nodes fill the N slots of the key right now
              replication/put_coordinator
                                       supersedes what the local copy holds (overwrite), what the
                                       client has seen (context), or nothing (blind)
              replication/replica      mints the new version: `causality/siblings.put_version`
              storage/engine           memtable and commit log; nothing is durable yet
              outbox                   ReplicaPut for the other replicas (one message for all puts
                                       of a frame that go to the same ones: `replication/put_batch`)
              runtime/event_loop       COMMIT, and only then: send
    peers  ─▶ replication/replica_service
                                       `on_replica_put` merges, commits, acknowledges
    acks   ─▶ replication/quorum       counts slots; at W the client is answered
              replication/read_round   an overwrite learns what else there was, and covers that too
              replication/hinted_handoff
                                       keeps what an absent replica missed, and brings it home

Duties of whoever runs a `Node` (a process does, `runtime/event_loop`; so does a simulation):

1. hand it inputs together with the time: it has no clock, no sockets and no randomness of its own;
2. after each turn make the storage durable; if that fails, stop for good and send nothing;
3. then send the outbox.

Imports go downward: nothing outside `runtime/`, `storage/` and `__main__` touches a socket, a file,
a thread or the clock, and nothing in this package imports `kvctl`. A test holds both.
"""
