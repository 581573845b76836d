"""A picture that has come reaches the open pages of those who may see it, whatever happens to the message that says so."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

from django.test import Client
from django.utils import timezone

import pytest
from channels.testing import WebsocketCommunicator

from accounts.models import Membership, Role
from devices.grants import Grant
from devices.models import Device
from events import broadcast, hub
from events.models import Event
from events.tests.conftest import OpenSocket, body_of, open_socket, post_webhook  # noqa: F401  # a fixture
from events.tests.test_asyncapi import check, document  # noqa: F401  # a fixture
from events.threads import in_thread
from media.models import Picture
from media.tasks import fetch_picture
from media.tests.conftest import video_path
from ring.tests.server import Reply, ScriptedServer
from tests.support.cast import TenantCast, make_membership

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's own look at the database comes at once instead of every two seconds."""
    monkeypatch.setattr(hub, "LOOK_EVERY_S", 0.02)


def guest_with(device: Device, email: str, **held: bool) -> Membership:
    guest = make_membership(device.tenant, email, Role.GUEST)
    Grant.objects.create(tenant=device.tenant, membership=guest, device=device, **held)
    return guest


async def press(cast: TenantCast, request: int = 1) -> Event:
    body = await in_thread(lambda: body_of("button_press", device=cast.ada_camera, request=request))
    await post_webhook(body)
    return await in_thread(Event.objects.latest, "position")


async def picture_comes(event: Event, cast: TenantCast, ring: ScriptedServer, jpeg: bytes) -> str:
    """Ring gives the picture of the event; its address here."""

    def fetch() -> str:
        ring.script("POST", video_path(cast, "image"), Reply(200, jpeg, {"Content-Type": "image/jpeg"}))
        picture = Picture.objects.create(
            tenant=cast.tenant,
            device=cast.ada_camera,
            event=event,
            asked_at=event.occurred_at,
            next_attempt_at=timezone.now(),
        )
        fetch_picture.func(picture.pk)
        return f"/t/acme/pictures/{picture.public_id}/"

    return await in_thread(fetch)


async def next_of(socket: WebsocketCommunicator) -> Any:
    return await socket.receive_json_from(timeout=20)


async def test_whoever_may_see_event_and_picture_gets_it_and_nobody_else(
    cast: TenantCast,
    ring: ScriptedServer,
    jpeg: bytes,
    open_socket: OpenSocket,  # noqa: F811
    document: dict[str, Any],  # noqa: F811
):
    sees = await in_thread(guest_with, cast.ada_camera, "sees@acme.example", events=True)
    watches = await in_thread(guest_with, cast.ada_camera, "watches@acme.example", live=True)
    ended = await in_thread(guest_with, cast.ada_camera, "ended@acme.example", events=True)
    members = (cast.owner, cast.ada, sees)
    theirs = [await open_socket(member) for member in members]
    others = [await open_socket(member) for member in (cast.ben, watches)]
    over = await open_socket(ended)
    event = await press(cast)
    for socket in (*theirs, over):
        assert (await next_of(socket))["event"]["picture"] is None
    await in_thread(Grant.objects.filter(membership=ended).update, ended_at=timezone.now())

    url = await picture_comes(event, cast, ring, jpeg)

    for socket in theirs:
        frame = await next_of(socket)
        assert frame == {"type": "picture", "event": str(event.public_id), "url": url}
        check(document, frame)
    for socket in others:
        assert await socket.receive_nothing()
    # Told that their rights have changed, and of nothing else.
    while not await over.receive_nothing():
        assert (await next_of(over))["type"] == "rights"
    for member in members:
        client = Client()
        await in_thread(client.force_login, member.user)
        assert (await in_thread(client.get, url)).content == jpeg
    # Whoever comes later has it with the event.
    late = await open_socket(cast.ada, after=0)
    assert (await next_of(late))["event"]["picture"] == url


async def test_picture_is_found_by_looking_where_no_message_tells(
    cast: TenantCast,
    ring: ScriptedServer,
    jpeg: bytes,
    open_socket: OpenSocket,  # noqa: F811
    look_often: None,
    monkeypatch: pytest.MonkeyPatch,
):
    """As on the embedded default, where the worker's process reaches nobody here."""

    async def lose(tenant_ids: object, news: str = "") -> None:
        """Every message of the channel layer is lost."""

    monkeypatch.setattr(broadcast, "announce", lose)
    socket = await open_socket(cast.owner)
    event = await press(cast)
    assert (await next_of(socket))["type"] == "event"
    url = await picture_comes(event, cast, ring, jpeg)
    assert await next_of(socket) == {"type": "picture", "event": str(event.public_id), "url": url}
    assert await socket.receive_nothing()


async def test_picture_of_an_event_from_before_anybody_listened_is_told_too(
    cast: TenantCast,
    ring: ScriptedServer,
    jpeg: bytes,
    open_socket: OpenSocket,  # noqa: F811
):
    event = await press(cast)
    socket = await open_socket(cast.ada)
    async with asyncio.timeout(20):
        while hub.hubs.get()._feeds[cast.tenant.pk]._awaited is None:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
    url = await picture_comes(event, cast, ring, jpeg)
    assert await next_of(socket) == {"type": "picture", "event": str(event.public_id), "url": url}


async def test_pictures_of_long_ago_are_not_told(
    cast: TenantCast,
    ring: ScriptedServer,
    jpeg: bytes,
    open_socket: OpenSocket,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    socket = await open_socket(cast.owner)
    old, young = await press(cast, 1), await press(cast, 2)
    for _ in range(2):
        assert (await next_of(socket))["type"] == "event"
    long_ago: datetime = timezone.now() - timedelta(minutes=11)
    await in_thread(Event.objects.filter(pk=old.pk).update, received_at=long_ago)
    await picture_comes(old, cast, ring, jpeg)
    url = await picture_comes(young, cast, ring, jpeg)
    assert await next_of(socket) == {"type": "picture", "event": str(young.public_id), "url": url}
