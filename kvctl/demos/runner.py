"""Playing a scenario: one command after the other, up to a verdict.

    every check held, every requirement was met                    holds
    a claim was refuted                                            no         (the play ends there)
    a requirement was not met, a command could not be run, or
    there was nothing to look at                                   undecided  (the play ends there)

Undecided is a verdict of its own because a test that cannot fail proves nothing: a partition that
held back no message, a read that read nothing. What has to be waited for is waited for by
repeating the command until everything about it is as it should be, `within` a time that is an
upper bound and no delay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from kvctl.demos.check import Finding, Verdict, judge
from kvctl.demos.command import Executor, Outcome
from kvctl.demos.rendering import brief, command_line, output_lines
from kvctl.demos.scenario import Scenario, Step
from kvctl.demos.selection import NothingThereError, select
from kvctl.demos.variables import Variables
from kvctl.errors import ExitCode

REPEAT_PAUSE_S = 0.1
NOT_RUN = (ExitCode.USAGE, ExitCode.UNREACHABLE, ExitCode.TIMED_OUT)
"""Ends of a command that say nothing about the store: it was wrong, or could not do its work."""
READING_COMMANDS = ("get", "scan", "dump", "conflicts")
_MEANINGS = {
    ExitCode.DONE: "done",
    ExitCode.NO: "the answer is no",
    ExitCode.USAGE: "wrong usage",
    ExitCode.UNAVAILABLE: "unavailable: definitely not applied",
    ExitCode.INDETERMINATE: "indeterminate: may have been applied",
    ExitCode.UNREACHABLE: "the cluster cannot be reached",
    ExitCode.CONFLICT: "conflict: siblings and no rule to choose",
    ExitCode.UNDECIDED: "undecided",
    ExitCode.TIMED_OUT: "waited in vain",
}


class Result(msgspec.Struct, frozen=True):
    """How a play ended; the document of `-o json`."""

    scenario: str
    verdict: Verdict
    reason: str
    """One sentence: what decided it."""
    steps: int
    """How many were played."""
    checks: list[Finding]
    seconds: float


class Audience(Protocol):
    """Those who watch: told of everything, in order."""

    def on_step(self, number: int, total: int, words: str) -> None:
        """A step begins; may take its time."""
        ...

    def on_command(self, line: str, waits_s: float) -> None:
        """A command is about to run; it is repeated for `waits_s` seconds at most."""
        ...

    def on_output(self, lines: Sequence[str]) -> None:
        """It ran, for the last time."""
        ...

    def on_names(self, names: dict[str, str]) -> None:
        """Values from the output were given names."""
        ...

    def on_finding(self, finding: Finding) -> None:
        """Something was checked."""
        ...


class _Look(NamedTuple):
    """What one run of a step's command came to."""

    outcome: Outcome
    findings: list[Finding]
    names: dict[str, Any]

    @property
    def is_as_wanted(self) -> bool:
        return all(finding.verdict is Verdict.HOLDS for finding in self.findings)


class Runner:
    """Plays one scenario, once."""

    def __init__(
        self,
        scenario: Scenario,
        executor: Executor,
        audience: Audience,
        *,
        keys: dict[str, str],
        clock: Callable[[], float],
        pause: Callable[[float], None],
    ) -> None:
        """`keys`: what the scenario's key names stand for. `clock` in monotonic seconds; `pause`
        waits that many before a command is repeated.
        """
        self._scenario = scenario
        self._executor = executor
        self._audience = audience
        self._variables = Variables(keys)
        self._clock = clock
        self._pause = pause
        self._findings: list[Finding] = []
        self._done: set[str] = set()
        """Command lines that were run and did what they should."""

    def play(self) -> Result:
        """From the first step to the verdict. Raises `KeyboardInterrupt`."""
        began_s = self._clock()
        steps = self._scenario.steps
        played = 0
        for number, step in enumerate(steps, start=1):
            played = number
            self._audience.on_step(number, len(steps), self._variables.fill(step.say))
            if step.run and not self._play_step(number, step):
                break
        verdict, reason = self._verdict()
        return Result(
            scenario=self._scenario.name,
            verdict=verdict,
            reason=reason,
            steps=played,
            checks=self._findings,
            seconds=round(self._clock() - began_s, 3),
        )

    def tidy_up(self) -> list[str]:
        """Run the `[[finally]]` steps; sentences about those that failed.

        Left out are those that mention what was never given a name, since there is nothing to undo,
        and those whose very command the play has run already.
        """
        problems = []
        for step in self._scenario.finally_:
            if not step.run:
                continue
            try:
                line = command_line(step.arguments, self._variables)
                arguments = [self._variables.fill(word) for word in step.arguments]
            except KeyError:
                continue
            if line in self._done:
                continue
            self._audience.on_command(line, 0.0)
            outcome = self._executor.run(arguments, b"")
            if outcome.code != (step.exit or ExitCode.DONE):
                problems.append(f"{line} ended with {outcome.code}.")
        return problems

    def _play_step(self, number: int, step: Step) -> bool:
        """Run a step's command until it is as wanted; False if the play ends here."""
        line = command_line(step.arguments, self._variables)
        self._audience.on_command(line, step.within_s)
        look = self._look(number, step)
        deadline_s = self._clock() + step.within_s
        while not look.is_as_wanted and self._clock() < deadline_s:
            self._pause(REPEAT_PAUSE_S)
            look = self._look(number, step)
        arguments = [self._variables.fill(word) for word in step.arguments]
        show = None if step.show is None else [self._variables.fill(one) for one in step.show]
        self._audience.on_output(output_lines(look.outcome, arguments, show))
        for name, value in look.names.items():
            self._variables.set(name, value)
        if look.names:
            self._audience.on_names({name: brief(one) for name, one in look.names.items()})
        shown = [one for one in look.findings if one.claim != _ran(step)]
        for finding in shown if look.is_as_wanted else look.findings:
            self._findings.append(finding)
            self._audience.on_finding(finding)
        if look.is_as_wanted:
            self._done.add(line)
        return look.is_as_wanted

    def _look(self, number: int, step: Step) -> _Look:
        """Run the command once and look at what came of it."""
        arguments = [self._variables.fill(word) for word in step.arguments]
        stdin = step.input.render(self._variables) if step.input is not None else b""
        outcome = self._executor.run(arguments, stdin)
        document = outcome.document(arguments)
        findings = [_judge_exit(number, step, arguments, outcome)]
        names: dict[str, Any] = {}
        if findings[0].verdict is not Verdict.HOLDS:
            return _Look(outcome, findings, names)
        for name, selection in step.let.items():
            try:
                names[name] = select(document, self._variables.fill(selection))
            except NothingThereError as error:
                reason = f"nothing to call ${name}: {error.message}"
                findings.append(Finding(number, _ran(step), Verdict.UNDECIDED, None, reason))
                return _Look(outcome, findings, names)
        variables = self._variables.with_values(names)
        for check in step.require:
            findings.append(judge(check, document, variables, step=number, refutes=False))
        if all(finding.verdict is Verdict.HOLDS for finding in findings):
            for check in step.check:
                findings.append(judge(check, document, variables, step=number, refutes=True))
        return _Look(outcome, findings, names)

    def _verdict(self) -> tuple[Verdict, str]:
        for verdict in (Verdict.NO, Verdict.UNDECIDED):
            for finding in self._findings:
                if finding.verdict is verdict:
                    return verdict, f"step {finding.step}, {_why(finding)}"
        count = len(self._findings)
        if not any(step.check or step.exit is not None for step in self._scenario.steps):
            return Verdict.UNDECIDED, "the scenario claims nothing, so nothing was tested."
        return Verdict.HOLDS, f"all {count} checks held."


def _ran(step: Step) -> str:
    """The claim that stands for a command that has none about its exit code."""
    return f"{' '.join(step.arguments[:2])} can be run"


def _judge_exit(number: int, step: Step, arguments: Sequence[str], outcome: Outcome) -> Finding:
    """Whether the command ended as the scenario says; if it says nothing, whether it was done."""
    wanted = ExitCode.DONE if step.exit is None else step.exit
    claim = _ran(step) if step.exit is None else f"{arguments[0]} exits with {_meaning(wanted)}"
    if outcome.code == wanted:
        return Finding(number, claim, Verdict.HOLDS, outcome.code)
    read_nothing = arguments[0] in READING_COMMANDS and outcome.code == ExitCode.UNAVAILABLE
    says_nothing = step.exit is None or outcome.code in NOT_RUN or read_nothing
    problem = f"it ended with {_meaning(outcome.code)}, not {_meaning(wanted)}"
    verdict = Verdict.UNDECIDED if says_nothing else Verdict.NO
    return Finding(number, claim, verdict, None, problem)


def _meaning(code: int) -> str:
    meaning = next((text for known, text in _MEANINGS.items() if known == code), "")
    return f"{code} ({meaning})" if meaning else str(code)


def _why(finding: Finding) -> str:
    found = "" if finding.found is None else f"found {brief(finding.found)}, "
    return f"not so that {finding.claim}: {found}{finding.problem.rstrip('.')}."
