"""
The body Ring POSTs to the Token Exchange URL.

Ring documents the arrow, not the body; what is accepted here is contract 2.2: form, JSON or no content type, exactly
one `code`, whatever else beside it.
"""

import json
import logging
import re
from typing import Any
from urllib.parse import parse_qsl

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 8 * 1024
MAX_CODE_CHARS = 2048

_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
_MAX_FIELDS = 50
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}", re.ASCII)
_CODE = re.compile(rf"[!-~]{{1,{MAX_CODE_CHARS}}}", re.ASCII)


class UnusableBody(Exception):
    """Ring's request cannot be used; `status` is the answer, the message a sentence without anything of the body."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def parse_code(*, body: bytes, content_type: str) -> str:
    """
    Give the code. `content_type` is the bare media type, "" when the header is absent.

    Raises UnusableBody: 415 another media type, 400 not what the type says, 422 no single usable code.
    """
    if content_type not in ("", _FORM, _JSON):
        raise UnusableBody(415, "Send a form or JSON.")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise UnusableBody(400, "The body is not UTF-8 text.") from None
    is_json = content_type == _JSON or (not content_type and text.lstrip().startswith("{"))
    fields = _json_fields(text) if is_json else _form_fields(text)
    codes = [value for name, value in fields if name == "code"]
    others = sorted({name for name, _ in fields if name != "code"})
    if others:
        # By name only: we do not know what they are, so they may be secrets.
        known = [name if _NAME.fullmatch(name) else "?" for name in others[:20]]
        logger.info("Ring's code came with further fields. names=%s", " ".join(known))
    if len(codes) != 1:
        raise UnusableBody(422, "Send exactly one code.")
    code = codes[0]
    if not isinstance(code, str) or _CODE.fullmatch(code) is None:
        raise UnusableBody(422, f"A code is 1 to {MAX_CODE_CHARS} printable characters.")
    return code


def _form_fields(text: str) -> list[tuple[str, Any]]:
    try:
        return list(
            parse_qsl(text.strip(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
        )
    except ValueError:
        raise UnusableBody(400, "The body is not a form.") from None


def _json_fields(text: str) -> list[tuple[str, Any]]:
    """The members of the JSON object, also those that stand there twice."""
    try:
        members = json.loads(text, object_pairs_hook=_Members)
    except (ValueError, RecursionError):
        raise UnusableBody(400, "The body is not JSON.") from None
    if not isinstance(members, _Members):
        raise UnusableBody(422, "The body is not a JSON object.")
    return list(members)


class _Members(list[tuple[str, Any]]):
    """The members of one object in order; a plain dict would drop a repeated name silently."""
