"""
Direct viewings: when the web process dies or is deployed, beside two cameras that it relayed; and when a right, a device or
a link ends. Who lets go what, and when, in real processes and by Ring's ledger.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from events.tests.conftest import body_of
from tests.support.installation import Installation, Person, ada_shares, installation
from tests.support.live_viewer import LiveViewer
from tests.support.portal_process import wait_for


@dataclass
class Shared:
    """Ada's home, linked to `acme`: an API token of acme, and the ids of her cameras by name."""

    installed: Installation
    token: str
    cameras: dict[str, str]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with installation(tmp_path_factory.mktemp("installation")) as installed:
        token, _ = ada_shares(installed)
        cameras = {row["attributes"]["name"]: str(row["id"]) for row in installed.api(token, "devices")}
        yield Shared(installed, token, cameras)


def open_cameras(installed: Installation) -> list[str]:
    """The cameras of the sessions that Ring's ledger says are open."""
    sessions: list[dict[str, Any]] = installed.sandbox.control("GET", "/sessions")
    return sorted(str(session["device"]) for session in sessions if session["ended_ms"] is None)


async def until_open(installed: Installation, cameras: list[str], what: str) -> None:
    await asyncio.to_thread(wait_for, lambda: open_cameras(installed) == cameras, timeout_s=5, what=what)


async def test_a_direct_picture_outlives_the_web_process_and_is_let_go_by_it_or_by_the_sweep(
    shared: Shared,
) -> None:
    installed, token, ids = shared.installed, shared.token, shared.cameras
    driveway, front_door, garden = ids["Driveway"], ids["Front Door"], ids["Garden"]
    async with (
        LiveViewer(installed, token=token, camera=garden) as relayed,
        LiveViewer(installed, token=token, camera=front_door) as also_relayed,
        LiveViewer(installed, token=token, camera=driveway, path="direct") as direct,
    ):
        for viewer in (relayed, also_relayed, direct):
            await viewer.join()
        assert open_cameras(installed) == ["driveway", "front-door", "garden"]

        installed.portal.kill("web")
        await until_open(installed, ["driveway"], "the end of both that the dead process relayed")
        await direct.see()  # nothing of it passed through the process that died

        # Its row is due at Ring's limit. So it is now.
        installed.portal.sql(
            "UPDATE media_livesession SET next_attempt_at = opened_at WHERE ended_at IS NULL AND kind = ?",
            "direct",
        )
        await until_open(installed, [], "the end that the sweep brings at the limit")

    installed.portal.start("web")
    async with LiveViewer(installed, token=token, camera=driveway, path="direct") as direct:
        await direct.join()
        installed.portal.stop("web")  # SIGTERM, as every process manager says it
        await direct.see()
        assert open_cameras(installed) == ["driveway"]
        installed.portal.start("web")
        await direct.leave()
        await until_open(installed, [], "the end that the next process was asked for")
    assert not any(session["forgotten"] for session in installed.sandbox.control("GET", "/sessions"))


def tell_of(installed: Installation, event_type: str, camera: str) -> None:
    """
    A webhook that a camera went offline or away, whose sessions at Ring go on.

    The sandbox ends them with the camera, as Ring may; here our DELETE is to be what ends them.
    """
    [(ring_id, account_id)] = installed.portal.sql(
        "SELECT d.ring_id, a.ring_id FROM devices_device d JOIN accounts_ringaccount a ON a.id = d.ring_account_id "
        "WHERE d.name = ?",
        camera,
    )
    device = SimpleNamespace(ring_id=ring_id, ring_account=SimpleNamespace(ring_id=account_id))
    body = body_of(event_type, device=device, request=event_type, timestamp=int(time.time() * 1000))
    order = {"device": camera, "type": "motion_detected", "via": "webhook", "body": body.decode()}
    installed.sandbox.control("POST", "/events", order)


async def test_a_direct_picture_ends_at_ring_with_a_sign_in_a_device_or_a_link(shared: Shared) -> None:
    installed, token = shared.installed, shared.token
    owner, ada = Person(installed.portal.url), Person(installed.portal.url)
    home = owner.sign_in("owner@acme.example")
    ada.sign_in("ada@customer.example")
    [account] = installed.api(token, "accounts")
    unlinking = ada.get(f"{ada.base_url}/t/acme/settings/accounts/{account['id']}/unlink", timeout=30)

    async def ends(viewer: LiveViewer, what_happens: Callable[[], object], reason: str) -> None:
        async with viewer:
            await viewer.join()
            assert len(open_cameras(installed)) == 1
            await asyncio.to_thread(what_happens)
            await until_open(installed, [], f"the end at Ring: {reason}")
            *_, last = installed.sandbox.control("GET", "/sessions")
            assert last["end_reason"] == "deleted"
            [(known,)] = installed.portal.sql(
                "SELECT end_reason FROM media_livesession ORDER BY opened_at DESC LIMIT 1"
            )
            assert known == reason

    def watch(camera: str, person: Person | None = None) -> LiveViewer:
        return LiveViewer(installed, token=token, person=person, camera=shared.cameras[camera], path="direct")

    await ends(watch("Driveway", owner), lambda: owner.submit(home, action="/accounts/logout/"), "access")
    await ends(watch("Driveway"), lambda: tell_of(installed, "device_offline", "Driveway"), "offline")
    await ends(watch("Garden"), lambda: tell_of(installed, "device_removed", "Garden"), "removed")
    await ends(watch("Front Door"), lambda: ada.submit(unlinking, action="/unlink"), "unlinked")
