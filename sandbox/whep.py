"""
The far end of a WHEP session: a camera that answers an offer and sends real H.264 until its time is up.

Source: contract 10.1 and 17.2 (8). The answer is `sendonly`, H.264 with packetization mode 1; audio is
answered `inactive`, unless the camera's behaviour gives it a microphone. Nothing here is process-wide except the
table of running encoders in `LiveFeed`: what differs from stock aiortc is set on single objects.
"""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aiortc import (
    InvalidStateError,
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.exceptions import OperationError
from aiortc.mediastreams import MediaStreamError

from sandbox.behaviour import Behaviour, Line
from sandbox.encoder import LiveFeed, Watcher
from sandbox.room_tone import RoomTone

if TYPE_CHECKING:
    from collections.abc import Callable

    from av.packet import Packet
    from av.video.stream import VideoStream

    from sandbox.scene import CameraView

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S: Final = 15.0
LOOPBACK: Final = "127.0.0.1"

# Ring's own cameras were seen to answer 42001f (contract 10.1); browsers that lack it take 42e01f.
# x264's baseline stream is constrained baseline, which every decoder of either plays.
PROFILES: Final = ("42001f", "42e01f")

# A profile that aiortc does not know, so does not choose.
UNANSWERED_PROFILE: Final = "4d001f"

_DIRECTIONS: Final = frozenset({"sendrecv", "sendonly", "recvonly", "inactive"})
_H264_MODE_1: Final = re.compile(r"^a=fmtp:(?P<payload>\d+) (?=[^\r\n]*packetization-mode=1)", re.MULTILINE)
_PROFILE: Final = re.compile(r"(?<=profile-level-id=)(?P<profile>[0-9a-f]{6})", re.IGNORECASE)


class OfferRejected(Exception):
    """The offer cannot be answered; the message says which rule of contract 10.1 it breaks, without its text."""


@dataclass(frozen=True)
class _Offer:
    """An offer fit for aiortc, and the H.264 profile to name in the answer where we had to rename it."""

    sdp: str
    renamed_profile: str | None

    @classmethod
    def check(cls, text: str, profile: str = "") -> _Offer:
        """Raise OfferRejected for what a real camera would refuse; else what aiortc needs to see."""
        if not text.startswith("v="):
            raise OfferRejected("the body is not SDP: it must start with v=")
        session, *media = _sections(text)
        if not any(section[0].startswith("m=video ") for section in media):
            raise OfferRejected("the offer has no video")
        for section in media:
            if _direction(section, default=_direction(session, default="sendrecv")) != "recvonly":
                raise OfferRejected("every media line must be recvonly")
            for attribute in ("ice-ufrag", "ice-pwd", "fingerprint"):
                if not any(line.startswith(f"a={attribute}:") for line in (*session, *section)):
                    raise OfferRejected(f"the offer is not complete: {attribute} is missing")
        # A browser hides its addresses behind mDNS names. Looking them up is slow where nobody answers and
        # needless: the browser's own checks tell us the address. For the same reason the candidates we know
        # are never the last ones, else ICE gives up before those checks arrive.
        lines = [line for line in text.splitlines() if not _is_unwanted_candidate(line)]
        fitted = "\r\n".join(lines) + "\r\n"
        return cls._of_profile(fitted, profile) if profile else cls._with_known_profile(fitted)

    @classmethod
    def _of_profile(cls, sdp: str, profile: str) -> _Offer:
        """
        Leave of the offered H.264 only what fits a camera of this one profile: the same, else the first with mode 1, for
        a camera with one encoder answers what it has. aiortc knows the baseline names only: so is the chosen one named.
        """
        lines = sdp.splitlines()
        offered = [line for line in lines if _H264_MODE_1.match(line) and _PROFILE.search(line)]
        same = [line for line in offered if f"={profile}" in line.lower()]
        chosen = next(iter(same or offered), "")
        renamed = [
            _PROFILE.sub(PROFILES[0] if line == chosen else UNANSWERED_PROFILE, line)
            if line.startswith("a=fmtp:")
            else line
            for line in lines
        ]
        return cls("\r\n".join(renamed) + "\r\n", renamed_profile=profile)

    @classmethod
    def _with_known_profile(cls, sdp: str) -> _Offer:
        """
        aiortc 1.16 knows the two baseline profiles only and compares strictly. Where none is offered, main
        or high is answered in their place: a decoder for those plays the baseline stream we send.
        """
        payloads = [line for line in sdp.splitlines() if _H264_MODE_1.match(line)]
        profiles = [found["profile"] for line in payloads if (found := _PROFILE.search(line))]
        if not profiles or any(profile.startswith("42") for profile in profiles):
            return cls(sdp, renamed_profile=None)
        return cls(sdp.replace(f"={profiles[0]}", f"={PROFILES[0]}"), renamed_profile=profiles[0])

    def finish_answer(self, sdp: str) -> str:
        """The answer in the offer's own words, with one fingerprint: some stacks read only the last line."""
        if self.renamed_profile is not None:
            sdp = _PROFILE.sub(self.renamed_profile, sdp)
        lines = sdp.splitlines()
        kept = [
            x for x in lines if not x.startswith("a=fingerprint:") or x.startswith("a=fingerprint:sha-256 ")
        ]
        return "\r\n".join(kept) + "\r\n"


def _sections(sdp: str) -> list[list[str]]:
    """The session's lines, then each media section's, its `m=` line first."""
    sections: list[list[str]] = [[]]
    for line in sdp.splitlines():
        if line.startswith("m="):
            sections.append([])
        sections[-1].append(line)
    return sections


def _direction(section: list[str], *, default: str) -> str:
    return next((line[2:] for line in section if line[:2] == "a=" and line[2:] in _DIRECTIONS), default)


def _is_unwanted_candidate(line: str) -> bool:
    if line.startswith("a=candidate:"):
        fields = line.split()
        return len(fields) < 8 or fields[4].lower().endswith(".local")
    return line.rstrip() == "a=end-of-candidates"


class LiveSession:
    """
    One viewer of one camera. Ends itself, once, and says why through `on_end(session, reason)`:

    `cap` after `cap_s` seconds; `peer gone` when the other side hung up (at once) or fell silent (ICE
    consent, RFC 7675: about half a minute); `never connected` when no media path came up within 15 s;
    otherwise the reason given to `close()`. `on_end` runs in the event loop that opened the session,
    exactly once, after the connection is closed.
    """

    def __init__(
        self, *, camera: CameraView, on_end: Callable[[LiveSession, str], None], behaviour: Behaviour
    ) -> None:
        self.camera = camera
        self.behaviour = behaviour
        self.line = Line(behaviour)
        self.opened_at = datetime.now(UTC)
        self.answer_sdp = ""
        self._on_end = on_end
        self._ending: asyncio.Task[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._feed = LiveFeed.hold(camera, behaviour.profile)
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._connected = False

    @classmethod
    async def open(
        cls,
        *,
        offer_sdp: str,
        camera: CameraView,
        cap_s: float,
        on_end: Callable[[LiveSession, str], None],
        behaviour: Behaviour | None = None,
    ) -> LiveSession:
        """
        Answer a complete offer and start sending as soon as the peer connects.

        Returns within a few tens of milliseconds: nothing is asked of any server. `cap_s` (seconds) counts
        from now. Raises OfferRejected, and then nothing is left running and `on_end` is not called.
        """
        behaviour = behaviour or Behaviour()
        offer = _Offer.check(offer_sdp, behaviour.profile)
        session = cls(camera=camera, on_end=on_end, behaviour=behaviour)
        try:
            session.answer_sdp = await session._answer(offer)
        except BaseException:
            session._feed.release()
            await session._peer.close()
            raise
        # Only now, so that `on_end` cannot be called before the caller has the session.
        session._peer.on("connectionstatechange", session._connection_changed)
        session._connection_changed()
        loop = asyncio.get_running_loop()
        session._timers = [
            loop.call_later(CONNECT_TIMEOUT_S, session._end_unless_connected),
            loop.call_later(cap_s, session._end, "cap"),
        ]
        return session

    async def close(self, reason: str = "closed") -> None:
        """End the session and wait until it has ended. May be called again; the first reason holds."""
        await asyncio.shield(self._end(reason))

    async def _answer(self, offer: _Offer) -> str:
        video = self._peer.addTransceiver(CameraTrack(self._feed), direction="sendonly")
        if self.behaviour.audio and "\nm=audio " in offer.sdp:
            audio = self._peer.addTransceiver(RoomTone(), direction="sendonly")
            opus = [c for c in RTCRtpSender.getCapabilities("audio").codecs if c.mimeType == "audio/opus"]
            audio.setCodecPreferences(opus)
        # Before setRemoteDescription, else the offer's first codec wins, and that is VP8.
        capabilities = RTCRtpSender.getCapabilities("video").codecs
        video.setCodecPreferences(
            [
                *(c for p in PROFILES for c in capabilities if c.parameters.get("profile-level-id") == p),
                *(c for c in capabilities if c.name == "rtx"),
            ]
        )
        # aiortc forwards a viewer's keyframe request to its own encoder, which pre-encoded video has not.
        video.sender._send_keyframe = self._feed.request_keyframe  # type: ignore[method-assign]
        try:
            await self._peer.setRemoteDescription(RTCSessionDescription(sdp=offer.sdp, type="offer"))
            gather_on_loopback_too(self._peer)
            await self._peer.setLocalDescription()
            for transport in {t.sender.transport for t in self._peer.getTransceivers()}:
                self.line.put_on(transport)
        except OperationError as error:
            raise OfferRejected("no codec in common: offer H.264 with packetization-mode=1") from error
        except (ValueError, LookupError, AttributeError, AssertionError, InvalidStateError) as error:
            # aiortc's parser meets malformed text with whichever of these comes first.
            raise OfferRejected("the offer is not well-formed SDP") from error
        return offer.finish_answer(self._peer.localDescription.sdp)

    def _connection_changed(self) -> None:
        state = self._peer.connectionState
        if state == "connected":
            if not self._connected:
                self.line.connected()
            self._connected = True
        elif state in ("failed", "closed"):
            self._end("peer gone" if self._connected else "never connected")

    def _end_unless_connected(self) -> None:
        if not self._connected:
            self._end("never connected")

    def _end(self, reason: str) -> asyncio.Task[None]:
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._finish(reason))
        return self._ending

    async def _finish(self, reason: str) -> None:
        for timer in self._timers:
            timer.cancel()
        try:
            await self._peer.close()
        finally:
            self._feed.release()
            logger.info("Live session ended. kind=%s reason=%s", self.camera.kind, reason)
            self._on_end(self, reason)


def reject_all(offer_sdp: str) -> str:
    """
    The answer of an endpoint without any of the offered codecs: every media line with port 0 (RFC 3264 6).

    Raises OfferRejected for an offer that no camera would answer.
    """
    _Offer.check(offer_sdp)
    lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0"]
    for section in _sections(offer_sdp)[1:]:
        kind, _port, *rest = section[0].split()
        lines += [" ".join([kind, "0", *rest]), "c=IN IP4 0.0.0.0", "a=inactive"]
        lines += [line for line in section if line.startswith("a=mid:")]
    return "\r\n".join(lines) + "\r\n"


class CameraTrack(MediaStreamTrack):
    """A camera's pictures as aiortc wants them: `recv()` gives encoded packets, which it only packetizes."""

    kind = "video"

    def __init__(self, feed: LiveFeed) -> None:
        super().__init__()
        self._feed = feed
        self._watcher: Watcher | None = None

    async def recv(self) -> Packet[VideoStream]:
        """The next picture. Watching begins with the first call, so the first picture is not an old one."""
        if self.readyState != "live":
            raise MediaStreamError
        if self._watcher is None:
            self._watcher = self._feed.watch()
        return await self._watcher.next_packet()

    def stop(self) -> None:
        """End the track; also done by the sender when its connection closes."""
        super().stop()
        if self._watcher is not None:
            self._watcher.close()


def gather_on_loopback_too(peer: RTCPeerConnection) -> None:
    """
    Make a peer connection that has not gathered yet offer 127.0.0.1 beside the machine's other addresses.

    aioice 0.13 leaves out 127.0.0.1 (`aioice.ice.get_host_addresses`), so that a machine with only a loopback
    interface has no candidate at all. The list of addresses passes through one method of each connection, and
    that method is wrapped on these connections only. IPv4 only: a browser on this machine needs no more.
    """
    for transceiver in peer.getTransceivers():
        connection = transceiver.receiver.transport.transport.iceGatherer._connection
        gather = connection.get_component_candidates

        async def gather_with_loopback(
            component: int, addresses: list[str], gather: Any = gather, **options: Any
        ) -> Any:
            own = [address for address in addresses if address != LOOPBACK and ":" not in address]
            return await gather(component, [LOOPBACK, *own], **options)

        connection.get_component_candidates = gather_with_loopback
