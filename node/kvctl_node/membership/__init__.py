"""Who is in the cluster, and who can be reached from here.

    membership         the rounds, and the handlers of the five messages; everything meets here
      own_record       the one record this node writes, and what peers remember of it
      peer_liveness    first-hand: which links have answered a probe
      gossip           everybody's records, spread by comparing digests in pairs
        member         one record: generation, heartbeat, versioned state
        digest         how much one knows of whom, 20 bytes a member
        news           what changed lately, and is mentioned in every exchange beyond 256 members
        observations   whom a member misses, 12 bytes each
        removed_members  disks that are refused for good
      gossip_targets   whom to gossip with, whom to probe
      failure_detector up, suspect or down: from heartbeats, and from what others observe
        phi_accrual    how surprising a silence is; shown, not decided by
      belief_row       what this node thinks of each member, for people

In a round, once per `gossip_interval_ms`, a node raises its heartbeat, probes up to nine peers and
compares digests with one. A probe is answered with a new heartbeat, so in clusters of up to ten
members everybody hears everybody directly each round, and gossip is the path around a cut link.

A killed process closes its connections and is not routed to from that moment; it is down in every
row `suspect_after_ms` later (4 s, plus at most a quarter of a round). Figures of
`python -m tests.simulation.gossip_scaling`, one round a second, default settings:

    members  rounds (worst)  bytes/s sent   age of known heartbeats      window
                                            median   99 %    worst
         10       3 (3)             2,622    0.3 s    0.9 s    0.9 s      4.0 s
         30       4 (5)             4,207    0.6 s    2.0 s    3.0 s      5.9 s
        100       5 (5)             7,957    1.2 s    2.7 s    4.1 s      8.0 s
        256       6 (6)            15,213    1.7 s    3.3 s    4.7 s      9.6 s
       1000       8 (12)           17,043    6.1 s   14.2 s   33.1 s     46.9 s

Bytes include the largest trace clock on every frame (`kvctl_node.causality.trace_clock`), 60 bytes
among ten members and at most 130 among many: a sixth of the figure at 256, and nearly half at ten.

Up to 256 members, the most a cluster may have, a digest lists everybody. The last row shows what
the bound on a digest costs beyond: bytes stop growing, changes still get through in O(log M) rounds
because they are in every slice, and heartbeats are as many times older as there are slices.
"""
