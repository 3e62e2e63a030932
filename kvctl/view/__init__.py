"""The cluster as people look at it: one immutable picture, and how it changes.

    nodes ──▶ feed ──▶ observation ──▶ reduce(view, observation) ──▶ ClusterView ──▶ screens
                            │
                            └──▶ recorder ──▶ file ──▶ replay feed ──▶ the same again

* `observation`: what a feed delivers: a node's answer, its silence, an event, an operation.
* `state`: `ClusterView` and its parts: plain immutable values.
* `reduce`: the one function that turns a view and an observation into the next view.
* `quorum_outlook`: what each side of a cut could still read and write.
* `partition_plan`, `sibling_clocks`, `merkle_descent`, `space_time`: what single screens are about.
* `key_walk`, `ring_raster`: where a key goes, and how a ring is drawn in character cells.
* `feed`, `live_feed`, `scripted_feed`, `recording`, `recorder`: where observations come from, and
  where they are kept.

Nothing here knows a screen, a colour or a key: everything that can be told from the picture alone
is computed here, and tested without a terminal. Only `live_feed` touches sockets and processes.
"""
