"""The relay in the portal, against the sandbox as Ring: real sockets, real rows, the ledger as the judge."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from asgiref.sync import sync_to_async

from accounts.models import AuditEntry, Membership
from accounts.unlinking import disconnect
from devices.models import Device
from devices.services import record_connectivity
from media import live, relaying
from media.models import LiveSession
from media.relay import camera
from media.watchers import end_unentitled
from tests.support.cast import TenantCast
from tests.support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.usefixtures("relay_closed")


class Viewer:
    """Somebody with a browser of aiortc."""

    def __init__(self, membership: Membership, camera: Device) -> None:
        self.http = Client()
        self.membership = membership
        self.address = reverse("media:whep", args=["acme", camera.public_id])
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.pictures = 0
        self.answer: Any = None
        self.first_picture_at = 0.0
        self._reading: asyncio.Task[None] | None = None

    async def watch(self, query: str = "") -> Any:
        await sync_to_async(self.http.force_login)(self.membership.user)
        self.peer.addTransceiver("video", direction="recvonly")
        await self.peer.setLocalDescription(await self.peer.createOffer())
        self.answer = await sync_to_async(self.http.post, thread_sensitive=False)(
            self.address + query, self.peer.localDescription.sdp, content_type="application/sdp"
        )
        if self.answer.status_code == HTTPStatus.CREATED:
            await self.peer.setRemoteDescription(
                RTCSessionDescription(self.answer.content.decode(), "answer")
            )
            self._reading = asyncio.create_task(self._read())
        return self.answer

    async def _read(self) -> None:
        with contextlib.suppress(Exception):
            while True:
                await self.peer.getReceivers()[0].track.recv()
                self.first_picture_at = self.first_picture_at or time.monotonic()
                self.pictures += 1

    async def request(self, method: str, suffix: str = "") -> HttpResponse:
        response: HttpResponse = await sync_to_async(getattr(self.http, method), thread_sensitive=False)(
            self.answer["Location"] + suffix
        )
        return response

    async def go(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        await self.peer.close()


@pytest.fixture
async def viewer() -> AsyncIterator[Callable[[Membership, Device], Viewer]]:
    made: list[Viewer] = []

    def make(membership: Membership, camera: Device) -> Viewer:
        made.append(Viewer(membership, camera))
        return made[-1]

    yield make
    for each in made:
        await each.go()


def ledger(sandbox: SandboxProcess) -> list[dict[str, Any]]:
    return [s for s in sandbox.control("GET", "/sessions") if s["ended_ms"] is None]


async def open_at_ring(sandbox: SandboxProcess) -> int:
    return len(await sync_to_async(ledger)(sandbox))


async def until(condition: Callable[[], Any], *, timeout_s: float = 20.0, what: str = "it") -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout_s:.0f} s"
        await asyncio.sleep(0.05)


async def none_open(sandbox: SandboxProcess) -> bool:
    return await open_at_ring(sandbox) == 0


@sync_to_async
def work_off() -> None:
    """What a worker does with the sessions that are due."""
    for pk in list(
        LiveSession.objects.filter(next_attempt_at__lte=timezone.now()).values_list("pk", flat=True)
    ):
        live.close_upstream(pk)


async def test_two_viewers_of_one_camera_are_one_session_at_ring(
    sandbox: SandboxProcess, battery: Device, cast: TenantCast, viewer: Any
) -> None:
    ada, operator = viewer(cast.ada, battery), viewer(cast.operator, battery)
    assert (await ada.watch()).status_code == HTTPStatus.CREATED
    await until(lambda: ada.pictures > 5, what="Ada's picture")
    began = time.monotonic()
    assert (await operator.watch()).status_code == HTTPStatus.CREATED
    await until(lambda: operator.pictures > 5, what="the operator's picture")

    assert ada.answer["Live-Path"] == operator.answer["Live-Path"] == "relay"
    assert operator.first_picture_at - began < 3
    assert await open_at_ring(sandbox) == 1
    rows = [row async for row in LiveSession.objects.order_by("pk")]
    assert [row.kind for row in rows] == ["relayed", "upstream", "relayed"]
    assert [row.upstream_url != "" for row in rows] == [False, True, False]
    assert await AuditEntry.objects.filter(action="live.started").acount() == 2

    assert (await ada.request("delete")).status_code == HTTPStatus.OK
    seen = operator.pictures
    await until(lambda: operator.pictures > seen + 5, what="more for the one who stays")
    assert await open_at_ring(sandbox) == 1
    assert (await operator.request("delete")).status_code == HTTPStatus.OK
    await until(lambda: none_open(sandbox), timeout_s=5, what="the end at Ring")
    assert await LiveSession.objects.open().acount() == 0
    ends = [entry.actor_ref async for entry in AuditEntry.objects.filter(action="live.ended")]
    assert len(set(ends)) == len(ends) == 2 and None not in ends


async def test_the_only_viewer_of_a_wired_camera_is_direct_and_is_told_when_the_relay_has_it(
    sandbox: SandboxProcess, wired: Device, cast: TenantCast, viewer: Any
) -> None:
    ada, operator = viewer(cast.ada, wired), viewer(cast.operator, wired)
    assert (await ada.watch())["Live-Path"] == "direct"
    assert "Better-Path" not in (await ada.request("head"))
    assert (await operator.watch())["Live-Path"] == "relay"
    await until(lambda: operator.pictures > 3)

    assert (await ada.request("head"))["Better-Path"] == "relay"
    assert "Better-Path" not in (await operator.request("head"))
    refused = await ada.request("post", "/more")
    assert (refused.status_code, refused.json()["reason"]) == (HTTPStatus.CONFLICT, "direct")


async def test_a_path_can_be_asked_for(wired: Device, cast: TenantCast, viewer: Any) -> None:
    assert (await viewer(cast.ada, wired).watch("?path=relay"))["Live-Path"] == "relay"
    assert (await viewer(cast.ada, wired).watch("?path=around")).status_code == HTTPStatus.BAD_REQUEST


async def test_a_viewing_ends_at_its_time_unless_the_viewer_keeps_watching(
    sandbox: SandboxProcess, battery: Device, cast: TenantCast, viewer: Any
) -> None:
    ada = viewer(cast.ada, battery)
    assert (await ada.watch())["Session-Cap"] == "60"
    await until(lambda: ada.pictures > 3)
    await LiveSession.objects.filter(kind="relayed").aupdate(cap_s=1)
    kept = await ada.request("post", "/more")
    assert (kept.status_code, kept["Session-Cap"]) == (HTTPStatus.NO_CONTENT, "60")
    row = await LiveSession.objects.aget(kind="relayed")
    assert row.cap_s >= 60 and row.ended_at is None

    await LiveSession.objects.filter(kind="relayed").aupdate(cap_s=1)
    await until(lambda: none_open(sandbox), timeout_s=5, what="the end at Ring")
    assert (await ada.request("head"))["Session-End"] == "cap"


async def test_a_camera_that_goes_offline_ends_every_viewing_with_that_reason(
    sandbox: SandboxProcess, battery: Device, cast: TenantCast, viewer: Any
) -> None:
    ada = viewer(cast.ada, battery)
    await ada.watch()
    await until(lambda: ada.pictures > 3)

    await sync_to_async(record_connectivity)(device=battery, online=False, at=timezone.now())
    await work_off()
    await until(lambda: none_open(sandbox), timeout_s=5, what="the end at Ring")
    await until(lambda: relaying.relay().standing() == ([], []), timeout_s=5, what="the relay being idle")
    assert (await ada.request("head"))["Session-End"] == "offline"


async def test_a_viewing_ended_in_the_database_ends_the_picture(
    sandbox: SandboxProcess, battery: Device, cast: TenantCast, viewer: Any
) -> None:
    """However somebody else ends it: access taken away, signed out, in whichever process."""
    ada = viewer(cast.ada, battery)
    await ada.watch()
    await until(lambda: ada.pictures > 3)

    row = await LiveSession.objects.select_related("tenant", "viewer", "device").aget(kind="relayed")
    await sync_to_async(live.end_session)(
        session=row, reason=LiveSession.EndReason.CLOSED, now=timezone.now()
    )
    await until(lambda: ada.peer.connectionState == "closed", timeout_s=5, what="the viewer's end")
    await until(lambda: none_open(sandbox), timeout_s=5, what="the end at Ring")


@pytest.mark.parametrize("way", ["signed out", "no member any more", "unlinked"])
async def test_a_right_that_ends_ends_the_picture_and_the_session_at_ring(
    sandbox: SandboxProcess, battery: Device, cast: TenantCast, viewer: Any, way: str
) -> None:
    ada = viewer(cast.ada, battery)
    await ada.watch()
    await until(lambda: ada.pictures > 3)
    assert await open_at_ring(sandbox) == 1

    if way == "signed out":
        await sync_to_async(ada.http.logout)()
    elif way == "no member any more":
        await Membership.objects.filter(pk=cast.ada.pk).adelete()
    else:
        await sync_to_async(disconnect)(account=cast.ada_account, actor=cast.ada.user, now=timezone.now())
    if way != "unlinked":
        await sync_to_async(end_unentitled)(now=timezone.now())  # what a worker does every two seconds
    await until(lambda: none_open(sandbox), timeout_s=5, what="the end at Ring")
    await until(lambda: relaying.relay().standing() == ([], []), timeout_s=5, what="the relay being idle")
    await until(lambda: ada.peer.connectionState == "closed", timeout_s=5, what="the viewer's end")


async def test_what_a_dead_process_left_is_ended_by_the_sweep(
    sandbox: SandboxProcess, battery: Device, cast: TenantCast
) -> None:
    now = timezone.now()
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.addTransceiver("video", direction="recvonly")
    await peer.setLocalDescription(await peer.createOffer())
    common = {"tenant": cast.tenant, "device": battery, "opened_at": now, "next_attempt_at": now}
    upstream = await LiveSession.objects.acreate(kind="upstream", cap_s=30, **common)
    await sync_to_async(live.open_at_ring)(upstream, offer_sdp=peer.localDescription.sdp)
    await LiveSession.objects.acreate(kind="relayed", cap_s=60, viewer=cast.ada.user, **common)
    assert await open_at_ring(sandbox) == 1

    await work_off()
    assert await open_at_ring(sandbox) == 1, "the process may still be there"
    assert (await LiveSession.objects.aget(kind="relayed")).end_reason == "relay"

    # No sign of life for as long as a lease lasts.
    await LiveSession.objects.open().aupdate(next_attempt_at=timezone.now() - live.SIGN_OF_LIFE)
    await work_off()
    assert await open_at_ring(sandbox) == 0
    ends = {row.kind: row.end_reason async for row in LiveSession.objects.all()}
    assert ends == {"upstream": "lost", "relayed": "relay"}
    await peer.close()


async def test_a_battery_that_gave_enough_for_a_day_is_left_alone(
    sandbox: SandboxProcess, battery: Device, cast: TenantCast, viewer: Any
) -> None:
    now = timezone.now()
    await LiveSession.objects.acreate(
        tenant=cast.tenant,
        kind="upstream",
        device=battery,
        opened_at=now - timedelta(hours=2),
        ended_at=now - timedelta(hours=1),
        end_reason="closed",
        cap_s=3600,
    )
    refused = await viewer(cast.ada, battery).watch()
    assert (refused.status_code, refused.json()["reason"]) == (HTTPStatus.CONFLICT, "budget")


async def test_a_battery_that_has_given_enough_meanwhile_ends_the_picture_with_its_session(
    sandbox: SandboxProcess,
    wired: Device,
    cast: TenantCast,
    viewer: Any,
    unspoilt: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Asking again, which is for what passes, would let the picture stand still for a minute."""
    monkeypatch.setattr(camera, "RETRY_S", (60.0, 60.0))
    await Device.objects.filter(pk=wired.pk).aupdate(is_battery_powered=True)
    await order(sandbox, "PATCH", "/live", cap_s=4)
    ada = viewer(cast.ada, wired)
    await ada.watch("?path=relay")
    await until(lambda: ada.pictures > 3, what="a picture")
    before = timezone.now() - timedelta(hours=2)
    await LiveSession.objects.acreate(
        tenant=cast.tenant,
        kind="upstream",
        device=wired,
        opened_at=before,
        ended_at=before + timedelta(hours=1),
        end_reason="closed",
        cap_s=3600,
    )

    await until(lambda: ada.peer.connectionState == "closed", timeout_s=15, what="the viewer's end")
    assert (await ada.request("head"))["Session-End"] == "budget"


async def test_what_ring_refuses_reaches_the_viewer_of_the_relay_in_words(
    sandbox: SandboxProcess, battery: Device, cast: TenantCast, viewer: Any
) -> None:
    await sync_to_async(sandbox.control)(
        "POST", "/faults", {"route": "whep", "kind": "status", "status": 429}
    )
    refused = await viewer(cast.ada, battery).watch()
    assert (refused.status_code, refused.json()["reason"]) == (HTTPStatus.SERVICE_UNAVAILABLE, "busy")
    assert {row.end_reason async for row in LiveSession.objects.all()} == {"failed"}


async def order(sandbox: SandboxProcess, method: str, path: str, **fields: Any) -> None:
    await sync_to_async(sandbox.control)(method, path, {"device": "Driveway", **fields})


@pytest.fixture
def unspoilt(sandbox: SandboxProcess) -> Iterator[None]:
    """What was ordered of the camera is taken back, for the sandbox serves the whole module."""
    yield
    back = dict.fromkeys(("cap_s", "stall_after_s", "loss_percent", "profile", "codec"))
    sandbox.control("PATCH", "/live", {"device": "Driveway", **back})
    sandbox.control("DELETE", "/faults")


@pytest.mark.parametrize("path", ["relay", "direct"])
async def test_a_camera_whose_video_nobody_here_plays_is_refused_in_words_and_left_alone(
    sandbox: SandboxProcess, wired: Device, cast: TenantCast, viewer: Any, unspoilt: None, path: str
) -> None:
    await order(sandbox, "PATCH", "/live", codec="hevc")

    refused = await viewer(cast.ada, wired).watch(f"?path={path}")

    assert (refused.status_code, refused.json()["reason"]) == (HTTPStatus.UNPROCESSABLE_ENTITY, "codec")
    assert "Ring app" in refused.json()["detail"]
    assert await none_open(sandbox)
    assert {row.end_reason async for row in LiveSession.objects.all()} == {"failed"}


async def test_a_silent_session_is_replaced_and_the_picture_goes_on(
    sandbox: SandboxProcess, wired: Device, cast: TenantCast, viewer: Any, unspoilt: None
) -> None:
    await order(sandbox, "PATCH", "/live", stall_after_s=3)  # each session, so each has a few pictures
    one = viewer(cast.ada, wired)
    await one.watch("?path=relay")
    await until(lambda: one.pictures > 5, what="a picture")
    [first] = await sync_to_async(ledger)(sandbox)

    async def is_replaced() -> bool:
        return first["id"] not in {entry["id"] for entry in await sync_to_async(ledger)(sandbox)}

    await until(is_replaced, what="the end of the silent session")
    before = one.pictures
    await until(lambda: one.pictures > before + 5, what="the picture again")


async def test_a_session_that_ring_gives_only_after_the_first_does_not_end_the_viewing(
    sandbox: SandboxProcess, wired: Device, cast: TenantCast, viewer: Any, unspoilt: None
) -> None:
    await order(sandbox, "PATCH", "/live", stall_after_s=3)
    one = viewer(cast.ada, wired)
    await one.watch("?path=relay")
    await until(lambda: one.pictures > 5, what="a picture")
    await order(sandbox, "POST", "/faults", route="whep", kind="status", status=409)
    refused = LiveSession.objects.filter(kind="upstream", last_error="SessionConflict")

    async def is_refused() -> bool:
        return await refused.aexists()

    await until(is_refused, what="Ring's refusal of a second session")
    before = one.pictures
    await until(lambda: one.pictures > before + 5, what="the picture again")
    assert await refused.acount() == 1


async def test_a_camera_that_is_watched_elsewhere_is_refused_for_a_moment(
    sandbox: SandboxProcess, wired: Device, cast: TenantCast, viewer: Any, unspoilt: None
) -> None:
    await order(sandbox, "POST", "/faults", route="whep", kind="status", status=409)

    refused = await viewer(cast.ada, wired).watch("?path=relay")

    assert (refused.status_code, refused.json()["reason"]) == (HTTPStatus.CONFLICT, "in_use")
    assert refused["Retry-After"] == "5"
    assert (await viewer(cast.ada, wired).watch("?path=relay")).status_code == HTTPStatus.CREATED


async def test_a_camera_that_stays_silent_is_given_up_and_nothing_is_left_open(
    sandbox: SandboxProcess,
    wired: Device,
    cast: TenantCast,
    viewer: Any,
    unspoilt: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The real waits are half a minute and more.
    monkeypatch.setattr(camera, "RETRY_S", (0.1, 0.1))
    monkeypatch.setattr(camera, "STALL_S", 1.0)
    monkeypatch.setattr(camera, "CONNECT_S", 2.0)
    one = viewer(cast.ada, wired)
    assert (await one.watch("?path=relay")).status_code == HTTPStatus.CREATED
    await until(lambda: one.pictures > 5, what="a picture")

    await order(sandbox, "PATCH", "/live", stall_after_s=0)

    await until(lambda: one.peer.connectionState == "closed", timeout_s=30, what="the viewer's end")
    await until(lambda: none_open(sandbox), timeout_s=5, what="the end at Ring")
    assert (await one.request("head"))["Session-End"] == "silent"
    tried = await LiveSession.objects.filter(kind="upstream").acount()
    assert tried == 4, "the first, and three that were to replace it"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_pause_that_ring_asks_for_is_passed_on(
    sandbox: SandboxProcess, wired: Device, cast: TenantCast, viewer: Any, unspoilt: None, status: int
) -> None:
    await order(
        sandbox, "POST", "/faults", route="whep", kind="status", status=status, retry_after=17, times=-1
    )

    refused = await viewer(cast.ada, wired).watch("?path=relay")

    assert refused.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert int(refused["Retry-After"]) >= 17
    assert await none_open(sandbox)


async def test_a_high_profile_camera_is_seen_through_the_relay(
    sandbox: SandboxProcess, wired: Device, cast: TenantCast, viewer: Any, unspoilt: None
) -> None:
    await order(sandbox, "PATCH", "/live", profile="64001f")
    one = viewer(cast.ada, wired)

    assert (await one.watch("?path=relay")).status_code == HTTPStatus.CREATED

    await until(lambda: one.pictures > 5, what="a picture")
