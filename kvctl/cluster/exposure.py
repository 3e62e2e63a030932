"""What other users could read or change, and what is not kvctl's to change.

`KVCTL_HOME` may name a directory that a person made, for other things as well, such as a shared one
of mode 1777. So the home's own mode is never touched: what kvctl makes in it is private by itself,
and that is closed again if somebody opened it. Of a directory under `clusters/` that is no cluster,
kvctl deletes or changes nothing if there is anything in it that kvctl did not make.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from kvctl.cluster.diagnosis import Diagnosis, diagnosis
from kvctl.cluster.directory import ClusterDirectory
from kvctl.cluster.run_state import Registry
from kvctl.text.escaping import quoted

_OTHERS = 0o077
_OTHERS_WRITE = 0o022


def shared_home_diagnoses(home: Path) -> Iterator[Diagnosis]:
    """A home that other users can enter: what is open in it, and whether they can replace it."""
    mode = stat.S_IMODE(home.stat().st_mode)
    if not mode & _OTHERS:
        return
    yield from permission_diagnoses("home", [home / "clusters", Registry(home).path])
    if mode & _OTHERS_WRITE and not mode & stat.S_ISVTX:
        yield diagnosis(
            "shared_home",
            str(home),
            f"other users can replace what is in {home} (mode {mode:o}).",
            f"chmod go-w {quoted(str(home))}, or set KVCTL_HOME to a directory of your own.",
        )


def permission_diagnoses(subject: str, paths: list[Path]) -> Iterator[Diagnosis]:
    """Those of these files and directories, all made by kvctl, that are not private."""
    for path in paths:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue  # its absence is another finding
        if mode & _OTHERS:
            private = 0o700 if path.is_dir() else 0o600
            yield diagnosis(
                "loose_permissions",
                subject,
                f"{path} can be read or changed by other users (mode {mode:o}).",
                f"set its mode to {private:o}.",
                lambda path=path, private=private: path.chmod(private),  # type: ignore[misc]
            )


def foreign_diagnosis(directory: ClusterDirectory) -> Diagnosis:
    """A directory under `clusters/` that is not kvctl's."""
    return diagnosis(
        "foreign_directory",
        directory.name,
        f"{directory.path} is no cluster, and holds what kvctl did not make: "
        f"{directory.foreign_entries()[0]}.",
        "kvctl leaves it alone; set KVCTL_HOME to a directory of its own.",
    )
