"""Deliveries and events, for staff."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

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


@admin.register(Delivery)
class DeliveryAdmin(StaffAdmin):
    """Signed webhook requests. What they say is for superusers: it tells of people's homes."""

    list_display = ("received_at", "tenant", "verdict", "request_id", "reason")
    list_select_related = ("tenant",)
    list_filter = ("verdict", "tenant")
    search_fields = ("=request_id", "=public_id", "tenant__slug")
    date_hierarchy = "received_at"

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
