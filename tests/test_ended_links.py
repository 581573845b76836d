"""When a link ends, what was kept stays or goes as the tenant wants, jobs end, and nothing comes back by itself."""

from datetime import timedelta

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest

from accounts.models import AuditEntry, OnUnlink, RingAccount
from accounts.tasks import erase_history, sweep_ended_links
from accounts.unlinking import REMOVED_IN_RING, disconnect, unlink_account
from devices.models import AccountSync, Device
from devices.services import plan_sync
from events.history_tasks import plan_reading
from events.models import Delivery, Event, HistoryReading
from events.services import Arrival, record
from events.tasks import apply_effects
from media.models import Clip, FetchState, Picture
from ring.documents import parse_delivery
from tests.support.cast import TenantCast, make_cast

State = RingAccount.State

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def acme() -> TenantCast:
    """Ada and Ben each with a camera, an event, a clip that is kept and one that is being fetched."""
    cast = make_cast("acme")
    for number, camera in enumerate((cast.ada_camera, cast.ben_camera), start=1):
        arrive(cast, camera, "motion_detected", f"first-{number}")
        of = {"tenant": cast.tenant, "device": camera, "duration_ms": 1000}
        kept = Clip(**of, start=timezone.now(), state=FetchState.READY, sha256="ab", size_bytes=7)
        kept.file.save("kept.mp4", ContentFile(b"footage"))
        Clip.objects.create(
            **of,
            start=timezone.now() - timedelta(hours=1),
            state=FetchState.QUEUED,
            next_attempt_at=timezone.now(),
        )
    return cast


def arrive(cast: TenantCast, device: Device, event_type: str, request: str) -> Event:
    """A webhook of Ring's about a device, recorded, and its effects done."""
    account = device.ring_account
    millis = int(timezone.now().timestamp() * 1000)
    body = (
        f'{{"meta":{{"version":"1.1","time":"{timezone.now().isoformat()}","request_id":"{request}",'
        f'"account_id":"{account.ring_id}"}},"data":{{"id":"{device.ring_id}_{request}","type":"{event_type}",'
        f'"attributes":{{"source":"{device.ring_id}","source_type":"devices","timestamp":{millis}}}}}}}'
    ).encode()
    record(Arrival(cast.tenant.pk, timezone.now(), body, parse_delivery(body)))
    event = Event.objects.get(request_id=request)
    apply_effects.func(event.pk)
    return event


def end_link(cast: TenantCast) -> None:
    disconnect(account=cast.ada_account, actor=cast.ada.user, now=timezone.now())
    cast.ada_account.refresh_from_db()


def run_due_erasures() -> None:
    sweep_ended_links.func()
    for account in RingAccount.objects.filter(state=State.UNLINKED):
        erase_history.func(account.pk)


def test_history_stays_where_the_tenant_keeps_it(acme: TenantCast):
    end_link(acme)
    run_due_erasures()
    assert Device.objects.filter(ring_account=acme.ada_account).count() == 1
    assert Clip.objects.filter(device=acme.ada_camera, state=FetchState.READY).count() == 1
    assert acme.ada_account.access_token == acme.ada_account.refresh_token == ""


def test_history_goes_where_the_tenant_erases_it_and_nobody_else_s(acme: TenantCast):
    acme.tenant.on_unlink = OnUnlink.ERASE
    acme.tenant.save()
    names = list(Clip.objects.filter(device=acme.ada_camera).exclude(file="").values_list("file", flat=True))
    end_link(acme)
    run_due_erasures()
    run_due_erasures()
    assert not Device.objects.filter(ring_account=acme.ada_account).exists()
    assert not Event.objects.filter(account_ring_id=acme.ada_account.ring_id).exists()
    assert not any(default_storage.exists(name) for name in names)
    assert not any(
        acme.ada_account.ring_id in bytes(body).decode()
        for body in Delivery.objects.values_list("body", flat=True)
    )
    assert AuditEntry.objects.filter(action="link.history_erased").count() == 1
    # Ben's is untouched.
    assert Clip.objects.filter(device=acme.ben_camera).count() == 2
    assert Event.objects.filter(device=acme.ben_camera).count() == 1


def test_removing_the_app_in_the_ring_app_leaves_a_day_to_come_back(acme: TenantCast):
    """Whoever is told to remove the app and add it again must not lose everything by it."""
    acme.tenant.on_unlink = OnUnlink.ERASE
    acme.tenant.save()
    unlink_account(account=acme.ada_account, now=timezone.now(), reason=REMOVED_IN_RING)
    run_due_erasures()
    assert Device.objects.filter(ring_account=acme.ada_account).exists()

    RingAccount.objects.filter(pk=acme.ada_account.pk).update(next_attempt_at=timezone.now())
    run_due_erasures()
    assert not Device.objects.filter(ring_account=acme.ada_account).exists()


def test_coming_back_in_time_keeps_it(acme: TenantCast):
    acme.tenant.on_unlink = OnUnlink.ERASE
    acme.tenant.save()
    end_link(acme)
    RingAccount.objects.filter(pk=acme.ada_account.pk).update(state=State.UNCLAIMED)
    run_due_erasures()
    erase_history.func(acme.ada_account.pk)
    assert Device.objects.filter(ring_account=acme.ada_account).exists()


def test_jobs_of_the_account_end_and_say_why(acme: TenantCast):
    plan_sync(account=acme.ada_account, now=timezone.now())
    end_link(acme)
    clip = Clip.objects.get(device=acme.ada_camera, start__lt=timezone.now() - timedelta(minutes=30))
    assert (clip.state, clip.error, clip.next_attempt_at) == (FetchState.FAILED, "unlinked", None)
    assert not Picture.objects.filter(device=acme.ada_camera, next_attempt_at__isnull=False).exists()
    assert not AccountSync.objects.filter(
        ring_account=acme.ada_account, next_attempt_at__isnull=False
    ).exists()
    waiting = Clip.objects.get(device=acme.ben_camera, state=FetchState.QUEUED)
    assert waiting.next_attempt_at is not None


@pytest.mark.parametrize("policy", OnUnlink.values)
@pytest.mark.parametrize(
    "late", ["app_integration_removed", "device_removed", "device_online", "device_added", "motion_detected"]
)
def test_late_webhooks_are_taken_and_bring_nothing_back(acme: TenantCast, late: str, policy: str):
    acme.tenant.on_unlink = policy
    acme.tenant.save()
    end_link(acme)
    run_due_erasures()
    arrive(acme, acme.ada_camera, late, "late")
    arrive_again = Event.objects.get(request_id="late")
    apply_effects.func(arrive_again.pk)
    account = RingAccount.objects.get(pk=acme.ada_account.pk)
    assert account.state == State.UNLINKED
    assert account.access_token == account.refresh_token == ""
    assert not Device.objects.present().filter(ring_account=account).exists()


def test_histories_are_not_read_any_more(acme: TenantCast):
    for camera in (acme.ada_camera, acme.ben_camera):
        plan_reading(device=camera, now=timezone.now())
    end_link(acme)
    due = HistoryReading.objects.filter(next_attempt_at__isnull=False)
    assert [reading.device for reading in due] == [acme.ben_camera]


def test_what_ring_told_late_is_erased_too(acme: TenantCast):
    acme.tenant.on_unlink = OnUnlink.ERASE
    acme.tenant.save()
    end_link(acme)
    run_due_erasures()
    arrive(acme, acme.ada_camera, "device_removed", "late")
    row = RingAccount.objects.get(pk=acme.ada_account.pk)
    assert row.next_attempt_at is not None
    assert row.next_attempt_at > timezone.now() + timedelta(minutes=73)  # Ring's last repeat (contract 9.3)
    for _ in range(2):
        RingAccount.objects.filter(pk=row.pk).update(next_attempt_at=timezone.now())
        run_due_erasures()
    assert not Event.objects.filter(account_ring_id=row.ring_id).exists()
    assert not any(
        row.ring_id.encode() in bytes(body) for body in Delivery.objects.values_list("body", flat=True)
    )
    ended = RingAccount.objects.get(pk=row.pk)
    assert (ended.next_attempt_at, ended.first_name, ended.account_identifier) == (None, "", "")


def test_storage_that_fails_is_tried_again_and_nothing_is_forgotten(
    acme: TenantCast, monkeypatch: pytest.MonkeyPatch
):
    acme.tenant.on_unlink = OnUnlink.ERASE
    acme.tenant.save()
    [name] = Clip.objects.filter(device=acme.ada_camera).exclude(file="").values_list("file", flat=True)

    def fail(_: str) -> None:
        raise OSError("disk")

    end_link(acme)
    with monkeypatch.context() as patched:
        patched.setattr(default_storage, "delete", fail, raising=False)
        run_due_erasures()
    row = RingAccount.objects.get(pk=acme.ada_account.pk)
    assert row.last_error == "OSError" and row.next_attempt_at is not None
    assert default_storage.exists(name) and Clip.objects.filter(file=name).exists()
    RingAccount.objects.filter(pk=row.pk).update(next_attempt_at=timezone.now())
    run_due_erasures()
    assert not default_storage.exists(name)
    assert not Device.objects.filter(ring_account=row).exists()


def test_settings_say_what_is_kept_not_what_the_policy_would_be_now(acme: TenantCast):
    end_link(acme)
    acme.tenant.on_unlink = OnUnlink.ERASE  # for others, later
    acme.tenant.save()
    browser = Client()
    browser.force_login(acme.ada.user, backend="django.contrib.auth.backends.ModelBackend")
    assert "What we have kept stays" in browser.get("/t/acme/settings/").content.decode()


def test_page_says_before_it_is_done(acme: TenantCast):
    browser = Client()
    browser.force_login(acme.ada.user, backend="django.contrib.auth.backends.ModelBackend")
    page = reverse("accounts:unlink", args=["acme", acme.ada_account.public_id])
    assert "have kept stay here" in browser.get(page).content.decode()
    acme.tenant.on_unlink = OnUnlink.ERASE
    acme.tenant.save()
    assert "is erased for good" in browser.get(page).content.decode()


def test_an_admin_chooses_in_the_settings(acme: TenantCast):
    browser = Client()
    browser.force_login(acme.owner.user, backend="django.contrib.auth.backends.ModelBackend")
    browser.post(
        reverse("accounts:company", args=["acme"]),
        {"name": "Acme", "accent": "#2257d6", "on_unlink": "erase"},
    )
    acme.tenant.refresh_from_db()
    assert acme.tenant.on_unlink == OnUnlink.ERASE
