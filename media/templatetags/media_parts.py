"""What templates of every app may ask of media: `{% load media_parts %}`."""

import json
from collections.abc import Iterable

from django import template
from django.utils import timezone

from devices.describe import has_privacy_zones
from devices.grants import Capability
from devices.models import Device
from devices.templatetags.device_words import holdings_in
from events.models import Event
from media import ice, live, pictures, presence
from media.clips import clip_of_event
from media.models import Clip, LiveSession, Picture, Purpose
from media.reasons import Reason, reason_for
from portal.templatetags.look import duration_words

register = template.Library()


@register.simple_tag(takes_context=True)
def latest_pictures(context: template.Context, devices: Iterable[Device]) -> pictures.LatestPictures:
    """The newest pictures of many cameras at once, as far as the person may see them."""
    return pictures.latest_pictures_for(holdings_in(context), devices)


@register.simple_tag(takes_context=True)
def latest_picture(context: template.Context, device: Device, component_id: str = "") -> Picture | None:
    """
    The newest picture of a camera: `{% latest_picture device component as newest %}`.

    A page of many looks them all up first: `{% latest_pictures devices as known_pictures %}`.
    """
    known = context.get("known_pictures")
    if isinstance(known, pictures.LatestPictures) and device.pk in known.device_ids:
        return known.of(device, component_id)
    return pictures.latest_pictures_for(holdings_in(context), [device], [component_id]).of(
        device, component_id
    )


@register.simple_tag(takes_context=True)
def event_clip(context: template.Context, event: Event) -> Clip | None:
    """The clip of an event that is here or under way, for who may see it: `{% event_clip event as clip %}`."""
    if event.device is None or not holdings_in(context).may(Capability.CLIPS, event.device):
        return None
    return clip_of_event(event)


@register.simple_tag(takes_context=True)
def event_picture(context: template.Context, event: Event) -> Picture | None:
    """The picture of an event, in whatever state, for who may see it: `{% event_picture event as picture %}`."""
    if event.device is None or not holdings_in(context).may(Capability.EVENTS, event.device):
        return None
    return Picture.objects.filter(event=event).first()


@register.simple_tag
def ice_servers() -> str:
    """The STUN and TURN servers of this installation, as a browser takes them, in JSON."""
    return json.dumps([server.as_browser_takes_it for server in ice.ice_servers(now=timezone.now())])


@register.simple_tag
def battery_uses(devices: Iterable[Device]) -> dict[int, float]:
    """How long battery cameras have sent live video in 24 hours, many at once: `{% battery_uses devices as known_battery_uses %}`."""
    return live.battery_used_s(devices, now=timezone.now())


@register.simple_tag(takes_context=True)
def battery_used(context: template.Context, device: Device) -> str:
    """
    What a battery camera has sent live in 24 hours, of what it may: "12 min of 30 min"; "" without a battery.

    `{% battery_used device as used %}`. A page of many looks them all up first, as `known_battery_uses`.
    """
    known = context.get("known_battery_uses")
    used_s = (battery_uses([device]) if known is None else known).get(device.pk)
    if used_s is None:
        return ""
    return f"{duration_words(used_s * 1000) if used_s else '0 s'} of {context['tenant'].battery_minutes} min"


@register.filter
def reason(code: str) -> Reason:
    """`{{ clip.error|reason }}`: why something is not here (`.words`, `.advice`, `.retry`)."""
    return reason_for(code)


@register.simple_tag(takes_context=True)
def watching(context: template.Context, device: Device) -> str:
    """
    Who watches a device now, in words; "" for nobody. `{% watching device as words %}`

    A page of many looks them all up first, as `known_watching`.
    """
    known = context.get("known_watching")
    if known is not None:
        return str(known.get(device.public_id, ""))
    return presence.watching(context["membership"], [device]).get(device.public_id, "")


@register.simple_tag(takes_context=True)
def latest_viewings(context: template.Context, device: Device, count: int) -> list[LiveSession]:
    """The newest viewings of a device, as far as the person may read of them: `{% latest_viewings device 3 as viewings %}`."""
    return list(LiveSession.objects.visible_to(context["membership"]).of(device)[:count])


@register.simple_tag(takes_context=True)
def asks_purpose(context: template.Context, device: Device) -> bool:
    """Whether the person watches this camera for something, which the page asks: `{% asks_purpose device as asks %}`."""
    can_be_watched = not has_privacy_zones(device) and not device.is_plan_ended
    return can_be_watched and live.has_a_purpose(context["membership"], device)


@register.simple_tag
def purposes() -> list[tuple[str, str]]:
    """What one may watch for: values and words."""
    return [(str(value), str(label)) for value, label in Purpose.choices]


@register.filter
def watcher(session: LiveSession) -> str:
    """Who watched, for whoever may read of it: `{{ viewing|watcher }}`."""
    return presence.begin(presence.name_of(session))


@register.filter
def watched_ms(session: LiveSession) -> float | None:
    """How long somebody watched; None while they still do."""
    length = presence.watched_for(session)
    return None if length is None else length.total_seconds() * 1000


@register.simple_tag(takes_context=True)
def may_keep_clip(context: template.Context, device: Device | None) -> bool:
    """Whether a device is a camera that is still shared with us, whose picture may be kept, and by this person."""
    return (
        device is not None
        and holdings_in(context).may(Capability.CLIPS, device)
        and device.has_video
        and device.removed_at is None
        and not has_privacy_zones(device)
        and not device.is_plan_ended
    )
