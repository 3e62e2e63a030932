"""The node's log: stamped lines in a file, and repeated complaints kept short."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from kvctl_node.runtime.node_log import LOG_FILE_NAME, RepeatFilter, close_node_log, open_node_log


def record(template: str, created_s: float, *arguments: object) -> logging.LogRecord:
    one = logging.LogRecord("kvctl_node.x", logging.WARNING, "x.py", 1, template, arguments, None)
    one.created = created_s
    return one


def test_records_are_written_with_time_level_and_origin(tmp_path: Path) -> None:
    handler = open_node_log(tmp_path)
    logging.getLogger("kvctl_node.runtime.test").warning("port %d is %s", 7, "odd")
    close_node_log(handler)
    logging.getLogger("kvctl_node.runtime.test").warning("too late")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING "
        r"kvctl_node\.runtime\.test: port 7 is odd\n",
        (tmp_path / LOG_FILE_NAME).read_text(),
    )


def test_a_repeated_complaint_is_written_a_few_times_per_interval() -> None:
    limit = RepeatFilter(interval_s=10, repeats_max=3)
    passed = [limit.filter(record("bad frame %d", 100.0 + i / 100, i)) for i in range(50)]
    assert passed == [True] * 3 + [False] * 47


def test_other_complaints_pass_meanwhile() -> None:
    limit = RepeatFilter(interval_s=10, repeats_max=1)
    assert limit.filter(record("one", 100.0))
    assert not limit.filter(record("one", 100.1))
    assert limit.filter(record("two", 100.2))


def test_the_next_complaint_that_passes_says_how_many_did_not() -> None:
    limit = RepeatFilter(interval_s=10, repeats_max=2)
    for i in range(7):
        limit.filter(record("bad", 100.0 + i))
    later = record("bad", 110.0)
    assert limit.filter(later)
    assert later.left_out == " (5 more like this left out)"
    following = record("bad", 110.1)
    assert limit.filter(following)
    assert following.left_out == ""


def test_a_clock_that_was_set_back_does_not_silence_the_log() -> None:
    limit = RepeatFilter(interval_s=10, repeats_max=1)
    assert limit.filter(record("bad", 1000.0))
    assert limit.filter(record("bad", 5.0))
