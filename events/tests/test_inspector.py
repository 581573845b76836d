"""The delivery inspector through HTTP: what it shows to whom, and what a replay does."""

import json
from datetime import timedelta
from typing import Any

from django.test import Client
from django.utils import timezone

import pytest

from accounts.models import AuditEntry, Membership
from devices.models import Device
from events import services, tasks
from events.models import Delivery, Event
from events.services import Arrival, record_batch
from events.tests.conftest import body_of
from ring.documents import MalformedDelivery, parse_delivery
from tests.support.cast import TenantCast, make_cast

URL = "/t/acme/deliveries/"


@pytest.fixture
def acme(db: None) -> TenantCast:
    return make_cast("acme")


def browser_of(member: Membership) -> Client:
    client = Client()
    client.force_login(member.user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def arrive(cast: TenantCast, body: bytes, *, minutes_ago: float = 0) -> Delivery:
    """One delivery as the intake stores it."""
    try:
        said, reason = parse_delivery(body), ""
    except MalformedDelivery as error:
        said, reason = None, str(error)
    at = timezone.now() - timedelta(minutes=minutes_ago)
    record_batch([Arrival(cast.tenant.pk, at, body, said, reason)])
    return Delivery.objects.latest("pk")


def rows_on(page: Any) -> list[Delivery]:
    return [row["delivery"] for row in page.context["rows"]]


def test_admins_see_each_delivery_with_its_state(acme: TenantCast):
    good = arrive(acme, body_of("motion_detected", device=acme.ada_camera, request=1))
    again = arrive(acme, body_of("motion_detected", device=acme.ada_camera, request=1))
    broken = arrive(acme, b'{"meta": {}}')
    owner = browser_of(acme.owner)
    page = owner.get(URL)
    assert rows_on(page) == [broken, again, good]
    assert [row["state"]["label"] for row in page.context["rows"]] == [
        "Unreadable",
        "Duplicate",
        "Working on it",
    ]
    tasks.apply_effects.func(good.event.pk)
    for state, found in (
        ("recorded", [good]),
        ("duplicate", [again]),
        ("malformed", [broken]),
        ("working", []),
        ("failed", []),
        ("nonsense", [broken, again, good]),
    ):
        assert rows_on(owner.get(URL, {"state": state})) == found
    assert rows_on(owner.get(URL, {"q": "motion_detected"})) == [good]
    assert rows_on(owner.get(URL, {"q": "request-1"})) == [again, good]
    assert "Nothing like this arrived" in owner.get(URL, {"q": "nothing"}).content.decode()
    assert rows_on(owner.get(URL, {"q": "request-1\0"})) == [again, good]  # PostgreSQL takes no NUL


def test_older_pages_hold_each_delivery_once(acme: TenantCast, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("events.inspector_views.PAGE_DELIVERIES", 3)
    at = timezone.now()
    bodies = [body_of("motion_detected", device=acme.ada_camera, request=number) for number in range(7)]
    record_batch([Arrival(acme.tenant.pk, at, body, parse_delivery(body)) for body in bodies])
    owner = browser_of(acme.owner)
    seen: list[Delivery] = []
    query = "?"
    while query:
        page = owner.get(URL + query)
        seen += rows_on(page)
        query = page.context["older"]
    assert [delivery.pk for delivery in seen] == sorted((delivery.pk for delivery in seen), reverse=True)
    assert len(seen) == 7


def test_only_an_owner_sees_the_ids_of_homes(acme: TenantCast):
    delivery = arrive(acme, body_of("motion_detected", device=acme.ada_camera, request=1))
    acme.operator.role = "admin"
    acme.operator.save()
    for member, sees in ((acme.owner, True), (acme.operator, False)):
        page = browser_of(member).get(f"{URL}{delivery.public_id}/").content.decode()
        assert (acme.ada_camera.ring_id in page) is sees
        assert ("RING_SIGNING_KEY" in page) is sees
        assert "acme-key" not in page
        event = browser_of(member).get(f"/t/acme/events/{delivery.event.public_id}/").content.decode()
        assert "request-1" in event and (acme.ada_camera.ring_id in event) is sees


@pytest.mark.parametrize("who", ["operator", "ada"])
def test_nobody_else_enters(acme: TenantCast, who: str):
    delivery = arrive(acme, body_of("motion_detected", device=acme.ada_camera, request=1))
    client = browser_of(getattr(acme, who))
    assert client.get(URL).status_code == 404
    assert client.get(f"{URL}{delivery.public_id}/").status_code == 404
    assert client.post(f"{URL}replay/", {"delivery": delivery.public_id, "confirm": 1}).status_code == 404


def test_another_tenants_delivery_is_neither_shown_nor_replayed(acme: TenantCast):
    other = make_cast("other")
    theirs = arrive(other, b"no json")
    owner = browser_of(acme.owner)
    assert owner.get(f"{URL}{theirs.public_id}/").status_code == 404
    assert owner.post(f"{URL}replay/", {"delivery": theirs.public_id, "confirm": 1}).status_code == 302
    assert owner.post(f"{URL}replay/", {"all": 1, "confirm": 1}).status_code == 302
    assert not AuditEntry.objects.filter(action="delivery.replayed").exists()


def test_dry_run_changes_nothing_and_the_replay_does_what_it_said(acme: TenantCast):
    """A body nobody could read when it came is an event once the portal has learned to read it."""
    lost = body_of("motion_detected", device=acme.ada_camera, request=9)

    record_batch([Arrival(acme.tenant.pk, timezone.now(), lost, None, "data.type is missing or not usable.")])
    unreadable = Delivery.objects.get()
    broken = arrive(acme, b"{}")
    owner = browser_of(acme.owner)

    told = owner.post(f"{URL}replay/", {"all": 1})
    assert dict(told.context["counts"]) == {"becomes an event": 1, "nothing: it still cannot be read": 1}
    assert not Event.objects.exists()

    owner.post(f"{URL}replay/", {"delivery": [unreadable.public_id, broken.public_id], "confirm": 1})
    event = Event.objects.get()
    unreadable.refresh_from_db()
    assert (event.delivery, event.provenance, event.position) == (unreadable, "replay", 1)
    assert event.device == acme.ada_camera
    assert (unreadable.verdict, unreadable.request_id) == ("recorded", "request-9")
    entry = AuditEntry.objects.get(action="delivery.replayed")
    assert (entry.actor, entry.detail["record"], entry.detail["unreadable"]) == (acme.owner.user, 1, 1)

    again = owner.post(f"{URL}replay/", {"delivery": unreadable.public_id})
    assert dict(again.context["counts"]) == {"effects run again": 1}


def test_effects_that_were_given_up_run_again(acme: TenantCast):
    delivery = arrive(acme, body_of("device_offline", device=acme.ada_camera, request=1))
    Event.objects.update(next_attempt_at=None, attempts=11, last_error="Its worker died each time.")
    owner = browser_of(acme.owner)
    assert rows_on(owner.get(URL, {"state": "failed"})) == [delivery]
    assert "Its worker died each time." in owner.get(f"{URL}{delivery.public_id}/").content.decode()

    owner.post(f"{URL}replay/", {"delivery": delivery.public_id, "confirm": 1})
    event = Event.objects.get()
    tasks.apply_effects.func(event.pk)
    event.refresh_from_db()
    assert (event.next_attempt_at, event.last_error) == (None, "")
    assert Device.objects.get(pk=acme.ada_camera.pk).online is False
    assert rows_on(owner.get(URL, {"state": "failed"})) == []


def test_a_duplicate_stays_one_event(acme: TenantCast):
    arrive(acme, body_of("motion_detected", device=acme.ada_camera, request=1))
    copy = arrive(acme, body_of("motion_detected", device=acme.ada_camera, request=1))
    owner = browser_of(acme.owner)
    told = owner.post(f"{URL}replay/", {"delivery": copy.public_id})
    assert dict(told.context["counts"]) == {"nothing: its event is there": 1}
    owner.post(f"{URL}replay/", {"delivery": copy.public_id, "confirm": 1})
    assert Event.objects.count() == 1
    assert services.is_known(acme.tenant.pk, parse_delivery(bytes(copy.body)))


@pytest.mark.parametrize("given", [{}, {"delivery": "no-id"}, {"delivery": ""}])
def test_nothing_chosen_is_said(acme: TenantCast, given: dict[str, str]):
    answer = browser_of(acme.owner).post(f"{URL}replay/", given, follow=True)
    assert "Choose the deliveries" in answer.content.decode()


def test_body_of_no_text_is_shown_as_it_came(acme: TenantCast):
    delivery = arrive(acme, b"\xff<script>alert(1)</script>")
    page = browser_of(acme.owner).get(f"{URL}{delivery.public_id}/").content.decode()
    assert "\\xff&lt;script&gt;" in page
    assert json.dumps("<script>alert") not in page


@pytest.mark.parametrize("who", ["owner", "operator", "ada"])
def test_ids_of_homes_are_for_owners_on_an_events_page_too(acme: TenantCast, who: str):
    delivery = arrive(acme, body_of("motion_detected", device=acme.ada_camera, request=1))
    page = browser_of(getattr(acme, who)).get(f"/t/acme/events/{delivery.event.public_id}/")
    assert page.status_code == 200
    assert (acme.ada_camera.ring_id in page.content.decode()) is (who == "owner")
