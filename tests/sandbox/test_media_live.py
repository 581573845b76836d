"""The sandbox's camera as a WHEP client meets it; the clients here are aiortc's."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace

import aioice.ice
import av
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from PIL import ImageChops, ImageStat

import sandbox.whep
from sandbox.encoder import MAILBOX_FRAMES, LiveFeed
from sandbox.whep import LiveSession, OfferRejected, gather_on_loopback_too


def at_s(packet) -> float:
    """When a packet or frame is to be shown, in seconds."""
    return float(packet.pts * packet.time_base)


class Viewer:
    """A WHEP client, and what it was told about the end of its session."""

    def __init__(self) -> None:
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.session: LiveSession | None = None
        self.ended: list[str] = []
        self.end = asyncio.Event()

    async def offer(self, *, audio: bool = False) -> str:
        self.peer.addTransceiver("video", direction="recvonly")
        if audio:
            self.peer.addTransceiver("audio", direction="recvonly")
        gather_on_loopback_too(self.peer)
        await self.peer.setLocalDescription()
        return self.peer.localDescription.sdp

    async def open(self, camera, *, cap_s: float = 30, offer: str | None = None) -> LiveSession:
        self.session = await LiveSession.open(
            offer_sdp=offer or await self.offer(), camera=camera, cap_s=cap_s, on_end=self._on_end
        )
        return self.session

    async def watch(self, camera, **options) -> None:
        session = await self.open(camera, **options)
        await self.peer.setRemoteDescription(RTCSessionDescription(sdp=session.answer_sdp, type="answer"))

    @property
    def answer(self) -> str:
        assert self.session is not None
        return self.session.answer_sdp

    async def frame(self) -> av.VideoFrame:
        async with asyncio.timeout(10):
            frame = await self.peer.getReceivers()[0].track.recv()
        assert isinstance(frame, av.VideoFrame)
        return frame

    def _on_end(self, session, reason) -> None:
        assert self.session in (session, None)
        self.ended.append(reason)
        self.end.set()

    async def close(self) -> None:
        await self.peer.close()
        if self.session is not None:
            await self.session.close()


@pytest.fixture
async def viewer():
    viewers = []

    def make() -> Viewer:
        viewers.append(Viewer())
        return viewers[-1]

    yield make
    for one in viewers:
        await one.close()
    assert LiveFeed.running() == 0


async def test_viewer_sees_a_moving_picture_in_real_time(viewer, camera):
    one = viewer()
    await one.watch(camera)

    frames = [await one.frame() for _ in range(20)]

    assert {(frame.width, frame.height) for frame in frames} == {(1280, 720)}
    pictures = [frame.to_image() for frame in (frames[0], frames[-1])]
    assert max(ImageStat.Stat(ImageChops.difference(*pictures)).mean) > 0.05
    shown_s = at_s(frames[-1]) - at_s(frames[0])
    assert shown_s >= 19 / 15 - 0.01


async def test_answer_is_one_camera_that_only_sends_h264(viewer, camera):
    one = viewer()
    session = await one.open(camera, offer=await one.offer(audio=True))

    video, audio = re.split(r"(?m)^m=", session.answer_sdp)[1:]
    assert "a=sendonly" in video
    assert re.findall(r"a=rtpmap:\d+ (\S+)", video)[0] == "H264/90000"
    assert "VP8" not in video
    assert "packetization-mode=1" in video
    assert "a=inactive" in audio
    assert len(re.findall("a=fingerprint:", video)) == 1
    assert re.search(r"a=candidate:\S+ 1 udp \d+ 127\.0\.0\.1 ", video)
    assert "typ srflx" not in session.answer_sdp
    assert session.answer_sdp.endswith("\r\n")
    assert session.opened_at.tzinfo is not None


async def test_answer_comes_at_once(viewer, camera):
    one, two = viewer(), viewer()
    offer = await two.offer()
    await one.open(camera)

    asked_s = time.perf_counter()
    await two.open(camera, offer=offer)
    assert time.perf_counter() - asked_s < 0.3


async def test_live_works_where_loopback_is_the_only_interface(viewer, camera, monkeypatch):
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: [])
    one = viewer()

    await one.watch(camera)

    assert await one.frame()
    assert set(re.findall(r"a=candidate:\S+ 1 udp \d+ (\S+) ", one.answer)) == {"127.0.0.1"}


async def test_hidden_addresses_of_a_browser_neither_break_nor_delay(viewer, camera):
    one = viewer()
    offer = await one.offer()
    hidden = re.sub(
        r"(a=candidate:\S+ 1 udp \d+ )\S+", r"\g<1>2d41585f-73c9-41ea-86ba-2cf08b2ca6e6.local", offer
    )
    assert ".local" in hidden

    await one.watch(camera, offer=hidden)

    assert await one.frame()


async def test_high_profile_is_answered_where_only_that_is_offered(viewer, camera):
    one = viewer()
    offer = (await one.offer()).replace("42001f", "64001f").replace("42e01f", "4d001f")

    session = await one.open(camera, offer=offer)

    assert re.findall("profile-level-id=(.*)", session.answer_sdp)[0].strip() == "64001f"


def _sendrecv(offer: str) -> str:
    return offer.replace("a=recvonly", "a=sendrecv")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda offer: "", "start with v="),
        (lambda offer: "x" + offer, "start with v="),
        (lambda offer: offer.replace("m=video", "m=audio"), "no video"),
        (_sendrecv, "recvonly"),
        (lambda offer: offer.replace("a=recvonly\r\n", ""), "recvonly"),
        (lambda offer: offer.replace("a=recvonly", "a=sendonly"), "recvonly"),
        (lambda offer: offer.replace("a=recvonly", "a=inactive"), "recvonly"),
        (lambda offer: re.sub("a=ice-ufrag:.*\r\n", "", offer), "ice-ufrag"),
        (lambda offer: re.sub("a=ice-pwd:.*\r\n", "", offer), "ice-pwd"),
        (lambda offer: re.sub("a=fingerprint:.*\r\n", "", offer), "fingerprint"),
        (lambda offer: offer.replace("H264/90000", "H265/90000").replace("VP8/", "VP7/"), "codec"),
        (lambda offer: offer.replace("packetization-mode=1", "packetization-mode=0"), "codec"),
        (lambda offer: re.sub("m=video .*\r\n", "m=video x y\r\n", offer), "well-formed"),
        (lambda offer: re.sub("c=IN IP4 .*\r\n", "c=nonsense\r\n", offer), "well-formed"),
        (lambda offer: re.sub("a=fingerprint:.*\r\n", "a=fingerprint:x\r\n", offer), "well-formed"),
    ],
)
async def test_offer_that_a_camera_cannot_answer_is_refused(viewer, camera, spoil, reason):
    one = viewer()
    offer = await one.offer()

    with pytest.raises(OfferRejected, match=reason):
        await one.open(camera, offer=spoil(offer) or " ")
    assert one.ended == []
    assert LiveFeed.running() == 0


async def test_offer_cut_off_anywhere_is_refused_or_answered(viewer, camera):
    one = viewer()
    offer = await one.offer()

    for length in range(2, len(offer), 97):
        try:
            session = await LiveSession.open(
                offer_sdp=offer[:length], camera=camera, cap_s=30, on_end=lambda *_: None
            )
        except OfferRejected:
            continue
        await session.close()


async def test_session_ends_at_its_cap(viewer, camera):
    one = viewer()
    await one.watch(camera, cap_s=3.0)  # long enough for a first picture on a busy machine
    await one.frame()

    async with asyncio.timeout(5):
        await one.end.wait()

    assert one.ended == ["cap"]


async def test_session_ends_when_the_viewer_hangs_up(viewer, camera):
    one = viewer()
    await one.watch(camera)
    await one.frame()

    await one.peer.close()

    async with asyncio.timeout(5):
        await one.end.wait()
    assert one.ended == ["peer gone"]


async def test_session_ends_when_nobody_ever_connects(viewer, camera, monkeypatch):
    monkeypatch.setattr(sandbox.whep, "CONNECT_TIMEOUT_S", 0.3)
    one = viewer()
    await one.open(camera)

    async with asyncio.timeout(5):
        await one.end.wait()

    assert one.ended == ["never connected"]


async def test_closing_twice_ends_once_with_the_first_reason(viewer, camera):
    one = viewer()
    session = await one.open(camera)

    await asyncio.gather(session.close("deleted"), session.close("again"))
    await session.close()

    assert one.ended == ["deleted"]


async def test_viewers_of_one_camera_share_one_encoder(viewer, camera):
    one, two, other = viewer(), viewer(), viewer()
    await one.watch(camera)
    await two.watch(replace(camera))
    assert LiveFeed.running() == 1
    await other.watch(replace(camera, component_id="2", kind="garden"))
    assert LiveFeed.running() == 2

    await one.frame()
    await one.close()

    assert await two.frame()
    assert await other.frame()
    assert LiveFeed.running() == 2


async def test_late_viewer_gets_a_picture_without_waiting_for_the_next_keyframe(camera):
    feed = LiveFeed.hold(camera)
    first, late = feed.watch(), None
    try:
        async with asyncio.timeout(10):
            packets = [await first.next_packet() for _ in range(4)]
            assert [packet.is_keyframe for packet in packets] == [True, False, False, False]
            late = feed.watch()
            packet = await late.next_packet()
            while at_s(shared := await first.next_packet()) < at_s(packet):
                pass
        assert packet.is_keyframe
        assert shared.is_keyframe
        # A keyframe of its own accord would come two seconds after the first.
        assert at_s(packet) - at_s(packets[0]) < 1
    finally:
        first.close()
        if late is not None:
            late.close()
        feed.release()


async def test_viewer_that_asks_for_a_keyframe_gets_one(viewer, camera):
    one = viewer()
    await one.watch(camera)
    await one.frame()
    feed = LiveFeed.hold(camera)
    watcher = feed.watch()
    try:
        async with asyncio.timeout(10):
            while not (opening := await watcher.next_packet()).is_keyframe:
                pass
            receiver = one.peer.getReceivers()[0]
            (source,) = receiver.getSynchronizationSources()
            await receiver._send_rtcp_pli(source.source)
            while not (asked := await watcher.next_packet()).is_keyframe:
                pass
        assert at_s(asked) - at_s(opening) < 1.5
    finally:
        watcher.close()
        feed.release()


def packet(number: int, *, keyframe: bool):
    made = av.Packet(b"\x00\x00\x00\x01")
    made.pts = number
    made.is_keyframe = keyframe
    return made


async def test_viewer_too_slow_loses_pictures_and_resumes_at_a_keyframe(camera):
    feed = LiveFeed(camera)  # its thread never started: the test is the camera
    watcher = feed.watch()
    feed._keyframe_wanted.clear()

    watcher.deliver(packet(0, keyframe=True))
    for number in range(1, MAILBOX_FRAMES + 20):
        watcher.deliver(packet(number, keyframe=False))
    await asyncio.sleep(0)  # let the loop take them in

    assert feed._keyframe_wanted.is_set()
    watcher.deliver(packet(100, keyframe=True))
    watcher.deliver(packet(101, keyframe=False))
    assert [(await watcher.next_packet()).pts for _ in range(2)] == [100, 101]
    watcher.close()
    watcher.close()
