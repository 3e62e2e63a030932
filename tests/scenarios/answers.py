"""What scenarios read out of an answer."""

from kvctl_node.causality.context_token import encode_token
from kvctl_node.causality.siblings import decode_object, encode_context
from kvctl_node.protocol.client_messages import GetDone


def values(reply):
    """The values of a get, as text, without tombstones."""
    assert isinstance(reply, GetDone), reply
    if not reply.content:
        return []
    return [s.value.decode() for s in decode_object(reply.content).siblings if s.value is not None]


def token_of(cluster, key, reply):
    """The context of a get or put, as a client sends it back."""
    if isinstance(reply, GetDone):
        context = encode_context(decode_object(reply.content).context)
    else:
        context = reply.context
    return encode_token(context, cluster_id=cluster.config.cluster_id, key=key.encode())
