"""
Viewers that only count: aiortc does their ICE and DTLS, then their sockets are read many packets at a time.

What is counted stands in the clear part of each packet, so nothing is decrypted and hundreds fit on one core beside the camera.
"""

import asyncio
import ctypes
import os
import select
import socket
import struct
import threading
import time
from typing import Any, Final, Self

from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription

from bench.live.film import FRAME_RATE

PACKETS_A_CALL: Final = 32
PACKET_BYTES: Final = 2048
# So that a pause of the reading thread loses nothing that the relay sent.
BUFFER_BYTES: Final = 4 << 20
SO_RCVBUFFORCE: Final = 33
SO_TIMESTAMPNS: Final = 35
_ADDRESS_BYTES: Final = 28
# A control message with the moment of arrival: its header, then seconds and nanoseconds.
_CONTROL: Final = struct.Struct("=QiiqQ")
_CONTROL_BYTES: Final = 64


class Viewer:
    """One who watches: the numbers and moments of what came."""

    def __init__(self) -> None:
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.numbers: set[int] = set()
        self.frames: set[int] = set()
        self.first_s: float | None = None
        self.longest_pause_s = 0.0
        self.has_picture = asyncio.Event()
        self.connection: Any = None
        self._loop = asyncio.get_running_loop()
        self._asked_at = 0.0
        self._last_frame_at = 0.0
        self._newest = 0
        self._payload_type: int | None = 0
        self._first_timestamp: int | None = None

    async def offer(self) -> str:
        """An offer to watch, the same one if asked again; from now on the first picture is waited for."""
        if self.peer.signalingState == "stable":
            transceiver = self.peer.addTransceiver("video", direction="recvonly")
            transceiver.setCodecPreferences(_h264())
            await self.peer.setLocalDescription(await self.peer.createOffer())
            self._make_room()
        self._asked_at = time.time()
        return str(self.peer.localDescription.sdp)

    async def accept(self, answer: str) -> None:
        await self.peer.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        self._tap()

    def ask(self) -> None:
        """From now on the first picture is waited for (a relay that makes the offers)."""
        self._asked_at = time.time()

    async def answer(self, offer: str) -> str:
        await self.peer.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
        self.peer.getTransceivers()[0].setCodecPreferences(_h264())
        await self.peer.setLocalDescription(await self.peer.createAnswer())
        self._make_room()
        self._tap()
        return str(self.peer.localDescription.sdp)

    def _make_room(self) -> None:
        """Let the sockets hold what comes while this process, which is hundreds of viewers, does not read."""
        [transceiver] = self.peer.getTransceivers()
        for protocol in transceiver.receiver.transport.transport._connection._protocols:
            sock = protocol.transport.get_extra_info("socket")
            if sock is not None:
                size = SO_RCVBUFFORCE if os.geteuid() == 0 else socket.SO_RCVBUF
                sock.setsockopt(socket.SOL_SOCKET, size, BUFFER_BYTES)
                sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    def _tap(self) -> None:
        """Count media here; it goes no further."""
        [transceiver] = self.peer.getTransceivers()
        self._payload_type = transceiver._codecs[0].payloadType
        self.connection = transceiver.receiver.transport.transport._connection
        pass_on = self.connection.data_received

        def count(data: bytes, component: int) -> None:
            if not self.take(data, 0, time.time()):
                pass_on(data, component)

        self.connection.data_received = count

    def take(self, data: "bytes | bytearray", start: int, came_at: float) -> bool:
        """Count the packet at `start` if it is media (RFC 7983: RTP, not RTCP). `came_at`: seconds since 1970."""
        if not 127 < data[start] < 192 or 192 <= data[start + 1] <= 223:
            return False
        second = data[start + 1]
        if second & 0x7F == self._payload_type:
            number, timestamp = struct.unpack_from("!HI", data, start + 2)
            # Counted on past 16 bits (RFC 3550, 5.1).
            self._newest += ((number - self._newest + (1 << 15)) & 0xFFFF) - (1 << 15)
            self.numbers.add(self._newest)
            if second & 0x80:
                self._picture(timestamp, came_at)
            elif self._first_timestamp is None:
                self._first_timestamp = timestamp
        return True

    def _picture(self, timestamp: int, came_at: float) -> None:
        """The last packet of a picture came."""
        if self._last_frame_at:
            self.longest_pause_s = max(self.longest_pause_s, came_at - self._last_frame_at)
        self._last_frame_at = came_at
        self.frames.add(timestamp)
        if self.first_s is None and self._first_timestamp in (None, timestamp):
            self.first_s = came_at - self._asked_at
            self._loop.call_soon_threadsafe(self.has_picture.set)

    def begin(self) -> None:
        """Forget what was counted: the measurement begins."""
        self.numbers.clear()
        self.frames.clear()
        self.longest_pause_s = self._last_frame_at = 0.0

    @property
    def gaps(self) -> int:
        """Numbers that lie between others and never came."""
        return max(self.numbers) - min(self.numbers) + 1 - len(self.numbers) if self.numbers else 0

    @property
    def watched_s(self) -> float:
        """Seconds of film that came."""
        return len(self.frames) / FRAME_RATE


def _h264() -> list[Any]:
    codecs: list[Any] = RTCRtpSender.getCapabilities("video").codecs
    return [
        c for c in codecs if c.parameters.get("profile-level-id") in ("42e01f", "42001f") or c.name == "rtx"
    ]


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p), ("name_length", ctypes.c_uint32), ("iov", ctypes.POINTER(_Iovec)),
        ("iov_length", ctypes.c_size_t), ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )  # fmt: skip


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("header", _Msghdr), ("length", ctypes.c_uint))


class Farm(threading.Thread):
    """Reads the sockets of viewers that have their picture; what is not media goes to their own protocol."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._viewers: dict[int, tuple[Viewer, Any]] = {}
        self._ends = False
        self._buffer = bytearray(PACKETS_A_CALL * PACKET_BYTES)
        self._addresses = bytearray(PACKETS_A_CALL * _ADDRESS_BYTES)
        self._controls = bytearray(PACKETS_A_CALL * _CONTROL_BYTES)
        self._messages = (_Mmsghdr * PACKETS_A_CALL)()
        self._parts = (_Iovec * PACKETS_A_CALL)()
        base = ctypes.addressof((ctypes.c_char * len(self._buffer)).from_buffer(self._buffer))
        names = ctypes.addressof((ctypes.c_char * len(self._addresses)).from_buffer(self._addresses))
        controls = ctypes.addressof((ctypes.c_char * len(self._controls)).from_buffer(self._controls))
        for index in range(PACKETS_A_CALL):
            self._parts[index] = _Iovec(base + index * PACKET_BYTES, PACKET_BYTES)
            header = self._messages[index].header
            header.name = names + index * _ADDRESS_BYTES
            header.name_length = _ADDRESS_BYTES
            header.iov = ctypes.pointer(self._parts[index])
            header.iov_length = 1
            header.control = controls + index * _CONTROL_BYTES
            header.control_length = _CONTROL_BYTES
        self._receive = ctypes.CDLL(None, use_errno=True).recvmmsg

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends = True
        self.join()
        self._epoll.close()

    def adopt(self, viewer: Viewer) -> None:
        """Read this viewer's nominated socket from now on. To be called in the viewers' loop."""
        pair = viewer.connection._nominated[1]
        transport = pair.protocol.transport
        sock = transport.get_extra_info("socket")
        loop: Any = self._loop
        loop._remove_reader(sock.fileno())
        self._viewers[sock.fileno()] = viewer, pair.protocol
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def release(self, viewer: Viewer) -> None:
        """Read it no more: its connection is about to be closed."""
        fileno = viewer.connection._nominated[1].protocol.transport.get_extra_info("socket").fileno()
        if self._viewers.pop(fileno, None):
            self._epoll.unregister(fileno)

    def run(self) -> None:
        while not self._ends:
            for fileno, _ in self._epoll.poll(0.1):
                self._read(fileno)

    def _read(self, fileno: int) -> None:
        found = self._viewers.get(fileno)
        if found is None:
            return
        viewer, protocol = found
        count = self._receive(fileno, self._messages, PACKETS_A_CALL, socket.MSG_DONTWAIT, None)
        for index in range(count):
            start = index * PACKET_BYTES
            if not viewer.take(self._buffer, start, self._came_at(index)):
                data = bytes(self._buffer[start : start + self._messages[index].length])
                self._loop.call_soon_threadsafe(protocol.datagram_received, data, self._sender(index))
            self._messages[index].header.name_length = _ADDRESS_BYTES
            self._messages[index].header.control_length = _CONTROL_BYTES

    def _came_at(self, index: int) -> float:
        """When the kernel had the packet; this thread may come to read it later."""
        _, _, kind, seconds, nanoseconds = _CONTROL.unpack_from(self._controls, index * _CONTROL_BYTES)
        if kind != SO_TIMESTAMPNS:
            raise RuntimeError("The kernel told no time of arrival.")
        return float(seconds + nanoseconds / 1e9)

    def _sender(self, index: int) -> tuple[str, int]:
        start = index * _ADDRESS_BYTES
        [family] = struct.unpack_from("=H", self._addresses, start)
        [port] = struct.unpack_from("!H", self._addresses, start + 2)
        begin, length = (start + 4, 4) if family == socket.AF_INET else (start + 8, 16)
        return socket.inet_ntop(family, bytes(self._addresses[begin : begin + length])), port
