"""One measured figure."""

from dataclasses import dataclass

_LESS_IS_BETTER = {"ms", "KiB", "MiB"}


@dataclass(frozen=True)
class Figure:
    """What was measured, ours and the peer's (medians of the rounds), both in `unit`; of times, less is better."""

    name: str
    unit: str
    ours: float
    peer: float
    peer_name: str

    @property
    def ratio(self) -> float:
        """How many times better ours is."""
        if self.unit in _LESS_IS_BETTER:
            return self.peer / self.ours
        return self.ours / self.peer
