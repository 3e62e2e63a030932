"""Settings: check a file, show what a cluster uses, change it live, explain what it means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from kvctl.cli.guard import did_you_mean
from kvctl.cli.invocation import Invocation, command, command_family, split_list
from kvctl.cli.output import OutputFormat, Table
from kvctl.errors import ClusterNotFoundError, ExitCode, KvctlError
from kvctl.text.escaping import printable
from kvctl_node.config import QuorumConfig, load_config
from kvctl_node.errors import ConfigError, InvalidRequestError

app = command_family("Check, show, change and explain settings.")

QUORUM_NAMES = ("n", "r", "w", "mode")
EXPLAIN_NAMES = (*QUORUM_NAMES, "durability")
_DIGITS_MAX = 9


class CheckFailedError(KvctlError):
    """What was checked is not in order."""

    kind = "check_failed"


@command(app, "check", examples=("kvctl config check sample_configs/three.toml",))
def check(
    run: Invocation,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A TOML or JSON file.")],
) -> None:
    """Check a configuration file without starting anything.

    Exits with 1 and says what is wrong if kvctl up --config would refuse it.
    """
    if not file.is_file():
        raise InvalidRequestError(f"there is no file {file}.")
    try:
        config = load_config(file)
    except ConfigError as error:
        raise CheckFailedError(error.message, hint=error.hint) from error
    quorum = config.quorum
    run.out.result(
        {
            "file": printable(str(file)),
            "valid": True,
            "nodes": [node.name for node in config.nodes],
            "quorum": msgspec.to_builtins(quorum),
        },
        Table(
            ("FILE", ">NODES", "QUORUM"),
            [
                (
                    str(file),
                    str(len(config.nodes)),
                    f"N={quorum.n} R={quorum.r} W={quorum.w} {quorum.mode}",
                )
            ],
        ),
    )


@command(app, "show", examples=("kvctl config show", "kvctl config show -o json | jq .quorum"))
def show(run: Invocation) -> None:
    """Show the configuration the cluster uses, ports included."""
    _, config = run.open_cluster()
    document = msgspec.to_builtins(config)
    run.out.result(document, Table(("SETTING", "VALUE"), list(_flatten(document))))


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """`quorum.n` and `3`; nodes by their name."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flatten(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list | tuple):
        for inner in value:
            rest = {name: each for name, each in inner.items() if name != "name"}
            yield from _flatten(rest, f"{path}.{inner['name']}")
    else:
        yield path, str(value)


@command(
    app, "set", examples=("kvctl config set r=1 w=3", "kvctl config set mode=strict"), goes_on=True
)
def set_(
    run: Invocation,
    *,
    settings: Annotated[list[str], typer.Argument(metavar="NAME=VALUE", help="r, w and mode.")],
) -> None:
    """Change R, W and mode of a running cluster, without a restart.

    N is fixed when a cluster is made.
    """
    wanted = _parse_settings(settings, QUORUM_NAMES)
    change = run.supervisor().set_quorum(
        run.open_cluster()[0].name,
        n=_number(wanted, "n"),
        r=_number(wanted, "r"),
        w=_number(wanted, "w"),
        mode=wanted.get("mode"),
    )
    if change.unconfirmed:
        run.out.warn(
            f"{', '.join(change.unconfirmed)} did not confirm the change.",
            hint=run.shown(
                "they use it when they next start; "
                f"kvctl restart {' '.join(change.unconfirmed)} does that now."
            ),
        )
    quorum = change.quorum
    run.out.result(
        {
            "quorum": msgspec.to_builtins(quorum),
            "confirmed": list(change.confirmed),
            "unconfirmed": list(change.unconfirmed),
        },
        Table(
            (">N", ">R", ">W", "MODE", "CONFIRMED BY"),
            [
                (
                    str(quorum.n),
                    str(quorum.r),
                    str(quorum.w),
                    quorum.mode,
                    ",".join(change.confirmed) or "-",
                )
            ],
        ),
    )
    if change.unconfirmed:
        raise typer.Exit(int(ExitCode.NO))


@command(
    app,
    "explain",
    examples=(
        "kvctl config explain r=1 w=1",
        "kvctl config explain n=5 r=3 w=3 mode=strict durability=fsync",
    ),
)
def explain(
    run: Invocation,
    *,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME=VALUE",
            help="n, r, w, mode and durability; the others are the cluster's, or the defaults.",
        ),
    ] = None,
) -> None:
    """Say what a setting guarantees and what it does not.

    Changes nothing, and needs no cluster.
    """
    from kvctl.cli.guarantees import explain as explain_quorum

    wanted = _parse_settings(settings or [], EXPLAIN_NAMES)
    base, durability = _current(run, wanted)
    quorum = QuorumConfig(
        n=base.n,
        r=_number(wanted, "r") or base.r,
        w=_number(wanted, "w") or base.w,
        mode=wanted.get("mode", base.mode),
    )
    quorum.validate()
    durability = wanted.get("durability", durability)
    if durability not in ("os", "fsync"):
        raise InvalidRequestError(f"durability must be os or fsync, not {durability!r}.")
    explanation = explain_quorum(quorum, durability)
    if run.out.is_json:
        run.out.json_line(explanation.to_json())
        return
    run.out.line(f"N={quorum.n} R={quorum.r} W={quorum.w}, {quorum.mode}, durability {durability}")
    for guarantee in explanation.guarantees:
        if run.out.format is OutputFormat.PLAIN:
            holds = "yes" if guarantee.holds else "no"
            run.out.line(f"{guarantee.name}\t{holds}\t{guarantee.text}")
        else:
            run.out.line(f"  {'+' if guarantee.holds else '-'} {guarantee.text}")


def _current(run: Invocation, wanted: dict[str, str]) -> tuple[QuorumConfig, str]:
    """What is not said is as in the cluster, or as in a new one of `n` replicas."""
    n = _number(wanted, "n")
    if n is not None:
        if n < 1:
            raise InvalidRequestError(f"n must be at least 1, not {n}.")
        return QuorumConfig(n=n, r=n // 2 + 1, w=n // 2 + 1), "os"
    try:
        _, config = run.open_cluster()
    except ClusterNotFoundError:
        if run.options.cluster is not None:
            raise
        return QuorumConfig(), "os"
    return config.quorum, config.storage.durability


def _parse_settings(settings: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """`r=1 w=3` as a dictionary, with names that exist. Raises `InvalidRequestError`."""
    wanted: dict[str, str] = {}
    for setting in split_list(settings):
        name, equals, value = setting.partition("=")
        if name not in known:
            raise InvalidRequestError(
                f"there is no setting {name!r}.",
                hint=did_you_mean(name, list(known)) or f"the settings are {', '.join(known)}.",
            )
        if not equals or not value:
            raise InvalidRequestError(f"{name} has no value.", hint=f"write {name}=VALUE.")
        if wanted.get(name, value) != value:
            raise InvalidRequestError(f"{name} is given two values.")
        wanted[name] = value
    return wanted


def _number(wanted: dict[str, str], name: str) -> int | None:
    text = wanted.get(name)
    if text is None:
        return None
    if not text.isdecimal() or len(text) > _DIGITS_MAX:
        raise InvalidRequestError(f"{name} must be a whole number, not {text!r}.")
    return int(text)
