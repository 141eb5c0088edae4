"""``/v1/webhook_endpoints`` and everything below it.  Calls: reference 13.5."""

from collections.abc import Sequence

from antiphon.engine.ports.stores import Listing, Store, StoredItem
from antiphon.engine.ports.world import Clock, Seal
from antiphon.engine.webhooks import Changes, Endpoint, Post, Undelivered
from antiphon.protocol import webhooks as bodies
from antiphon.protocol.errors import ApiError, invalid, quoted, unavailable
from antiphon.protocol.requests import Page, read_page
from antiphon.runs.outbox import Deliverer
from antiphon.runs.signing import SigningSecrets, new_secret
from antiphon.web.api.responses import list_of
from antiphon.web.messages import Reply, Request

#: How often a rotation is tried that another one comes in between of.
ROTATIONS_MAX = 5


class WebhookEndpoints:
    """The handlers, around the store and the deliverer; ``most`` endpoints of one project."""

    def __init__(
        self, store: Store, deliverer: Deliverer, post: Post, seal: Seal, clock: Clock, most: int, body_max_bytes: int
    ) -> None:
        self._store = store
        self._deliverer = deliverer
        self._post = post
        self._seal = seal
        self._clock = clock
        self._most = most
        self._body_max_bytes = body_max_bytes

    async def create(self, request: Request) -> Reply:
        """POST /v1/webhook_endpoints"""
        asked = bodies.read_created(await request.json(self._body_max_bytes))
        name, url, types = asked.name or "", asked.url or "", tuple(asked.event_types or ())
        self._check(url)
        secret, now = new_secret(), int(self._clock.now())
        sealed = SigningSecrets(secret).sealed(self._seal, request.project)
        made = Endpoint(self._clock.new_id("we_"), name, url, types, sealed, now, now)
        if not await self._store.webhooks.create(request.project, made, self._most):
            message = f"This project has {self._most} webhook endpoints already, which is the most that it can have."
            raise invalid(message, None, "webhook_endpoints_exceeded")
        return Reply(_shown(made, secret, reveal=True))

    async def retrieve(self, request: Request) -> Reply:
        """GET /v1/webhook_endpoints/{webhook_endpoint_id}"""
        return Reply(self._described(request, await self._found(request)))

    async def update(self, request: Request) -> Reply:
        """POST /v1/webhook_endpoints/{webhook_endpoint_id}"""
        asked = bodies.read_updated(await request.json(self._body_max_bytes))
        if asked.url is not None:
            self._check(asked.url)
        found = await self._found(request)
        types = None if asked.event_types is None else tuple(asked.event_types)
        wanted = (asked.name or found.name, asked.url or found.url, types or found.event_types)
        if wanted == (found.name, found.url, found.event_types) and found.disabled_at is None:
            return Reply(self._described(request, found))
        changes = Changes(int(self._clock.now()), asked.name, asked.url, types)
        changed = await self._store.webhooks.change(request.project, found.id, changes)
        if changed is None:
            raise bodies.endpoint_not_found(found.id)
        return Reply(self._described(request, changed))

    async def delete(self, request: Request) -> Reply:
        """DELETE /v1/webhook_endpoints/{webhook_endpoint_id}"""
        name = _name(request)
        if not await self._store.webhooks.delete(request.project, name):
            raise bodies.endpoint_not_found(name)
        return Reply(bodies.deleted(name))

    async def all(self, request: Request) -> Reply:
        """GET /v1/webhook_endpoints"""
        page = read_page(request.query)
        found = await self._store.webhooks.all(request.project)
        return Reply(list_of(_paged([StoredItem(one.id, self._described(request, one)) for one in found], page)))

    async def rotate(self, request: Request) -> Reply:
        """POST /v1/webhook_endpoints/{webhook_endpoint_id}/rotate_secret"""
        keep = bodies.read_rotation(await request.json_or_nothing(self._body_max_bytes))
        now = int(self._clock.now())
        for _ in range(ROTATIONS_MAX):
            found = await self._found(request)
            secrets = self._rotated(request.project, found, now, keep=keep)
            changes = Changes(now, secrets=(found.secrets, secrets.sealed(self._seal, request.project)))
            changed = await self._store.webhooks.change(request.project, found.id, changes)
            if changed is not None:
                return Reply(_shown(changed, secrets.current, reveal=True))
        raise unavailable("The secret is being rotated by others. Please try again.")

    async def test(self, request: Request) -> Reply:
        """POST /v1/webhook_endpoints/{webhook_endpoint_id}/test"""
        event_type = bodies.read_test(await request.json(self._body_max_bytes))
        found = await self._found(request)
        try:
            status = await self._deliverer.test(request.project, found.secrets, found.url, event_type)
        except Undelivered as error:
            message = f"The webhook endpoint could not be reached: {error}"
            raise invalid(message, None, "webhook_endpoint_unreachable") from None
        return Reply(bodies.tested(found.id, event_type, status))

    async def event_types(self, request: Request) -> Reply:  # noqa: ARG002 - a handler's signature
        """GET /v1/webhook_event_types"""
        return Reply(bodies.encode({"object": "list", "data": bodies.EVENT_TYPES}))

    async def _found(self, request: Request) -> Endpoint:
        found = await self._store.webhooks.read(request.project, _name(request))
        if found is None:
            raise bodies.endpoint_not_found(_name(request))
        return found

    def _check(self, url: str) -> None:
        try:
            self._post.check(url)
        except Undelivered as error:
            raise invalid(f"Invalid 'url': {error}", "url") from None

    def _rotated(self, project: str, found: Endpoint, now: int, *, keep: bool) -> SigningSecrets:
        """A secret that cannot be opened any more is not kept, and no reason to have no new one."""
        try:
            return SigningSecrets.opened(found.secrets, self._seal, project).rotated(now, keep=keep)
        except Undelivered:
            return SigningSecrets(new_secret())

    def _described(self, request: Request, endpoint: Endpoint) -> bytes:
        try:
            secret = SigningSecrets.opened(endpoint.secrets, self._seal, request.project).current
        except Undelivered:
            secret = ""
        return _shown(endpoint, secret)


def _shown(endpoint: Endpoint, secret: str, *, reveal: bool = False) -> bytes:
    return bodies.shown(
        endpoint.id, endpoint.name, endpoint.url, endpoint.event_types, endpoint.created_at, endpoint.updated_at,
        endpoint.disabled_at, secret, reveal=reveal,
    )  # fmt: skip


def _name(request: Request) -> str:
    return request.params["webhook_endpoint_id"]


def _paged(found: Sequence[StoredItem], page: Page) -> Listing:
    """A page of all that there are, which are few; they come newest first."""
    ordered = list(found if page.order == "desc" else reversed(found))
    names = [one.id for one in ordered]
    first = 0 if page.after is None else _place(names, page.after, "after") + 1
    last = len(names) if page.before is None else _place(names, page.before, "before")
    return Listing(ordered[first:last][: page.limit], last - first > page.limit)


def _place(names: Sequence[str], cursor: str, param: str) -> int:
    if cursor not in names:
        raise _unknown_cursor(cursor, param)
    return names.index(cursor)


def _unknown_cursor(cursor: str, param: str) -> ApiError:
    return invalid(f"Webhook endpoint with id '{quoted(cursor)}' not found.", param)
