"""
Where the relay meets our books: which way a viewer gets the picture, rows for its sessions, and signs of life.

Rows decide, here as everywhere: whoever ends a row (a page, an event, a sweep, in any process) ends the viewing, because
the relaying process looks at its rows every second. By the same look it renews their leases; when it dies, the sweep
ends what it left, at Ring too, within five seconds.
"""

import asyncio
import atexit
import logging
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.utils import timezone

from accounts.models import ApiToken, LivePath, User
from devices.models import Device
from events.threads import in_thread
from media import live
from media.ice import relays_own
from media.live import LiveRefused, OpenedSession
from media.models import LiveSession, Screen
from media.relay.terms import Lease, Network, UpstreamRefused, ViewerRefused
from portal.walls import across_tenants, tenant_scope

if TYPE_CHECKING:
    from media.relay.hub import Relay

logger = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
# Without another word from the viewer. Line power may take longer; a battery pays for each minute.
WATCH: Final = timedelta(minutes=5)
WATCH_ON_BATTERY: Final = timedelta(minutes=1)
_NEEDED: Final = ("tenant", "viewer", "device__ring_account__user")
# Why Ring refuses to go on, as the reason of an end.
_ENDS: Final = {
    "offline": LiveSession.EndReason.OFFLINE,
    "removed": LiveSession.EndReason.REMOVED,
    "privacy_zones": LiveSession.EndReason.PRIVACY,
}


class NotRelayed(Exception):
    """This session is direct: it cannot be prolonged, only followed by another."""


@dataclass(frozen=True)
class Path:
    """The ways a picture can come."""

    DIRECT: Final = "direct"
    RELAY: Final = "relay"


# --- watching ---


def watch(
    *,
    device: Device,
    offer_sdp: str,
    component_id: str = "",
    viewer: User | None,
    api_token: ApiToken | None = None,
    screen: Screen | None = None,
    session_key: str = "",
    path: str = "",
    now: datetime,
) -> OpenedSession:
    """
    Open a viewing: direct, through the relay, or (`path` empty) whichever fits. Raises LiveRefused.

    `session_key`: the sign-in it belongs to and ends with, kept from the first moment on.

    Not to be called inside a transaction.
    """
    component_id = live.check_camera(device, component_id, now=now)
    live.check_room(device, viewer=viewer)
    chosen = path or _choose_path(device, component_id)
    opening = _open_relayed if chosen == Path.RELAY else live.open_session
    return opening(
        device=device,
        offer_sdp=offer_sdp,
        component_id=component_id,
        viewer=viewer,
        api_token=api_token,
        screen=screen,
        session_key=session_key,
        now=now,
    )


def _choose_path(device: Device, component_id: str) -> str:
    """
    What the company has chosen; else direct for the only viewer of a line-powered camera, and the relay for all others.

    Nothing of a direct picture passes through this machine. But each one is a session of its own at the camera, which a
    battery feels and a second viewer doubles.
    """
    chosen = device.tenant.live_path
    if chosen != LivePath.AUTOMATIC:
        return Path.DIRECT if chosen == LivePath.DIRECT else Path.RELAY
    if device.is_battery_powered is not False or _is_watched(device, component_id):
        return Path.RELAY
    return Path.DIRECT


def _is_watched(device: Device, component_id: str) -> bool:
    return LiveSession.objects.open().filter(device=device, component_id=component_id).exists()


def should_move(session: LiveSession) -> bool:
    """
    True for a direct session while the relay has the camera, too: moving over saves the camera a session.

    Not where the company wants it direct.
    """
    if session.tenant.live_path == LivePath.DIRECT:
        return False
    at_relay = LiveSession.objects.open().filter(
        kind=LiveSession.Kind.UPSTREAM, device=session.device_id, component_id=session.component_id
    )
    return session.kind == LiveSession.Kind.DIRECT and at_relay.exists()


def _open_relayed(
    *,
    device: Device,
    offer_sdp: str,
    component_id: str,
    viewer: User | None,
    api_token: ApiToken | None,
    screen: Screen | None,
    session_key: str,
    now: datetime,
) -> OpenedSession:
    session = LiveSession.objects.create(
        tenant=device.tenant,
        kind=LiveSession.Kind.RELAYED,
        device=device,
        component_id=component_id,
        viewer=viewer,
        api_token=api_token,
        screen=screen,
        session_key=session_key,
        opened_at=now,
        cap_s=round(_watch_time(device).total_seconds()),
        next_attempt_at=now + live.OPENING,
    )
    try:
        answer = relay().watch(_key(device, component_id), viewer_id=session.pk, offer_sdp=offer_sdp)
    except UpstreamRefused as refused:
        live.mark_failed(session, error=refused.reason)
        if isinstance(refused.__cause__, LiveRefused):
            raise refused.__cause__ from refused
        raise LiveRefused(
            "The picture of this camera cannot be passed on at the moment.",
            reason=refused.reason,
            status=503,
            retry_after_s=5,
        ) from refused
    except ViewerRefused as error:
        live.mark_failed(session, error=type(error).__name__)
        raise LiveRefused(
            str(error) or "The offer cannot be answered.", reason="offer", status=422
        ) from error
    with transaction.atomic():
        row: LiveSession = LiveSession.objects.select_for_update().get(pk=session.pk)
        if row.ended_at is None:
            live.audit_start(row)
            row.next_attempt_at = timezone.now() + live.SIGN_OF_LIFE
            row.save(update_fields=["next_attempt_at"])
    if row.ended_at is not None:
        relay().drop(session.pk, row.end_reason)
        raise LiveRefused(
            "The camera was taken away while the picture was being opened.", reason=row.end_reason, status=409
        )
    return OpenedSession(session=row, answer_sdp=answer)


def keep_watching(session: LiveSession, *, now: datetime) -> int:
    """
    The viewer of a relayed session is still there: let it go on, and return for how many seconds from now.

    Raises NotRelayed, or LiveRefused when the battery has given enough for a day.
    """
    if session.kind != LiveSession.Kind.RELAYED:
        raise NotRelayed
    live.check_camera(session.device, session.component_id, now=now)
    until = now - session.opened_at + _watch_time(session.device)
    LiveSession.objects.open().filter(pk=session.pk).update(cap_s=round(until.total_seconds()))
    return round(_watch_time(session.device).total_seconds())


def _watch_time(device: Device) -> timedelta:
    return WATCH if device.is_battery_powered is False else WATCH_ON_BATTERY


def end_viewing(*, session: LiveSession, reason: LiveSession.EndReason, now: datetime) -> None:
    """End a viewing of either kind; a relayed one at once where this process relays it."""
    live.end_session(session=session, reason=reason, now=now)
    if session.kind == LiveSession.Kind.RELAYED and _state.relay is not None:
        _state.relay.drop(session.pk, reason.value)


# --- the relay of this process ---


class _State:
    """The one relay of a process, made when it is first needed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.relay: Relay | None = None


_state = _State()


def relay() -> "Relay":
    """The relay of this process."""
    from media.relay.hub import Relay  # loads aiortc: only where it is used

    with _state.lock:
        if _state.relay is None:
            network = Network(ice_servers=relays_own(), on_loopback=settings.DEBUG)
            _state.relay = Relay(upstreams=_Books(), network=network)
            asyncio.run_coroutine_threadsafe(_look_after(_state.relay), _state.relay.loop())
            atexit.register(_say_goodbye)
        return _state.relay


def _key(device: Device, component_id: str) -> str:
    return f"{device.tenant_id}:{device.pk}:{component_id}"


class _Books:
    """What the relay does at Ring, with a row for each session (media.relay.camera.Upstreams)."""

    async def open(self, key: str, offer_sdp: str) -> Lease:
        return await in_thread(_open_upstream, key, offer_sdp)

    async def close(self, lease_id: int, reason: str) -> None:
        await self._end(lease_id, reason)

    async def viewer_gone(self, viewer_id: int, reason: str) -> None:
        await self._end(viewer_id, reason)

    async def _end(self, pk: int, reason: str) -> None:
        try:
            await in_thread(_end_row, pk, reason)
        except (DatabaseError, InterfaceError) as error:
            # Its lease runs out, and the sweep ends it.
            logger.warning("A live session could not be written down as ended. kind=%s", type(error).__name__)


def _open_upstream(key: str, offer_sdp: str) -> Lease:
    tenant_id, device_id, component_id = key.split(":", 2)
    with tenant_scope(int(tenant_id)):
        return _open_upstream_of(int(device_id), component_id, offer_sdp, now=timezone.now())


def _open_upstream_of(device_id: int, component_id: str, offer_sdp: str, *, now: datetime) -> Lease:
    try:
        device = (
            Device.objects.present().select_related("tenant", "ring_account").filter(pk=device_id).first()
        )
        if device is None:
            raise LiveRefused("Ring does not share this camera any more.", reason="removed", status=404)
        session = LiveSession.objects.create(
            tenant=device.tenant,
            kind=LiveSession.Kind.UPSTREAM,
            device=device,
            component_id=live.check_camera(device, component_id, now=now),
            opened_at=now,
            cap_s=device.session_cap_s,
            next_attempt_at=now + live.OPENING,
        )
        opened = live.open_at_ring(session, offer_sdp=offer_sdp)
    except LiveRefused as refused:
        is_final = refused.retry_after_s is None or refused.reason == "offline"
        raise UpstreamRefused(refused.reason, is_final=is_final) from refused
    return Lease(id=opened.session.pk, cap_s=opened.session.cap_s, answer_sdp=opened.answer_sdp)


def _end_row(pk: int, reason: str) -> None:
    with across_tenants("a process relays for all tenants, and looks after what it relays"):
        row = LiveSession.objects.select_related(*_NEEDED).filter(pk=pk).first()
    if row is not None:
        with tenant_scope(row.tenant_id):
            live.end_session(session=row, reason=_end_reason(reason), now=timezone.now())


def _end_reason(word: str) -> LiveSession.EndReason:
    if word in LiveSession.EndReason.values:
        return LiveSession.EndReason(word)
    return _ENDS.get(word, LiveSession.EndReason.LOST)


async def _look_after(relay: "Relay") -> None:
    """Every second: renew the leases of what goes on here, and let go what ended elsewhere."""
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        viewers, leases = relay.standing()
        if not viewers and not leases:
            continue
        try:
            ended = await in_thread(_look, [*viewers, *leases])
        except (DatabaseError, InterfaceError) as error:
            logger.warning("Live sessions could not be looked after. kind=%s", type(error).__name__)
            continue
        for pk, reason in ended.items():
            if pk in leases:
                relay.lease_ended(pk, reason)
            else:
                relay.drop(pk, reason)


def _look(pks: list[int]) -> dict[int, str]:
    """Renew what is still open; return the others with the reason of their end."""
    now = timezone.now()
    with across_tenants("a process relays for all tenants, and looks after what it relays"):
        rows = list(LiveSession.objects.select_related(*_NEEDED).filter(pk__in=pks))
    ended = dict.fromkeys(pks, LiveSession.EndReason.REMOVED.value)
    alive = []
    for row in rows:
        is_over = now >= row.opened_at + timedelta(seconds=row.cap_s)
        if row.ended_at is None and row.kind == LiveSession.Kind.RELAYED and is_over:
            with tenant_scope(row.tenant_id):
                live.end_session(session=row, reason=LiveSession.EndReason.CAP, now=now)
            ended[row.pk] = LiveSession.EndReason.CAP.value
        elif row.ended_at is None:
            alive.append(row.pk)
            del ended[row.pk]
        else:
            ended[row.pk] = row.end_reason
    with across_tenants("a process relays for all tenants, and looks after what it relays"):
        LiveSession.objects.open().filter(pk__in=alive).update(next_attempt_at=now + live.SIGN_OF_LIFE)
    return ended


def sweep() -> None:
    """
    End at Ring what a relaying process left behind when it died, by a thread of a worker that only looks.

    Not a task: a long fetch of a clip must not stand before it.
    """
    try:
        with across_tenants("a process relays for all tenants, and looks after what it relays"):
            due = LiveSession.objects.exclude(kind=LiveSession.Kind.DIRECT).filter(
                next_attempt_at__lte=timezone.now()
            )
            found = list(due.values_list("pk", "tenant_id")[:100])
        for pk, tenant_id in found:
            with tenant_scope(tenant_id):
                live.close_upstream(pk)
    except (DatabaseError, InterfaceError) as error:
        logger.warning("What relays left could not be looked at. error=%s", type(error).__name__)
    finally:
        connection.close()


def _say_goodbye() -> None:
    """The process ends in peace: tell Ring now what the sweep would tell it in a few seconds."""
    if _state.relay is None:
        return
    viewers, leases = _state.relay.standing()
    for pk in [*leases, *viewers]:
        try:
            _end_row(pk, "lost")
        except Exception as error:
            logger.warning("A live session was left to the sweep. kind=%s", type(error).__name__)
            return
