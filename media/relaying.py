"""
Where the relay meets our books: which way a viewer gets the picture, rows for its sessions, and signs of life.

Rows decide, here as everywhere: whoever ends a row (a page, an event, a sweep, in any process) ends the viewing, because
the relaying process looks at its rows every second. By the same look it renews their leases; when it dies, the sweep
ends what it left, at Ring too, within five seconds.

The relay runs in the web process, or in nodes of its own (`LIVE_RELAY=nodes`, media.nodes).
"""

import asyncio
import atexit
import logging
import os
import socket
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.db import DatabaseError, InterfaceError, transaction
from django.utils import timezone
from django.utils.crypto import get_random_string

from accounts.models import LivePath
from devices.models import Device
from events.threads import Threads, give_back_connection, in_thread
from media import live, nodes
from media.ice import relays_own
from media.live import LiveRefused, OpenedSession, Watcher
from media.models import LiveSession, LiveSessionQuerySet, RelayNode
from media.nodes import NodeSilent
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
    watcher: Watcher,
    path: str = "",
    now: datetime,
) -> OpenedSession:
    """
    Open a viewing: direct, through the relay, or (`path` empty) whichever fits. Raises LiveRefused.

    Not to be called inside a transaction.
    """
    component_id = live.check_camera(device, component_id, now=now)
    chosen = path or _choose_path(device, component_id)
    opening = _open_relayed if chosen == Path.RELAY else live.open_session
    return opening(device=device, offer_sdp=offer_sdp, component_id=component_id, watcher=watcher, now=now)


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
    *, device: Device, offer_sdp: str, component_id: str, watcher: Watcher, now: datetime
) -> OpenedSession:
    session = live.begin_viewing(
        device=device,
        component_id=component_id,
        watcher=watcher,
        kind=LiveSession.Kind.RELAYED,
        cap_s=round(_watch_time(device).total_seconds()),
        now=now,
    )
    opening = _answer_by_node if settings.LIVE_RELAY == "nodes" else _answer_here
    try:
        answer = opening(session, offer_sdp)
    except LiveRefused as refused:
        live.mark_failed(session, error=refused.reason)
        raise
    except Exception as error:
        live.mark_failed(session, error=type(error).__name__)
        raise
    with transaction.atomic():
        row: LiveSession = LiveSession.objects.select_for_update().get(pk=session.pk)
        if row.ended_at is None:
            live.audit_start(row)
            row.next_attempt_at = timezone.now() + live.SIGN_OF_LIFE
            row.save(update_fields=["next_attempt_at"])
    if row.ended_at is not None:
        _drop_here(row, row.end_reason)
        raise LiveRefused(
            "The camera was taken away while the picture was being opened.", reason=row.end_reason, status=409
        )
    return OpenedSession(session=row, answer_sdp=answer)


def _answer_here(session: LiveSession, offer_sdp: str) -> str:
    # The relay needs one, too; and a dozen who wait for the same camera must not have them all.
    give_back_connection()
    try:
        return relay().watch(_key_of(session), viewer_id=session.pk, offer_sdp=offer_sdp)
    except (UpstreamRefused, ViewerRefused) as error:
        raise _refusal_from(error) from error


def _answer_by_node(session: LiveSession, offer_sdp: str) -> str:
    """One node, and where that says nothing, another: it may have died less than three seconds ago."""
    first = _assign(session)
    give_back_connection()
    try:
        return nodes.ask(first, session_id=session.pk, offer_sdp=offer_sdp)
    except NodeSilent:
        logger.warning("A relay node says nothing. node=%s", first.name)
    second = _assign(session, without=first)
    give_back_connection()
    try:
        return nodes.ask(second, session_id=session.pk, offer_sdp=offer_sdp)
    except NodeSilent:
        raise _no_node() from None


def _assign(session: LiveSession, *, without: RelayNode | None = None) -> RelayNode:
    """Write down which node is to have this viewer: where the camera is already, else where it belongs."""
    with transaction.atomic():
        # Two who come at once are sent to the same.
        Device.objects.select_for_update().get(pk=session.device_id)
        alive = {node.name: node for node in nodes.living(now=timezone.now()) if node != without}
        if not alive:
            raise _no_node()
        has_camera = LiveSession.objects.open().filter(
            device=session.device_id, component_id=session.component_id, relay_node__in=alive
        )
        name = has_camera.order_by("-opened_at").values_list("relay_node", flat=True).first()
        node = alive[name] if name else nodes.choose(_key_of(session), alive.values())
        session.relay_node = node.name
        session.save(update_fields=["relay_node"])
    return node


def _no_node() -> LiveRefused:
    return LiveRefused(
        "No process that passes live pictures on is running at the moment.",
        reason="unavailable",
        status=503,
        retry_after_s=5,
    )


def _refusal_from(error: UpstreamRefused | ViewerRefused) -> LiveRefused:
    """What the relay's refusal means to whoever wants to watch."""
    if isinstance(error, ViewerRefused):
        return LiveRefused(str(error) or "The offer cannot be answered.", reason="offer", status=422)
    if isinstance(error.__cause__, LiveRefused):
        return error.__cause__
    return LiveRefused(
        "The picture of this camera cannot be passed on at the moment.",
        reason=error.reason,
        status=503,
        retry_after_s=5,
    )


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
    if session.kind == LiveSession.Kind.RELAYED:
        _drop_here(session, reason)


def _drop_here(session: LiveSession, reason: str) -> None:
    """Let go a viewing that has ended, if it is here; a node that has it sees the row within a second."""
    if _state.relay is not None:
        _state.relay.drop(session.pk, reason)


# --- the relay of this process ---


class _State:
    """The one relay of a process, made when it is first needed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.relay: Relay | None = None
        # Where this process is a relay node: its name, and where it is asked, "" once it ends.
        self.node = self.channel = ""


_state = _State()
# Nothing may stand before a sign of life: whoever is not heard of for three seconds has died.
_looking = Threads("live-look", count=1)


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


def _key_of(session: LiveSession) -> str:
    return f"{session.tenant_id}:{session.device_id}:{session.component_id}"


# --- this process as a relay node ---


def start_node(channel: str) -> str:
    """From here on this process is a node that is asked on `channel`; return its name."""
    _state.node = f"{socket.gethostname()[:24]}-{os.getpid()}-{get_random_string(8)}"
    _state.channel = channel
    _beat([], [])
    relay()
    return _state.node


async def answer_as_node(session_id: int, offer_sdp: str) -> str:
    """Answer a viewer whose row says that this node is to have it. Raises LiveRefused."""
    key = await in_thread(_key_of_mine, session_id)
    if key is None:
        # Asked late: given to another node meanwhile, or over.
        raise LiveRefused("This viewing has ended.", reason="lost", status=409)
    try:
        return await relay().answer(key, viewer_id=session_id, offer_sdp=offer_sdp)
    except (UpstreamRefused, ViewerRefused) as error:
        raise _refusal_from(error) from error


async def stop_node() -> None:
    """Send everybody away, to other nodes, and end at Ring what is open here."""
    _state.channel = ""
    # Behind a stamp that is under way, which would make the row anew.
    await _looking.run(nodes.sign_off, _state.node)
    await in_thread(relay().close, LiveSession.EndReason.RELAY)


def _key_of_mine(session_id: int) -> str | None:
    with across_tenants("a process relays for all tenants, and looks after what it relays"):
        session = _mine().open().filter(pk=session_id).first()
    return None if session is None else _key_of(session)


def _mine() -> LiveSessionQuerySet:
    """The rows of this process; of web processes all, which touch only what they hold."""
    return LiveSession.objects.filter(relay_node=_state.node)


def _beat(viewers: list[int], leases: list[int]) -> None:
    if _state.channel:
        nodes.beat(
            _state.node, _state.channel, viewers=len(viewers), sessions=len(leases), now=timezone.now()
        )


# --- what the relay does at Ring ---


class _Books:
    """What the relay does at Ring, with a row for each session (media.relay.camera.Upstreams)."""

    async def open(self, key: str, offer_sdp: str) -> Lease:
        try:
            return await in_thread(_open_upstream, key, offer_sdp)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("A live session could not be written down. kind=%s", type(error).__name__)
            raise UpstreamRefused("unavailable", is_final=False) from error

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
        viewings = _mine().open().filter(kind=LiveSession.Kind.RELAYED)
        if not viewings.filter(device=device, component_id=component_id).exists():
            # This process hung; its viewers were sent elsewhere, and the camera must not be opened for them again.
            raise LiveRefused("Nobody watches this camera here any more.", reason="lost", status=409)
        session = LiveSession.objects.create(
            tenant=device.tenant,
            kind=LiveSession.Kind.UPSTREAM,
            device=device,
            component_id=live.check_camera(device, component_id, now=now),
            opened_at=now,
            relay_node=_state.node,
            cap_s=device.session_cap_s,
            next_attempt_at=now + live.OPENING,
        )
        opened = live.open_at_ring(session, offer_sdp=offer_sdp)
    except LiveRefused as refused:
        is_final = refused.retry_after_s is None or refused.reason in {"offline", "budget"}
        raise UpstreamRefused(refused.reason, is_final=is_final) from refused
    return Lease(id=opened.session.pk, cap_s=opened.session.cap_s, answer_sdp=opened.answer_sdp)


def _end_row(pk: int, reason: str) -> None:
    with across_tenants("a process relays for all tenants, and looks after what it relays"):
        row = _mine().select_related(*_NEEDED).filter(pk=pk).first()
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
        try:
            if _state.channel:
                # From the loop that relays: a node whose pictures stand still must not seem alive.
                await _looking.run(_beat, viewers, leases)
            if not viewers and not leases:
                continue
            ended = await _looking.run(_look, [*viewers, *leases])
        except (DatabaseError, InterfaceError) as error:
            logger.warning("Live sessions could not be looked after. kind=%s", type(error).__name__)
            continue
        except Exception:
            # Without the next look no lease of this process is renewed any more.
            logger.exception("Live sessions could not be looked after.")
            continue
        for pk, reason in ended.items():
            if pk in leases:
                relay.lease_ended(pk, reason)
            else:
                relay.drop(
                    pk, reason
                )  # which ends the row, too, beside this: hundreds take longer than a lease lasts


def _look(pks: list[int]) -> dict[int, str]:
    """Renew what is still open; return the others with the reason of their end. Whose time is up has yet to be ended."""
    now = timezone.now()
    with across_tenants("a process relays for all tenants, and looks after what it relays"):
        rows = list(_mine().select_related(*_NEEDED).filter(pk__in=pks))
        elsewhere = _given_elsewhere(rows, now=now) if _state.node else set()
    ended = dict.fromkeys(pks, LiveSession.EndReason.REMOVED.value)
    alive = []
    for row in rows:
        is_viewing = row.ended_at is None and row.kind == LiveSession.Kind.RELAYED
        if is_viewing and now >= row.opened_at + timedelta(seconds=row.cap_s):
            ended[row.pk] = LiveSession.EndReason.CAP.value
        elif is_viewing and _camera_of(row) in elsewhere:
            ended[row.pk] = LiveSession.EndReason.RELAY.value
        elif row.ended_at is None:
            alive.append(row.pk)
            del ended[row.pk]
        else:
            ended[row.pk] = row.end_reason
    with across_tenants("a process relays for all tenants, and looks after what it relays"):
        LiveSession.objects.open().filter(pk__in=alive).update(next_attempt_at=now + live.SIGN_OF_LIFE)
    return ended


def _camera_of(row: LiveSession) -> tuple[int, str]:
    return row.device_id, row.component_id


def _given_elsewhere(rows: list[LiveSession], *, now: datetime) -> set[tuple[int, str]]:
    """
    The cameras among `rows` whose newest viewer another node was given, and has the camera for.

    This one was not heard of for a moment. Two would drain a camera twice, so the one with the newest viewer keeps it.
    """
    ours: dict[tuple[int, str], int] = {}
    for row in rows:
        if row.kind == LiveSession.Kind.RELAYED:
            ours[_camera_of(row)] = max(row.pk, ours.get(_camera_of(row), 0))
    theirs = (
        LiveSession.objects.open()
        .filter(device__in={device for device, _ in ours}, next_attempt_at__gt=now)
        .exclude(relay_node=_state.node)
    )
    has_it = {(row.relay_node, *_camera_of(row)) for row in theirs if row.kind == LiveSession.Kind.UPSTREAM}
    return {
        _camera_of(row)
        for row in theirs
        if row.kind == LiveSession.Kind.RELAYED
        and (row.relay_node, *_camera_of(row)) in has_it
        and row.pk > ours.get(_camera_of(row), row.pk)
    }


def _say_goodbye() -> None:
    """The process ends in peace: tell Ring now what the sweep would tell it in a few seconds."""
    if _state.relay is None:
        return
    viewers, leases = _state.relay.standing()
    for pk in [*leases, *viewers]:
        try:
            _end_row(pk, LiveSession.EndReason.RELAY)
        except Exception as error:
            logger.warning("A live session was left to the sweep. kind=%s", type(error).__name__)
            return
