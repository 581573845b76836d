"""What the relay and those who use it say to each other. Imports nothing, so that only a process that relays loads aiortc."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

# The reason of an UpstreamRefused: while one session with the camera is open, there is no second.
IN_USE: Final = "in_use"


class UpstreamRefused(Exception):
    """No session can be had now. `is_final`: asking again changes nothing; `reason` is a stable word."""

    def __init__(self, reason: str, *, is_final: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_final = is_final


class ViewerRefused(Exception):
    """The viewer's offer cannot be answered."""


@dataclass(frozen=True)
class Lease:
    """One session at Ring: its id in our books, Ring's answer, and how long it lasts."""

    id: int
    cap_s: float
    answer_sdp: str = field(repr=False)


class Upstreams(Protocol):
    """Who opens and ends sessions with cameras, and hears of viewers that are gone. Awaited in the relay's event loop."""

    async def open(self, key: str, offer_sdp: str) -> Lease:
        """Raises UpstreamRefused."""

    async def close(self, lease_id: int, reason: str) -> None:
        """Never raises: what cannot be ended now is ended by others later."""

    async def viewer_gone(self, viewer_id: int, reason: str) -> None:
        """A viewer left, or was sent away, for this reason. Never raises."""


@dataclass(frozen=True)
class Network:
    """How peers find each other. `on_loopback`: offer 127.0.0.1, too."""

    ice_servers: Sequence[str] = ()
    on_loopback: bool = False
    use_fast_path: bool = True
