"""A webhook as Ring would send it, signed with the tenant's real key and posted to the portal's real address."""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.utils import timezone

from websockets.exceptions import InvalidHandshake, WebSocketException
from websockets.sync.client import ClientConnection, connect

from accounts.audit import audit
from accounts.models import ApiToken, RingApp, Tenant, User
from devices.models import Device
from events.models import Event
from events.services import TEST_MARK
from onboarding.own_address import (
    CONNECT_S,
    USER_AGENT,
    Reply,
    Unreachable,
    ask,
    portal_address,
    unexpected,
)
from ring.signature import sign
from ring.timestamps import to_epoch_ms

EVENT_TYPE = "portal_test"
# No account of Ring's is called so: theirs begin with "ava1.".
NOBODYS_ACCOUNT = "portal.test.account"
NOBODYS_DEVICE = "portal.test.device"
READINGS: Final = {"temperature": (41.5, 21.0), "humidity": (82, 45), "pm25": (60, 8), "co": (70, 0)}
"""What a sensor measures: a reading above its threshold, and one within."""
DEVICE_TYPES: Final = (
    "motion_detected",
    "button_press",
    "device_added",
    "device_removed",
    "device_online",
    "device_offline",
    "contact_sensor_faulted",
    "contact_sensor_cleared",
    *(f"{alarm}_{end}" for alarm in ("tamper", "flood", "freeze") for end in ("detected", "cleared")),
    *(f"{measure}_{end}" for measure in READINGS for end in ("exceeded", "cleared")),
)
INTEGRATION_TYPES: Final = ("app_integration_added", "app_integration_removed")
SUBSCRIPTION_TYPES: Final = ("subscription_activated", "subscription_deactivated")
TYPES: Final = (*DEVICE_TYPES, *INTEGRATION_TYPES, *SUBSCRIPTION_TYPES)
"""What contract 9.4 documents. Ring's set is open: any other type can be sent too."""
MAX_TYPE_CHARS: Final = 255
STORED_WITHIN_S = 5.0
TOKEN_NAME = "Set-up self-test"  # noqa: S105 - a name
TOKEN_LIFE = timedelta(minutes=2)
FRAME_WITHIN_S = 5.0


class NoKey(Exception):
    """The tenant has no signing key yet: its admin must enter Ring's credentials."""


@dataclass(frozen=True)
class TestEvent:
    """One delivery, ready to be posted. `body` is signed as these exact bytes."""

    __test__ = False  # for pytest: not a test class

    request_id: str
    body: bytes


def is_type(text: str) -> bool:
    """Whether it can be sent as an event type: Ring's set is open, but it has no spaces (contract 9.4)."""
    return 0 < len(text) <= MAX_TYPE_CHARS and text.isprintable() and not any(map(str.isspace, text))


def make_test_event(
    *, event_type: str = EVENT_TYPE, device: Device | None = None, now: datetime
) -> TestEvent:
    """
    A delivery of contract 9.2's form, with what Ring sends with its type, that says it is a test. Each one is new: its
    ids are used once.

    Its text holds what a proxy that rewrites JSON would change (spaces, letters beyond ASCII), so that the signature
    tells of it.
    """
    request_id = str(uuid.uuid4())
    account_id = NOBODYS_ACCOUNT if device is None else device.ring_account.ring_id
    data = _data_of(event_type, account_id=account_id, device=device, now=now)
    data["attributes"]["note"] = "Sent by the portal to itself  –  два  пробела"
    document = {
        "meta": {
            "version": "1.1",
            "time": now.isoformat(),
            "request_id": request_id,
            "account_id": account_id,
            TEST_MARK: True,
        },
        "data": {"id": f"portal.test.{request_id}", "type": event_type, **data},
    }
    return TestEvent(request_id, json.dumps(document, ensure_ascii=False, indent=1).encode())


def _data_of(
    event_type: str, *, account_id: str, device: Device | None, now: datetime
) -> dict[str, dict[str, Any]]:
    """Attributes and relationships as Ring sends them with this type. Source: contract 9.4, 9.5."""
    if event_type in SUBSCRIPTION_TYPES:
        return _subscription(event_type, device=device, now=now)
    timestamp = to_epoch_ms(now)
    if event_type in INTEGRATION_TYPES or (device is None and event_type not in DEVICE_TYPES):
        return {"attributes": {"source": account_id, "source_type": "users", "timestamp": timestamp}}
    ring_id = NOBODYS_DEVICE if device is None else device.ring_id
    more: dict[str, Any] = {}
    if event_type == "motion_detected":
        readable = f"{now.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        more = {"sub_type": "human", "timestamp_readable": readable, "component_ids": ["0"]}
    measure, _, end = event_type.rpartition("_")
    if measure in READINGS:
        above, within = READINGS[measure]
        more = {measure: above, "threshold_type": "max"} if end == "exceeded" else {measure: within}
    return {
        "attributes": {"source": ring_id, "source_type": "devices", "timestamp": timestamp, **more},
        "relationships": {"devices": {"links": {"self": f"/v1/devices/{ring_id}"}}},
    }


def _subscription(event_type: str, *, device: Device | None, now: datetime) -> dict[str, dict[str, Any]]:
    """No `source_type` and no timestamp; a deactivated one has no end (contract 9.5)."""
    attributes: dict[str, Any] = {
        "source": "subscriptions",
        "source_id": "portal.test.subscription",
        "sub_type": "paid",
        "plan_id": str(uuid.uuid4()),
    }
    if event_type == "subscription_activated":
        attributes["expires_at"] = f"{(now + timedelta(days=30)).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    covered = [] if device is None else [{"type": "device", "id": device.ring_id}]
    return {
        "attributes": attributes,
        "relationships": {
            "devices": {"data": covered},
            "subscriptions": {"links": {"self": "/v1/accounts/me/subscriptions"}},
        },
    }


def key_of(tenant: Tenant) -> str:
    """The key Ring signs with. Raises NoKey."""
    app = RingApp.objects.filter(tenant=tenant).first()
    if app is None or not app.signing_key:
        raise NoKey
    return app.signing_key


def post(tenant: Tenant, event: TestEvent, *, key: str) -> Reply:
    """Post it where Ring would. Raises `own_address.Unreachable`."""
    headers = {"Content-Type": "application/json", "X-Signature": sign(event.body, key)}
    return ask("POST", f"{portal_address()}/ring/{tenant.slug}/webhook", headers=headers, body=event.body)


def find_event(tenant: Tenant, event: TestEvent, *, within_s: float = 0.0) -> Event | None:
    """What became of it, as soon as it is there."""
    deadline = time.monotonic() + within_s
    while True:
        found: Event | None = (
            Event.objects.for_tenant(tenant)
            .filter(request_id=event.request_id)
            .select_related("tenant", "device__ring_account", "ring_account", "delivery")
            .first()
        )
        if found is not None or time.monotonic() >= deadline:
            return found
        time.sleep(0.1)


class NotSent(Exception):
    """The test event did not arrive. `said` is what happened, `fix` what to look at."""

    def __init__(self, said: str, fix: str) -> None:
        super().__init__(f"{said} {fix}")
        self.said = said
        self.fix = fix


@dataclass(frozen=True)
class Sent:
    """What became of a test event, and how long its answer took."""

    event: Event
    answered_ms: int


def send_test_event(
    *, tenant: Tenant, event_type: str, device: Device | None, actor: User | None, now: datetime
) -> Sent:
    """
    Sign one with the tenant's real key, post it where Ring would, and find what was stored; written to the trail.

    Not within a transaction: another process stores it. Raises NoKey, or NotSent.
    """
    event = make_test_event(event_type=event_type, device=device, now=now)
    try:
        reply = post(tenant, event, key=key_of(tenant))
    except Unreachable as error:
        raise NotSent(error.said, error.fix) from error
    if reply.status == 401:
        raise NotSent(
            "Refused with 401, although it was signed with the stored key.",
            "A proxy changes the body or the X-Signature header: have it pass both on as they are.",
        )
    if reply.status != 200:
        raise NotSent(*unexpected(reply, {200}))
    stored = find_event(tenant, event, within_s=STORED_WITHIN_S)
    if stored is None:
        raise NotSent(
            "Answered 200, but the event is not in this database.",
            "Give all processes the same DATABASE_URL.",
        )
    audit(
        tenant=tenant,
        actor=actor,
        action="test_event.sent",
        subject=f"event {stored.public_id}",
        event_type=event_type[:MAX_TYPE_CHARS],
    )
    return Sent(stored, reply.ms)


class Deaf(Exception):
    """The websocket could not be opened, or said nothing. `fix` says what to look at."""

    def __init__(self, said: str, fix: str) -> None:
        super().__init__(said)
        self.said = said
        self.fix = fix


_UPGRADE = "Have the proxy pass websockets on: HTTP/1.1, the Upgrade and Connection headers, and a read timeout of a minute or more."


@contextmanager
def listening(tenant: Tenant) -> Iterator[ClientConnection]:
    """
    An open event socket at the public address, as a program has it. Raises Deaf.

    It shows a token that may read this tenant for two minutes, made for this and deleted at the end.
    """
    ApiToken.objects.for_tenant(tenant).filter(name=TOKEN_NAME, expires_at__lt=timezone.now()).delete()
    row, secret = ApiToken.issue(tenant=tenant, name=TOKEN_NAME, scopes=[ApiToken.Scope.READ])
    try:
        ApiToken.objects.filter(pk=row.pk).update(expires_at=timezone.now() + TOKEN_LIFE)
        address = portal_address().replace("http", "ws", 1)
        try:
            socket = connect(
                f"{address}/ws/t/{tenant.slug}/events/",
                additional_headers={"Authorization": f"Bearer {secret}"},
                user_agent_header=USER_AGENT,
                proxy=None,
                open_timeout=CONNECT_S,
                close_timeout=1,
            )
        except InvalidHandshake as error:
            raise Deaf("The address does not open a websocket.", _UPGRADE) from error
        except (OSError, WebSocketException, TimeoutError) as error:
            raise Deaf("The websocket could not be opened.", _UPGRADE) from error
        with socket:
            yield socket
    finally:
        row.delete()


def wait_for_frame(socket: ClientConnection, position: int, *, since: float) -> int:
    """Return how many ms after `since` (monotonic seconds) the event with this position came. Raises Deaf."""
    began = time.monotonic()
    while (left := began + FRAME_WITHIN_S - time.monotonic()) > 0:
        try:
            frame = json.loads(socket.recv(timeout=left))
        except TimeoutError:
            break
        except (WebSocketException, OSError) as error:
            raise Deaf("The websocket was closed before the event came.", _UPGRADE) from error
        if frame.get("type") == "event" and frame.get("position") == position:
            return round((time.monotonic() - since) * 1000)
    raise Deaf(
        f"No event came over the websocket within {FRAME_WITHIN_S:.0f} s, although it is stored.",
        "With more than one web process, set REDIS_URL for all of them. Else see whether the proxy holds messages back.",
    )
