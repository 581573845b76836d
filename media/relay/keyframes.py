"""
Keyframe requests: each viewer's within bounds, those of many viewers made one of them, and none forgotten.

A keyframe weighs on the camera's battery and on the lines of all who watch, whoever asked for it.
"""

import asyncio
from collections.abc import Callable
from typing import Final

# A keyframe weighs as much as twenty other frames: two who ask within this time share one.
SPACING_S: Final = 0.5
# A request, or the keyframe, may be lost on its way.
AGAIN_S: Final = 1.0
MAX_TRIES: Final = 5
# What one viewer asks for is passed on at once, then after these pauses as long as it keeps asking, the last again and
# again. A line that loses so much is not helped by keyframes.
PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0)
# Who has asked for nothing for so long begins anew.
QUIET_S: Final = 10.0


class ViewerRequests:
    """One viewer's: `ask()` as often as it asks; `pass_on` is called within its bounds; `came()` when a keyframe came."""

    def __init__(self, pass_on: Callable[[], None]) -> None:
        self._pass_on = pass_on
        self._asked_at = self._passed_at = float("-inf")
        self._passed = 0  # how often since it was quiet
        self._timer: asyncio.TimerHandle | None = None

    def ask(self) -> None:
        """Pass it on now, or at the end of the pause unless a keyframe comes before."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now - self._asked_at > QUIET_S:
            self._passed = 0
        self._asked_at = now
        if self._timer is not None:
            return
        pause_s = PAUSES_S[min(self._passed, len(PAUSES_S)) - 1] if self._passed else 0.0
        wait_s = self._passed_at + pause_s - now
        if wait_s <= 0:
            self._fire()
        else:
            self._timer = loop.call_later(wait_s, self._fire)

    def came(self) -> None:
        """A keyframe is here: what was asked for is there."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        self._passed_at = asyncio.get_running_loop().time()
        self._passed += 1
        self._pass_on()


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
