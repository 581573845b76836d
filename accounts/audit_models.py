"""
The audit trail's tables: entries, how the trail calls a person, and the end of each tenant's chain.

Writing and checking them is `accounts.audit`; nothing else may.
"""

from typing import Any, Never, Self

from django.db import models
from django.db.models import Q
from django.utils import timezone

from portal.tenancy import TenantOwned, TenantQuerySet, Viewer


class AppendOnly(TypeError):
    """Somebody tried to change or delete what is written once and for all."""


class AuditPersonQuerySet(TenantQuerySet["AuditPerson"]):
    """The kernel's rule: the tenant's staff see who is who."""


class AuditPerson(TenantOwned):
    """
    How a tenant's trail calls a person: by this row's random `public_id`, never by name or address.

    Erasing a person deletes the row. The entries stay as they are, and so does their chain; whom they speak of
    nobody can tell any more. One for each tenant: erased in one, a person is not found again through another.
    """

    user = models.ForeignKey("accounts.User", models.CASCADE, related_name="+")

    objects = AuditPersonQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "user"], name="accounts_audit_person_once_per_tenant")
        ]

    def __str__(self) -> str:
        return str(self.public_id)


class AuditQuerySet(TenantQuerySet["AuditEntry"]):
    def visible_to(self, viewer: Viewer) -> Self:
        """The whole tenant's for its owners and admins; for everybody else what is about them or was done by them."""
        rows = self.for_tenant(viewer.tenant_id)
        if getattr(viewer, "is_tenant_admin", False):
            return rows
        if viewer.user_id is None:
            return rows.none()
        return rows.of_person(AuditPerson.objects.filter(tenant=viewer.tenant_id, user=viewer.user_id))

    def of_person(self, persons: "models.QuerySet[AuditPerson]") -> Self:
        """What these persons did, and what was done to what is theirs."""
        refs = persons.values("public_id")
        return self.filter(Q(actor_ref__in=refs) | Q(about_ref__in=refs))

    def update(self, **kwargs: Any) -> Never:
        raise AppendOnly("Audit entries are append only.")

    def delete(self) -> Never:
        raise AppendOnly("Audit entries are append only.")

    def bulk_create(self, *args: Any, **kwargs: Any) -> Never:
        raise AppendOnly("Audit entries are written one by one, by accounts.audit.")

    def bulk_update(self, *args: Any, **kwargs: Any) -> Never:
        raise AppendOnly("Audit entries are append only.")


class AuditEntry(TenantOwned):
    """
    Who did what to whose data. Append only, and each tenant's entries are a chain: see `accounts.audit`.

    No name, no address, nothing Ring calls a person or a device by: persons by `AuditPerson`, things by public id.
    """

    at = models.DateTimeField(default=timezone.now)
    actor_ref = models.UUIDField(
        null=True, help_text="Who did it; None: the portal itself, Ring or a program."
    )
    about_ref = models.UUIDField(null=True, db_index=True, help_text="Whose data it is about.")
    action = models.CharField(max_length=50)
    subject = models.CharField(max_length=100, help_text="What it was done to: kind and public id.")
    detail = models.JSONField(default=dict)
    # The place in the tenant's chain. None for the moment between being written and being chained.
    sequence = models.PositiveBigIntegerField(null=True, editable=False)
    previous_hash = models.CharField(max_length=64, blank=True, default="", editable=False)
    # Until it is chained: the seal it was written under, so that nobody slips an entry in or changes one that waits.
    hash = models.CharField(max_length=64, blank=True, default="", editable=False)
    # Its seal did not hold when it was to be chained: no longer in the way of those that came after it.
    is_set_aside = models.BooleanField(default=False, editable=False)

    objects = AuditQuerySet.as_manager()

    class Meta:
        ordering = ["-at", "-pk"]
        verbose_name_plural = "audit entries"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "sequence"], name="accounts_audit_sequence_once"),
            models.CheckConstraint(
                condition=Q(sequence__isnull=True) | (Q(sequence__gt=0) & ~Q(hash="")),
                name="accounts_audit_chained_has_hash",
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "-at"], name="accounts_audit_newest"),
            models.Index(
                fields=["tenant"],
                condition=Q(sequence__isnull=True, is_set_aside=False),
                name="accounts_audit_to_chain",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.subject}"

    @property
    def actor(self) -> Any:
        """The person who did it, while there is one to name; a query each time: lists use `accounts.activity`."""
        if self.actor_ref is None:
            return None
        persons = AuditPerson.objects.for_tenant(self.tenant_id).select_related("user")
        person = persons.filter(public_id=self.actor_ref).first()
        return person.user if person else None

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnly("Audit entries are append only.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> Never:
        raise AppendOnly("Audit entries are append only.")


class AuditHead(TenantOwned):
    """
    The end of a tenant's chain. Its row lock lets one writer at a time append.

    `seal` is keyed with SECRET_KEY: whoever can write the database but does not have the key can make a new chain,
    but no head that says it is the right one. An empty seal stays empty until staff have looked (`verify_audit`).
    """

    tenant = models.OneToOneField("accounts.Tenant", models.CASCADE, related_name="+")
    last = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64, blank=True, default="")
    seal = models.CharField(max_length=64, blank=True, default="")

    objects = TenantQuerySet["AuditHead"].as_manager()

    def __str__(self) -> str:
        return f"{self.last} {self.hash}"
