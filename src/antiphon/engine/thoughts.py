"""How reasoning is told: in the open, as raw text or as its summary, and sealed, as ``encrypted_content``.

Sealed are the raw text, so that a client that keeps nothing but the sealed form can send it back, and whatever the
upstream itself wants back unread (design decision 15).  The model's side sees what was sealed; what is stored or
echoed stays as it came.
Must not know how anything is sealed, or what an upstream's own content means.
"""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from antiphon.engine.fold import FoldedItem
from antiphon.engine.ports.upstreams import ContextItem
from antiphon.engine.ports.world import Seal
from antiphon.protocol.errors import invalid
from antiphon.protocol.items import Item, text_of_raw
from antiphon.protocol.requests import CreateResponse

encode = msgspec.json.encode

#: What sealed content is bound to besides its project.
PURPOSE = "reasoning"
KIND, MEMBER = "reasoning", "encrypted_content"


class Sealed(msgspec.Struct, omit_defaults=True):
    """What is sealed: the raw reasoning, part by part, and the upstream's own content."""

    texts: list[str] = []
    kept: str | None = None


_decode = msgspec.json.Decoder(Sealed).decode
_decode_text = msgspec.json.Decoder(str).decode


class Thoughts:
    """Seals and opens the reasoning of one project.

    ``wanted``: clients get all of it sealed; else only what the upstream wants back, which no later turn could do
    without.  ``as_summary``: raw reasoning is told as the summary that was asked for, since clients that ask for one
    show nothing else.
    """

    def __init__(self, seal: Seal, project: str, *, wanted: bool = False, as_summary: bool = False) -> None:
        self.as_summary = as_summary
        self._seal = seal
        self._project = project
        self._wanted = wanted

    @classmethod
    def of(cls, request: CreateResponse, seal: Seal, project: str) -> "Thoughts":
        """For the reasoning of the response to a request."""
        wanted, as_summary = request.wants_encrypted_reasoning, request.wants_reasoning_summary
        return cls(seal, project, wanted=wanted, as_summary=as_summary)

    def sealed(self, item: FoldedItem) -> Mapping[str, bytes]:
        """The members of a reasoning item that is done and do not grow, with its sealed content if it has some."""
        given = item.fixed.get(MEMBER, b"null")
        kept = None if given == b"null" else _decode_text(given)
        if not self._wanted and kept is None:
            return item.fixed
        thought = item.parts or (item.summary if kept is None else [])
        texts = [part.text for part in thought] if self._wanted else []
        try:
            sealed = self._seal.seal(encode(Sealed(texts, kept)), project=self._project, purpose=PURPOSE)
        except ValueError:  # more than could be opened again; the item says what was thought all the same
            return unsealed(item.fixed)
        return {**item.fixed, MEMBER: encode(sealed)}

    async def opened(
        self, items: Sequence[ContextItem], earlier: int = 0, places: Sequence[int] | None = None
    ) -> list[ContextItem]:
        """The items as the model's side sees them; others may run meanwhile.

        Raises ``ApiError`` 400 for sealed content that was tampered with; among the first ``earlier`` items of the
        whole context, which come from the store and not from the request, such content is passed over.  ``places``:
        where each item stands in the whole context, in any order; without it these are all of it.
        """
        seen = []
        for place, item in zip(range(len(items)) if places is None else places, items, strict=True):
            if item.view.kind == KIND and item.view.encrypted_content:
                await asyncio.sleep(0)
                item = self._opened(item, strict=place >= earlier)
            seen.append(item)
        return seen

    def opened_at_once(self, items: Sequence[ContextItem]) -> list[ContextItem]:
        """As ``opened``, for items that this very response has made."""
        return [
            self._opened(item, strict=False) if item.view.kind == KIND and item.view.encrypted_content else item
            for item in items
        ]

    def _opened(self, item: ContextItem, *, strict: bool) -> ContextItem:
        text = item.view.encrypted_content or ""
        try:
            data = self._seal.open(text, project=self._project, purpose=PURPOSE)
            if data is None:
                return item  # another provider's: the dialect knows whether its upstream takes it
            sealed = _decode(data)
        except (ValueError, msgspec.DecodeError) as error:
            if strict:
                raise invalid(str(error), None, "invalid_encrypted_content") from None
            sealed = Sealed()
        return ContextItem(_seen(item.view, sealed), item.body)


def unsealed(members: Mapping[str, bytes]) -> dict[str, bytes]:
    """The members of an item without encrypted content, which none has before it is done (reference 8.2)."""
    return {name: value for name, value in members.items() if name != MEMBER}


def _seen(view: Item, sealed: Sealed) -> Item:
    shown = msgspec.structs.replace(view, encrypted_content=sealed.kept)
    if sealed.texts and not text_of_raw(view.content):
        shown.content = msgspec.Raw(encode([{"type": "reasoning_text", "text": text} for text in sealed.texts]))
    return shown
