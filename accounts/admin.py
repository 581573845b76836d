"""Tenants, people, credentials, Ring accounts and the audit trail, for staff. Secrets go in and never come out."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from unfold.widgets import UnfoldAdminPasswordWidget

from accounts import erasure, personal_data
from accounts.audit import audit
from accounts.models import (
    ApiToken,
    AuditEntry,
    AuditHead,
    AuditPerson,
    DataExport,
    ErasedRingId,
    Erasure,
    Invitation,
    Membership,
    RelinkNotice,
    RingAccount,
    RingApp,
    Tenant,
    User,
)
from accounts.personal_data import Scope
from accounts.ring_app import set_ring_app
from portal.admin_base import StaffAdmin, is_set


@admin.register(Tenant)
class TenantAdmin(StaffAdmin):
    """Made by `create_tenant`; the slug stays, for it is in every address registered at Ring."""

    list_display = ("name", "slug", "created_at")
    search_fields = ("name", "slug", "=public_id")
    date_hierarchy = "created_at"
    changeable = ("name", "accent", "support_email", "privacy_url", "terms_url", "on_unlink")
    actions: ClassVar[tuple[str, ...]] = ("delete_company", "keep_company")

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        assert isinstance(request.user, User)  # noqa: S101 - the site admits staff only
        super().save_model(request, obj, form, change)
        if form.changed_data:
            audit(
                tenant=obj,
                actor=request.user,
                action="tenant.changed",
                subject=f"tenant {obj.public_id}",
                fields=form.changed_data,
                by_staff=True,
            )

    @admin.action(description="Delete the company…", permissions=["change"])
    def delete_company(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> HttpResponse | None:
        """One company, with a reason and its slug typed; the grace and the mails are those of an owner's own wish."""
        assert isinstance(request.user, User)  # noqa: S101 - the site admits staff only
        company = queryset.first()
        if company is None or queryset.count() != 1:
            self.message_user(request, "Choose one company.", messages.ERROR)
            return None
        reason, error = request.POST.get("reason", "").strip(), ""
        if request.POST.get("confirmed"):
            if not reason:
                error = "Give the reason."
            elif request.POST.get("typed", "").strip() != company.slug:
                error = "That is not the slug. Nothing was deleted."
            else:
                try:
                    erasure.erase_tenant(
                        tenant=company, actor=request.user, now=timezone.now(), by_staff=True, reason=reason
                    )
                except erasure.UnderWay:
                    self.message_user(request, "It is planned already.", messages.WARNING)
                else:
                    days = erasure.GRACE.days
                    self.message_user(request, f"{company} is deleted in {days} days.", messages.SUCCESS)
                return None
        scope = Scope(company, None)
        counts = [count for part in personal_data.parts() for count in part.counts(scope).items()]
        context = {
            **self.admin_site.each_context(request),
            "title": "Delete a company",
            "company": company,
            "counts": counts,
            "reason": reason,
            "error": error,
            "grace_days": erasure.GRACE.days,
        }
        return render(request, "admin/accounts/delete_company.html", context)

    @admin.action(description="Keep the company after all", permissions=["change"])
    def keep_company(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        assert isinstance(request.user, User)  # noqa: S101 - the site admits staff only
        kept = sum(erasure.keep_tenant(tenant=company, actor=request.user) for company in queryset)
        words = f"{kept} {'company stays' if kept == 1 else 'companies stay'}."
        self.message_user(request, words, messages.SUCCESS if kept else messages.WARNING)


@admin.register(User)
class UserAdmin(StaffAdmin):
    """People. Who is staff is a superuser's to say; passwords are changed by their owners only."""

    list_display = ("email", "first_name", "last_name", "is_active", "is_staff", "last_login", "date_joined")
    list_filter = ("is_active", "is_staff", "is_superuser")
    search_fields = ("email", "first_name", "last_name")
    date_hierarchy = "date_joined"
    ordering = ("email",)
    hidden = ("password",)
    changeable = ("is_active", "is_staff", "is_superuser")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser and bool(super().has_change_permission(request, obj))

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        assert isinstance(request.user, User)  # noqa: S101 - the site admits staff only
        super().save_model(request, obj, form, change)
        for membership in Membership.objects.filter(user=obj).select_related("tenant"):
            audit(
                tenant=membership.tenant,
                actor=request.user,
                action="staff.person_changed",
                subject=f"membership {membership.public_id}",
                about_person=obj,
                fields=form.changed_data,
            )


@admin.register(Membership)
class MembershipAdmin(StaffAdmin):
    """Who belongs where; changed on the tenant's people page or by `add_member`."""

    list_display = ("user", "tenant", "role", "is_limited", "created_at")
    list_select_related = ("user", "tenant")
    list_filter = ("role", "is_limited", "tenant")
    search_fields = ("user__email", "tenant__slug")
    date_hierarchy = "created_at"


@admin.register(Invitation)
class InvitationAdmin(StaffAdmin):
    """Who was asked to join, and what became of it. Sent and withdrawn on the tenant's people page."""

    list_display = (
        "email",
        "tenant",
        "role",
        "created_by",
        "sent_at",
        "expires_at",
        "accepted_at",
        "revoked_at",
    )
    list_select_related = ("tenant", "created_by")
    list_filter = ("role", ("accepted_at", admin.EmptyFieldListFilter), "tenant")
    search_fields = ("email", "=public_id", "tenant__slug")
    date_hierarchy = "created_at"
    hidden = ("sha256",)


class RingAppForm(forms.ModelForm[RingApp]):
    """Secret and key are written only: an empty field keeps what is there."""

    new_secret = forms.CharField(
        required=False,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="Empty: the secret stays as it is.",
    )
    new_key = forms.CharField(
        required=False,
        label="New signing key",
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="Empty: the key stays as it is. The key before a new one still verifies.",
    )

    class Meta:
        model = RingApp
        fields = ("client_id",)


@admin.register(RingApp)
class RingAppAdmin(StaffAdmin):
    """A tenant's Ring credentials: shown as set or not set, replaced by typing new ones."""

    form = RingAppForm
    list_display = ("client_id", "tenant", "secret", "key", "previous_key", "updated_at")
    list_select_related = ("tenant",)
    search_fields = ("client_id", "tenant__slug", "tenant__name")
    date_hierarchy = "updated_at"
    changeable = ("client_id", "new_secret", "new_key")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        shown = [
            "tenant",
            "client_id",
            "secret",
            "key",
            "previous_key",
            "updated_at",
            "accepted_at",
            "refused_at",
        ]
        return [*shown, "new_secret", "new_key"] if self.has_change_permission(request, obj) else shown

    @admin.display(boolean=True, description="secret set")
    def secret(self, app: RingApp) -> bool:
        return is_set(app, "client_secret")

    @admin.display(boolean=True, description="signing key set")
    def key(self, app: RingApp) -> bool:
        return is_set(app, "signing_key")

    @admin.display(boolean=True, description="previous key set")
    def previous_key(self, app: RingApp) -> bool:
        return is_set(app, "previous_signing_key")

    def save_model(self, request: HttpRequest, obj: RingApp, form: Any, change: bool) -> None:
        assert isinstance(request.user, User)  # noqa: S101 - the site admits staff only
        set_ring_app(
            tenant=obj.tenant,
            client_id=form.cleaned_data["client_id"],
            client_secret=form.cleaned_data["new_secret"],
            signing_key=form.cleaned_data["new_key"],
            actor=request.user,
        )


@admin.register(RingAccount)
class RingAccountAdmin(StaffAdmin):
    """Linked Ring accounts and where their links stand; tokens, nonce and e-mail address are not shown."""

    list_display = (
        "public_id",
        "tenant",
        "user",
        "state",
        "has_tokens",
        "linked_at",
        "synced_at",
        "last_error",
    )
    list_select_related = ("tenant", "user")
    list_filter = ("state", "tenant")
    search_fields = ("=public_id", "=ring_id", "user__email", "tenant__slug")
    date_hierarchy = "received_at"
    extra = ("has_tokens",)

    @admin.display(boolean=True, description="has tokens")
    def has_tokens(self, account: RingAccount) -> bool:
        return is_set(account, "access_token")


@admin.register(RelinkNotice)
class RelinkNoticeAdmin(StaffAdmin):
    """Who was told to link again, and how often."""

    list_display = ("ring_account", "tenant", "required_since", "sent", "last_sent_at", "next_attempt_at")
    list_select_related = ("ring_account", "tenant")
    list_filter = ("tenant",)
    search_fields = ("ring_account__user__email", "tenant__slug")
    date_hierarchy = "required_since"


@admin.register(ApiToken)
class ApiTokenAdmin(StaffAdmin):
    """Programs' tokens, by their first letters; revoked here, made by `create_api_token`."""

    list_display = (
        "name",
        "tenant",
        "hint",
        "scopes",
        "created_at",
        "expires_at",
        "last_used_at",
        "revoked_at",
    )
    list_select_related = ("tenant",)
    list_filter = ("tenant", ("revoked_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "hint", "tenant__slug")
    date_hierarchy = "created_at"
    hidden = ("sha256",)
    actions: ClassVar[tuple[str, ...]] = ("revoke",)

    @admin.action(description="Revoke the selected tokens", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        assert isinstance(request.user, User)  # noqa: S101 - the site admits staff only
        count = 0
        for token in queryset.filter(revoked_at=None).select_related("tenant"):
            token.revoked_at = timezone.now()
            token.save(update_fields=["revoked_at"])
            subject = f"api_token {token.public_id}"
            audit(tenant=token.tenant, actor=request.user, action="api_token.revoked", subject=subject)
            count += 1
        self.message_user(
            request, f"Revoked {count} tokens. Programs that use them get 401 from now on.", messages.SUCCESS
        )


@admin.register(AuditEntry)
class AuditEntryAdmin(StaffAdmin):
    """Who did what to whose data. Append only; `verify_audit` checks the chain."""

    list_display = ("at", "tenant", "sequence", "person", "action", "subject")
    list_select_related = ("tenant",)
    list_filter = ("action", "tenant")
    search_fields = ("subject", "action", "=actor_ref", "=about_ref", "tenant__slug")
    date_hierarchy = "at"
    extra = ("person",)

    @admin.display(description="who")
    def person(self, entry: AuditEntry) -> str:
        if entry.actor_ref is None:
            return "the portal, Ring or a program"
        return getattr(entry, "actor_email", None) or "somebody whose data was deleted"

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEntry]:
        named = AuditPerson.objects.filter(tenant=OuterRef("tenant"), public_id=OuterRef("actor_ref"))
        rows: QuerySet[AuditEntry] = super().get_queryset(request)
        return rows.annotate(actor_email=Subquery(named.values("user__email")[:1]))


@admin.register(AuditPerson)
class AuditPersonAdmin(StaffAdmin):
    """Who is who in the trails. Erasing a person deletes their row; the trail stays, and names nobody."""

    list_display = ("public_id", "user", "tenant")
    list_select_related = ("user", "tenant")
    search_fields = ("=public_id", "user__email", "tenant__slug")


@admin.register(AuditHead)
class AuditHeadAdmin(StaffAdmin):
    """The end of each tenant's chain; `verify_audit` says whether it is whole."""

    list_display = ("tenant", "last", "hash")
    list_select_related = ("tenant",)
    search_fields = ("tenant__slug",)
    hidden = ("seal",)


@admin.register(DataExport)
class DataExportAdmin(StaffAdmin):
    """Copies of data people asked for. Nobody but the person downloads one."""

    list_display = ("public_id", "tenant", "user", "kind", "state", "size_bytes", "asked_at", "expires_at")
    list_select_related = ("tenant", "user")
    list_filter = ("kind", "state", "tenant")
    search_fields = ("=public_id", "tenant__slug")
    date_hierarchy = "asked_at"


@admin.register(Erasure)
class ErasureAdmin(StaffAdmin):
    """What is being deleted, and the receipts of what was: those name nobody."""

    list_display = (
        "public_id",
        "kind",
        "company",
        "asked_at",
        "next_attempt_at",
        "finished_at",
        "has_stopped",
        "last_error",
    )
    list_select_related = ("company",)
    list_filter = (
        "kind",
        "by_staff",
        ("finished_at", admin.EmptyFieldListFilter),
        ("next_attempt_at", admin.EmptyFieldListFilter),
    )
    search_fields = ("=public_id", "=company_ref", "=sha256")
    date_hierarchy = "asked_at"
    actions: ClassVar[tuple[str, ...]] = ("start_again",)

    @admin.display(boolean=True, description="given up")
    def has_stopped(self, row: Erasure) -> bool:
        return row.has_stopped

    @admin.action(
        description="Start the selected ones again, where they were given up", permissions=["change"]
    )
    def start_again(self, request: HttpRequest, queryset: QuerySet[Erasure]) -> None:
        assert isinstance(request.user, User)  # noqa: S101 - the site admits staff only
        now = timezone.now()
        started = sum(erasure.start_again(erasure=row, actor=request.user, now=now) for row in queryset)
        self.message_user(request, f"Started {started} again.", messages.SUCCESS)


@admin.register(ErasedRingId)
class ErasedRingIdAdmin(StaffAdmin):
    """Keyed hashes of Ring's ids whose webhooks are not stored any more."""

    list_display = ("tenant", "digest", "erased_at")
    list_select_related = ("tenant",)
    search_fields = ("tenant__slug",)
    date_hierarchy = "erased_at"


@admin.register(EmailAddress)
class EmailAddressAdmin(StaffAdmin):
    """People's addresses, and which they have proved to be theirs."""

    list_display = ("email", "user", "verified", "primary")
    list_select_related = ("user",)
    list_filter = ("verified", "primary")
    search_fields = ("email", "user__email")


@admin.register(Authenticator)
class AuthenticatorAdmin(StaffAdmin):
    """Passkeys and second factors: which kind, since when; not what they hold."""

    list_display = ("user", "type", "created_at", "last_used_at")
    list_select_related = ("user",)
    list_filter = ("type",)
    search_fields = ("user__email",)
    date_hierarchy = "created_at"
    hidden = ("data",)


@admin.register(UserSession)
class UserSessionAdmin(StaffAdmin):
    """Where people are signed in; the session's key is not shown."""

    list_display = ("user", "ip", "created_at", "last_seen_at")
    list_select_related = ("user",)
    search_fields = ("user__email", "ip")
    date_hierarchy = "created_at"
    hidden = ("session_key", "data")
