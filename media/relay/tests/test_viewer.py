"""One viewer against a stream of made-up frames: what it is sent, what it is sent again, and what it misses."""

import asyncio
from itertools import pairwise

import pytest

from media.relay import rtp
from media.relay.keyframes import PAUSES_S
from media.relay.rtp import Feedback, Packet
from media.relay.stream import HISTORY, Frame, Stream
from media.relay.tests.cameras import until
from media.relay.viewer import MAX_LAG, RETRANSMITS_PER_S, Viewer
from media.relay.wire import Layout, Link

GROUP = 10
PACKETS = 3


class Recorder(Link):
    """A plain link that keeps what is sent; with `is_stuck` the network takes nothing."""

    def __init__(self) -> None:
        self.sent: list[rtp.Received] = []
        self.is_stuck = False

    async def send(self, packet: bytes) -> bool:
        self.sent.append(rtp.parse(packet))
        return True

    def backlog_bytes(self) -> int:
        return 1 << 20 if self.is_stuck else 0


class Scene:
    """A stream with one viewer and a film of frames."""

    def __init__(self, *, rtx: bool = True) -> None:
        self.asked = 0
        self.stream = Stream(on_frame=self._frame, on_repair=lambda packet: self.viewer.repair(packet))
        self.link = Recorder()
        self.count = 0
        self.now = 1.0
        self.viewer = Viewer(
            stream=self.stream,
            ask_keyframe=self._ask,
            payload_type=96,
            ssrc=11,
            rtx_payload_type=97 if rtx else None,
            rtx_ssrc=12,
        )

    def _ask(self) -> None:
        self.asked += 1

    def _frame(self, frame: Frame) -> None:
        self.viewer.frame(frame, lambda tag: Layout(frame.packets, tag))

    def play(self, frames: int) -> None:
        for _ in range(frames):
            first = b"\x65" if self.count % GROUP == 0 else b"\x41"
            head = self.stream.head
            packets = [
                Packet(head + n, self.count * 4500, n == PACKETS - 1, first + b"%d" % (head + n))
                for n in range(PACKETS)
            ]
            self.now += 0.05
            self.stream.append(Frame(packets, self.count % GROUP == 0), now=self.now)
            self.count += 1

    @property
    def pictures(self) -> list[rtp.Received]:
        return [packet for packet in self.link.sent if packet.payload_type == 96]


def numbers(packets: list[rtp.Received]) -> list[int]:
    extended = [packets[0].sequence]
    for packet in packets[1:]:
        extended.append(rtp.extend(packet.sequence, bits=16, near=extended[-1]))
    return extended


def in_row(packets: list[rtp.Received]) -> bool:
    return all(b - a == 1 for a, b in pairwise(numbers(packets)))


def lacking(*sequences: int) -> Feedback:
    return Feedback(sequences, False, None)


async def caught_up(scene: Scene, at_least: int) -> None:
    await until(lambda: len(scene.pictures) >= at_least, timeout_s=5, what=f"{at_least} packets")


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_a_viewer_begins_at_the_last_keyframe(scene: Scene) -> None:
    scene.play(GROUP + 4)
    scene.viewer.begin(scene.link)
    await caught_up(scene, 4 * PACKETS)
    assert scene.pictures[0].payload == b"\x65%d" % (GROUP * PACKETS)
    assert scene.asked == 0
    scene.viewer.close()


async def test_without_a_keyframe_it_asks_for_one_and_waits(scene: Scene) -> None:
    scene.count = 3
    scene.play(4)
    scene.viewer.begin(scene.link)
    assert scene.asked == 1
    scene.play(3)
    await asyncio.sleep(0)
    assert scene.pictures == []
    scene.play(2)
    await caught_up(scene, 2 * PACKETS)
    assert scene.pictures[0].payload[:1] == b"\x65"
    scene.viewer.close()


async def test_one_that_cannot_keep_up_goes_on_at_a_keyframe_and_sees_no_gap(scene: Scene) -> None:
    scene.play(1)
    scene.viewer.begin(scene.link)
    await caught_up(scene, PACKETS)
    scene.link.is_stuck = True
    scene.play(MAX_LAG // PACKETS + 2 * GROUP)
    await asyncio.sleep(0.02)
    assert scene.viewer.drops >= 1
    assert scene.asked == 0, "a keyframe that it was not sent is kept"
    assert len(scene.pictures) == PACKETS, "nothing waits in memory for it"
    scene.link.is_stuck = False
    scene.play(2 * GROUP)
    await caught_up(scene, PACKETS + GROUP * PACKETS)
    assert in_row(scene.pictures)
    assert scene.pictures[PACKETS].payload[:1] == b"\x65"
    scene.viewer.close()


async def test_one_that_cannot_keep_up_asks_where_no_later_keyframe_is_kept(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.GROUP", HISTORY)
    scene.play(1)
    scene.viewer.begin(scene.link)
    await caught_up(scene, PACKETS)
    scene.link.is_stuck = True
    scene.play(MAX_LAG // PACKETS + 2)
    assert scene.viewer.drops == 1 and scene.asked == 1
    scene.link.is_stuck = False
    scene.count = GROUP
    scene.play(2)
    await caught_up(scene, 3 * PACKETS)
    assert in_row(scene.pictures)
    assert scene.pictures[PACKETS].payload[:1] == b"\x65"
    scene.viewer.close()


@pytest.mark.parametrize("rtx", [True, False])
async def test_what_was_lost_is_sent_again_as_it_was(rtx: bool) -> None:
    scene = Scene(rtx=rtx)
    scene.play(5)
    scene.viewer.begin(scene.link)
    await caught_up(scene, 5 * PACKETS)
    lost = scene.pictures[4]
    sent = len(scene.link.sent)
    scene.viewer.feedback(lacking(lost.sequence), now=scene.now)
    await until(lambda: len(scene.link.sent) > sent, timeout_s=2)
    again = scene.link.sent[sent]
    if rtx:
        assert (again.payload_type, again.ssrc) == (97, 12)
        assert rtp.unwrap_retransmission(again.payload) == (lost.sequence, lost.payload)
        assert (again.timestamp, again.marker) == (lost.timestamp, lost.marker)
    else:
        assert again == lost
    scene.viewer.close()


async def test_a_loss_from_before_a_jump_is_still_known(scene: Scene) -> None:
    scene.play(1)
    scene.viewer.begin(scene.link)
    await caught_up(scene, PACKETS)
    before = scene.pictures[1]
    scene.link.is_stuck = True
    scene.play(MAX_LAG // PACKETS + 2 * GROUP)
    await asyncio.sleep(0.02)
    scene.link.is_stuck = False
    scene.play(GROUP)
    await caught_up(scene, PACKETS + 2)
    scene.viewer.feedback(lacking(before.sequence), now=scene.now)
    await until(lambda: any(packet.payload_type == 97 for packet in scene.link.sent), timeout_s=2)
    again = next(packet for packet in scene.link.sent if packet.payload_type == 97)
    assert rtp.unwrap_retransmission(again.payload) == (before.sequence, before.payload)
    scene.viewer.close()


async def test_a_flood_of_requests_is_answered_in_bounds(scene: Scene) -> None:
    scene.play(GROUP)
    scene.viewer.begin(scene.link)
    await caught_up(scene, GROUP * PACKETS)
    wanted = [packet.sequence for packet in scene.pictures]
    for _ in range(200):
        scene.viewer.feedback(lacking(*wanted), now=scene.now)
    assert scene.viewer.retransmits <= RETRANSMITS_PER_S + 1
    scene.viewer.close()


@pytest.mark.parametrize("sequence", [0, 1, 40_000, 65_535])
async def test_what_was_never_sent_is_not_sent_again(scene: Scene, sequence: int) -> None:
    scene.play(2)
    scene.viewer.begin(scene.link)
    await caught_up(scene, 2 * PACKETS)
    if sequence not in [packet.sequence for packet in scene.pictures]:
        scene.viewer.feedback(lacking(sequence), now=scene.now)
        assert scene.viewer.retransmits == 0
    scene.viewer.close()


async def test_a_number_never_stands_for_two_packets(scene: Scene) -> None:
    """With counter-mode encryption a number used twice would lay both pictures open."""
    scene.play(3)
    scene.viewer.begin(scene.link)
    await caught_up(scene, 3 * PACKETS)
    for _ in range(3):
        scene.link.is_stuck = not scene.link.is_stuck
        scene.play(MAX_LAG // PACKETS + GROUP)
        await asyncio.sleep(0.05)
    seen: dict[int, bytes] = {}
    for number, packet in zip(numbers(scene.pictures), scene.pictures, strict=True):
        assert seen.setdefault(number, packet.payload) == packet.payload
    scene.viewer.close()


async def test_reports_count_what_was_sent(scene: Scene) -> None:
    assert scene.viewer.report() is None
    scene.play(2)
    scene.viewer.begin(scene.link)
    await caught_up(scene, 2 * PACKETS)
    report = scene.viewer.report()
    assert report is not None
    assert int.from_bytes(report[20:24]) == 2 * PACKETS
    assert int.from_bytes(report[24:28]) == sum(len(packet.payload) for packet in scene.pictures)
    scene.viewer.close()


async def test_a_keyframe_request_is_passed_on_at_once_and_one_of_a_viewer_that_is_gone_never(
    scene: Scene,
) -> None:
    said = Feedback([], True, 30)
    scene.viewer.feedback(said, now=1.0)
    assert scene.asked == 1 and scene.viewer.fraction_lost == 30
    scene.viewer.feedback(said, now=1.1)
    scene.viewer.close()
    scene.viewer.feedback(said, now=1.2)
    await asyncio.sleep(PAUSES_S[0] + 0.1)
    assert scene.asked == 1


def test_the_history_holds_more_than_a_viewer_may_lag() -> None:
    assert MAX_LAG < HISTORY
