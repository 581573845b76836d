"""
Ring's webhooks come in here, before Django's handler: `POST /ring/<tenant>/webhook`.

Signature over the raw bytes first, then the parser, then one durable write shared with whatever else arrived in the
same moment, then the answer. Nothing else happens before the answer; effects run as tasks.

What Ring does with an answer decides which one it gets (contract 9.3): 2xx is delivered, 4xx is never tried again,
5xx and silence are. So 401 only for a bad signature, 400 only for a signed body that is none, and 503 for every
trouble of our own.
"""

import asyncio
import logging
import re
import time
import uuid
from dataclasses import dataclass, field
from typing import NoReturn

from django.db import DatabaseError, InterfaceError, OperationalError
from django.utils import timezone

from accounts.models import RingApp, Tenant
from events import broadcast
from events.asgi import Headers, Receive, Refused, Scope, Send, answer_json, values_of
from events.models import Delivery
from events.services import Arrival, Recorded, record_batch
from events.threads import PerLoop, Threads
from portal.logs import ACCEPTABLE_ID, request_id
from portal.walls import tenant_scope
from ring.documents import MalformedDelivery, WebhookDelivery, parse_delivery
from ring.signature import signature_valid

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 1024 * 1024
BODY_WITHIN_S = 10.0
# Ring counts on an answer within 5 s (contract 9.1); later than this it is told to come again.
ANSWER_WITHIN_S = 4.0
KEYS_GOOD_FOR_S = 5.0
MAX_WAITING = 2000
MAX_WAITING_BYTES = 64 * 1024 * 1024
MAX_BATCH = 500
# Deeper JSON is nobody's event, and databases refuse it at depths of their own.
MAX_DEPTH = 64
RETRY_AFTER_S = 5

# Thousands of browsers that come back at once must not stand before a webhook, nor who asks for strange tenants.
_reading = Threads("keys", count=2)
_writing = Threads("intake", count=1)

_JSON_TYPE = re.compile(r"application/(?:json|[\w.-]+\+json)\s*(?:;.*)?", re.ASCII | re.IGNORECASE)


class ClientGone(Exception):
    """The other side hung up before its body was complete: there is nobody to answer."""


def _until(moment: float) -> asyncio.Timeout:
    """Raises TimeoutError when what is within takes until then (monotonic)."""
    return asyncio.timeout(max(0.0, moment - time.monotonic()))


def _try_again(code: str, detail: str) -> Refused:
    return Refused(503, code, detail, ((b"retry-after", str(RETRY_AFTER_S).encode()),))


async def webhook_application(scope: Scope, receive: Receive, send: Send, *, tenant: str) -> None:
    """One webhook request for a tenant's slug, from its bytes to its answer. Answers whatever comes; raises nothing."""
    current = uuid.uuid4().hex
    reset = request_id.set(current)
    status = 200
    headers: Headers = ()
    try:
        arrival, answer_by = await _take_in(scope, receive, tenant)
        if ACCEPTABLE_ID.fullmatch(arrival.request_id):
            # One id from here to the pages: Ring's own, in the log, the answer, the effects, the frames.
            current = arrival.request_id
            request_id.set(current)
        recorded = await _writers.get().write(arrival, answer_by=answer_by)
        logger.debug("Stored a webhook. tenant=%s verdict=%s", tenant, recorded.verdict)
        if recorded.verdict == Delivery.Verdict.MALFORMED:
            _refuse_malformed(arrival)
        answer = {"status": "ok"}
    except Refused as refusal:
        status, headers = refusal.status, refusal.headers
        answer = {"error": refusal.code, "detail": refusal.detail}
        logger.warning("Refused a webhook. tenant=%s status=%s reason=%s", tenant, status, refusal.code)
    except ClientGone:
        logger.warning("A webhook's sender hung up before the end of its body. tenant=%s", tenant)
        return
    finally:
        request_id.reset(reset)
    await answer_json(send, status, answer, current, headers)


async def _take_in(scope: Scope, receive: Receive, slug: str) -> tuple[Arrival, float]:
    """
    Everything that can be said before the database is written: who, what, signed by whom; and by when (monotonic) the
    answer must be out. Raises Refused.
    """
    arrived = time.monotonic()
    answer_by = arrived + ANSWER_WITHIN_S
    if scope["method"] != "POST":
        raise Refused(405, "method_not_allowed", "Send webhooks with POST.", ((b"allow", b"POST"),))
    keyring = _keyrings.get()
    tenant = await keyring.find(slug, since=arrived - KEYS_GOOD_FOR_S, answer_by=answer_by)
    if tenant is None:
        raise Refused(
            404, "unknown_tenant", "There is no such tenant here. Check the webhook URL registered at Ring."
        )
    if not _JSON_TYPE.fullmatch(_header(scope, b"content-type") or ""):
        raise Refused(415, "unsupported_media_type", "Send the webhook as application/json.")
    waiting_since = time.monotonic()
    body = await _read_body(scope, receive)
    answer_by += time.monotonic() - waiting_since  # the sender's time, not ours
    signature = _header(scope, b"x-signature")
    if not signature_valid(body=body, header=signature, keys=tenant.keys):
        # The key may have been changed a moment ago, perhaps by another process: what was read before this request
        # came proves nothing against it.
        tenant = await keyring.find(slug, since=arrived, answer_by=answer_by)
        if tenant is None or not signature_valid(body=body, header=signature, keys=tenant.keys):
            raise Refused(
                401,
                "bad_signature",
                "X-Signature is not the HMAC-SHA256 of these exact bytes under the tenant's signing key. "
                "Compare the key in the portal's settings with the one Ring shows.",
            )
    delivery, reason = _parse(body)
    return Arrival(tenant.pk, timezone.now(), body, delivery, reason), answer_by


def _parse(body: bytes) -> tuple[WebhookDelivery | None, str]:
    try:
        delivery = parse_delivery(body)
        too_deep = _is_deeper(delivery.raw, MAX_DEPTH)
    except MalformedDelivery as error:
        return None, error.reason
    except RecursionError:
        too_deep = True
    return (None, f"The body is nested more than {MAX_DEPTH} levels deep.") if too_deep else (delivery, "")


def _is_deeper(value: object, levels: int) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if items is None:
        return False
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in items)


def _refuse_malformed(arrival: Arrival) -> NoReturn:
    raise Refused(
        400, "malformed", f"The signature is good, but this is no webhook of Ring's: {arrival.reason}"
    )


def _header(scope: Scope, name: bytes) -> str | None:
    """The header's value; None when it is missing, or there twice and nobody can tell which one is meant."""
    values = values_of(scope, name)
    return values[0] if len(values) == 1 else None


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    """The raw body. Stops reading at the limit. Raises Refused (413, 408) or ClientGone."""
    too_large = Refused(413, "too_large", f"A webhook may have {MAX_BODY_BYTES} bytes at most.")
    length = _header(scope, b"content-length") or ""
    if length.isdecimal() and int(length[:20]) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > MAX_BODY_BYTES:
                    raise too_large
    except TimeoutError:
        raise Refused(408, "too_slow", "The body did not arrive in time. Send it again.") from None
    return bytes(body)


# --- the tenants' keys -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TenantKeys:
    """A tenant and the keys a webhook for it may be signed with, as read from the database at `read_at` (monotonic)."""

    pk: int
    keys: tuple[str, ...] = field(repr=False)
    read_at: float


def _read_keys(slug: str) -> tuple[int, tuple[str, ...]] | None:
    tenant = Tenant.objects.filter(slug=slug).first()
    if tenant is None:
        return None
    with tenant_scope(tenant):
        app = RingApp.objects.for_tenant(tenant).first()
    return tenant.pk, tuple(app.signing_keys) if app else ()


@dataclass(frozen=True)
class _Look:
    """One look into the database for a tenant's keys, which has begun at `began_at` (monotonic)."""

    began_at: float
    found: asyncio.Task[TenantKeys | None]


class _Keyring:
    """The keys of the tenants that were asked for lately. Unknown tenants are not remembered: one may exist soon."""

    def __init__(self) -> None:
        self._tenants: dict[str, TenantKeys] = {}
        self._looks: dict[str, _Look] = {}

    async def find(self, slug: str, *, since: float, answer_by: float) -> TenantKeys | None:
        """
        The tenant's keys as they stood at the moment `since` (monotonic seconds) or later; None for no such tenant.

        Those who ask at the same time share one look into the database, and its failure. Raises Refused (503) when the
        database is away, at `answer_by` (monotonic) at the latest.
        """
        try:
            async with _until(answer_by):
                while True:
                    tenant = self._tenants.get(slug)
                    if tenant is not None and tenant.read_at >= since:
                        return tenant
                    look = self._looks.get(slug)
                    if look is None:
                        began_at = time.monotonic()
                        look = _Look(began_at, asyncio.create_task(self._look(slug, began_at)))
                        self._looks[slug] = look
                    # Whoever gives up waiting leaves the look to the others.
                    found = await asyncio.shield(look.found)
                    if look.began_at >= since:
                        return found
        except TimeoutError:
            raise _try_again("slow", "The portal's database takes too long. Send it again.") from None

    async def _look(self, slug: str, began_at: float) -> TenantKeys | None:
        try:
            found = await _reading.run(_read_keys, slug)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("The database gave no signing keys. error=%s", type(error).__name__)
            raise _try_again("unavailable", "The portal cannot reach its database. Send it again.") from None
        except Exception:
            logger.exception("A tenant's signing keys cannot be read. tenant=%s", slug)
            raise _try_again(
                "keys_unreadable", "The portal cannot read this tenant's signing keys. Send it again."
            ) from None
        finally:
            del self._looks[slug]
        if found is None:
            self._tenants.pop(slug, None)
            return None
        self._tenants[slug] = TenantKeys(found[0], found[1], began_at)
        return self._tenants[slug]


_keyrings = PerLoop(_Keyring)


# --- the group commit --------------------------------------------------------------------------------------------


class _Writer:
    """
    Writes all arrivals of this process: what comes in while one transaction runs goes into the next, together.

    One transaction at a time, so the sync to the disk is paid once for many deliveries. The waiting line is bounded.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Arrival, asyncio.Future[Recorded]]] = []
        self._waiting_bytes = 0
        self._news: set[int] = set()
        self._writing: asyncio.Task[None] | None = None
        self._announcing: asyncio.Task[None] | None = None

    async def write(self, arrival: Arrival, *, answer_by: float) -> Recorded:
        """
        Return once the arrival is durable.

        Raises Refused (503), at `answer_by` (monotonic) at the latest: it may then be stored or not; it may come again.
        """
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes > MAX_WAITING_BYTES:
            raise _try_again("busy", "Too many deliveries are waiting to be stored. Send it again.")
        future: asyncio.Future[Recorded] = asyncio.get_running_loop().create_future()
        self._waiting.append((arrival, future))
        self._waiting_bytes += len(arrival.body)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        try:
            async with _until(answer_by):
                return await future
        except TimeoutError:
            raise _try_again("slow", "Storing this takes too long. Send it again.") from None

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                self._waiting_bytes -= sum(len(arrival.body) for arrival, _ in batch)
                await self._commit(batch)
        finally:
            self._writing = None

    async def _commit(self, batch: list[tuple[Arrival, asyncio.Future[Recorded]]]) -> None:
        """One transaction for the batch. Whatever happens, every one of its callers gets an answer."""
        try:
            results = await _writing.run(record_batch, [arrival for arrival, _ in batch])
        except (OperationalError, InterfaceError) as error:
            logger.warning(
                "The database took no deliveries. count=%s error=%s", len(batch), type(error).__name__
            )
            for _, future in batch:
                _fail(
                    future, _try_again("unavailable", "The portal cannot reach its database. Send it again.")
                )
        except Exception as error:  # whatever it is, nobody waits for an answer that does not come
            if len(batch) > 1:
                # One of them cannot be stored: find it, and let the others through.
                for one in batch:
                    await self._commit([one])
                return
            [(arrival, future)] = batch
            logger.exception("A delivery cannot be stored. tenant=%s", arrival.tenant_id, exc_info=error)
            _fail(future, _try_again("not_stored", "The portal could not store this. Send it again."))
        else:
            for (_, future), recorded in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(recorded)
                if recorded.position is not None:
                    self._news.add(recorded.tenant_id)
            if self._news and self._announcing is None:
                self._announcing = asyncio.create_task(self._announce_all())

    async def _announce_all(self) -> None:
        """Beside the writing, not in its way: a slow channel layer must not keep a webhook waiting."""
        try:
            while self._news:
                news, self._news = self._news, set()
                await broadcast.announce(news)
        finally:
            self._announcing = None


def _fail(future: asyncio.Future[Recorded], refusal: Refused) -> None:
    if not future.done():
        future.set_exception(refusal)


_writers = PerLoop(_Writer)
