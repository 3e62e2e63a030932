"""Completion of commands, options, and the names of clusters and nodes in the shell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from kvctl.cli.choices import Shell
from kvctl.cli.invocation import Invocation, command, command_family
from kvctl_node.errors import InvalidRequestError

app = command_family("Set up completion for bash, zsh or fish.")

WhichShell = Annotated[
    Shell | None, typer.Argument(metavar="SHELL", help="bash, zsh or fish (default: $SHELL).")
]


@command(
    app,
    "show",
    examples=('eval "$(kvctl completion show bash)"', "kvctl completion show fish | source"),
)
def show(run: Invocation, *, shell: WhichShell = None) -> None:
    """Print the completion script of a shell."""
    from typer._completion_shared import get_completion_script

    from kvctl.cli.app import COMPLETION_VARIABLE

    script = get_completion_script(
        prog_name="kvctl", complete_var=COMPLETION_VARIABLE, shell=_chosen(shell)
    )
    run.out.content(f"{script}\n".encode())


@command(app, "install", examples=("kvctl completion install", "kvctl completion install zsh"))
def install(run: Invocation, *, shell: WhichShell = None) -> None:
    """Install completion for a shell, for this user.

    Adds a line to the shell's start-up file, once; open a new shell to have it.
    """
    from typer._completion_shared import install as install_script

    from kvctl.cli.app import COMPLETION_VARIABLE

    chosen = _chosen(shell)
    try:
        name, path = install_script(
            shell=chosen, prog_name="kvctl", complete_var=COMPLETION_VARIABLE
        )
    except RuntimeError as error:
        raise InvalidRequestError(
            "this user has no home directory, where the shell's start-up file would be.",
            hint=f"kvctl completion show {chosen} prints the script.",
        ) from error
    run.out.note(f"{name} completion is installed in {path}; open a new shell to have it.")


def _chosen(shell: Shell | None) -> str:
    if shell is not None:
        return shell.value
    name = Path(os.environ.get("SHELL", "")).name
    if name in tuple(Shell):
        return name
    raise InvalidRequestError(
        "which shell is meant is not clear from $SHELL.", hint="name it: bash, zsh or fish."
    )
