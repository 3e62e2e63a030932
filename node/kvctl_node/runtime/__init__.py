"""The process around the protocol core: everything that touches the operating system.

Before anything is opened, `open_files` sees to it that so many files may be. `directory_watch` ends
a node whose directory was removed or moved.

One turn of a node, and the file each step lives in:

1. `event_loop` waits until a socket, a timer or a signal needs it (`readiness`), and reads the
   clock once (`system_clock`).
2. `zmq_transport` drains every waiting frame; `authenticator` has already refused strangers, so
   what arrives was sent by the holder of a key (`security`). Malformed frames are counted
   (`traffic_counters`), logged sparingly (`node_log`) and dropped.
3. The core handles all messages and timers. It stores through the storage engine and leaves what
   it wants sent in the outbox.
4. One commit makes the turn durable. If it fails, nothing is sent and the process ends.
5. `event_log` writes and publishes the events, and `zmq_transport` sends one frame per destination.
6. The storage engine gets a bounded slice of time for its housekeeping; `garbage_schedule` and
   `huge_pages` keep the heap in order.
"""
