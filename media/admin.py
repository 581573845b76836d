"""Live sessions, clips and pictures, for staff: what there is and how it went, never what is to be seen on them."""

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from accounts.models import User
from accounts.services import NotLinked
from media import services
from media.models import Clip, ClipRule, LiveSession, Picture, RelayNode, Screen
from portal.admin_base import StaffAdmin


@admin.register(LiveSession)
class LiveSessionAdmin(StaffAdmin):
    """Who watched what, what for, when, how long, and why it ended."""

    list_display = (
        "opened_at",
        "tenant",
        "device",
        "viewer",
        "api_token",
        "purpose",
        "ended_at",
        "end_reason",
    )
    list_select_related = ("tenant", "device", "viewer", "api_token")
    list_filter = ("end_reason", "purpose", ("ended_at", admin.EmptyFieldListFilter), "tenant")
    search_fields = ("device__name", "viewer__email", "tenant__slug")
    date_hierarchy = "opened_at"
    # It is part of the address that ends the session.
    hidden = ("public_id",)


@admin.register(RelayNode)
class RelayNodeAdmin(StaffAdmin):
    """Which relay nodes live, and with how much; a row that is older than three seconds is a node that died."""

    list_display = ("name", "started_at", "seen_at", "viewers", "sessions")
    search_fields = ("name",)
    date_hierarchy = "seen_at"
    ordering = ("-seen_at",)
    hidden = ("channel",)


@admin.register(Screen)
class ScreenAdmin(StaffAdmin):
    """Links that show live pictures without a sign-in: who made them, when they were used last, when they end."""

    list_display = ("name", "tenant", "membership", "created_at", "expires_at", "last_used_at", "revoked_at")
    list_select_related = ("tenant", "membership__user")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter), "tenant")
    search_fields = ("name", "membership__user__email", "tenant__slug")
    date_hierarchy = "created_at"
    hidden = ("sha256",)


@admin.register(Clip)
class ClipAdmin(StaffAdmin):
    """Clips: asked for, fetched, kept. The footage itself is its owner's."""

    list_display = ("public_id", "tenant", "device", "start", "duration_ms", "state", "size_bytes", "error")
    list_select_related = ("tenant", "device")
    list_filter = ("state", "error", ("rule", admin.EmptyFieldListFilter), "tenant")
    search_fields = ("=public_id", "device__name", "tenant__slug", "=sha256")
    date_hierarchy = "created_at"
    extra = ("is_stored",)
    actions: ClassVar[tuple[str, ...]] = ("ask_again",)

    @admin.display(boolean=True, description="file is stored")
    def is_stored(self, clip: Clip) -> bool:
        return bool(clip.file)

    @admin.action(description="Ask Ring again for the selected clips", permissions=["change"])
    def ask_again(self, request: HttpRequest, queryset: QuerySet[Clip]) -> None:
        assert isinstance(request.user, User)  # noqa: S101 - the site admits staff only
        asked = 0
        for clip in queryset.select_related("device__ring_account", "device__tenant", "event", "tenant"):
            try:
                services.ask_again(clip=clip, by=request.user, now=timezone.now())
            except (services.ClipRefused, NotLinked) as refused:
                self.message_user(request, f"{clip}: {refused}", messages.WARNING)
            else:
                asked += 1
        self.message_user(request, f"Asked again for {asked} clips.", messages.SUCCESS)


@admin.register(ClipRule)
class ClipRuleAdmin(StaffAdmin):
    """What tenants keep without anybody asking; made and changed on the tenant's pages."""

    list_display = (
        "name",
        "tenant",
        "all_devices",
        "before_s",
        "after_s",
        "daily_limit",
        "is_enabled",
        "created_at",
    )
    list_select_related = ("tenant",)
    list_filter = ("is_enabled", "tenant")
    search_fields = ("name", "=public_id", "tenant__slug")
    date_hierarchy = "created_at"


@admin.register(Picture)
class PictureAdmin(StaffAdmin):
    """Stills beside events; never shown here."""

    list_display = ("public_id", "tenant", "device", "asked_at", "state", "taken_at", "error")
    list_select_related = ("tenant", "device")
    list_filter = ("state", "error", "tenant")
    search_fields = ("=public_id", "device__name", "tenant__slug")
    date_hierarchy = "asked_at"
    extra = ("is_stored",)

    @admin.display(boolean=True, description="file is stored")
    def is_stored(self, picture: Any) -> bool:
        return bool(picture.file)
