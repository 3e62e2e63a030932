"""Versions: who has seen what, and which writes are concurrent.

* `causal_context`: the set of writes an object or a client has seen: a version vector plus
  detached dots.
* `siblings`: the stored object: a context and the live versions (siblings), with the two
  operations `put` and `merge` that everything else is built on.
* `truncation`: keeping the vector short without losing a value.
* `recent_requests`: which request ids were applied, so that a retry applies once.
* `context_token`: a context as a client carries it: opaque, checksummed, bound to its key.
* `epoch_folding`: clocks as people see them.
* `trace_clock`: not of versions but of events: which of them could have led to which.

The representation is the *dotted version vector set* (Preguiça, Almeida, Baquero et al.): a plain
vector clock per object cannot tell two clients apart that read the same version and write through
the same coordinator; giving every value its own dot can.
"""
