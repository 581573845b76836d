"""The websocket and grants: exactly the events of granted devices, from the moment given to the moment ended."""

from datetime import timedelta

from django.utils import timezone

import pytest

from accounts.models import Membership, Role
from devices.grants import Grant
from devices.models import Device
from events import hub
from events.admission import Visitor
from events.models import Event
from events.tests.conftest import OpenSocket
from events.tests.test_feed import closed_with, positions, press
from events.threads import in_thread
from tests.support.cast import TenantCast, make_membership

RIGHTS = {"type": "rights"}


@pytest.fixture
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "LOOK_EVERY_S", 0.02)


async def guest_of(cast: TenantCast) -> Membership:
    return await in_thread(make_membership, cast.tenant, "guest@acme.example", Role.GUEST)


async def give(member: Membership, device: Device, **held: object) -> Grant:
    given = {"events": True} | held
    row: Grant = await in_thread(
        Grant.objects.create, tenant=member.tenant, membership=member, device=device, **given
    )
    return row


async def end(grant: Grant) -> None:
    grant.ended_at = timezone.now()
    await in_thread(grant.save)


async def test_guest_gets_events_of_the_granted_device_and_no_other(
    cast: TenantCast, open_socket: OpenSocket
):
    guest = await guest_of(cast)
    await give(guest, cast.ben_camera)
    socket = await open_socket(guest, after=0)
    await press(cast.ada_camera, 1)
    await press(cast.ben_camera, 2)
    await press(cast.ada_camera, 3)
    await press(cast.ben_camera, 4)

    assert await positions(socket, 2) == [2, 4]
    assert await positions(await open_socket(guest, after=0), 2) == [2, 4]  # the replay's view is the same


async def test_a_grant_without_events_brings_none(cast: TenantCast, open_socket: OpenSocket):
    guest = await guest_of(cast)
    await give(guest, cast.ada_camera, events=False, live=True)
    await give(guest, cast.ben_camera)
    socket = await open_socket(guest, after=0)
    await press(cast.ada_camera, 1)
    await press(cast.ben_camera, 2)

    assert await positions(socket, 1) == [2]


async def test_customer_gets_own_and_granted(cast: TenantCast, open_socket: OpenSocket):
    await give(cast.ada, cast.ben_camera)
    ada, ben = await open_socket(cast.ada, after=0), await open_socket(cast.ben, after=0)
    await press(cast.ada_camera, 1)
    await press(cast.ben_camera, 2)

    assert await positions(ada, 2) == [1, 2]
    assert await positions(ben, 1) == [2]


async def test_a_grant_given_while_connected_counts_at_once(
    cast: TenantCast, open_socket: OpenSocket, look_often: None
):
    guest = await guest_of(cast)
    socket = await open_socket(guest)
    await give(guest, cast.ada_camera)
    assert await socket.receive_json_from(timeout=5) == RIGHTS
    await press(cast.ada_camera, 1)

    assert await positions(socket, 1) == [1]


async def test_a_grant_ended_while_connected_counts_at_once(cast: TenantCast, open_socket: OpenSocket):
    guest = await guest_of(cast)
    grant = await give(guest, cast.ada_camera)
    await give(guest, cast.ben_camera)
    socket = await open_socket(guest)
    await end(grant)  # and not a single look of the hub in between
    await press(cast.ada_camera, 1)
    await press(cast.ben_camera, 2)

    assert await positions(socket, 1) == [2]


async def test_a_grant_that_runs_out_ends_without_anybody_doing_anything(
    cast: TenantCast, open_socket: OpenSocket, look_often: None
):
    guest = await guest_of(cast)
    grant = await give(guest, cast.ada_camera, until=timezone.now() + timedelta(hours=1))
    socket = await open_socket(guest)
    await press(cast.ada_camera, 1)
    assert await positions(socket, 1) == [1]

    until = grant.until = timezone.now() + timedelta(seconds=0.5)
    await in_thread(grant.save)
    assert await socket.receive_json_from(timeout=5) == RIGHTS
    assert timezone.now() >= until
    await press(cast.ada_camera, 2)
    assert await socket.receive_nothing(timeout=0.3)


async def test_what_waits_for_a_slow_browser_is_dropped_with_the_grant(cast: TenantCast):
    guest = await guest_of(cast)
    grant = await give(guest, cast.ada_camera)
    visitor = Visitor(cast.tenant.pk, False, user_id=guest.user_id, membership_pk=guest.pk)
    feeds = hub.Hub()
    mailbox, _ = await feeds.join(visitor)
    frames = mailbox.frames(0)
    await press(cast.ada_camera, 1)
    assert '"position":1' in (await anext(frames)).text
    waiting = hub.Frame(2, "a frame that waits")
    mailbox.put([waiting], waiting.data)
    await end(grant)
    mailbox.compare_rights(frozenset())

    assert (await anext(frames)).text == hub.RIGHTS
    assert not mailbox._frames
    await frames.aclose()
    feeds.leave(mailbox)


async def test_operator_who_becomes_limited_loses_the_socket(
    cast: TenantCast, open_socket: OpenSocket, look_often: None
):
    socket = await open_socket(cast.operator)
    cast.operator.is_limited = True
    await in_thread(cast.operator.save)

    assert await closed_with(socket) == 4403
    again = await open_socket(cast.operator, after=0)
    await give(cast.operator, cast.ben_camera)
    assert await again.receive_json_from(timeout=5) == RIGHTS
    await press(cast.ada_camera, 1)
    await press(cast.ben_camera, 2)
    assert await positions(again, 1) == [2]
    assert await in_thread(Event.objects.count) == 2
