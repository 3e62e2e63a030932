"""Measuring a cluster: a closed loop of verified requests, and a yardstick to divide by.

* `bench`: `run_bench` and its `BenchReport`: the clients, the clock, the sum.
* `workload`: what one client does and how it verifies every answer.
* `worker`: a client in a process of its own.
* `histogram`: latencies in bounded memory, to one percent.
* `quiet`: waiting until the nodes have nothing left to do.
* `yardstick`: the same traffic without a store: what this machine's sockets and Python can do.
"""
