"""A webhook as Ring would send it, signed with the tenant's real key and posted to the portal's real address."""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from websockets.exceptions import InvalidHandshake, WebSocketException
from websockets.sync.client import ClientConnection, connect

from accounts.models import ApiToken, RingApp, Tenant
from devices.models import Device
from events.models import Event
from events.services import TEST_MARK
from onboarding.own_address import CONNECT_S, USER_AGENT, Reply, ask, portal_address
from ring.signature import sign
from ring.timestamps import to_epoch_ms

EVENT_TYPE = "portal_test"
# No account of Ring's is called so: theirs begin with "ava1.".
NOBODYS_ACCOUNT = "portal.test.account"
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


def make_test_event(
    *, event_type: str = EVENT_TYPE, device: Device | None = None, now: datetime
) -> TestEvent:
    """
    A delivery of contract 9.2's form that says it is a test. Each one is new: its ids are used once.

    Its text holds what a proxy that rewrites JSON would change (spaces, letters beyond ASCII), so that the signature
    tells of it.
    """
    request_id = str(uuid.uuid4())
    if device is None:
        source = {"source": NOBODYS_ACCOUNT, "source_type": "users"}
        account_id = NOBODYS_ACCOUNT
    else:
        source = {"source": device.ring_id, "source_type": "devices"}
        account_id = device.ring_account.ring_id
    document = {
        "meta": {
            "version": "1.1",
            "time": now.isoformat(),
            "request_id": request_id,
            "account_id": account_id,
            TEST_MARK: True,
        },
        "data": {
            "id": f"portal.test.{request_id}",
            "type": event_type,
            "attributes": {
                **source,
                "timestamp": to_epoch_ms(now),
                "note": "Sent by the portal to itself  –  два  пробела",
            },
        },
    }
    return TestEvent(request_id, json.dumps(document, ensure_ascii=False, indent=1).encode())


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
            .select_related("tenant", "device")
            .first()
        )
        if found is not None or time.monotonic() >= deadline:
            return found
        time.sleep(0.1)


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
