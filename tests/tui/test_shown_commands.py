"""Every command the dashboard shows is one that kvctl takes, with the very arguments it says."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer.main
from hypothesis import example, given
from hypothesis import strategies as st
from textual.widgets import Input

from kvctl.cli.app import COMMANDS as CLI_COMMANDS
from kvctl.cli.app import app as cli
from kvctl.cli.guard import COMMAND_LINE_ERROR
from kvctl.text.command_lines import command_line, command_rows
from kvctl.text.shell_words import words_of
from kvctl.tui import deeds, replica_deeds
from kvctl.tui.command_line import COMMANDS, parse_command
from kvctl.tui.deeds import Deed
from kvctl.tui.key_map import help_text
from kvctl.tui.pages import PAGES
from kvctl.tui.partition_dialog import PartitionDialog
from kvctl.view.observation import KeyConflict, VersionSeen
from kvctl.view.partition_plan import halves, isolated, whole
from kvctl_node.config import QuorumConfig
from kvctl_node.errors import InvalidRequestError
from tests.tui.dashboard_pilot import NAMES, Dashboard, busy_cluster, run_dashboard
from tests.tui.evil_text import KEYS
from tests.unit.view.cluster_story import all_up, view_after

ROOT = Path(__file__).parents[2]
BASH = shutil.which("bash")
VIEW = view_after(*all_up())
SHOWING = ("kvctl/tui", "kvctl/tui/pages", "kvctl/view", "kvctl/text")
PROTECTED = "_protected_args"
"""Where click keeps what stands behind the options of a group."""
OF_THE_DASHBOARD = {"help", "quit"}
"""Commands that there are behind the colon only."""
_COMMAND = re.compile(rf"kvctl (?:{'|'.join(CLI_COMMANDS)})\b[^;.,\n]*")
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
quorum = QuorumConfig(3, 2, 2, "sloppy")


def taken_by_kvctl(line: Sequence[str]) -> dict[str, Any]:
    """What kvctl reads the words after its name as; raises what it would say."""
    root = typer.main.get_command(cli)
    context = root.make_context("kvctl", list(line), resilient_parsing=False)
    found = dict(context.params)
    while True:
        command: Any = context.command
        if not hasattr(command, "resolve_command"):
            return {**found, "command": context.command_path.removeprefix("kvctl ")}
        rest = [*getattr(context, PROTECTED, ()), *context.args]
        name, sub, arguments = command.resolve_command(context, rest)
        context = sub.make_context(name, arguments, parent=context)
        found |= {name: value for name, value in context.params.items() if value is not None}


def conflict(key: str, *values: str | None) -> KeyConflict:
    versions = tuple(VersionSeen((f"n{at}", 1), value) for at, value in enumerate(values, 1))
    return KeyConflict(key, (("n1", 1), ("n2", 1)), versions)


def deeds_about_nodes() -> list[Deed]:
    one_way = halves(NAMES).with_turned(("n1", "n5"))
    return [
        *(
            make("n2")
            for make in (
                deeds.kill,
                deeds.start,
                deeds.stop,
                deeds.pause,
                deeds.resume,
                deeds.restart,
            )
        ),
        deeds.partition([["n1", "n2"], ["n3"]], NAMES),
        deeds.isolate(["n1", "n2"], NAMES),
        deeds.planned(isolated(NAMES, "n3")),
        deeds.planned(one_way),
        deeds.heal(),
        deeds.heal("f1"),
        deeds.set_quorum(quorum, r=1, w=3, mode="strict"),
        replica_deeds.hold(),
        replica_deeds.release(),
        replica_deeds.push(),
        replica_deeds.push(["n1"]),
        replica_deeds.compare("n1", "n2"),
        replica_deeds.repair(),
        replica_deeds.repair(["n1", "n2"]),
    ]


def deeds_about_a_key(key: str, value: str) -> list[tuple[Deed, dict[str, object]]]:
    """Each with what kvctl has to take its command for."""
    two = conflict(key, value, f"{value}\n")
    settled = {"command": "resolve", "key": key}
    return [
        (deeds.put(key, value), {"command": "put", "key": key, "value": value}),
        (deeds.get(key), {"command": "get", "keys": [key]}),
        (deeds.delete(key), {"command": "del", "key": key}),
        (replica_deeds.take(two, ("n2", 1)), {**settled, "pick": "n2:1"}),
        (replica_deeds.merge(two), {**settled, "value": replica_deeds.joined_text(two)}),
        (replica_deeds.settle(two, value), {**settled, "value": value}),
    ]


def test_every_deed_has_a_command_that_kvctl_takes() -> None:
    for deed in deeds_about_nodes():
        taken = taken_by_kvctl(words_of(command_line(deed.words))[1:])
        assert deed.words[0] in taken["command"]


def test_a_command_names_the_cluster_if_it_was_named() -> None:
    for deed in deeds_about_nodes():
        assert taken_by_kvctl(words_of(command_line(deed.words, "it's"))[1:])["cluster"] == "it's"


@given(words, words)
@example("-dash", "--value")
@example("it's", "$(touch pwned)")
def test_a_command_about_any_key_is_taken_as_that_key(key: str, value: str) -> None:
    for deed, meant in deeds_about_a_key(key, value):
        taken = taken_by_kvctl(words_of(command_line(deed.words))[1:])
        assert {name: taken[name] for name in meant} == meant


@pytest.mark.skipif(BASH is None, reason="needs bash")
def test_a_shell_gives_kvctl_the_very_arguments() -> None:
    assert BASH is not None
    script = 'kvctl() { printf "%s\\0" "$@" END; }\n'
    expected: list[str] = []
    for key in KEYS:
        for deed, _ in deeds_about_a_key(key, f"{key}'$(touch pwned)`id`\\"):
            script += "\n".join([command_line(deed.words, "demo"), ""])
            script += "\n".join([*command_rows(deed.words, "demo", width=30), ""])
            expected += [*("-c", "demo", *deed.words, "END") * 2]
    told = subprocess.run([BASH], input=script.encode(), check=True, capture_output=True)
    assert told.stdout.decode().split("\0")[:-1] == expected


def test_no_command_is_shown_that_no_shell_can_pass() -> None:
    for deed, _ in deeds_about_a_key("a\0b", "v"):
        assert command_line(deed.words) == ""
    assert replica_deeds.merge(_cut()).words == ()


def _cut() -> KeyConflict:
    versions = (VersionSeen(("n1", 1), "a", is_cut=True), VersionSeen(("n2", 1), "b"))
    return KeyConflict("k", (("n1", 1), ("n2", 1)), versions)


@given(words, words)
@example("-dash", "--value")
@example("a\x1b[2J", "\u202e\n")
def test_what_was_copied_does_the_same_behind_the_colon(key: str, value: str) -> None:
    for made in (deeds.put(key, value), deeds.get(key), deeds.delete(key)):
        if value == "-" and made.words[0] == "put":
            continue
        for line in (command_line(made.words), command_line(made.words, VIEW.cluster)):
            parsed = parse_command(line, VIEW, ())
            assert isinstance(parsed, list) and [one.words for one in parsed] == [made.words]


def test_a_command_for_another_cluster_is_refused_behind_the_colon() -> None:
    with pytest.raises(InvalidRequestError, match="watches demo"):
        parse_command("kvctl -c other kill n1", VIEW, ())


def test_what_kvctl_would_read_from_standard_input_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="standard input"):
        parse_command("put k -", VIEW, ())


# ------------------------------------------------------------------ what is written in the program


def written_commands() -> list[str]:
    """`kvctl ...` in strings that are shown: those of the program, but for its docstrings."""
    found = []
    for folder in SHOWING:
        for path in sorted((ROOT / folder).glob("*.py")):
            tree = ast.parse(path.read_bytes())
            docs = {id(_docstring(node)) for node in ast.walk(tree)}
            for node in ast.walk(tree):
                if isinstance(node, ast.JoinedStr):
                    made = _COMMAND.search(ast.unparse(node))
                    assert made is None, f"{path.name}: {made} is put together without quoting"
                if isinstance(node, ast.Constant) and id(node) not in docs:
                    found += _COMMAND.findall(str(node.value))
    return found


def _docstring(node: ast.AST) -> ast.AST | None:
    """The string that documents a module, a class, a function or the name above it."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return node.value
    return None


def test_every_written_command_is_one_that_kvctl_takes() -> None:
    shown = written_commands()
    assert any(line.startswith("kvctl put KEY -") for line in shown)
    for line in shown:
        assert _is_taken_with_its_options(words_of(line)[1:]), line


def _is_taken_with_its_options(said: list[str]) -> bool:
    """Whether a sentence begins with a command: prose may follow, but no option is prose."""
    for end in range(len(said), 0, -1):
        try:
            taken_by_kvctl(said[:end])
        except COMMAND_LINE_ERROR:
            continue
        return not any(word.startswith("-") for word in said[end:])
    return False


def test_a_command_that_kvctl_does_not_take_is_found() -> None:
    assert _is_taken_with_its_options(["up", "makes", "one"])
    assert not _is_taken_with_its_options(["up", "--fast", "makes", "one"])
    assert not _is_taken_with_its_options(["settle", "k"])


def usages() -> list[str]:
    """The usage of each command behind the colon, with something in place of what stands for it."""
    lines = []
    for name, command in COMMANDS.items():
        if name in OF_THE_DASHBOARD:
            continue
        line = command.usage.replace("...", "")
        optional = re.findall(r"\[([^]]*)\]", line)
        bare = re.sub(r"\[[^]]*\]", "", line)
        lines.append(bare)
        for choice in optional:
            lines += [bare + one for one in choice.split("|")]
    return lines


def test_every_usage_is_one_that_kvctl_takes_and_a_shell_reads_as_words() -> None:
    for line in usages():
        taken_by_kvctl(words_of(line))
        unquoted = re.sub(r"'[^']*'", "", line)
        assert not set("<>|&;()$`*?!#") & set(unquoted), f"a shell would act on {line}"


def test_help_names_the_commands_as_they_are_used() -> None:
    for page in PAGES:
        text = help_text(page())
        for command in COMMANDS.values():
            assert command.usage in text


def test_the_palette_shows_every_usage_whole() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("ctrl+p")
        for name in ("heal", "handoff"):
            dashboard.app.screen.query_one("Input", Input).value = name
            await dashboard.until(lambda name=name: COMMANDS[name].usage in dashboard.text)

    run_dashboard(scenario, *busy_cluster())


# ------------------------------------------------------------------ what is shown on the screen


def test_a_long_command_is_shown_whole_in_a_second_line_or_not_at_all() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        dashboard.app.run_command(f"put {'k' * 30} {'v' * 30}")
        await dashboard.until(lambda: "acknowledged" in dashboard.notice)
        assert f"[kvctl put {'k' * 30} {'v' * 30}]" in dashboard.lines
        dashboard.app.run_command(f"put {'k' * 60} {'v' * 60}")
        await dashboard.until(lambda: "longer than a line" in dashboard.notice)
        assert "kvctl put" not in dashboard.text

    run_dashboard(scenario, *busy_cluster(), size=(80, 24))


def test_commands_on_the_screen_name_the_cluster_that_was_named() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        dashboard.app.cluster_option = "demo"
        await dashboard.press("p")
        await dashboard.until(lambda: "[kvctl -c demo pause n1]" in dashboard.notice)
        await dashboard.press("x", "h")
        assert isinstance(dashboard.app.screen, PartitionDialog)
        assert "kvctl -c demo partition n1,n2 n3,n4,n5" in dashboard.text

    run_dashboard(scenario, *busy_cluster())


def test_a_cut_of_many_links_is_shown_in_rows_that_a_shell_joins() -> None:
    plan = whole(tuple(f"node-{place}" for place in range(8)))
    for place in range(7):
        plan = plan.with_turned((f"node-{place}", f"node-{place + 1}"))
    rows = command_rows(plan.words(), width=68)
    assert len(rows) > 1 and all(len(row) <= 68 for row in rows)
    assert all(row.endswith(" \\") for row in rows[:-1])
    joined = "\n".join(rows).replace("\\\n", "")
    assert words_of(joined) == ["kvctl", *plan.words()]
