"""Say an event in words: `{% load event_words %}`."""

from typing import Any

from django import template
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html

from devices.models import Device
from events import words
from events.listing import by_day, feed_standing, readable_events
from events.models import Event
from events.zones import zone_of

register = template.Library()


@register.filter
def event_title(event: Event) -> str:
    """The sentence: "Someone at the front door"."""
    return words.title_of(event)


@register.filter
def event_kind(event: Event) -> words.Kind:
    """Its kind, with `icon`, `tone` and `label`."""
    return words.kind_of(event)


@register.filter
def event_filter(event: Event) -> str:
    """The key of the filter that shows it."""
    return words.filter_of(words.kind_of(event))


@register.simple_tag(takes_context=True)
def device_feed(context: template.Context, device: Device, limit: int = 20) -> str:
    """The newest events of one device, growing by themselves; the page loads js/feed.js and js/zone.js."""
    request: Any = context["request"]
    standing = feed_standing(request.membership)
    of_device = readable_events(request.membership).filter(device=device)
    newest = list(of_device.order_by("-occurred_at", "-position")[: limit + 1])
    with timezone.override(zone_of(request)):
        parts = {
            "days": by_day(newest[:limit]),
            **standing,
            "feed_device": device.public_id,
            "feed_limit": limit,
            "feed_has_older": len(newest) > limit,
        }
        return render_to_string("events/_feed.html", parts, request=request)


@register.simple_tag(takes_context=True)
def device_listener(context: template.Context) -> str:
    """Nothing to see: it keeps the page told of events, for a page that shows devices and no events."""
    request: Any = context["request"]
    # The page's devices were read before: no revision is theirs for certain, and it looks again (static/js/events-home.js).
    parts = {"position": feed_standing(request.membership)["position"], "feed_limit": 1}
    return format_html("<div hidden>{}</div>", render_to_string("events/_feed.html", parts, request=request))
