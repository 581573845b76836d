"""
Everything the relay knows of aiortc's and aioice's insides. Written for aiortc 1.16; `tests/test_wire.py` holds it to that.

A viewer's `Link` has two ways to send. The plain one goes through the viewer's own DTLS transport and works with every
kind of candidate. The fast one is for UDP on Linux: one layout per frame for all viewers, headers written and SRTP
protected in place, runs of equal size sent in one call (`UDP_SEGMENT`) on the viewer's own socket. Which one a link
has is decided once, when its connection is up; whatever the fast one lacks makes it plain, never an error. Both follow
the pair of addresses that ICE goes by, which changes with the viewer's network.
"""

import asyncio
import contextlib
import errno
import logging
import queue
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, Protocol

import pylibsrtp
from aioice import stun
from aiortc import (
    InvalidStateError,
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.codecs import CODECS
from aiortc.exceptions import OperationError
from aiortc.rtcrtpparameters import RTCRtcpFeedback, RTCRtpCodecParameters
from aiortc.rtp import is_rtcp

from media.relay import rtp
from media.relay.negotiate import NothingInCommon, finish_answer, finish_offer, fit_offer
from media.relay.rtp import HEADER, HEADER_BYTES, Packet

logger = logging.getLogger(__name__)

LOOPBACK: Final = "127.0.0.1"
# Seen of cameras in browsers (contract 10.1); aiortc knows the baseline profiles only.
FURTHER_PROFILES: Final = ("64001f", "640c1f", "4d001f")
_UDP_SEGMENT: Final = 103  # linux/udp.h
_MAX_SEGMENTS: Final = 48
_MAX_DATAGRAM: Final = 65_000
_MAX_AT_A_TURN: Final = 256
_MAX_WAITING: Final = 1024
_RECEIVE_BUFFER_BYTES: Final = 1 << 20
# No larger datagram comes over the internet in one piece; pylibsrtp takes a little more.
_MAX_RECEIVED: Final = 1500
# What a receiver report has room for (RFC 3550, 6.4.2), in a packet that libsrtp takes.
_MAX_SOURCES: Final = 16
# A packet of that size with all that a retransmission and SRTP add to it.
_SRTP_ROOM_BYTES: Final = 2048
_GCM_TAG, _SHA1_80_TAG = 16, 10
_SEGMENT_SIZE: Final = struct.Struct("H")
# Waiting for room in a socket: what the caller does about it is drop.
_NO_ROOM: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.EWOULDBLOCK})
# The kernel, the interface or the path does not take segments: sent one by one instead.
_NO_OFFLOAD: Final = frozenset({errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.ENOPROTOOPT, errno.EOPNOTSUPP})
# What tells that a connection, or these versions of aiortc, aioice and pylibsrtp, do not have what the fast way takes.
_NOT_FAST: Final = (AttributeError, ImportError, LookupError, OSError, TypeError)


class NotNegotiable(Exception):
    """A description could not be applied. The message names the kind of error only, never its text."""


class Sending(Protocol):
    """What a link needs to know of whom it sends for, to write a header."""

    payload_type: int
    ssrc: int
    sequence_shift: int
    timestamp_shift: int


class _Idle(MediaStreamTrack):
    """A track that never has a frame: its sender stays registered and asleep."""

    kind = "video"

    async def recv(self) -> NoReturn:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nothing ends this wait")


class _Nothing(queue.Queue[Any]):
    """Stands for the queue to a receiver's decoder: only the order to stop gets through."""

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        if item is None:
            super().put(item, block, timeout)


def _extend_codecs() -> None:
    """Let aiortc offer the profiles cameras really have, beside its own two."""
    known = {codec.parameters.get("profile-level-id") for codec in CODECS["video"]}
    payload_type = max(codec.payloadType or 0 for codec in CODECS["video"]) + 1
    for profile in FURTHER_PROFILES:
        if profile in known:
            continue
        feedback = [
            RTCRtcpFeedback(type="nack"),
            RTCRtcpFeedback(type="nack", parameter="pli"),
            RTCRtcpFeedback(type="goog-remb"),
        ]
        parameters: dict[str, int | str | None] = {
            "level-asymmetry-allowed": "1", "packetization-mode": "1", "profile-level-id": profile,
        }  # fmt: skip
        CODECS["video"] += [
            RTCRtpCodecParameters(
                mimeType="video/H264", clockRate=90000, payloadType=payload_type,
                rtcpFeedback=feedback, parameters=parameters,
            ),
            RTCRtpCodecParameters(
                mimeType="video/rtx", clockRate=90000, payloadType=payload_type + 1, parameters={"apt": payload_type},
            ),
        ]  # fmt: skip
        payload_type += 2


_extend_codecs()


def _refuse_torn_stun() -> None:
    """Make a STUN message with torn attributes what other noise is, a ValueError: else each one is a traceback in the log."""
    parse = stun.parse_message

    def parse_message(data: bytes) -> stun.Message:
        try:
            return parse(data)
        except struct.error as error:
            raise ValueError("torn STUN attribute") from error

    stun.parse_message = parse_message


_refuse_torn_stun()


def _pass_over_noise(transport: Any) -> None:
    """
    Keep from a DTLS transport the datagrams that would end it: anybody may send one to its socket, no key needed.

    aiortc reads the first byte of an empty one, and takes libsrtp's word "too long" for a failure of its own.
    """
    receive = transport.transport._recv

    async def receive_sound() -> bytes:
        while True:
            data: bytes = await receive()
            if 0 < len(data) <= _MAX_RECEIVED:
                return data

    transport.transport._recv = receive_sound


def _bound_waiting(connection: Any) -> None:
    """
    Bound what waits at an ICE connection that nobody reads yet.

    Before its keys are agreed, whoever was given the answer may send to its port what they like; a handshake is a few packets.
    """
    take, waiting = connection.data_received, connection._queue

    def data_received(data: bytes, component: int) -> None:
        if waiting.qsize() < _MAX_WAITING:
            take(data, component)

    connection.data_received = data_received


def _read_at_length(connection: Any) -> None:
    """
    Read from the sockets of an ICE connection all that is there whenever there is something.

    asyncio reads one datagram a turn of its loop. While hundreds of viewers join, a turn takes so long that the camera's
    packets, some 240 a second, would wait until the kernel drops them. TURN has a protocol of its own, and is left as it is.
    """
    for protocol in connection._protocols:
        wrapped = protocol.transport.get_extra_info("socket")
        if wrapped is None or wrapped.type != socket.SOCK_DGRAM:
            continue
        # The kernel may grant less.
        wrapped.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        _drain_with(protocol, wrapped.dup())


def _drain_with(protocol: Any, sock: socket.socket) -> None:
    receive, lost = protocol.datagram_received, protocol.connection_lost

    def datagram_received(data: bytes, address: Any) -> None:
        receive(data, address)
        for _ in range(_MAX_AT_A_TURN):
            try:
                data, address = sock.recvfrom(_MAX_DATAGRAM)
            except OSError:
                return  # nothing there any more; what else is wrong, the transport sees for itself
            receive(data, address)

    def connection_lost(error: Exception | None) -> None:
        sock.close()
        lost(error)

    protocol.datagram_received = datagram_received
    protocol.connection_lost = connection_lost


def _h264_only(capabilities: Sequence[Any]) -> list[Any]:
    return [codec for codec in capabilities if codec.name.lower() in ("h264", "rtx")]


def _new_peer(ice_servers: Sequence[str]) -> RTCPeerConnection:
    # Without a list of its own aiortc asks a public server.
    return RTCPeerConnection(RTCConfiguration(iceServers=[RTCIceServer(urls=url) for url in ice_servers]))


def _gather_on_loopback_too(peer: RTCPeerConnection) -> None:
    """aioice leaves 127.0.0.1 out; where nothing else is, or on a desk, it must be offered."""
    for transceiver in peer.getTransceivers():
        connection: Any = transceiver.receiver.transport.transport.iceGatherer._connection
        gather = connection.get_component_candidates

        async def with_loopback(
            component: int, addresses: list[str], gather: Any = gather, **options: Any
        ) -> Any:
            return await gather(component, [LOOPBACK, *(a for a in addresses if a != LOOPBACK)], **options)

        connection.get_component_candidates = with_loopback


# What aiortc raises for descriptions it cannot use.
_UNUSABLE: Final = (
    ValueError, LookupError, AttributeError, AssertionError, TypeError, InvalidStateError, OperationError,
    RuntimeError,  # aiortc finds no format for an RTX, and StopIteration leaves a coroutine as this
)  # fmt: skip


class UpstreamPeer:
    """The end of a session with a camera: gives raw packets, sends feedback."""

    def __init__(
        self,
        *,
        ice_servers: Sequence[str],
        on_loopback: bool,
        on_packet: Callable[[rtp.Received], None],
        on_state: Callable[[str], None],
    ) -> None:
        self.profile = ""
        self._on_packet = on_packet
        self._on_state = on_state
        self._on_loopback = on_loopback
        self._payload_type: int | None = None
        self._rtx: dict[int, int] = {}
        self._media_ssrc: int | None = None
        self._peer = _new_peer(ice_servers)
        self._sending: set[asyncio.Task[None]] = set()
        self._transceiver: Any = self._peer.addTransceiver("video", direction="recvonly")

    async def offer(self) -> str:
        """A complete offer: H.264, recvonly, all candidates gathered."""
        self._transceiver.setCodecPreferences(_h264_only(RTCRtpSender.getCapabilities("video").codecs))
        description = await self._peer.createOffer()
        if self._on_loopback:
            _gather_on_loopback_too(self._peer)
        await self._peer.setLocalDescription(description)
        connection = self._transceiver.receiver.transport.transport._connection
        _read_at_length(connection)
        _bound_waiting(connection)
        return finish_offer(self._peer.localDescription.sdp)

    async def accept(self, answer: str) -> None:
        """Begin. Raises NotNegotiable."""
        receiver: Any = self._transceiver.receiver
        # The receiver runs a decoder thread in any case: it gets nothing to do. And it asks for lost packets by itself,
        # once each; we ask again until they come.
        receiver._RTCRtpReceiver__decoder_queue = _Nothing()
        receiver._RTCRtpReceiver__nack_generator = None
        try:
            await self._peer.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        except _UNUSABLE as error:
            raise NotNegotiable(type(error).__name__) from error
        for codec in self._transceiver._codecs:
            if codec.name.lower() == "h264" and self._payload_type is None:
                self._payload_type = codec.payloadType
                self.profile = str(codec.parameters.get("profile-level-id", ""))
            elif codec.name.lower() == "rtx":
                self._rtx[codec.payloadType] = int(codec.parameters["apt"])
        if self._payload_type is None:
            raise NotNegotiable("no H.264 in the answer")
        transport: Any = receiver.transport
        _pass_over_noise(transport)
        to_receiver = transport._handle_rtp_data
        sources: set[bytes] = set()

        async def tap(data: bytes, arrival_time_ms: int) -> None:
            self._received(data)
            # Its statistics, receiver reports and bandwidth estimate go upstream as ever; of so many sources as one report takes.
            # With one more aiortc's reporting fails, and its `close` waits for that for ever.
            source = data[8:12]
            if source in sources or len(sources) < _MAX_SOURCES:
                sources.add(source)
                await to_receiver(data, arrival_time_ms=arrival_time_ms)

        transport._handle_rtp_data = tap
        self._peer.on("connectionstatechange", lambda: self._on_state(self._peer.connectionState))

    def _received(self, data: bytes) -> None:
        try:
            packet = rtp.parse(data)
            if packet.payload_type in self._rtx:
                if self._media_ssrc is None or self._rtx[packet.payload_type] != self._payload_type:
                    return
                sequence, payload = rtp.unwrap_retransmission(packet.payload)
                packet = packet._replace(
                    payload_type=self._payload_type, ssrc=self._media_ssrc, sequence=sequence, payload=payload
                )
        except ValueError:
            return
        if packet.payload_type != self._payload_type:
            return
        self._media_ssrc = packet.ssrc
        self._on_packet(packet)

    def ask_keyframe(self) -> None:
        """Send a picture loss indication, if anything came yet."""
        if self._media_ssrc is not None:
            self._send(rtp.picture_loss(sender_ssrc=self._own_ssrc, media_ssrc=self._media_ssrc))

    def ask_again(self, sequences: Sequence[int]) -> None:
        """Ask for lost packets."""
        if self._media_ssrc is not None:
            self._send(rtp.nack(sender_ssrc=self._own_ssrc, media_ssrc=self._media_ssrc, sequences=sequences))

    @property
    def _own_ssrc(self) -> int:
        return int(self._transceiver.sender._ssrc)

    def _send(self, packet: bytes) -> None:
        async def send() -> None:
            with contextlib.suppress(ConnectionError):
                await self._transceiver.receiver.transport._send_rtp(packet)

        task = asyncio.get_running_loop().create_task(send())
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def close(self) -> None:
        """May be called twice."""
        await self._peer.close()


class ViewerPeer:
    """The end of a session with one viewer: takes packets, gives feedback."""

    def __init__(
        self,
        *,
        ice_servers: Sequence[str],
        on_loopback: bool,
        on_feedback: Callable[[rtp.Feedback], None],
        on_state: Callable[[str], None],
        report: Callable[[], bytes | None],
    ) -> None:
        self.payload_type = 0
        self.rtx_payload_type: int | None = None
        self._on_feedback = on_feedback
        self._on_state = on_state
        self._on_loopback = on_loopback
        self._report = report
        self._peer = _new_peer(ice_servers)
        self._transceiver: Any = self._peer.addTransceiver(_Idle(), direction="sendonly")

    @property
    def ssrc(self) -> int:
        return int(self._transceiver.sender._ssrc)

    @property
    def rtx_ssrc(self) -> int:
        return int(self._transceiver.sender._rtx_ssrc)

    async def answer(self, offer: str, *, profile: str) -> str:
        """Answer a complete offer with the camera's `profile`. Raises NothingInCommon or NotNegotiable."""
        fitted = fit_offer(offer, profile=profile)
        # Before setRemoteDescription, else the offer's first codec wins, and that is VP8.
        self._transceiver.setCodecPreferences(_h264_only(RTCRtpSender.getCapabilities("video").codecs))
        try:
            await self._peer.setRemoteDescription(RTCSessionDescription(sdp=fitted.sdp, type="offer"))
            if self._on_loopback:
                _gather_on_loopback_too(self._peer)
            _bound_waiting(self._transceiver.sender.transport.transport._connection)
            codecs = self._transceiver._codecs
            numbers = fitted.payload_types
            self.payload_type = numbers[codecs[0].payloadType]
            self.rtx_payload_type = next(
                (numbers[codec.payloadType] for codec in codecs if codec.name.lower() == "rtx"), None
            )
            self._tap()
            self._peer.on("connectionstatechange", lambda: self._on_state(self._peer.connectionState))
            await self._peer.setLocalDescription()
        except OperationError as error:
            raise NothingInCommon("Nothing in this offer fits to what cameras send.") from error
        except _UNUSABLE as error:
            raise NotNegotiable(type(error).__name__) from error
        return finish_answer(self._peer.localDescription.sdp, offer=fitted)

    def _tap(self) -> None:
        """Read the viewer's RTCP ourselves, and put our own counts into the reports aiortc's timer sends."""
        sender: Any = self._transceiver.sender
        transport: Any = sender.transport

        async def feedback(data: bytes) -> None:
            self._on_feedback(rtp.read_feedback(data))

        async def send_report(packets: Sequence[Any]) -> None:
            is_goodbye = len(packets) == 1
            data = b"".join(bytes(packet) for packet in packets) if is_goodbye else self._report()
            if data is not None:
                with contextlib.suppress(ConnectionError):
                    await transport._send_rtp(data)

        async def nothing(data: bytes, arrival_time_ms: int) -> None:
            """A viewer has nothing to send to us."""

        _pass_over_noise(transport)
        transport._handle_rtcp_data = feedback
        transport._handle_rtp_data = nothing
        sender._send_rtcp = send_report

    @property
    def is_connected(self) -> bool:
        return bool(self._peer.connectionState == "connected")

    def link(self, *, fast: bool = True) -> "Link":
        """How to send, once the connection is up."""
        transport: Any = self._transceiver.sender.transport
        if fast and sys.platform == "linux":
            try:
                return FastLink(transport)
            except _NOT_FAST as error:
                logger.info("A viewer is served the plain way. kind=%s", type(error).__name__)
        return Link(transport)

    async def close(self) -> None:
        """May be called twice."""
        await self._peer.close()


class Layout:
    """One frame's packets laid out once for all viewers: room for a header before each payload, for the tag behind it."""

    def __init__(self, packets: Sequence[Packet], tag_bytes: int) -> None:
        # Where it is, its size, its first byte, its marker, sequence number and timestamp.
        self.packets: list[tuple[int, int, int, int, int, int]] = []
        self.runs: list[tuple[int, int, int]] = []  # from, to, size of each segment
        self.data = bytearray(
            sum(HEADER_BYTES + len(packet.payload) + packet.padding_bytes + tag_bytes for packet in packets)
        )
        position = run_start = run_size = run_length = 0
        for packet in packets:
            size = HEADER_BYTES + len(packet.payload) + packet.padding_bytes
            end = position + size + tag_bytes
            first = rtp.first_byte(packet.padding_bytes)
            marker = packet.marker << 7
            self.packets.append((position, size, first, marker, packet.sequence, packet.timestamp))
            body = packet.payload + rtp.padding(packet.padding_bytes)
            self.data[position + HEADER_BYTES : position + size] = body
            whole = size + tag_bytes
            # Segments of one call are of one size, but for the last, which may be smaller.
            fits = whole <= run_size and run_length < _MAX_SEGMENTS and end - run_start <= _MAX_DATAGRAM
            if run_length and fits:
                run_length += 1
                if whole < run_size:
                    self.runs.append((run_start, end, run_size))
                    run_start, run_length = end, 0
            else:
                if run_length:
                    self.runs.append((run_start, position, run_size))
                run_start, run_size, run_length = position, whole, 1
            position = end
        if run_length:
            self.runs.append((run_start, position, run_size))


class Link:
    """The plain way: through the viewer's own transport, with every kind of candidate."""

    is_fast = False

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        _make_room(getattr(transport, "_tx_srtp", None))

    async def send(self, packet: bytes) -> bool:
        """Protect and send one packet. False when the connection is gone. One that is too old to be protected again is lost."""
        try:
            await self._transport._send_rtp(packet)
        except ConnectionError:
            return False
        except pylibsrtp.Error:
            return True
        return True

    def backlog_bytes(self) -> int:
        """What waits in this process because the network does not take it."""
        try:
            pair = self._transport.transport._connection._nominated[1]
            sending = pair.protocol.transport
            inner = getattr(sending, "_TurnTransport__inner_protocol", None)
            if inner is not None:
                sending = inner.transport
            return int(sending.get_write_buffer_size())
        except (AttributeError, LookupError):
            return 0

    def close(self) -> None:
        """May be called twice."""


class FastLink(Link):
    """The fast way; raises from the constructor what tells that it is not to be had."""

    is_fast = True

    def __init__(self, transport: Any) -> None:
        super().__init__(transport)
        from pylibsrtp._binding import ffi, lib

        self._nominated = transport.transport._connection._nominated
        # Kept so that the session is not freed while we hold its handle.
        self._session = transport._tx_srtp
        self._srtp = self._session._srtp[0]
        profile = transport._ssl.get_selected_srtp_profile()
        self.tag_bytes = _SHA1_80_TAG if profile == b"SRTP_AES128_CM_SHA1_80" else _GCM_TAG
        self._ffi = ffi
        self._protect = lib.srtp_protect
        self._length = ffi.new("int *")
        self._can_segment = True
        self._pair = self._nominated[1]
        self._socket, self._address = _way_of(self._pair)

    def _follow(self) -> None:
        """ICE goes by another pair: the viewer's network changed, or its NAT gave it another port."""
        pair = self._nominated.get(1)
        if pair is None:
            return  # the connection is closed
        self._pair = pair
        try:
            sock, address = _way_of(pair)
        except _NOT_FAST as error:
            logger.info("A viewer's new way cannot be followed. kind=%s", type(error).__name__)
            return
        self._socket.close()
        self._socket, self._address = sock, address

    def send_frame(self, layout: Layout, to: Sending) -> bool:
        """Write the headers, protect and send a frame. False when there was no room: the rest of it is lost."""
        if self._nominated.get(1) is not self._pair:
            self._follow()
        scratch, view = _scratch(self._ffi, len(layout.data))
        view[: len(layout.data)] = layout.data
        write, protect, srtp, length = HEADER.pack_into, self._protect, self._srtp, self._length
        payload_type, ssrc = to.payload_type, to.ssrc
        sequence_shift, timestamp_shift = to.sequence_shift, to.timestamp_shift
        for position, size, first, marker, sequence, timestamp in layout.packets:
            write(
                view, position, first, marker | payload_type, (sequence + sequence_shift) & 0xFFFF,
                (timestamp + timestamp_shift) & 0xFFFFFFFF, ssrc,
            )  # fmt: skip
            length[0] = size
            if protect(srtp, scratch + position, length):
                return False
        return all(self._send_run(view, start, end, segment) for start, end, segment in layout.runs)

    def _send_run(self, view: memoryview, start: int, end: int, segment: int) -> bool:
        if self._can_segment and end - start > segment:
            ancillary = [(socket.IPPROTO_UDP, _UDP_SEGMENT, _SEGMENT_SIZE.pack(segment))]
            try:
                self._socket.sendmsg([view[start:end]], ancillary, 0, self._address)
            except OSError as error:
                if error.errno not in _NO_OFFLOAD:
                    return error.errno not in _NO_ROOM
                self._can_segment = False
            else:
                return True
        for position in range(start, end, segment):
            if not self._send_datagram(view[position : min(position + segment, end)]):
                return False
        return True

    def _send_datagram(self, data: "bytes | memoryview") -> bool:
        try:
            self._socket.sendto(data, self._address)
        except OSError as error:
            # Refused or unreachable for a moment: as good as lost. Whether the viewer is gone, ICE says.
            return error.errno not in _NO_ROOM
        return True

    def send_now(self, packet: bytes) -> bool:
        """Protect and send one packet. False when there was no room. One that is too old to be protected again is lost."""
        protect = self._session.protect_rtcp if is_rtcp(packet) else self._session.protect
        try:
            protected = protect(packet)
        except pylibsrtp.Error:
            return True
        return self._send_datagram(protected)

    async def send(self, packet: bytes) -> bool:
        self.send_now(packet)
        return True

    def close(self) -> None:
        self._socket.close()


def _make_room(session: Any) -> None:
    """Have a session protect packets as large as a camera's can be: pylibsrtp's own buffer ends at 1,356 bytes."""
    with contextlib.suppress(AttributeError, ImportError):
        from pylibsrtp._binding import ffi

        session._cdata = ffi.new("char[]", _SRTP_ROOM_BYTES)
        session._buffer = ffi.buffer(session._cdata)


def _way_of(pair: Any) -> tuple[socket.socket, tuple[str, int]]:
    """A socket of ours to send on, to be closed, and the viewer's address. Raises what tells that there is no plain UDP."""
    wrapped = pair.protocol.transport.get_extra_info("socket")
    if wrapped is None or wrapped.type != socket.SOCK_DGRAM:
        raise TypeError("not a plain UDP socket")
    address = pair.remote_addr
    return wrapped.dup(), address


_shared: dict[str, Any] = {"size": 0}


def _scratch(ffi: Any, size: int) -> tuple[Any, memoryview]:
    """One buffer for all links, which are in one thread."""
    if _shared["size"] < size:
        _shared["size"] = max(size, 256 * 1024)
        _shared["buffer"] = ffi.new("unsigned char[]", _shared["size"])
        _shared["view"] = memoryview(ffi.buffer(_shared["buffer"]))
    return _shared["buffer"], _shared["view"]
