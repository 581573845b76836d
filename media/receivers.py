"""What happens below, and what media does about it. Connected in MediaConfig.ready."""

from collections.abc import Sequence
from typing import Any

from django.dispatch import receiver
from django.utils import timezone

from accounts.models import RingAccount
from accounts.signals import ring_account_unlinked, ring_account_unlinking
from devices.describe import has_privacy_zones
from devices.models import Device
from devices.signals import device_offline, device_plan_ended, device_removed, device_synced
from events.models import Event
from events.signals import event_recorded, events_expiring
from media import live
from media.fetching import cancel_fetches
from media.models import LiveSession
from media.pictures import erase_pictures_of, request_event_picture
from media.rules import keep_by_rules


@receiver(event_recorded)
def picture_the_event(event: Event, **_: Any) -> str:
    return "Picture asked for" if request_event_picture(event=event, now=timezone.now()) else ""


@receiver(event_recorded)
def keep_the_event(event: Event, **_: Any) -> str:
    return "Clip asked for by a rule" if keep_by_rules(event=event, now=timezone.now()) else ""


@receiver(events_expiring)
def erase_their_pictures(event_ids: Sequence[int], **_: Any) -> None:
    erase_pictures_of(event_ids)


@receiver(ring_account_unlinking)
def hang_up_before_tokens_go(account: RingAccount, **_: Any) -> None:
    live.hang_up(account=account, now=timezone.now())


@receiver(ring_account_unlinked)
def end_sessions_of_account(account: RingAccount, **_: Any) -> None:
    sessions = LiveSession.objects.filter(device__ring_account=account)
    live.end_sessions(sessions, reason=LiveSession.EndReason.UNLINKED, now=timezone.now())
    cancel_fetches(account)


@receiver(device_synced)
def end_sessions_of_zoned(device: Device, **_: Any) -> None:
    if has_privacy_zones(device):
        sessions = LiveSession.objects.filter(device=device)
        live.end_sessions(sessions, reason=LiveSession.EndReason.PRIVACY, now=timezone.now())


@receiver(device_plan_ended)
def end_sessions_without_plan(device: Device, **_: Any) -> None:
    sessions = LiveSession.objects.filter(device=device)
    live.end_sessions(sessions, reason=LiveSession.EndReason.PLAN, now=timezone.now())


@receiver(device_removed)
def end_sessions_of_removed(device: Device, **_: Any) -> None:
    sessions = LiveSession.objects.filter(device=device)
    live.end_sessions(sessions, reason=LiveSession.EndReason.REMOVED, now=timezone.now())


@receiver(device_offline)
def end_sessions_of_offline(device: Device, **_: Any) -> None:
    sessions = LiveSession.objects.filter(device=device)
    live.end_sessions(sessions, reason=LiveSession.EndReason.OFFLINE, now=timezone.now())
