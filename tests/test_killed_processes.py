"""`kill -9` in the middle of linking and of a clip: after a restart the work completes by itself, once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.installation import Installation, Person, dump, installation, wait_until_linked
from tests.support.portal_process import wait_for

# Leases of half a minute to a minute have to run out before another process may take the work over.
LEASES_RUN_OUT_S = 120.0


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path / "installation") as whole:
        yield whole


def kill_and_restart_everything(installed: Installation) -> None:
    for name in ("web", "worker"):
        installed.portal.kill(name)
    for name in ("web", "worker"):
        installed.portal.start(name)


def requests_at_ring(installed: Installation, method: str, path: str) -> list[dict[str, Any]]:
    seen = installed.sandbox.control("GET", "/requests")
    return [request for request in seen if request["method"] == method and path in request["path"]]


@pytest.mark.parametrize("route", ["app-integrations.post", "app-integrations.patch"])
def test_processes_killed_while_linking_complete_it_after_a_restart(
    installed: Installation, route: str
) -> None:
    token = installed.api_token("acme")
    link = installed.sandbox.control("POST", "/link", {"client_id": "acme-client", "account": "ada"})
    assert link["token_exchange_status"] == 200
    ada = Person(installed.portal.url)
    confirm = ada.sign_up(link["redirect_url"], "ada@customer.example")

    # Ring is slow at the chosen step, and every process dies while the person waits for the answer.
    installed.sandbox.control("POST", "/faults", {"route": route, "kind": "slow", "delay_s": 8, "times": 1})
    with pytest.raises(requests.exceptions.RequestException):
        ada.submit(confirm, action="/link/", timeout=3)
    kill_and_restart_everything(installed)

    account = wait_until_linked(installed, token, timeout_s=LEASES_RUN_OUT_S)
    assert account["attributes"]["state"] == "linked"
    state = installed.sandbox.control("GET", "/state")
    [integration] = state["integrations"]
    assert integration["status"] == "completed", dump(state)
    assert len(requests_at_ring(installed, "POST", "/oauth/token")) == 1
    # The person who claimed it owns it, and sees the devices without doing anything again.
    settings = ada.get(f"{installed.portal.url}/t/acme/settings/", timeout=30)
    assert settings.status_code == 200
    assert wait_for(lambda: installed.api(token, "devices"), what="the devices", timeout_s=60)


def test_processes_killed_while_a_clip_arrives_fetch_it_after_a_restart(installed: Installation) -> None:
    token = installed.api_token("acme")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/vnd.api+json"}
    link = installed.sandbox.control("POST", "/link", {"client_id": "acme-client", "account": "ada"})
    ada = Person(installed.portal.url)
    ada.submit(ada.sign_up(link["redirect_url"], "ada@customer.example"), action="/link/")
    wait_until_linked(installed, token)
    devices = wait_for(lambda: installed.api(token, "devices"), what="the devices", timeout_s=60)
    camera = next(row for row in devices if row["attributes"]["name"] == "Driveway")

    # Ring records from now on; ask once there is something to ask for, and kill all processes in the middle of the download.
    installed.sandbox.control(
        "POST", "/events", {"client_id": "acme-client", "device": "Driveway", "type": "motion_detected"}
    )
    event = wait_for(
        lambda: next(
            (
                row
                for row in installed.api(token, "events")
                if row["attributes"]["event_type"] == "motion_detected"
            ),
            None,
        ),
        what="the event",
    )
    installed.sandbox.control(
        "POST", "/faults", {"route": "download", "kind": "slow", "delay_s": 6, "times": 3}
    )
    document = {
        "data": {
            "type": "clips",
            "attributes": {"start": event["attributes"]["occurred_at"], "duration_ms": 3000},
            "relationships": {"device": {"data": {"type": "devices", "id": camera["id"]}}},
        }
    }
    asked = requests.post(f"{installed.portal.url}/api/v1/clips", json=document, headers=headers, timeout=30)
    assert asked.status_code == 201, asked.text
    clip_id = asked.json()["data"]["id"]
    wait_for(
        lambda: requests_at_ring(installed, "POST", "/media/video/download"), what="the download's start"
    )
    kill_and_restart_everything(installed)

    def ready() -> Any:
        row = installed.api(token, f"clips/{clip_id}")
        return row if row["attributes"]["state"] == "ready" else None

    clip = wait_for(ready, timeout_s=LEASES_RUN_OUT_S + 60, what="the clip")
    assert clip["attributes"]["size_bytes"] > 10_000
    video = requests.get(
        f"{installed.portal.url}/t/acme/clips/{clip_id}/video",
        headers={**headers, "Range": "bytes=4-7"},
        timeout=10,
    )
    assert (video.status_code, video.content) == (206, b"ftyp")
    kept = [path for path in (installed.portal.folder / "clips").rglob("*.mp4") if path.is_file()]
    assert len(kept) == 1
