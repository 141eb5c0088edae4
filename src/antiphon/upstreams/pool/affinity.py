"""Which of several servers has most likely seen the beginning of a prompt before: servers keep prefixes in a cache.

Pure.  A key is given by the client, or follows from what stays the same in every turn of a conversation.  Rendezvous
hashing makes an order of the servers for each key, so that one which is lost moves its own keys alone.
"""

from hashlib import blake2b

from antiphon.engine.context import is_user
from antiphon.engine.ports.upstreams import ModelRequest

#: How much of a prompt's beginning is looked at: of the instructions and of each item, and so many items.
HEAD_BYTES, HEAD_ITEMS = 4096, 8
#: A preferred server is passed over when it is busier than the least busy one by more than this many calls, and by
#: more than this part of that one's: a prompt in the cache is worth some company, but not a queue.
SLACK_CALLS, SLACK_PART = 4, 4


def key_of(request: ModelRequest) -> bytes | None:
    """What the request is known by: its ``prompt_cache_key``, its conversation, or its first items; None for none."""
    asked = request.request
    name = asked.prompt_cache_key or asked.conversation_id
    if name is not None:
        return _digest([name.encode("utf-8", "surrogatepass")], request.standing.project)
    head = [] if asked.instructions is None else [asked.instructions[:HEAD_BYTES].encode("utf-8", "surrogatepass")]
    for item in request.items[:HEAD_ITEMS]:
        # Not its bytes: clients that send the whole history each time get a new id for the same item.
        view = item.view
        head += [f"{view.kind}/{view.role}".encode("utf-8", "surrogatepass"), bytes(view.content)[:HEAD_BYTES]]
        if is_user(view):
            break
    return _digest(head, request.standing.project) if head else None


def _digest(parts: list[bytes], project: str) -> bytes:
    made = blake2b(project.encode("utf-8", "surrogatepass"), digest_size=16)
    for part in parts:
        made.update(b"%d:" % len(part))
        made.update(part)
    return made.digest()


def score(key: bytes, server: bytes) -> bytes:
    """How much a key prefers a server: the highest is asked."""
    return blake2b(server, key=key, digest_size=8).digest()


def is_bearable(active: int, least: int) -> bool:
    """Whether a server with so many calls may be preferred to the least busy one."""
    return active - least <= max(SLACK_CALLS, least // SLACK_PART)
