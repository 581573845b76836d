"""The relay whole, over real sockets: a camera of aiortc on one side, viewers of aiortc on the other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import pairwise, takewhile
from typing import Any

import pytest

from media.relay.camera import REGULAR_REPORTS, Camera
from media.relay.rtp import begins_keyframe
from media.relay.terms import Network, UpstreamRefused, ViewerRefused
from media.relay.tests.cameras import FRAME_RATE, FakeRing, Watcher, until, watching
from tests.support.lossy_path import LossyPath

RUSH, AT_ONCE = 100, 50


@pytest.fixture
def ring() -> FakeRing:
    return FakeRing()


@pytest.fixture(params=[True, False], ids=["fast", "plain"])
def network(request: pytest.FixtureRequest) -> Network:
    return Network(on_loopback=True, use_fast_path=request.param)


@pytest.fixture
async def camera(ring: FakeRing, network: Network) -> AsyncIterator[Camera]:
    made = Camera("door", upstreams=ring, network=network, on_end=lambda _: None)
    yield made
    made.end("closed")
    await made.closed()
    assert not ring.sessions, "nothing is left open at Ring"


def joining(camera: Camera, viewer_id: int):
    return lambda offer: camera.join(viewer_id, offer)


def timestamps(packets: list[Any]) -> list[int]:
    return [packet.timestamp for packet in packets]


async def test_two_viewers_see_the_picture_move_and_ring_sees_one_session(
    camera: Camera, ring: FakeRing
) -> None:
    async with watching(joining(camera, 1)) as first, watching(joining(camera, 2)) as second:
        await until(lambda: len(first.greys) > 10 and len(second.greys) > 10, what="ten pictures each")
        assert len(set(first.greys)) > 5
        assert ring.most_open == 1
        assert {packet.ssrc for packet in first.packets} != {packet.ssrc for packet in second.packets}


async def test_numbers_are_continuous_and_begin_in_the_lower_half(camera: Camera) -> None:
    async with watching(joining(camera, 1)) as viewer:
        await until(lambda: len(viewer.packets) > 60, what="sixty packets")
        numbers = viewer.numbers
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert numbers[0] < 1 << 15


async def test_a_late_viewer_gets_the_last_keyframe_at_once(camera: Camera, ring: FakeRing) -> None:
    async with watching(joining(camera, 1)) as first:
        await until(lambda: len(first.greys) > 25, what="more than a second of film")
        asked = ring.tracks[1].keyframes_asked
        async with watching(joining(camera, 2)) as late:
            await until(lambda: len(late.greys) > 0, timeout_s=5, what="a picture")
            await until(lambda: len(late.greys) > 20, what="going on")
        assert ring.tracks[1].keyframes_asked == asked, "no keyframe had to be made for it"


async def test_what_came_before_is_shown_quickly_and_in_order(camera: Camera) -> None:
    async with watching(joining(camera, 1)) as first:
        await until(lambda: len(first.greys) > 25)
        async with watching(joining(camera, 2)) as late:
            await until(lambda: len(late.packets) > 200)
            moments = timestamps(late.packets)
    assert all(later >= earlier or earlier - later > 1 << 31 for earlier, later in pairwise(moments))
    steps = [(b - a) % (1 << 32) for a, b in pairwise(moments) if a != b]
    assert steps[0] < 90_000 // FRAME_RATE // 4, "the group before is squeezed"
    assert steps[-1] == 90_000 // FRAME_RATE, "what is live keeps its own time"


async def test_the_next_session_takes_over_without_a_cut(network: Network) -> None:
    ring = FakeRing(cap_s=8.0)
    camera = Camera("door", upstreams=ring, network=network, on_end=lambda _: None)
    try:
        async with watching(joining(camera, 1)) as viewer:
            await until(lambda: camera.splices >= 3, timeout_s=30, what="three changes of session")
            await until(lambda: len(ring.ended) >= 3)
            numbers = viewer.numbers
            moments = timestamps(viewer.packets)
    finally:
        camera.end("closed")
        await camera.closed()
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    steps = [(b - a) % (1 << 32) for a, b in pairwise(moments)]
    # A frame later, plus what a busy machine is late; a cut of a whole session would be seconds, a step back 13 hours.
    assert max(steps) < 90_000 // 2, "the clock runs on, never back"
    assert ring.most_open == 2 and not ring.sessions
    assert set(ring.ended.values()) == {"cap", "closed"}


async def test_packets_lost_on_the_way_from_the_camera_are_asked_for_again(network: Network) -> None:
    lost = set()

    def lose(transport) -> None:
        send = transport._send_rtp

        async def sometimes(data: bytes) -> None:
            number = int.from_bytes(data[2:4])
            is_video = data[1] & 0x7F < 112 and not 192 <= data[1] <= 223
            if is_video and number % 17 == 3 and number not in lost:
                lost.add(number)
                return
            await send(data)

        transport._send_rtp = sometimes

    ring = FakeRing(on_transport=lose)
    camera = Camera("door", upstreams=ring, network=network, on_end=lambda _: None)
    try:
        async with watching(joining(camera, 1)) as viewer:
            await until(lambda: len(viewer.packets) > 150 and len(lost) > 5, timeout_s=30)
            await asyncio.sleep(0.3)
            numbers = sorted(set(viewer.numbers))
    finally:
        camera.end("closed")
        await camera.closed()
    assert len(lost) > 5
    missing = set(range(numbers[0], numbers[-1] - 10)) - set(numbers)
    assert not missing, "every hole was filled"


async def test_packets_lost_on_the_way_to_a_viewer_are_sent_again(camera: Camera) -> None:
    async with watching(joining(camera, 1)) as viewer:
        receiver = viewer.transceiver.receiver
        note = receiver._handle_rtp_packet
        codecs = {codec.payloadType: codec.name for codec in viewer.transceiver._codecs}
        lost: set[int] = set()
        repaired: set[int] = set()

        async def sometimes(packet, arrival_time_ms: int) -> None:
            if codecs[packet.payload_type] == "rtx":
                repaired.add(int.from_bytes(packet.payload[:2]))
            elif packet.sequence_number % 10 == 3:
                lost.add(packet.sequence_number)
                return
            await note(packet, arrival_time_ms=arrival_time_ms)

        receiver._handle_rtp_packet = sometimes
        await until(lambda: len(lost) > 8, timeout_s=20)
        await until(lambda: len(lost - repaired) <= 1, what="every loss repaired")
        await until(lambda: len(viewer.greys) > 20, what="the picture going on")


async def test_a_path_that_loses_two_percent_costs_no_picture(camera: Camera) -> None:
    """Each loss is repaired; what is sent again gets through, because aiortc, unlike a browser, asks once only."""
    payload_type = 0

    def is_picture(datagram: bytes, is_to_viewer: bool) -> bool:
        return is_to_viewer and 127 < datagram[0] < 192 and datagram[1] & 0x7F == payload_type

    with LossyPath(percent=2, seed=11, may_lose=is_picture) as path:

        async def join(offer: str) -> str:
            return path.answer(await camera.join(1, path.offer(offer)))

        async with watching(join) as viewer:
            await until(lambda: len(viewer.greys) > 3, what="a picture")
            codecs = {codec.payloadType: codec.name for codec in viewer.transceiver._codecs}
            payload_type = viewer.transceiver._codecs[0].payloadType
            await until(lambda: len(path.lost) >= 6, timeout_s=60, what="six losses")
            payload_type = 0  # what was lost may be the newest: let there be a newer one
            lost = {int.from_bytes(datagram[2:4]) for datagram in path.lost}

            def came() -> set[int]:
                again = {
                    int.from_bytes(packet.payload[:2])
                    for packet in viewer.packets
                    if codecs[packet.payload_type] == "rtx"
                }
                return again | set(viewer.numbers)

            await until(lambda: lost <= came(), what="every loss repaired")
            numbers = came()
            assert numbers == set(range(min(numbers), max(numbers) + 1)), "nothing is missing"
            seen = len(viewer.greys)
            await until(lambda: len(viewer.greys) > seen + 10, what="the picture going on")


async def test_a_viewer_who_goes_is_noticed_and_the_last_one_ends_the_session(
    camera: Camera, ring: FakeRing
) -> None:
    async with watching(joining(camera, 1)) as first:
        async with watching(joining(camera, 2)) as second:
            await until(lambda: len(first.greys) > 3 and len(second.greys) > 3)
        await until(lambda: ring.gone == {2: "closed"}, timeout_s=5)
        assert ring.sessions
    await until(lambda: not ring.sessions, timeout_s=5, what="the session's end")
    assert ring.ended == {1: "closed"}
    assert camera.is_over


async def test_a_viewer_that_falls_silent_is_let_go(camera: Camera, ring: FakeRing) -> None:
    async with watching(joining(camera, 1)) as viewer:
        viewing = camera._viewers[1].viewer
        await until(lambda: viewing.reports_heard >= 2 * REGULAR_REPORTS, timeout_s=30)

        async def nothing(packet) -> None: ...

        viewer.transceiver.receiver._send_rtcp = nothing  # as a browser that was killed
        await until(lambda: ring.gone == {1: "lost"}, timeout_s=10)
        await until(lambda: not ring.sessions, timeout_s=5)


@pytest.mark.parametrize(
    ("begins_at", "asked"), [(-1, 0), (0, 1)], ids=["at a keyframe", "between keyframes"]
)
async def test_a_keyframe_is_asked_for_only_by_a_session_that_does_not_begin_with_one(
    camera: Camera, ring: FakeRing, begins_at: int, asked: int
) -> None:
    ring.begins_at = begins_at
    async with watching(joining(camera, 1)) as viewer:
        await until(lambda: len(viewer.greys) > 5, what="the first pictures")
        assert ring.tracks[1].keyframes_asked == asked


async def test_a_session_that_falls_silent_is_replaced(camera: Camera, ring: FakeRing) -> None:
    async with watching(joining(camera, 1)) as viewer:
        await until(lambda: len(viewer.greys) > 5)
        ring.tracks[1].is_silent = True
        await until(lambda: len(ring.tracks) == 2 and camera.splices == 1, timeout_s=15)
        seen = len(viewer.greys)
        await until(lambda: len(viewer.greys) > seen + 5)
        assert list(ring.sessions) == [2]


async def test_a_refusal_reaches_everybody_who_waits(camera: Camera, ring: FakeRing) -> None:
    ring.refuse = UpstreamRefused("offline", is_final=True)
    with pytest.raises(UpstreamRefused, match="offline"):
        async with watching(joining(camera, 1)):
            pass


async def test_a_final_refusal_ends_the_viewing_with_its_reason(camera: Camera, ring: FakeRing) -> None:
    async with watching(joining(camera, 1)) as viewer:
        await until(lambda: len(viewer.greys) > 3)
        ring.refuse = UpstreamRefused("offline", is_final=True)
        ring.tracks[1].is_silent = True
        await until(lambda: ring.gone == {1: "offline"}, timeout_s=15)


async def test_an_offer_without_our_codec_is_refused_and_leaves_nothing(
    camera: Camera, ring: FakeRing
) -> None:
    def only_vp8(offer: str):
        return camera.join(1, offer.replace("H264", "H265"))

    with pytest.raises(ViewerRefused):
        async with watching(only_vp8):
            pass
    assert not camera.viewer_ids


async def test_a_rush_of_viewers_all_get_a_whole_picture(ring: FakeRing) -> None:
    """Fifty at a time, as `make bench` does with five hundred; a picture is whole from its keyframe's first packet on."""
    camera = Camera("door", upstreams=ring, network=Network(on_loopback=True), on_end=lambda _: None)

    def has_picture(viewer: Watcher) -> bool:
        pictures = [
            packet
            for packet in viewer.packets
            if packet.payload_type == viewer.transceiver._codecs[0].payloadType
        ]
        whole = list(takewhile(lambda packet: packet.timestamp == pictures[0].timestamp, pictures))
        numbers = [packet.sequence_number for packet in whole]
        return (
            bool(whole)
            and begins_keyframe(whole[0].payload)
            and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            and bool(whole[-1].marker)
        )

    async with AsyncExitStack() as everybody:
        for batch in range(RUSH // AT_ONCE):
            viewers = [Watcher() for _ in range(AT_ONCE)]
            for viewer in viewers:
                everybody.push_async_callback(viewer.close)

            async def join(viewer: Watcher, viewer_id: int) -> None:
                await viewer.accept(await camera.join(viewer_id, await viewer.offer()), decode=False)

            ids = range(batch * AT_ONCE, (batch + 1) * AT_ONCE)
            await asyncio.gather(*(join(viewer, each) for viewer, each in zip(viewers, ids, strict=True)))
            await until(
                lambda viewers=viewers: all(map(has_picture, viewers)),  # type: ignore[misc]
                timeout_s=60,
                what="a picture for everybody",
            )
        assert len(camera.viewer_ids) == RUSH and ring.gone == {}
        assert ring.most_open == 1
    camera.end("closed")
    await camera.closed()
    assert not ring.sessions
