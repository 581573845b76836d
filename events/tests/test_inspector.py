"""The delivery inspector through HTTP: what it shows to whom, and what a replay does."""

import json
from datetime import timedelta
from typing import Any

from django.test import Client
from django.utils import timezone

import pytest

from accounts.models import AuditEntry, Membership, User
from devices.models import Device
from events import services, tasks
from events.models import Delivery, Event
from events.services import Arrival, record_batch
from events.tests.conftest import body_of
from ring.documents import MalformedDelivery, parse_delivery
from tests.support.cast import PASSWORD, TenantCast, make_camera, make_cast
from tests.support.signin import staff_client

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
    assert rows_on(owner.get(URL, {"q": "motion_detected"})) == [again, good]
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


def test_what_came_of_a_deleted_person_is_listed_told_and_not_replayable(acme: TenantCast):
    erased = Delivery.objects.create(
        tenant=acme.tenant,
        received_at=timezone.now(),
        body=b"",
        verdict=Delivery.Verdict.ERASED,
        reason="The person's data was deleted.",
    )
    good = arrive(acme, body_of("motion_detected", device=acme.ada_camera, request=1))
    owner = browser_of(acme.owner)
    assert rows_on(owner.get(URL)) == [good, erased]
    assert rows_on(owner.get(URL, {"state": "erased"})) == [erased]
    page = owner.get(f"{URL}{erased.public_id}/").content.decode()
    assert "Of somebody whose data was deleted; nothing of it is kept" in page
    assert "could not be read" not in page and "curl" not in page
    told = owner.post(f"{URL}replay/", {"all": 1})
    assert dict(told.context["counts"]) == {
        "effects run again": 1,
        "nothing: it was of somebody whose data was deleted": 1,
    }
    owner.post(f"{URL}replay/", {"delivery": erased.public_id, "confirm": 1})
    erased.refresh_from_db()
    assert (erased.verdict, Event.objects.count()) == ("erased", 1)


@pytest.mark.parametrize("verdict", Delivery.Verdict)
def test_the_pages_have_words_for_every_verdict(acme: TenantCast, verdict: Delivery.Verdict):
    Delivery.objects.create(tenant=acme.tenant, received_at=timezone.now(), body=b"", verdict=verdict)
    assert browser_of(acme.owner).get(URL).status_code == 200


# --- what is asked for, and what is marked ------------------------------------------------------------------------


def test_deliveries_are_found_by_device_and_by_time(acme: TenantCast):
    other = make_camera(acme.ada_account, "Garden")
    first = arrive(acme, body_of("motion_detected", device=acme.ada_camera, request=1), minutes_ago=90)
    garden = arrive(acme, body_of("motion_detected", device=other, request=2), minutes_ago=60)
    again = arrive(acme, body_of("motion_detected", device=acme.ada_camera, request=1), minutes_ago=30)
    owner = browser_of(acme.owner)

    def found(**asked: str) -> list[Delivery]:
        return rows_on(owner.get(URL, asked))

    assert found(device=str(acme.ada_camera.public_id)) == [again, first]
    assert found(device=str(other.public_id)) == [garden]
    assert found(device="no-id") == [again, garden, first]
    start = (garden.received_at - timedelta(minutes=1)).isoformat()
    end = (again.received_at - timedelta(minutes=1)).isoformat()
    assert found(**{"from": start}) == [again, garden]
    assert found(**{"from": start, "to": end}) == [garden]
    assert "could not be read as a time" in owner.get(URL, {"from": "soon"}).content.decode()
    page = owner.get(URL, {"from": start, "to": end, "device": str(other.public_id)})
    assert page.context["any_state_query"].count("=") == 3, "the chips keep what else is asked for"


def test_a_type_that_was_told_is_found_though_nothing_came_of_it(acme: TenantCast):
    broken = arrive(acme, b'{"meta": {}, "data": {"type": "button_press"}}')
    arrive(acme, body_of("motion_detected", device=acme.ada_camera, request=1))
    owner = browser_of(acme.owner)
    assert rows_on(owner.get(URL, {"q": "button_press"})) == [broken]
    page = owner.get(f"{URL}{broken.public_id}/").content.decode()
    assert "could not be read" in page


def test_a_range_of_time_is_replayed_marked_and_named_in_the_trail(acme: TenantCast):
    outside = arrive(acme, body_of("device_offline", device=acme.ada_camera, request=1), minutes_ago=90)
    inside = arrive(acme, body_of("device_offline", device=acme.ada_camera, request=2), minutes_ago=60)
    copy = arrive(acme, body_of("device_offline", device=acme.ada_camera, request=2), minutes_ago=50)
    owner = browser_of(acme.owner)
    asked = {"all": "1", "from": (timezone.now() - timedelta(minutes=70)).isoformat()}
    told = owner.post(f"{URL}replay/", asked)
    assert [line["step"].delivery for line in told.context["steps"]] == [copy, inside]

    owner.post(f"{URL}replay/", {**asked, "confirm": "1"})
    for delivery in (outside, inside, copy):
        delivery.refresh_from_db()
    assert (outside.replayed_at, copy.replayed_at) == (None, None), "nothing was done with the copy"
    assert inside.replayed_at is not None and inside.replayed_by == acme.owner.user
    detail = AuditEntry.objects.get(action="delivery.replayed").detail
    assert (detail["batch"], detail["deliveries"]) == (str(inside.replay_batch), [str(inside.public_id)])
    page = owner.get(f"{URL}{inside.public_id}/").content.decode()
    assert f"by {acme.owner.user.email}" in page and str(inside.replay_batch) in page
    assert "<dt>Replayed</dt>" in owner.get(f"/t/acme/events/{inside.event.public_id}/").content.decode()
    assert owner.get(URL).content.decode().count(">Replayed<") == 1


# --- staff --------------------------------------------------------------------------------------------------------


def test_staff_replay_with_a_reason_and_the_tenants_trail_says_so(acme: TenantCast):
    delivery = arrive(acme, body_of("device_offline", device=acme.ada_camera, request=1))
    other = make_cast("other")
    theirs = arrive(other, body_of("device_offline", device=other.ada_camera, request=1))
    Event.objects.update(next_attempt_at=None, attempts=11, last_error="Its worker died each time.")
    staff = User.objects.create_superuser("staff@portal.example", PASSWORD)
    client = staff_client(staff)
    url = "/admin/events/delivery/"
    listed = client.get(url).content.decode()
    assert "Its worker died each time." in listed and " ms<" in listed

    form = {"action": "replay", "_selected_action": [delivery.pk, theirs.pk]}
    told = client.post(url, form).content.decode()
    assert "Effects run again: 2" in told
    assert (
        "Give the reason." in client.post(url, {**form, "confirmed": "yes", "reason": " "}).content.decode()
    )
    assert not AuditEntry.objects.filter(action="delivery.replayed").exists()

    client.post(url, {**form, "confirmed": "yes", "reason": "an outage"})
    for tenant, row in ((acme.tenant, delivery), (other.tenant, theirs)):
        entry = AuditEntry.objects.for_tenant(tenant).get(action="delivery.replayed")
        assert (entry.actor, entry.detail["by_staff"], entry.detail["reason"]) == (staff, True, "an outage")
        row.refresh_from_db()
        assert row.replayed_by == staff and row.event.next_attempt_at is not None
    page = browser_of(acme.owner).get(f"{URL}{delivery.public_id}/").content.decode()
    assert "staff@portal.example" not in page and "by somebody who does not work here" in page
