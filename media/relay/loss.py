"""What an upstream session lost on its way, and when to ask for it again."""

from typing import Final

# Asked for again after this, until the first answers tell how long the way there and back is.
RETRY_S: Final = 0.05
MIN_RETRY_S: Final = 0.02
MAX_RETRY_S: Final = 0.5
# So much longer than an answer usually takes; and how much one answer counts (RFC 6298, 2, with less to remember).
PATIENCE: Final = 1.5
WEIGHT: Final = 0.25
MAX_TRIES: Final = 8
# Beyond this it is no lost packet but a torn connection: only a keyframe helps.
MAX_MISSING: Final = 256
# Older than this is not late: the numbers began anew.
MAX_LATE: Final = 3000


class Missing:
    """
    Sequence numbers (counting on past 16 bits) that did not come; each is asked for a few times.

    `retry_s` is how long an answer is waited for: half as long again as the way there and back takes. All times are
    monotonic seconds.
    """

    def __init__(self) -> None:
        self.retry_s = RETRY_S
        self._answered_after_s: float | None = None
        self._newest: int | None = None
        # Of each: when it was last asked for, or missed, and how often it was.
        self._tries: dict[int, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._tries)

    def arrived(self, sequence: int, *, now: float) -> bool:
        """Note a packet. False when so much is missing that asking for it makes no sense: ask for a keyframe."""
        if self._newest is None or sequence < self._newest - MAX_LATE:
            self._newest = sequence
            self._tries.clear()
            return True
        if sequence <= self._newest:
            asked_at, tries = self._tries.pop(sequence, (now, 0))
            # After two tries nobody knows which of them it answers (Karn's rule).
            if tries == 1:
                self._answered(now - asked_at)
            return True
        gap = range(self._newest + 1, sequence)
        self._newest = sequence
        if len(gap) + len(self._tries) > MAX_MISSING:
            self._tries.clear()
            return False
        for lacking in gap:
            self._tries[lacking] = (now, 0)
        return True

    def _answered(self, after_s: float) -> None:
        before = self._answered_after_s
        self._answered_after_s = after_s if before is None else before + WEIGHT * (after_s - before)
        self.retry_s = min(max(self._answered_after_s * PATIENCE, MIN_RETRY_S), MAX_RETRY_S)

    def due(self, *, now: float) -> list[int]:
        """What to ask for now, ascending; called as often as you like. What was asked for in vain is given up."""
        asked = []
        for sequence, (at, tries) in list(self._tries.items()):
            if tries and now < at + self.retry_s:
                continue
            if tries >= MAX_TRIES:
                del self._tries[sequence]
                continue
            self._tries[sequence] = (now, tries + 1)
            asked.append(sequence)
        return sorted(asked)

    def next_at(self) -> float | None:
        """When something will be due; None while nothing is missing."""
        if not self._tries:
            return None
        return min(at + self.retry_s if tries else at for at, tries in self._tries.values())
