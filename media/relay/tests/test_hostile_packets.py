"""
Malformed, forged, replayed and too many packets, against the parsers and against the relay's own sockets.

Source: ASVS 5.0, 17.2 and 17.3. What is judged is that pictures go on and that what is kept stays bounded, never how fast.
"""

import asyncio
import contextlib
import random
import socket
import struct
import time
from collections.abc import AsyncIterator
from itertools import accumulate
from typing import Any

import pylibsrtp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.relay import rtp
from media.relay.camera import Camera
from media.relay.keyframes import PAUSES_S
from media.relay.loss import MAX_MISSING, Missing
from media.relay.rtp import Packet
from media.relay.stream import HISTORY, MAX_HELD, Frame, Source, Stream
from media.relay.terms import Network
from media.relay.tests.cameras import FakeRing, Watcher, until, watching
from media.relay.viewer import _URGENT, RETRANSMITS_PER_S

PACKETS = st.tuples(
    st.integers(0, 3),  # ssrc
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.booleans(),
    st.one_of(
        st.binary(min_size=1, max_size=40), st.sampled_from([b"\x65key", b"\x7c\x85key", b"\x78\0\1\x67"])
    ),
)


def new_stream() -> tuple[Stream, list[Frame]]:
    frames: list[Frame] = []

    def repaired(packet: Packet) -> None:
        """Nobody watches."""

    return Stream(on_frame=frames.append, on_repair=repaired), frames


@settings(max_examples=200, deadline=None)
@given(st.lists(PACKETS, max_size=120))
def test_whatever_a_camera_sends_is_read_without_failing_and_kept_within_bounds(
    packets: list[tuple[int, int, int, bool, bytes]],
) -> None:
    stream, frames = new_stream()
    source, missing = Source(stream), Missing()
    for moment, (ssrc, sequence, timestamp, marker, payload) in enumerate(packets):
        number = source.receive(
            ssrc=ssrc,
            sequence=sequence,
            timestamp=timestamp,
            marker=marker,
            payload=payload,
            now=moment / 100,
        )
        if number is not None:
            missing.arrived(number, now=moment / 100)
        missing.due(now=moment / 100)
        assert len(missing) <= MAX_MISSING
        assert len(source._held) <= MAX_HELD and len(source._frame) <= MAX_HELD
    for frame in frames:
        numbers = [packet.sequence for packet in frame.packets]
        assert numbers == sorted(set(numbers))
    assert len(stream._history) == HISTORY


def test_a_picture_that_never_ends_is_given_up() -> None:
    stream, frames = new_stream()
    source = Source(stream)
    source.receive(ssrc=1, sequence=0, timestamp=0, marker=True, payload=b"\x65key", now=0.0)
    for number in range(1, 4 * MAX_HELD):
        source.receive(ssrc=1, sequence=number, timestamp=9, marker=False, payload=b"\x41", now=1.0)
        assert len(source._frame) <= MAX_HELD
    last = 4 * MAX_HELD
    source.receive(ssrc=1, sequence=last, timestamp=18, marker=True, payload=b"\x65key", now=2.0)
    assert len(frames) == 2 and frames[-1].is_key, "and goes on at the next keyframe"


@pytest.fixture
def ring() -> FakeRing:
    return FakeRing()


@pytest.fixture(params=[True, False], ids=["fast", "plain"])
async def camera(ring: FakeRing, request: pytest.FixtureRequest) -> AsyncIterator[Camera]:
    network = Network(on_loopback=True, use_fast_path=request.param)
    made = Camera("door", upstreams=ring, network=network, on_end=lambda _: None)
    yield made
    made.end("closed")
    await made.closed()
    assert not ring.sessions and not made.viewer_ids


def seat(viewer: Watcher) -> Any:
    """The viewer's own DTLS transport: what is sent through it carries its keys."""
    return viewer.transceiver.receiver.transport


def far_end(transport: Any) -> tuple[str, int]:
    """The relay's socket at the other end."""
    address: tuple[str, int] = transport.transport._connection._nominated[1].remote_addr
    return address


def noise(seen: list[bytes], count: int) -> list[bytes]:
    """Datagrams of an outsider: empty, too long, torn, of every protocol on the socket, and `seen` ones, also bent."""
    dice = random.Random(17)
    made = [
        b"",
        b"\x80",
        b"\x80\x60",
        b"\x80" + bytes(5000),
        b"\x80\xc8" + bytes(60_000),
        b"\x16" + bytes(9000),
    ]
    for _ in range(count):
        body = dice.randbytes(dice.randrange(0, 200))
        attribute = struct.pack(
            "!HH", dice.choice([0x0006, 0x0008, 0x0020, 0x0024, 0x8029]), dice.randrange(0, 40)
        )
        stun = struct.pack(
            "!HHI12s", dice.choice([1, 0x101, 0x111]), len(body) + 4, 0x2112A442, dice.randbytes(12)
        )
        dtls = struct.pack("!B", dice.randrange(20, 64)) + b"\xfe\xfd" + body
        media = struct.pack("!BB", dice.randrange(128, 192), dice.randrange(256)) + body
        made += [body, stun + attribute + body, dtls, media]
        if seen:
            again = bytearray(dice.choice(seen))
            made.append(bytes(again))
            again[dice.randrange(len(again))] ^= 1 << dice.randrange(8)
            made += [bytes(again), bytes(again[: dice.randrange(len(again))])]
    return made


def overhear(transport: Any) -> list[bytes]:
    """Every SRTP and SRTCP datagram that this end sends from now on."""
    seen: list[bytes] = []
    send = transport.transport._send

    async def noted(data: bytes) -> None:
        if data[0] > 127:
            seen.append(bytes(data))
        await send(data)

    transport.transport._send = noted
    return seen


async def bombard(address: tuple[str, int], datagrams: list[bytes]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outsider:
        for number, datagram in enumerate(datagrams):
            outsider.sendto(datagram, address)
            if number % 20 == 0:
                await asyncio.sleep(0)  # the relay reads in this very loop


async def test_an_outsiders_packets_end_nobodys_picture(
    camera: Camera, ring: FakeRing, caplog: pytest.LogCaptureFixture
) -> None:
    def join(viewer_id: int):
        return lambda offer: camera.join(viewer_id, offer)

    async with watching(join(1)) as first, watching(join(2)) as second:
        await until(lambda: len(first.greys) > 3 and len(second.greys) > 3, what="both pictures")
        from_camera = ring.sessions[1].getSenders()[0].transport
        for transport in (seat(first), from_camera):
            seen = overhear(transport)
            await until(lambda seen=seen: len(seen) > 1, what="something to send again")  # type: ignore[misc]
            await bombard(far_end(transport), noise(seen, 150))
        numbers = len(first.greys), len(second.greys)
        await until(
            lambda: len(first.greys) > numbers[0] + 20 and len(second.greys) > numbers[1] + 20,
            what="the pictures going on",
        )
        assert ring.gone == {} and list(ring.tracks) == [1], "nobody had to begin again"
        assert sorted(camera.viewer_ids) == [1, 2]
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")]


async def test_malformed_and_bogus_packets_of_a_viewer_and_of_a_camera_end_no_picture(
    camera: Camera, ring: FakeRing, caplog: pytest.LogCaptureFixture
) -> None:
    """The same from those who have the keys."""
    dice = random.Random(5)
    async with watching(lambda offer: camera.join(1, offer)) as viewer:
        await until(lambda: len(viewer.greys) > 3)
        for number in range(300):
            body = dice.randbytes(4 * dice.randrange(2, 40))
            words = dice.choice([len(body) // 4, 0, 0xFFFF])
            kind = dice.choice([200, 201, 202, 203, 204, 205, 206, 207])
            control = struct.pack("!BBH", 0x80 | dice.randrange(32), kind, words) + body
            estimate = b"\x8f\xce\x00\x05" + dice.randbytes(8) + b"REMB" + dice.randbytes(8)
            media = struct.pack("!BB", 0x80 | dice.randrange(64), dice.randrange(64, 128)) + body
            if kind != 203:  # a goodbye of the camera's is no malformed packet
                await ring.sessions[1].getSenders()[0].transport._send_rtp(control)
            for datagram in (control, estimate, media):
                # libsrtp itself refuses to encrypt some headers.
                with contextlib.suppress(pylibsrtp.Error):
                    await seat(viewer)._send_rtp(datagram)
            if number % 10 == 0:
                # Another SSRC under the camera's own payload type, as if the camera began anew.
                other = rtp.build(
                    payload_type=viewer_payload_type(camera), marker=bool(number % 20), sequence=dice.randrange(1 << 16),
                    timestamp=dice.randrange(1 << 32), ssrc=dice.randrange(1 << 32), payload=body,
                )  # fmt: skip
                await ring.sessions[1].getSenders()[0].transport._send_rtp(other)
            await asyncio.sleep(0)
        seen = len(viewer.greys)
        await until(lambda: len(viewer.greys) > seen + 20, what="the picture going on")
        assert ring.gone == {} and camera.viewer_ids == [1]
        session = camera._current
        assert session is not None
        assert len(session.missing) <= MAX_MISSING and len(session.source._frame) <= MAX_HELD
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_camera_of_many_sources_is_shown_and_let_go(camera: Camera, ring: FakeRing) -> None:
    """Every few packets another SSRC: the picture goes on, and the connection can still be closed (by the fixture)."""
    async with watching(lambda offer: camera.join(1, offer)) as viewer:
        await until(lambda: len(viewer.greys) > 3)
        for number in range(400):
            other = rtp.build(
                payload_type=viewer_payload_type(camera), marker=True, sequence=number, timestamp=0,
                ssrc=1_000 + number, payload=b"\x41" + bytes(20),
            )  # fmt: skip
            await ring.sessions[1].getSenders()[0].transport._send_rtp(other)
        seen = len(viewer.greys)
        await until(lambda: len(viewer.greys) > seen + 20, what="the picture going on")
        # Long enough for aiortc to report: once a second.
        await until(lambda: len(viewer.greys) > seen + 60, what="three seconds of pictures")


def viewer_payload_type(camera: Camera) -> int:
    assert camera._current is not None
    payload_type = camera._current.peer._payload_type
    assert payload_type is not None
    return payload_type


async def test_one_viewers_flood_of_requests_is_bounded_and_nobody_elses_matter(
    camera: Camera, ring: FakeRing
) -> None:
    async with (
        watching(lambda offer: camera.join(1, offer)) as loud,
        watching(lambda offer: camera.join(2, offer)) as quiet,
    ):
        await until(lambda: len(loud.greys) > 3 and len(quiet.greys) > 3)
        viewing, began = camera._viewers[1].viewer, time.monotonic()
        asked, seen, tasks = ring.tracks[1].keyframes_asked, len(quiet.greys), len(asyncio.all_tasks())
        before = viewing.retransmits
        while len(quiet.greys) <= seen + 60:
            newest = loud.numbers[-1]
            lost = range(max(0, newest - 900), newest)
            for request in (
                rtp.nack(sender_ssrc=1, media_ssrc=viewing.ssrc, sequences=lost),
                rtp.picture_loss(sender_ssrc=1, media_ssrc=viewing.ssrc),
                b"\x84\xce\x00\x04" + bytes(16),
            ):
                await seat(loud)._send_rtp(request)
            assert len(viewing._urgent) <= _URGENT
            assert time.monotonic() < began + 30, "the other's picture goes on"
            await asyncio.sleep(0.005)
        spent_s = time.monotonic() - began
        # At once, and after each of the pauses that have passed.
        assert ring.tracks[1].keyframes_asked - asked <= 1 + sum(at <= spent_s for at in accumulate(PAUSES_S))
        assert 0 < viewing.retransmits - before <= RETRANSMITS_PER_S * (spent_s + 1)
        assert len(asyncio.all_tasks()) <= tasks + 10, "no work piles up"
        numbers = quiet.numbers
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "nothing of the other's is lost"
        assert camera._viewers[2].viewer.drops == 0 and ring.gone == {}

        asked = ring.tracks[1].keyframes_asked
        other = camera._viewers[2].viewer
        await seat(quiet)._send_rtp(rtp.picture_loss(sender_ssrc=1, media_ssrc=other.ssrc))
        await until(lambda: ring.tracks[1].keyframes_asked > asked, timeout_s=5, what="the other's")
