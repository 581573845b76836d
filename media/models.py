"""Live sessions, screens, clips and still pictures of devices."""

import hashlib
import secrets
from datetime import datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Self

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from devices.grants import Capability, OfDeviceQuerySet, permitted
from portal.fields import EncryptedTextField
from portal.tenancy import TenantOwned, TenantQuerySet, Viewer
from portal.work import Work

if TYPE_CHECKING:
    from devices.models import Device

MAX_CLIP_MS = 900_000  # contract 11.3


class ClipQuerySet(OfDeviceQuerySet):
    """Clips of devices whose clips one may see."""

    needs = Capability.CLIPS


class PictureQuerySet(OfDeviceQuerySet):
    """A picture tells what happened, as its event does."""

    needs = Capability.EVENTS


class LiveSessionQuerySet(OfDeviceQuerySet):
    """
    Who watched: for whoever manages the device; of the devices one sees, also one's own.

    The relay's own sessions at Ring are nobody's viewing.
    """

    needs = Capability.MANAGE

    def visible_to(self, viewer: Viewer) -> Self:
        rows = self.for_tenant(viewer.tenant_id).viewings()
        if viewer.sees_whole_tenant:
            return rows
        own = Q(viewer=viewer.user_id, viewer__isnull=False) & permitted(viewer)
        return rows.filter(permitted(viewer, self.needs) | own)

    def viewings(self) -> Self:
        """Somebody's; not the relay's own sessions at Ring."""
        return self.exclude(kind=LiveSession.Kind.UPSTREAM)

    def open(self) -> Self:
        return self.filter(ended_at__isnull=True)

    def of(self, device: "Device") -> Self:
        """Who watched this device, newest first, with the names loaded; not whoever asked and saw nothing."""
        return (
            self.viewings()
            .filter(device=device)
            .exclude(end_reason=LiveSession.EndReason.FAILED)
            .select_related("viewer", "api_token", "screen")
            .order_by("-opened_at", "-pk")
        )


class ScreenQuerySet(TenantQuerySet["Screen"]):
    """Screens: for whoever made them; for the tenant's team, all."""

    def visible_to(self, viewer: Viewer) -> Self:
        rows = self.for_tenant(viewer.tenant_id)
        return rows if viewer.sees_whole_tenant else rows.filter(membership__user=viewer.user_id)

    def usable(self, now: datetime) -> Self:
        return self.filter(expires_at__gt=now, revoked_at__isnull=True)


class Screen(TenantOwned):
    """
    A link that shows the wall of some cameras, live and nothing else, on a screen where nobody signs in.

    Only the token's SHA-256 is kept; the link is shown once. It shows no more than its maker may still give away
    (media/screens.py), and ends with them.
    """

    PREFIX = "pps_"  # scannable, so that a leaked one is found by secret scanners

    name = models.CharField(max_length=100)
    membership = models.ForeignKey("accounts.Membership", models.CASCADE, related_name="+")
    devices: models.ManyToManyField["Device", models.Model] = models.ManyToManyField(
        "devices.Device", related_name="+"
    )
    sha256 = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = ScreenQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def new_token(cls) -> str:
        return cls.PREFIX + secrets.token_urlsafe(32)

    @staticmethod
    def digest(token: str) -> str:
        return hashlib.sha256(token.encode()).hexdigest()


class Purpose(models.TextChoices):
    """What somebody watches for who has the camera by their work, as they say themselves."""

    EVENT = "event", "An event or an alarm"
    SUPPORT = "support", "The customer asked for help"
    CHECK = "check", "To see that the camera works"
    OTHER = "other", "Something else"


class LiveSession(TenantOwned, Work):
    """
    Who watched what, what for, when, how long, and why it ended: a lease on one session at Ring.

    Three kinds: a viewer's own session at Ring (direct), a viewer of the relay, who has none, and the relay's own session
    at Ring, which has no viewer (docs/live-view.md).

    `public_id` is the unguessable part of our session URL. `next_attempt_at` is when the sweep must end it at Ring:
    the session cap while somebody watches directly, a few seconds after the last sign of life of the process that relays,
    at once when ending it failed. None once Ring has been told.
    """

    class Kind(models.TextChoices):
        DIRECT = "direct", "Direct from Ring"
        RELAYED = "relayed", "Through the relay"
        UPSTREAM = "upstream", "The relay's own session at Ring"

    class EndReason(models.TextChoices):
        CLOSED = "closed", "The viewer closed it"
        CAP = "cap", "Ring's time limit"
        UNLINKED = "unlinked", "The Ring account was unlinked"
        REMOVED = "removed", "The device was removed"
        OFFLINE = "offline", "The device went offline"
        PLAN = "plan_ended", "The plan for the camera ended"
        PRIVACY = "privacy", "The camera has privacy zones now"
        ACCESS = "access", "The viewer may not watch any more"
        BUDGET = "budget", "The camera's battery was used enough for a day"
        LOST = "lost", "The viewer went away"
        SILENT = "silent", "The camera sent no picture any more"
        RELAY = "relay", "The relay was stopped"
        FAILED = "failed", "It never began"

    kind = models.CharField(max_length=8, choices=Kind, default=Kind.DIRECT)
    device = models.ForeignKey("devices.Device", models.CASCADE, related_name="live_sessions")
    component_id = models.CharField(max_length=64, blank=True, default="")
    viewer = models.ForeignKey("accounts.User", models.SET_NULL, null=True, blank=True, related_name="+")
    api_token = models.ForeignKey(
        "accounts.ApiToken", models.SET_NULL, null=True, blank=True, related_name="+"
    )
    screen = models.ForeignKey(Screen, models.SET_NULL, null=True, blank=True, related_name="+")
    # The sign-in the viewer watches by: when it ends, so does the session (media/watchers.py). As good as the cookie.
    session_key = EncryptedTextField(blank=True, default="")
    # What whoever asked calls it, before our answer tells them our name for it.
    asked_as = models.UUIDField(null=True, blank=True, db_index=True, editable=False)
    upstream_url = EncryptedTextField(blank=True, default="")
    # The relay node that has it; empty: a web process. Whoever relays touches only the rows of its own name.
    relay_node = models.CharField(max_length=64, blank=True, default="", editable=False)
    opened_at = models.DateTimeField()
    # When it is over by itself, counted from `opened_at`: Ring's cap, or how long the viewer chose to keep watching.
    cap_s = models.PositiveIntegerField()
    # What it was for, as the viewer said; the camera's owner reads it.
    purpose = models.CharField(max_length=8, choices=Purpose, blank=True, default="")
    ended_at = models.DateTimeField(null=True, blank=True)
    end_reason = models.CharField(max_length=10, choices=EndReason, blank=True, default="")

    objects = LiveSessionQuerySet.as_manager()

    class Meta:
        ordering = ["-opened_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True, end_reason="")
                | (Q(ended_at__isnull=False) & ~Q(end_reason="")),
                name="media_live_session_end_has_reason",
            ),
            models.CheckConstraint(
                condition=Q(purpose__in=["", *Purpose.values]), name="media_live_session_purpose_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.device} {self.opened_at:%Y-%m-%d %H:%M:%S}"


class RelayNode(models.Model):
    """
    A process that passes live pictures on (`manage.py relay`), stamped every second while it lives.

    It serves the whole installation, and belongs to no tenant.
    """

    name = models.CharField(max_length=64, unique=True)
    channel = models.CharField(max_length=100, editable=False)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    viewers = models.PositiveIntegerField(default=0)
    sessions = models.PositiveIntegerField(default=0, help_text="Sessions at Ring.")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class FetchState(models.TextChoices):
    """Where a clip or a picture stands between being asked for and being here."""

    QUEUED = "queued", "Waiting"
    FETCHING = "fetching", "Fetching"
    READY = "ready", "Ready"
    UNAVAILABLE = "unavailable", "Not available"  # Ring has nothing to give: asking again will not help
    FAILED = "failed", "Failed"  # gave up; may be asked again


def clip_path(clip: "Clip", filename: str) -> str:
    return str(
        PurePosixPath(
            "clips", str(clip.tenant.public_id), f"{clip.public_id}{PurePosixPath(filename).suffix}"
        )
    )


def picture_path(picture: "Picture", filename: str) -> str:
    suffix = PurePosixPath(filename).suffix
    return str(PurePosixPath("pictures", str(picture.tenant.public_id), f"{picture.public_id}{suffix}"))


class ClipRule(TenantOwned):
    """
    Footage that a tenant keeps without anybody asking: of these kinds of events, of these cameras (media/rules.py).

    `kinds` are keys of `events.words.FILTERS`. A rule of chosen devices that have all gone keeps nothing.
    """

    MAX_BEFORE_S = 60
    MAX_AFTER_S = 300

    name = models.CharField(max_length=100)
    kinds = models.JSONField(default=list)
    all_devices = models.BooleanField(default=True)
    devices: models.ManyToManyField["Device", models.Model] = models.ManyToManyField(
        "devices.Device", related_name="+", blank=True
    )
    before_s = models.PositiveSmallIntegerField(default=5)
    after_s = models.PositiveSmallIntegerField(default=25)
    # Of each device, in 24 hours. None: no limit.
    daily_limit = models.PositiveSmallIntegerField(null=True, blank=True)
    is_enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField()

    objects = TenantQuerySet["ClipRule"].as_manager()

    class Meta:
        ordering = ["name", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "name"], name="media_clip_rule_name_once"),
            models.CheckConstraint(
                condition=Q(before_s__lte=60, after_s__gte=1, after_s__lte=300),
                name="media_clip_rule_length",
            ),
            models.CheckConstraint(
                condition=Q(daily_limit__isnull=True) | Q(daily_limit__gte=1), name="media_clip_rule_limit"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Clip(TenantOwned, Work):
    """A stretch of footage kept by us: what was asked for, what Ring really gave, and the file."""

    device = models.ForeignKey("devices.Device", models.CASCADE, related_name="clips")
    component_id = models.CharField(max_length=64, blank=True, default="")
    event = models.ForeignKey("events.Event", models.SET_NULL, null=True, blank=True, related_name="clips")
    requested_by = models.ForeignKey(
        "accounts.User", models.SET_NULL, null=True, blank=True, related_name="+"
    )
    # The tenant's rule that asked; its name stays when the rule goes.
    rule = models.ForeignKey(ClipRule, models.SET_NULL, null=True, blank=True, related_name="clips")
    rule_name = models.CharField(max_length=100, blank=True, default="")
    start = models.DateTimeField(help_text="Start of the range asked for.")
    duration_ms = models.PositiveIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(MAX_CLIP_MS)],
        help_text="Length of the range asked for.",
    )
    state = models.CharField(max_length=12, choices=FetchState, default=FetchState.QUEUED)
    created_at = models.DateTimeField(auto_now_add=True)
    ready_at = models.DateTimeField(null=True, blank=True)
    # Progress, true to the byte; `total_bytes` None when Ring does not say.
    received_bytes = models.PositiveBigIntegerField(default=0)
    total_bytes = models.PositiveBigIntegerField(null=True, blank=True)
    # What Ring gave.
    actual_start = models.DateTimeField(null=True, blank=True)
    actual_duration_ms = models.PositiveIntegerField(null=True, blank=True)
    is_partial = models.BooleanField(default=False)
    file = models.FileField(upload_to=clip_path, blank=True)
    poster = models.FileField(upload_to=clip_path, blank=True)
    size_bytes = models.PositiveBigIntegerField(null=True, blank=True)
    sha256 = models.CharField(max_length=64, blank=True, default="")
    width = models.PositiveIntegerField(null=True, blank=True)
    height = models.PositiveIntegerField(null=True, blank=True)
    frame_rate = models.FloatField(null=True, blank=True)
    codec = models.CharField(max_length=20, blank=True, default="")
    # Why it is unavailable or failed, as a stable code; the words are the page's.
    error = models.CharField(max_length=50, blank=True, default="")

    objects = ClipQuerySet.as_manager()

    class Meta:
        ordering = ["-start", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["device", "component_id", "start", "duration_ms"],
                condition=Q(state__in=["queued", "fetching", "ready"]),
                name="media_clip_once_per_range",
            ),
            # An event's range is cut at the moment of asking, so two who ask would get two ranges.
            models.UniqueConstraint(
                fields=["event", "component_id"],
                condition=Q(event__isnull=False, state__in=["queued", "fetching", "ready"]),
                name="media_clip_once_per_event",
            ),
            # Whatever became of it: a rule does not ask twice.
            models.UniqueConstraint(
                fields=["event"],
                condition=Q(event__isnull=False) & ~Q(rule_name=""),
                name="media_clip_once_by_rule",
            ),
            models.CheckConstraint(
                condition=Q(duration_ms__gt=0, duration_ms__lte=MAX_CLIP_MS), name="media_clip_duration"
            ),
            models.CheckConstraint(
                condition=~Q(state="ready") | (~Q(file="") & ~Q(sha256="") & Q(size_bytes__isnull=False)),
                name="media_clip_ready_has_file",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.device} {self.start:%Y-%m-%d %H:%M:%S}"


class Picture(TenantOwned, Work):
    """A still of one camera, fetched after an event: the picture beside the event and on the device's tile."""

    device = models.ForeignKey("devices.Device", models.CASCADE, related_name="pictures")
    component_id = models.CharField(max_length=64, blank=True, default="")
    event = models.OneToOneField(
        "events.Event", models.SET_NULL, null=True, blank=True, related_name="picture"
    )
    asked_at = models.DateTimeField(help_text="The moment the picture should show.")
    state = models.CharField(max_length=12, choices=FetchState, default=FetchState.QUEUED)
    taken_at = models.DateTimeField(null=True, blank=True)
    file = models.FileField(upload_to=picture_path, blank=True)
    sha256 = models.CharField(max_length=64, blank=True, default="")
    error = models.CharField(max_length=50, blank=True, default="")

    objects = PictureQuerySet.as_manager()

    class Meta:
        ordering = ["-asked_at", "-pk"]
        indexes = [
            # The newest of a camera, on every tile.
            models.Index(
                fields=["device", "-taken_at"], condition=Q(state="ready"), name="media_picture_newest"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.device} {self.asked_at:%Y-%m-%d %H:%M:%S}"
