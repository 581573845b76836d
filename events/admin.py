"""Deliveries and events, for staff."""

import json
from itertools import groupby
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.safestring import SafeString

from accounts.models import User
from events import inspector
from events.models import (
    Delivery,
    Event,
    EventReview,
    HistoryReading,
    LastNotice,
    NotificationSettings,
    PushKey,
    PushSubscription,
    TenantPosition,
)
from portal.admin_base import StaffAdmin, preformatted
from portal.walls import tenant_scope


@admin.register(Delivery)
class DeliveryAdmin(StaffAdmin):
    """
    Signed webhook requests. What they say is for superusers: it tells of people's homes.

    Replayed as the tenant's own admins do, but with a reason, and the tenant's trail says that staff did it.
    """

    list_display = (
        "received_at",
        "tenant",
        "event_type",
        "verdict",
        "latency",
        "attempts",
        "last_error",
        "request_id",
        "replayed_at",
    )
    list_select_related = ("tenant", "event")
    list_filter = (
        "verdict",
        ("event__next_attempt_at", admin.EmptyFieldListFilter),
        ("event__last_error", admin.EmptyFieldListFilter),
        "tenant",
    )
    search_fields = ("=request_id", "=public_id", "=event_type", "tenant__slug")
    date_hierarchy = "received_at"
    hidden = ("device_ring_id",)
    extra = ("latency", "attempts", "last_error", "attempt_log")
    actions: ClassVar[tuple[str, ...]] = ("replay",)

    @admin.display(description="on its way")
    def latency(self, delivery: Delivery) -> str:
        took_ms = inspector.took_ms(delivery)
        return "" if took_ms is None else f"{took_ms} ms"

    @admin.display(description="attempts")
    def attempts(self, delivery: Delivery) -> int | None:
        event = inspector.event_of(delivery)
        return None if event is None else event.attempts

    @admin.display(description="last error")
    def last_error(self, delivery: Delivery) -> str:
        event = inspector.event_of(delivery)
        return "" if event is None else event.last_error

    @admin.display(description="each attempt")
    def attempt_log(self, delivery: Delivery) -> SafeString:
        event = inspector.event_of(delivery)
        return preformatted(json.dumps([] if event is None else event.attempt_log, indent=2))

    @admin.action(description="Replay…", permissions=["change"])
    def replay(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> HttpResponse | None:
        """Take the selected in once more: first what that would do, then, with a reason, do it."""
        assert isinstance(request.user, User)  # noqa: S101 - the site admits staff only
        rows = queryset.select_related("tenant", "event").order_by("tenant_id")
        chosen = list(rows[: inspector.AT_ONCE + 1])
        if len(chosen) > inspector.AT_ONCE:
            words = f"Choose {inspector.AT_ONCE} at most."
            self.message_user(request, words, messages.ERROR)
            return None
        reason, error = request.POST.get("reason", "").strip(), ""
        if request.POST.get("confirmed"):
            if reason:
                done: list[inspector.Replay] = []
                for tenant, theirs in groupby(chosen, key=lambda delivery: delivery.tenant):
                    with tenant_scope(tenant):
                        done += inspector.replay(
                            list(theirs),
                            tenant=tenant,
                            actor=request.user,
                            now=timezone.now(),
                            reason=reason[:200],
                        )
                told = ", ".join(f"{count} × {outcome}" for outcome, count in inspector.counts_of(done))
                self.message_user(request, f"Taken in again: {told}.", messages.SUCCESS)
                return None
            error = "Give the reason."
        context = {
            **self.admin_site.each_context(request),
            "title": "Replay deliveries",
            "chosen": chosen,
            "counts": inspector.counts_of(inspector.plan(chosen)),
            "reason": reason,
            "error": error,
        }
        return render(request, "admin/events/replay.html", context)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        fields: list[Any] = super().get_fields(request, obj)
        return [*fields, "body_text"] if request.user.is_superuser else fields

    @admin.display(description="body, as received")
    def body_text(self, delivery: Delivery) -> str:
        return preformatted(bytes(delivery.body).decode("utf-8", "backslashreplace"))


@admin.register(Event)
class EventAdmin(StaffAdmin):
    """Events in their order of arrival, and how far their effects are."""

    list_display = (
        "position",
        "tenant",
        "event_type",
        "sub_type",
        "device",
        "occurred_at",
        "provenance",
        "next_attempt_at",
        "last_error",
    )
    list_select_related = ("tenant", "device")
    list_filter = ("event_type", "provenance", ("next_attempt_at", admin.EmptyFieldListFilter), "tenant")
    search_fields = ("=request_id", "=public_id", "device__name", "tenant__slug")
    date_hierarchy = "occurred_at"


@admin.register(EventReview)
class EventReviewAdmin(StaffAdmin):
    """Who has reviewed which event."""

    list_display = ("event", "tenant", "membership", "reviewed_at")
    list_select_related = ("event", "tenant", "membership__user")
    list_filter = ("tenant",)
    search_fields = ("tenant__slug", "membership__user__email")


@admin.register(TenantPosition)
class TenantPositionAdmin(StaffAdmin):
    """The last position given out in each tenant."""

    list_display = ("tenant", "last", "revision")
    list_select_related = ("tenant",)
    search_fields = ("tenant__slug",)


@admin.register(HistoryReading)
class HistoryReadingAdmin(StaffAdmin):
    """How far Ring's own history has been compared with what webhooks told."""

    list_display = ("device", "tenant", "read_until", "next_attempt_at", "last_error")
    list_select_related = ("device", "tenant")
    list_filter = (("next_attempt_at", admin.EmptyFieldListFilter), "tenant")
    search_fields = ("device__name", "tenant__slug")


@admin.register(NotificationSettings)
class NotificationSettingsAdmin(StaffAdmin):
    """What members are notified of."""

    list_display = ("membership", "tenant", "cooldown_minutes", "snoozed_until")
    list_select_related = ("membership__user", "tenant")
    list_filter = ("tenant",)
    search_fields = ("membership__user__email", "tenant__slug")


@admin.register(PushSubscription)
class PushSubscriptionAdmin(StaffAdmin):
    """Browsers that are notified, and whether that worked."""

    list_display = ("name", "membership", "tenant", "created_at", "delivered_at", "last_error")
    list_select_related = ("membership__user", "tenant")
    list_filter = ("tenant",)
    search_fields = ("membership__user__email", "tenant__slug")


@admin.register(LastNotice)
class LastNoticeAdmin(StaffAdmin):
    """When members were last notified of a device."""

    list_display = ("membership", "device", "tenant", "noticed_at")
    list_select_related = ("membership__user", "device", "tenant")
    search_fields = ("membership__user__email", "tenant__slug")


@admin.register(PushKey)
class PushKeyAdmin(StaffAdmin):
    """The key that signs push messages: that there is one."""

    list_display = ("public_id",)
