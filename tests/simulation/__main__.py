"""Many runs, or one of them drawn: `python -m tests.simulation --help`."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.ladder import Ladder
from tests.simulation.simulation import Outcomes, explain, run_seed


def main() -> int:
    """Returns 1 if some promise was broken."""
    options = _parse()
    if options.seed is not None:
        return _one(options.seed, key=options.key.encode(), ladder=options.ladder)
    seeds = range(options.start, options.start + options.seeds)
    began_s = time.monotonic()
    broken: list[Outcomes] = []
    virtual_s = 0.0
    with ProcessPoolExecutor(options.jobs) as pool:
        for done, outcomes in enumerate(pool.map(run_seed, seeds, chunksize=4), start=1):
            virtual_s += outcomes.virtual_s
            if outcomes.violation is not None:
                broken.append(outcomes)
                print(f"seed {outcomes.seed}: {outcomes.violation}", flush=True)
            if done % 100 == 0:
                print(_progress(done, began_s, broken), file=sys.stderr, flush=True)
    print(_progress(len(seeds), began_s, broken), f"{virtual_s / 60:.0f} virtual minutes")
    if broken and options.ladder:
        print(explain(broken[0]))
    return 1 if broken else 0


def _progress(done: int, began_s: float, broken: list[Outcomes]) -> str:
    per_minute = done / (time.monotonic() - began_s) * 60
    return f"{done} seeds, {per_minute:.0f} a minute, {len(broken)} violations;"


def _one(seed: int, *, key: bytes, ladder: bool) -> int:
    outcomes = run_seed(seed)
    if outcomes.violation is not None:
        print(explain(outcomes))
        return 1
    print(f"seed {seed}\n{outcomes.options}")
    print(
        f"{outcomes.acked} puts acknowledged, {outcomes.refused} refused, {outcomes.unknown} "
        f"unknown, {outcomes.reads} reads, {outcomes.virtual_s:.1f} virtual seconds: all is well"
    )
    if ladder:
        drawn = Ladder(key)
        run_seed(seed, drawn)
        for time_s, what in outcomes.deeds:
            drawn.note(time_s, "", what)
        print(drawn.draw(outcomes.options.names))
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many runs")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, help="run just this one")
    parser.add_argument("--ladder", action="store_true", help="draw the messages about the key")
    parser.add_argument("--key", default="k1", help="the key to draw, where all went well")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
