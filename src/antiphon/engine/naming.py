"""Names of tools as a model sees them: flat, unambiguous, and short enough for every upstream.

A model knows functions by one name of at most 64 letters, digits, underscores and dashes; clients put tools into
namespaces and give them any names.  Must not know what a tool is.
"""

import hashlib
import re
from typing import TypeAlias

#: Longest name that upstreams take.
NAME_MAX = 64
#: Between a namespace and the name in it.
BETWEEN = "__"
_DIGEST_CHARS = 8
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]+")

#: Namespace and name, as the client says them; the empty namespace is for what no client has named.
Owner: TypeAlias = tuple[str | None, str]


class Names:
    """The names of one context.  Each belongs to one owner, and stays what it is when others are added."""

    def __init__(self) -> None:
        self._owners: dict[str, Owner] = {}
        self._given: dict[Owner, str] = {}
        self._namespaces: dict[str, set[str | None]] = {}

    def __contains__(self, flat: str) -> bool:
        return flat in self._owners

    def give(self, namespace: str | None, name: str) -> str:
        """The owner's name; the same whenever it is asked for again."""
        owner = (namespace, name)
        if owner not in self._given:
            flat = self._free(owner)
            self._owners[flat] = owner
            self._given[owner] = flat
            self._namespaces.setdefault(name, set()).add(namespace)
        return self._given[owner]

    def of(self, namespace: str | None, name: str) -> str:
        """What a call of an earlier turn was called, which may be of a tool that is not declared any more.

        A call whose namespace was lost on the way belongs to the only tool of that name.  One in the namespace of its
        own name is of a tool without a namespace that a search has loaded, unless a client has such a namespace.
        """
        known = self._namespaces.get(name, set())
        if namespace == name and name not in known:
            namespace = None
        if namespace is None and None not in known and len(known) == 1:
            (namespace,) = known
        return self._given.get((namespace, name)) or self._free((namespace, name))

    def _free(self, owner: Owner) -> str:
        plain = flattened(owner)
        if plain is not None and plain not in self._owners:
            return plain
        tries = 0
        while (marked := _marked(owner, tries)) in self._owners:
            tries += 1
        return marked


def flattened(owner: Owner) -> str | None:
    """The name in which the client's is plain to see; None where it would be too long or have other characters."""
    namespace, name = owner
    flat = f"{namespace.rstrip('_')}{BETWEEN}{name}" if namespace else name
    return flat if 0 < len(flat) <= NAME_MAX and not _FOREIGN.search(flat) else None


def _marked(owner: Owner, tries: int) -> str:
    """As much of it as there is room for, and a digest that tells it from others."""
    namespace, name = owner
    told = f"{'' if namespace is None else len(namespace)}:{namespace or ''}{name}:{tries}"
    digest = hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]
    words = [_FOREIGN.sub("_", word).strip("_") for word in (namespace or "", name)]
    room = NAME_MAX - _DIGEST_CHARS - 1
    head = BETWEEN.join(word for word in words if word)
    # The end of a long name says more than its beginning, which it shares with its siblings.
    head = head if len(head) <= room else head[-room:].lstrip("_-")
    return f"{head or 'tool'}_{digest}"
