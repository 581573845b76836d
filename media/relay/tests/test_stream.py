"""A camera's stream over wraps, losses, reordering and changes of session."""

import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.relay.loss import MAX_MISSING, MAX_RETRY_S, MAX_TRIES, MIN_RETRY_S, RETRY_S, Missing
from media.relay.rtp import Packet
from media.relay.stream import HISTORY, MAX_GROUP, Frame, Source, Stream

STEP = 4500
KEY, DELTA, MORE = b"\x65key", b"\x41delta", b"\x5cmore"


class Kept:
    """A stream that keeps what it passes on, and sources that number as real cameras do."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.repairs: list[Packet] = []
        self.stream = Stream(on_frame=self.frames.append, on_repair=self.repairs.append)

    @property
    def packets(self) -> list[Packet]:
        return [packet for frame in self.frames for packet in frame.packets]


class Camera:
    """Packets of one session, three to a frame, a keyframe every `group` frames."""

    def __init__(
        self, kept: Kept, *, sequence: int = 65_500, timestamp: int = (1 << 32) - 9000, group: int = 10
    ):
        self.source = Source(kept.stream)
        self.sequence, self.timestamp, self.group = sequence, timestamp, group
        self.count = 0

    def frame(self) -> list[dict[str, Any]]:
        first = KEY if self.count % self.group == 0 else DELTA
        made = [
            {
                "ssrc": 7,
                "sequence": (self.sequence + n) & 0xFFFF,
                "timestamp": self.timestamp & 0xFFFFFFFF,
                "marker": n == 2,
                "payload": first if n == 0 else MORE,
            }
            for n in range(3)
        ]
        self.sequence += 3
        self.timestamp += STEP
        self.count += 1
        return made

    def send(self, packets: list[dict[str, Any]], *, now: float) -> None:
        for packet in packets:
            self.source.receive(**packet, now=now)


def test_numbers_run_on_over_both_wraps() -> None:
    kept = Kept()
    camera = Camera(kept)
    for n in range(100):
        camera.send(camera.frame(), now=n / 20)
    assert [packet.sequence for packet in kept.packets] == list(range(300))
    assert [frame.packets[0].timestamp for frame in kept.frames] == [n * STEP for n in range(100)]
    assert [frame.is_key for frame in kept.frames[:11]] == [True, *[False] * 9, True]


def test_nothing_is_passed_on_before_a_whole_keyframe() -> None:
    kept = Kept()
    camera = Camera(kept)
    camera.count = 5
    for n in range(5):
        camera.send(camera.frame(), now=n / 20)
    key = camera.frame()
    camera.send([key[0], key[2]], now=0.3)
    camera.send(camera.frame(), now=0.35)
    assert kept.frames == []
    camera.send([key[1]], now=0.4)
    assert [frame.is_key for frame in kept.frames] == [True, False]
    assert [packet.sequence for packet in kept.packets] == list(range(6))


def test_a_lost_packet_leaves_a_hole_and_its_repair_fills_it() -> None:
    kept = Kept()
    camera = Camera(kept)
    camera.send(camera.frame(), now=0)
    hurt = camera.frame()
    camera.send([hurt[0], hurt[2]], now=0.05)
    assert kept.stream.packet(4) is None
    camera.send(camera.frame(), now=0.1)
    camera.send([hurt[1]], now=0.12)
    camera.send([hurt[1]], now=0.13)
    assert [packet.sequence for packet in kept.repairs] == [4]
    repaired = kept.stream.packet(4)
    assert repaired is not None and repaired.timestamp == STEP


def test_a_number_that_a_late_packet_has_is_not_given_to_the_next_session() -> None:
    """It went out under that number already: the same again would be a second text under one key."""
    kept = Kept()
    camera = Camera(kept)
    camera.send(camera.frame(), now=0)
    hurt = camera.frame()
    camera.send(hurt[:2], now=0.05)
    camera.send(camera.frame()[:1], now=0.1)
    camera.send(hurt[2:], now=0.11)
    following = Camera(kept, sequence=100, timestamp=0)
    following.send(following.frame(), now=0.15)
    numbers = [packet.sequence for packet in kept.packets] + [packet.sequence for packet in kept.repairs]
    assert sorted(numbers) == list(range(9))


def test_what_a_session_sent_before_its_first_keyframe_fills_no_hole_of_the_one_before() -> None:
    kept = Kept()
    camera = Camera(kept)
    camera.send(camera.frame(), now=0)
    hurt = camera.frame()
    camera.send([hurt[0], hurt[2]], now=0.05)
    following = Camera(kept, sequence=100, timestamp=0)
    following.count = following.group - 1
    early = following.frame()
    following.send(following.frame(), now=0.1)
    following.send(early, now=0.11)
    assert kept.stream.source is following.source
    assert kept.repairs == [] and kept.stream.packet(4) is None


def test_a_hurt_keyframe_is_nothing_to_join_at_until_it_is_repaired() -> None:
    kept = Kept()
    camera = Camera(kept, group=4)
    for n in range(4):
        camera.send(camera.frame(), now=n / 20)
    hurt = camera.frame()
    camera.send([hurt[0], hurt[2]], now=0.25)
    assert kept.stream.group_start == 0
    camera.send([hurt[1]], now=0.27)
    assert kept.stream.group_start == 12


def test_a_long_group_is_not_sent_to_those_who_join() -> None:
    kept = Kept()
    camera = Camera(kept, group=10_000)
    for n in range(MAX_GROUP // 3):
        camera.send(camera.frame(), now=n / 20)
    assert kept.stream.group_start == 0
    camera.send(camera.frame(), now=60)
    assert kept.stream.group_start is None


def test_the_history_is_bounded() -> None:
    kept = Kept()
    camera = Camera(kept)
    for n in range(HISTORY):
        camera.send(camera.frame(), now=n / 20)
    assert kept.stream.packet(0) is None
    assert kept.stream.packet(kept.stream.head - HISTORY) is not None


def test_the_next_session_takes_over_at_its_keyframe_with_the_next_number() -> None:
    kept = Kept()
    first, second = Camera(kept), Camera(kept, sequence=30_000, timestamp=5)
    for n in range(20):
        first.send(first.frame(), now=n / 20)
    second.count = 7
    for n in range(20, 24):
        first.send(first.frame(), now=n / 20)
        second.send(second.frame(), now=n / 20 + 0.004)
    assert second.source.is_followed and not first.source.is_followed
    numbers = [packet.sequence for packet in kept.packets]
    assert numbers == list(range(len(numbers)))
    moments = [frame.packets[0].timestamp for frame in kept.frames]
    steps = [b - a for a, b in pairwise(moments)]
    assert min(steps) > 0 and max(steps) == STEP
    change = next(n for n, frame in enumerate(kept.frames) if n >= 20 and frame.is_key)
    assert steps[change - 1] <= STEP


def test_after_a_pause_the_clock_has_gone_on() -> None:
    kept = Kept()
    first, second = Camera(kept), Camera(kept, sequence=1, timestamp=1)
    first.send(first.frame(), now=10.0)
    first.source.end()
    second.send(second.frame(), now=14.0)
    assert kept.frames[1].packets[0].timestamp == 4 * 90_000


def test_a_session_that_numbers_anew_is_taken_up_at_its_next_keyframe() -> None:
    kept = Kept()
    camera = Camera(kept, group=5)
    for n in range(6):
        camera.send(camera.frame(), now=n / 20)
    camera.sequence += 20_000
    for n in range(6, 12):
        camera.send(camera.frame(), now=n / 20)
    numbers = [packet.sequence for packet in kept.packets]
    assert numbers == list(range(len(numbers)))
    assert kept.frames[6].is_key


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    loss=st.floats(0, 0.3),
    sequence=st.integers(0, 65_535),
    timestamp=st.integers(0, (1 << 32) - 1),
)
def test_whatever_the_way_does_numbers_stay_true(
    seed: int, loss: float, sequence: int, timestamp: int
) -> None:
    """Loss, repair and reordering: each packet that comes has the number and the time it would have had without."""
    chance = random.Random(seed)
    kept = Kept()
    camera = Camera(kept, sequence=sequence, timestamp=timestamp)
    camera.send(camera.frame(), now=0)
    late: list[dict[str, Any]] = []
    for n in range(1, 60):
        packets = camera.frame()
        lost = [packet for packet in packets if chance.random() < loss]
        coming = [packet for packet in packets if packet not in lost] + [
            late.pop() for _ in range(min(2, len(late)))
        ]
        if chance.random() < 0.3:
            chance.shuffle(coming)
        camera.send(coming, now=n / 20)
        late += [packet for packet in lost if chance.random() < 0.8]
    seen = [*kept.packets, *kept.repairs]
    assert len({packet.sequence for packet in seen}) == len(seen), "none is passed on twice"
    for packet in seen:
        assert packet.timestamp == packet.sequence // 3 * STEP
        assert packet.marker == (packet.sequence % 3 == 2)
    firsts = [frame.packets[0].sequence for frame in kept.frames]
    assert firsts == sorted(firsts)


def test_what_is_missing_is_asked_for_again_and_then_given_up() -> None:
    missing = Missing()
    assert missing.arrived(10, now=0) and missing.arrived(13, now=0)
    assert missing.due(now=0) == [11, 12]
    assert missing.due(now=RETRY_S / 2) == []
    missing.arrived(12, now=RETRY_S / 2)
    assert missing.due(now=RETRY_S) == [11]
    for n in range(2, MAX_TRIES + 2):
        missing.due(now=RETRY_S * n * 1.01)
    assert len(missing) == 0


@pytest.mark.parametrize(("way_s", "retry_s"), [(0.001, MIN_RETRY_S), (0.1, 0.15), (5, MAX_RETRY_S)])
def test_how_long_the_way_is_says_when_to_ask_again(way_s: float, retry_s: float) -> None:
    missing = Missing()
    now = 0.0
    for number in range(0, 100, 2):
        missing.arrived(number, now=now)
        missing.due(now=now)
        missing.arrived(number - 1, now=now + way_s)
        now += 10
    assert missing.retry_s == pytest.approx(retry_s) and missing.next_at() is None
    missing.arrived(101, now=now)
    assert missing.next_at() == now and missing.due(now=now) == [99, 100]
    assert missing.next_at() == pytest.approx(now + retry_s)
    assert missing.due(now=now + retry_s * 0.99) == [] and missing.due(now=now + retry_s * 1.01) == [99, 100]
    # An answer to one of two questions says nothing of the way.
    missing.arrived(99, now=now + retry_s * 1.02)
    assert missing.retry_s == pytest.approx(retry_s)


def test_numbers_that_begin_anew_are_looked_after_too() -> None:
    missing = Missing()
    missing.arrived(70_000, now=0)
    missing.arrived(70_002, now=0)
    missing.arrived(12, now=1)
    missing.arrived(14, now=1)
    assert missing.due(now=1) == [13]


def test_a_torn_connection_asks_for_a_keyframe_instead() -> None:
    missing = Missing()
    missing.arrived(1, now=0)
    assert not missing.arrived(MAX_MISSING + 10, now=0)
    assert missing.due(now=1) == []
