"""A whole performance: stage, runner, narrator; what `kvctl demo` and `kvctl run` both do."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext

from kvctl.cli.output import Output
from kvctl.demos.command import InProcessExecutor, check_command_names
from kvctl.demos.narrator import Narrator, SilentAudience
from kvctl.demos.runner import Result, Runner
from kvctl.demos.scenario import Scenario
from kvctl.demos.stage import Stage, Timing, own_stage, standing_stage


def perform(
    scenario: Scenario,
    out: Output,
    *,
    cluster: str | None,
    timing: Timing,
    by_step: bool,
    start_timeout_s: float,
) -> Result:
    """Play a scenario on the named cluster, or on one of its own; tell it, but for JSON and `-q`.

    Raises what making a cluster raises, `ConfigError` for a command that kvctl does not have, and
    `KeyboardInterrupt`; the cluster is gone, or tidied up, in any case.
    """
    check_command_names([step.arguments[0] for step in scenario.steps if step.run])
    chosen: AbstractContextManager[Stage] = (
        own_stage(scenario, timing, timeout_s=start_timeout_s)
        if cluster is None
        else nullcontext(standing_stage(scenario, cluster))
    )
    narrator = Narrator(out, by_step=by_step)
    is_silent = out.is_json or out.quiet
    with chosen as stage:
        if not is_silent:
            narrator.opening(scenario, stage.sentences)
        runner = Runner(
            scenario,
            InProcessExecutor(stage.cluster),
            SilentAudience() if is_silent else narrator,
            keys=stage.keys,
            clock=time.monotonic,
            pause=time.sleep,
        )
        try:
            result = runner.play()
        finally:
            if stage.lives_on:
                for problem in runner.tidy_up():
                    out.warn(problem)
        if not out.is_json:
            narrator.closing(result, scenario.conclusion)
    return result
