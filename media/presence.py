"""
Who watches a camera at this moment, and who did: for the pages (feature D11).

That somebody watches is told to everybody who may see the device: whoever lives there should know. Who it is, only to
those who manage it (its owner, whoever was given that, the tenant's team), the same who may read its access log.
"""

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from devices.grants import Capability, Holdings, holdings_of, permitted
from devices.models import Device
from media.models import LiveSession
from portal.tenancy import Viewer

MOST_NAMES = 3
SOMEBODY_GONE = "somebody whose data was deleted"


def watching(viewer: Viewer, devices: Iterable[Device] | None = None) -> dict[UUID, str]:
    """
    For each device that is watched now, by its public id, who watches, in words: "You, Ben and 2 others are watching."

    Of all devices the viewer sees, or of `devices`, which must be such. Two queries and what the viewer holds.
    """
    sessions = LiveSession.objects.for_tenant(viewer.tenant_id).viewings().open().filter(permitted(viewer))
    if devices is not None:
        sessions = sessions.filter(device__in=list(devices))
    held = holdings_of(viewer)
    by_device: dict[Device, dict[str, LiveSession]] = {}
    for session in sessions.select_related("viewer", "api_token", "screen", "device__ring_account").order_by(
        "opened_at"
    ):
        # Two windows of one person are one who watches.
        by_device.setdefault(session.device, {}).setdefault(_identity(session), session)
    return {
        device.public_id: _in_words(list(of_device.values()), viewer=viewer, held=held, device=device)
        for device, of_device in by_device.items()
    }


def _identity(session: LiveSession) -> str:
    if session.viewer_id is not None:
        return f"person {session.viewer_id}"
    return f"program {session.api_token_id}, screen {session.screen_id}"


def _in_words(sessions: list[LiveSession], *, viewer: Viewer, held: Holdings, device: Device) -> str:
    own = [session for session in sessions if _is_own(session, viewer)]
    others = [session for session in sessions if not _is_own(session, viewer)]
    names = ["You"] if own else []
    if held.may(Capability.MANAGE, device):
        named = others if len(names) + len(others) <= MOST_NAMES else others[: MOST_NAMES - 1]
        names += [name_of(session) for session in named]
    else:
        named = []
    if rest := len(others) - len(named):
        names.append(f"{rest} other{'s' if rest > 1 else ''}" if names else _people(rest))
    verb = "is" if len(sessions) == 1 and not own else "are"
    return begin(f"{_listed(names)} {verb} watching.")


def begin(words: str) -> str:
    """With a capital, where it is not somebody's name or address."""
    return words[0].upper() + words[1:] if words.startswith(("the ", "somebody ")) else words


def _is_own(session: LiveSession, viewer: Viewer) -> bool:
    return session.viewer_id is not None and session.viewer_id == viewer.user_id


def _people(count: int) -> str:
    return "somebody" if count == 1 else f"{count} people"


def _listed(names: list[str]) -> str:
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def name_of(session: LiveSession) -> str:
    """Who watched, within a sentence, for those who may know."""
    if session.viewer is not None:
        return str(session.viewer)
    if session.api_token is not None:
        return f"the program “{session.api_token.name}”"
    if session.screen is not None:
        return f"the screen “{session.screen.name}”"
    return SOMEBODY_GONE


def watched_for(session: LiveSession) -> timedelta | None:
    """How long; None while it goes on."""
    return None if session.ended_at is None else session.ended_at - session.opened_at
