"""
Who is notified of an event, at most how often, and in which words (features F2, C11).

A notice tells of now: what is older than `FRESH_FOR`, came from the history, or is a test goes to nobody. Whether somebody may
see the event is asked at the moment of sending, of the one place that decides.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.core import signing
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.urls import reverse

from accounts.models import Membership
from events import push, words
from events.listing import readable_events
from events.models import Event, LastNotice, NotificationSettings, PushKey, PushSubscription

FRESH_FOR: Final = timedelta(minutes=5)
MAX_BROWSERS: Final = 20
"""Of one person in one tenant; the oldest goes when one more comes."""
SNOOZES: Final = {15: "15 minutes", 60: "1 hour", 240: "4 hours", 1440: "24 hours"}
"""How long one may have peace, in minutes, and in words."""
SNOOZE_LINK_FOR: Final = timedelta(days=1)

_SNOOZE: Final = "events.notifications.snooze"


@dataclass(frozen=True)
class Notice:
    """What a browser shows. `tag` makes a later notice of the same device take the earlier one's place."""

    title: str
    body: str
    url: str
    tag: str

    def as_message(self, membership: Membership) -> dict[str, Any]:
        """For the service worker (static/js/service-worker.js)."""
        return {
            "title": self.title,
            "body": self.body,
            "url": self.url,
            "tag": self.tag,
            "snooze_url": reverse("events:snooze_from_notice", args=[membership.tenant.slug]),
            "snooze": signing.dumps(str(membership.public_id), salt=_SNOOZE),
        }


def settings_of(membership: Membership) -> NotificationSettings:
    """What the member has chosen; the defaults, unsaved, where they have chosen nothing."""
    chosen: NotificationSettings | None = NotificationSettings.objects.filter(membership=membership).first()
    return chosen or NotificationSettings(tenant_id=membership.tenant_id, membership=membership)


def browsers_of(membership: Membership) -> "QuerySet[PushSubscription]":
    """The member's browsers that are told, the newest first."""
    rows: QuerySet[PushSubscription] = PushSubscription.objects.filter(membership=membership)
    return rows.order_by("-created_at", "-pk")


def signing_key() -> str:
    """The installation's private key, made the first time."""
    kept = PushKey.objects.first()
    if kept is None:
        try:
            with transaction.atomic():
                kept = PushKey.objects.create(key=push.new_key())
        except IntegrityError:  # another process was first
            kept = PushKey.objects.get()
    return kept.key


def subscribe(
    membership: Membership, subscription: push.Subscription, *, name: str, now: datetime
) -> PushSubscription:
    """
    Have this browser told. Safe to repeat. A browser that somebody else used here before is theirs no more.
    """
    digest = hashlib.sha256(subscription.endpoint.encode()).hexdigest()
    with transaction.atomic():
        here = PushSubscription.objects.for_tenant(membership.tenant_id).filter(endpoint_digest=digest)
        row = here.select_for_update().first()
        if row is not None and row.membership_id != membership.pk:
            row.delete()
            row = None
        if row is None:
            row = PushSubscription(tenant_id=membership.tenant_id, membership=membership, created_at=now)
        row.endpoint_digest, row.subscription = digest, subscription.dump()
        row.name, row.last_error = name[:100], ""
        row.save()
        surplus = browsers_of(membership).values_list("pk", flat=True)[MAX_BROWSERS:]
        PushSubscription.objects.filter(pk__in=list(surplus)).delete()
    return row


def snooze(membership: Membership, *, until: datetime | None) -> None:
    """No notices to this member until then; None: go on."""
    chosen, _ = NotificationSettings.objects.get_or_create(
        membership=membership, defaults={"tenant_id": membership.tenant_id}
    )
    chosen.snoozed_until = until
    chosen.save(update_fields=["snoozed_until"])


def member_of_snooze(signed: str, *, tenant_id: int) -> Membership | None:
    """Whose notice this was, from what it carried; None for what is no longer good, or of another tenant."""
    try:
        public_id = signing.loads(signed, salt=_SNOOZE, max_age=SNOOZE_LINK_FOR)
    except signing.BadSignature:
        return None
    return Membership.objects.for_tenant(tenant_id).filter(public_id=public_id).first()


def is_news(event: Event, *, now: datetime) -> bool:
    """Whether an event is something to be told of at once."""
    return (
        event.provenance == Event.Provenance.WEBHOOK
        and event.device_id is not None
        and now - event.occurred_at <= FRESH_FOR
    )


def is_press(event: Event) -> bool:
    """Whether somebody rang the doorbell."""
    return words.kind_of(event) is words.DOORBELL


def anybody_listens(tenant_id: int) -> bool:
    """Whether any browser of the tenant's people wants to be told."""
    return PushSubscription.objects.for_tenant(tenant_id).exists()


def browsers_to_tell(event: Event, *, now: datetime) -> list[PushSubscription]:
    """
    The browsers that get a notice of this event now. Claims the pause of each of their members: ask once.

    Of several processes that ask for events of one device at the same moment, one gets each member.
    """
    if event.device_id is None:
        return []
    members = Membership.objects.for_tenant(event.tenant_id).filter(
        push_subscriptions__isnull=False, user__is_active=True
    )
    told: list[PushSubscription] = []
    for membership in members.select_related("tenant", "user").distinct():
        if _wants(membership, event, now=now) and _claim(membership, event, event.device_id, now=now):
            told += browsers_of(membership).select_related("membership__tenant")
    return told


def notice_of(event: Event) -> Notice:
    """In the words of the house."""
    name = event.device.name if event.device is not None else ""
    return Notice(
        title=words.title_of(event),
        body=name,
        url=reverse("events:detail", args=[event.tenant.slug, event.public_id]),
        tag=str(event.device.public_id) if event.device is not None else "",
    )


def _wants(membership: Membership, event: Event, *, now: datetime) -> bool:
    chosen = settings_of(membership)
    if chosen.snoozed_until is not None and chosen.snoozed_until > now:
        return False
    if words.filter_of(words.kind_of(event)) in chosen.muted_kinds:
        return False
    if event.device is not None and str(event.device.public_id) in chosen.muted_devices:
        return False
    return readable_events(membership).filter(pk=event.pk).exists()


def _claim(membership: Membership, event: Event, device_id: int, *, now: datetime) -> bool:
    """
    True for the one who may notify this member of this event now.

    A press of the doorbell waits for no pause, but begins one: somebody stands at the door. Its moment of arrival is
    what is kept, so that whoever asks for the same press again is told no. Everything else waits until the pause since
    the last notice of its device is over.
    """
    moment = event.received_at if is_press(event) else now
    last, is_first = LastNotice.objects.get_or_create(
        membership=membership,
        device_id=device_id,
        defaults={"tenant_id": membership.tenant_id, "noticed_at": moment},
    )
    if is_first:
        return True
    before = LastNotice.objects.filter(pk=last.pk)
    if is_press(event):
        before = before.exclude(noticed_at=moment)
    else:
        pause = timedelta(minutes=settings_of(membership).cooldown_minutes)
        before = before.filter(noticed_at__lte=now - pause)
    return bool(before.update(noticed_at=moment))
