"""A finding: what was looked at, how it stands, and what to do about it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """`note` could not be told, or does not matter here; only `bad` fails a run."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"
    NOTE = "note"


WORDS = {Verdict.OK: "Good", Verdict.WARN: "Look at it", Verdict.BAD: "Failed", Verdict.NOTE: "Not checked"}


@dataclass(frozen=True)
class Finding:
    """
    One line of a check. `said` is what was seen, `fix` what to do (empty when good), `ms` how long the answer took.

    Kept in the database and shown to admins: no secret, nonce, signature or token may stand in it.
    """

    key: str
    title: str
    verdict: Verdict
    said: str
    fix: str = ""
    ms: int | None = None

    @property
    def word(self) -> str:
        return WORDS[self.verdict]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "Finding":
        return cls(**{**kept, "verdict": Verdict(kept["verdict"])})


def is_passed(findings: Iterable[Finding]) -> bool:
    """Nothing is wrong; warnings are for people to weigh."""
    return not any(finding.verdict == Verdict.BAD for finding in findings)
