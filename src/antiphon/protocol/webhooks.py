"""Webhooks: the bodies that clients send, the objects that they get, and the event that receivers get.

Must not know what is stored or sent.  Shapes: responses-api reference, section 13.5.
"""

from collections.abc import Sequence

import msgspec

from antiphon.protocol.decoding import decode, fewer, members_of, shorter
from antiphon.protocol.errors import ApiError, bad_choice, invalid, missing, quoted

#: What endpoints can ask for.
EVENT_TYPES = ("response.completed", "response.failed", "response.incomplete", "response.cancelled")
#: Characters of an endpoint's name and URL.
NAME_MAX, URL_MAX = 256, 2048

encode = msgspec.json.encode


class EndpointBody(msgspec.Struct):
    """The body of a create or an update; None for what is absent."""

    name: str | None = None
    url: str | None = None
    event_types: list[str] | None = None


class _Rotation(msgspec.Struct):
    keep_old_secret_active_for_24_hours: bool | None = None


class _Test(msgspec.Struct):
    event_type: str


_endpoint = msgspec.json.Decoder(EndpointBody)
_rotation = msgspec.json.Decoder(_Rotation)
_test = msgspec.json.Decoder(_Test)


def read_created(body: bytes) -> EndpointBody:
    """The body of a create, complete.  Raises ``ApiError`` 400."""
    made = read_updated(body)
    for member in ("name", "url", "event_types"):
        if getattr(made, member) is None:
            raise missing(member)
    return made


def read_updated(body: bytes) -> EndpointBody:
    """The body of an update.  Raises ``ApiError`` 400."""
    body, _ = members_of(body)
    made = decode(_endpoint, body)
    shorter("name", made.name, NAME_MAX)
    shorter("url", made.url, URL_MAX)
    if made.name == "":
        raise invalid("Invalid 'name': empty string.", "name")
    if made.event_types is not None:
        made.event_types = checked(made.event_types)
    return made


def checked(event_types: Sequence[str]) -> list[str]:
    """The types, each once.  Raises ``ApiError`` 400."""
    if not event_types:
        raise invalid("Invalid 'event_types': empty array. Expected at least one.", "event_types", "empty_array")
    fewer("event_types", len(event_types), 100)
    for index, name in enumerate(event_types):
        if name not in EVENT_TYPES:
            raise bad_choice(f"event_types[{index}]", name, EVENT_TYPES)
    return list(dict.fromkeys(event_types))


def read_rotation(body: bytes) -> bool:
    """Whether the old secret stays for 24 hours; a body is not needed.  Raises ``ApiError`` 400."""
    body, _ = members_of(body if body.strip() else b"{}")
    return bool(decode(_rotation, body).keep_old_secret_active_for_24_hours)


def read_test(body: bytes) -> str:
    """The type of the sample.  Raises ``ApiError`` 400."""
    body, _ = members_of(body)
    asked = decode(_test, body)
    if asked.event_type not in EVENT_TYPES:
        raise bad_choice("event_type", asked.event_type, EVENT_TYPES)
    return asked.event_type


def shown(
    id: str,
    name: str,
    url: str,
    event_types: Sequence[str],
    created_at: int,
    updated_at: int,
    disabled_at: int | None,
    secret: str,
    *,
    reveal: bool = False,
) -> bytes:
    """The endpoint object; ``reveal``: with the secret itself, which is shown when it is made and never again."""
    members: dict[str, object] = {
        "id": id,
        "object": "webhook_endpoint",
        "name": name,
        "url": url,
        "event_types": event_types,
        "created_at": created_at,
        "updated_at": updated_at,
        "signing_secret_hint": f"whsec_...{secret[-4:]}" if secret else None,
    }
    if disabled_at is not None:
        members["disabled_at"] = disabled_at
    if reveal:
        members["signing_secret"] = secret
    return encode(members)


def deleted(id: str) -> bytes:
    """What DELETE of an endpoint answers."""
    return encode({"id": id, "object": "webhook_endpoint.deleted", "deleted": True})


def tested(id: str, event_type: str, status: int) -> bytes:
    """What a test delivery answers: that it came to a reply, whatever that says."""
    return encode(
        {
            "object": "webhook_endpoint.test",
            "webhook_endpoint_id": id,
            "event_type": event_type,
            "status_code": status,
            "success": True,
        }
    )


def event(id: str, type: str, created_at: int, response: str) -> bytes:
    """What receivers get."""
    data = {"id": response}
    return encode({"id": id, "object": "event", "created_at": created_at, "type": type, "data": data})


def event_id(response: str) -> str:
    """The id of the event of a response's end: there is one end, so every try and every endpoint has the same."""
    return "evt_" + response.removeprefix("resp_")


def endpoint_not_found(id: str) -> ApiError:
    """404: no such endpoint in this project."""
    return ApiError(404, f"Webhook endpoint with id '{quoted(id)}' not found.")
