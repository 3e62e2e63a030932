"""A scenario file: what a person writes, and every complaint about it, with its step and line.

    title = "Both sides of a cut network take writes"
    summary = "one line for the list"
    keys = ["cart"]                      # $cart: a key nobody else uses

    [cluster]                            # what it is played on; all of it optional
    nodes = 5
    mode = "sloppy"

    [[step]]
    say = "Who owns the key?"
    run = "kvctl where $cart -o json"
    let = { a = "primaries[0]" }         # from here on $a is the first owner

    [[step]]
    run = "kvctl faults -o json"
    within = "10s"                       # repeated until it is as it should be, so long at most
    require = [{ claim = "the cut hit messages", value = "sum(faults[*].hits)", at_least = 1 }]

The module `check` explains `check` and `require`, `selection` the little language of values. `exit`
is a claim, too: the exit code the command has to end with; without it, another code than 0 means
that the scenario could not be played. `[[finally]]` steps tidy up a cluster that lives on.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import msgspec

from kvctl.cli.durations import parse_duration
from kvctl.demos.check import Check
from kvctl.demos.selection import check_selection
from kvctl.demos.variables import NAME, Variables, names_in
from kvctl.text.escaping import printable
from kvctl_node.config import (
    ClusterConfig,
    LimitsConfig,
    NodeSpec,
    QuorumConfig,
    RepairConfig,
    StorageConfig,
    TimingConfig,
)
from kvctl_node.documents import UNREADABLE, plain_text, why_unreadable
from kvctl_node.errors import ConfigError, StoreError

STEPS_MAX = 200
SCENARIO_BYTES_MAX = 1024 * 1024
LINES_MAX = 100_000
COUNTER = "n"
REFUSED_COMMANDS = ("up", "down", "demo", "run", "dashboard", "autoscale")
"""A scenario neither makes nor ends its cluster, nor plays another, nor stays open."""
ENDLESS_OPTIONS = ("-f", "--follow", "--watch")

_HEADER = re.compile(r"^[ \t]*\[\[[ \t]*(step|finally)[ \t]*\]\]", re.MULTILINE)
_PLACE = re.compile(r" - at `\$\.(step|finally)\[(\d+)\](.*)`$")


class ScenarioError(ConfigError):
    """A scenario file cannot be read, or says something that makes no sense."""

    kind = "scenario"


class Lines(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a command reads from standard input: `count` lines, in which $n counts from 1."""

    count: int
    line: str

    def render(self, variables: Variables) -> bytes:
        """The lines, as bytes."""
        return b"".join(
            variables.with_values({COUNTER: number}).fill(self.line).encode() + b"\n"
            for number in range(1, self.count + 1)
        )


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Words, or a command with what is to be seen in its output, or both."""

    say: str = ""
    run: str = ""
    exit: int | None = None
    let: dict[str, str] = {}
    """Variable → selection from the output."""
    check: list[Check] = []
    require: list[Check] = []
    within: str = ""
    show: list[str] | None = None
    """Which parts of a JSON output to show, as selections (default: all of it)."""
    input: Lines | None = None

    @property
    def arguments(self) -> list[str]:
        """The command line after `kvctl`, variables and all. Raises `ConfigError`."""
        try:
            words = shlex.split(self.run)
        except ValueError as error:
            raise ConfigError(f"{self.run!r} cannot be split into words: {error}.") from error
        if words[:1] != ["kvctl"] or len(words) < 2:
            raise ConfigError(
                f"{self.run!r} is not a kvctl command.", hint="for example kvctl get $cart."
            )
        return words[1:]

    @property
    def within_s(self) -> float:
        """How long the command is repeated until all is as it should be; 0: it runs once."""
        return parse_duration(self.within, option="within") if self.within else 0.0

    def texts(self) -> Iterator[str]:
        """Everything in which variables may stand before the command's output is there."""
        yield self.say
        yield self.run

    def later_texts(self) -> Iterator[str]:
        """The same for what is looked at after it."""
        yield from self.let.values()
        yield from self.show or ()
        for check in (*self.check, *self.require):
            yield from check.texts()

    def validate(self, known: set[str]) -> None:
        """Check one step, given the variables that are `known`; adds its own. `ConfigError`."""
        if not self.run:
            if not self.say:
                raise ConfigError("there is neither say nor run in it.")
            if self.let or self.check or self.require or self.exit is not None:
                raise ConfigError("it looks at an output, but runs no command.")
        else:
            _check_command(self.arguments)
        _check_names(self.texts(), known)
        _check_names(self.later_texts(), known | self.let.keys())
        for name, selection in self.let.items():
            if not NAME.match(name):
                raise ConfigError(
                    f"{name!r} is no name for a variable.",
                    hint="names are a letter, then letters, digits or underscores, lower case.",
                )
            check_selection(selection.replace("$", ""))
        for selection in self.show or ():
            check_selection(selection.replace("$", ""))
        for check in (*self.check, *self.require):
            check.validate()
        if self.input is not None:
            _check_names((self.input.line,), known | {COUNTER})
            if not 1 <= self.input.count <= LINES_MAX:
                raise ConfigError(f"input.count must be from 1 to {LINES_MAX}.")
        assert self.within_s >= 0  # parses it
        known.update(self.let)


class ScenarioCluster(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The cluster a scenario is played on; the sections are those of a configuration file."""

    nodes: int = 5
    replicas: int = 3
    r: int = 2
    w: int = 2
    mode: str = "sloppy"
    partitions: int = 1024
    zone: dict[str, str] = {}
    capacity: dict[str, float] = {}
    storage: StorageConfig = StorageConfig()
    limits: LimitsConfig = LimitsConfig()
    timing: TimingConfig = TimingConfig()
    repair: RepairConfig = RepairConfig()

    def to_config(self) -> ClusterConfig:
        """The configuration of a cluster made for it. Raises `ConfigError`."""
        names = [f"n{number}" for number in range(1, self.nodes + 1)]
        for name in (*self.zone, *self.capacity):
            if name not in names:
                raise ConfigError(f"there is no node {name!r}.", hint=f"there are {names}.")
        config = ClusterConfig(
            nodes=tuple(
                NodeSpec(name, self.capacity.get(name, 1.0), self.zone.get(name, ""))
                for name in names
            ),
            quorum=QuorumConfig(self.replicas, self.r, self.w, self.mode),
            partitions=self.partitions,
            storage=self.storage,
            limits=self.limits,
            timing=self.timing,
            repair=self.repair,
        )
        config.validate()
        return config


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole file. `name` is that of the file, without its ending."""

    title: str
    steps: list[Step] = msgspec.field(name="step")
    summary: str = ""
    question: str = ""
    """What the scenario is to find out."""
    conclusion: str = ""
    """What is known if everything held."""
    keys: list[str] = []
    own_cluster_only: bool = False
    """True if it destroys something, or looks at the whole history: then -c is refused."""
    cluster: ScenarioCluster = ScenarioCluster()
    finally_: list[Step] = msgspec.field(name="finally", default_factory=list)
    name: str = ""


def parse_scenario(text: str, *, source: str, name: str = "") -> Scenario:
    """Decode and validate a scenario; `source` names it in errors (`ScenarioError`)."""
    try:
        scenario = msgspec.toml.decode(text, type=Scenario)
    except UNREADABLE as error:
        reason = why_unreadable(error, text.encode())
        raise ScenarioError(_located(reason, text, source)) from error
    for section, steps in (("step", scenario.steps), ("finally", scenario.finally_)):
        if len(steps) > STEPS_MAX:
            raise ScenarioError(f"{source}: {len(steps)} steps; at most {STEPS_MAX} are taken.")
        _validate_steps(scenario, section, steps, text, source)
    if not scenario.steps:
        raise ScenarioError(
            f"{source}: there is no step in it.", hint="a step begins with [[step]]."
        )
    try:
        scenario.cluster.to_config()
        _check_keys(scenario.keys)
        _check_names((scenario.conclusion,), _all_names(scenario))
    except ConfigError as error:
        raise ScenarioError(f"{source}: {error.message}", hint=error.hint) from error
    return msgspec.structs.replace(scenario, name=name or source)


def load_scenario(path: Path) -> Scenario:
    """Read a scenario file. Raises `ScenarioError`."""
    try:
        with path.open("rb") as file:
            data = file.read(SCENARIO_BYTES_MAX + 1)
    except OSError as error:
        raise ScenarioError(f"cannot read {path}: {error.strerror}.") from error
    if len(data) > SCENARIO_BYTES_MAX:
        raise ScenarioError(f"{path} is larger than {SCENARIO_BYTES_MAX} bytes.")
    try:
        text = plain_text(data).decode("utf-8")
    except UNREADABLE as error:
        raise ScenarioError(f"{path} is no scenario: {why_unreadable(error, data)}.") from error
    return parse_scenario(text, source=str(path), name=printable(path.stem))


def _validate_steps(
    scenario: Scenario, section: str, steps: list[Step], text: str, source: str
) -> None:
    known = set(scenario.keys) if section == "step" else _all_names(scenario)
    for index, step in enumerate(steps):
        try:
            step.validate(known)
        except StoreError as error:
            place = _place(section, index, text)
            raise ScenarioError(f"{source}, {place}: {error.message}", hint=error.hint) from error


def _check_command(arguments: list[str]) -> None:
    if arguments[0] in REFUSED_COMMANDS or arguments[0].startswith(("-", "$")):
        raise ConfigError(
            f"kvctl {arguments[0]} cannot stand in a scenario.",
            hint="it begins with the command, and its cluster is made for it and ends with it.",
        )
    for option in ENDLESS_OPTIONS:
        if option in arguments:
            raise ConfigError(
                f"{option} never ends by itself.", hint="within = '10s' repeats a command instead."
            )
    for argument in arguments:
        if argument in ("-c", "--cluster") or argument.startswith("--cluster="):
            raise ConfigError(f"{argument}: a scenario is played on one cluster.")


def _check_names(texts: Iterator[str] | tuple[str, ...], known: set[str]) -> None:
    for text in texts:
        for name in names_in(text):
            if name not in known:
                raise ConfigError(
                    f"nothing has been called ${name} so far.",
                    hint=f"there are {', '.join(sorted(known)) or 'none yet'}; let = "
                    f'{{ {name} = "..." }} takes it from an output.',
                )


def _check_keys(keys: list[str]) -> None:
    for key in keys:
        if not NAME.match(key):
            raise ConfigError(
                f"{key!r} is no name for a key.",
                hint="names are a letter, then letters, digits or underscores, lower case.",
            )


def _all_names(scenario: Scenario) -> set[str]:
    return {*scenario.keys, *(name for step in scenario.steps for name in step.let)}


def _located(message: str, text: str, source: str) -> str:
    """msgspec's sentence, with the step and the line it is about in the place of its path."""
    place = _PLACE.search(message)
    if place is None:
        sentence = message.replace(" - at `$", " in `").replace("`$.", "`").replace("in `.", "in `")
        return f"{source}: {_lowered(sentence)}."
    where = _place(place[1], int(place[2]), text)
    field = place[3].lstrip(".")
    sentence = _lowered(message[: place.start()])
    return f"{source}, {where}: {f'{field}: ' if field else ''}{sentence}."


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _place(section: str, index: int, text: str) -> str:
    headers = [match for match in _HEADER.finditer(text) if match[1] == section]
    where = f"{section} {index + 1}"
    if index < len(headers):
        where += f" (line {text.count(chr(10), 0, headers[index].start()) + 1})"
    return where
