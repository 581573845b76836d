"""Every way a viewing ends, on both paths, with the sandbox's ledger as the judge: Ring hears of it within five seconds."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.utils import timezone

import pytest
from asgiref.sync import sync_to_async

from accounts.models import Membership, Role
from devices.grants import Grant
from devices.models import Device
from devices.services import record_connectivity
from devices.signals import device_synced
from media import relaying
from media.models import LiveSession
from media.relay import camera as relay_camera
from media.tests.test_privacy_zones import ZONE, set_zones
from media.tests.test_relaying import Viewer, none_open, open_at_ring, order, until, work_off
from media.tests.test_relaying import unspoilt as unspoilt
from media.tests.test_relaying import viewer as viewer
from media.watchers import end_unentitled
from tests.support.cast import TenantCast, make_membership
from tests.support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.usefixtures("relay_closed")


def sign_out(guest: Viewer, camera: Device) -> None:
    guest.http.logout()


def let_access_run_out(guest: Viewer, camera: Device) -> None:
    Grant.objects.filter(membership=guest.membership).update(until=timezone.now())


def remove_from_company(guest: Viewer, camera: Device) -> None:
    Membership.objects.filter(pk=guest.membership.pk).delete()


def go_offline(guest: Viewer, camera: Device) -> None:
    record_connectivity(device=camera, online=False, at=timezone.now())


def get_privacy_zones(guest: Viewer, camera: Device) -> None:
    device_synced.send(sender=Device, device=set_zones(camera, ZONE))


@pytest.mark.parametrize("path", ["direct", "relay"])
@pytest.mark.parametrize(
    ("what_happens", "reason"),
    [
        (sign_out, "access"),
        (let_access_run_out, "access"),
        (remove_from_company, "access"),
        (go_offline, "offline"),
        (get_privacy_zones, "privacy"),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
async def test_a_guest_who_watches_is_cut_off_and_ring_hears_of_it(
    sandbox: SandboxProcess,
    wired: Device,
    cast: TenantCast,
    viewer: Any,
    path: str,
    what_happens: Callable[[Viewer, Device], None],
    reason: str,
) -> None:
    membership = await sync_to_async(make_membership)(cast.tenant, "guest@acme.example", Role.GUEST)
    until_then = timezone.now() + timedelta(hours=2)
    await Grant.objects.acreate(
        tenant=cast.tenant, membership=membership, device=wired, live=True, until=until_then
    )
    guest: Viewer = viewer(membership, wired)
    await guest.watch(f"?path={path}")
    await until(lambda: guest.pictures > 3, what="the guest's picture")
    assert await open_at_ring(sandbox) == 1

    await sync_to_async(what_happens)(guest, wired)
    # What a worker does, every two seconds and as soon as it is asked.
    await sync_to_async(end_unentitled)(now=timezone.now())
    await work_off()

    await until(lambda: none_open(sandbox), timeout_s=5, what="the end at Ring")
    viewing = await LiveSession.objects.exclude(kind="upstream").aget()
    assert viewing.end_reason == reason
    await until(lambda: relaying.relay().standing() == ([], []), timeout_s=5, what="the relay being idle")
    if path == "relay":
        await until(lambda: guest.peer.connectionState == "closed", timeout_s=5, what="the viewer's end")


async def test_the_last_viewer_may_leave_while_the_next_session_is_being_opened(
    sandbox: SandboxProcess,
    wired: Device,
    cast: TenantCast,
    viewer: Any,
    unspoilt: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay_camera, "LEAD_S", 59.0)  # a second after the first, not 53
    ada: Viewer = viewer(cast.ada, wired)
    before = len(await sync_to_async(sandbox.control)("GET", "/sessions"))
    await ada.watch("?path=relay")
    await order(sandbox, "POST", "/faults", route="whep", kind="slow", delay_s=3)
    upstream = LiveSession.objects.filter(kind="upstream")

    async def next_is_asked_for() -> bool:
        return await upstream.acount() == 2

    await until(next_is_asked_for, what="the next session being asked for")
    assert await open_at_ring(sandbox) == 1
    await ada.request("delete")

    async def next_came_and_went() -> bool:
        sessions = await sync_to_async(sandbox.control)("GET", "/sessions")
        return len(sessions) == before + 2 and all(entry["ended_ms"] is not None for entry in sessions)

    await until(next_came_and_went, timeout_s=3 + 5, what="the end of both at Ring")
    assert await LiveSession.objects.open().acount() == 0

    async def nothing_is_left_to_do() -> bool:
        return not await LiveSession.objects.filter(next_attempt_at__isnull=False).aexists()

    # Ring has ended the session a moment before its answer to our DELETE is read and written down.
    await until(nothing_is_left_to_do, timeout_s=5, what="the ends being written down")
