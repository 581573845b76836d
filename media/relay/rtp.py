"""RTP and RTCP as far as a forwarder needs them. Sources: RFC 3550, 4585, 4588, 5104, 6184."""

import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

CLOCK_RATE: Final = 90_000
HEADER: Final = struct.Struct("!BBHII")
HEADER_BYTES: Final = 12
NTP_EPOCH_S: Final = 2_208_988_800

MAX_PADDING_BYTES: Final = 32

_IDR: Final = 5
_SPS: Final = 7
_STAP_A: Final = 24
_FU_A: Final = 28

_SENDER_REPORT, _SDES, _BYE, _TRANSPORT_FEEDBACK, _PAYLOAD_FEEDBACK = 200, 202, 203, 205, 206
_NACK, _PLI, _FIR = 1, 1, 4


class Received(NamedTuple):
    """One RTP packet as it came, without padding and header extensions."""

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


class Packet(NamedTuple):
    """One packet of a stream; `sequence` and `timestamp` count on past 16 and 32 bits. Padding is not in `payload`."""

    sequence: int
    timestamp: int
    marker: bool
    payload: bytes
    padding_bytes: int = 0


def parse(data: bytes) -> Received:
    """Raises ValueError for what is no RTP packet."""
    if len(data) < HEADER_BYTES:
        raise ValueError("too short for RTP")
    first, second, sequence, timestamp, ssrc = HEADER.unpack_from(data)
    if first >> 6 != 2:
        raise ValueError("not RTP version 2")
    start = HEADER_BYTES + 4 * (first & 0x0F)
    if first & 0x10:
        if len(data) < start + 4:
            raise ValueError("truncated header extension")
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4])
    end = len(data)
    if first & 0x20:
        end -= data[-1]
        if data[-1] == 0:
            raise ValueError("padding without a length")
    if end < start:
        raise ValueError("truncated packet")
    return Received(second & 0x7F, bool(second & 0x80), sequence, timestamp, ssrc, data[start:end])


def extend(value: int, *, bits: int, near: int) -> int:
    """The number whose last `bits` are `value` and which is nearest to `near`: counting on where the wire wraps."""
    size = 1 << bits
    difference = (value - near) & (size - 1)
    return near + (difference - size if difference >= size >> 1 else difference)


def begins_keyframe(payload: bytes) -> bool:
    """True for an H.264 packet that begins an IDR picture or carries a sequence parameter set (RFC 6184)."""
    if not payload:
        return False
    kind = payload[0] & 0x1F
    if kind == _STAP_A:
        position = 1
        while position + 2 < len(payload):
            if payload[position + 2] & 0x1F in (_IDR, _SPS):
                return True
            position += 2 + int.from_bytes(payload[position : position + 2])
        return False
    if kind == _FU_A:
        return len(payload) > 1 and bool(payload[1] & 0x80) and payload[1] & 0x1F in (_IDR, _SPS)
    return kind in (_IDR, _SPS)


def even_out(packets: Sequence[Packet]) -> list[Packet]:
    """
    Give packets that are nearly as long as the longest the same length: equal ones leave in one call of the system.

    Whatever is sent under one number must be the same each time (SRTP), so a packet keeps its padding from here on.
    """
    longest = max(len(packet.payload) for packet in packets)
    return [
        packet
        if longest - len(packet.payload) > MAX_PADDING_BYTES
        else packet._replace(padding_bytes=longest - len(packet.payload))
        for packet in packets
    ]


def padding(count: int) -> bytes:
    """The last of them is their number (RFC 3550, 5.1)."""
    return bytes(count - 1) + bytes([count]) if count else b""


def first_byte(padding_bytes: int) -> int:
    """Version 2, and whether there is padding."""
    return 0xA0 if padding_bytes else 0x80


def build(
    *,
    payload_type: int,
    marker: bool,
    sequence: int,
    timestamp: int,
    ssrc: int,
    payload: bytes,
    padding_bytes: int = 0,
) -> bytes:
    """One packet for the wire; numbers are cut to the width of their fields."""
    header = HEADER.pack(
        first_byte(padding_bytes),
        (marker << 7) | payload_type,
        sequence & 0xFFFF,
        timestamp & 0xFFFFFFFF,
        ssrc & 0xFFFFFFFF,
    )
    return header + payload + padding(padding_bytes)


def unwrap_retransmission(payload: bytes) -> tuple[int, bytes]:
    """The original sequence number and payload inside a retransmission (RFC 4588). Raises ValueError."""
    if len(payload) < 2:
        raise ValueError("empty retransmission")
    return int.from_bytes(payload[:2]), payload[2:]


def nack(*, sender_ssrc: int, media_ssrc: int, sequences: Iterable[int]) -> bytes:
    """Ask for packets again (RFC 4585, 6.2.1). `sequences`: ascending, of any width."""
    fields: list[tuple[int, int]] = []
    for sequence in sequences:
        if fields and 0 < sequence - fields[-1][0] <= 16:
            first, mask = fields[-1]
            fields[-1] = (first, mask | 1 << (sequence - first - 1))
        else:
            fields.append((sequence, 0))
    body = b"".join(struct.pack("!HH", first & 0xFFFF, mask) for first, mask in fields)
    return _feedback(_TRANSPORT_FEEDBACK, _NACK, sender_ssrc, media_ssrc, body)


def picture_loss(*, sender_ssrc: int, media_ssrc: int) -> bytes:
    """Ask for a keyframe (RFC 4585, 6.3.1)."""
    return _feedback(_PAYLOAD_FEEDBACK, _PLI, sender_ssrc, media_ssrc, b"")


def _feedback(kind: int, format_: int, sender_ssrc: int, media_ssrc: int, body: bytes) -> bytes:
    return struct.pack("!BBHII", 0x80 | format_, kind, 2 + len(body) // 4, sender_ssrc, media_ssrc) + body


def sender_report(
    *, ssrc: int, at_s: float, timestamp: int, packets: int, octets: int, cname: bytes
) -> bytes:
    """A sender report with the description RFC 3550 wants beside it. `at_s`: seconds since 1970."""
    whole = int(at_s)
    report = struct.pack(
        "!BBHIIIIII",
        0x80,
        _SENDER_REPORT,
        6,
        ssrc,
        (whole + NTP_EPOCH_S) & 0xFFFFFFFF,
        int((at_s - whole) * (1 << 32)) & 0xFFFFFFFF,
        timestamp & 0xFFFFFFFF,
        packets & 0xFFFFFFFF,
        octets & 0xFFFFFFFF,
    )
    item = struct.pack("!IBB", ssrc, 1, len(cname)) + cname
    item += b"\x00" * (4 - len(item) % 4)
    return report + struct.pack("!BBH", 0x81, _SDES, len(item) // 4) + item


class Feedback(NamedTuple):
    """What a viewer said in one RTCP packet: what it lacks, whether it needs a keyframe, how much it lost (of 256)."""

    lost: Sequence[int]
    wants_keyframe: bool
    fraction_lost: int | None


def read_feedback(data: bytes) -> Feedback:
    """
    Read a compound RTCP packet of a viewer; what we do not know, and bandwidth estimates, are passed over.

    Never raises: what is malformed ends the reading. At most 1,024 sequence numbers are taken from one packet.
    """
    lost: list[int] = []
    wants_keyframe = False
    fraction_lost: int | None = None
    position = 0
    while position + 4 <= len(data):
        first, kind, words = struct.unpack_from("!BBH", data, position)
        end = position + 4 + 4 * words
        if first >> 6 != 2 or end > len(data):
            break
        format_ = first & 0x1F
        if kind == _TRANSPORT_FEEDBACK and format_ == _NACK:
            for at in range(position + 12, end - 3, 4):
                base, mask = struct.unpack_from("!HH", data, at)
                lost.append(base)
                lost.extend((base + bit + 1) & 0xFFFF for bit in range(16) if mask >> bit & 1)
                if len(lost) > 1024:
                    break
        elif kind == _PAYLOAD_FEEDBACK and format_ in (_PLI, _FIR):
            wants_keyframe = True
        elif kind in (200, 201) and format_:
            reports = position + (28 if kind == _SENDER_REPORT else 8)
            if reports + 5 <= end:
                fraction_lost = data[reports + 4]
        position = end
    return Feedback(lost[:1024], wants_keyframe, fraction_lost)
