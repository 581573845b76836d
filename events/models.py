"""Signed webhook deliveries as received, and the durable, ordered events they tell of."""

import uuid
from typing import Self

from django.db import models
from django.db.models import Q

from devices.grants import Capability, OfDeviceQuerySet
from portal.fields import EncryptedTextField
from portal.tenancy import TenantOwned, TenantQuerySet, Viewer
from portal.work import Work


class DeliveryQuerySet(TenantQuerySet):
    """Deliveries face the tenant's staff only (the kernel's rule)."""


class Delivery(TenantOwned):
    """One webhook request that carried a good signature, byte for byte. Nothing is stored for an unsigned one."""

    class Verdict(models.TextChoices):
        RECORDED = "recorded"  # became an event
        MERGED = "merged"  # came late: its event was known from Ring's history, and has got its details now
        DUPLICATE = "duplicate"  # its request id, or its event, was there already
        MALFORMED = "malformed"  # good signature, unreadable body: answered 400
        ERASED = "erased"  # of somebody whose data was deleted: nothing of it is kept

    # Every index costs each webhook: a column that begins another index has none of its own.
    tenant = models.ForeignKey("accounts.Tenant", models.CASCADE, related_name="+", db_index=False)
    received_at = models.DateTimeField(db_index=True)
    request_id = models.CharField(max_length=255, blank=True, default="")
    body = models.BinaryField()
    verdict = models.CharField(max_length=10, choices=Verdict)
    reason = models.CharField(max_length=255, blank=True, default="")
    # What it told, for the inspector's filters: a duplicate has no event that says it.
    event_type = models.CharField(max_length=255, blank=True, default="", help_text="As Ring spells it.")
    device_ring_id = models.CharField(max_length=255, blank=True, default="")
    # Its last replay; `replay_batch` names all that were taken in again by the same action, and the trail's entry of it.
    replayed_at = models.DateTimeField(null=True, blank=True)
    replayed_by = models.ForeignKey(
        "accounts.User", models.SET_NULL, null=True, blank=True, related_name="+", db_index=False
    )
    replay_batch = models.UUIDField(null=True, blank=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        ordering = ["-received_at", "-pk"]
        verbose_name_plural = "deliveries"
        indexes = [
            models.Index(fields=["tenant", "-received_at", "-id"]),
            # For the end of a person's account only; a webhook never pays for it.
            models.Index(
                fields=["replayed_by"],
                condition=Q(replayed_by__isnull=False),
                name="events_delivery_replayed_by",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.verdict} {self.request_id or self.public_id}"


class EventQuerySet(OfDeviceQuerySet):
    """Events of one's own Ring accounts, and of devices whose events one may see; a test of ours is the staff's alone."""

    needs = Capability.EVENTS
    account = "ring_account"

    def permitted_to(self, viewer: Viewer, capability: Capability | None) -> Self:
        events = super().permitted_to(viewer, capability)
        return events if viewer.sees_whole_tenant else events.exclude(provenance=Event.Provenance.TEST)

    def after(self, position: int) -> Self:
        """Later arrivals than `position`, in order of arrival."""
        return self.filter(position__gt=position).order_by("position")


class Event(TenantOwned, Work):
    """
    One thing that happened, once per request id. `position` grows by one in its tenant's order of arrival.

    One that no webhook told, but Ring's history did (`events.history`), has a request id of our own until its webhook
    comes late, if ever.

    `attempts`/`next_attempt_at` belong to its effects (device state, removal, cleanup): see `events.effects`.
    `attempt_log` tells of each of them (`events.attempts`).
    """

    work_columns = (*Work.work_columns, "attempt_log")

    class Provenance(models.TextChoices):
        WEBHOOK = "webhook"
        HISTORY = "history"
        REPLAY = "replay"  # a delivery that could not be read when it came
        TEST = "test", "A test of ours"

    tenant = models.ForeignKey("accounts.Tenant", models.CASCADE, related_name="+", db_index=False)
    delivery = models.OneToOneField(Delivery, models.SET_NULL, null=True, blank=True, related_name="event")
    request_id = models.CharField(max_length=255)
    position = models.PositiveBigIntegerField()
    provenance = models.CharField(max_length=10, choices=Provenance, default=Provenance.WEBHOOK)
    event_type = models.CharField(max_length=255, help_text="As Ring spells it.")
    sub_type = models.CharField(max_length=255, blank=True, default="")
    ring_event_id = models.CharField(max_length=512, blank=True, default="", help_text="data.id, opaque.")
    # Ring's other id of it, in the device's history; set once a reading of the history has met the event (contract 8).
    history_id = models.CharField(max_length=512, blank=True, default="")
    account_ring_id = models.CharField(max_length=255, blank=True, default="")
    device_ring_id = models.CharField(max_length=255, blank=True, default="")
    component_ids = models.JSONField(default=list)
    # Attached when known: an event may come before its account is linked or its device is synced.
    ring_account = models.ForeignKey(
        "accounts.RingAccount", models.SET_NULL, null=True, blank=True, related_name="events"
    )
    device = models.ForeignKey(
        "devices.Device", models.SET_NULL, null=True, blank=True, related_name="events", db_index=False
    )
    occurred_at = models.DateTimeField(
        help_text="Ring's time of the event; its arrival where Ring told none."
    )
    received_at = models.DateTimeField()
    attributes = models.JSONField(default=dict)
    attempt_log = models.JSONField(default=list, editable=False)

    objects = EventQuerySet.as_manager()

    class Meta:
        ordering = ["-position"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "request_id"], name="events_event_once_per_request"),
            models.UniqueConstraint(fields=["tenant", "position"], name="events_event_position_once"),
            models.UniqueConstraint(
                fields=["tenant", "account_ring_id", "ring_event_id"],
                # Device events only: nothing says that the id of a subscription event is used once (contract 9.2).
                condition=~Q(account_ring_id="") & ~Q(device_ring_id="") & ~Q(ring_event_id=""),
                name="events_event_once_per_ring_event",
            ),
            models.UniqueConstraint(
                fields=["tenant", "history_id"],
                condition=~Q(history_id=""),
                name="events_event_once_per_history_entry",
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "-occurred_at"]),
            models.Index(fields=["device", "-occurred_at"]),
            models.Index(fields=["tenant", "account_ring_id"]),
            models.Index(
                fields=["tenant", "device_ring_id"],
                condition=Q(device__isnull=True) & ~Q(device_ring_id=""),
                name="events_event_without_device",
            ),
            models.Index(
                fields=["tenant", "device_ring_id", "occurred_at"],
                condition=Q(provenance="history", delivery__isnull=True),
                name="events_event_without_webhook",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} #{self.position}"

    @property
    def is_test(self) -> bool:
        """Sent by the portal itself to try the way in: labelled as such, without effect, unseen by customers."""
        return self.provenance == self.Provenance.TEST

    @property
    def awaits_picture(self) -> bool:
        """Whether its picture may still come: it is being fetched, or the effects that ask for it are to be run."""
        work: Work = getattr(self, "picture", None) or self
        return work.next_attempt_at is not None


class EventReview(TenantOwned):
    """Somebody has reviewed an event, for themselves. `batch`: the action that marked it. Only `events.reviews` writes it."""

    event = models.ForeignKey(Event, models.CASCADE, related_name="reviews", db_index=False)
    membership = models.ForeignKey(
        "accounts.Membership", models.CASCADE, related_name="event_reviews", db_index=False
    )
    reviewed_at = models.DateTimeField()
    batch = models.UUIDField()

    objects = TenantQuerySet["EventReview"].as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["event", "membership"], name="events_review_once_per_person"),
        ]
        indexes = [models.Index(fields=["membership", "batch"], name="events_review_of_person")]

    def __str__(self) -> str:
        return f"review of {self.event}"


class HistoryReading(TenantOwned, Work):
    """How far one device's history has been read back, and when that is due again (`events.history`)."""

    device = models.OneToOneField("devices.Device", models.CASCADE, related_name="history_reading")
    # Everything Ring knew up to this moment has been compared with what webhooks told. None: never read.
    read_until = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet.as_manager()

    def __str__(self) -> str:
        return f"history of {self.device}"


class TenantPosition(models.Model):
    """
    The last position given out in a tenant. Its row lock makes positions visible in order.

    `revision` grows when rows that are older than `last` became visible to somebody: open pages look again.
    `expired` is the greatest position that retention has deleted: whoever asks for what came after a smaller one is
    told that some of it is gone.
    """

    tenant = models.OneToOneField("accounts.Tenant", models.CASCADE, primary_key=True, related_name="+")
    last = models.PositiveBigIntegerField(default=0)
    revision = models.PositiveBigIntegerField(default=0)
    alerted_at = models.DateTimeField(
        null=True, blank=True, help_text="When its people were last told that effects were given up."
    )
    expired = models.PositiveBigIntegerField(default=0)

    objects = TenantQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.tenant_id}: {self.last}"


class PushKey(models.Model):
    """The installation's key that signs push messages, made when it is first needed. Browsers are bound to it."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    key = EncryptedTextField()
    is_only = models.BooleanField(default=True, unique=True, editable=False)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(is_only=True), name="events_push_key_only_one")]

    def __str__(self) -> str:
        return "push key"


class OwnNotificationsQuerySet(TenantQuerySet):
    """What a person has set for themselves faces nobody else, not the tenant's staff either."""

    def visible_to(self, viewer: Viewer) -> Self:
        return self.filter(tenant_id=viewer.tenant_id, membership__user_id=viewer.user_id)


class NotificationSettings(TenantOwned):
    """What a member is notified of, and how often. No row: everything, a device at most every five minutes."""

    class Cooldown(models.IntegerChoices):
        NONE = 0, "every time"
        MINUTE = 1, "at most once a minute"
        FIVE = 5, "at most every 5 minutes"
        QUARTER = 15, "at most every 15 minutes"
        HOUR = 60, "at most once an hour"

    membership = models.OneToOneField(
        "accounts.Membership", models.CASCADE, related_name="notification_settings"
    )
    muted_kinds = models.JSONField(default=list, help_text="Filters of the events page, by key.")
    muted_devices = models.JSONField(default=list, help_text="Devices, by public id.")
    cooldown_minutes = models.PositiveSmallIntegerField(choices=Cooldown, default=Cooldown.FIVE)
    snoozed_until = models.DateTimeField(null=True, blank=True)

    objects = OwnNotificationsQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "notification settings"

    def __str__(self) -> str:
        return f"notifications of {self.membership}"


class PushSubscription(TenantOwned):
    """A browser of a member that is told of events while the portal is closed."""

    membership = models.ForeignKey("accounts.Membership", models.CASCADE, related_name="push_subscriptions")
    # The address is a key to the browser: encrypted with the rest, and recognised by its digest.
    endpoint_digest = models.CharField(max_length=64, editable=False)
    subscription = EncryptedTextField()
    name = models.CharField(max_length=100, help_text="Browser and system, as it says itself.")
    created_at = models.DateTimeField()
    delivered_at = models.DateTimeField(null=True, blank=True)
    last_error = models.CharField(max_length=255, blank=True, default="")

    objects = OwnNotificationsQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "endpoint_digest"], name="events_push_subscription_once_per_tenant"
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.membership}"


class LastNotice(TenantOwned):
    """When a member was last notified of a device: the pause between two notices is counted from here."""

    membership = models.ForeignKey("accounts.Membership", models.CASCADE, related_name="+")
    device = models.ForeignKey("devices.Device", models.CASCADE, related_name="+")
    noticed_at = models.DateTimeField()

    objects = OwnNotificationsQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["membership", "device"], name="events_last_notice_once_per_device"
            )
        ]

    def __str__(self) -> str:
        return f"{self.membership} of {self.device}"
