"""Telling a play on a terminal, or into a file: words, commands, outputs, findings, verdict.

Everything goes to standard output in the order in which it happened. Colour only underlines what
the words say. With `--step` the narrator waits for Enter before each step; where there is no one to
press it, at the end of the input, the play goes on by itself.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence

import typer

from kvctl.cli.durations import format_duration
from kvctl.cli.output import Output
from kvctl.cli.streams import write_stderr
from kvctl.demos.check import Finding, Verdict
from kvctl.demos.rendering import brief
from kvctl.demos.runner import Result
from kvctl.demos.scenario import Scenario
from kvctl.text.escaping import printable

WIDTH_MAX = 88
_INDENT = "       "
_TAB = "\t"
"""Stands between the columns of a command that prints lines."""
_COLORS = {
    Verdict.HOLDS: typer.colors.GREEN,
    Verdict.NO: typer.colors.RED,
    Verdict.UNDECIDED: typer.colors.YELLOW,
}


class Narrator:
    """Tells a play to people."""

    def __init__(self, out: Output, *, by_step: bool) -> None:
        self._out = out
        self._by_step = by_step
        columns = shutil.get_terminal_size((WIDTH_MAX, 24)).columns
        self._width = max(40, min(columns, WIDTH_MAX))
        self._head = ""
        """The number of a step that has no words, to stand before its command."""

    def opening(self, scenario: Scenario, stage: Sequence[str]) -> None:
        """Title, question, and sentences about the cluster it is played on."""
        self._line(self._style(scenario.title, bold=True))
        if scenario.question:
            self._paragraphs(scenario.question, "")
        self._line("")
        for sentence in stage:
            self._paragraphs(sentence, "")

    def on_step(self, number: int, total: int, words: str) -> None:
        if self._by_step and number > 1:
            self._wait_for_enter()
        self._line("")
        label = f"{f'{number}/{total}':<{len(_INDENT)}}"
        self._head = "" if words else label
        if words:
            self._paragraphs(words, label)

    def on_command(self, line: str, waits_s: float) -> None:
        if not self._head:
            self._line("")
        patience = f"   (repeated, {format_duration(waits_s)} at most)" if waits_s else ""
        self._line(f"{self._head or _INDENT}{self._style(f'$ {line}', bold=True)}{patience}")
        self._head = ""

    def on_output(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._line(f"{_INDENT}{printable(line, keep=_TAB)}")

    def on_names(self, names: dict[str, str]) -> None:
        told = ", ".join(f"${name} = {value}" for name, value in names.items())
        self._line(f"{_INDENT}{self._style(told, dim=True)}")

    def on_finding(self, finding: Finding) -> None:
        label = finding.verdict.value if finding.verdict is not Verdict.NO else "NO"
        claim = printable(finding.claim)
        text = f"{self._style(f'{label:<9}', color=_COLORS[finding.verdict])} {claim}"
        self._line(f"{_INDENT}{text}")
        if finding.verdict is not Verdict.HOLDS:
            found = f"found {brief(finding.found)}, " if finding.found is not None else ""
            self._line(f"{_INDENT}{'':<9} {printable(found + finding.problem)}")

    def closing(self, result: Result, conclusion: str) -> None:
        """The verdict, and what is known thereby."""
        self._line("")
        verdict = self._style(
            result.verdict.value.upper(), color=_COLORS[result.verdict], bold=True
        )
        reason = printable(result.reason)
        self._line(f"verdict: {verdict}, {reason} ({format_duration(result.seconds)})")
        if result.verdict is Verdict.HOLDS and conclusion:
            self._paragraphs(conclusion, "")

    def _wait_for_enter(self) -> None:
        write_stderr(f"\n{_INDENT}Enter goes on, Ctrl-C ends ")
        if not sys.stdin.readline():
            self._by_step = False
            write_stderr("\n")

    def _paragraphs(self, text: str, head: str) -> None:
        """Text in paragraphs, wrapped; `head` stands before the first, the rest is indented."""
        blank = " " * len(head)
        for number, paragraph in enumerate(text.strip().split("\n\n")):
            if number:
                self._line("")
            for line in textwrap.wrap(
                printable(" ".join(paragraph.split())),
                self._width,
                initial_indent=blank if number else head,
                subsequent_indent=blank,
                break_on_hyphens=False,
            ):
                self._line(line)

    def _line(self, text: str) -> None:
        """A line whose every part is printable, but for the colours given here."""
        self._out.write(text.encode() + b"\n")

    def _style(
        self, text: str, *, color: str | None = None, bold: bool = False, dim: bool = False
    ) -> str:
        text = printable(text)
        if not self._out.color:
            return text
        return typer.style(text, fg=color, bold=bold or None, dim=dim or None)


class SilentAudience:
    """For `-o json`: only the result counts."""

    def on_step(self, number: int, total: int, words: str) -> None: ...

    def on_command(self, line: str, waits_s: float) -> None: ...

    def on_output(self, lines: Sequence[str]) -> None: ...

    def on_names(self, names: dict[str, str]) -> None: ...

    def on_finding(self, finding: Finding) -> None: ...
