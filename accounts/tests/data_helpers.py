"""A person about whom every app holds something, and how to find what is left of them."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.files.base import ContentFile
from django.test import Client

from accounts.models import AuditEntry, Invitation, RingAccount
from accounts.services import audit
from devices.models import Device
from events.models import Delivery, Event
from media.models import Clip, LiveSession, Picture
from tests.support.cast import NOW, PASSWORD, TenantCast


def fill(cast: TenantCast, account: RingAccount, camera: Device, *, count: int = 3, first: int = 1) -> None:
    """Events, deliveries, clips, pictures with files, live sessions, and a trail of one person of the cast."""
    tenant = cast.tenant
    for number in range(first, first + count):
        body = f'{{"account_id": "{account.ring_id}", "device": "{camera.ring_id}", "n": {number}}}'.encode()
        told = {
            "tenant": tenant,
            "received_at": NOW,
            "request_id": f"{account.ring_id}-{number}",
            "body": body,
        }
        delivery = Delivery.objects.create(**told, verdict="recorded")
        Delivery.objects.create(**told, verdict="duplicate")
        event = Event.objects.create(
            tenant=tenant,
            delivery=delivery,
            device=camera,
            ring_account=account,
            request_id=f"{account.ring_id}-{number}",
            position=account.pk * 1000 + number,
            event_type="motion_detected",
            account_ring_id=account.ring_id,
            device_ring_id=camera.ring_id,
            occurred_at=NOW,
            received_at=NOW,
        )
        clip = Clip(
            tenant=tenant,
            device=camera,
            event=event,
            requested_by=account.user,
            start=NOW + timedelta(minutes=number),
            duration_ms=1000,
            state="ready",
            sha256="ab",
            size_bytes=7,
        )
        clip.file.save("clip.mp4", ContentFile(f"video {number}".encode()), save=False)
        clip.poster.save("poster.jpg", ContentFile(b"poster"), save=False)
        clip.save()
        picture = Picture(
            tenant=tenant, device=camera, event=event, asked_at=NOW, taken_at=NOW, state="ready"
        )
        picture.file.save("picture.jpg", ContentFile(b"picture"), save=False)
        picture.save()
        LiveSession.objects.create(
            tenant=tenant,
            device=camera,
            viewer=cast.operator.user,
            opened_at=NOW,
            cap_s=30,
            ended_at=NOW,
            end_reason="closed",
        )
        audit(
            tenant=tenant,
            actor=cast.operator.user,
            action="live.ended",
            subject=f"device {camera.public_id}",
            about_person=account.user,
            watched_s=12.5,
            reason="closed",
        )
    # A body that became no event, but names them.
    Delivery.objects.create(
        tenant=tenant, received_at=NOW, body=f"x{account.ring_id}x".encode(), verdict="malformed"
    )
    assert account.user is not None
    Invitation.objects.create(
        tenant=tenant,
        email=account.user.email.upper(),
        role="customer",
        sha256=f"invitation-{account.pk}",
        expires_at=NOW,
        revoked_at=NOW,
    )


def rows_that_mention(*needles: str) -> list[str]:
    """Every column of every table that holds one of these texts, in whatever letters."""
    found = []
    for model in apps.get_models(include_auto_created=True):
        names = [field.attname for field in model._meta.concrete_fields]
        for row in model._base_manager.values_list(*names):
            for name, value in zip(names, row, strict=True):
                text = (
                    bytes(value).decode(errors="replace")
                    if isinstance(value, bytes | memoryview)
                    else str(value)
                )
                found += [f"{model._meta.label}.{name}: {n}" for n in needles if n.lower() in text.lower()]
    return found


def stored_files() -> list[Path]:
    return sorted(path for path in Path(settings.MEDIA_ROOT).rglob("*") if path.is_file())


def counts_of_tenant(tenant: Any) -> dict[str, list[Any]]:
    """Every row of a tenant, whole: to see that nothing of it was touched."""
    return {
        model._meta.label: list(model._base_manager.filter(tenant=tenant).order_by("pk").values())
        for model in apps.get_models()
        if any(field.name == "tenant" for field in model._meta.concrete_fields) and model is not AuditEntry
    }


def sign_in(client: Client, email: str) -> None:
    """By the sign-in page, and once more where the portal asks who it is."""
    client.post("/accounts/login/", {"login": email, "password": PASSWORD})
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
