"""How what admins do with deliveries reads in the activity."""

from collections.abc import Mapping
from typing import Any

from accounts.activity import say


def _days(detail: Mapping[str, Any]) -> str:
    return f"events {detail.get('events')} days, webhooks {detail.get('deliveries')} days"


def _format(detail: Mapping[str, Any]) -> str:
    return f"as {str(detail.get('format')).upper()}"


def register() -> None:
    say("delivery.replayed", "took deliveries in again")
    say("events.exported", "took out a list of events", detail=_format)
    say("tenant.retention", "changed how long events are kept", detail=_days)
