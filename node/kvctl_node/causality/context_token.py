"""A causal context in a client's hands: opaque, checksummed, bound to its cluster and key.

A client passes back what it was given. A token that was cut, altered, or taken from another key or
cluster would supersede versions its owner never saw, so it is refused (`WrongContextError`) rather
than believed. The checksum guards against accidents, not against forgery: whoever may put a key may
overwrite it anyway.

    1 byte version | 8 bytes mmh3 of (cluster id, key, context) | the encoded context
"""

from __future__ import annotations

import base64
import binascii

import mmh3

from kvctl_node.causality.causal_context import CausalContext
from kvctl_node.causality.siblings import decode_context
from kvctl_node.errors import ProtocolError, WrongContextError

TOKEN_VERSION = 1
_CHECKSUM_BYTES = 8
_HINT = "use the context that the last get or put of this very key printed."


def encode_token(context: bytes, *, cluster_id: str, key: bytes) -> bytes:
    """Wrap an encoded context for a client."""
    return bytes((TOKEN_VERSION,)) + _checksum(context, cluster_id, key) + context


def decode_token(token: bytes, *, cluster_id: str, key: bytes) -> CausalContext:
    """The context in a token; raises `WrongContextError` unless it is whole and of this key."""
    if len(token) <= _CHECKSUM_BYTES or token[0] != TOKEN_VERSION:
        raise WrongContextError("the context is not one this version made.", hint=_HINT)
    checksum, context = token[1 : 1 + _CHECKSUM_BYTES], token[1 + _CHECKSUM_BYTES :]
    if checksum != _checksum(context, cluster_id, key):
        raise WrongContextError(
            "the context is damaged or belongs to another key or cluster.", hint=_HINT
        )
    try:
        return decode_context(context)
    except ProtocolError as error:
        raise WrongContextError("the context is damaged.", hint=_HINT) from error


def token_to_text(token: bytes) -> str:
    """URL-safe base64 without padding: fits in a shell argument and in JSON."""
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def token_from_text(text: str) -> bytes:
    """Inverse of `token_to_text`; raises `WrongContextError`."""
    try:
        return base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise WrongContextError("the context is not a context.", hint=_HINT) from error


def _checksum(context: bytes, cluster_id: str, key: bytes) -> bytes:
    bound = cluster_id.encode() + len(key).to_bytes(4, "big") + key + context
    return mmh3.mmh3_x64_128_digest(bound)[:_CHECKSUM_BYTES]
