"""The relay whole, over real sockets: a camera of aiortc on one side, viewers of aiortc on the other."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import pairwise, takewhile
from typing import Any

import pytest

from media.relay import camera as relay_camera
from media.relay.camera import LEAD_MOST, LEAD_S, LINGER_S, REGULAR_REPORTS, RETRY_S, Camera
from media.relay.rtp import begins_keyframe, padding
from media.relay.terms import IN_USE, Lease, Network, UpstreamRefused, ViewerRefused
from media.relay.tests.cameras import FRAME_RATE, FakeRing, Watcher, open_files, until, watching
from tests.support.lossy_path import LossyPath

# Camera, relay and viewers share this one process: with more, a busy machine starves them. `make bench` has five hundred.
RUSH, AT_ONCE = 60, 30


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


class SlowRing(FakeRing):
    """It answers each offer so much later (the last of `waits_s` for ever), and sends nothing more `cap_s` after the offer."""

    def __init__(self, *waits_s: float, cap_s: float) -> None:
        super().__init__(cap_s=cap_s)
        self.asked_at: list[float] = []
        self.ended_at: dict[int, float] = {}
        self._waits_s = waits_s

    async def close(self, lease_id: int, reason: str) -> None:
        self.ended_at[lease_id] = time.monotonic()
        await super().close(lease_id, reason)

    async def open(self, key: str, offer_sdp: str) -> Lease:
        self.asked_at.append(time.monotonic())
        ends_at = self.asked_at[-1] + self.cap_s
        await asyncio.sleep(self._waits_s[min(len(self.asked_at), len(self._waits_s)) - 1])
        lease = await super().open(key, offer_sdp)

        def fall_silent() -> None:
            self.tracks[lease.id].is_silent = True

        asyncio.get_running_loop().call_later(ends_at - time.monotonic(), fall_silent)
        return lease


async def test_where_answers_are_slow_the_next_session_is_opened_earlier_and_there_is_no_cut() -> None:
    ring = SlowRing(9.0, cap_s=20.0)
    camera = Camera("door", upstreams=ring, network=Network(on_loopback=True), on_end=lambda _: None)
    try:
        async with watching(joining(camera, 1)) as viewer:
            await until(lambda: camera.splices == 1, timeout_s=40, what="the next session")
            seen = len(viewer.greys)
            await until(
                lambda: len(viewer.greys) > seen + 3 * FRAME_RATE, what="the picture after the first's end"
            )
            changed_over_at = ring.ended_at[1]
            numbers = viewer.numbers
    finally:
        camera.end("closed")
        await camera.closed()
    # The first one sent pictures until the next one's were there: of pauses by the clock a busy machine makes some itself.
    assert changed_over_at < ring.asked_at[0] + ring.cap_s
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_after_a_slow_answer_a_short_session_is_used_for_a_while_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("media.relay.camera.LEAD_S", 1.0)
    ring = SlowRing(4.0, 0.0, cap_s=6.0)
    camera = Camera("door", upstreams=ring, network=Network(on_loopback=True), on_end=lambda _: None)
    try:
        async with watching(joining(camera, 1)):
            await until(lambda: len(ring.asked_at) == 3, what="the third session")
    finally:
        camera.end("closed")
        await camera.closed()
    _, second, third = ring.asked_at
    assert third - second > ring.cap_s * (1 - LEAD_MOST) - 0.1


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


async def test_a_viewer_whose_network_gives_it_another_port_sees_the_picture_go_on(
    camera: Camera, ring: FakeRing
) -> None:
    with LossyPath(percent=0, seed=1, may_lose=lambda datagram, is_to_viewer: False) as path:

        async def join(offer: str) -> str:
            return path.answer(await camera.join(1, path.offer(offer)))

        async with watching(join) as viewer:
            await until(lambda: len(viewer.greys) > 3, what="a picture")
            path.rebind()
            # What a browser's checks say every few seconds; aiortc's name the pair once only.
            connection = viewer.transceiver.receiver.transport.transport._connection
            pair = connection._nominated[1]
            check = connection.build_request(pair, nominate=True)
            await pair.protocol.request(
                check, pair.remote_addr, integrity_key=connection.remote_password.encode()
            )
            seen = len(viewer.greys)
            await until(lambda: len(viewer.greys) > seen + 20, what="the picture going on")
    assert ring.most_open == 1


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


async def test_a_camera_that_wakes_late_does_not_take_the_picture_back(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_camera, "CONNECT_S", 1.0)

    class Sleepy(FakeRing):
        """Its first session says nothing until the second one has begun."""

        async def open(self, key: str, offer_sdp: str) -> Lease:
            lease = await super().open(key, offer_sdp)
            self.tracks[lease.id].is_silent = lease.id == 1
            return lease

    ring = Sleepy(begins_at=-1)
    camera = Camera("door", upstreams=ring, network=network, on_end=lambda _: None)
    try:
        async with watching(joining(camera, 1)) as viewer:
            await until(lambda: camera.stream.head > 0, what="the second session's keyframe")
            ring.tracks[1].is_silent = False
            await until(lambda: len(viewer.greys) > FRAME_RATE, what="a second of film")
            assert camera.splices == 1 and ring.ended == {1: "cap"}
            numbers = viewer.numbers
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    finally:
        camera.end("closed")
        await camera.closed()


async def test_one_viewer_who_cannot_be_served_ends_alone(
    camera: Camera, ring: FakeRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(joining(camera, 1)) as well, watching(joining(camera, 2)):
        await until(lambda: len(well.greys) > 5, what="five pictures")
        [broken] = [w.viewer for w in camera._viewers.values() if w.id == 2]

        def fail(*_: object) -> None:
            raise ValueError("a mistake of ours")

        monkeypatch.setattr(broken, "frame", fail)
        await until(lambda: ring.gone == {2: "failed"}, what="the end of the second one")
        seen = len(well.greys)
        await until(lambda: len(well.greys) > seen + 10, what="the first one's going on")
        assert len(ring.tracks) == 1 and not ring.ended


async def test_packets_of_padding_alone_leave_no_hole_in_the_numbers(network: Network) -> None:
    """As libwebrtc sends them to find out how much a line carries: numbered with the pictures' packets, on the same source."""
    sent = 0

    def fill(transport) -> None:
        send = transport._send_rtp

        async def and_padding(data: bytes) -> None:
            nonlocal sent
            if 192 <= data[1] <= 223:
                await send(data)
                return
            number = int.from_bytes(data[2:4]) + sent
            await send(data[:2] + (number & 0xFFFF).to_bytes(2) + data[4:])
            if data[1] & 0x80:
                sent += 1
                following = ((number + 1) & 0xFFFF).to_bytes(2)
                await send(bytes([0xA0, data[1] & 0x7F]) + following + data[4:12] + padding(200))

        transport._send_rtp = and_padding

    ring = FakeRing(on_transport=fill)
    camera = Camera("door", upstreams=ring, network=network, on_end=lambda _: None)
    try:
        async with watching(joining(camera, 1)) as viewer:
            await until(lambda: len(viewer.greys) > 20 and sent > 20, what="a second of film")
            numbers = viewer.numbers
            assert camera._current is not None and len(camera._current.missing) == 0
    finally:
        camera.end("closed")
        await camera.closed()
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


class StubbornRing(FakeRing):
    """It opens the first session; what becomes of the others, `after_first` says."""

    def __init__(self, after_first: Callable[[], Awaitable[None]]) -> None:
        super().__init__(cap_s=LEAD_S + 0.5)
        self.opened_at: list[float] = []
        self._after_first = after_first

    async def open(self, key: str, offer_sdp: str) -> Lease:
        self.opened_at.append(time.monotonic())
        if len(self.opened_at) > 1:
            await self._after_first()
        return await super().open(key, offer_sdp)


async def test_a_mistake_while_the_next_session_is_opened_is_not_repeated_at_once(network: Network) -> None:
    async def fail() -> None:
        raise RuntimeError("a mistake of ours")

    ring = StubbornRing(fail)
    camera = Camera("door", upstreams=ring, network=network, on_end=lambda _: None)
    try:
        async with watching(joining(camera, 1)) as viewer:
            await until(lambda: len(ring.opened_at) >= 4, what="three tries")
            assert len(viewer.greys) > 5, "the session that runs goes on"
    finally:
        camera.end("closed")
        await camera.closed()
    pauses = [later - earlier for earlier, later in pairwise(ring.opened_at[1:])]
    assert all(pause >= wanted for pause, wanted in zip(pauses, RETRY_S, strict=False)), pauses


async def test_the_session_of_the_last_viewer_ends_although_the_next_is_still_being_opened(
    network: Network,
) -> None:
    answered = asyncio.Event()

    async def wait() -> None:
        await answered.wait()

    ring = StubbornRing(wait)
    camera = Camera("door", upstreams=ring, network=network, on_end=lambda _: None)
    async with watching(joining(camera, 1)) as viewer:
        await until(lambda: len(viewer.greys) > 3 and len(ring.opened_at) == 2)
    await until(lambda: 1 in ring.ended, timeout_s=LINGER_S + 3, what="the end at Ring")
    assert ring.gone == {1: "closed"}
    answered.set()
    await camera.closed()
    assert ring.ended == {1: "closed", 2: "closed"} and not ring.sessions


class LonelyRing(FakeRing):
    """It gives one session at a time. `lasted_s` tells how long each was open."""

    def __init__(self, cap_s: float) -> None:
        super().__init__(cap_s=cap_s)
        self.refused = 0
        self.lasted_s: list[float] = []
        self._opened_at = 0.0

    async def open(self, key: str, offer_sdp: str) -> Lease:
        if self.sessions:
            self.refused += 1
            raise UpstreamRefused(IN_USE, is_final=False)
        self._opened_at = time.monotonic()
        return await super().open(key, offer_sdp)

    async def close(self, lease_id: int, reason: str) -> None:
        self.lasted_s.append(time.monotonic() - self._opened_at)
        await super().close(lease_id, reason)


async def test_where_ring_gives_one_session_at_a_time_the_next_follows_the_end_of_the_first(
    network: Network,
) -> None:
    ring = LonelyRing(cap_s=LEAD_S + 2)
    camera = Camera("door", upstreams=ring, network=network, on_end=lambda _: None)
    try:
        async with watching(joining(camera, 1)) as viewer:
            await until(lambda: ring.refused == 1, what="the try beside the first session")
            await until(lambda: camera.splices == 1, what="the next session")
            seen = len(viewer.greys)
            await until(lambda: len(viewer.greys) > seen + 5, what="the picture going on")
            numbers = viewer.numbers
            assert ring.gone == {}
    finally:
        camera.end("closed")
        await camera.closed()
    assert ring.lasted_s[0] > ring.cap_s - 0.5, "the first was kept to its end"
    assert ring.refused == 1, "and not asked beside again and again"
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_a_silent_session_is_ended_where_ring_gives_no_other_beside_it(network: Network) -> None:
    ring = LonelyRing(cap_s=60)
    camera = Camera("door", upstreams=ring, network=network, on_end=lambda _: None)
    try:
        async with watching(joining(camera, 1)) as viewer:
            await until(lambda: len(viewer.greys) > 5)
            ring.tracks[1].is_silent = True
            await until(lambda: camera.splices == 1, what="the next session")
            seen = len(viewer.greys)
            await until(lambda: len(viewer.greys) > seen + 5, what="the picture going on")
    finally:
        camera.end("closed")
        await camera.closed()


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


async def test_who_joins_while_the_camera_ends_is_refused_and_leaves_nothing(network: Network) -> None:
    ring, files = FakeRing(), open_files()
    camera = Camera("door", upstreams=ring, network=network, on_end=lambda _: None)
    late = Watcher()
    try:
        async with watching(joining(camera, 1)) as first:
            await until(lambda: len(first.greys) > 3)
            offer, before = await late.offer(), open_files()
            join = asyncio.create_task(camera.join(2, offer))
            # It is begun with the first socket, and takes a few more turns of the loop.
            await until(lambda: open_files() > before, every_s=0, what="the answer being made")
            camera.end("removed")
            with pytest.raises(UpstreamRefused, match="unavailable"):
                await join
            await camera.closed()
    finally:
        camera.end("closed")
        await camera.closed()
        await late.close()
    assert ring.gone == {1: "removed"}
    await until(lambda: open_files() <= files, timeout_s=5, what="the end of every socket")


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
    """A picture is whole from its keyframe's first packet on."""
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
