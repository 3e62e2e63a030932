"""Guided demonstrations: scenario files, and what plays them.

A scenario is a readable TOML file: words, kvctl commands, and what must be seen for a claim to
hold. `kvctl demo NAME` plays one that is shipped (in `scenarios/`), `kvctl run FILE` any other;
there is no difference between the two but where the file lies.

    scenario.py    the file: its model, and every complaint about it, with step and line
    selection.py   `sum(faults[*].hits)`: picking values out of a command's JSON
    check.py       comparing them; a claim holds, is refuted, or cannot be decided
    variables.py   `$owner`: values taken from one output and used later
    rendering.py   a command and its output, as they are shown
    command.py     running a kvctl command line inside this process
    stage.py       the cluster it is played on: one of its own, or one that is there
    runner.py      the play: step by step, up to a verdict
    narrator.py    telling it on a terminal
    library.py     the scenarios that are shipped
    performance.py all of it together
"""
