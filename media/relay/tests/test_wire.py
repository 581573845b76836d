"""What we know of aiortc's insides, held to the pinned version; and the layout of a frame."""

import asyncio
import inspect
import socket
import sys
from collections.abc import Callable
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import pytest
from aioice.turn import TurnTransport
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCRtpSender
from aiortc.codecs import CODECS
from aiortc.rtcdtlstransport import RTCDtlsTransport
from hypothesis import given
from hypothesis import strategies as st
from pylibsrtp import Policy, Session

from media.relay import rtp, wire
from media.relay.negotiate import FittedOffer, NothingInCommon, finish_answer, fit_offer
from media.relay.rtp import HEADER_BYTES, Packet
from media.relay.tests.cameras import open_files
from media.relay.wire import Layout


def test_aiortc_is_the_version_this_was_written_for() -> None:
    assert version("aiortc").startswith("1.16.")


def test_the_insides_we_use_are_where_we_think() -> None:
    assert list(inspect.signature(RTCDtlsTransport._handle_rtp_data).parameters) == [
        "self",
        "data",
        "arrival_time_ms",
    ]
    assert list(inspect.signature(RTCDtlsTransport._handle_rtcp_data).parameters) == ["self", "data"]
    assert list(inspect.signature(RTCRtpSender._send_rtcp).parameters) == ["self", "packets"]
    # Looked up on the object each time, so that ours are called in their place.
    assert "await self._handle_rtp_data(data, arrival_time_ms=arrival_time_ms)" in inspect.getsource(
        RTCDtlsTransport._recv_next
    )
    assert "await self._handle_rtcp_data(data)" in inspect.getsource(RTCDtlsTransport._recv_next)
    assert inspect.getsource(RTCRtpSender._run_rtcp).count("await self._send_rtcp(") == 2
    assert "if self.__nack_generator is not None" in inspect.getsource(RTCRtpReceiver._handle_rtp_packet)


async def test_the_objects_have_what_we_reach_for() -> None:
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    transceiver: Any = peer.addTransceiver("video", direction="recvonly")
    try:
        assert transceiver.receiver._RTCRtpReceiver__decoder_queue is not None
        assert transceiver.receiver._RTCRtpReceiver__nack_generator is not None
        transport = transceiver.receiver.transport
        assert transport._tx_srtp is None and transport._ssl is None
        assert transport.transport._connection._nominated == {}
        assert {transceiver.sender._ssrc, transceiver.sender._rtx_ssrc}
    finally:
        await peer.close()


def test_the_profiles_of_real_cameras_are_offered() -> None:
    profiles = [c.parameters.get("profile-level-id") for c in RTCRtpSender.getCapabilities("video").codecs]
    assert {"42001f", "42e01f", *wire.FURTHER_PROFILES} <= set(profiles)
    numbers = [codec.payloadType for codec in CODECS["video"]]
    assert len(set(numbers)) == len(numbers)


@given(
    sizes=st.lists(st.one_of(st.just(1200), st.integers(1, 1400)), min_size=1, max_size=150),
    tag=st.sampled_from([10, 16]),
)
def test_a_layout_holds_every_packet_once_in_runs_the_kernel_takes(sizes: list[int], tag: int) -> None:
    packets = [Packet(n, 9, n == len(sizes) - 1, bytes([n % 251]) * size) for n, size in enumerate(sizes)]
    packets = rtp.even_out(packets)
    layout = Layout(packets, tag)
    assert len(layout.data) == sum(
        HEADER_BYTES + len(packet.payload) + packet.padding_bytes + tag for packet in packets
    )
    for packet, (position, size, first, marker, sequence, _) in zip(packets, layout.packets, strict=True):
        wanted = packet.payload + rtp.padding(packet.padding_bytes)
        assert layout.data[position + HEADER_BYTES : position + size] == wanted
        assert first == (0xA0 if packet.padding_bytes else 0x80)
        assert (marker >> 7, sequence) == (packet.marker, packet.sequence)
    starts = {position: size + tag for position, size, *_ in layout.packets}
    reached = 0
    for start, end, segment in layout.runs:
        assert start == reached and end - start <= 65_507
        pieces = [min(segment, end - at) for at in range(start, end, segment)]
        assert len(pieces) <= 64
        for n, piece in enumerate(pieces):
            assert starts[start + n * segment] == piece
        reached = end
    assert reached == len(layout.data)


class _Received(asyncio.DatagramProtocol):
    """Counts what came, and how much of it within the turn of the loop in which the first came."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.count = 0
        self.within_a_turn = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if not self.count:
            asyncio.get_running_loop().call_soon(lambda: self.within_a_turn.set_result(self.count))
        self.count += 1


async def test_what_a_camera_sent_meanwhile_is_read_within_one_turn_of_the_loop() -> None:
    files = open_files()
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_datagram_endpoint(_Received, local_addr=("127.0.0.1", 0))
    wire._read_at_length(SimpleNamespace(_protocols=[protocol]))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as camera:
        for _ in range(60):
            camera.sendto(b"x" * 1200, protocol.transport.get_extra_info("sockname"))
        assert await asyncio.wait_for(protocol.within_a_turn, 5) == 60
        assert protocol.count == 60

    protocol.transport.close()
    await asyncio.sleep(0)
    assert open_files() == files


def new_viewer_peer() -> wire.ViewerPeer:
    return wire.ViewerPeer(
        ice_servers=[],
        on_loopback=True,
        on_feedback=lambda _: None,
        on_state=lambda _: None,
        report=lambda: None,
    )


class _Viewer:
    payload_type, ssrc, sequence_shift, timestamp_shift = 100, 0xABCDEF01, 65_530, (1 << 32) - 5


class _Wrapped:
    """As much of a transport as a fast link looks at, with a real socket and real SRTP sessions."""

    def __init__(self, profile: int, name: bytes, length: int) -> None:
        self.here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.here.bind(("127.0.0.1", 0))
        self.there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.there.bind(("127.0.0.1", 0))
        self.there.settimeout(5)
        key = bytes(range(length))
        self._tx_srtp = Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile))
        self.reading = Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=profile))
        self.remote_addr = self.there.getsockname()
        self._nominated: dict[int, Any] = {1: self}
        self.protocol: Any = self
        self.transport = self._connection = self._ssl = self
        self._name = name

    def get_extra_info(self, _: str) -> socket.socket:
        return self.here

    def get_selected_srtp_profile(self) -> bytes:
        return self._name


@pytest.mark.parametrize("can_segment", [True, False])
@pytest.mark.parametrize(
    ("profile", "name", "length"),
    [
        (Policy.SRTP_PROFILE_AES128_CM_SHA1_80, b"SRTP_AES128_CM_SHA1_80", 30),
        (Policy.SRTP_PROFILE_AEAD_AES_128_GCM, b"SRTP_AEAD_AES_128_GCM", 28),
        (Policy.SRTP_PROFILE_AEAD_AES_256_GCM, b"SRTP_AEAD_AES_256_GCM", 44),
    ],
)
def test_what_the_fast_link_sends_is_what_a_viewer_reads(
    monkeypatch: pytest.MonkeyPatch, profile: int, name: bytes, length: int, can_segment: bool
) -> None:
    if not can_segment:
        monkeypatch.setattr(wire, "_UDP_SEGMENT", 9999)  # a kernel that does not know it
    transport = _Wrapped(profile, name, length)
    link = wire.FastLink(transport)
    # Of different lengths, but nearly: padded.
    packets = [Packet(n, 4500, n == 6, bytes([n]) * (1200 - n if n < 5 else 40 + n)) for n in range(7)]
    packets = rtp.even_out(packets)
    assert any(packet.padding_bytes for packet in packets)
    try:
        assert link.send_frame(Layout(packets, link.tag_bytes), _Viewer())
        assert link._can_segment is can_segment
        for packet in packets:
            read = rtp.parse(transport.reading.unprotect(transport.there.recv(2000)))
            assert read == (
                100,
                packet.marker,
                (packet.sequence + 65_530) & 0xFFFF,
                4495,
                0xABCDEF01,
                packet.payload,
            )
    finally:
        link.close()
        transport.here.close()
        transport.there.close()


@pytest.mark.parametrize(
    "tag", [(Policy.SRTP_PROFILE_AES128_CM_SHA1_80, b"SRTP_AES128_CM_SHA1_80", 30), (Policy.SRTP_PROFILE_AEAD_AES_256_GCM, b"SRTP_AEAD_AES_256_GCM", 44)],
    ids=["sha1", "gcm"],
)  # fmt: skip
def test_a_packet_as_large_as_they_come_is_sent_again_and_one_that_is_too_old_is_lost(
    tag: tuple[int, bytes, int],
) -> None:
    transport = _Wrapped(*tag)
    link = wire.FastLink(transport)
    wire._make_room(transport.reading)

    def packet(sequence: int, size: int) -> bytes:
        return rtp.build(
            payload_type=100, marker=True, sequence=sequence, timestamp=1, ssrc=7, payload=b"x" * size
        )

    try:
        assert link.send_now(packet(9000, 1488))
        read = rtp.parse(transport.reading.unprotect(transport.there.recv(2000)))
        assert (read.sequence, len(read.payload)) == (9000, 1488)
        # libsrtp encrypts nothing again that is more than a thousand packets back; the next one goes out all the same.
        assert link.send_now(packet(7000, 100))
        assert link.send_now(packet(9001, 100))
        assert rtp.parse(transport.reading.unprotect(transport.there.recv(2000))).sequence == 9001
    finally:
        link.close()
        transport.here.close()
        transport.there.close()


def _gcm() -> _Wrapped:
    return _Wrapped(Policy.SRTP_PROFILE_AEAD_AES_128_GCM, b"SRTP_AEAD_AES_128_GCM", 28)


def test_the_fast_link_follows_the_pair_that_ice_goes_by() -> None:
    files = open_files()
    before, after = _gcm(), _gcm()
    link = wire.FastLink(before)
    try:
        for number, pair in enumerate([before, after, after]):
            before._nominated[1] = pair
            assert link.send_frame(Layout([Packet(number, 0, True, b"x")], link.tag_bytes), _Viewer())
            data, sender = pair.there.recvfrom(2000)
            assert sender == pair.here.getsockname()
            assert rtp.parse(before.reading.unprotect(data)).sequence == (number + 65_530) & 0xFFFF
            assert link.send_now(rtp.build(
                payload_type=100, marker=False, sequence=number, timestamp=0, ssrc=5, payload=b"again",
            ))  # fmt: skip
            assert rtp.parse(before.reading.unprotect(pair.there.recv(2000))).payload == b"again"
    finally:
        link.close()
        for each in (before, after):
            each.here.close()
            each.there.close()
    assert open_files() == files


def test_a_pair_that_the_fast_link_cannot_follow_is_no_error() -> None:
    transport = _gcm()
    link = wire.FastLink(transport)
    try:
        for number, pair in enumerate([{1: SimpleNamespace()}, {}]):
            transport._nominated.clear()
            transport._nominated.update(pair)
            assert link.send_frame(Layout([Packet(number, 0, True, b"x")], link.tag_bytes), _Viewer())
    finally:
        link.close()
        transport.here.close()
        transport.there.close()


def on_darwin(transport: _Wrapped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")


def through_turn(transport: _Wrapped, monkeypatch: pytest.MonkeyPatch) -> None:
    transport.protocol = SimpleNamespace(transport=TurnTransport(SimpleNamespace()))


def over_tcp(transport: _Wrapped, monkeypatch: pytest.MonkeyPatch) -> None:
    transport.here.close()
    transport.here = socket.socket(socket.AF_INET, socket.SOCK_STREAM)


def without_pylibsrtps_binding(transport: _Wrapped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pylibsrtp._binding", None)


def without_the_pair(transport: _Wrapped, monkeypatch: pytest.MonkeyPatch) -> None:
    transport._nominated.clear()


def without(name: str) -> Callable[[_Wrapped, pytest.MonkeyPatch], None]:
    def lack(transport: _Wrapped, monkeypatch: pytest.MonkeyPatch) -> None:
        delattr(transport, name)

    lack.__name__ = f"without_{name}"
    return lack


@pytest.mark.parametrize(
    "what_lacks",
    [
        on_darwin,
        through_turn,
        over_tcp,
        without_pylibsrtps_binding,
        without_the_pair,
        *map(without, ["_tx_srtp", "_ssl", "_connection", "_nominated", "protocol", "remote_addr"]),
    ],
)
async def test_what_the_fast_way_lacks_makes_a_link_plain(
    monkeypatch: pytest.MonkeyPatch, what_lacks: Callable[[_Wrapped, pytest.MonkeyPatch], None]
) -> None:
    peer = new_viewer_peer()
    transport = _gcm()
    seat = SimpleNamespace(sender=SimpleNamespace(transport=transport))
    monkeypatch.setattr(peer, "_transceiver", seat)
    try:
        files = open_files()
        whole = peer.link()
        assert whole.is_fast
        whole.close()
        what_lacks(transport, monkeypatch)
        assert not peer.link().is_fast
        assert not peer.link(fast=False).is_fast
        assert open_files() == files
    finally:
        monkeypatch.undo()
        transport.here.close()
        transport.there.close()
        await peer.close()


BROWSER = "\r\n".join(
    [
        "v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0",
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103 104 105 106", "c=IN IP4 0.0.0.0", "a=mid:0", "a=recvonly",
        "a=candidate:1 1 udp 2113937151 3c5b6f3e.local 50000 typ host",
        "a=candidate:2 1 udp 2113937150 192.0.2.7 50001 typ host", "a=end-of-candidates",
        "a=rtpmap:96 VP8/90000", "a=rtpmap:97 rtx/90000", "a=fmtp:97 apt=96",
        "a=rtpmap:102 H264/90000", "a=fmtp:102 packetization-mode=1;profile-level-id=42001f",
        "a=rtpmap:103 rtx/90000", "a=fmtp:103 apt=102",
        "a=rtpmap:104 H264/90000", "a=fmtp:104 packetization-mode=0;profile-level-id=64001f",
        "a=rtpmap:105 H264/90000", "a=fmtp:105 packetization-mode=1;profile-level-id=64001f",
        "a=rtpmap:106 rtx/90000", "a=fmtp:106 apt=105", "",
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("profile", "kept", "named"),
    [("42001f", "102 103", "42001f"), ("64001f", "105 106", "64001f"), ("4d001f", "105 106", "64001f")],
)
def test_of_an_offer_only_the_format_that_fits_is_left(profile: str, kept: str, named: str) -> None:
    fitted = fit_offer(BROWSER, profile=profile)
    assert fitted.profile == named
    assert f"m=video 9 UDP/TLS/RTP/SAVPF {kept}\r\n" in fitted.sdp
    assert "profile-level-id=42e01f" in fitted.sdp and fitted.sdp.count("a=rtpmap:") == 2
    assert ".local" not in fitted.sdp and "end-of-candidates" not in fitted.sdp and "192.0.2.7" in fitted.sdp


def test_an_offer_without_whole_h264_has_nothing_in_common() -> None:
    with pytest.raises(NothingInCommon):
        fit_offer(BROWSER.replace("packetization-mode=1", "packetization-mode=0"), profile="42001f")


@given(st.text(max_size=300))
def test_noise_is_no_offer(text: str) -> None:
    with pytest.raises(NothingInCommon):
        fit_offer(text, profile="42001f")


# As Chromium offers its later formats: below the numbers aiortc takes over.
LOW_NUMBERS = (
    BROWSER.replace(" 105 106", " 39 40")
    .replace(":105 ", ":39 ")
    .replace(":106 ", ":40 ")
    .replace("apt=105", "apt=39")
)


def test_payload_types_below_the_dynamic_ones_are_renamed_and_named_back() -> None:
    fitted = fit_offer(LOW_NUMBERS, profile="64001f")
    (number, rtx) = sorted(fitted.payload_types, key=fitted.payload_types.__getitem__)
    assert [fitted.payload_types[number], fitted.payload_types[rtx]] == [39, 40]
    assert min(number, rtx) >= 96 and number != rtx
    assert f"a=rtpmap:{number} H264/90000" in fitted.sdp and f"a=fmtp:{rtx} apt={number}" in fitted.sdp

    answer = f"m=audio 0 UDP/TLS/RTP/SAVPF {number}\r\nm=video 9 UDP/TLS/RTP/SAVPF {number} {rtx}\r\n"
    answer += f"a=rtpmap:{number} H264/90000\r\na=rtcp-fb:{number} nack\r\na=fmtp:{rtx} apt={number}\r\n"
    assert finish_answer(answer, offer=fitted) == (
        f"m=audio 0 UDP/TLS/RTP/SAVPF {number}\r\nm=video 9 UDP/TLS/RTP/SAVPF 39 40\r\n"
        "a=rtpmap:39 H264/90000\r\na=rtcp-fb:39 nack\r\na=fmtp:40 apt=39\r\n"
    )


def test_an_offer_that_uses_all_the_dynamic_numbers_for_other_formats_is_fitted() -> None:
    more = [str(number) for number in range(96, 128) if f":{number} " not in LOW_NUMBERS]
    video = LOW_NUMBERS.replace(" 39 40", f" {' '.join(more)} 39 40")
    crowded = video + "".join(f"a=rtpmap:{number} VP9/90000\r\n" for number in more)
    fitted = fit_offer(crowded, profile="64001f")
    assert set(fitted.payload_types.values()) == {39, 40}


def test_numbers_of_other_media_are_left_to_them() -> None:
    audio = "m=audio 9 UDP/TLS/RTP/SAVPF 96 98\r\nc=IN IP4 0.0.0.0\r\na=rtpmap:96 opus/48000/2\r\n"
    fitted = fit_offer(LOW_NUMBERS + audio, profile="64001f")
    assert not fitted.payload_types.keys() & {96, 98}


async def test_what_waits_at_a_peer_whose_keys_are_not_agreed_is_bounded() -> None:
    viewer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    viewer.addTransceiver("video", direction="recvonly")
    await viewer.setLocalDescription(await viewer.createOffer())
    peer = new_viewer_peer()
    await peer.answer(viewer.localDescription.sdp, profile="42e01f")
    connection = peer._transceiver.sender.transport.transport._connection

    for _ in range(20_000):
        connection.data_received(bytes(1400), 1)

    assert connection._queue.qsize() <= wire._MAX_WAITING
    await peer.close()
    await viewer.close()


async def test_a_viewer_is_answered_and_sent_to_under_its_own_numbers() -> None:
    viewer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    viewer.addTransceiver("video", direction="recvonly")
    await viewer.setLocalDescription(await viewer.createOffer())
    offered = viewer.localDescription.sdp
    transport = [
        line
        for line in offered.splitlines()
        if line.startswith(("a=ice-", "a=fingerprint:", "a=setup:", "a=rtcp-mux"))
    ]
    offer = LOW_NUMBERS + "\r\n".join(transport) + "\r\n"
    peer = new_viewer_peer()
    try:
        answer = await peer.answer(offer, profile="64001f")
        assert (peer.payload_type, peer.rtx_payload_type) == (39, 40)
        assert "UDP/TLS/RTP/SAVPF 39 40\r\n" in answer and "a=rtpmap:39 H264/90000" in answer
        assert "profile-level-id=64001f" in answer
    finally:
        await peer.close()
        await viewer.close()


def test_an_answer_has_one_fingerprint_and_the_offers_profile() -> None:
    answer = "a=fingerprint:sha-256 A\r\na=fingerprint:sha-384 B\r\na=fmtp:102 profile-level-id=42e01f\r\n"
    offer = FittedOffer(sdp="", profile="64001f", payload_types={102: 102})
    assert (
        finish_answer(answer, offer=offer)
        == "a=fingerprint:sha-256 A\r\na=fmtp:102 profile-level-id=64001f\r\n"
    )
