"""
One camera and everybody who watches it: the session at Ring that feeds the stream now, and the next one.

Ring ends each session after its cap. Before that the next one is opened; the stream changes over at its first whole
keyframe, and the old one is ended then, not before (make before break). A session that falls silent or is lost is replaced in
the same way, a few times; the viewers stay. Where Ring gives no second session beside the first, the first is kept to its
end, and the next one opened right after it.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from media.relay import rtp
from media.relay.keyframes import KeyframeRequests
from media.relay.loss import Missing
from media.relay.rtp import Packet
from media.relay.stream import Frame, Source, Stream
from media.relay.terms import IN_USE, Lease, Network, UpstreamRefused, Upstreams, ViewerRefused
from media.relay.viewer import Viewer
from media.relay.wire import Layout, NotNegotiable, UpstreamPeer, ViewerPeer

logger = logging.getLogger(__name__)

# So long before the cap the next session is opened: Ring's answer, ICE, a keyframe, and one more try.
LEAD_S: Final = 7.0
# Earlier where the longest of the last openings was slow, by what it took and this much more; but so that a session is used
# for a while: the lead is no larger share of it than this.
SPARE_S: Final = 4.0
LEAD_MOST: Final = 0.6
RECENT_OPENINGS: Final = 4
# Somebody who loads the page again finds the session still there.
LINGER_S: Final = 1.5
STALL_S: Final = 3.0
# Opening and connecting to the first packet.
CONNECT_S: Final = 10.0
RETRY_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
TICK_S: Final = 0.25
# A viewer that reports regularly and then says nothing for so long is gone; ICE would tell after half a minute.
SILENCE_S: Final = 4.0
REGULAR_REPORTS: Final = 4
VIEWER_CONNECT_S: Final = 15.0
# The goodbye is one datagram that nobody repeats: not in the middle of a burst of pictures, where it is lost first.
PARTING_S: Final = 0.25


class _Session:
    """One session at Ring, from its offer to its end."""

    def __init__(self, camera: "Camera") -> None:
        self.lease: Lease | None = None
        self.opened_at = self.began_at = time.monotonic()
        self.ends_at = float("inf")
        self.heard_at = self.opened_at
        self.is_lost = False
        self.has_picture = False
        self.is_shown = False
        self.missing = Missing()
        self._asking: asyncio.TimerHandle | None = None
        self.source = Source(camera.stream)
        self.keyframes = KeyframeRequests(lambda: self.peer.ask_keyframe())
        self.peer = UpstreamPeer(
            ice_servers=camera.network.ice_servers,
            on_loopback=camera.network.on_loopback,
            on_packet=self._received,
            on_state=self._state,
        )

    def is_dead(self, now: float) -> bool:
        silent_s = now - self.heard_at
        return self.is_lost or silent_s > (STALL_S if self.has_picture else CONNECT_S)

    def _received(self, packet: rtp.Received) -> None:
        now = time.monotonic()
        # Some senders fill their line with packets of nothing but padding: they have numbers, so they are passed on, and
        # are no picture.
        if packet.payload:
            self.heard_at = now
        is_first = not self.has_picture
        self.has_picture = self.has_picture or bool(packet.payload)
        number = self.source.receive(
            ssrc=packet.ssrc,
            sequence=packet.sequence,
            timestamp=packet.timestamp,
            marker=packet.marker,
            payload=packet.payload,
            now=now,
        )
        if number is None:
            return
        if is_first and self.source.has_begun:
            self.keyframes.expect()
        if not self.missing.arrived(number, now=now) or (is_first and not self.source.has_begun):
            self.keyframes.ask()
        self._ask_again(now)

    def _ask_again(self, now: float) -> None:
        """Ask for what is missing, now and by a timer: after the last packet of a picture nothing comes for a while."""
        asked = self.missing.due(now=now)
        if asked:
            self.peer.ask_again(asked)
        due_at = self.missing.next_at()
        if due_at is None or self._asking is not None:
            return
        self._asking = asyncio.get_running_loop().call_later(max(0.001, due_at - now), self._asking_is_due)

    def _asking_is_due(self) -> None:
        self._asking = None
        if not self.source.is_over:
            self._ask_again(time.monotonic())

    def ask_keyframe(self) -> None:
        """A viewer needs one. Before anything came there is nobody to ask: the first packet will. Nor after its end."""
        if self.has_picture and not self.source.is_over:
            self.keyframes.ask()

    def _state(self, state: str) -> None:
        if state in ("failed", "closed"):
            self.is_lost = True

    def quiet(self) -> None:
        """Nothing of it counts any more."""
        self.source.end()
        self.keyframes.stop()
        if self._asking is not None:
            self._asking.cancel()

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            await self.peer.close()


@dataclass
class _Watching:
    """One viewer with its connection."""

    id: int
    viewer: Viewer
    peer: ViewerPeer
    since: float
    is_connected: bool = False


class Camera:
    """`key` names the camera towards `upstreams`. Everything runs in the relay's event loop; `on_end` when it is over."""

    def __init__(
        self, key: str, *, upstreams: Upstreams, network: Network, on_end: "Callable[[Camera], None]"
    ) -> None:
        self.key = key
        self.network = network
        self.stream = Stream(on_frame=self._frame, on_repair=self._repair)
        self.splices = 0
        self._upstreams = upstreams
        self._on_end = on_end
        self._viewers: dict[int, _Watching] = {}
        self._joining = 0
        self._current: _Session | None = None
        self._next: _Session | None = None
        self._opening_next: asyncio.Task[None] | None = None
        self._last_refusal: UpstreamRefused | None = None
        self._wanted_at = time.monotonic()
        self._failures = 0
        self._retry_at = 0.0
        # How long it took from the beginning of an offer to a whole picture, or to giving up.
        self._openings_s: deque[float] = deque(maxlen=RECENT_OPENINGS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_over = False
        self._goodbye = "closed"
        self._running = asyncio.get_running_loop().create_task(self._run())
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._first.add_done_callback(lambda done: done.cancelled() or done.exception())

    # --- viewers ---

    @property
    def is_over(self) -> bool:
        return self._is_over

    @property
    def viewer_ids(self) -> list[int]:
        return list(self._viewers)

    @property
    def lease_ids(self) -> list[int]:
        return [s.lease.id for s in (self._current, self._next) if s is not None and s.lease is not None]

    async def join(self, viewer_id: int, offer_sdp: str) -> str:
        """Answer one viewer's offer. Raises UpstreamRefused or ViewerRefused."""
        self._joining += 1
        try:
            await asyncio.shield(self._first)
            if self._is_over or self._current is None:
                raise UpstreamRefused("unavailable", is_final=False)
            return await self._answer(viewer_id, offer_sdp, self._current.peer.profile)
        finally:
            self._joining -= 1
            self._wanted_at = time.monotonic()

    async def _answer(self, viewer_id: int, offer_sdp: str, profile: str) -> str:
        watching: _Watching | None = None

        def state(name: str) -> None:
            if watching is None:
                return
            if name == "connected" and not watching.is_connected:
                watching.is_connected = True
                watching.viewer.begin(watching.peer.link(fast=self.network.use_fast_path))
            elif name in ("failed", "closed"):
                self.drop(viewer_id, "closed" if watching.is_connected else "failed")

        def feedback(said: rtp.Feedback) -> None:
            if watching is not None:
                watching.viewer.feedback(said, now=time.monotonic())

        peer = ViewerPeer(
            ice_servers=self.network.ice_servers,
            on_loopback=self.network.on_loopback,
            on_feedback=feedback,
            on_state=state,
            report=lambda: watching.viewer.report() if watching is not None else None,
        )
        try:
            answer = await peer.answer(offer_sdp, profile=profile)
            if self._is_over:
                # Everybody was sent away meanwhile, and nobody would ever send this one anything, or away.
                raise UpstreamRefused("unavailable", is_final=False)
        except (ValueError, NotNegotiable) as error:
            await peer.close()
            raise ViewerRefused(str(error) if isinstance(error, ValueError) else "") from error
        except BaseException:
            await peer.close()
            raise
        viewer = Viewer(
            stream=self.stream,
            ask_keyframe=self._ask_keyframe,
            payload_type=peer.payload_type,
            ssrc=peer.ssrc,
            rtx_payload_type=peer.rtx_payload_type,
            rtx_ssrc=peer.rtx_ssrc,
        )
        watching = _Watching(viewer_id, viewer, peer, time.monotonic())
        self._viewers[viewer_id] = watching
        if peer.is_connected:  # it may have been quicker than we
            state("connected")
        return answer

    def drop(self, viewer_id: int, reason: str) -> bool:
        """End one viewer's connection; False when there is no such viewer here."""
        watching = self._viewers.pop(viewer_id, None)
        if watching is None:
            return False
        watching.viewer.close()
        if not self._viewers:
            self._wanted_at = time.monotonic()
        self._spawn(self._part(watching.peer))
        self._spawn(self._upstreams.viewer_gone(viewer_id, reason))
        return True

    async def _part(self, peer: ViewerPeer) -> None:
        """Say goodbye. What a process that hung had not read comes all at once when it wakes, and fills the viewer's socket."""
        await asyncio.sleep(PARTING_S)
        await peer.close()

    def _frame(self, frame: Frame) -> None:
        # At once: until it is told, the session before could take the stream back.
        self._splice()
        if frame.is_key:
            for session in (self._current, self._next):
                if session is not None and session.source.is_followed:
                    session.keyframes.came()
                    if not session.is_shown:
                        session.is_shown = True
                        self._openings_s.append(time.monotonic() - session.began_at)
        layouts: dict[int, Layout] = {}

        def layout(tag_bytes: int) -> Layout:
            if tag_bytes not in layouts:
                layouts[tag_bytes] = Layout(frame.packets, tag_bytes)
            return layouts[tag_bytes]

        self._to_each(lambda viewer: viewer.frame(frame, layout))

    def _repair(self, packet: Packet) -> None:
        self._to_each(lambda viewer: viewer.repair(packet))

    def _to_each(self, give: Callable[[Viewer], None]) -> None:
        """Whatever goes wrong with one viewer ends that one: neither the others nor the session at Ring."""
        broken = []
        for watching in self._viewers.values():
            try:
                give(watching.viewer)
            except Exception:
                logger.exception("A viewer could not be served. camera=%s", self.key)
                broken.append(watching.id)
        for viewer_id in broken:
            self.drop(viewer_id, "failed")

    def _ask_keyframe(self) -> None:
        if self._current is not None:
            self._current.ask_keyframe()

    # --- sessions ---

    def end(self, reason: str) -> None:
        """Send everybody away, and end what is open at Ring."""
        self._goodbye = reason
        self._is_over = True

    def lease_ended(self, lease_id: int, reason: str) -> None:
        """Somebody else ended a session of ours at Ring: the device is gone, or we were taken for dead."""
        for session in (self._current, self._next):
            if session is not None and session.lease is not None and session.lease.id == lease_id:
                session.is_lost = True
        if reason not in ("lost", "cap", "closed"):
            self.end(reason)

    async def _run(self) -> None:
        try:
            try:
                self._current = await self._open()
            except UpstreamRefused as refusal:
                self._first.set_exception(refusal)
                self._goodbye = refusal.reason
                return
            self._first.set_result(None)
            while not self._is_over:
                await asyncio.sleep(TICK_S)
                self._tick(time.monotonic())
        except Exception:
            logger.exception("A camera's relay failed. camera=%s", self.key)
            self._goodbye = "lost"
        finally:
            self._is_over = True
            if not self._first.done():
                self._first.set_exception(UpstreamRefused("unavailable", is_final=False))
            self._on_end(self)
            await self._close_all()

    def _tick(self, now: float) -> None:
        self._end_silent_viewers(now)
        if not self._viewers and not self._joining:
            if now - self._wanted_at > LINGER_S:
                self._is_over = True
                self._goodbye = "closed"
            return
        self._splice()
        current = self._current
        if current is None:
            return
        if self._next is not None and self._next.is_dead(now):
            self._spawn(self._end_session(self._next, "lost"))
            self._openings_s.append(now - self._next.began_at)
            self._next = None
            self._failed(now)
        if self._next is not None or self._opening_next is not None:
            return
        is_over = current.is_dead(now) or now > current.ends_at
        if not is_over and now <= current.ends_at - self._lead_s(current):
            self._failures = 0
            return
        if self._must_end_first() and not is_over:
            return
        if self._last_refusal is not None and current.is_dead(now) and self._last_refusal.is_final:
            self.end(self._last_refusal.reason)
        elif self._failures > len(RETRY_S):
            self.end(self._last_refusal.reason if self._last_refusal is not None else "silent")
        elif now >= self._retry_at:
            self._opening_next = asyncio.get_running_loop().create_task(self._open_next())

    def _lead_s(self, session: _Session) -> float:
        """So long before the end of `session` the next one is opened."""
        longest = max(self._openings_s, default=0.0)
        return max(LEAD_S, min(longest + SPARE_S, (session.ends_at - session.opened_at) * LEAD_MOST))

    def _splice(self) -> None:
        """The stream has changed over: end the old session."""
        before, following = self._current, self._next
        if before is None or following is None or not following.source.is_followed:
            return
        before.quiet()
        self._spawn(self._end_session(before, "cap"))
        self._current, self._next = following, None
        self._last_refusal = None
        self._failures = 0
        self.splices += 1

    def _failed(self, now: float) -> None:
        self._retry_at = now + RETRY_S[min(self._failures, len(RETRY_S) - 1)]
        self._failures += 1

    def _must_end_first(self) -> bool:
        """Ring gives no session beside the one that is still open here."""
        refusal, current = self._last_refusal, self._current
        is_in_use = refusal is not None and refusal.reason == IN_USE
        return is_in_use and current is not None and current.lease is not None

    async def _open_next(self) -> None:
        began_at = time.monotonic()
        try:
            if self._current is not None and self._must_end_first():
                await self._end_session(self._current, "cap")
            session = await self._open()
        except UpstreamRefused as refusal:
            self._last_refusal = refusal
            # One of somebody else's may last; ours is no failure of this try.
            if not self._must_end_first():
                self._failed(time.monotonic())
            # The next offer may hang as long.
            self._openings_s.append(time.monotonic() - began_at)
        except Exception:
            logger.exception("A camera's next session could not be opened. camera=%s", self.key)
            self._failed(time.monotonic())
        else:
            if self._is_over:
                await self._end_session(session, "closed")
            else:
                self._next = session
        finally:
            self._opening_next = None

    async def _open(self) -> _Session:
        session = _Session(self)
        try:
            offer = await session.peer.offer()
            session.opened_at = time.monotonic()
            session.lease = await self._upstreams.open(self.key, offer)
            session.heard_at = time.monotonic()
            session.ends_at = session.opened_at + session.lease.cap_s
            await session.peer.accept(session.lease.answer_sdp)
        except NotNegotiable as error:
            logger.warning("A camera's answer cannot be relayed. camera=%s kind=%s", self.key, error)
            await self._end_session(session, "failed")
            raise UpstreamRefused("not_relayed", is_final=True) from error
        except OSError as error:
            await self._end_session(session, "failed")
            raise UpstreamRefused("unavailable", is_final=False) from error
        except BaseException:
            await self._end_session(session, "failed")
            raise
        return session

    async def _end_session(self, session: _Session, reason: str) -> None:
        lease, session.lease = session.lease, None
        session.quiet()
        try:
            if lease is not None:
                await self._upstreams.close(lease.id, reason)
        finally:
            await session.close()

    def _end_silent_viewers(self, now: float) -> None:
        for watching in list(self._viewers.values()):
            heard_at = watching.viewer.heard_at
            age_s = now - watching.since
            if not watching.is_connected and age_s > VIEWER_CONNECT_S:
                self.drop(watching.id, "failed")
            elif (
                heard_at is not None
                and now - heard_at > SILENCE_S
                and watching.viewer.reports_heard >= max(REGULAR_REPORTS, (heard_at - watching.since) / 2)
            ):
                self.drop(watching.id, "lost")

    async def _close_all(self) -> None:
        for viewer_id in self.viewer_ids:
            self.drop(viewer_id, self._goodbye)
        for session in (self._current, self._next):
            if session is not None:
                self._spawn(self._end_session(session, self._goodbye))
        self._current = self._next = None
        # It ends by itself what Ring still answers.
        if self._opening_next is not None:
            await asyncio.wait([self._opening_next])
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def closed(self) -> None:
        """Wait until everything is over."""
        await asyncio.wait([self._running])

    def _spawn(self, work: "Awaitable[None]") -> None:
        async def run() -> None:
            try:
                await work
            except Exception:
                logger.exception("Tidying up after a viewer failed. camera=%s", self.key)

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
