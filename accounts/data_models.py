"""People's and companies' data taken out, and deleted for good."""

import uuid
from pathlib import PurePosixPath
from typing import Any, Self

from django.db import models
from django.db.models import Q
from django.utils import timezone

from portal.fields import EncryptedTextField
from portal.tenancy import TenantOwned, TenantQuerySet, Viewer
from portal.work import Work


def export_path(export: "DataExport", filename: str) -> str:
    suffix = PurePosixPath(filename).suffix
    return str(PurePosixPath("exports", str(export.tenant.public_id), f"{export.public_id}{suffix}"))


class DataExportQuerySet(TenantQuerySet["DataExport"]):
    def visible_to(self, viewer: Viewer) -> Self:
        """An export is seen by nobody but the person who asked for it."""
        return self.for_tenant(viewer.tenant_id).filter(user=viewer.user_id or 0)


class DataExport(TenantOwned, Work):
    """
    One archive of what the portal holds: about a person in a tenant, or of the whole tenant. `accounts.exports` writes it.

    `next_attempt_at` is when it is built, then when it is deleted; None once the file is gone.
    """

    class Kind(models.TextChoices):
        PERSON = "person"
        TENANT = "tenant"

    class State(models.TextChoices):
        BUILDING = "building"
        READY = "ready"
        FAILED = "failed"
        GONE = "gone"

    user = models.ForeignKey("accounts.User", models.CASCADE, related_name="+")
    kind = models.CharField(max_length=6, choices=Kind)
    state = models.CharField(max_length=8, choices=State, default=State.BUILDING)
    asked_at = models.DateTimeField(default=timezone.now)
    # Progress, true to the byte of the pictures and videos that go in.
    done_bytes = models.PositiveBigIntegerField(default=0)
    total_bytes = models.PositiveBigIntegerField(default=0)
    file = models.FileField(upload_to=export_path, blank=True)
    size_bytes = models.PositiveBigIntegerField(null=True, blank=True)
    sha256 = models.CharField(max_length=64, blank=True, default="")
    ready_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)

    objects = DataExportQuerySet.as_manager()

    class Meta:
        ordering = ["-asked_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "user", "kind"],
                condition=Q(state="building"),
                name="accounts_export_one_at_a_time",
            ),
            models.CheckConstraint(
                condition=~Q(state="ready")
                | (~Q(file="") & ~Q(sha256="") & Q(size_bytes__isnull=False, expires_at__isnull=False)),
                name="accounts_export_ready_has_file",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.asked_at:%Y-%m-%d %H:%M}"

    @property
    def percent(self) -> int:
        """How far it is; files are nearly all of an archive, so they are what is counted."""
        return min(100, 100 * self.done_bytes // self.total_bytes) if self.total_bytes else 0


class Erasure(Work):
    """
    Something is deleted for good, and the receipt of it. Only `accounts.erasure` writes it.

    While it goes on the row names whom or what. When it is done these columns are empty: the receipt holds counts and
    times, and nobody's name. It outlives its tenant, so it is no tenant's row.
    """

    class Kind(models.TextChoices):
        PERSON = "person", "A person's data at one company"
        ACCOUNT = "account", "A person's whole account"
        TENANT = "tenant", "A company"

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    kind = models.CharField(max_length=7, choices=Kind)
    user = models.ForeignKey("accounts.User", models.SET_NULL, null=True, blank=True, related_name="+")
    company = models.ForeignKey("accounts.Tenant", models.SET_NULL, null=True, blank=True, related_name="+")
    company_ref = models.UUIDField(null=True, blank=True, help_text="The company's public id.")
    by_staff = models.BooleanField(default=False)
    reason = models.CharField(
        max_length=200, blank=True, default="", help_text="Staff's reason, without names."
    )
    # Where the receipt goes, one address a line; emptied once it is on its way.
    mail_to = EncryptedTextField(blank=True, default="")
    asked_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    counts = models.JSONField(default=dict)
    sha256 = models.CharField(max_length=64, blank=True, default="")

    class Meta:
        ordering = ["-asked_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["user"],
                condition=Q(kind="account", finished_at__isnull=True),
                name="accounts_erasure_of_account_once",
            ),
            models.UniqueConstraint(
                fields=["company"],
                condition=Q(kind="tenant", finished_at__isnull=True),
                name="accounts_erasure_of_tenant_once",
            ),
            models.UniqueConstraint(
                fields=["company", "user"],
                condition=Q(kind="person", finished_at__isnull=True),
                name="accounts_erasure_of_person_once",
            ),
            models.CheckConstraint(
                condition=Q(finished_at__isnull=True) | (Q(user__isnull=True) & ~Q(sha256="")),
                name="accounts_erasure_receipt_names_nobody",
            ),
        ]

    def __str__(self) -> str:
        return str(self.public_id)

    @property
    def has_stopped(self) -> bool:
        """Whether it was given up: it goes on when staff start it again (`accounts.erasure.start_again`)."""
        return self.finished_at is None and self.next_attempt_at is None

    def receipt(self) -> dict[str, Any]:
        """What the receipt says; its SHA-256 (`accounts.audit.content_hash`) is `sha256`."""
        return {
            "receipt": str(self.public_id),
            "erased": self.kind,
            "company": None if self.company_ref is None else str(self.company_ref),
            "asked_at": self.asked_at.isoformat(),
            "finished_at": None if self.finished_at is None else self.finished_at.isoformat(),
            "counts": dict(sorted(self.counts.items())),
        }


class ErasedRingId(TenantOwned):
    """
    A Ring account or device whose data was deleted here, as a keyed hash: what Ring still sends of it is not stored.

    Ring knows no way for us to end a link (contract 2.10): until the person removes the app there, webhooks go on.
    """

    digest = models.CharField(max_length=64)
    erased_at = models.DateTimeField(default=timezone.now)

    objects = TenantQuerySet["ErasedRingId"].as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "digest"], name="accounts_erased_ring_id_once"),
        ]

    def __str__(self) -> str:
        return self.digest[:8]
