"""What we know of aiortc's insides, held to the pinned version; and the layout of a frame."""

import inspect
import socket
from importlib.metadata import version
from typing import Any

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCRtpSender
from aiortc.codecs import CODECS
from aiortc.rtcdtlstransport import RTCDtlsTransport
from hypothesis import given
from hypothesis import strategies as st
from pylibsrtp import Policy, Session

from media.relay import rtp, wire
from media.relay.negotiate import NothingInCommon, finish_answer, fit_offer
from media.relay.rtp import HEADER_BYTES, Packet
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
    layout = Layout(packets, tag)
    assert len(layout.data) == sum(HEADER_BYTES + size + tag for size in sizes)
    for packet, (position, size, marker, sequence, _) in zip(packets, layout.packets, strict=True):
        assert layout.data[position + HEADER_BYTES : position + size] == packet.payload
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
        self._nominated = {1: self}
        self.protocol = self.transport = self._connection = self._ssl = self
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
    packets = [Packet(n, 4500, n == 6, bytes([n]) * (1200 if n < 5 else 40 + n)) for n in range(7)]
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


def test_an_answer_has_one_fingerprint_and_the_offers_profile() -> None:
    answer = "a=fingerprint:sha-256 A\r\na=fingerprint:sha-384 B\r\na=fmtp:102 profile-level-id=42e01f\r\n"
    assert (
        finish_answer(answer, profile="64001f")
        == "a=fingerprint:sha-256 A\r\na=fmtp:102 profile-level-id=64001f\r\n"
    )
