"""Reviewing: each for themselves, one or many, undone precisely; who may not see an event cannot review it."""

import re
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

import pytest

from accounts import personal_data
from accounts.models import Membership
from accounts.personal_data import Scope, nobody_counts
from events import reviews
from events.models import Event, EventReview
from events.retention import expire
from events.tests.test_list import add_events, guest_of
from events.tests.test_pages import as_member, happen, ids, page, rows_in
from tests.support.cast import TenantCast, make_cast


@pytest.fixture
def cast(db: None) -> TenantCast:
    return make_cast("acme")


def post(member: Membership | Client, name: str = "review", *, tenant: str = "acme", **form: Any) -> Any:
    """As the script posts it: the answer is JSON."""
    client = member if isinstance(member, Client) else as_member(member)
    address = reverse(f"events:{name}", args=[tenant])
    return client.post(address, form, headers={"Accept": "application/json"})


def queue(member: Membership, **query: str) -> list[str]:
    return rows_in(page(member, "list", reviewed="no", **query))


def reviewed(member: Membership) -> list[str]:
    return rows_in(page(member, "list", reviewed="yes"))


def test_what_one_has_reviewed_leaves_ones_own_queue_and_nobody_elses(cast: TenantCast):
    first = happen(cast, "motion_detected", cast.ada_camera)
    second = happen(cast, "button_press", cast.ada_camera, ago=timedelta(seconds=1))

    answer = post(cast.operator, mark=str(first.public_id)).json()

    assert answer["reviewed"] == ids(first) and answer["waiting"] == "1"
    assert answer["words"] == "1 event marked reviewed."
    assert queue(cast.operator) == ids(second) and reviewed(cast.operator) == ids(first)
    for other in (cast.owner, cast.ada):
        assert queue(other) == ids(first, second) and reviewed(other) == []
    html = page(cast.operator, "list")
    assert "<title>(1) Events" in html and html.count('aria-pressed="true" aria-label="Reviewed:') == 1


def test_one_is_put_back(cast: TenantCast):
    event = happen(cast, "motion_detected", cast.ada_camera)
    post(cast.ada, mark=str(event.public_id))
    post(cast.owner, mark=str(event.public_id))
    answer = post(cast.ada, put_back=str(event.public_id)).json()
    assert answer["put_back"] == ids(event) and answer["waiting"] == "1"
    assert queue(cast.ada) == ids(event) and queue(cast.owner) == []


def test_undo_takes_back_what_that_action_marked_and_nothing_else(cast: TenantCast):
    events = [happen(cast, "motion_detected", cast.ada_camera, ago=timedelta(seconds=n)) for n in range(4)]
    one = post(cast.ada, mark=str(events[0].public_id)).json()
    others = post(cast.ada, do="selected", event=ids(*events[:3])).json()
    assert set(others["reviewed"]) == set(ids(*events[1:3]))
    post(cast.owner, do="selected", event=ids(*events))

    # Somebody else's action is not one's own to undo.
    assert post(cast.ben, "undo_review", batch=others["batch"]).json()["put_back"] == []
    undone = post(cast.ada, "undo_review", batch=others["batch"]).json()

    assert set(undone["put_back"]) == set(ids(*events[1:3]))
    assert reviewed(cast.ada) == ids(events[0]) and len(reviewed(cast.owner)) == 4
    assert post(cast.ada, "undo_review", batch=others["batch"]).json()["put_back"] == []
    assert post(cast.ada, "undo_review", batch=one["batch"]).json()["put_back"] == ids(events[0])


def test_what_was_put_back_and_marked_anew_is_not_the_old_actions_to_undo(cast: TenantCast):
    event = happen(cast, "motion_detected", cast.ada_camera)
    old = post(cast.ada, mark=str(event.public_id)).json()
    post(cast.ada, put_back=str(event.public_id))
    post(cast.ada, mark=str(event.public_id))
    assert post(cast.ada, "undo_review", batch=old["batch"]).json()["put_back"] == []
    assert reviewed(cast.ada) == ids(event)


def test_all_that_match_and_only_those_that_were_there_when_the_page_was_made(cast: TenantCast):
    press = happen(cast, "button_press", cast.ada_camera, ago=timedelta(seconds=9))
    person = happen(cast, "motion_detected", cast.ada_camera, ago=timedelta(seconds=5))
    elsewhere = happen(cast, "motion_detected", cast.ben_camera, ago=timedelta(seconds=3))
    html = page(cast.owner, "list", kind="person", device=str(cast.ada_camera.public_id))
    form = dict(re.findall(r'<input type="hidden" name="(query|until)" value="([^"]*)"', html))
    assert "All 1 reviewed" in html
    later = happen(cast, "motion_detected", cast.ada_camera)

    answer = post(cast.owner, do="all", query=form["query"].replace("&amp;", "&"), until=form["until"]).json()

    assert answer["reviewed"] == ids(person)
    assert queue(cast.owner) == ids(later, elsewhere, press)
    assert post(cast.owner, do="all", query="").status_code == 400


def test_a_great_many_are_marked_the_newest_first_and_the_rest_is_told(cast: TenantCast, monkeypatch: Any):
    monkeypatch.setattr(reviews, "AT_ONCE", 7)
    add_events(cast, 10, start=timezone.now() - timedelta(hours=1))
    first = post(cast.owner, do="all", until="99").json()
    assert len(first["reviewed"]) == 7 and "do it again for the rest" in first["words"]
    assert set(reviewed(cast.owner)) == set(first["reviewed"])
    second = post(cast.owner, do="all", until="99").json()
    assert len(second["reviewed"]) == 3 and "again" not in second["words"]


@pytest.mark.parametrize("do", ["selected", "all"])
def test_nobody_reviews_what_they_do_not_see(cast: TenantCast, do: str):
    other = make_cast("other")
    adas = happen(cast, "motion_detected", cast.ada_camera)
    bens = happen(cast, "motion_detected", cast.ben_camera)
    theirs = happen(other, "motion_detected", other.ada_camera)
    guest = guest_of(cast)

    answer = post(guest, do=do, event=ids(adas, bens, theirs), until="99").json()

    assert answer["reviewed"] == ids(adas)
    assert set(EventReview.objects.values_list("event", "membership")) == {(adas.pk, guest.pk)}
    # Another tenant's ids under one's own address, and one's own rows under another tenant's.
    assert post(other.owner, tenant="other", mark=str(adas.public_id)).json()["reviewed"] == []
    assert post(other.owner, mark=str(adas.public_id)).status_code == 404
    assert post(other.owner, tenant="other", put_back=str(adas.public_id)).json()["put_back"] == []
    assert reviewed(guest) == ids(adas)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"mark": "x"},
        {"mark": str(uuid4())},
        {"do": "selected"},
        {"do": "selected", "event": ["x", "", "0"]},
        {"put_back": "x"},
        {"do": "everything"},
    ],
)
def test_nonsense_marks_nothing(cast: TenantCast, form: dict[str, Any]):
    happen(cast, "motion_detected", cast.ada_camera)
    assert post(cast.owner, **form).status_code == 200
    assert not EventReview.objects.exists()


def test_without_a_script_a_page_says_what_was_marked_and_undoes_it(cast: TenantCast):
    events = [happen(cast, "motion_detected", cast.ada_camera, ago=timedelta(seconds=n)) for n in range(3)]
    client = as_member(cast.owner)
    answer = client.post(
        reverse("events:review", args=["acme"]),
        {"do": "selected", "event": ids(*events[:2]), "query": "?kind=person&reviewed=no"},
        follow=True,
    )
    html = answer.content.decode()
    assert "2 events marked reviewed." in html and rows_in(html) == ids(events[2])
    batch = re.search(r'name="batch" value="([^"]*)"', html)
    assert batch is not None
    # Nobody else who is sent this address can undo it, or is told of it.
    assert "marked reviewed." not in as_member(cast.ada).get(answer.redirect_chain[0][0]).content.decode()

    undone = client.post(
        reverse("events:undo_review", args=["acme"]),
        {"batch": batch[1], "query": "?kind=person&reviewed=no"},
        follow=True,
    )
    assert undone.redirect_chain[0][0] == reverse("events:list", args=["acme"]) + "?kind=person&reviewed=no"
    assert "2 events to review again." in undone.content.decode()
    assert rows_in(undone.content.decode()) == ids(*events)


def test_an_answer_leads_nowhere_but_to_the_list(cast: TenantCast):
    answer = as_member(cast.owner).post(
        reverse("events:review", args=["acme"]), {"query": "//evil.example/?next=https://evil.example"}
    )
    assert answer["Location"] == reverse("events:list", args=["acme"]) + "?"


def test_the_events_own_page_reviews_it_and_tells_staff_who_else_has(cast: TenantCast):
    event = happen(cast, "motion_detected", cast.ada_camera)
    address = reverse("events:detail", args=["acme", event.public_id])
    for member in (cast.operator, cast.ada):
        answer = as_member(member).post(
            reverse("events:review", args=["acme"]), {"mark": str(event.public_id), "from": "event"}
        )
        assert answer["Location"] == address
    assert 'name="put_back"' in page(cast.ada, "detail", event.public_id)
    owners = page(cast.owner, "detail", event.public_id)
    assert 'name="mark"' in owners and "operator@acme.example" in owners
    # A customer is nobody's colleague, and is told of none.
    assert "ada@acme.example" not in owners
    assert "operator@acme.example" not in page(cast.ada, "detail", event.public_id)


def test_the_queue_ends_after_thirty_days(cast: TenantCast):
    old = happen(cast, "motion_detected", cast.ada_camera)
    Event.objects.update(occurred_at=timezone.now() - timedelta(days=31))
    young = happen(cast, "motion_detected", cast.ada_camera)
    assert queue(cast.owner) == ids(young)
    assert page(cast.owner, "list").count("event-new") == 2  # the young one, and the template of what comes
    post(cast.owner, mark=str(old.public_id))
    assert reviewed(cast.owner) == ids(old)


def test_the_number_by_the_tab_is_of_what_the_filters_let_through(cast: TenantCast):
    happen(cast, "button_press", cast.ada_camera)
    motions = [happen(cast, "motion_detected", cast.ada_camera, ago=timedelta(seconds=n)) for n in (1, 2)]
    assert "<title>(3) Events" in page(cast.owner, "list")
    assert "<title>(1) Events" in page(cast.owner, "list", kind="doorbell")
    answer = post(cast.owner, mark=str(motions[0].public_id), query="?kind=person").json()
    assert answer["waiting"] == "1"
    undone = post(cast.owner, "undo_review", batch=answer["batch"], query="?kind=person").json()
    assert undone["waiting"] == "2"


def test_a_count_without_end_is_not_counted_to_its_end(cast: TenantCast):
    add_events(cast, 130, start=timezone.now() - timedelta(hours=1))
    assert "<title>(99+) Events" in page(cast.owner, "list")
    assert post(cast.owner, do="all", until="9999").json()["waiting"] == "0"
    assert "<title>Events" in page(cast.owner, "list")
    assert "Nothing to review" in page(cast.owner, "list", reviewed="no")


def test_marking_many_costs_few_queries(cast: TenantCast):
    add_events(cast, 400, start=timezone.now() - timedelta(hours=1))
    client = as_member(cast.owner)
    with CaptureQueriesContext(connection) as queries:
        answer = post(client, do="all", until="9999").json()
    assert len(answer["reviewed"]) == 400 and len(queries) <= 16


def test_reviews_go_with_their_event_and_with_their_person(cast: TenantCast):
    old = happen(cast, "motion_detected", cast.ada_camera)
    kept = happen(cast, "motion_detected", cast.ada_camera)
    for member in (cast.owner, cast.ada):
        post(member, do="selected", event=ids(old, kept))
    long_ago = timezone.now() - timedelta(days=400)
    Event.objects.filter(pk=old.pk).update(occurred_at=long_ago, received_at=long_ago, next_attempt_at=None)

    expire(cast.tenant, now=timezone.now())
    assert EventReview.objects.count() == 2

    mine = Scope(cast.tenant, cast.ada.user)
    (part,) = [part for part in personal_data.parts() if "event reviews" in part.counts(mine)]
    assert part.counts(mine)["event reviews"] == 1
    (exported,) = dict(part.tables(mine))["event_reviews"]
    assert exported["event"] == str(kept.public_id) and "reviewed_at" in exported
    part.erase_person(mine, nobody_counts)
    assert [review.membership for review in EventReview.objects.all()] == [cast.owner]
    personal_data.erase_ring_account(cast.ada_account)
    assert not EventReview.objects.exists()


def test_the_rows_that_come_later_can_be_reviewed_too(cast: TenantCast):
    event = happen(cast, "motion_detected", cast.ada_camera)
    html = page(cast.owner, "rows", reviewing="1")
    assert f'name="mark" value="{event.public_id}"' in html
    assert 'name="mark"' not in page(cast.owner, "rows")
    assert UUID(rows_in(html)[0]) == event.public_id


def test_an_export_has_what_is_to_review_and_no_more(cast: TenantCast):
    first = happen(cast, "motion_detected", cast.ada_camera)
    second = happen(cast, "button_press", cast.ada_camera, ago=timedelta(seconds=1))
    post(cast.owner, mark=str(first.public_id))
    answer: Any = as_member(cast.owner).get(reverse("events:export_csv", args=["acme"]), {"reviewed": "no"})
    table = b"".join(answer.streaming_content).decode()
    assert str(second.public_id) in table and str(first.public_id) not in table
