"""An event as websockets and programs get it (design 6)."""

from typing import Any

from django.urls import reverse

from events import words
from events.models import Event


def frame_for(event: Event) -> dict[str, Any]:
    """
    The frame of one event, ready for JSON. `event.tenant`, `event.device` and `event.picture` should be loaded with it.

    `event_type` and `sub_type` are as Ring spells them; `title` and `icon` are for people. `kind` names the filter
    of the events page that shows it. `picture` is its address, once there is one.
    """
    kind = words.kind_of(event)
    device = event.device
    return {
        "type": "event",
        "position": event.position,
        "event": {
            "id": str(event.public_id),
            "event_type": event.event_type,
            "sub_type": event.sub_type,
            "occurred_at": event.occurred_at.isoformat(),
            "position": event.position,
            "device": None if device is None else {"id": str(device.public_id), "name": device.name},
            "title": words.title_of(event),
            "icon": kind.icon,
            "tone": kind.tone,
            "kind": words.filter_of(kind),
            "is_test": event.is_test,
            "request_id": event.request_id,
            "url": reverse("events:detail", args=[event.tenant.slug, event.public_id]),
            "picture": _picture_of(event),
        },
    }


def picture_frame_for(event: Event) -> dict[str, Any]:
    """The picture of an event that was told of before has come."""
    return {"type": "picture", "event": str(event.public_id), "url": _picture_of(event)}


def _picture_of(event: Event) -> str | None:
    picture = getattr(event, "picture", None)
    if picture is None or not picture.file:
        return None
    return reverse("media:picture", args=[event.tenant.slug, picture.public_id])
