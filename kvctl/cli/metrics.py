"""`kvctl metrics`: the figures of all nodes, once, for a scraper or a person."""

from __future__ import annotations

from kvctl.cli.invocation import Invocation, command, command_family

app = command_family()

METRICS_TIMEOUT_S = 1.0


@command(
    app,
    "metrics",
    examples=("kvctl metrics", "kvctl metrics | grep kvctl_hints"),
)
def metrics(run: Invocation) -> None:
    """Print figures of all nodes as OpenMetrics text.

    Always that format, whatever -o says. A node that does not answer has its state and nothing
    else. For a scraper, write it to the node exporter's textfile directory now and then.
    """
    from kvctl.cli.open_metrics import exposition

    name = run.open_cluster()[0].name
    status = run.supervisor().status(name, timeout_s=run.given_timeout_s or METRICS_TIMEOUT_S)
    run.out.content(exposition(status).encode())
