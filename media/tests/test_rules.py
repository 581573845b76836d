"""A tenant's rules keep the footage of matching events: once each, and never what must not be kept."""

from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest
from django_tasks_db.models import DBTaskResult

from accounts.models import AuditEntry
from devices.models import Device
from events.models import Event
from events.tasks import apply_effects
from media import services
from media.models import Clip, ClipRule, FetchState, Picture
from media.tests.conftest import make_event
from media.tests.test_privacy_zones import ZONE, set_zones
from tests.support.cast import TenantCast, make_cast


def make_rule(
    cast: TenantCast, name: str = "Rings", *, devices: tuple[Device, ...] = (), **values: Any
) -> ClipRule:
    given = {"kinds": ["doorbell"], "all_devices": not devices, "created_at": timezone.now()}
    rule = ClipRule.objects.create(tenant=cast.tenant, name=name, **{**given, **values})
    rule.devices.set(devices)
    return rule


def happen(cast: TenantCast, *, position: int = 1, at: datetime | None = None, **values: Any) -> Event:
    """Something happens at Ada's camera, and its effects run."""
    event_type = values.pop("event_type", "button_press")
    event = make_event(cast, occurred_at=at or timezone.now(), event_type=event_type, position=position)
    Event.objects.filter(pk=event.pk).update(next_attempt_at=timezone.now(), **values)
    apply_effects.func(event.pk)
    event.refresh_from_db()
    return event


def test_a_matching_event_has_its_footage_asked_for_once_its_range_is_over(cast: TenantCast) -> None:
    rule = make_rule(cast, before_s=10, after_s=40)
    event = happen(cast)
    clip = Clip.objects.get()
    assert (clip.event, clip.rule, clip.rule_name, clip.requested_by) == (event, rule, "Rings", None)
    assert event.occurred_at - clip.start == pytest.approx(
        timedelta(seconds=10), abs=timedelta(milliseconds=2)
    )
    assert clip.duration_ms == pytest.approx(50_000, abs=2)
    assert clip.next_attempt_at is not None
    assert clip.next_attempt_at >= event.occurred_at + timedelta(seconds=39)


def test_what_a_rule_keeps_is_fetched_behind_pictures(cast: TenantCast) -> None:
    make_rule(cast)
    happen(cast)
    of = {row.task_path.rpartition(".")[2]: row for row in DBTaskResult.objects.filter(queue_name="media")}
    assert of["fetch_clip"].priority < of["fetch_picture"].priority


def test_running_the_effects_again_makes_no_second_clip_whatever_became_of_the_first(
    cast: TenantCast,
) -> None:
    make_rule(cast)
    event = happen(cast)
    for state in (FetchState.QUEUED, FetchState.UNAVAILABLE, FetchState.FAILED):
        Clip.objects.update(state=state)
        Event.objects.filter(pk=event.pk).update(next_attempt_at=timezone.now())
        apply_effects.func(event.pk)
        assert Clip.objects.count() == 1
    event.refresh_from_db()
    assert event.last_error == ""
    with pytest.raises(IntegrityError), transaction.atomic():
        Clip.objects.create(
            tenant=cast.tenant,
            device=cast.ada_camera,
            event=event,
            start=event.occurred_at,
            duration_ms=1,
            rule_name="Two",
        )


def test_of_two_rules_that_match_the_one_that_keeps_most_counts(cast: TenantCast) -> None:
    make_rule(cast, "Short", after_s=10)
    make_rule(cast, "Long", after_s=60)
    happen(cast)
    assert Clip.objects.get().rule_name == "Long"


def test_what_somebody_asked_for_already_is_not_kept_twice(cast: TenantCast) -> None:
    event = happen(cast, at=timezone.now() - timedelta(minutes=5))
    asked = services.request_event_clip(event=event, by=cast.ada.user, now=timezone.now())
    make_rule(cast)
    Event.objects.filter(pk=event.pk).update(next_attempt_at=timezone.now())
    apply_effects.func(event.pk)
    assert Clip.objects.get() == asked


@pytest.mark.parametrize(
    ("sub_type", "kinds", "is_kept"),
    [
        ("human", ["person"], True),
        ("vehicle", ["person"], False),
        ("", ["motion"], True),
        ("human", ["motion"], False),
        ("human", ["doorbell"], False),
    ],
)
def test_motion_is_told_apart_as_on_the_events_page(
    cast: TenantCast, sub_type: str, kinds: list[str], is_kept: bool
) -> None:
    make_rule(cast, kinds=kinds)
    happen(cast, event_type="motion_detected", sub_type=sub_type)
    assert Clip.objects.exists() is is_kept


def test_chosen_cameras_alone_and_a_rule_that_is_off_keep_nothing_else(cast: TenantCast) -> None:
    make_rule(cast, "Ben's", devices=(cast.ben_camera,))
    make_rule(cast, "Off", is_enabled=False)
    make_rule(make_cast("other"), "Another company's")
    gone = make_rule(cast, "Gone", devices=(cast.ben_camera,))
    gone.devices.clear()
    happen(cast)
    assert not Clip.objects.exists()
    make_rule(cast, "Ada's", devices=(cast.ada_camera,))
    happen(cast, position=2)
    assert Clip.objects.get().rule_name == "Ada's"


@pytest.mark.parametrize(
    "case", ["test", "too old", "before consent", "zones", "no video", "plan", "removed", "unlinked"]
)
def test_what_must_not_or_cannot_be_kept_is_not(cast: TenantCast, case: str) -> None:
    make_rule(cast)
    camera, account, now = cast.ada_camera, cast.ada_account, timezone.now()
    at = now
    values: dict[str, Any] = {}
    match case:
        case "test":
            values = {"provenance": Event.Provenance.TEST}
        case "too old":
            account.consent_at = now - timedelta(days=400)
            at, values = now - timedelta(days=181), {"provenance": Event.Provenance.HISTORY}
        case "before consent":
            at = now - timedelta(days=8)
        case "zones":
            set_zones(camera, ZONE)
        case "no video":
            camera.has_video = False
        case "plan":
            camera.plan = "inactive"
        case "removed":
            camera.removed_at = now
        case "unlinked":
            account.state = "unlinked"
    camera.save()
    account.save()
    event = happen(cast, at=at, **values)
    assert (event.next_attempt_at, event.last_error) == (None, "")
    assert not Clip.objects.exists()


def test_an_event_of_the_history_has_its_clip_and_no_picture(cast: TenantCast) -> None:
    make_rule(cast)
    happen(cast, at=timezone.now() - timedelta(hours=2), provenance=Event.Provenance.HISTORY)
    assert Clip.objects.count() == 1
    assert not Picture.objects.exists()


def test_the_daily_limit_counts_each_camera_for_itself(cast: TenantCast) -> None:
    make_rule(cast, daily_limit=2)
    for position in range(1, 5):
        happen(cast, position=position)
    assert Clip.objects.count() == 2
    Clip.objects.update(created_at=timezone.now() - timedelta(hours=25))
    happen(cast, position=5)
    assert Clip.objects.count() == 3


@pytest.fixture
def owner(cast: TenantCast) -> Client:
    client = Client()
    client.force_login(cast.owner.user)
    return client


def address(name: str, *args: object) -> str:
    return reverse(f"media:{name}", args=["acme", *args])


def typed(**changes: Any) -> dict[str, Any]:
    given = {
        "name": "People", "kinds": ["person"], "where": "all", "before_s": "5", "after_s": "25",
        "daily_limit": "", "is_enabled": "on",
    }  # fmt: skip
    return given | changes


def test_an_admin_adds_changes_and_removes_a_rule(cast: TenantCast, owner: Client) -> None:
    assert "No rule yet" in owner.get(address("clip_rules")).content.decode()
    assert owner.post(address("add_clip_rule"), typed()).status_code == HTTPStatus.FOUND
    rule = ClipRule.objects.get()
    assert (rule.tenant, rule.kinds, rule.all_devices, rule.is_enabled) == (
        cast.tenant,
        ["person"],
        True,
        True,
    )

    chosen = typed(where="chosen", devices=[str(cast.ada_camera.public_id)], after_s="60", daily_limit="4")
    del chosen["is_enabled"]
    owner.post(address("clip_rule", rule.public_id), chosen)
    rule.refresh_from_db()
    assert (rule.all_devices, list(rule.devices.all()), rule.after_s, rule.daily_limit, rule.is_enabled) == (
        False, [cast.ada_camera], 60, 4, False,
    )  # fmt: skip
    page = owner.get(address("clip_rules")).content.decode()
    assert "Front Door" in page and "at most 4 a day" in page and "Off" in page

    rule.is_enabled, rule.kinds = True, ["doorbell"]
    rule.save()
    happen(cast)
    assert owner.get(address("remove_clip_rule", rule.public_id)).status_code == HTTPStatus.OK
    assert ClipRule.objects.exists()
    owner.post(address("remove_clip_rule", rule.public_id))
    assert not ClipRule.objects.exists()
    clip = Clip.objects.get()
    assert (clip.rule, clip.rule_name) == (None, "People")
    for page in (address("clip", clip.public_id), address("clips")):
        # An apostrophe or a quote would be escaped; the words around it are not.
        assert "y the rule “People”" in owner.get(page).content.decode()
    actions = AuditEntry.objects.filter(action__startswith="clip_rule.").order_by("pk")
    assert [entry.action for entry in actions] == [
        "clip_rule.added",
        "clip_rule.changed",
        "clip_rule.removed",
    ]
    assert "Removed a rule for keeping clips" in owner.get("/t/acme/settings/activity/").content.decode()


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"kinds": []},
        {"kinds": ["sensor"]},
        {"where": "chosen"},
        {"before_s": "61"},
        {"after_s": "0"},
        {"daily_limit": "0"},
        {"name": "Taken"},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_beside_its_field(
    cast: TenantCast, owner: Client, changes: dict[str, Any]
) -> None:
    make_rule(cast, "Taken")
    answer = owner.post(address("add_clip_rule"), typed(**changes))
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert answer.context["form"].errors
    assert ClipRule.objects.count() == 1


def test_another_company_s_camera_cannot_be_chosen(cast: TenantCast, owner: Client) -> None:
    theirs = make_cast("other").ada_camera
    answer = owner.post(address("add_clip_rule"), typed(where="chosen", devices=[str(theirs.public_id)]))
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert not ClipRule.objects.exists()


def test_only_the_company_s_admins_enter(cast: TenantCast) -> None:
    rule = make_rule(cast)
    for member in (cast.operator, cast.ada):
        client = Client()
        client.force_login(member.user)
        for page in (address("clip_rules"), address("add_clip_rule"), address("clip_rule", rule.public_id)):
            assert client.get(page).status_code == HTTPStatus.NOT_FOUND
        assert client.post(address("remove_clip_rule", rule.public_id)).status_code == HTTPStatus.NOT_FOUND
    assert ClipRule.objects.exists()
