"""What one agent tells another, for dialects that know a user and an assistant only.

Clients that run several agents put it into an ``agent_message``.  The task itself stands there as
``encrypted_content``: it came from a tool's argument whose schema says ``encrypted``, which OpenAI hands out unreadable
and reads again.  Models behind these dialects were asked for that argument in plain text, so plain text it is.
"""

import msgspec

from antiphon.protocol.items import Item, Part, text_of_raw

KIND = "agent_message"


def as_message(item: Item) -> Item:
    """The message of a user that stands for it; any other item as it is."""
    if item.kind != KIND:
        return item
    content = text_of_raw(item.content)
    parts = [Part("input_text", content)] if isinstance(content, str) else [_plain(part) for part in content]
    return Item(type="message", id=item.id, role="user", content=msgspec.Raw(msgspec.json.encode(parts)))


def _plain(part: Part) -> Part:
    return Part("input_text", part.encrypted_content) if part.type == "encrypted_content" else part
