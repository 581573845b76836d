"""What an upstream session lost on its way, and when to ask for it again."""

from typing import Final

RETRY_S: Final = 0.05
MAX_TRIES: Final = 8
# Beyond this it is no lost packet but a torn connection: only a keyframe helps.
MAX_MISSING: Final = 256


class Missing:
    """Sequence numbers (counting on past 16 bits) that did not come; each is asked for a few times."""

    def __init__(self) -> None:
        self._newest: int | None = None
        self._tries: dict[int, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._tries)

    def arrived(self, sequence: int, *, now: float) -> bool:
        """Note a packet. False when so much is missing that asking for it makes no sense: ask for a keyframe."""
        if self._newest is None or sequence <= self._newest:
            self._tries.pop(sequence, None)
            if self._newest is None:
                self._newest = sequence
            return True
        gap = range(self._newest + 1, sequence)
        self._newest = sequence
        if len(gap) + len(self._tries) > MAX_MISSING:
            self._tries.clear()
            return False
        for lacking in gap:
            self._tries[lacking] = (now, 0)
        return True

    def due(self, *, now: float) -> list[int]:
        """What to ask for now, ascending; called as often as you like. What was asked for in vain is given up."""
        if not self._tries:
            return []
        asked = []
        for sequence, (at, tries) in list(self._tries.items()):
            if at > now:
                continue
            if tries >= MAX_TRIES:
                del self._tries[sequence]
                continue
            self._tries[sequence] = (now + RETRY_S, tries + 1)
            asked.append(sequence)
        return sorted(asked)
