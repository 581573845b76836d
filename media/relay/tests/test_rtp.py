"""Arithmetic on packets: what goes out parses as what went in, and malformed input is refused or passed over."""

import pytest
from aiortc.rtp import RtcpPacket, RtcpSdesPacket, RtcpSrPacket, RtpPacket
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from media.relay import rtp


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    payload_type=st.integers(0, 127),
    marker=st.booleans(),
    sequence=st.integers(0, 1 << 40),
    timestamp=st.integers(0, 1 << 48),
    ssrc=st.integers(0, (1 << 32) - 1),
    payload=st.binary(max_size=200),
    padding_bytes=st.integers(0, rtp.MAX_PADDING_BYTES),
)
def test_a_built_packet_is_read_the_same_by_us_and_by_aiortc(
    payload_type: int,
    marker: bool,
    sequence: int,
    timestamp: int,
    ssrc: int,
    payload: bytes,
    padding_bytes: int,
) -> None:
    data = rtp.build(
        payload_type=payload_type,
        marker=marker,
        sequence=sequence,
        timestamp=timestamp,
        ssrc=ssrc,
        payload=payload,
        padding_bytes=padding_bytes,
    )
    assert len(data) == rtp.HEADER_BYTES + len(payload) + padding_bytes
    ours, theirs = rtp.parse(data), RtpPacket.parse(data)
    assert ours == (payload_type, marker, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc, payload)
    assert (theirs.sequence_number, theirs.timestamp, theirs.ssrc, theirs.payload) == (
        ours.sequence,
        ours.timestamp,
        ours.ssrc,
        payload,
    )


@given(st.lists(st.integers(1, 1400), min_size=1, max_size=40))
def test_packets_nearly_as_long_as_the_longest_become_as_long_and_lose_nothing(sizes: list[int]) -> None:
    packets = [rtp.Packet(n, 9, False, bytes([n]) * size) for n, size in enumerate(sizes)]
    evened = rtp.even_out(packets)
    assert [packet._replace(padding_bytes=0) for packet in evened] == packets
    for packet in evened:
        lacked = max(sizes) - len(packet.payload)
        assert packet.padding_bytes == (lacked if lacked <= rtp.MAX_PADDING_BYTES else 0)


@given(st.binary(max_size=80))
def test_noise_is_refused_and_never_read_past_its_end(data: bytes) -> None:
    try:
        packet = rtp.parse(data)
    except ValueError:
        return
    assert len(packet.payload) <= len(data) - rtp.HEADER_BYTES


def test_extensions_and_padding_are_taken_off() -> None:
    header = rtp.HEADER.pack(0x80 | 0x20 | 0x10 | 1, 96, 7, 9, 11)
    data = header + b"\0\0\0\1" + b"\xbe\xde\0\1" + b"abcd" + b"picture" + b"\0\0\3"
    assert rtp.parse(data).payload == b"picture"


@given(value=st.integers(0, 1 << 60), distance=st.integers(-(1 << 15) + 1, (1 << 15) - 1))
def test_numbers_count_on_over_the_wrap(value: int, distance: int) -> None:
    wanted = value + distance
    assert rtp.extend(wanted & 0xFFFF, bits=16, near=value) == wanted


@pytest.mark.parametrize(
    ("payload", "is_key"),
    [
        (b"\x65rest", True),
        (b"\x67rest", True),
        (b"\x41rest", False),
        (b"\x7c\x85rest", True),  # the first fragment of an IDR picture
        (b"\x7c\x05rest", False),  # a later one
        (b"\x7c\x81rest", False),
        (b"\x78\x00\x02\x67\x00\x00\x01\x68", True),
        (b"\x78\x00\x01\x68\x00\x01\x65", True),
        (b"\x78\x00\x01\x68", False),
        (b"\x78\xff\xff\x68", False),
        (b"\x7c", False),
        (b"", False),
    ],
)
def test_a_keyframe_is_known_by_its_first_packet(payload: bytes, is_key: bool) -> None:
    assert rtp.begins_keyframe(payload) is is_key


@given(st.sets(st.integers(60_000, 70_000), min_size=1, max_size=60))
def test_what_is_asked_for_is_what_is_read(sequences: set[int]) -> None:
    asked = sorted(sequences)
    read = rtp.read_feedback(rtp.nack(sender_ssrc=1, media_ssrc=2, sequences=asked))
    assert sorted(read.lost) == sorted(sequence & 0xFFFF for sequence in asked)


def test_a_keyframe_request_and_a_full_intra_request_ask_for_a_keyframe() -> None:
    assert rtp.read_feedback(rtp.picture_loss(sender_ssrc=1, media_ssrc=2)).wants_keyframe
    assert rtp.read_feedback(b"\x84\xce\x00\x04" + bytes(16)).wants_keyframe
    # A bandwidth estimate (REMB) is passed over.
    assert not rtp.read_feedback(b"\x8f\xce\x00\x04" + bytes(8) + b"REMB\x01\x00\x00\x00").wants_keyframe


@given(st.binary(max_size=300))
def test_malformed_feedback_never_raises_and_asks_for_a_bounded_number(data: bytes) -> None:
    assert len(rtp.read_feedback(data).lost) <= 1024


def test_a_flood_of_lost_packets_is_cut() -> None:
    flood = b"".join(
        rtp.nack(sender_ssrc=1, media_ssrc=2, sequences=range(n, n + 1700)) for n in range(0, 6800, 1700)
    )
    assert len(rtp.read_feedback(flood).lost) == 1024


def test_a_sender_report_tells_the_true_counts() -> None:
    data = rtp.sender_report(ssrc=5, at_s=1.5, timestamp=1 << 33 | 90, packets=7, octets=900, cname=b"name")
    report, description = RtcpPacket.parse(data)
    assert isinstance(report, RtcpSrPacket) and isinstance(description, RtcpSdesPacket)
    assert (report.sender_info.packet_count, report.sender_info.octet_count) == (7, 900)
    assert report.sender_info.rtp_timestamp == 90
    assert report.sender_info.ntp_timestamp == (rtp.NTP_EPOCH_S + 1) << 32 | 1 << 31
    assert description.chunks[0].items == [(1, b"name")]


def test_a_receiver_report_tells_the_loss() -> None:
    data = b"\x81\xc9\x00\x07" + b"\0\0\0\1" + b"\0\0\0\2" + bytes([51, 0, 0, 9]) + bytes(16)
    assert rtp.read_feedback(data).fraction_lost == 51


@given(st.binary(max_size=40))
def test_a_retransmission_gives_back_what_was_lost(payload: bytes) -> None:
    assert rtp.unwrap_retransmission((40_000).to_bytes(2) + payload) == (40_000, payload)
    with pytest.raises(ValueError, match="empty"):
        rtp.unwrap_retransmission(b"\0")
