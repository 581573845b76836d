"""
What can go wrong between us and Ring, one kind per thing a caller can do about it.

    RingError
    ├── RingUnauthorized            the access token is refused, also after the one refresh: link again
    ├── RingForbidden               scope, Ring plan or consent: explain it
    │   └── TimeRangeNotAuthorized  the range begins before the consent: narrow it
    ├── RingNotFound                gone or never there: reconcile
    ├── RingRejected                our request is wrong: do not send it again
    │   ├── InvalidNonce            the nonce is wrong or too old: the person taps Sign In again
    │   └── SessionConflict         the camera has another live session: try again when that is over
    ├── RingRateLimited             wait `retry_after_s`
    ├── RingUnavailable             try later; `ambiguous` tells whether it may have happened
    │   ├── DeviceOffline           Ring is well, the device cannot be reached
    │   └── MalformedDocument       an answer that does not hold what Ring documents
    ├── MediaNotRecorded            nothing was recorded then (or not yet)
    ├── MediaNotReady               too early: ask again, unchanged
    ├── MediaUnreadable             encrypted, corrupt, or not the media we asked for
    ├── MediaTooLarge               more bytes than the caller allows
    ├── UnsafeRedirect              Ring named an address we will not go to
    └── TokenRejected               the OAuth server refused
        ├── CodeRejected            the code is used, expired or unknown: a new link is needed
        ├── RefreshRejected         the refresh token is dead: link again
        └── ClientRejected          our client id or secret is wrong: the tenant's admin must act

    MalformedDelivery               a signed webhook body we cannot read (not a RingError: Ring called us)

No message ever holds a token, nonce, code, SDP, e-mail address or an address with its query.
Source: contract 15 (errors), 11.4 (media), 2.3 (OAuth).
"""

from __future__ import annotations


class RingError(Exception):
    """
    A call to Ring did not give what it promises.

    `status` is the HTTP status (None when there was no answer), `code` Ring's own word for the error
    or "", `request_id` what to quote to Ring support or "", `retry_after_s` how long Ring asks us to wait.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        request_id: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class RingUnauthorized(RingError):
    """401, also with a refreshed token: the person must link again (contract 2.10, 15)."""


class RingForbidden(RingError):
    """403: scope, Ring plan or consent is missing. Repeating does not help (contract 7.7, 15)."""


class TimeRangeNotAuthorized(RingForbidden):
    """403 TIME_RANGE_NOT_AUTHORIZED: the range touches time before the consent (contract 11.4)."""


class RingNotFound(RingError):
    """404: unknown id, device no longer shared, or no integration for this token (contract 2.8, 7.7)."""


class RingRejected(RingError):
    """400, 409, 415, 422 and the like: our request is wrong; `title` says what Ring calls it (contract 15)."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        request_id: str = "",
        retry_after_s: float | None = None,
        title: str = "",
    ) -> None:
        super().__init__(
            message, status=status, code=code, request_id=request_id, retry_after_s=retry_after_s
        )
        self.title = title


class InvalidNonce(RingRejected):
    """400 Invalid Nonce: wrong, or outside Ring's own window (contract 2.8)."""


class SessionConflict(RingRejected):
    """409 on an offer: while another session of the camera is open, Ring gives no second (contract 10.1: undocumented)."""


class RingRateLimited(RingError):
    """429: wait `retry_after_s` when Ring names it, else back off (contract 15)."""


class RingUnavailable(RingError):
    """
    5xx, timeout, broken connection or unreadable answer: try later.

    `ambiguous` is True when Ring may have carried the request out although we saw no good answer;
    it matters for everything that is not a read (contract 2.8, 4).
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        request_id: str = "",
        retry_after_s: float | None = None,
        ambiguous: bool = False,
    ) -> None:
        super().__init__(
            message, status=status, code=code, request_id=request_id, retry_after_s=retry_after_s
        )
        self.ambiguous = ambiguous


class DeviceOffline(RingUnavailable):
    """503 Device Unavailable: Ring answers, the device does not (contract 10.1)."""


class MalformedDocument(RingUnavailable):
    """
    A 2xx answer whose document breaks the contract: no JSON, no id, two versions of one resource.

    It is a RingUnavailable because a caller can do the same about it: change nothing, try later.
    """


class MediaNotRecorded(RingError):
    """416: Ring holds nothing for that time, or not yet (contract 11.4)."""


class MediaNotReady(RingError):
    """425: too early. Repeat the unchanged request with backoff (contract 11.4)."""


class MediaUnreadable(RingError):
    """422, or bytes that are not the media asked for, as with TAKE encryption (contract 11.4, 14)."""


class MediaTooLarge(RingError):
    """The download is larger than the caller's `max_bytes`; what was written so far is to be thrown away."""


class UnsafeRedirect(RingError):
    """Ring named an address outside what contract 10.1 and 11.1 allow; we did not go there."""


class TokenRejected(RingError):
    """The OAuth server refused the request (contract 2.3, 4); see the subclasses."""


class CodeRejected(TokenRejected):
    """The authorization code is expired, used or unknown (contract 2.3). Never send it again."""


class RefreshRejected(TokenRejected):
    """The refresh token is expired, revoked or already used: link again (contract 4)."""


class ClientRejected(TokenRejected):
    """The client id or secret is wrong. The person's tokens may still be good (contract 2.3)."""


class MalformedDelivery(ValueError):
    """A webhook body with a good signature that is not a delivery; `reason` is safe to store and show."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
