"""Finding the command lines that messages, help and examples show, and parsing them as kvctl would.

A shown command begins with `kvctl`, goes on with words that can be arguments, and ends where the
sentence goes on. What stands in for a value in the source (`{name}`) becomes a word of its own.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any, NamedTuple

import typer
import typer.main

from kvctl.cli.app import COMMANDS, app

ROOT = Path(__file__).parents[2]
FILLED_IN = "FILLED-IN"
OF_NODES = frozenset({"start", "stop", "restart", "kill", "pause", "resume", "wipe"})
"""Commands that want nodes, or `--all`."""

_KVCTL = re.compile(r"(?<![\w/.=<-])kvctl(?= )")
_ARGUMENT = re.compile(
    rf"""-.* | .*{FILLED_IN}.* | [A-Z][A-Z:|]* | .*[0-9=,<>:/*$].* | ['"].*
    | hold | release | ready | converged""",
    re.VERBOSE,
)
_ENDS = re.compile(r"""[.,;:)`]+$""")


class Shown(NamedTuple):
    """One command that is shown."""

    source: str
    text: str
    words: list[str]
    """Those after `kvctl`."""


def shown_commands(*packages: str) -> Iterator[Shown]:
    """Every place in these packages where a text says `kvctl` and a word."""
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_bytes())
            for line, text in _texts(tree):
                for words in command_words(text):
                    yield Shown(f"{path.relative_to(ROOT)}:{line}", text, words)


def command_words(text: str) -> Iterator[list[str]]:
    """The words of each command in a text, as far as they can belong to it."""
    for line in text.splitlines():
        if line.lstrip().startswith("kvctl ") and not line.endswith((".", ",", ":")):
            yield _words_of_example(line.partition("   ")[0])
            continue
        starts = [match.end() for match in _KVCTL.finditer(line)]
        for start, end in pairwise([*starts, len(line)]):
            yield list(_words_in_prose(line[start:end].removesuffix("kvctl")))


def _words_of_example(line: str) -> list[str]:
    """A line that is a command as a whole, up to where its output goes."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|<>&")
    lexer.whitespace_split = True
    return list(takewhile(lambda word: word not in ("|", "<", ">", "&&"), lexer))[1:]


def _words_in_prose(text: str) -> Iterator[str]:
    """A command within a sentence ends at the first word that can only be the sentence's."""
    names, before = True, ""
    for word in text.split():
        bare = _ENDS.sub("", word)
        if names and before != "-c" and re.fullmatch(r"[a-z]+", bare):
            yield bare
            names = bare in COMMANDS and COMMANDS[bare].is_group
        elif bare and (before.startswith("-") or _ARGUMENT.fullmatch(bare)):
            yield bare
        else:
            return
        if bare != word:
            return
        before = bare


def _texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    docstrings = _docstrings_nobody_sees(tree)
    inner = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [
                str(part.value) if isinstance(part, ast.Constant) else FILLED_IN
                for part in node.values
            ]
            yield node.lineno, "".join(parts)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "kvctl_command":
            named = [one.value for one in node.args if isinstance(one, ast.Constant)]
            yield node.lineno, f"kvctl {named[0]} {FILLED_IN}"
        elif isinstance(node, ast.Constant) and id(node) not in docstrings | inner:
            yield node.lineno, str(node.value)


def _docstrings_nobody_sees(tree: ast.Module) -> set[int]:
    """All but those of commands, which are their help."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = [] if isinstance(node, ast.Module) else node.decorator_list
            is_command = any(
                isinstance(one, ast.Call) and getattr(one.func, "id", "") == "command"
                for one in decorators
            )
            found |= {
                id(statement.value)
                for statement in node.body
                if isinstance(statement, ast.Expr)
                and not (is_command and statement is node.body[0])
            }
    return found


def problem_of(words: list[str]) -> str:
    """What is wrong with a shown command: "" if kvctl has it, its options and its arguments."""
    command: Any = typer.main.get_command(app)
    context = typer.Context(command)
    rest = list(words)
    while rest[:1] == ["-c"]:
        rest = rest[2:]
    if rest[:1] in (["--help"], ["--version"]):
        return ""
    if rest and (rest[0].isupper() or rest[0] == FILLED_IN):
        return ""  # any command
    path = []
    while hasattr(command, "get_command"):
        name = rest.pop(0) if rest else ""
        inner = command.get_command(context, name)
        if inner is None:
            return f"there is no command {' '.join([*path, name])!r}"
        command = inner
        path.append(name)
        context = typer.Context(command, info_name=name)
        if rest == ["--help"]:
            return ""
    try:
        values, _, _ = command.make_parser(context).parse_args(rest)
    except Exception as error:  # noqa: BLE001 - Typer's own copy of click has no public names
        return f"{' '.join(path)}: {error}"
    for parameter in command.params:
        is_argument = parameter.param_type_name == "argument"
        if is_argument and parameter.required and not values.get(parameter.name):
            return f"{' '.join(path)} lacks {parameter.name}"
    if path[0] in OF_NODES and not (values.get("nodes") or values.get("everyone")):
        return f"{path[0]} names no node"
    return ""
