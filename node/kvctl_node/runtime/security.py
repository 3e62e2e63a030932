"""CURVE key pairs: who may connect, as files in one directory.

Every socket of a cluster speaks CURVE (RFC 26): both ends own a Curve25519 key pair, the client
end knows the server's public key beforehand, and the server end checks the client's against an
allow-list (see `authenticator`). Each node has a pair, and all of a cluster's clients share one:

    keys/           mode 0700
      n1.key        mode 0600, JSON {"public": ..., "secret": ...}, both in Z85
      n2.key
      client.key    what kvctl and applications connect with

A key file without a secret names somebody who is known but runs elsewhere: on a second host a
node needs its own secret and only the public halves of the others.

Invariants: a secret is never in a file that others can read, neither while it is written nor
after; existing keys are never replaced.
"""

from __future__ import annotations

import os
import shlex
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

import msgspec
import zmq
from zmq.utils import z85

from kvctl_node.config import NAME_PATTERN
from kvctl_node.documents import UNREADABLE
from kvctl_node.errors import ConfigError

CLIENT_KEY_NAME = "client"
KEY_SUFFIX = ".key"
KEY_FILE_BYTES_MAX = 4096
_Z85_KEY_CHARS = 40


class CurveKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A Curve25519 pair, each half 40 characters of Z85 (32 bytes). `secret` may be ""."""

    public: str
    secret: str = ""

    def public_bytes(self) -> bytes:
        """The public half as ZAP presents it: 32 bytes."""
        return bytes(z85.decode(self.public.encode("ascii")))


def key_path(keys_dir: Path, name: str) -> Path:
    """Where the key of a node, or of the clients (`CLIENT_KEY_NAME`), is kept."""
    return keys_dir / f"{name}{KEY_SUFFIX}"


def create_keys(keys_dir: Path, names: Iterable[str]) -> None:
    """Make a key for each named node and one for the clients; keys that exist stay as they are.

    Raises `ConfigError` when a name cannot be used or the directory cannot be written.
    """
    wanted = list(names)
    for name in wanted:
        if not NAME_PATTERN.match(name) or name == CLIENT_KEY_NAME:
            raise ConfigError(
                f"{name!r} cannot be the name of a node's key.",
                hint=f"node names are lower case and not {CLIENT_KEY_NAME!r}.",
            )
    try:
        keys_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys_dir.chmod(0o700)
        for name in [*wanted, CLIENT_KEY_NAME]:
            _create_key(key_path(keys_dir, name))
    except OSError as error:
        raise ConfigError(f"cannot create keys in {keys_dir}: {error.strerror}.") from error


def _create_key(path: Path) -> None:
    """Write a fresh pair under a temporary name, then move it into place unless one is there."""
    if path.exists():
        return
    public, secret = zmq.curve_keypair()
    document = msgspec.json.encode(CurveKey(public.decode("ascii"), secret.decode("ascii")))
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(document)
        file.flush()
        os.fsync(file.fileno())
    try:
        # A hard link fails if the name exists: of two creators at once, exactly one wins.
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def load_key(path: Path) -> CurveKey:
    """Read a whole pair. Raises `ConfigError` if it is missing, exposed, damaged or half."""
    key = load_public_key(path)
    if not key.secret:
        raise ConfigError(
            f"{path} holds no secret key.",
            hint="only the process that owns a key has its secret half.",
        )
    return key


def load_public_key(path: Path) -> CurveKey:
    """Read a key file that may lack its secret. Raises `ConfigError`."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            document = file.read(KEY_FILE_BYTES_MAX)
    except OSError as error:
        raise ConfigError(
            f"cannot read the key {path}: {error.strerror}.",
            hint="keys are made when a cluster is first brought up; kvctl doctor --fix makes "
            "lost ones anew.",
        ) from error
    exposed = stat.S_IMODE(mode) & 0o077
    try:
        key = msgspec.json.decode(document, type=CurveKey)
    except UNREADABLE as error:
        raise ConfigError(f"{path} is not a key file.") from error
    if exposed and key.secret:
        raise ConfigError(
            f"the secret key {path} can be read or changed by other users.",
            hint=f"chmod 600 {shlex.quote(str(path))}",
        )
    _check_half(path, key.public)
    if key.secret:
        _check_half(path, key.secret)
    return key


def _check_half(path: Path, text: str) -> None:
    """Refuse anything but 32 bytes in Z85, before libzmq sees it."""
    try:
        if len(text) != _Z85_KEY_CHARS or len(z85.decode(text.encode("ascii"))) != 32:
            raise ValueError("wrong length")
    except (ValueError, KeyError, struct.error) as error:
        raise ConfigError(f"{path} does not hold a CURVE key in Z85.") from error


def read_public_keys(keys_dir: Path) -> tuple[dict[bytes, str], list[ConfigError]]:
    """All public keys of a directory as 32 bytes → owner's name, and what could not be read.

    A damaged file takes away one owner's access, not everybody's.
    """
    owners: dict[bytes, str] = {}
    unreadable: list[ConfigError] = []
    try:
        paths = sorted(keys_dir.glob(f"*{KEY_SUFFIX}"))
    except OSError as error:
        return owners, [ConfigError(f"cannot list {keys_dir}: {error.strerror}.")]
    for path in paths:
        name = path.name.removesuffix(KEY_SUFFIX)
        if not NAME_PATTERN.match(name):
            continue
        try:
            owners[load_public_key(path).public_bytes()] = name
        except ConfigError as error:
            unreadable.append(error)
    return owners, unreadable
