"""The frame that the peers send: as long as ours, and with what the counting browsers look at."""

import json


def bare_frame(position: int, sub_type: str) -> str:
    """One event's text."""
    event = {
        "id": "7b0e7d1c-6b1e-4b5e-9c51-2f8a3f0c9d11",
        "event_type": "motion_detected",
        "sub_type": sub_type,
        "occurred_at": "2026-09-21T13:33:20+00:00",
        "position": position,
        "device": None,
        "title": "Motion",
        "icon": "activity",
        "tone": "motion",
        "kind": "motion",
        "is_test": False,
        "url": "/t/bench/events/7b0e7d1c-6b1e-4b5e-9c51-2f8a3f0c9d11/",
    }
    return json.dumps({"type": "event", "position": position, "event": event}, separators=(",", ":"))
