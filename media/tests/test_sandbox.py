"""Live video and clips against the sandbox: real sockets, real H.264, an MP4 it cut for us."""

import asyncio
import hashlib
import io
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus

from django.conf import LazySettings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

import av
import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from asgiref.sync import sync_to_async

from accounts.models import RingAccount
from accounts.services import client_for, unlink_account
from accounts.unlinking import REMOVED_IN_RING
from devices.models import Device
from devices.services import sync_devices
from events.services import Arrival, record
from media import relaying
from media.models import Clip, FetchState, LiveSession
from media.tasks import fetch_clip
from media.tests.conftest import OFFER, make_event
from ring.documents import parse_delivery
from tests.support.cast import TenantCast
from tests.support.portal_process import wait_for
from tests.support.sandbox_process import SandboxProcess

TOKEN = "media-tests"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess(token=TOKEN) as process:
        yield process


@pytest.fixture
def door(sandbox: SandboxProcess, cast: TenantCast, settings: LazySettings) -> Device:
    """Ada's front door, as the sandbox shares it."""
    settings.DEBUG = True
    settings.RING_API_URL = sandbox.url
    settings.RING_TOKEN_URL = f"{sandbox.url}/oauth/token"
    sandbox.control("POST", "/reset")
    Device.objects.all().delete()
    account = cast.ada_account
    account.access_token = TOKEN
    account.save()
    with client_for(account) as client:
        sync_devices(account=account, client=client, now=timezone.now())
    device: Device = Device.objects.get(name="Front Door")
    return device


def open_sessions(sandbox: SandboxProcess) -> int:
    return sum(session["ended_ms"] is None for session in sandbox.control("GET", "/sessions"))


@pytest.mark.django_db(transaction=True)
async def test_a_camera_is_seen_moving_and_is_let_go_at_once(
    sandbox: SandboxProcess, door: Device, cast: TenantCast
) -> None:
    browser = Client()
    await sync_to_async(browser.force_login)(cast.ada.user)
    address = reverse("media:whep", args=["acme", door.public_id]) + "?path=direct"
    peer = RTCPeerConnection()
    try:
        peer.addTransceiver("video", direction="recvonly")
        await peer.setLocalDescription(await peer.createOffer())
        response = await sync_to_async(browser.post)(
            address, peer.localDescription.sdp, content_type="application/sdp"
        )
        assert response.status_code == HTTPStatus.CREATED, response.content
        answer = response.content.decode()
        await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        track = peer.getReceivers()[0].track
        pictures = set()
        for _ in range(8):
            frame = await asyncio.wait_for(track.recv(), 20)
            assert isinstance(frame, av.VideoFrame)
            pictures.add(bytes(frame.planes[0]))
        assert len(pictures) > 1, "the picture moves"
        ended = await sync_to_async(browser.delete)(response["Location"])
    finally:
        await peer.close()

    assert ended.status_code == HTTPStatus.OK
    assert await sync_to_async(open_sessions)(sandbox) == 0
    session = await LiveSession.objects.aget()
    assert (session.end_reason, session.upstream_url) == (LiveSession.EndReason.CLOSED, "")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["direct", "relay"])
@pytest.mark.parametrize("side", ["here", "in the Ring app"])
async def test_whoever_watches_when_the_link_ends_is_cut_off_at_ring(
    sandbox: SandboxProcess, door: Device, cast: TenantCast, side: str, path: str
) -> None:
    """Disconnecting here tells Ring with the last token; removing the app there ends the session there."""
    browser = Client()
    await sync_to_async(browser.force_login)(cast.ada.user)
    peer = RTCPeerConnection()
    try:
        peer.addTransceiver("video", direction="recvonly")
        await peer.setLocalDescription(await peer.createOffer())
        response = await sync_to_async(browser.post)(
            reverse("media:whep", args=["acme", door.public_id]) + f"?path={path}",
            peer.localDescription.sdp,
            content_type="application/sdp",
        )
        assert response.status_code == HTTPStatus.CREATED, response.content
        assert await sync_to_async(open_sessions)(sandbox) == 1
        began = time.monotonic()
        if side == "here":
            page = reverse("accounts:unlink", args=["acme", cast.ada_account.public_id])
            assert (await sync_to_async(browser.post)(page)).status_code == HTTPStatus.FOUND
        else:
            await sync_to_async(end_in_the_ring_app)(sandbox, cast.ada_account)
        assert await sync_to_async(open_sessions)(sandbox) == 0
        assert time.monotonic() - began < 5
    finally:
        await peer.close()
        await asyncio.to_thread(relaying.relay().close)
    # The relay may have asked for another session, in vain.
    rows = [session async for session in LiveSession.objects.exclude(kind="upstream", end_reason="failed")]
    assert {session.kind for session in rows} == ({"direct"} if path == "direct" else {"relayed", "upstream"})
    assert {session.end_reason for session in rows} == {LiveSession.EndReason.UNLINKED}
    assert (await RingAccount.objects.aget(pk=cast.ada_account.pk)).access_token == ""


def end_in_the_ring_app(sandbox: SandboxProcess, account: RingAccount) -> None:
    sandbox.control("POST", "/unlink", {})
    # Its webhook, as the intake's task acts on it: this test has no portal process Ring could reach.
    unlink_account(account=account, now=timezone.now(), reason=REMOVED_IN_RING)


@pytest.mark.django_db(transaction=True)
def test_the_footage_of_an_event_is_kept_and_can_be_decoded(
    sandbox: SandboxProcess, door: Device, cast: TenantCast, run_tasks
) -> None:
    sent = sandbox.control("POST", "/events", {"device": "Front Door", "type": "button_press"})
    at_ms = int(sent["event_id"].rsplit("_", 1)[1])
    cast.ada_camera = door
    event = make_event(cast, occurred_at=datetime.fromtimestamp(at_ms / 1000, UTC))
    RingAccount.objects.filter(pk=door.ring_account_id).update(
        consent_at=datetime.fromtimestamp(at_ms / 1000, UTC)
    )
    browser = Client()
    browser.force_login(cast.ada.user)

    page = browser.post(reverse("media:request_event_clip", args=["acme", event.public_id]))

    clip = Clip.objects.get()
    assert page["Location"] == reverse("media:clip", args=["acme", clip.public_id])

    def is_decided() -> bool:
        # The sandbox, as Ring, needs a moment: each try is the one the worker would make.
        Clip.objects.filter(state=FetchState.QUEUED).update(next_attempt_at=timezone.now())
        fetch_clip.func(clip.pk)
        clip.refresh_from_db()
        return clip.state not in {FetchState.QUEUED, FetchState.FETCHING}

    wait_for(is_decided, timeout_s=90, what="the clip")
    assert (clip.state, clip.error) == (FetchState.READY, "")
    with clip.file.open("rb") as stored:
        content = stored.read()
    assert hashlib.sha256(content).hexdigest() == clip.sha256
    with av.open(io.BytesIO(content), "r") as container:
        assert len(list(container.decode(video=0))) > 10
    assert (clip.width, clip.height, clip.codec) == (1280, 720, "h264")


@pytest.mark.django_db(transaction=True)
def test_a_plan_that_ends_at_ring_withdraws_the_camera_and_a_new_one_brings_it_back(
    sandbox: SandboxProcess, door: Device, cast: TenantCast, run_tasks
) -> None:
    def told() -> str:
        """Take in the newest webhook, as it went out; what the camera's plan is then."""
        body = sandbox.control("GET", "/deliveries")[-1]["body"].encode()
        delivery = parse_delivery(body)
        RingAccount.objects.filter(pk=cast.ada_account.pk).update(ring_id=delivery.account_id)
        record(Arrival(cast.tenant.pk, timezone.now(), body, delivery))
        run_tasks()
        door.refresh_from_db()
        return door.plan

    sandbox.control("POST", "/subscriptions", {"devices": ["Front Door"]})
    assert told() == "active" and door.plan_expires_at is not None
    # A change of plans: the end of the old one is told last.
    sandbox.control("POST", "/subscriptions", {"devices": ["Front Door"], "days": 365})
    assert told() == "active"

    sandbox.control("DELETE", "/subscriptions", {})
    assert told() == "inactive"
    browser = Client()
    browser.force_login(cast.ada.user)
    asked = browser.post(
        reverse("media:whep", args=["acme", door.public_id]), OFFER, content_type="application/sdp"
    )
    assert asked.json()["reason"] == "plan_ended"
    assert open_sessions(sandbox) == 0

    sandbox.control("POST", "/subscriptions", {"devices": ["Front Door"]})
    assert told() == "active"
