"""What a bad day does to webhooks on their way, drawn from a seed: the same orders meet the same fate (contract 17.3)."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from sandbox.answers import Problem

SHARES = ("duplicate", "drop", "delay", "reorder", "storm")
MOST_AT_ONCE = 1000
LONGEST_DELAY_S = 3600.0
OVERTAKEN_BY = 10
ANSWERS_LOST = 3


@dataclass
class Chaos:
    """
    The orders. `duplicate`, `drop`, `delay`, `reorder` and `storm` are shares of all webhooks, 0 to 1.

    `duplicate`: sent twice at once. `drop`: never sent. `delay`: held back, `delay_s` at most. `reorder`: up to ten later
    ones overtake it. `storm`: the partner's answer is lost up to three times, so it is sent again and again by the
    retry schedule. `burst`: so many are gathered and sent at once.
    """

    seed: int = 0
    duplicate: float = 0.0
    drop: float = 0.0
    delay: float = 0.0
    delay_s: float = 2.0
    reorder: float = 0.0
    storm: float = 0.0
    burst: int = 0

    def check(self) -> None:
        """Raises Problem for a number that makes no sense."""
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise Problem(400, f"{name} must be a share, 0 to 1.")
        if not 0 <= self.burst <= MOST_AT_ONCE:
            raise Problem(400, f"burst must be 0 to {MOST_AT_ONCE}.")
        if not 0 <= self.delay_s <= LONGEST_DELAY_S:
            raise Problem(400, f"delay_s must be 0 to {LONGEST_DELAY_S:.0f}.")


@dataclass(frozen=True)
class Fate:
    """What one webhook meets."""

    dropped: bool = False
    doubled: bool = False
    delay_s: float = 0.0
    overtaken_by: int = 0
    answers_lost: int = 0

    def words(self) -> str:
        """For the journal; "" for an ordinary one."""
        said = {
            "dropped": self.dropped,
            "sent twice": self.doubled,
            f"held back {self.delay_s:.1f} s": self.delay_s,
            f"overtaken by {self.overtaken_by}": self.overtaken_by,
            f"{self.answers_lost} answers lost": self.answers_lost,
        }
        return ", ".join(words for words, true in said.items() if true)


ORDINARY = Fate()


@dataclass
class Dice:
    """Draws fates. Each takes the same number of draws whatever comes of it, so one share does not shift another's."""

    chaos: Chaos = field(default_factory=Chaos)

    def __post_init__(self) -> None:
        self._random = random.Random(self.chaos.seed)  # noqa: S311 - repeatable on purpose

    def throw(self) -> Fate:
        draws = {name: self._random.random() < getattr(self.chaos, name) for name in SHARES}
        delay_s = self._random.uniform(0, self.chaos.delay_s)
        places = self._random.randint(1, OVERTAKEN_BY)
        lost = self._random.randint(1, ANSWERS_LOST)
        if draws["drop"]:
            return Fate(dropped=True)
        return Fate(
            doubled=draws["duplicate"],
            delay_s=delay_s if draws["delay"] else 0.0,
            overtaken_by=places if draws["reorder"] else 0,
            answers_lost=lost if draws["storm"] else 0,
        )
