"""What the pages, the API and other parts may ask of media; each subject has its own module."""

from media.clips import (
    BeforeConsent,
    ClipRefused,
    ClipTooLong,
    InTheFuture,
    NoVideo,
    PlanEnded,
    PrivacyZones,
    ask_again,
    clip_of_event,
    delete_clip,
    request_clip,
    request_event_clip,
)
from media.live import LiveRefused, OpenedSession, end_session, open_session
from media.pictures import latest_picture

__all__ = [
    "BeforeConsent",
    "ClipRefused",
    "ClipTooLong",
    "InTheFuture",
    "LiveRefused",
    "NoVideo",
    "OpenedSession",
    "PlanEnded",
    "PrivacyZones",
    "ask_again",
    "clip_of_event",
    "delete_clip",
    "end_session",
    "latest_picture",
    "open_session",
    "request_clip",
    "request_event_clip",
]
