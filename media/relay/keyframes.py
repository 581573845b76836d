"""Keyframe requests of many viewers, made one of them, and never forgotten."""

import asyncio
from collections.abc import Callable
from typing import Final

# A keyframe weighs as much as twenty other frames: two who ask within this time share one.
SPACING_S: Final = 0.5
# A request, or the keyframe, may be lost on its way.
AGAIN_S: Final = 1.0
MAX_TRIES: Final = 5


class KeyframeRequests:
    """`ask()` as often as viewers ask; `send` is called at most twice a second; `came()` when a keyframe came."""

    def __init__(self, send: Callable[[], None]) -> None:
        self._send = send
        self._sent_at = float("-inf")
        self._tries = 0
        self._timer: asyncio.TimerHandle | None = None

    def ask(self) -> None:
        """Have a keyframe soon: now, or at the end of the pause since the last request."""
        if self._timer is not None and self._tries == 0:
            return  # one is about to be sent
        self._tries = 0
        loop = asyncio.get_running_loop()
        wait = self._sent_at + SPACING_S - loop.time()
        if wait <= 0:
            self._fire()
        else:
            self._again_in(wait)

    def expect(self) -> None:
        """One is on its way unasked: ask only when it is not here in a second."""
        if self._timer is None:
            self._again_in(AGAIN_S)

    def came(self) -> None:
        """A keyframe is here: whoever asked has it."""
        self._tries = 0
        self.stop()

    def stop(self) -> None:
        """Send nothing more until somebody asks."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again_in(self, seconds: float) -> None:
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._fire)

    def _fire(self) -> None:
        self.stop()
        self._sent_at = asyncio.get_running_loop().time()
        self._tries += 1
        self._send()
        if self._tries < MAX_TRIES:
            self._again_in(AGAIN_S)
