"""
A UDP path between a viewer and the relay that loses packets, and may get another port on the way: a forwarder in user
space, because no kernel module (`tc netem`) is to be had everywhere the tests run. Both ends are told its addresses
instead of each other's.
"""

import random
import re
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Self

CANDIDATE = re.compile(r"^a=candidate:.*\r\n", re.MULTILINE)
LOOPBACK = "127.0.0.1"


def _socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((LOOPBACK, 0))
    return made


class LossyPath:
    """
    Use as a context manager; give it the offer and the answer on their way. Of the datagrams that `may_lose(datagram,
    is_to_viewer)` names it loses `percent`, drawn from `seed`; `lost` are those.
    """

    def __init__(self, *, percent: float, seed: int, may_lose: Callable[[bytes, bool], bool]) -> None:
        self.lost: list[bytes] = []
        self.passed = 0
        self._share = percent / 100
        self._dice = random.Random(seed)
        self._may_lose = may_lose
        self._viewer_side, self._relay_side = _socket(), _socket()
        self._viewer: tuple[str, int] | None = None
        self._relay: tuple[str, int] | None = None
        self._is_over = False
        self._rebound: socket.socket | None = None
        self._running = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._running.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._running.join()
        self._viewer_side.close()
        self._relay_side.close()

    def rebind(self) -> None:
        """Be another port towards the relay from now on, as a NAT that forgot; the old one is closed."""
        self._rebound = _socket()

    def offer(self, sdp: str) -> str:
        """The viewer's offer as the relay shall see it."""
        return self._with_candidate(sdp, self._relay_side)

    def answer(self, sdp: str) -> str:
        """The relay's answer as the viewer shall see it."""
        for line in CANDIDATE.findall(sdp):
            fields = line.split()
            if fields[4] == LOOPBACK:
                self._relay = (LOOPBACK, int(fields[5]))
        assert self._relay is not None, "the relay offers no address on loopback"
        return self._with_candidate(sdp, self._viewer_side)

    def _with_candidate(self, sdp: str, end: socket.socket) -> str:
        line = f"a=candidate:1 1 udp 2130706431 {LOOPBACK} {end.getsockname()[1]} typ host\r\n"
        bare = CANDIDATE.sub("", sdp)
        head, media, tail = bare.partition("a=ice-ufrag:")
        assert media, "no ICE in this description"
        return head + line + media + tail

    def _run(self) -> None:
        with selectors.DefaultSelector() as waiting:
            for end in (self._viewer_side, self._relay_side):
                waiting.register(end, selectors.EVENT_READ)
            while not self._is_over:
                if self._rebound is not None:
                    waiting.unregister(self._relay_side)
                    self._relay_side.close()
                    self._relay_side, self._rebound = self._rebound, None
                    waiting.register(self._relay_side, selectors.EVENT_READ)
                for key, _ in waiting.select(0.1):
                    self._forward(is_to_viewer=key.fileobj is self._relay_side)

    def _forward(self, *, is_to_viewer: bool) -> None:
        from_, to = self._viewer_side, self._relay_side
        if is_to_viewer:
            from_, to = to, from_
        data, sender = from_.recvfrom(65_536)
        if not is_to_viewer:
            self._viewer = sender
        target = self._viewer if is_to_viewer else self._relay
        if target is None:
            return
        if self._may_lose(data, is_to_viewer) and self._dice.random() < self._share:
            self.lost.append(data)
            return
        self.passed += 1
        to.sendto(data, target)
