"""Deleting for good: a person at one company, a whole account, a company. Nothing is left, and nothing else is touched."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.core import mail
from django.core.files.storage import FileSystemStorage
from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest

from accounts import erasure
from accounts.audit import content_hash, verify
from accounts.data_tasks import run_erasure, sweep_data
from accounts.models import (
    AuditEntry,
    AuditPerson,
    DataExport,
    ErasedRingId,
    Erasure,
    Membership,
    RingAccount,
    Role,
    Tenant,
    User,
)
from accounts.people import LastOwner, remove_member
from accounts.tests.data_helpers import counts_of_tenant, fill, rows_that_mention, sign_in, stored_files
from devices.models import Device
from events.models import Delivery, Event
from events.services import Arrival, record
from media.models import Clip, LiveSession
from portal.walls import unit_of_work
from ring.documents import parse_delivery
from tests.support.cast import NOW, PASSWORD, TenantCast, make_cast, make_membership
from tests.support.signin import staff_client

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> TenantCast:
    cast = make_cast()
    for account in (cast.ada_account, cast.ben_account):
        # No tokens: Ring is not asked here; that it is told is the sandbox's test.
        RingAccount.objects.filter(pk=account.pk).update(
            access_token="", refresh_token="", state="relink_required"
        )
        account.refresh_from_db()
    User.objects.filter(pk=cast.ada.user_id).update(first_name="Adalovelace", last_name="Byronking")
    cast.ada.user.refresh_from_db()
    fill(cast, cast.ada_account, cast.ada_camera)
    fill(cast, cast.ben_account, cast.ben_camera)
    return cast


def other_company() -> TenantCast:
    """A second company; Ring calls its devices by names of their own."""
    other = make_cast("other")
    for camera in (other.ada_camera, other.ben_camera):
        camera.ring_id = f"other.{camera.ring_id.rpartition('.')[2]}"
        camera.save()
    return other


def work() -> None:
    """What a worker does with the erasures that are due."""
    for pk in list(Erasure.objects.filter(next_attempt_at__lte=timezone.now()).values_list("pk", flat=True)):
        with unit_of_work():
            run_erasure.func(pk)


def client_of(email: str) -> Client:
    client = Client()
    sign_in(client, email)
    return client


def ada_is(cast: TenantCast) -> list[str]:
    return ["ada@acme.example", "Byronking", cast.ada_account.ring_id, cast.ada_camera.ring_id]


def test_a_person_erases_their_account_and_nothing_mentions_them(cast: TenantCast):
    needles = ada_is(cast)
    assert len(rows_that_mention(*needles)) > 10
    files_before = len(stored_files())
    ada = client_of("ada@acme.example")

    page = ada.get("/accounts/data/delete/")
    assert "Clips" in page.content.decode()
    answer = ada.post("/accounts/data/delete/", {"typed": "ada@acme.example"})
    assert answer.status_code == 302 and "/accounts/receipt/" in answer["Location"]
    assert ada.get("/t/acme/").status_code == 302, "signed out at once"
    work()

    assert rows_that_mention(*needles) == []
    assert not User.objects.filter(pk=cast.ada.user_id).exists()
    assert len(stored_files()) == files_before - 9  # three clips, three posters, three pictures
    assert verify(cast.tenant).problems == []
    done = Erasure.objects.get()
    assert done.counts["clips"] == 3 and done.counts["files"] == 9 and done.counts["events"] == 3
    assert done.counts["webhooks"] == 7 and done.counts["Ring accounts"] == 1 and done.counts["sign-ins"] == 1
    assert (done.user, done.company, done.mail_to) == (None, None, "")
    assert done.sha256 == content_hash(done.receipt())


def test_nothing_of_another_customer_or_company_is_touched(cast: TenantCast):
    other = other_company()
    fill(other, other.ada_account, other.ada_camera)
    before = counts_of_tenant(other.tenant)
    bens = (Event.objects.filter(ring_account=cast.ben_account), Clip.objects.filter(device=cast.ben_camera))
    had = [list(rows.order_by("pk").values()) for rows in bens]

    erasure.erase_account(user=cast.ada.user, now=timezone.now())
    work()

    assert counts_of_tenant(other.tenant) == before
    assert [list(rows.order_by("pk").values()) for rows in bens] == had
    assert Delivery.objects.filter(request_id__startswith=cast.ben_account.ring_id).count() == 6


def test_a_person_leaves_one_company_and_stays_at_another(cast: TenantCast):
    other = other_company()
    Membership.objects.create(tenant=other.tenant, user=cast.ada.user, role=Role.CUSTOMER)
    before = counts_of_tenant(other.tenant)
    ada = client_of("ada@acme.example")

    answer = ada.post("/t/acme/settings/data/delete/", {"typed": "ADA@acme.example "})
    work()

    assert "/accounts/receipt/" in answer["Location"]
    assert counts_of_tenant(other.tenant) == before
    assert User.objects.filter(pk=cast.ada.user_id).exists()
    assert not Membership.objects.filter(tenant=cast.tenant, user=cast.ada.user).exists()
    assert not RingAccount.objects.filter(pk=cast.ada_account.pk).exists()
    assert not AuditPerson.objects.filter(tenant=cast.tenant, user=cast.ada.user).exists()
    left = rows_that_mention(cast.ada_account.ring_id, cast.ada_camera.ring_id)
    assert left == []
    assert ada.get("/t/acme/").status_code == 404
    assert ada.get("/t/other/").status_code == 200
    assert verify(cast.tenant).problems == []


def test_the_wrong_words_delete_nothing(cast: TenantCast):
    ada = client_of("ada@acme.example")

    for address in ("/t/acme/settings/data/delete/", "/accounts/data/delete/"):
        answer = ada.post(address, {"typed": "ada"})
        assert answer.status_code == 422
        assert "Nothing was deleted" in answer.content.decode()

    assert not Erasure.objects.exists()


def test_deleting_asks_who_it_is(cast: TenantCast):
    client = Client()
    client.force_login(cast.ada.user, backend="django.contrib.auth.backends.ModelBackend")

    answer = client.post("/accounts/data/delete/", {"typed": "ada@acme.example"})

    assert answer.status_code == 302 and "/accounts/reauthenticate/" in answer["Location"]
    assert not Erasure.objects.exists()


def test_a_sole_owner_is_told_what_to_do_first(cast: TenantCast):
    owner = client_of("owner@acme.example")

    for address in ("/t/acme/settings/data/delete/", "/accounts/data/delete/"):
        text = owner.get(address).content.decode()
        assert "Nobody else owns Acme" in text and "/t/acme/settings/data/delete-company/" in text
        owner.post(address, {"typed": "owner@acme.example"})
    assert not Erasure.objects.exists()
    with pytest.raises(erasure.SoleOwner):
        erasure.erase_account(user=cast.owner.user, now=timezone.now())


@pytest.mark.parametrize("begin", ["person", "account"])
def test_an_owner_who_is_being_deleted_is_none_the_others_can_rely_on(cast: TenantCast, begin: str):
    """Between the asking and the deleting the other owner must not go too."""
    other = make_membership(cast.tenant, "second-owner@acme.example", Role.OWNER)
    now = timezone.now()
    if begin == "person":
        erasure.erase_person(tenant=cast.tenant, user=cast.owner.user, now=now)
    else:
        erasure.erase_account(user=cast.owner.user, now=now)

    with pytest.raises(erasure.SoleOwner):
        erasure.erase_person(tenant=cast.tenant, user=other.user, now=now)
    with pytest.raises(LastOwner):
        remove_member(member=other, actor=other, now=now)
    work()
    owners = Membership.objects.filter(tenant=cast.tenant, role=Role.OWNER)
    assert [owner.user.email for owner in owners] == ["second-owner@acme.example"]


def test_live_sessions_end_before_the_answer(cast: TenantCast):
    watching = LiveSession.objects.create(
        tenant=cast.tenant, device=cast.ada_camera, viewer=cast.operator.user, opened_at=NOW, cap_s=30
    )
    ada = client_of("ada@acme.example")

    ada.post("/t/acme/settings/data/delete/", {"typed": "ada@acme.example"})

    watching.refresh_from_db()
    assert watching.ended_at is not None


# --- the receipt --------------------------------------------------------------------------------------------------


def test_the_receipt_is_mailed_and_shown_to_whoever_has_its_address(cast: TenantCast):
    begun = erasure.erase_account(user=cast.ada.user, now=timezone.now())
    path = erasure.receipt_path(begun)
    under_way = Client().get(path)
    assert "being deleted" in under_way.content.decode()
    work()

    text = Client().get(path).content.decode()
    done = Erasure.objects.get()
    assert str(done.public_id) in text and done.sha256 in text and "3 deleted" in text
    document = Client().get(path, {"download": ""}).json()
    digest = document.pop("sha256")
    assert content_hash(document) == digest
    [message] = [sent for sent in mail.outbox if "receipt" in sent.subject]
    assert message.to == ["ada@acme.example"]
    assert done.sha256 in message.body and path in message.body
    for told in (text, message.body):
        assert "remove" in told, "Ring keeps its side of a link until the person removes it there"
    for moment in (done.asked_at, done.finished_at):
        assert moment is not None
        exact = f"{moment.day} {moment:%b %Y, %H:%M:%S} UTC"
        assert f'datetime="{moment.isoformat()}" data-when="exact" title="{exact}">{exact}<' in text


def test_a_guest_who_linked_nothing_reads_of_no_link(cast: TenantCast):
    guest = make_membership(cast.tenant, "guest@acme.example", Role.GUEST)
    begun = erasure.erase_account(user=guest.user, now=timezone.now())
    work()
    page = Client().get(erasure.receipt_path(begun)).content.decode()
    assert "It is deleted" in page and "Ring keeps" not in page
    assert "Ring" not in mail.outbox[-1].body


def test_a_receipt_has_an_end_and_cannot_be_guessed(cast: TenantCast):
    begun = erasure.erase_account(user=cast.ada.user, now=timezone.now())
    path = erasure.receipt_path(begun)
    work()

    assert Client().get(f"/accounts/receipt/{begun.public_id}/").status_code == 404
    assert Client().get(path[:-2] + "x/").status_code == 404
    Erasure.objects.update(finished_at=timezone.now() - timedelta(days=31))
    assert Client().get(path).status_code == 404


def test_a_receipt_that_cannot_be_mailed_is_tried_again(cast: TenantCast, settings: Any):
    begun = erasure.erase_account(user=cast.ada.user, now=timezone.now())
    mailers = settings.MAILERS
    settings.MAILERS = {
        "default": {
            "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
            "OPTIONS": {"host": "127.0.0.1", "port": 1},
        }
    }
    run_erasure.func(begun.pk)
    begun.refresh_from_db()
    assert begun.finished_at is not None and begun.mail_to == "ada@acme.example"
    assert not User.objects.filter(pk=cast.ada.user_id).exists()

    settings.MAILERS = mailers
    Erasure.objects.update(next_attempt_at=timezone.now())
    run_erasure.func(begun.pk)

    begun.refresh_from_db()
    assert begun.mail_to == "" and begun.next_attempt_at is None


# --- a process that dies ------------------------------------------------------------------------------------------


class Died(BaseException):
    """What a killed process looks like from inside: nothing after it runs."""


@pytest.mark.parametrize("step", range(1, 24))
def test_whatever_dies_the_next_worker_goes_on_and_the_counts_are_right(
    cast: TenantCast, step: int, monkeypatch: pytest.MonkeyPatch
):
    needles = ada_is(cast)
    begun = erasure.erase_account(user=cast.ada.user, now=timezone.now())
    original = erasure._tally_of
    calls = 0

    def dying(row: Erasure) -> Any:
        tally = original(row)

        def counted(kind: str, count: int) -> None:
            nonlocal calls
            calls += 1
            if calls == step:
                raise Died
            tally(kind, count)

        return counted

    monkeypatch.setattr(erasure, "_tally_of", dying)
    died = False
    try:
        run_erasure.func(begun.pk)
    except Died:
        died = True
    assert died == (calls >= step)
    Erasure.objects.filter(finished_at=None).update(next_attempt_at=timezone.now())
    run_erasure.func(begun.pk)

    done = Erasure.objects.get()
    assert done.finished_at is not None
    assert rows_that_mention(*needles) == []
    counted = {
        key: done.counts[key] for key in ("clips", "files", "events", "webhooks", "Ring accounts", "sign-ins")
    }
    assert counted == {"clips": 3, "files": 9, "events": 3, "webhooks": 7, "Ring accounts": 1, "sign-ins": 1}


def test_what_fails_is_tried_again_with_pauses_then_given_up_until_staff_start_it_again(
    cast: TenantCast, monkeypatch: pytest.MonkeyPatch
):
    needles = ada_is(cast)
    ada = client_of("ada@acme.example")
    receipt = ada.post("/t/acme/settings/data/delete/", {"typed": "ada@acme.example"})["Location"]
    begun = Erasure.objects.get()
    pauses = []
    with monkeypatch.context() as broken:

        def fail(storage: FileSystemStorage, name: str) -> None:
            raise PermissionError(name)

        broken.setattr(FileSystemStorage, "delete", fail)
        for _ in range(erasure.MAX_ATTEMPTS - 1):
            Erasure.objects.update(next_attempt_at=timezone.now())
            asked_at = timezone.now()
            run_erasure.func(begun.pk)
            begun.refresh_from_db()
            assert begun.next_attempt_at is not None and begun.last_error == "PermissionError"
            pauses.append(begun.next_attempt_at - asked_at)
        Erasure.objects.update(next_attempt_at=timezone.now())
        run_erasure.func(begun.pk)
    assert timedelta(seconds=20) < pauses[0] < pauses[3] < pauses[-1] < timedelta(hours=2)
    sweep_data.func()
    work()
    assert Erasure.objects.get().has_stopped, "nobody tries any more"
    assert "Those who run the portal see it" in ada.get(receipt).content.decode()

    staff = staff_client(User.objects.create_superuser("staff@portal.example", PASSWORD))
    changelist = reverse("admin:accounts_erasure_changelist")
    staff.post(changelist, {"action": "start_again", "_selected_action": [begun.pk]})
    work()

    done = Erasure.objects.get()
    assert done.finished_at is not None and done.counts["files"] == 9
    assert rows_that_mention(*needles[2:]) == []
    restarted = AuditEntry.objects.get(action="erasure.restarted")
    assert restarted.actor is not None and restarted.detail["by_staff"] is True


def test_a_deletion_whose_every_attempt_dies_is_given_up_too(cast: TenantCast):
    begun = erasure.erase_account(user=cast.ada.user, now=timezone.now())
    Erasure.objects.update(attempts=erasure.MAX_ATTEMPTS)
    work()
    begun.refresh_from_db()
    assert begun.has_stopped and begun.last_error == "GaveUp"


@pytest.mark.django_db(transaction=True)
def test_the_sweep_takes_up_what_lost_its_task(cast: TenantCast, run_tasks: Callable[[], None]):
    from django_tasks_db.models import DBTaskResult

    erasure.erase_account(user=cast.ada.user, now=timezone.now())
    DBTaskResult.objects.all().delete()

    sweep_data.func()
    run_tasks()

    assert Erasure.objects.get().finished_at is not None


# --- what comes late ----------------------------------------------------------------------------------------------


def webhook(account_id: str, device_id: str, request_id: str = "late") -> Arrival:
    told: dict[str, dict[str, Any]] = {
        "meta": {
            "version": "1.1",
            "time": "2026-11-22T12:00:00Z",
            "request_id": request_id,
            "account_id": account_id,
        },
        "data": {
            "id": f"event-{request_id}",
            "type": "motion_detected",
            "attributes": {"source": device_id, "source_type": "devices", "timestamp": 1795348800000},
        },
    }
    if not account_id:
        del told["meta"]["account_id"]
    body = json.dumps(told).encode()
    return Arrival(Tenant.objects.get(slug="acme").pk, NOW, body, parse_delivery(body))


def test_late_webhooks_are_taken_and_nothing_personal_is_stored_again(cast: TenantCast):
    needles = ada_is(cast)
    erasure.erase_account(user=cast.ada.user, now=timezone.now())
    work()

    late = record(webhook(cast.ada_account.ring_id, cast.ada_camera.ring_id))
    without_account = record(webhook("", cast.ada_camera.ring_id, "later"))

    assert late.verdict == without_account.verdict == Delivery.Verdict.ERASED
    assert rows_that_mention(*needles) == []
    assert not Event.objects.filter(request_id__in=["late", "later"]).exists()
    assert record(webhook(cast.ben_account.ring_id, cast.ben_camera.ring_id, "bens")).position is not None
    assert ErasedRingId.objects.for_tenant(cast.tenant).count() == 2


def test_somebody_who_comes_back_with_the_same_ring_account_starts_anew(cast: TenantCast):
    ring_id = cast.ada_account.ring_id
    erasure.erase_account(user=cast.ada.user, now=timezone.now())
    work()

    RingAccount.objects.create(tenant=cast.tenant, ring_id=ring_id, state="unclaimed")

    assert record(webhook(ring_id, "a-new-device", "new")).position is not None


# --- a company ----------------------------------------------------------------------------------------------------


def test_a_company_is_deleted_after_its_grace_and_nothing_else(cast: TenantCast):
    other = other_company()
    fill(other, other.ada_account, other.ada_camera)
    Membership.objects.create(tenant=other.tenant, user=cast.ben.user, role=Role.CUSTOMER)
    before, files_before = (
        counts_of_tenant(other.tenant),
        [p for p in stored_files() if str(other.tenant.public_id) in str(p)],
    )
    owner = client_of("owner@acme.example")

    page = owner.get("/t/acme/settings/data/delete-company/").content.decode()
    assert "Delete Acme?" in page
    assert owner.post("/t/acme/settings/data/delete-company/", {"typed": "Acme Ltd"}).status_code == 422
    owner.post("/t/acme/settings/data/delete-company/", {"typed": "acme"})
    work()
    assert "will be deleted" in owner.get("/t/acme/settings/data/").content.decode()
    assert Tenant.objects.filter(slug="acme").exists(), "nothing happens before its day"

    Erasure.objects.update(next_attempt_at=timezone.now())
    sweep_data.func()
    work()

    done = Erasure.objects.get()
    assert done.finished_at is not None and done.counts["clips"] == 6
    assert not Tenant.objects.filter(slug="acme").exists()
    assert rows_that_mention("@acme.example", cast.ada_account.ring_id, cast.ben_camera.ring_id) == [
        f"{label}: @acme.example"  # Ben is at the other company too, and keeps his sign-in
        for label in ("accounts.User.email",)
    ]
    assert counts_of_tenant(other.tenant) == before
    assert stored_files() == files_before
    assert not AuditEntry.objects.for_tenant(cast.tenant.pk or 0).exists()
    subjects = [message.subject for message in mail.outbox]
    assert "Acme will be deleted" in subjects and "Your data is deleted: the receipt" in subjects


def test_an_owner_takes_the_deletion_back(cast: TenantCast):
    owner = client_of("owner@acme.example")
    owner.post("/t/acme/settings/data/delete-company/", {"typed": "acme"})

    owner.post("/t/acme/settings/data/keep-company/")

    assert not Erasure.objects.exists()
    assert "Acme stays" in owner.get("/t/acme/settings/data/").content.decode()


@pytest.mark.parametrize("who", ["ada", "operator"])
def test_only_owners_delete_a_company(cast: TenantCast, who: str):
    client = client_of(f"{who}@acme.example")

    assert client.get("/t/acme/settings/data/delete-company/").status_code == 404
    assert client.post("/t/acme/settings/data/delete-company/", {"typed": "acme"}).status_code == 404
    assert client.post("/t/acme/settings/data/keep-company/").status_code == 404
    assert client.post("/t/acme/settings/data/export/", {"kind": "tenant"}).status_code == 404
    assert not Erasure.objects.exists() and not DataExport.objects.exists()


def test_the_device_history_of_one_ring_account_can_be_erased_alone(cast: TenantCast):
    from accounts.personal_data import erase_ring_account

    erase_ring_account(cast.ada_account)

    assert not Device.objects.filter(ring_account=cast.ada_account).exists()
    assert not Event.objects.filter(ring_account=cast.ada_account).exists()
    assert Event.objects.filter(ring_account=cast.ben_account).count() == 3
    assert RingAccount.objects.filter(pk=cast.ada_account.pk).exists()
