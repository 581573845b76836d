"""
One camera's continuous picture: numbers that run on over every session that feeds it, and a bounded history.

A `Source` is one session at Ring. The stream follows one source at a time; another takes over at its first whole
keyframe, with the next sequence number and a timestamp as much later as the clock says. Frames are passed on whole, so
that a change never cuts one in two; a packet that was repaired later is passed on by itself.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from media.relay.rtp import CLOCK_RATE, Packet, begins_keyframe, even_out, extend

# About ten seconds of 2 Mbit/s, 2.4 MB: what can be sent again, and the keyframe group for those who join.
HISTORY: Final = 2048
# A joining viewer is sent the group since the last keyframe, unless it is longer than this: then a new keyframe is quicker.
MAX_GROUP: Final = 640
# A source that jumps further than this began anew.
MAX_JUMP: Final = 3000
MAX_HELD: Final = 1024
MIN_STEP: Final = CLOCK_RATE // 200


class Frame(NamedTuple):
    """The packets of one picture, in order; some may be missing."""

    packets: list[Packet]
    is_key: bool


class Stream:
    """`on_frame` gets each frame as it is complete, `on_repair` a packet that came after its frame."""

    def __init__(self, *, on_frame: Callable[[Frame], None], on_repair: Callable[[Packet], None]) -> None:
        self.head = 0  # the sequence number the next packet will have
        self.last_timestamp = 0
        self.last_frame_at = 0.0
        self.source: Source | None = None
        self._key: int | None = None
        self._broken_key: tuple[int, int] | None = None
        self._history: list[Packet | None] = [None] * HISTORY
        self._on_frame = on_frame
        self._on_repair = on_repair

    def packet(self, sequence: int) -> Packet | None:
        """A packet of the history; None when it never came or is too old."""
        found = self._history[sequence % HISTORY]
        return found if found is not None and found.sequence == sequence else None

    @property
    def group_start(self) -> int | None:
        """Where a viewer may join at once: the last whole keyframe, if it is not too far back."""
        if self._key is None or self.head - self._key > MAX_GROUP:
            return None
        return self._key

    def timestamp_at(self, now: float) -> int:
        """The stream's clock at `now` (monotonic seconds)."""
        return self.last_timestamp + max(0, round((now - self.last_frame_at) * CLOCK_RATE))

    def follow(self, source: "Source", *, now: float) -> tuple[int, int]:
        """Follow `source` from here on; return its first sequence number and timestamp in this stream."""
        self.source = source
        if self.head == 0 and self.last_frame_at == 0.0:
            return 0, 0
        step = max(MIN_STEP, self.timestamp_at(now) - self.last_timestamp)
        return self.head, self.last_timestamp + step

    def append(self, frame: Frame, *, now: float) -> None:
        """Keep a frame and pass it on."""
        for packet in frame.packets:
            self._history[packet.sequence % HISTORY] = packet
        first, last = frame.packets[0], frame.packets[-1]
        self.head = max(self.head, last.sequence + 1)
        self.last_timestamp = first.timestamp
        self.last_frame_at = now
        if frame.is_key:
            self._broken_key = None
            if last.sequence - first.sequence + 1 == len(frame.packets):
                self._key = first.sequence
            else:
                self._broken_key = (first.sequence, last.sequence)
        self._on_frame(frame)

    def repair(self, packet: Packet) -> None:
        """Keep a packet that came late, and pass it on; one that is here already or too old is dropped."""
        if packet.sequence <= self.head - HISTORY or packet.sequence < 0:
            return
        if self.packet(packet.sequence) is not None:
            return
        self._history[packet.sequence % HISTORY] = packet
        # The last packet of a picture that was passed on without it: its number is used now, whatever comes next.
        self.head = max(self.head, packet.sequence + 1)
        if self._broken_key is not None:
            first, last = self._broken_key
            if first <= packet.sequence <= last and all(self.packet(n) for n in range(first, last + 1)):
                self._key, self._broken_key = first, None
        self._on_repair(packet)


class Source:
    """One session's packets on their way into a stream: held back until a whole keyframe is here, then passed on."""

    def __init__(self, stream: Stream) -> None:
        self.is_over = False
        self._stream = stream
        self._ssrc: int | None = None
        self._newest = 0
        self._newest_timestamp = 0
        self._held: dict[int, Packet] = {}
        self._held_key: int | None = None  # the timestamp of the keyframe that is awaited
        self._frame: dict[int, Packet] = {}
        # In the session's own numbers: the first packet that was the stream's, and the newest that was passed on.
        self._first = 0
        self._passed = -1
        self._sequence_shift = 0
        self._timestamp_shift = 0

    @property
    def is_followed(self) -> bool:
        return self._stream.source is self and not self.is_over

    @property
    def has_begun(self) -> bool:
        """True when a keyframe is here, or the beginning of one."""
        return self.is_followed or self._held_key is not None

    def receive(
        self, *, ssrc: int, sequence: int, timestamp: int, marker: bool, payload: bytes, now: float
    ) -> int | None:
        """
        Take one packet as it came; return its sequence number counted on past 16 bits, None when it was not for us.

        `now`: monotonic seconds.
        """
        if self.is_over:
            return None
        if ssrc != self._ssrc:
            self._begin(ssrc, sequence, timestamp)
        number = extend(sequence, bits=16, near=self._newest)
        if abs(number - self._newest) > MAX_JUMP:
            self._begin(ssrc, sequence, timestamp)
            number = sequence
        self._newest = max(self._newest, number)
        moment = extend(timestamp, bits=32, near=self._newest_timestamp)
        self._newest_timestamp = max(self._newest_timestamp, moment)
        packet = Packet(number, moment, marker, payload)
        if self._waits:
            self._hold(packet, now)
        else:
            self._take(packet, now)
        return number

    def end(self) -> None:
        """Nothing of this session counts any more."""
        self.is_over = True
        self._held.clear()
        self._frame.clear()

    def _begin(self, ssrc: int, sequence: int, timestamp: int) -> None:
        """A session's numbers begin, or began anew: wait for a keyframe."""
        self._ssrc = ssrc
        self._newest, self._newest_timestamp = sequence, timestamp
        self._held.clear()
        self._frame.clear()
        self._held_key = None
        self._waits = True

    _waits = True

    def _hold(self, packet: Packet, now: float) -> None:
        is_newer = self._held_key is None or packet.timestamp > self._held_key
        if is_newer and begins_keyframe(packet.payload):
            self._held = {n: held for n, held in self._held.items() if held.timestamp >= packet.timestamp}
            self._held_key = packet.timestamp
        if self._held_key is None or packet.timestamp < self._held_key:
            return
        self._held[packet.sequence] = packet
        if len(self._held) > MAX_HELD:
            self._held.clear()
            self._held_key = None
            return
        key = sorted(n for n, held in self._held.items() if held.timestamp == self._held_key)
        is_whole = (
            key[-1] - key[0] + 1 == len(key)
            and begins_keyframe(self._held[key[0]].payload)
            and (self._held[key[-1]].marker or self._held.get(key[-1] + 1) is not None)
        )
        if not is_whole:
            return
        first = self._held[key[0]]
        sequence, timestamp = self._stream.follow(self, now=now)
        self._sequence_shift = sequence - first.sequence
        self._timestamp_shift = timestamp - first.timestamp
        self._first = first.sequence
        self._passed = first.sequence - 1
        self._waits = False
        held, self._held, self._held_key = self._held, {}, None
        for number in sorted(held):
            self._take(held[number], now)

    def _take(self, packet: Packet, now: float) -> None:
        # What is older than its first packet here would get the number of another session's.
        if not self.is_followed or packet.sequence < self._first:
            return
        if packet.sequence <= self._passed:
            self._stream.repair(self._shifted(packet))
            return
        current = next(iter(self._frame.values()), None)
        if current is not None and packet.timestamp != current.timestamp:
            if packet.timestamp < current.timestamp:
                # Of the frame before, whose end is already passed on or was never seen.
                self._stream.repair(self._shifted(packet))
                return
            self._pass_on(now)
        self._frame[packet.sequence] = packet
        if len(self._frame) > MAX_HELD:
            # No picture has so many packets: begin again at the next keyframe.
            self._frame.clear()
            self._waits = True
            return
        if packet.marker:
            self._pass_on(now)

    def _pass_on(self, now: float) -> None:
        packets = even_out([self._shifted(self._frame[number]) for number in sorted(self._frame)])
        self._passed = max(self._frame)
        self._frame = {}
        is_key = any(begins_keyframe(packet.payload) for packet in packets)
        self._stream.append(Frame(packets, is_key), now=now)

    def _shifted(self, packet: Packet) -> Packet:
        return packet._replace(
            sequence=packet.sequence + self._sequence_shift,
            timestamp=packet.timestamp + self._timestamp_shift,
        )
