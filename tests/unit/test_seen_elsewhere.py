"""The reports from elsewhere: each is told, has its kind, and names a test that exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+#[1-9][0-9]*\Z")


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One report and the test for its kind."""

    source: str
    kind: str
    seen: str
    case: str


class Reports(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`tests/seen_elsewhere.toml`."""

    kinds: Mapping[str, str]
    report: tuple[Report, ...]


READ = msgspec.toml.decode((ROOT / "tests" / "seen_elsewhere.toml").read_bytes(), type=Reports)


@cache
def collected_from(file: str) -> frozenset[str]:
    """The names under which pytest collects the functions of a file."""
    path = ROOT / file
    is_looked_into = file.startswith("tests/") and path.name.startswith("test_")
    assert is_looked_into, f"pytest does not look into {file}"
    return frozenset(
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    )


@pytest.mark.parametrize("report", READ.report, ids=lambda report: report.source)
def test_every_report_is_told_and_has_a_test(report: Report) -> None:
    assert SOURCE.match(report.source), "owner/project#number"
    assert report.kind in READ.kinds
    assert report.seen[:1].isupper()
    assert report.seen.endswith(".")
    file, separator, name = report.case.partition("::")
    assert separator
    assert name in collected_from(file)


def test_every_kind_has_a_report_and_no_entry_is_there_twice() -> None:
    assert {report.kind for report in READ.report} == set(READ.kinds)
    entries = [(report.source, report.case) for report in READ.report]
    assert len(set(entries)) == len(entries)
