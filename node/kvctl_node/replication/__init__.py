"""From one copy to N: a replica's own work, quorums, and the coordinators of requests.

* `replica`: the local copy of a key: read it, merge into it, mint a new version.
* `quorum`: pure accumulators that say when enough answers are in.
* `put_coordinator`, `get_coordinator`, `scan_coordinator`: one object per request in flight, which
  moves messages around an accumulator.
* `request`: what the three have in common.
* `request_batch`, `put_batch`, `get_batch`: requests that came together share messages and a
  quorum, until something sets one of them apart; `new_copies`: the many keys among them of which
  there is nothing here yet.
* `operation_trace`: the last operations of this node, kept while somebody watches.
* `merkle_tree`, `merkle_pair`: what a node holds, as hashes; of one node, and of a pair.
* `anti_entropy`: which nodes are compared when; `anti_entropy_comparison` asks, along an
  `anti_entropy_walk`; `anti_entropy_answers` answers, `key_listing` lists, `repair_rate` holds
  back.
* `rebuild`: a node whose disk is new does not know what it does not know.
* `quarantine`: a damaged table, from its discovery until it is healed; `doubted_copies`: what took
  the place of single damaged records is no evidence until it was compared.
* `tombstone_reaping`: how deleted keys are forgotten at last.
"""
