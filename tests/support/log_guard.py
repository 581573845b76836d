"""
No line that any test of the suite has the portal log holds a secret (feature J3).

Test secrets carry marks that nothing else does. Every record that reaches a handler is written as production would
write it, and the test during which a mark shows fails.
"""

import logging
import re

from portal.logs import JsonFormatter, SecretsFilter

# The client secrets, signing keys and tokens of `tests.support.cast`, of the scripted Rings and of every canary; the
# tokens that the portal issues to programs.
MARKS = re.compile(
    r"\b(?:acme|harbor|other|beta)-(?:secret|key)\b|\b(?:access|refresh)-ava1\.|canary-(?:access|refresh|code|nonce|totp|new|of-)"
    r"|\bppt_[\w-]{20}"
)


class LogGuard(logging.Handler):
    """Remembers the lines that hold a secret."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.addFilter(SecretsFilter())
        self.setFormatter(JsonFormatter())
        self.found: list[str] = []

    def handle(self, record: logging.LogRecord) -> bool:
        # The filter redacts the record in place, and others want to see it as it was.
        return super().handle(logging.makeLogRecord(record.__dict__)) if _may_hold_one(record) else False

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if MARKS.search(line):
            self.found.append(line)

    def take(self) -> list[str]:
        """What was found since the last call."""
        found, self.found = self.found, []
        return found


def _may_hold_one(record: logging.LogRecord) -> bool:
    return record.exc_info is not None or MARKS.search(record.getMessage()) is not None


guard = LogGuard()
