"""What a camera does differently, or wrong, while somebody watches it live; ordered by test or page (contract 10.1, 17.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PROFILES: Final = ("42001f", "42e01f", "64001f")
CODECS: Final = ("h264", "hevc")
MAX_CAP_S: Final = 3600.0
MAX_SEED: Final = 2**31
# A peer that receives tells so about once a second (RTCP); one that is this long silent is most likely gone.
PEER_SILENT_S: Final = 5.0


class WrongBehaviour(ValueError):
    """An order that makes no sense; the message names the field and says what it may be."""


@dataclass
class Behaviour:
    """
    One camera's behaviour. `stall_after_s`, `loss_percent` and `loss_seed` also reach sessions that are open.

    `cap_s`: seconds, None for Ring's 30 or 60. `stall_after_s`: from the connection on, 0 for now, None for never.
    `profile`: the H.264 of the answer and of the stream; empty for a baseline one, as the offer has it.
    """

    cap_s: float | None = None
    stall_after_s: float | None = None
    loss_percent: float = 0.0
    loss_seed: int = 0
    profile: str = ""
    codec: str = "h264"
    audio: bool = False

    def change(self, given: dict[str, Any]) -> None:
        """Set what is given; null takes a field back. Raises WrongBehaviour, and then nothing is changed."""
        checked = {name: self._check(name, value) for name, value in given.items()}
        for name, value in checked.items():
            setattr(self, name, value)

    @staticmethod
    def _check(name: str, value: object) -> object:
        default = Behaviour()
        if name not in vars(default):
            raise WrongBehaviour(f"There is no field {name}; there are {', '.join(vars(default))}.")
        if value is None:
            return getattr(default, name)
        if name == "cap_s":
            return _number(name, value, 0.1, MAX_CAP_S)
        if name == "stall_after_s":
            return _number(name, value, 0, MAX_CAP_S)
        if name == "loss_percent":
            return _number(name, value, 0, 100)
        if name == "loss_seed":
            return int(_number(name, value, 0, MAX_SEED))
        if name == "audio" and not isinstance(value, bool):
            raise WrongBehaviour("audio must be true or false, or null.")
        if name == "profile" and value not in PROFILES:
            raise WrongBehaviour(f"profile must be one of {', '.join(PROFILES)}, or null.")
        if name == "codec" and value not in CODECS:
            raise WrongBehaviour(f"codec must be one of {', '.join(CODECS)}, or null.")
        return value


def _number(name: str, value: object, low: float, high: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:  # type: ignore[arg-type,operator]
        raise WrongBehaviour(f"{name} must be a number from {low:g} to {high:g}, or null.")
    return float(value)  # type: ignore[arg-type]


@dataclass
class Line:
    """The way from one camera to one peer: withholds RTP as the camera's behaviour says, and knows when the peer spoke."""

    behaviour: Behaviour
    connected_s: float | None = None
    heard_s: float | None = None
    sent: int = 0
    withheld: int = 0
    _draw: Random = field(init=False)

    def __post_init__(self) -> None:
        self._draw = Random(self.behaviour.loss_seed)  # noqa: S311 - which packets are lost is no secret

    def connected(self) -> None:
        self.connected_s = self.heard_s = monotonic()

    @property
    def silent_s(self) -> float | None:
        """How long the peer has said nothing; None before it connected."""
        return None if self.heard_s is None else monotonic() - self.heard_s

    def put_on(self, transport: Any) -> None:
        """Wrap the two methods of one connection's DTLS transport through which packets leave and reports arrive."""
        send: Callable[[bytes], Awaitable[None]] = transport._send_rtp
        hear: Callable[[bytes], Awaitable[None]] = transport._handle_rtcp_data

        async def send_rtp(data: bytes) -> None:
            # Sender reports go on, so that the session looks alive (RFC 5761 4: types 192 to 223 are RTCP).
            is_report = 192 <= data[1] <= 223
            if not is_report and self._is_withheld():
                self.withheld += 1
                return
            self.sent += not is_report
            await send(data)

        async def handle_rtcp_data(data: bytes) -> None:
            self.heard_s = monotonic()
            await hear(data)

        transport._send_rtp = send_rtp
        transport._handle_rtcp_data = handle_rtcp_data

    def _is_withheld(self) -> bool:
        stall_after_s = self.behaviour.stall_after_s
        if stall_after_s is not None:
            since_s = 0.0 if self.connected_s is None else monotonic() - self.connected_s
            if since_s >= stall_after_s:
                return True
        return self._draw.random() * 100 < self.behaviour.loss_percent
