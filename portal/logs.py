"""Structured logs: every line carries the request's id, and no line carries a secret."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
"""An id from outside that may stand in a line of the log and in a header."""
request_id: ContextVar[str] = ContextVar("request_id", default="-")
# Where a request keeps its id: Django logs a refusal with the request, after every middleware is through with it.
REQUEST_ID_KEY = "portal.request_id"

# What a secret looks like wherever it stands: as a header, a query parameter, a form field or a JSON member. A path is
# decoded once before it is logged, so what was encoded twice still has its %3D and %40.
_HIDDEN_NAMES = (
    r"access_token|refresh_token|client_secret|signing_key|security_token|code_verifier|password|"
    r"nonce|code|token|signature|sessionid|csrftoken"
)
_PATTERNS = (
    (re.compile(r"(?i)\b(bearer)\s+[\w.~+/=-]+"), r"\1 [hidden]"),
    (re.compile(r"(?i)\b(sha256)=[0-9a-f]{16,}"), r"\1=[hidden]"),
    (re.compile(rf"(?i)(?:\b|(?<=%[0-9a-f]{{2}}))({_HIDDEN_NAMES})(?:=|%3D)[^\s&\"']+"), r"\1=[hidden]"),
    (re.compile(rf"(?i)([\"'](?:{_HIDDEN_NAMES})[\"']\s*:\s*)[\"'][^\"']*[\"']"), r'\1"[hidden]"'),
    # allauth's addresses of a new password and of a confirmed e-mail address: who has one may do it.
    (re.compile(r"(?i)(/(?:reset/key|confirm-email)/)[^/\s\"']+"), r"\1[hidden]"),
    (re.compile(r"(?i)[\w.+'-]+(?:@|%40)[\w-]+\.[\w.-]+"), "[e-mail]"),
)


@contextmanager
def following(current: str) -> Iterator[None]:
    """Within: lines of the log carry this id, that of the request whose work goes on here."""
    reset = request_id.set(current)
    try:
        yield
    finally:
        request_id.reset(reset)


def redact(text: str) -> str:
    """The text with whatever looks like a token, code, nonce, signature, password or e-mail address taken out."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


class SecretsFilter(logging.Filter):
    """Redact the finished message, so that no caller's argument slips through, and stamp the request id."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = redact(record.getMessage())
        record.args = None
        of_request = getattr(getattr(record, "request", None), "META", {})
        record.request_id = of_request.get(REQUEST_ID_KEY, request_id.get())
        return True


class _RedactingFormatter(logging.Formatter):
    """Tracebacks are text too: an exception's message may quote what it choked on."""

    def formatException(self, ei: Any) -> str:
        return redact(super().formatException(ei))


class JsonFormatter(_RedactingFormatter):
    """One JSON object a line: time (ISO 8601, UTC), level, logger, message, request_id, exception."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": getattr(record, "request_id", "-"),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(_RedactingFormatter):
    """The same for a person at a terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s [%(request_id)s] %(message)s", "%H:%M:%S")


def logging_config(*, log_format: str) -> dict[str, Any]:
    """Django's LOGGING: everything to standard error through the secrets filter."""
    formatter = JsonFormatter if log_format == "json" else TextFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"secrets": {"()": SecretsFilter}},
        "formatters": {"line": {"()": formatter}},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "filters": ["secrets"], "formatter": "line"},
        },
        "root": {"handlers": ["stderr"], "level": "INFO"},
        "loggers": {
            # Each names its own handlers by default; one place for all of them.
            "django": {"handlers": [], "level": "INFO", "propagate": True},
            "django.server": {"handlers": [], "level": "WARNING", "propagate": True},
            "django.channels.server": {"level": "WARNING"},
            "daphne": {"level": "WARNING"},
            "aioice": {"level": "WARNING"},
            "aiortc": {"level": "WARNING"},
            "apscheduler": {"level": "WARNING"},
            "django_tasks_db": {"level": "WARNING"},
            "django.tasks": {"level": "WARNING"},
        },
    }
