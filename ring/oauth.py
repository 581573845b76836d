"""
Authorization code or refresh token in, token pair out.

Neither call is ever repeated here: a code is single-use, and a refresh token dies when it is used. When the
outcome is unknown RingUnavailable.ambiguous says so and the caller decides. Source: contract 2.3, 4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ring.config import RingConfig
from ring.errors import (
    ClientRejected,
    CodeRejected,
    RefreshRejected,
    RingError,
    RingRateLimited,
    RingRejected,
    RingUnavailable,
    TokenRejected,
    UnsafeRedirect,
)
from ring.timestamps import as_int
from ring.transport import (
    Answer,
    OneHopSession,
    decode_json,
    first_error,
    read_answer,
    request_id_of,
    retry_after_s,
    send,
)

UNSTATED_EXPIRY_S = 900
"""
What we assume when `expires_in` is missing or odd [inferred].

Short, so that a refresh soon gives a stated one; failing instead would lose a pair that only a new
link can replace (contract 2.10).
"""

_LONGEST_EXPIRY_S = 365 * 86_400
_TOKEN = re.compile(r"[!-~]+", re.ASCII)
_KNOWN_CODES = frozenset(
    {
        "invalid_grant",
        "invalid_client",
        "unauthorized_client",
        "invalid_request",
        "invalid_scope",
        "unsupported_grant_type",
    }
)


@dataclass(frozen=True)
class TokenPair:
    """
    What the token endpoint gave. `expires_in_s` counts from the moment of the answer.

    `refresh_token` is None for a Playground token, which has none, and for a refresh that did not rotate:
    then the one in hand stays valid.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_in_s: int
    scope: tuple[str, ...]


def exchange_code(
    *,
    config: RingConfig,
    client_id: str,
    client_secret: str,
    code: str,
    code_verifier: str = "",
    redirect_uri: str = "",
) -> TokenPair:
    """
    Exchange the one-time code of contract 2.2 for tokens; it lives 60 s, and is sent once.

    A code that a browser brought back (contract 3.2; it lives 10 minutes) needs the verifier its challenge was made from.

    Raises CodeRejected, ClientRejected, RingRejected (our request is wrong), RingRateLimited,
    RingUnavailable (`ambiguous`: the code may be used up) or UnsafeRedirect.
    """
    form = {"grant_type": "authorization_code", "code": code}
    if code_verifier:
        form |= {"code_verifier": code_verifier, "redirect_uri": redirect_uri}
    return _request_tokens(config, client_id, client_secret, form, CodeRejected, "exchange the code")


def refresh_tokens(
    *, config: RingConfig, client_id: str, client_secret: str, refresh_token: str
) -> TokenPair:
    """
    Exchange a refresh token for a new pair; store that pair before using it, one caller at a time (contract 4).

    Raises RefreshRejected (link again), ClientRejected, RingRejected, RingRateLimited, RingUnavailable
    (`ambiguous`: Ring may have rotated; contract 4 says to try the same token again and then to believe
    a RefreshRejected) or UnsafeRedirect.
    """
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    return _request_tokens(config, client_id, client_secret, form, RefreshRejected, "refresh the tokens")


def _request_tokens(
    config: RingConfig,
    client_id: str,
    client_secret: str,
    form: dict[str, str],
    refusal: type[TokenRejected],
    action: str,
) -> TokenPair:
    form = {**form, "client_id": client_id, "client_secret": client_secret}
    with OneHopSession(config.user_agent) as session:
        response = send(
            session,
            "POST",
            config.token_url,
            config=config,
            action=action,
            headers={"Accept": "application/json"},
            form=form,
        )
        answer = read_answer(response, config=config, action=action)
    if answer.status != 200:
        raise _refusal_from(answer, refusal, action)
    return _parse_pair(answer, action)


def _parse_pair(answer: Answer, action: str) -> TokenPair:
    """Read the pair as tolerantly as contract 2.3 asks: scope as text or list, seconds as number or text."""
    try:
        document = decode_json(answer.body)
    except ValueError:
        document = None
    fields = document if isinstance(document, dict) else {}
    access, refresh = fields.get("access_token"), fields.get("refresh_token")
    # A token goes into a header: spaces or line breaks in it would be somebody else's header.
    if not (isinstance(access, str) and _TOKEN.fullmatch(access)):
        raise RingUnavailable(
            f"Ring's answer to {action} holds no access token.",
            status=answer.status,
            request_id=request_id_of(answer.headers),
            ambiguous=True,
        )
    expires_in_s = as_int(fields.get("expires_in"))
    if expires_in_s is None or expires_in_s <= 0:
        expires_in_s = UNSTATED_EXPIRY_S
    scope = fields.get("scope")
    words = scope.split() if isinstance(scope, str) else scope if isinstance(scope, list) else []
    return TokenPair(
        access_token=access,
        refresh_token=refresh if isinstance(refresh, str) and refresh else None,
        expires_in_s=min(expires_in_s, _LONGEST_EXPIRY_S),
        scope=tuple(word for word in words if isinstance(word, str)),
    )


def _oauth_code(answer: Answer) -> str:
    """Find the OAuth word for the error in either shape of contract 2.3, "" when there is none we know."""
    try:
        document = decode_json(answer.body)
    except ValueError:
        return ""
    error = first_error(answer.body)
    flat = document.get("error") if isinstance(document, dict) else None
    for candidate in (flat, error.get("code"), error.get("title")):
        if isinstance(candidate, str):
            word = candidate.strip().lower().replace(" ", "_")
            if word in _KNOWN_CODES:
                return word
    return ""


def _refusal_from(answer: Answer, refusal: type[TokenRejected], action: str) -> RingError:
    """
    Name the refusal. A refusal of the token needs Ring's own word for it, or a bare 400; a 401 is about the client.

    Other 4xx without such a word come from what stands before Ring (a CDN's 403, contract 1.2), and must
    not cost a person their link.
    """
    status, code = answer.status, _oauth_code(answer)
    request_id = request_id_of(answer.headers)
    wait_s = retry_after_s(answer.headers, now=datetime.now(UTC))
    word = f"HTTP {status}, {code}" if code else f"HTTP {status}"
    if status == 429:
        return RingRateLimited(
            f"Ring asks us to slow down before we {action} ({word}).",
            status=status,
            code=code,
            request_id=request_id,
            retry_after_s=wait_s,
        )
    if 300 <= status < 400:
        return UnsafeRedirect(
            f"Ring sent us elsewhere to {action}; we do not follow ({word}).",
            status=status,
            request_id=request_id,
        )
    if 400 <= status < 500:
        kind: type[RingError] | None = None
        if code == "invalid_grant":
            kind = refusal
        elif code in ("invalid_client", "unauthorized_client"):
            kind = ClientRejected
        elif code:
            kind = RingRejected
        elif status == 400:
            kind = refusal
        elif status == 401:
            kind = ClientRejected
        if kind is not None:
            return kind(
                f"Ring refused to {action} ({word}).", status=status, code=code, request_id=request_id
            )
    return RingUnavailable(
        f"Ring could not {action} ({word}).",
        status=status,
        code=code,
        request_id=request_id,
        retry_after_s=wait_s,
        # A 4xx was refused before anything happened; after 2xx, 5xx or a request timeout nobody knows.
        ambiguous=status == 408 or not 400 <= status < 500,
    )
