"""Where clusters live on disk, and which one a command means.

This is all that a client command needs to find its cluster, so it must load quickly: the standard
library, the configuration and its errors; no process, registry or socket code.

Which cluster: the one named on the command line, else `KVCTL_CLUSTER`, else the only one there is,
else `default`. Never a guess between several.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import msgspec

from kvctl.errors import (
    ClusterNotFoundError,
    CopiedClusterError,
    HomeError,
    NewerFormatError,
)
from kvctl_node.config import NAME_PATTERN, ClusterConfig, encode_config, load_config
from kvctl_node.errors import ConfigError

FORMAT_VERSION = 1
"""Version of the layout of a cluster's directory; a directory of a newer one is refused."""
DEFAULT_CLUSTER = "default"
REMOVED_MARK = ".removed-"
"""In the name of a directory that is being deleted; `doctor` finishes what was interrupted."""
DATABASE_NAME = "data.sqlite"
"""The file whose presence in a node's directory means that there is data."""
_HOME_HINT = "set KVCTL_HOME to a directory where kvctl can keep its clusters."
_MADE_BY_KVCTL = frozenset({"cluster.json", "format", "keys", "lock", "faults.lock", "nodes"})
_MADE_BY_KVCTL_PREFIXES = (".cluster.json.", ".format.", "deferred-")
"""What kvctl puts into a cluster's directory. Beside anything else it deletes nothing."""


def home_directory() -> Path:
    """`$KVCTL_HOME`, or the platform's user state directory. Not necessarily there yet.

    Raises `HomeError` if there is no telling where it is.
    """
    chosen = os.environ.get("KVCTL_HOME")
    if chosen:
        try:
            chosen.encode()
        except UnicodeEncodeError as error:  # `cluster.json` is JSON, and says where it was made
            raise HomeError(f"KVCTL_HOME is no UTF-8 text: {chosen}.") from error
        try:
            return Path(chosen).expanduser().absolute()
        except RuntimeError as error:
            raise HomeError(
                f"KVCTL_HOME names nobody's home: {chosen}.", hint="give it as a whole path."
            ) from error
    state = os.environ.get("XDG_STATE_HOME")
    if state and not Path(state).is_absolute():
        # It would be another place in every working directory.
        raise HomeError(f"XDG_STATE_HOME is not a whole path: {state}.", hint=_HOME_HINT)
    from platformdirs import user_state_path  # only without KVCTL_HOME: it costs milliseconds

    no_home = HomeError("this user has no home directory to keep clusters in.", hint=_HOME_HINT)
    try:
        path = user_state_path("kvctl")
    except RuntimeError as error:
        raise no_home from error
    if not path.is_absolute():  # what older versions of platformdirs make of a missing home
        raise no_home
    return path


class Place(NamedTuple):
    """Where a directory was made, as `cluster.json` keeps it: `inode:ctime_ns:path`.

    Inode and time of change are those of its file `format`, which nothing changes afterwards.
    """

    inode: int
    changed_ns: int
    path: Path

    @classmethod
    def parse(cls, text: str) -> Place:
        """Inverse of `str`. Raises `ConfigError`."""
        inode, _, rest = text.partition(":")
        changed_ns, _, path = rest.partition(":")
        if not (inode.isdigit() and changed_ns.isdigit() and path):
            raise ConfigError(f"made_at is {text!r}, which names no place.")
        return cls(int(inode), int(changed_ns), Path(path))

    def __str__(self) -> str:
        return f"{self.inode}:{self.changed_ns}:{self.path}"

    def is_copied_to(self, other: Place) -> bool:
        """Whether a directory that was made here and is now there was copied; see
        `copied_cluster`."""
        if self.inode != other.inode:
            return True
        return self.changed_ns != other.changed_ns and self.path != other.path


class ClusterDirectory(NamedTuple):
    """The directory of one cluster, whether or not it exists."""

    path: Path

    @property
    def name(self) -> str:
        """The cluster's name, which is the directory's."""
        return self.path.name

    @property
    def config_path(self) -> Path:
        """`cluster.json`; its presence is what makes the cluster exist."""
        return self.path / "cluster.json"

    @property
    def format_path(self) -> Path:
        """The file with the layout's version."""
        return self.path / "format"

    @property
    def keys(self) -> Path:
        """CURVE keys: `<node>.key` of every node, and `client.key`."""
        return self.path / "keys"

    @property
    def lock_path(self) -> Path:
        """The lock of commands that change the cluster."""
        return self.path / "lock"

    @property
    def faults_lock_path(self) -> Path:
        """The lock of commands that set or lift network faults."""
        return self.path / "faults.lock"

    def node(self, name: str) -> Path:
        """The data directory of a node."""
        return self.path / "nodes" / name

    def stderr_path(self, name: str) -> Path:
        """What a node wrote to its standard error, its last words when it could not start."""
        return self.node(name) / "stderr.log"

    def exists(self) -> bool:
        """True once the cluster was created completely."""
        return self.config_path.is_file()

    def databases(self) -> list[Path]:
        """The nodes' databases: the data that would be lost with this directory."""
        return sorted(self.path.glob(f"nodes/*/{DATABASE_NAME}"))

    def load(self) -> ClusterConfig:
        """The cluster's configuration.

        Raises `ClusterNotFoundError`, `NewerFormatError`, `CopiedClusterError`, or `ConfigError`
        if it is unreadable.
        """
        config = self.load_copy()
        if self.is_copy(config):
            raise CopiedClusterError(
                f"{self.path} was copied from {Place.parse(config.made_at).path}, "
                "and has that cluster's keys and ports.",
                hint=f"kvctl -c {self.name} up makes it a cluster of its own.",
            )
        return config

    def place(self) -> Place:
        """Where the directory is. Raises `HomeError`."""
        try:
            status = self.format_path.stat()
        except OSError as error:
            raise HomeError(f"cannot read {self.format_path}: {error.strerror}.") from error
        return Place(status.st_ino, status.st_ctime_ns, self.path)

    def is_copy(self, config: ClusterConfig) -> bool:
        """Whether the directory is not the one kvctl made (`copied_cluster`). Raises `HomeError`,
        `ConfigError`."""
        return bool(config.made_at) and Place.parse(config.made_at).is_copied_to(self.place())

    def load_copy(self) -> ClusterConfig:
        """`load` that takes a copy as well."""
        self.check_format()
        try:
            return load_config(self.config_path)
        except ConfigError as error:
            if not self.exists():
                raise ClusterNotFoundError(
                    f"there is no cluster {self.name!r}.",
                    hint=f"kvctl -c {self.name} up makes one; kvctl ls lists those there are.",
                ) from error
            raise

    def check_format(self) -> None:
        """Raises `NewerFormatError` if a newer kvctl wrote this directory."""
        try:
            text = self.format_path.read_text()
        except FileNotFoundError:
            return  # not a cluster yet: `load` says so
        except (OSError, UnicodeDecodeError) as error:
            raise HomeError(f"cannot read {self.format_path}.") from error
        if not text.strip().isdigit():
            raise HomeError(
                f"{self.format_path} does not hold a version number.",
                hint=f"it should say {FORMAT_VERSION}; kvctl doctor --fix writes it again.",
            )
        version = int(text)
        if version > FORMAT_VERSION:
            raise NewerFormatError(
                f"the cluster {self.name} has format {version}, and this kvctl knows formats up "
                f"to {FORMAT_VERSION}.",
                hint="use the kvctl that made it, or a newer one.",
            )

    def save(self, config: ClusterConfig) -> None:
        """Replace `cluster.json` atomically: a reader sees the old or the new one, never half."""
        write_private_file(self.config_path, encode_config(config) + b"\n")

    def write_format(self) -> None:
        """Say which layout this directory has."""
        write_private_file(self.format_path, f"{FORMAT_VERSION}\n".encode())

    def mend_format(self) -> None:
        """Write the file with the version again, and note that this is the place: it is a new
        file. Raises `ConfigError`, `HomeError`."""
        self.write_format()
        self.save(msgspec.structs.replace(self.load_copy(), made_at=str(self.place())))

    def foreign_entries(self) -> list[str]:
        """What lies in the directory and was not put there by kvctl, sorted. Raises `HomeError`."""
        try:
            names = sorted(entry.name for entry in self.path.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise HomeError(f"cannot read {self.path}: {error.strerror}.") from error
        return [
            name
            for name in names
            if name not in _MADE_BY_KVCTL and not name.startswith(_MADE_BY_KVCTL_PREFIXES)
        ]

    def refuse_foreign(self) -> None:
        """Raises `HomeError` if the directory is no cluster and holds what others put there."""
        foreign = [] if self.exists() else self.foreign_entries()
        if foreign:
            raise HomeError(
                f"{self.path} is no cluster, and holds what kvctl did not make: {foreign[0]}.",
                hint=f"choose another name with -c, or {_HOME_HINT}",
            )

    def remove(self) -> None:
        """Delete the directory with all data in it. Raises `HomeError`.

        A directory that is no cluster is only deleted if kvctl made all that is in it.

        It is renamed first: a cluster is there or not, never half, and a command that waits for
        its lock cannot put a file into the directory while it is being emptied.
        """
        self.refuse_foreign()
        discarded = self.path.with_name(f".{self.name}{REMOVED_MARK}{os.urandom(4).hex()}")
        try:
            self.path.rename(discarded)
            shutil.rmtree(discarded)
        except FileNotFoundError:
            return  # somebody else was quicker
        except OSError as error:
            raise HomeError(f"cannot delete {self.path}: {error.strerror}.") from error


def cluster_directory(name: str, home: Path | None = None) -> ClusterDirectory:
    """The directory a cluster of this name has or would have. Raises `ConfigError`."""
    if not NAME_PATTERN.match(name):
        raise ConfigError(
            f"{name!r} is not a cluster name.",
            hint="names are a letter, then up to 31 letters, digits or dashes, lower case.",
        )
    return ClusterDirectory((home or home_directory()) / "clusters" / name)


def cluster_directories(home: Path | None = None) -> list[ClusterDirectory]:
    """Every directory under `clusters/`, complete or not, by name."""
    clusters = (home or home_directory()) / "clusters"
    try:
        entries = sorted(entry for entry in clusters.iterdir() if entry.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HomeError(f"cannot read {clusters}: {error.strerror}.", hint=_HOME_HINT) from error
    return [ClusterDirectory(entry) for entry in entries if NAME_PATTERN.match(entry.name)]


def cluster_names(home: Path | None = None) -> list[str]:
    """The names of the clusters that exist, sorted."""
    return [directory.name for directory in cluster_directories(home) if directory.exists()]


def choose_cluster(wanted: str | None = None, home: Path | None = None) -> str:
    """The name of the cluster a command means.

    Returns `default` when there is none at all, so that `up` can make it. Raises
    `ClusterNotFoundError` when there are several and none is meant.
    """
    named = wanted or os.environ.get("KVCTL_CLUSTER")
    if named:
        return named
    names = cluster_names(home)
    if len(names) == 1:
        return names[0]
    if not names or DEFAULT_CLUSTER in names:
        return DEFAULT_CLUSTER
    raise ClusterNotFoundError(
        f"there are {len(names)} clusters: {', '.join(names)}.",
        hint="say which one with -c NAME or KVCTL_CLUSTER.",
    )


def open_cluster(
    wanted: str | None = None, home: Path | None = None
) -> tuple[ClusterDirectory, ClusterConfig]:
    """Choose a cluster and load its configuration: what every client command starts with.

    Raises what `choose_cluster`, `cluster_directory` and `ClusterDirectory.load` raise.
    """
    name = choose_cluster(wanted, home)
    directory = cluster_directory(name, home)
    if not wanted and not directory.exists() and not cluster_names(home):
        raise ClusterNotFoundError("there is no cluster yet.", hint="kvctl up starts one.")
    return directory, directory.load()


def make_private_directory(path: Path) -> None:
    """Create a directory (and its parents) that only this user can enter. Raises `HomeError`."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HomeError(
            f"cannot make the directory {path}: {error.strerror}.", hint=_HOME_HINT
        ) from error


def write_private_file(path: Path, content: bytes) -> None:
    """Write a file of mode 0600, synced and renamed into place. Raises `HomeError`."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise HomeError(f"cannot write {path}: {error.strerror}.") from error
