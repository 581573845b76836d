"""Say a device in words: `{% load device_words %}`."""

from typing import Any

from django import template

from devices import describe, words
from devices.grants import Capability, Holdings, holdings_of
from devices.models import Device

register = template.Library()

register.filter("device_state", words.state_of)
register.filter("device_icon", words.icon_of)
register.filter("is_stale", words.is_stale)
register.filter("last_report_at", words.last_report_at)
register.filter("battery_icon", words.battery_icon)
register.filter("is_battery_low", words.is_battery_low)
register.filter("power", words.power_of)
register.filter("sync_trouble", words.sync_trouble)
register.filter("hindrances", words.hindrances_of)
register.filter("has_privacy_zones", describe.has_privacy_zones)


@register.simple_tag
def privacy_zones_words() -> str:
    """Why nothing is shown of a camera with privacy zones, for the place of its picture."""
    return words.PRIVACY_ZONES


@register.simple_tag
def plan_ended_words() -> str:
    """Why a camera whose plan ended is not watched, for the place of its picture."""
    return words.PLAN_ENDED


def holdings_in(context: template.Context) -> Holdings:
    """What the person who looks at the page holds; asked once a request."""
    request: Any = context["request"]
    if not hasattr(request, "holdings"):
        request.holdings = holdings_of(request.membership)
    held: Holdings = request.holdings
    return held


@register.simple_tag(takes_context=True)
def may(context: template.Context, capability: str, device: Device | None) -> bool:
    """Whether the person may do this with the device: `{% may "live" device as may_watch %}`."""
    return device is not None and holdings_in(context).may(Capability(capability), device)
