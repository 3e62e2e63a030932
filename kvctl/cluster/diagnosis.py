"""What the doctor found, together with how it is mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from kvctl.cluster.facts import Finding
from kvctl_node.errors import StoreError


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A finding, and how to mend it (None: only a person can)."""

    finding: Finding
    mend: Callable[[], object] | None


def diagnosis(
    kind: str, subject: str, message: str, fix: str, mend: Callable[[], object] | None = None
) -> Diagnosis:
    """A finding of this kind; `fix` says what `mend` does, or what a person has to do."""
    finding = Finding(
        kind=kind, subject=subject, message=message, fix=fix, fixable=mend is not None
    )
    return Diagnosis(finding, mend)


def settle(diagnoses: Iterator[Diagnosis], fix: bool) -> list[Finding]:
    """The findings; with `fix`, each is mended before the next thing is looked at."""
    findings = []
    for one in diagnoses:
        finding = one.finding
        if fix and one.mend is not None:
            try:
                one.mend()
                finding = msgspec.structs.replace(finding, fixed=True)
            except (StoreError, OSError) as error:
                finding = msgspec.structs.replace(
                    finding, fix=f"{finding.fix} That failed: {error}"
                )
        findings.append(finding)
    return findings
