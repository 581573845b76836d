"""Gaps that webhooks left are filled from Ring's own history, and nothing is there twice, whichever came first."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from django.conf import LazySettings
from django.db import connection
from django.test import Client
from django.utils import timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.live_server_helper import LiveServer

from accounts.models import RingAccount
from accounts.services import client_for
from devices.models import Device
from devices.services import sync_devices
from devices.signals import device_synced
from events import history
from events.history_tasks import read_history, sweep_history
from events.models import Delivery, Event, HistoryReading, TenantPosition
from events.services import Arrival, record_batch
from events.tests.conftest import body_of
from ring.documents import HistoryEvent, parse_delivery
from ring.tests.server import Reply, ScriptedServer, error_reply, json_reply, running_server
from tests.support.cast import TenantCast, make_cast, make_tenant, make_user
from tests.support.sandbox_process import SandboxProcess, app_for

MINUTE = timedelta(minutes=1)


@pytest.fixture
def ring(settings: LazySettings) -> Iterator[ScriptedServer]:
    with running_server() as server:
        settings.RING_API_URL = server.url
        settings.RING_TOKEN_URL = f"{server.url}/oauth/token"
        settings.DEBUG = True  # plain http to loopback is for development only
        yield server


@pytest.fixture
def acme(db: None) -> TenantCast:
    """The tenant, with Ada's tokens good for now."""
    cast = make_cast("acme")
    now = timezone.now()
    account = cast.ada_account
    account.access_expires_at = now + timedelta(hours=4)
    account.tokens_obtained_at = now
    account.consent_at = now - timedelta(days=1)
    account.save()
    return cast


def path_of(device: Device) -> str:
    return f"/v1/history/devices/{device.ring_id}/events"


def entry_of(number: int | str, kind: str, at: datetime) -> dict[str, Any]:
    """One entry as Ring writes it (contract 8)."""
    start = int(at.timestamp() * 1000)
    return {
        "type": "history-events",
        "id": f"ava1.ring.history.event.{number}",
        "attributes": {
            "event_type": kind,
            "is_third_party_reviewed": False,
            "start": start,
            "end": start + 20_000,
        },
        "relationships": {"source": {"data": {"type": "devices", "id": "ava1.ring.device.AAA"}}},
        "meta": {"riid": None},
    }


def page(*entries: dict[str, Any]) -> Reply:
    """Newest first, on one page."""
    return json_reply({"data": sorted(entries, key=lambda entry: -entry["attributes"]["start"])})


def arrival(
    cast: TenantCast, name: str, at: datetime, *, request: int | str, came: datetime | None = None
) -> Arrival:
    """The webhook of something at Ada's camera, as it came."""
    body = body_of(name, device=cast.ada_camera, request=request, timestamp=int(at.timestamp() * 1000))
    return Arrival(cast.tenant.pk, came or timezone.now(), body, parse_delivery(body))


def reading_of(device: Device) -> HistoryReading:
    reading, _ = HistoryReading.objects.get_or_create(
        device=device, defaults={"tenant_id": device.tenant_id, "next_attempt_at": timezone.now()}
    )
    return reading


def fill(device: Device, *, now: datetime | None = None) -> int:
    reading = HistoryReading.objects.select_related("device__ring_account").get(pk=reading_of(device).pk)
    with client_for(reading.device.ring_account) as client:
        return history.fill_gaps(reading=reading, client=client, now=now or timezone.now())


def moments_of(kind: str) -> list[datetime]:
    events = Event.objects.filter(
        event_type__in=[name for name, same in history.KINDS.items() if same == kind]
    )
    return sorted(events.values_list("occurred_at", flat=True))


def test_what_no_webhook_told_comes_from_the_history(acme: TenantCast, ring: ScriptedServer):
    now = timezone.now().replace(microsecond=0)
    record_batch([arrival(acme, "motion_detected", now - 30 * MINUTE, request=1)])
    ring.script(
        "GET",
        path_of(acme.ada_camera),
        page(
            entry_of(1, "motion", now - 30 * MINUTE),
            entry_of(2, "motion", now - 20 * MINUTE),
            entry_of(3, "ding", now - 10 * MINUTE),
        ),
        page(entry_of(2, "motion", now - 20 * MINUTE)),  # motion.human
        *(page() for _ in range(3)),
    )
    assert fill(acme.ada_camera, now=now) == 2

    told, motion, ding = Event.objects.order_by("position")
    assert (told.provenance, told.history_id) == ("webhook", "ava1.ring.history.event.1")
    assert (motion.provenance, motion.event_type, motion.sub_type) == ("history", "motion", "human")
    assert motion.occurred_at == now - 20 * MINUTE
    assert (ding.event_type, ding.position, ding.device, ding.ring_account) == (
        "ding",
        3,
        acme.ada_camera,
        acme.ada_account,
    )
    assert TenantPosition.objects.get(pk=acme.tenant.pk).last == 3
    assert [request.query["event_types"] for request in ring.received][:2] == [
        ["ding,motion"],
        ["motion.human"],
    ]


def test_reading_again_adds_nothing(acme: TenantCast, ring: ScriptedServer):
    now = timezone.now().replace(microsecond=0)
    entries = page(entry_of(1, "ding", now - 5 * MINUTE), entry_of(2, "ding", now - 5 * MINUTE))
    ring.script("GET", path_of(acme.ada_camera), entries, entries)
    assert fill(acme.ada_camera) == 2  # two within one second are two
    assert fill(acme.ada_camera) == 0
    assert Event.objects.count() == 2


def test_webhook_that_comes_late_gives_its_details_to_the_event(acme: TenantCast, ring: ScriptedServer):
    now = timezone.now().replace(microsecond=0)
    at = now - 5 * MINUTE
    ring.script("GET", path_of(acme.ada_camera), page(entry_of(1, "motion", at)), *(page() for _ in range(4)))
    assert fill(acme.ada_camera) == 1
    late = arrival(acme, "motion_detected", at + timedelta(seconds=1), request=7)
    assert late.delivery is not None
    assert [recorded.verdict for recorded in record_batch([late])] == ["merged"]
    assert [recorded.verdict for recorded in record_batch([late])] == ["duplicate"]

    event = Event.objects.get()
    assert (event.request_id, event.ring_event_id) == ("request-7", late.delivery.event_id)
    assert (event.provenance, event.event_type) == ("history", "motion_detected")
    assert event.sub_type == late.delivery.sub_type
    assert (event.position, event.occurred_at) == (1, at)
    assert event.delivery is not None
    assert Delivery.objects.count() == 2


def twin_of(device: Device, cast: TenantCast) -> Device:
    """Ben's device that has the same id at Ring."""
    twin: Device = Device.objects.create(
        tenant=cast.tenant,
        ring_account=cast.ben_account,
        ring_id=device.ring_id,
        name="Twin",
        seen_at=timezone.now(),
    )
    return twin


def late_webhook(cast: TenantCast, device: Device, at: datetime, *, names_account: bool = True) -> Arrival:
    document = json.loads(
        body_of("motion_detected", device=device, request="late", timestamp=int(at.timestamp() * 1000))
    )
    if not names_account:
        del document["meta"]["account_id"]
    body = json.dumps(document).encode()
    return Arrival(cast.tenant.pk, timezone.now(), body, parse_delivery(body))


@pytest.mark.parametrize("names_account", [True, False])
def test_late_webhook_of_anothers_device_of_the_same_id_is_another_event(
    acme: TenantCast, ring: ScriptedServer, names_account: bool
):
    at = timezone.now().replace(microsecond=0) - 5 * MINUTE
    ring.script("GET", path_of(acme.ada_camera), page(entry_of(1, "motion", at)), *(page() for _ in range(4)))
    fill(acme.ada_camera)
    twin = twin_of(acme.ada_camera, acme)
    [recorded] = record_batch([late_webhook(acme, twin, at, names_account=names_account)])
    assert recorded.verdict == "recorded"
    assert Event.objects.get(provenance="history").request_id.startswith("history-")


def test_late_webhook_that_names_no_account_is_merged_where_one_has_the_device(
    acme: TenantCast, ring: ScriptedServer
):
    at = timezone.now().replace(microsecond=0) - 5 * MINUTE
    ring.script("GET", path_of(acme.ada_camera), page(entry_of(1, "motion", at)), *(page() for _ in range(4)))
    fill(acme.ada_camera)
    [recorded] = record_batch([late_webhook(acme, acme.ada_camera, at, names_account=False)])
    assert recorded.verdict == "merged"


def test_history_of_a_device_is_not_met_by_anothers_of_the_same_id(acme: TenantCast, ring: ScriptedServer):
    at = timezone.now().replace(microsecond=0) - 5 * MINUTE
    twin = twin_of(acme.ada_camera, acme)
    record_batch([late_webhook(acme, twin, at)])
    ring.script("GET", path_of(acme.ada_camera), page(entry_of(1, "motion", at)), *(page() for _ in range(4)))
    assert fill(acme.ada_camera) == 1
    assert Event.objects.get(device=twin).history_id == ""


def test_entry_that_two_accounts_see_of_one_device_makes_one_event(acme: TenantCast, ring: ScriptedServer):
    at = timezone.now().replace(microsecond=0) - 5 * MINUTE
    twin = twin_of(acme.ada_camera, acme)
    now = timezone.now()
    RingAccount.objects.filter(pk=acme.ben_account.pk).update(
        access_expires_at=now + timedelta(hours=4), tokens_obtained_at=now, consent_at=now - timedelta(days=1)
    )
    entries = page(entry_of(1, "ding", at))
    ring.script("GET", path_of(acme.ada_camera), entries, entries)
    assert [fill(acme.ada_camera), fill(twin)] == [1, 0]
    assert Event.objects.get().device == acme.ada_camera


def test_filling_goes_on_where_a_killed_worker_left_it(
    acme: TenantCast, ring: ScriptedServer, monkeypatch: pytest.MonkeyPatch
):
    """A transaction for a few entries each: what is written stays, in order, and webhooks came in between."""
    monkeypatch.setattr(history, "BATCH", 2)
    now = timezone.now().replace(microsecond=0)
    entries = page(*(entry_of(number, "ding", now - number * MINUTE) for number in range(1, 7)))
    ring.script("GET", path_of(acme.ada_camera), entries, entries)
    commits: list[int] = []

    def die(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith(f'INSERT INTO "{Event._meta.db_table}"'):
            commits.append(1)
            if len(commits) == 3:
                raise SystemExit
        return execute(sql, *rest)

    with connection.execute_wrapper(die), pytest.raises(SystemExit):
        fill(acme.ada_camera)
    assert HistoryReading.objects.get().read_until is None
    assert Event.objects.count() == TenantPosition.objects.get().last == 4

    record_batch([arrival(acme, "button_press", now, request="between")])
    assert fill(acme.ada_camera) == 2
    told = Event.objects.filter(provenance="history").order_by("position")
    assert [event.history_id[-1] for event in told] == ["6", "5", "4", "3", "2", "1"]
    assert list(Event.objects.order_by("position").values_list("position", flat=True)) == list(range(1, 8))
    assert HistoryReading.objects.get().read_until is not None


def test_history_longer_than_is_read_at_once_is_read_on_by_the_next_reading(
    acme: TenantCast, ring: ScriptedServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(history, "BATCH", 2)
    monkeypatch.setattr(history, "MAX_NEW", 2)
    now = timezone.now().replace(microsecond=0)
    entries = page(*(entry_of(number, "ding", now - number * MINUTE) for number in range(1, 6)))
    ring.script("GET", path_of(acme.ada_camera), *(entries for _ in range(3)))
    read: list[tuple[int, bool]] = []
    for _ in range(3):
        read.append((fill(acme.ada_camera), HistoryReading.objects.get().read_until is not None))
    assert read == [(2, False), (2, False), (1, True)]


def test_webhook_of_another_kind_or_camera_is_another_event(acme: TenantCast, ring: ScriptedServer):
    at = timezone.now().replace(microsecond=0) - 5 * MINUTE
    ring.script("GET", path_of(acme.ada_camera), page(entry_of(1, "ding", at)))
    fill(acme.ada_camera)
    elsewhere = body_of(
        "button_press", device=acme.ben_camera, request=2, timestamp=int(at.timestamp() * 1000)
    )
    record_batch(
        [
            arrival(acme, "motion_detected", at, request=1),
            Arrival(acme.tenant.pk, timezone.now(), elsewhere, parse_delivery(elsewhere)),
        ]
    )
    assert Event.objects.count() == 3


def test_nothing_before_the_consent_is_asked_for_and_the_last_moments_are_left(
    acme: TenantCast, ring: ScriptedServer
):
    now = timezone.now().replace(microsecond=0)
    acme.ada_account.consent_at = now - timedelta(hours=1)
    acme.ada_account.save()
    ring.script(
        "GET",
        path_of(acme.ada_camera),
        page(
            entry_of(1, "ding", now - timedelta(seconds=5)),
            entry_of(2, "ding", now - 30 * MINUTE),
            entry_of(3, "ding", now - 90 * MINUTE),
        ),
    )
    assert fill(acme.ada_camera) == 1
    assert Event.objects.get().history_id.endswith(".2")


@pytest.mark.parametrize("seed", range(12))
def test_every_event_is_there_once_in_whatever_order_news_comes(
    acme: TenantCast, ring: ScriptedServer, seed: int, monkeypatch: pytest.MonkeyPatch
):
    """Bursts, lost and late and doubled webhooks, and readings in between: at the end each thing is there once."""
    monkeypatch.setattr(history, "BATCH", 3 + seed)
    chance = random.Random(seed)
    now = timezone.now().replace(microsecond=0)
    happened = sorted(
        (
            now - timedelta(milliseconds=chance.randrange(60_000, 600_000)),
            chance.choice(["ding", "motion"]),
            number,
        )
        for number in range(30)
    )
    webhooks = {"ding": "button_press", "motion": "motion_detected"}
    sent = [thing for thing in happened if chance.random() < 0.8]
    sent += [thing for thing in sent if chance.random() < 0.2]
    chance.shuffle(sent)
    while sent:
        batch, sent = sent[:5], sent[5:]
        record_batch([arrival(acme, webhooks[kind], at, request=number) for at, kind, number in batch])
        if chance.random() < 0.3:
            ring.script(
                "GET",
                path_of(acme.ada_camera),
                page(*(entry_of(number, kind, at) for at, kind, number in happened)),
                *(page() for _ in range(4)),
            )
            fill(acme.ada_camera)
            ring._replies.clear()
    ring.script(
        "GET",
        path_of(acme.ada_camera),
        page(*(entry_of(number, kind, at) for at, kind, number in happened)),
        *(page() for _ in range(4)),
    )
    fill(acme.ada_camera)
    for kind in ("ding", "motion"):
        assert len(moments_of(kind)) == sum(thing[1] == kind for thing in happened)
    positions = list(Event.objects.order_by("position").values_list("position", flat=True))
    assert positions == list(range(1, 31))
    assert Event.objects.filter(history_id="").count() == 0


_START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
_TIMES = st.lists(st.integers(min_value=0, max_value=20_000), max_size=12)


@given(entries=_TIMES, events=_TIMES)
def test_pairs_are_one_to_one_and_near(entries: list[int], events: list[int]):
    told = [
        HistoryEvent(f"h{number}", "ding", "d", _START + timedelta(milliseconds=ms), None, None, {})
        for number, ms in enumerate(entries)
    ]
    rows = [
        Event(event_type="button_press", occurred_at=_START + timedelta(milliseconds=ms), position=number)
        for number, ms in enumerate(events)
    ]
    pairs = history._pair(told, rows)
    assert (
        len({entry.event_id for entry, _ in pairs})
        == len({event.position for _, event in pairs})
        == len(pairs)
    )
    assert all(abs(entry.started_at - event.occurred_at) <= history.SAME_WITHIN for entry, event in pairs)
    lonely_entries = [entry for entry in told if all(entry is not paired for paired, _ in pairs)]
    lonely_events = [event for event in rows if all(event is not paired for _, paired in pairs)]
    assert not any(
        abs(entry.started_at - event.occurred_at) <= history.SAME_WITHIN
        for entry in lonely_entries
        for event in lonely_events
    )


# --- when it is done --------------------------------------------------------------------------------------------


def test_camera_that_ring_describes_gets_its_history_read_at_once_and_regularly(
    acme: TenantCast, ring: ScriptedServer
):
    now = timezone.now()
    ring.script("GET", path_of(acme.ada_camera), page(entry_of(1, "ding", now - 5 * MINUTE)))
    device_synced.send(sender=Device, device=acme.ada_camera)
    device_synced.send(sender=Device, device=acme.ada_camera)
    reading = HistoryReading.objects.get()
    read_history.func(reading.pk)
    assert Event.objects.get().provenance == "history"
    reading.refresh_from_db()
    assert reading.next_attempt_at is not None
    assert timedelta(minutes=13) < reading.next_attempt_at - now < timedelta(minutes=17)
    assert reading.read_until is not None


def test_ring_that_is_away_is_asked_again(acme: TenantCast, ring: ScriptedServer):
    reading = reading_of(acme.ada_camera)
    ring.script("GET", path_of(acme.ada_camera), *(error_reply(503) for _ in range(8)))
    read_history.func(reading.pk)
    reading.refresh_from_db()
    assert reading.last_error == "RingUnavailable"
    assert reading.next_attempt_at is not None
    assert reading.next_attempt_at - timezone.now() < timedelta(seconds=10)
    assert reading.read_until is None


def test_reading_ends_with_the_link_and_begins_again_with_it(acme: TenantCast, ring: ScriptedServer):
    reading = reading_of(acme.ada_camera)
    RingAccount.objects.filter(pk=acme.ada_account.pk).update(state=RingAccount.State.UNLINKED)
    read_history.func(reading.pk)
    reading.refresh_from_db()
    assert reading.next_attempt_at is None
    sweep_history.func()
    assert ring.received == []
    device_synced.send(sender=Device, device=acme.ada_camera)
    reading.refresh_from_db()
    assert reading.next_attempt_at is not None


# --- against the sandbox ----------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_an_outage_of_ours_loses_nothing(live_server: LiveServer, settings: LazySettings, client: Client):
    """The person links; we hear no webhook at all; the sandbox's history brings everything."""
    tenant = make_tenant("acme")
    client.force_login(make_user("ada@new.example"))
    settings.DEBUG = True
    with SandboxProcess() as sandbox:
        settings.RING_API_URL = sandbox.url
        settings.RING_TOKEN_URL = f"{sandbox.url}/oauth/token"
        sandbox.control("POST", "/apps", app_for(tenant.slug, live_server.url))
        sandbox.control("POST", "/knobs", {"history_next_on_empty": True})
        parts = urlsplit(sandbox.control("POST", "/link", {"client_id": "acme-client"})["redirect_url"])
        client.get(f"{parts.path}?{parts.query}")
        client.post("/t/acme/link/")
        account = RingAccount.objects.get(state=RingAccount.State.LINKED)
        with client_for(account) as ring:
            sync_devices(account=account, client=ring, now=timezone.now())
        door = Device.objects.get(name="Front Door")
        told = {"client_id": "acme-client", "device": door.name, "via": "history"}
        sandbox.control("POST", "/events", {**told, "type": "button_press", "count": 60})
        sandbox.control("POST", "/events", {**told, "type": "motion_detected", "sub_type": "human"})
        assert fill(door, now=timezone.now() + 2 * MINUTE) == 61
        assert fill(door, now=timezone.now() + 3 * MINUTE) == 0
        assert Event.objects.get(event_type="motion").sub_type == "human"
        assert Event.objects.filter(event_type="ding", device=door).count() == 60
