"""
What each attempt at an event's effects came to, kept with the event: when, how long, what resulted, or what went wrong.

Of an error only its kind and the places in our code that it went through are kept. Its text and its values are not: they may
quote what it choked on.
"""

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from events.models import Event

MAX_KEPT: Final = 15
MAX_FRAMES: Final = 12
"""The innermost places of one error."""
MAX_CAUSES: Final = 3
WORKER_DIED: Final = "Its worker died each time."


class Outcome(StrEnum):
    """How an attempt ended."""

    DONE = "done"
    FAILED = "failed"  # and is tried again
    GIVEN_UP = "given_up"


def note(
    event: Event,
    *,
    at: datetime,
    took_ms: int,
    outcome: Outcome,
    effects: Sequence[str] = (),
    error: Exception | None = None,
) -> None:
    """
    Add this attempt to the event's log, which the caller saves. `effects`: short sentences of what resulted.

    Without an error an attempt that did not work is one whose worker died. The newest MAX_KEPT stay.
    """
    entry: dict[str, Any] = {
        "number": event.attempts,
        "at": at.isoformat(),
        "took_ms": took_ms,
        "outcome": outcome.value,
        "effects": list(effects),
        "error": "" if error is None else type(error).__name__,
        "traceback": [] if error is None else list(_places(error)),
    }
    event.attempt_log = [*event.attempt_log, entry][-MAX_KEPT:]


@dataclass(frozen=True)
class Attempt:
    """One attempt as the tenant's admins see it: of an error its kind alone."""

    number: int
    at: datetime
    took_ms: int
    outcome: Outcome
    effects: tuple[str, ...]
    error: str


def attempts_of(event: Event) -> list[Attempt]:
    """What is known of the event's attempts, the newest first."""
    return [
        Attempt(
            number=entry["number"],
            at=datetime.fromisoformat(entry["at"]),
            took_ms=entry["took_ms"],
            outcome=Outcome(entry["outcome"]),
            effects=tuple(entry["effects"]),
            error=entry["error"] or (WORKER_DIED if entry["outcome"] != Outcome.DONE else ""),
        )
        for entry in reversed(event.attempt_log)
    ]


def _places(error: BaseException) -> Iterator[str]:
    """Kinds and places, outermost first: no source line, no value, no text of the error."""
    cause: BaseException | None = error
    for number in range(MAX_CAUSES):
        if cause is None:
            return
        kind = type(cause)
        yield f"{'caused by ' if number else ''}{kind.__module__}.{kind.__qualname__}"
        stack = traceback.StackSummary.extract(
            traceback.walk_tb(cause.__traceback__), limit=-MAX_FRAMES, lookup_lines=False
        )
        for frame in stack:
            yield f"  {'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno} {frame.name}"
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
