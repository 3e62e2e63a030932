"""Deterministic simulation: whole clusters of the real node classes, under everything at once.

    python -m tests.simulation --seeds 1000            many runs
    python -m tests.simulation --seed 42 --ladder      one of them, drawn

Read `simulation.py` for the course of a run, `options.py` for what a seed decides, `nemesis.py` for
the faults, `oracle.py` for what is demanded and `violation.py` for the demands by number.
"""
