"""Asking for clips and giving them up. Fetching them is `media.fetching`'s."""

from datetime import datetime, timedelta
from functools import partial
from typing import Final

from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.db.models.fields.files import FieldFile

from accounts.models import ApiToken, User
from accounts.services import NotLinked, audit
from devices.describe import has_privacy_zones
from devices.models import Device
from devices.words import PLAN_ENDED, PRIVACY_ZONES
from events.models import Event
from media.models import MAX_CLIP_MS, Clip, ClipRule, FetchState
from portal.work import enqueue_after

BEFORE_EVENT: Final = timedelta(seconds=5)
AFTER_EVENT: Final = timedelta(seconds=25)
# Who asks at once still gets the moments after the event: the fetch waits for this much of them.
LEAST_AFTER_EVENT: Final = timedelta(seconds=10)
LATEST_FOOTAGE: Final = timedelta(seconds=30)
ONE_VIEWING_S: Final = 600
# A person waits for a clip, and an event for its picture; what a rule keeps nobody waits for.
BEHIND_OTHERS: Final = -10
MILLISECOND: Final = timedelta(milliseconds=1)

PENDING: Final = (FetchState.QUEUED, FetchState.FETCHING)
WANTED: Final = (*PENDING, FetchState.READY)


class ClipRefused(Exception):
    """There is no use in asking Ring; the message is for people. `code` is stable."""

    code = "refused"


class NoVideo(ClipRefused):
    """The device has no camera, no such camera, or is not shared with us any more."""

    code = "no_video"


class PrivacyZones(ClipRefused):
    """Parts of the picture must not be stored, and we cannot mask them (`devices.describe.has_privacy_zones`)."""

    code = "privacy_zones"


class PlanEnded(ClipRefused):
    """Ring said that the plan which covered the device ended (`devices.plans`)."""

    code = "plan_ended"


class ClipTooLong(ClipRefused):
    """Longer than Ring gives at once: 15 minutes (contract 11.3). Also a range without length."""

    code = "duration"


class InTheFuture(ClipRefused):
    """The range has not begun yet."""

    code = "in_the_future"


class BeforeConsent(ClipRefused):
    """Ring gives no footage from before `consent_at`, when the account was linked (contract 11.4)."""

    code = "before_consent"

    def __init__(self, consent_at: datetime) -> None:
        super().__init__(
            "Ring gives no footage from before the Ring account was linked. Choose a later time."
        )
        self.consent_at = consent_at


def to_millisecond(moment: datetime) -> datetime:
    """Cut off what Ring cannot be asked for: it counts in milliseconds."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def choose_component(device: Device, wanted: str = "") -> str:
    """
    Give the camera of a device to ask for: the wanted one, else its first; "" where it has but one.

    Raises NoVideo when the device has no video, no such camera, or left us.
    """
    if device.removed_at is not None:
        raise NoVideo("Ring does not share this device any more. Share it again in the Ring app.")
    if not device.has_video:
        raise NoVideo("This device has no camera.")
    components = [str(component) for component in device.components]
    if wanted and wanted not in components:
        raise NoVideo("This device has no such camera.")
    return wanted or (components[0] if components else "")


def request_clip(
    *,
    device: Device,
    start: datetime,
    duration_ms: int,
    component_id: str = "",
    event: Event | None = None,
    by: User | None,
    now: datetime,
    not_before: datetime | None = None,
    rule: ClipRule | None = None,
) -> Clip:
    """
    Ask for a stretch of footage; give the clip, or the one that is already here or under way for that range or event.

    `start` is aware and cut to the millisecond. A range that runs past `now` is asked for at once and comes
    partial (contract 11.3), unless `not_before` says to wait. Raises NoVideo, PrivacyZones, PlanEnded, ClipTooLong,
    InTheFuture, BeforeConsent, NotLinked.
    """
    component_id = choose_component(device, component_id)
    if has_privacy_zones(device):
        raise PrivacyZones(PRIVACY_ZONES)
    if device.is_plan_ended:
        raise PlanEnded(PLAN_ENDED)
    start = to_millisecond(start)
    account = device.ring_account
    if not 0 < duration_ms <= MAX_CLIP_MS:
        raise ClipTooLong("A clip lasts from 1 ms to 15 minutes.")
    if start >= now:
        raise InTheFuture("This has not happened yet. Choose a time in the past.")
    if account.consent_at is not None and start < to_millisecond(account.consent_at):
        raise BeforeConsent(account.consent_at)
    if not account.is_live:
        raise NotLinked(
            "The Ring account of this device is not linked. Link it again, then ask for the clip."
        )
    due_at = max(now, not_before or now)
    try:
        with transaction.atomic():
            clip = Clip.objects.create(
                tenant=device.tenant,
                device=device,
                component_id=component_id,
                event=event,
                requested_by=by,
                rule=rule,
                rule_name=rule.name if rule is not None else "",
                start=start,
                duration_ms=duration_ms,
                next_attempt_at=due_at,
            )
            audit(
                tenant=device.tenant,
                actor=by,
                action="clip.requested",
                subject=f"clip {clip.public_id}",
                about_person=account.user,
                device=str(device.public_id),
                start=start.isoformat(),
                duration_ms=duration_ms,
                **({} if rule is None else {"rule": rule.name}),
            )
            _enqueue(clip, now=now)
    except IntegrityError:
        existing = find_clip(
            device=device, component_id=component_id, start=start, duration_ms=duration_ms, event=event
        )
        if existing is None and rule is not None:
            existing = Clip.objects.filter(event=event).exclude(rule_name="").first()
        if existing is None:
            raise
        return existing
    return clip


def _enqueue(clip: Clip, *, now: datetime) -> None:
    from media.tasks import fetch_clip  # the tasks call the fetching, which calls back here

    task = fetch_clip.using(priority=BEHIND_OTHERS) if clip.rule_name else fetch_clip
    if clip.next_attempt_at is not None and clip.next_attempt_at > now:
        enqueue_after(task, clip.pk, clip.next_attempt_at)
    else:
        task.enqueue(clip.pk)


def find_clip(
    *, device: Device, component_id: str, start: datetime, duration_ms: int, event: Event | None
) -> Clip | None:
    """Give the wanted clip of exactly this range, or of this event; None when nobody has asked."""
    wanted = Clip.objects.filter(device=device, component_id=component_id, state__in=WANTED)
    same_range = wanted.filter(start=start, duration_ms=duration_ms).first()
    if same_range is None and event is not None:
        same_range = wanted.filter(event=event).first()
    return same_range


def request_event_clip(*, event: Event, by: User | None, now: datetime, rule: ClipRule | None = None) -> Clip:
    """
    Ask for the footage around an event: 5 s before to 25 s after it, cut at the consent and at now.

    Asked within ten seconds of the event the fetch waits until those have passed. For a `rule` it is the rule's range,
    and the fetch waits for the whole of it. Raises as request_clip does.
    """
    before, after, at_least = BEFORE_EVENT, AFTER_EVENT, LEAST_AFTER_EVENT
    if rule is not None:
        before = timedelta(seconds=rule.before_s)
        after = at_least = timedelta(seconds=rule.after_s)
    device = event.device
    if device is None:
        raise NoVideo("This event belongs to no device that is shared with us.")
    component_id = choose_component(device, _component_of(event, device))
    start = event.occurred_at - before
    end = min(event.occurred_at + after, max(now, event.occurred_at + at_least))
    consent_at = device.ring_account.consent_at
    if consent_at is not None and start < consent_at:
        if end <= consent_at:
            raise BeforeConsent(consent_at)
        start = to_millisecond(consent_at) + MILLISECOND
    start = to_millisecond(start)
    return request_clip(
        device=device,
        start=start,
        duration_ms=(end - start) // MILLISECOND,
        component_id=component_id,
        event=event,
        by=by,
        now=now,
        not_before=end,
        rule=rule,
    )


def _component_of(event: Event, device: Device) -> str:
    """The first camera an event names, if the device still has it."""
    known = {str(component) for component in device.components}
    return next((str(named) for named in event.component_ids if str(named) in known), "")


def clip_of_event(event: Event) -> Clip | None:
    """The newest clip somebody asked for of this event that is here or under way."""
    clip: Clip | None = Clip.objects.filter(event=event, state__in=WANTED).order_by("-created_at").first()
    return clip


def ask_again(*, clip: Clip, by: User | None, now: datetime) -> Clip:
    """Ask once more for what could not be had. Raises as request_clip does."""
    return request_clip(
        device=clip.device,
        start=clip.start,
        duration_ms=clip.duration_ms,
        component_id=clip.component_id,
        event=clip.event,
        by=by,
        now=now,
    )


def record_viewing(*, clip: Clip, by: User | None, api_token: ApiToken | None, is_download: bool) -> None:
    """
    Write down that somebody played or downloaded a clip; playing it again within a while is the same viewing.

    A player asks for the first bytes more than once, and that is no news to the person whose camera it is.
    """
    who = f"token-{api_token.pk}" if api_token is not None else f"user-{by.pk if by else 0}"
    action = "clip.downloaded" if is_download else "clip.seen"
    if not cache.add(f"{action}:{clip.pk}:{who}", True, ONE_VIEWING_S):
        return
    detail = {} if api_token is None else {"api_token": str(api_token.public_id)}
    with transaction.atomic():
        audit(
            tenant=clip.tenant,
            actor=by,
            action=action,
            subject=f"clip {clip.public_id}",
            about_person=clip.device.ring_account.user,
            device=str(clip.device.public_id),
            **detail,
        )


def delete_clip(*, clip: Clip, by: User | None) -> None:
    """Delete a clip, its file and its poster for good. A fetch under way notices and throws away what it has."""
    with transaction.atomic():
        audit(
            tenant=clip.tenant,
            actor=by,
            action="clip.deleted",
            subject=f"clip {clip.public_id}",
            about_person=clip.device.ring_account.user,
            device=str(clip.device.public_id),
            start=clip.start.isoformat(),
            duration_ms=clip.duration_ms,
            size_bytes=clip.size_bytes,
        )
        # As it is now, not as it was read: it may have become ready in between.
        latest = Clip.objects.select_for_update().filter(pk=clip.pk).first()
        if latest is None:
            return
        files: list[FieldFile] = [latest.file, latest.poster]
        latest.delete()
        for stored in files:
            if stored:
                transaction.on_commit(partial(stored.storage.delete, str(stored.name)))
