"""`kill -9` in the middle of linking, of a clip and of a deletion: after a restart the work completes by itself, once."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from accounts.audit import content_hash
from tests.support.installation import (
    PASSWORD,
    Installation,
    Person,
    dump,
    installation,
    wait_until_linked,
)
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


# So many that deleting them takes a worker some seconds.
FILL = """
from accounts.models import RingAccount
from events.models import Event
account = RingAccount.objects.get()
Event.objects.bulk_create([Event(tenant=account.tenant, ring_account=account, account_ring_id=account.ring_id,
    request_id=f"filled-{n}", position=1_000_000 + n, event_type="motion_detected",
    occurred_at=account.linked_at, received_at=account.linked_at) for n in range(8_000)], batch_size=1000)
print(Event.objects.count())
"""
LEASE_RUNS_OUT = """
from django.utils import timezone
from accounts.models import Erasure
print(Erasure.objects.filter(finished_at=None, attempts=1).update(next_attempt_at=timezone.now()))
"""
WHAT_IS_LEFT = """
from accounts.models import AuditPerson, Membership, RingAccount, User
from devices.models import Device
from events.models import Delivery, Event
gone = {"email": "ada@customer.example"}
print(sum(model.objects.count() for model in (RingAccount, Device, Event, Delivery))
    + User.objects.filter(**gone).count() + AuditPerson.objects.filter(user__email=gone["email"]).count())
"""


def test_processes_killed_while_everything_is_deleted_complete_it_after_a_restart(
    installed: Installation,
) -> None:
    link = installed.sandbox.control("POST", "/link", {"client_id": "acme-client", "account": "ada"})
    ada = Person(installed.portal.url)
    ada.submit(ada.sign_up(link["redirect_url"], "ada@customer.example"), action="/link/")
    token = installed.api_token("acme")
    wait_until_linked(installed, token)
    devices = wait_for(lambda: installed.api(token, "devices"), what="the devices", timeout_s=60)
    installed.portal.kill("worker")
    events = int(installed.portal.manage("shell", "-v", "0", "-c", FILL))

    page = ada.get(f"{installed.portal.url}/accounts/data/delete/", timeout=30)
    asked = ada.submit(page, typed="ada@customer.example")
    receipt = ada.submit(asked, action="/reauthenticate/", password=PASSWORD).url
    assert "/accounts/receipt/" in receipt

    def deleted_events() -> int:
        found = re.search(r"<dt>Events</dt><dd>(\d+) deleted", requests.get(receipt, timeout=10).text)
        return int(found.group(1)) if found else 0

    installed.portal.start("worker")
    wait_for(deleted_events, timeout_s=60, what="the first events' end")
    installed.portal.kill("worker")
    assert 0 < deleted_events() < events, "killed in the middle"
    assert int(installed.portal.manage("shell", "-v", "0", "-c", LEASE_RUNS_OUT)) == 1
    installed.portal.start("worker")

    wait_for(lambda: "It is deleted" in requests.get(receipt, timeout=10).text, timeout_s=60, what="the end")
    told = requests.get(f"{receipt}?download", timeout=10).json()
    sha256 = told.pop("sha256")
    assert content_hash(told) == sha256
    assert told["counts"]["events"] == events
    assert told["counts"]["devices"] == len(devices)
    assert (told["counts"]["Ring accounts"], told["counts"]["sign-ins"]) == (1, 1)
    assert int(installed.portal.manage("shell", "-v", "0", "-c", WHAT_IS_LEFT)) == 0
    assert installed.sandbox.control("GET", "/state")["integrations"][0]["status"] == "awaiting", "Ring knows"
