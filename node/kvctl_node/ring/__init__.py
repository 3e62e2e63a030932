"""Who owns what: keys to partitions, partitions to owners, and how that changes.

Pure functions and immutable values: no I/O, no clock, no randomness.

* `key_hash`         key → 128 hash bits → partition and Merkle leaf
* `placed_keys`      keys that are handled together, with their hashes and partitions
* `partition_map`    partition → N owners; the document all nodes agree on
* `preference_list`  owners, then the rest of the cluster clockwise; who stands in for whom
* `quota`            how many replicas each server is due, by capacity and zone
* `claim`            servers → partition map, from scratch or with the fewest moves
* `spread`, `rebalance`, `primaries`  the three steps of a claim
* `transfers`        what has to be copied to get from one map to the next
* `ownership`        what each server holds of the ring, for people
"""
