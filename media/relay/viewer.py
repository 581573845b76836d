"""
One viewer of a stream: its own numbers, its place in the stream, and what is sent again to it.

A viewer is `live` when it has everything and gets each new frame as it comes. Else its pump brings it up from the
history at a measured pace: at the beginning from the last keyframe, on a plain link always. One that falls too far
behind loses pictures, not memory: it goes on at the last keyframe, if it was not sent that yet, else at the next, and
its sequence numbers show no gap.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from media.relay import rtp
from media.relay.keyframes import ViewerRequests
from media.relay.rtp import Feedback, Packet
from media.relay.stream import Frame, Stream
from media.relay.wire import FastLink, Layout, Link

logger = logging.getLogger(__name__)

# Bringing up: this many packets, then this pause; about 40 Mbit/s.
BURST: Final = 8
PAUSE_S: Final = 0.002
# What was sent before a viewer joined is shown this much faster, so that it is live within a few frames.
SQUEEZE: Final = 64
# Further behind than this (about five seconds) a viewer goes on at a keyframe.
MAX_LAG: Final = 1024
MAX_BACKLOG_BYTES: Final = 256 * 1024
# Packets a second that are sent again to one viewer; more would not repair a link that loses so many.
RETRANSMITS_PER_S: Final = 300
_URGENT: Final = 256


class Viewer:
    """`ask_keyframe` is called when only a new keyframe helps, within bounds. Everything runs in one event loop."""

    def __init__(
        self,
        *,
        stream: Stream,
        ask_keyframe: Callable[[], None],
        payload_type: int,
        ssrc: int,
        rtx_payload_type: int | None,
        rtx_ssrc: int,
    ) -> None:
        self.payload_type = payload_type
        self.ssrc = ssrc
        # What is added to the stream's numbers. First sequence numbers are in the lower half, for SRTP's rollover counter.
        self.sequence_shift = 0
        self.timestamp_shift = secrets.randbits(32)
        self.packets = self.octets = self.retransmits = self.drops = 0
        self.is_live = False
        self.is_closed = False
        self.heard_at: float | None = None
        self.reports_heard = 0
        self.fraction_lost = 0
        self._stream = stream
        self._keyframes = ViewerRequests(ask_keyframe)
        self._rtx_payload_type = rtx_payload_type
        self._rtx_ssrc = rtx_ssrc
        self._rtx_sequence = secrets.randbelow(1 << 15)
        self._last_out = secrets.randbelow((1 << 15) - 1)
        self._cursor: int | None = (
            None  # the stream's next packet for this viewer; None: waits for a keyframe
        )
        self._squeezed_before = 0
        self._shifts: deque[tuple[int, int]] = deque(maxlen=4)  # first outgoing number, shift: newest last
        self._link: Link | None = None
        self._fast: FastLink | None = None
        self._pump: asyncio.Task[None] | None = None
        self._something = asyncio.Event()
        self._urgent: deque[bytes] = deque(maxlen=_URGENT)
        self._allowance = float(RETRANSMITS_PER_S)
        self._allowed_at = float("-inf")
        self._cname = b"%x" % secrets.randbits(48)

    # --- beginning and end ---

    def begin(self, link: Link) -> None:
        """The connection is up: send from the last keyframe on, or wait for the next."""
        if self._link is not None or self.is_closed:
            link.close()
            return
        self._link = link
        self._fast = link if isinstance(link, FastLink) else None
        start = self._stream.group_start
        if start is None:
            self._keyframes.ask()
        else:
            self._start_at(start)
            self._squeezed_before = self._stream.last_timestamp
        if start is not None or self._fast is None:
            self._start_pump(link)

    def close(self) -> None:
        """May be called twice."""
        self.is_closed = True
        self.is_live = False
        self._keyframes.came()
        if self._pump is not None:
            self._pump.cancel()
        if self._link is not None:
            self._link.close()

    def _start_at(self, sequence: int) -> None:
        self._cursor = sequence
        self.sequence_shift = self._last_out + 1 - sequence
        self._shifts.append((self._last_out + 1, self.sequence_shift))

    # --- what the stream brings ---

    def frame(self, frame: Frame, layout: Callable[[int], Layout]) -> None:
        """A new frame of the stream; `layout(tag size)` lays it out, once for all."""
        if self._link is None or self.is_closed:
            return
        if frame.is_key:
            self._keyframes.came()
        if self._cursor is None and frame.is_key:
            self._start_at(frame.packets[0].sequence)
            self.is_live = self._fast is not None
        if self.is_live and self._fast is not None:
            has_room = self._fast.send_frame(layout(self._fast.tag_bytes), self)
            # Also when the rest of it was lost: an encrypted number must never be used for another packet.
            self._count(frame.packets)
            if not has_room:
                self._drop_to_keyframe()
        elif self._cursor is not None:
            if self._stream.head - self._cursor > MAX_LAG:
                self._drop_to_keyframe()
            self._something.set()

    def repair(self, packet: Packet) -> None:
        """A packet of a frame that was passed on without it."""
        if self._cursor is None or self.is_closed:
            return
        is_due = self.is_live or packet.sequence < self._cursor
        if is_due and packet.sequence + self.sequence_shift >= self._shifts[-1][0]:
            self._cursor = max(self._cursor, packet.sequence + 1)
            self._send_soon(self._rewritten(packet))
            self._note_sent(packet)

    def _count(self, packets: list[Packet]) -> None:
        self.packets += len(packets)
        self.octets += sum([len(packet.payload) for packet in packets])
        last = packets[-1].sequence
        self._cursor = last + 1
        self._last_out = max(self._last_out, last + self.sequence_shift)

    def _note_sent(self, packet: Packet) -> None:
        self.packets += 1
        self.octets += len(packet.payload)
        self._last_out = max(self._last_out, packet.sequence + self.sequence_shift)

    def _drop_to_keyframe(self) -> None:
        self.drops += 1
        self.is_live = False
        start = self._stream.group_start
        if start is not None and self._cursor is not None and start >= self._cursor:
            # A keyframe that it was not sent yet is here already.
            self._start_at(start)
            return
        self._cursor = None
        self._keyframes.ask()

    # --- the pump ---

    def _start_pump(self, link: Link) -> None:
        self._pump = asyncio.get_running_loop().create_task(self._run_pump(link))

    async def _run_pump(self, link: Link) -> None:
        sent = 0
        while not self.is_closed:
            if self._urgent:
                await link.send(self._urgent.popleft())
            elif self._cursor is None or self._cursor >= self._stream.head:
                if self._fast is not None:
                    # From here on each frame comes by itself.
                    self.is_live = self._cursor is not None
                    self._pump = None
                    return
                self._something.clear()
                await self._something.wait()
                continue
            elif link.backlog_bytes() > MAX_BACKLOG_BYTES:
                await asyncio.sleep(0.01)
                continue
            else:
                packet = self._stream.packet(self._cursor)
                self._cursor += 1
                if packet is None:
                    continue
                self._note_sent(packet)
                await link.send(self._rewritten(packet))
            sent += 1
            if sent % BURST == 0:
                await asyncio.sleep(PAUSE_S)

    def _send_soon(self, packet: bytes) -> None:
        if self._fast is not None:
            self._fast.send_now(packet)
        else:
            self._urgent.append(packet)
            self._something.set()

    # --- rewriting ---

    def _rewritten(self, packet: Packet) -> bytes:
        return rtp.build(
            payload_type=self.payload_type,
            marker=packet.marker,
            sequence=packet.sequence + self.sequence_shift,
            timestamp=self._timestamp(packet),
            ssrc=self.ssrc,
            payload=packet.payload,
            padding_bytes=packet.padding_bytes,
        )

    def _timestamp(self, packet: Packet) -> int:
        before = self._squeezed_before - packet.timestamp
        moment = packet.timestamp if before <= 0 else self._squeezed_before - before // SQUEEZE
        return moment + self.timestamp_shift

    # --- what the viewer says ---

    def feedback(self, feedback: Feedback, *, now: float) -> None:
        """Answer what one RTCP packet of the viewer asks for. `now`: monotonic seconds."""
        self.heard_at = now
        self.reports_heard += 1
        if feedback.fraction_lost is not None:
            self.fraction_lost = feedback.fraction_lost
        if feedback.wants_keyframe and not self.is_closed:
            self._keyframes.ask()
        if feedback.lost:
            self._allowance = min(
                RETRANSMITS_PER_S, self._allowance + (now - self._allowed_at) * RETRANSMITS_PER_S
            )
            self._allowed_at = now
            for sequence in feedback.lost:
                if self._allowance < 1:
                    break
                self._retransmit(sequence)

    def _retransmit(self, sequence: int) -> None:
        out = rtp.extend(sequence, bits=16, near=self._last_out)
        shift = next((shift for first, shift in reversed(self._shifts) if out >= first), None)
        if shift is None or out > self._last_out:
            return
        packet = self._stream.packet(out - shift)
        if packet is None:
            return
        self._allowance -= 1
        self.retransmits += 1
        if self._rtx_payload_type is None:
            self._send_soon(
                rtp.build(
                    payload_type=self.payload_type,
                    marker=packet.marker,
                    sequence=out,
                    timestamp=self._timestamp(packet),
                    ssrc=self.ssrc,
                    payload=packet.payload,
                    padding_bytes=packet.padding_bytes,
                )
            )
            return
        self._rtx_sequence += 1
        self._send_soon(
            rtp.build(
                payload_type=self._rtx_payload_type,
                marker=packet.marker,
                sequence=self._rtx_sequence,
                timestamp=self._timestamp(packet),
                ssrc=self._rtx_ssrc,
                payload=(out & 0xFFFF).to_bytes(2) + packet.payload,
            )
        )

    def report(self) -> bytes | None:
        """A sender report with true counts; None while nothing was sent."""
        if not self.packets:
            return None
        timestamp = self._stream.timestamp_at(time.monotonic()) + self.timestamp_shift
        return rtp.sender_report(
            ssrc=self.ssrc,
            at_s=time.time(),
            timestamp=timestamp,
            packets=self.packets,
            octets=self.octets,
            cname=self._cname,
        )
