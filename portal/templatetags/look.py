"""Template tags of the one visual language: icons, times, durations, the frame's navigation. See docs/look.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import template
from django.forms import BoundField
from django.template import Context
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from portal.logs import request_id

register = template.Library()

HOUR_WIDTH = 10
HOUR_GAP = 2
HOURS_HEIGHT = 40
LEAST_BAR = 2

# The first mark found wins: every browser also claims to be the ones before it.
BROWSERS = (
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


@register.simple_tag
def icon(name: str, size: str = "") -> SafeString:
    """
    Draw a Lucide icon of the sprite in the colour of its text; it says nothing to a screen reader.

    `size="small"` gives 16 px instead of 20. The words beside it, or the button's `aria-label`, carry the meaning.
    """
    return format_html(
        '<svg class="icon{}" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        " icon-small" if size == "small" else "",
        static("icons.svg"),
        name,
    )


@register.simple_tag
def diagnostic_id() -> str:
    """The id of the request that is answered: it stands in each of its lines in the log. "" where there is none."""
    current = request_id.get()
    return "" if current == "-" else current


@register.simple_tag
def when(moment: datetime | None, style: str = "relative", never: str = "–") -> SafeString:
    """
    Tell an aware moment: exact to the server's clock as plain HTML, and in the reader's zone once when.js runs.

    Styles: `relative` ("4 min ago" under an hour, then clock time), `clock` (always with seconds), `day`, and `exact`
    (date, time and zone in full, for what is kept).
    Without a moment it says `never`.
    """
    if moment is None:
        return format_html('<span class="faint">{}</span>', never)
    local = timezone.localtime(moment)
    exact = f"{local.day} {local:%b %Y, %H:%M:%S %Z}"
    text = {
        "clock": f"{local.day} {local:%b, %H:%M:%S}",
        "day": f"{local.day} {local:%b %Y}",
        "exact": exact,
    }.get(style, f"{local.day} {local:%b %Y, %H:%M}")
    return format_html(
        '<time datetime="{}" data-when="{}" title="{}">{}</time>', moment.isoformat(), style, exact, text
    )


@register.simple_tag(name="duration_ms")
def duration_words(milliseconds: float | None) -> str:
    """Say a duration given in milliseconds: "0.4 s", "12 s", "1 min 12 s", "2 h 05 min"; an en dash for none."""
    if milliseconds is None:
        return "–"
    if milliseconds < 950:
        return f"{milliseconds / 1000:.1f} s"
    seconds = round(milliseconds / 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    if minutes:
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    return f"{seconds} s"


@register.filter
def initials(name: object) -> str:
    """Give one or two letters that stand for a person or a company: "Ada Lovelace" -> "AL", "ada@x.org" -> "A"."""
    words = str(name).partition("@")[0].replace(".", " ").replace("_", " ").split()
    return "".join(word[0] for word in (words[:1] + words[1:][-1:])).upper() or "?"


@register.simple_tag
def control(field: BoundField, plain: object = False) -> SafeString:
    """Draw the control of a form's field; `plain` without its placeholder, where that only repeats the label."""
    return field.as_widget(
        attrs={"placeholder": ""} if plain and "placeholder" in field.field.widget.attrs else None
    )


@register.filter
def browser_words(user_agent: str) -> str:
    """Say in people's words which browser and system a User-Agent names: "Firefox on Windows"."""
    browser = next((name for mark, name in BROWSERS if mark in user_agent), "A program")
    system = next((name for mark, name in SYSTEMS if mark in user_agent), "")
    return f"{browser} on {system}" if system else browser


@dataclass(frozen=True)
class HourBar:
    """One bar of a day's histogram, in the units of the drawing's viewBox."""

    x: int
    y: float
    height: float
    kind: str
    label: str


@register.inclusion_tag("_hours.html")
def hour_bars(counts: Sequence[int], hour_now: int = 23, thing: str = "event") -> Mapping[str, Any]:
    """
    Draw how many things fell into each hour of one day; `counts` has one number an hour, from midnight.

    Hours after `hour_now` (0 to 23) are drawn as not yet come. No inline style: the bars are an SVG's attributes.
    """
    most = max(counts, default=0) or 1
    bars = []
    for hour, count in enumerate(counts):
        height = max(LEAST_BAR, round(HOURS_HEIGHT * count / most, 2)) if count else LEAST_BAR
        if hour > hour_now:
            kind = "ahead"
        elif not count:
            kind = "none"
        else:
            kind = "now" if hour == hour_now else "past"
        label = f"{hour:02}:00, {count} {thing}{'' if count == 1 else 's'}"
        bars.append(
            HourBar(
                x=hour * HOUR_WIDTH + HOUR_GAP // 2,
                y=HOURS_HEIGHT - height,
                height=height,
                kind=kind,
                label=label,
            )
        )
    total = sum(counts)
    return {
        "bars": bars,
        "bar_width": HOUR_WIDTH - HOUR_GAP,
        "view_width": HOUR_WIDTH * len(counts),
        "view_height": HOURS_HEIGHT,
        "summary": f"{total} {thing}{'' if total == 1 else 's'} today, by hour",
    }


@register.inclusion_tag("_nav_item.html", takes_context=True)
def nav_item(
    context: Context, view_name: str, icon_name: str, label: str, style: str = "rail-link"
) -> Mapping[str, Any]:
    """
    One place of the tenant's navigation: `{% nav_item "devices:list" "cctv" "Devices" %}`.

    It is the current one when the page lies at or under its address (the dashboard: only at it). A view may
    override that with `nav` in its context: the view name to mark. A place without a URL is left out.
    """
    try:
        href = reverse(view_name, args=[context["tenant"].slug])
    except NoReverseMatch:
        return {"href": ""}
    request = context.get("request")
    path = request.path if request else ""
    marked = context.get("nav")
    if marked:
        current = marked == view_name
    elif view_name == "events:dashboard":
        current = path == href
    else:
        current = path.startswith(href)
    return {"href": href, "icon_name": icon_name, "label": label, "style": style, "current": current}


@register.inclusion_tag("_nav_item.html", takes_context=True)
def place(context: Context, view_name: str, icon_name: str, label: str) -> Mapping[str, Any]:
    """One place of a person's own account pages, outside any tenant; current at and under its address."""
    href = reverse(view_name)
    request = context.get("request")
    return {
        "href": href,
        "icon_name": icon_name,
        "label": label,
        "style": "place",
        "current": request is not None and request.path.startswith(href),
    }
