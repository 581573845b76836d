"""Why a clip or a picture is not here, as stable codes, and what a person is told about each."""

from dataclasses import dataclass
from typing import Final

from devices.words import PLAN_ENDED, PRIVACY_ZONES


@dataclass(frozen=True)
class Reason:
    """`words` say what happened, `advice` what to do next. `retry` tells whether asking again can help."""

    words: str
    advice: str
    retry: bool = False


REASONS: Final[dict[str, Reason]] = {
    "not_recorded": Reason(
        "Ring has no recording of this moment.",
        "Cameras record when they notice motion or when somebody rings. Choose a time with an event.",
    ),
    "not_ready": Reason(
        "Ring did not finish this recording in time.",
        "Ask for it again in a few minutes.",
        retry=True,
    ),
    "before_consent": Reason(
        "This is from before the Ring account was linked.",
        "Ring shares footage only from the moment of linking on. Choose a later time.",
    ),
    "forbidden": Reason(
        "Ring does not share recordings of this camera.",
        "Check in the Ring app that the camera has a Ring plan and is shared with this app.",
    ),
    "device_gone": Reason(
        "Ring does not share this camera any more.",
        "Share it again in the Ring app, then ask once more.",
    ),
    "unreadable": Reason(
        "Ring sent a recording that cannot be read.",
        "If the camera encrypts its video so that only its owner can see it, pause that in the Ring app.",
    ),
    "privacy_zones": Reason(
        PRIVACY_ZONES,
        "Privacy zones are set in the Ring app. Watch the recording there.",
    ),
    "plan_ended": Reason(
        PLAN_ENDED,
        "Once it is renewed, ask again.",
        retry=True,
    ),
    "too_large": Reason("The recording is larger than this portal keeps.", "Ask for a shorter time."),
    "rejected": Reason(
        "Ring did not accept the request.", "Ask for another time or a shorter one.", retry=True
    ),
    "unlinked": Reason(
        "The link to the Ring account ended before this was here.",
        "Ring gives nothing from before a new link. From then on, new moments can be kept.",
    ),
    "link_again": Reason(
        "The Ring account is not linked at present.",
        "Its owner has been told how to link it again. Ask once more when that is done.",
        retry=True,
    ),
    "app_credentials": Reason(
        "Ring did not accept this company's app credentials.",
        "An administrator can check them in the settings. Then ask once more.",
        retry=True,
    ),
    "unsafe_address": Reason(
        "Ring sent us to an address we do not trust.",
        "Nothing was fetched. Tell the people who run this portal.",
        retry=True,
    ),
    "ring_busy": Reason(
        "Ring asked us to slow down for too long.", "Ask again in a few minutes.", retry=True
    ),
    "ring_unavailable": Reason("Ring did not answer for a long time.", "Ask again later.", retry=True),
    "storage": Reason(
        "This portal could not store the recording.",
        "The disk may be full. Tell the people who run this portal, then ask again.",
        retry=True,
    ),
    "gave_up": Reason(
        "Fetching this recording was interrupted again and again.", "Ask for it again.", retry=True
    ),
}

UNKNOWN: Final = Reason("It could not be fetched.", "Ask for it again.", retry=True)


def reason_for(code: str) -> Reason:
    """Give the words for a stored code; a code this version does not know gets general ones."""
    return REASONS.get(code, UNKNOWN)
