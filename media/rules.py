"""Clips that nobody asks for: the tenant's rules for events, and what they keep."""

import logging
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import Q

from accounts.audit import audit
from accounts.models import Tenant, User
from accounts.services import NotLinked
from devices.models import Device
from events import words
from events.models import Event
from media.clips import MILLISECOND, ClipRefused, request_event_clip
from media.models import Clip, ClipRule

logger = logging.getLogger(__name__)

# What happens in front of a camera, by the filters of the events page.
KINDS: Final = (*(kind for kind in words.FILTERS if words.DOORBELL in kind.kinds), *words.SUBTYPES)
# Ring holds nothing longer than this (contract 11.2); what a history tells of before it cannot be had.
RING_KEEPS: Final = timedelta(days=180)
_DAY: Final = timedelta(days=1)


def keep_by_rules(*, event: Event, now: datetime) -> Clip | None:
    """
    Ask for the clip of an event that a rule of its tenant matches, once; None where there is none to have.

    Called within the transaction that made the event's effects; the fetch is a task, behind what people wait for. Of
    several rules that match, the one that keeps most counts. Never for a test, which has no effects.
    """
    kind = words.filter_of(words.kind_of(event))
    device = event.device
    if (
        event.is_test
        or device is None
        or kind not in {known.key for known in KINDS}
        or event.occurred_at < now - RING_KEEPS
    ):
        return None
    rules = ClipRule.objects.for_tenant(event.tenant_id).filter(is_enabled=True)
    of_device = rules.filter(Q(all_devices=True) | Q(devices=device))
    matching = [rule for rule in of_device if kind in rule.kinds]
    for rule in sorted(matching, key=lambda rule: (-(rule.before_s + rule.after_s), rule.pk)):
        if _has_room(rule, device, now=now):
            return _keep(event, rule, now=now)
    return None


def _has_room(rule: ClipRule, device: Device, *, now: datetime) -> bool:
    if rule.daily_limit is None:
        return True
    # Two events at once must not both be the last one; the lock ends with the effects.
    ClipRule.objects.select_for_update(no_key=True).filter(pk=rule.pk).first()
    kept = Clip.objects.filter(rule=rule, device=device, created_at__gt=now - _DAY).count()
    return kept < rule.daily_limit


def _keep(event: Event, rule: ClipRule, *, now: datetime) -> Clip | None:
    try:
        # Ring's clock may run ahead of ours: it asks for no moment that has not passed, the fetch waits.
        moment = max(now, event.occurred_at + MILLISECOND)
        return request_event_clip(event=event, by=None, now=moment, rule=rule)
    except (ClipRefused, NotLinked) as refused:
        logger.info(
            "A rule keeps no clip of an event. event=%s reason=%s", event.public_id, type(refused).__name__
        )
        return None


def save_rule(*, rule: ClipRule, devices: Collection[Device], by: User) -> ClipRule:
    """Add a rule, or write down what was changed of one; `devices` are the chosen ones, unless it is for all."""
    is_new = rule._state.adding
    with transaction.atomic():
        rule.save()
        rule.devices.set([] if rule.all_devices else devices)
        _audit(rule, by=by, action="clip_rule.added" if is_new else "clip_rule.changed")
    return rule


def remove_rule(*, rule: ClipRule, by: User) -> None:
    """Remove a rule; the clips it kept stay, with its name."""
    with transaction.atomic():
        _audit(rule, by=by, action="clip_rule.removed")
        rule.delete()


def _audit(rule: ClipRule, *, by: User, action: str) -> None:
    detail: dict[str, Any] = {
        "name": rule.name,
        "kinds": rule.kinds,
        "devices": "all" if rule.all_devices else rule.devices.count(),
        "before_s": rule.before_s,
        "after_s": rule.after_s,
        "is_enabled": rule.is_enabled,
    }
    tenant: Tenant = rule.tenant
    audit(tenant=tenant, actor=by, action=action, subject=f"rule {rule.public_id}", **detail)
