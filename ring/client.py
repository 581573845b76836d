"""
One method per endpoint of the Ring Partner API.

A client belongs to one access token and one thread. What is safe to repeat (GET, and DELETE of a session) is
repeated with backoff; a POST or PATCH never is, except once after a 401, which says it was not carried out.
Source: contract 2.8-2.9, 5-8, 10-13, 15.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self

import orjson
import requests

from ring.addresses import next_page_url, segment, session_url, sessions_path
from ring.config import RingConfig
from ring.documents import (
    DeviceDocument,
    DeviceStatus,
    HistoryEvent,
    Subscription,
    User,
    parse_device,
    parse_devices,
    parse_history,
    parse_integration_status,
    parse_status,
    parse_subscriptions,
    parse_user,
)
from ring.errors import (
    DeviceOffline,
    MalformedDocument,
    RingError,
    RingNotFound,
    RingRateLimited,
    RingRejected,
    RingUnavailable,
    SessionConflict,
)
from ring.media import JPEG, MP4, PNG, REDIRECTS, MediaFacts, Progress, fetch_media, refusal_from
from ring.transport import (
    Answer,
    OneHopSession,
    decode_object,
    error_from,
    read_answer,
    request_id_of,
    send,
)

__all__ = ["MediaFacts", "RingClient", "UpstreamSession"]

logger = logging.getLogger(__name__)

LONGEST_WAIT_S = 10.0
"""The longest pause a client makes by itself; a longer `Retry-After` is the caller's to keep."""

MAX_CLIP_MS = 900_000  # contract 11.3
MAX_IMAGE_WINDOW_MS = 86_400_000  # contract 11.2
MAX_DEVICE_PAGES = 50
MAX_SUBSCRIPTION_PAGES = 50

_INCLUDE = "status,capabilities,location,configurations"
_JSON = {"Content-Type": "application/json", "Accept": "application/json, application/vnd.api+json"}
_SDP = {"Content-Type": "application/sdp", "Accept": "application/sdp"}
_TOKEN = re.compile(r"[!-~]+", re.ASCII)
_REPEATABLE = frozenset({"GET", "DELETE"})


@dataclass(frozen=True)
class UpstreamSession:
    """A live session at Ring. `url` is checked (origin and path), and ends the session by `end_session`."""

    answer_sdp: str = field(repr=False)
    url: str = field(repr=False)


class RingClient:
    """
    Calls Ring with one person's access token.

    `refresh` gives a new access token; it is asked once per call after a 401 (and a 403 of users/me,
    contract 4), and what it raises passes through. `limiter` is called before every request to the API
    and may wait or raise RingRateLimited (contract 15: 100 requests/s over all tenants). `sleep` takes
    seconds. Every method raises RingError; ValueError only for arguments no request can carry.
    """

    def __init__(
        self,
        config: RingConfig,
        access_token: str,
        *,
        refresh: Callable[[], str] | None = None,
        limiter: Callable[[], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._config = config
        self._base = config.api_url.rstrip("/")
        self._access_token = _checked_token(access_token)
        self._refresh = refresh
        self._limiter = limiter
        self._sleep = sleep
        self._session = OneHopSession(config.user_agent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()

    # --- the account (contract 2.8, 2.9, 6, 13) --------------------------------------------------------------

    def me(self) -> User:
        """
        Give the Ring user behind the token; key on `account_id` only. Source: contract 6.

        A 403 is a token signal here too, so it is refreshed and repeated once; if it stays it is RingForbidden.
        """
        answer = self._call("GET", "/v1/users/me", action="read the Ring user", refresh_on=(401, 403))
        return parse_user(decode_object(answer, action="read the Ring user"))

    def confirm_integration(self, *, nonce: str, account_identifier: str | None) -> str | None:
        """
        POST app-integrations: tell Ring that this nonce was claimed; give the status (`awaiting`), None if unsaid.

        `account_identifier` is the masked address the Ring user sees. Not repeated here: on RingUnavailable with
        `ambiguous` see contract 2.8. Raises InvalidNonce; RingNotFound when the app was removed meanwhile.
        """
        body = {"nonce": nonce}
        if account_identifier is not None:
            body["account_identifier"] = account_identifier
        return self._change_integration("POST", body, action="confirm the link")

    def update_integration(
        self, *, status: str | None = None, account_identifier: str | None = None
    ) -> str | None:
        """
        PATCH app-integrations; give the status Ring answers with, None if unsaid. Safe to send again.

        At least one of `status` (`completed`, `awaiting`) and `account_identifier`. Source: contract 2.9.
        """
        fields = {"status": status, "account_identifier": account_identifier}
        body = {name: value for name, value in fields.items() if value is not None}
        if not body:
            raise ValueError("Give a status or an account identifier.")
        return self._change_integration("PATCH", body, action="update the link")

    def remove_integration(self) -> None:
        """
        DELETE app-integrations: end the link at Ring, for a link that began at the partner only (contract 3.2).

        A one-way link answers RingForbidden (contract 2.9). RingNotFound: it had ended before.
        """
        self._call("DELETE", "/v1/accounts/me/app-integrations", action="end the link")

    def _change_integration(self, method: str, body: Mapping[str, str], *, action: str) -> str | None:
        path = "/v1/accounts/me/app-integrations"
        answer = self._call(method, path, body=orjson.dumps(body), action=action)
        try:
            status = parse_integration_status(decode_object(answer, action=action))
        except MalformedDocument:
            status = None
        if status is None:
            # Any 2xx is success, readable or not (contract 2.8).
            logger.warning("Ring answered an app-integrations call without a status: method=%s", method)
        return status

    def iter_subscriptions(self) -> Iterator[Subscription]:
        """
        Give the person's subscriptions to this app; nothing when Ring has no information (404, 422).

        Source: contract 13. Raises MalformedDocument when the pages do not end.
        """
        try:
            for document in self._iter_pages(
                "/v1/accounts/me/subscriptions",
                {},
                max_pages=MAX_SUBSCRIPTION_PAGES,
                is_whole=True,
                action="list subscriptions",
            ):
                yield from parse_subscriptions(document)
        except (RingNotFound, RingRejected) as error:
            if error.status not in (404, 422):
                raise
            logger.info("Ring has no subscription information: status=%s", error.status)

    # --- devices (contract 7) --------------------------------------------------------------------------------

    def iter_devices(self) -> Iterator[DeviceDocument]:
        """
        Give every shared device with status, capabilities, location and configurations, each once.

        The list is whole or an error: pages that repeat or do not end raise MalformedDocument, a next page
        outside the API raises UnsafeRedirect. Source: contract 7.1, 7.2.
        """
        seen: set[str] = set()
        for document in self._iter_pages(
            "/v1/devices",
            {"include": _INCLUDE},
            max_pages=MAX_DEVICE_PAGES,
            is_whole=True,
            action="list devices",
        ):
            for device in parse_devices(document):
                if device.ring_id not in seen:
                    seen.add(device.ring_id)
                    yield device

    def get_device(self, ring_id: str) -> DeviceDocument:
        """Give one device as in iter_devices. RingNotFound: no longer shared. Source: contract 7.1, 7.7."""
        answer = self._call(
            "GET", f"/v1/devices/{segment(ring_id)}", params={"include": _INCLUDE}, action="read a device"
        )
        device = parse_device(decode_object(answer, action="read a device"))
        if device.ring_id != ring_id:
            raise MalformedDocument("Ring answered with another device than the one asked for.")
        return device

    def get_status(self, ring_id: str, component_id: str | None = None) -> DeviceStatus:
        """Give a device's (or one camera's) current status. Source: contract 7.1, 7.3."""
        params = {} if component_id is None else {"component_id": component_id}
        answer = self._call(
            "GET", f"/v1/devices/{segment(ring_id)}/status", params=params, action="read a device's status"
        )
        return parse_status(decode_object(answer, action="read a device's status"))

    def iter_history(
        self,
        ring_id: str,
        *,
        event_types: Sequence[str] = (),
        stop_before: datetime | None = None,
        max_pages: int = 20,
    ) -> Iterator[HistoryEvent]:
        """
        Give past events of a device, newest first, each once.

        Ends at the first event that started before `stop_before` (aware), at an empty page, a missing or
        repeated cursor, or after `max_pages`. `event_types` as Ring filters them (`ding`, `motion.human`).
        Nothing from before the consent; sensors have none. Source: contract 8.
        """
        params = {"event_types": ",".join(event_types)} if event_types else {}
        seen: set[str] = set()
        for document in self._iter_pages(
            f"/v1/history/devices/{segment(ring_id)}/events",
            params,
            max_pages=max_pages,
            is_whole=False,
            action="read a device's history",
        ):
            events, unreadable = parse_history(document)
            if unreadable:
                logger.warning("Ring's history holds entries without a start: count=%s", unreadable)
            for event in events:
                if stop_before is not None and event.started_at < stop_before:
                    return
                if event.event_id not in seen:
                    seen.add(event.event_id)
                    yield event

    # --- live video (contract 10.1) --------------------------------------------------------------------------

    def start_session(
        self, ring_id: str, *, offer_sdp: str, component_id: str | None = None
    ) -> UpstreamSession:
        """
        Open a live session with a complete offer (all candidates gathered, `recvonly`).

        Never repeated. Raises DeviceOffline, RingForbidden, RingNotFound, SessionConflict, RingRejected, and UnsafeRedirect
        when the session's address is not the API's own: then it cannot be ended and lapses by itself (30 or 60 s).
        """
        action = "start a live session"
        try:
            answer, asked = self._exchange(
                "POST",
                self._base + sessions_path(ring_id),
                params={} if component_id is None else {"component_id": component_id},
                body=offer_sdp.encode(),
                headers=_SDP,
                action=action,
            )
        except RingRejected as error:
            if error.status != 409:
                raise
            raise SessionConflict(
                "Another live session of this camera is open (HTTP 409).",
                status=409,
                code=error.code,
                request_id=error.request_id,
                retry_after_s=error.retry_after_s,
            ) from error
        if answer.status != 201:
            raise _unexpected(answer, action)
        url = session_url(asked, answer.headers.get("Location", ""), config=self._config, ring_id=ring_id)
        try:
            answer_sdp = answer.body.decode("utf-8")
        except UnicodeDecodeError:
            answer_sdp = ""
        if not answer_sdp.startswith("v="):
            self._abandon(url)
            raise _unexpected(answer, action)
        return UpstreamSession(answer_sdp=answer_sdp, url=url)

    def _abandon(self, url: str) -> None:
        """End a session nobody can use; that it lapses anyway makes a failure here unimportant."""
        try:
            self.end_session(url)
        except RingError as error:
            logger.warning("An unusable live session was left to lapse: status=%s", error.status)

    def end_session(self, url: str) -> None:
        """
        End a live session by the address start_session gave; one that is gone already is fine.

        Raises UnsafeRedirect, before anything is sent, for any other address. Source: contract 10.1, 18 row 27.
        """
        checked = session_url(self._base + "/", url, config=self._config)
        try:
            self._exchange("DELETE", checked, action="end a live session")
        except RingNotFound:
            return

    # --- media (contract 11) ---------------------------------------------------------------------------------

    def download_clip(
        self,
        ring_id: str,
        *,
        start_ms: int,
        duration_ms: int,
        component_id: str | None = None,
        into: BinaryIO,
        max_bytes: int,
        on_progress: Progress | None = None,
        codec: Literal["avc", "hevc"] | None = None,
        audio_enabled: bool | None = None,
    ) -> MediaFacts:
        """
        Write a recording into `into`, a fresh empty file: after an error throw it away, never append to it.

        `start_ms` is epoch milliseconds, `duration_ms` at most 15 minutes. `on_progress` gets bytes so far and
        in all (None: unknown). Not repeated here. Raises MediaNotRecorded or MediaNotReady (ask again,
        unchanged, until 2 minutes after the range), MediaUnreadable, MediaTooLarge, TimeRangeNotAuthorized,
        UnsafeRedirect and what every call may raise. Source: contract 11.1, 11.3, 11.4.
        """
        if not 0 < duration_ms <= MAX_CLIP_MS:
            raise ValueError("A clip lasts from 1 ms to 15 minutes.")
        request: dict[str, Any] = {"timestamp": start_ms, "duration": duration_ms}
        if codec is not None:
            request["video_options"] = {"codec": codec}
        if audio_enabled is not None:
            request["audio_options"] = {"audio_enabled": audio_enabled}
        return self._download(
            ring_id, "video", request, component_id, MP4, into, max_bytes, on_progress, "fetch a clip"
        )

    def download_image(
        self,
        ring_id: str,
        *,
        at_ms: int | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        component_id: str | None = None,
        into: BinaryIO,
        max_bytes: int,
        format: Literal["jpeg", "png"] = "jpeg",
        width: int | None = None,
        height: int | None = None,
        on_progress: Progress | None = None,
    ) -> MediaFacts:
        """
        Write one still into `into`, as download_clip does: the frame nearest `at_ms` (within 10 s), or the
        latest from `start_ms` to `end_ms` (None: now), a window of at most 24 hours.

        Width 1-1920, height 1-1080 pixels. Source: contract 11.1, 11.2, 11.4.
        """
        request: dict[str, Any]
        if at_ms is not None and start_ms is None and end_ms is None:
            request = {"type": "at_timestamp", "timestamp": at_ms}
        elif at_ms is None and start_ms is not None:
            request = {"type": "latest_in_range", "start_timestamp": start_ms}
            if end_ms is not None:
                if not 0 <= end_ms - start_ms <= MAX_IMAGE_WINDOW_MS:
                    raise ValueError("A window for an image lasts at most 24 hours.")
                request["end_timestamp"] = end_ms
        else:
            raise ValueError("Give either at_ms, or start_ms with or without end_ms.")
        options: dict[str, Any] = {"format": format}
        limits = {"width": (width, 1920), "height": (height, 1080)}
        resolution = {name: value for name, (value, _) in limits.items() if value is not None}
        if any(not 1 <= value <= limits[name][1] for name, value in resolution.items()):
            raise ValueError("An image is at most 1920 by 1080 pixels.")
        if resolution:
            options["resolution"] = resolution
        request["image_options"] = options
        content_type = PNG if format == "png" else JPEG
        return self._download(
            ring_id,
            "image",
            request,
            component_id,
            content_type,
            into,
            max_bytes,
            on_progress,
            "fetch an image",
        )

    def _download(
        self,
        ring_id: str,
        kind: str,
        request: dict[str, Any],
        component_id: str | None,
        content_type: str,
        into: BinaryIO,
        max_bytes: int,
        on_progress: Progress | None,
        action: str,
    ) -> MediaFacts:
        if component_id is not None:
            # In the body, exactly one (contract 18 row 24).
            request["components"] = [{"component_id": component_id}]
        response = self._open(
            "POST",
            f"{self._base}/v1/devices/{segment(ring_id)}/media/{kind}/download",
            body=orjson.dumps(request),
            headers={**_JSON, "Accept": f"{content_type}, application/json"},
            action=action,
        )
        if response.status_code not in REDIRECTS | {200, 206}:
            raise refusal_from(read_answer(response, config=self._config, action=action), action=action)
        return fetch_media(
            response,
            config=self._config,
            content_type=content_type,
            into=into,
            max_bytes=max_bytes,
            action=action,
            on_progress=on_progress,
        )

    # --- chimes (contract 12) --------------------------------------------------------------------------------

    def play_chime(self, ring_id: str, audio_ref: str) -> str:
        """
        Play a sound from one of the app's slots; give Ring's status (`completed`), "" if unsaid.

        `audio_ref` comes from the chime's configurations. Not repeated. Source: contract 12.
        """
        body = {"data": {"type": "audio", "attributes": {"audio_ref": audio_ref}}}
        path = f"/v1/devices/{segment(ring_id)}/media/audio/playback"
        answer = self._call("POST", path, body=orjson.dumps(body), action="play a chime")
        try:
            return parse_integration_status(decode_object(answer, action="play a chime")) or ""
        except MalformedDocument:
            return ""

    # --- how a call is made ----------------------------------------------------------------------------------

    def _iter_pages(
        self, path: str, params: Mapping[str, str], *, max_pages: int, is_whole: bool, action: str
    ) -> Iterator[dict[str, Any]]:
        """
        Give each page until there is no next, a page is empty, or the next was read already.

        With `is_whole` a list that cannot be read to its end raises MalformedDocument instead of ending early.
        """
        url, visited = self._base + path, set[str]()
        for _ in range(max_pages):
            answer, asked = self._exchange("GET", url, params=params, action=action)
            document = decode_object(answer, action=action)
            yield document
            visited.add(asked)
            link = _next_link(document)
            if link is None or not document.get("data"):
                return
            url, params = next_page_url(asked, link, config=self._config), {}
            if url in visited:
                break
        if is_whole:
            raise MalformedDocument(f"The pages do not end when we {action}.")

    def _call(
        self,
        method: str,
        path: str,
        *,
        action: str,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        refresh_on: Sequence[int] = (401,),
    ) -> Answer:
        answer, _ = self._exchange(
            method, self._base + path, params=params, body=body, action=action, refresh_on=refresh_on
        )
        return answer

    def _exchange(
        self,
        method: str,
        url: str,
        *,
        action: str,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] = _JSON,
        refresh_on: Sequence[int] = (401,),
    ) -> tuple[Answer, str]:
        """Make a call and give its 2xx answer with the address asked; anything else raises RingError."""
        attempts = self._config.max_attempts if method in _REPEATABLE else 1
        attempt = 0
        while True:
            attempt += 1
            try:
                response = self._open(
                    method,
                    url,
                    params=params,
                    body=body,
                    headers=headers,
                    action=action,
                    refresh_on=refresh_on,
                )
                answer = read_answer(response, config=self._config, action=action)
                if 200 <= answer.status < 300:
                    return answer, response.url
                raise error_from(answer, action=action)
            except (RingUnavailable, RingRateLimited) as error:
                wait_s = _pause_s(error, attempt)
                if attempt >= attempts or wait_s > LONGEST_WAIT_S or isinstance(error, DeviceOffline):
                    raise
            self._sleep(wait_s)

    def _open(
        self,
        method: str,
        url: str,
        *,
        action: str,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] = _JSON,
        refresh_on: Sequence[int] = (401,),
    ) -> requests.Response:
        """Send with the bearer; on a token signal refresh once and send once more. The body is still unread."""
        response = self._send(method, url, params, body, headers, action)
        if response.status_code in refresh_on and self._refresh is not None:
            response.close()
            self._access_token = _checked_token(self._refresh())
            response = self._send(method, url, params, body, headers, action)
        return response

    def _send(
        self,
        method: str,
        url: str,
        params: Mapping[str, str] | None,
        body: bytes | None,
        headers: Mapping[str, str],
        action: str,
    ) -> requests.Response:
        if self._limiter is not None:
            self._limiter()
        bearer = {"Authorization": f"Bearer {self._access_token}"}
        return send(
            self._session,
            method,
            url,
            config=self._config,
            action=action,
            headers={**headers, **bearer},
            params=params,
            body=body,
        )


def _checked_token(token: str) -> str:
    """A token goes into a header, so it must be one printable word; the message must not show it."""
    if _TOKEN.fullmatch(token) is None:
        raise ValueError("The access token is empty or has characters no token has.")
    return token


def _pause_s(error: RingError, attempt: int) -> float:
    """`Retry-After` if Ring sent one, else 1, 2, 4 … s, of which the second half is chance (contract 15)."""
    if error.retry_after_s is not None:
        return error.retry_after_s
    ceiling_s = min(2.0 ** (attempt - 1), LONGEST_WAIT_S)
    return ceiling_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


def _next_link(document: Mapping[str, Any]) -> str | None:
    """Give `links.next`, as text or as a link object; None at the end (contract 8, JSON:API)."""
    links = document.get("links")
    link = links.get("next") if isinstance(links, dict) else None
    link = link.get("href") if isinstance(link, dict) else link
    return link if isinstance(link, str) and link else None


def _unexpected(answer: Answer, action: str) -> RingUnavailable:
    return RingUnavailable(
        f"Ring's answer to {action} is not the documented one (HTTP {answer.status}).",
        status=answer.status,
        request_id=request_id_of(answer.headers),
        ambiguous=True,
    )
