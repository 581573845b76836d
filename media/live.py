"""
Live sessions: each is a row before it is a session at Ring, and ends at Ring whatever happens here.

The row is the lease: `next_attempt_at` is when `close_upstream` must have a look at it, first because the time is up,
then because Ring has not yet been told of the end. Source: contract 10.1.
"""

import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from django.db import DatabaseError, InterfaceError, models, transaction
from django.db.models import Q
from django.utils import timezone

from accounts.models import TENANT_STAFF, ApiToken, Membership, RingAccount, Tenant, User
from accounts.services import NotSetUp, audit, client_for, parting_client, ring_config
from devices.describe import has_privacy_zones
from devices.models import Device
from devices.tasks import sync_one_device
from devices.words import PLAN_ENDED, PRIVACY_ZONES
from events.threads import give_back_connection
from media.clips import NoVideo, choose_component
from media.models import LiveSession, Screen
from media.sdp import has_video
from portal.tenancy import Viewer
from portal.work import backoff, take
from ring.client import RingClient
from ring.config import RingConfig
from ring.errors import (
    DeviceOffline,
    RingError,
    RingForbidden,
    RingNotFound,
    RingRateLimited,
    RingRejected,
    RingUnauthorized,
    RingUnavailable,
    SessionConflict,
    TokenRejected,
)

logger = logging.getLogger(__name__)

# How long opening may take before the row counts as lost: token refresh, connecting, Ring's own answer.
OPENING: Final = timedelta(seconds=60)
# Ring ends a session at its cap by itself; we look a moment later.
CAP_GRACE: Final = timedelta(seconds=2)
CLOSING_LEASE: Final = timedelta(seconds=20)
# A relaying process gives a sign of life for its sessions every second. Without one for so long it is taken for dead.
SIGN_OF_LIFE: Final = timedelta(seconds=3)
# What a battery gives is counted over this time, from Ring to us, however many watch.
BUDGET_SPAN: Final = timedelta(days=1)
# After an unlink: no call begins later than this, and none takes longer than 3 s, so all is said within 5.
HANG_UP_WITHIN_S: Final = 2.0
HANG_UP_AT_ONCE: Final = 32
# A session that Ring was never told of is over by itself by then: nothing is left to close.
FORGET_AFTER: Final = timedelta(seconds=60)


class LiveRefused(Exception):
    """
    There is no live picture now. The message is for people, `reason` a stable word, `status` the HTTP status.

    `retry_after_s`: when asking again makes sense; None where it does not before something else changes.
    """

    def __init__(self, message: str, *, reason: str, status: int, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class OpenedSession:
    """A live session and Ring's answer to the viewer's offer."""

    session: LiveSession
    answer_sdp: str = field(repr=False)


@dataclass(frozen=True)
class Watcher:
    """
    Who watches, and what for (a Purpose, or ""): a person, a program or a screen.

    `session_key`: the sign-in that the viewing belongs to and ends with, kept from the first moment on. `asked_as`: a name
    by which they can end it before they have our answer.
    """

    viewer: User | None = None
    api_token: ApiToken | None = None
    screen: Screen | None = None
    session_key: str = field(default="", repr=False)
    purpose: str = ""
    asked_as: UUID | None = None

    def as_columns(self) -> dict[str, Any]:
        """As the columns of LiveSession."""
        return dict(vars(self))


def open_session(
    *, device: Device, offer_sdp: str, component_id: str, watcher: Watcher, now: datetime
) -> OpenedSession:
    """
    Open a session at Ring for one viewer; the offer (media.sdp) and the camera (`check_camera`) are checked.

    Not to be called inside a transaction. Raises LiveRefused; the row, where there is one, then says `failed`.
    """
    session = begin_viewing(
        device=device,
        component_id=component_id,
        watcher=watcher,
        kind=LiveSession.Kind.DIRECT,
        cap_s=device.session_cap_s,
        now=now,
    )
    return open_at_ring(session, offer_sdp=offer_sdp)


def check_camera(device: Device, component_id: str, *, now: datetime) -> str:
    """Choose the camera and see that it may be watched now. Raises LiveRefused."""
    try:
        component_id = choose_component(device, component_id)
    except NoVideo as error:
        raise LiveRefused(str(error), reason="no_video", status=422) from error
    if has_privacy_zones(device):
        raise LiveRefused(PRIVACY_ZONES, reason="privacy_zones", status=403)
    if device.is_plan_ended:
        raise LiveRefused(PLAN_ENDED, reason="plan_ended", status=403)
    if battery_left_s(device, now=now) <= 0:
        minutes = device.tenant.battery_minutes
        raise LiveRefused(
            f"This camera was watched for {minutes} minute{'s' if minutes > 1 else ''} in the last 24 hours. To spare its battery, live view pauses.",
            reason="budget",
            status=409,
            retry_after_s=_battery_back_s(device, now=now),
        )
    return component_id


def has_a_purpose(viewer: Viewer, device: Device) -> bool:
    """True for the company's team and its programs at a camera that is not their own: they watch it for something."""
    if isinstance(viewer, Membership):
        return viewer.role in TENANT_STAFF and device.ring_account.user_id != viewer.user_id
    return True


def must_say_purpose(viewer: Viewer, device: Device) -> bool:
    """True where a purpose is to be said and the company insists on it."""
    return device.tenant.must_say_purpose and has_a_purpose(viewer, device)


def begin_viewing(
    *,
    device: Device,
    component_id: str,
    watcher: Watcher,
    kind: LiveSession.Kind,
    cap_s: int,
    now: datetime,
) -> LiveSession:
    """
    The row of a viewing that is to be opened. Raises LiveRefused where as many watch as the company allows.

    Whoever watches this camera already, and changes over to this session, takes no more room; by one of theirs only. The
    company's row is locked from the count to the new row: of many who come in one moment no more get in.
    """
    with transaction.atomic():
        tenant = Tenant.objects.select_for_update(no_key=True).get(pk=device.tenant_id)
        viewings = LiveSession.objects.for_tenant(tenant.pk).viewings().open()
        own = viewings.filter(
            device=device, viewer=watcher.viewer, api_token=watcher.api_token, screen=watcher.screen
        )
        if viewings.count() - int(own.exists()) >= tenant.live_most:
            raise LiveRefused(
                f"{tenant.live_most} live pictures are open in this company, and no more are allowed at once. "
                "Try again when somebody has stopped.",
                reason="full",
                status=503,
                retry_after_s=15,
            )
        session: LiveSession = LiveSession.objects.create(
            tenant=device.tenant,
            kind=kind,
            device=device,
            component_id=component_id,
            **watcher.as_columns(),
            opened_at=now,
            cap_s=cap_s,
            next_attempt_at=now + OPENING,
        )
    return session


def battery_left_s(device: Device, *, now: datetime) -> float:
    """How long the battery of `device` may still send live video within 24 hours; endless on line power."""
    if device.is_battery_powered is not True:
        return math.inf
    return device.tenant.battery_minutes * 60 - battery_used_s([device], now=now)[device.pk]


def battery_used_s(devices: Iterable[Device], *, now: datetime) -> dict[int, float]:
    """How long each battery camera of `devices` has sent live video within 24 hours, by its key, in one query."""
    used_s = {device.pk: 0.0 for device in devices if device.is_battery_powered}
    for pk, _, given_s in _given(used_s, now=now):
        used_s[pk] += given_s
    return used_s


def _given(devices: Iterable[int], *, now: datetime) -> Iterator[tuple[int, datetime, float]]:
    """What these devices sent within 24 hours, oldest first: which device, from when on, for how many seconds."""
    at_ring = LiveSession.objects.filter(device__in=devices, opened_at__gt=now - BUDGET_SPAN).exclude(
        Q(kind=LiveSession.Kind.RELAYED) | Q(end_reason=LiveSession.EndReason.FAILED)
    )
    rows = at_ring.order_by("opened_at").values_list("device", "opened_at", "ended_at", "cap_s")
    for pk, opened_at, ended_at, cap_s in rows:
        given = min((ended_at or now) - opened_at, timedelta(seconds=cap_s))
        yield pk, opened_at, given.total_seconds()


def _battery_back_s(device: Device, *, now: datetime) -> int:
    """In how many seconds, 60 at the least, so much of the oldest use has left the 24 hours that the battery may give again."""
    left_s = battery_left_s(device, now=now)
    back_at = now
    for _, opened_at, given_s in _given([device.pk], now=now):
        if left_s > 0:
            break
        left_s += given_s
        back_at = opened_at + BUDGET_SPAN
    return max(60, math.ceil((back_at - now).total_seconds()))


def open_at_ring(session: LiveSession, *, offer_sdp: str) -> OpenedSession:
    """Open a session at Ring for this row. Raises LiveRefused; the row then says `failed`."""
    device, component_id = session.device, session.component_id
    try:
        with client_for(device.ring_account, config=_hasty(ring_config())) as client:
            give_back_connection()  # Ring may take its time
            upstream = client.start_session(
                device.ring_id, offer_sdp=offer_sdp, component_id=component_id or None
            )
            if not has_video(upstream.answer_sdp):
                _close_unseen(session, url=upstream.url, client=client)
                raise LiveRefused(
                    "This camera sends a kind of video that cannot be played here. "
                    "Look at it in the Ring app, or set it to H.264 there if it lets you.",
                    reason="codec",
                    status=422,
                )
            try:
                session = _complete(session, url=upstream.url, client=client)
            except (DatabaseError, InterfaceError):
                # Nobody will know its address: end it while we do.
                client.end_session(upstream.url)
                raise
    except (RingError, NotSetUp) as error:
        mark_failed(session, error=type(error).__name__)
        logger.warning(
            "A live session was refused. device=%s kind=%s status=%s",
            device.public_id,
            type(error).__name__,
            getattr(error, "status", None),
        )
        if isinstance(error, RingNotFound):
            sync_one_device.enqueue(device.ring_account_id, device.ring_id)
        raise _refusal_from(error) from error
    return OpenedSession(session=session, answer_sdp=upstream.answer_sdp)


def _complete(session: LiveSession, *, url: str, client: RingClient) -> LiveSession:
    """
    Write down where the session is, and who watches; raise LiveRefused if it was ended in the meantime.

    Then it is ended at Ring by the `client` that opened it: the account's own tokens may be gone.
    """
    with transaction.atomic():
        row: LiveSession = LiveSession.objects.select_for_update().get(pk=session.pk)
        row.upstream_url = url
        now = timezone.now()
        row.next_attempt_at = now if row.ended_at is not None else now + _first_lease(row)
        row.save(update_fields=["upstream_url", "next_attempt_at"])
        if row.ended_at is None and row.kind == LiveSession.Kind.DIRECT:
            audit_start(row)
    if row.ended_at is not None:
        close_upstream(row.pk, client=client)
        raise LiveRefused(
            "The camera was taken away while the picture was being opened.", reason=row.end_reason, status=409
        )
    return row


def _close_unseen(session: LiveSession, *, url: str, client: RingClient) -> None:
    """End at Ring what brought no video, and say `failed` here."""
    mark_failed(session, error="NoCommonCodec")
    # It is open at Ring, unlike others that failed: due now, and again if Ring does not hear it.
    row = LiveSession.objects.get(pk=session.pk)
    row.upstream_url = url
    row.next_attempt_at = timezone.now()
    row.save(update_fields=["upstream_url", "next_attempt_at"])
    close_upstream(session.pk, client=client)


def _first_lease(session: LiveSession) -> timedelta:
    if session.kind == LiveSession.Kind.UPSTREAM:
        return SIGN_OF_LIFE
    return timedelta(seconds=session.cap_s) + CAP_GRACE


def audit_start(session: LiveSession) -> None:
    """Write down that somebody watches."""
    audit(
        tenant=session.tenant,
        actor=session.viewer,
        action="live.started",
        subject=f"device {session.device.public_id}",
        about_person=session.device.ring_account.user,
        session=str(session.public_id),
        **_who_detail(session),
    )


def _who_detail(session: LiveSession) -> dict[str, str]:
    """What watched, where it is nobody in person, and what for, where that was said."""
    detail = {"purpose": session.purpose} if session.purpose else {}
    if session.screen is not None:
        detail["screen"] = str(session.screen.public_id)
    elif session.api_token is not None:
        detail["api_token"] = str(session.api_token.public_id)
    return detail


def _refusal_from(error: RingError | NotSetUp) -> LiveRefused:
    """Say what Ring's refusal means to the person in front of the picture (contract 10.1, 14, 15)."""
    if isinstance(error, NotSetUp):
        return LiveRefused(
            "This company has not finished its setup with Ring. An administrator can do that in the settings.",
            reason="not_set_up",
            status=409,
        )
    if isinstance(error, RingUnauthorized | TokenRejected):
        return LiveRefused(
            "The Ring account of this camera must be linked again.", reason="link_again", status=409
        )
    if isinstance(error, RingForbidden):
        return LiveRefused(
            "Ring does not allow live video of this camera. Check its Ring plan and what is shared, in the Ring app.",
            reason="forbidden",
            status=403,
        )
    if isinstance(error, RingNotFound):
        return LiveRefused(
            "Ring does not share this camera any more. Share it again in the Ring app.",
            reason="removed",
            status=404,
        )
    if isinstance(error, DeviceOffline):
        return LiveRefused(
            "The camera is offline. Check its power and Wi-Fi.",
            reason="offline",
            status=503,
            retry_after_s=_seconds(error, at_least=30),
        )
    if isinstance(error, SessionConflict):
        return LiveRefused(
            "This camera is being watched elsewhere, and Ring gives its picture only once. Try again in a moment.",
            reason="in_use",
            status=409,
            retry_after_s=_seconds(error, at_least=5),
        )
    if isinstance(error, RingRejected):
        return LiveRefused("Ring did not accept the offer.", reason="rejected", status=422)
    if isinstance(error, RingRateLimited):
        return LiveRefused(
            "Ring asks for a pause.", reason="busy", status=503, retry_after_s=_seconds(error, at_least=5)
        )
    return LiveRefused(
        "Ring does not answer at the moment.",
        reason="unavailable",
        status=503,
        retry_after_s=_seconds(error, at_least=5),
    )


def _seconds(error: RingError, *, at_least: int) -> int:
    return max(at_least, round(error.retry_after_s or 0))


def _hasty(config: RingConfig) -> RingConfig:
    """Somebody waits in front of a dark picture: ask once, and do not wait as long as a task would."""
    return replace(config, connect_timeout_s=2, answer_timeout_s=15, max_attempts=1)


def end_session(*, session: LiveSession, reason: LiveSession.EndReason, now: datetime) -> bool:
    """
    End a session, and tell Ring at once; if that fails, the sweep tells it. False when it had ended already.

    Not to be called inside a transaction: receivers use `end_sessions`.
    """
    is_first = _mark_ended(session, reason=reason, now=now)
    if is_first:
        close_upstream(session.pk)
    return is_first


def end_sessions(
    sessions: "models.QuerySet[LiveSession]", *, reason: LiveSession.EndReason, now: datetime
) -> int:
    """End all open ones of `sessions`; the sweep tells Ring right after the commit. Return how many there were."""
    count = 0
    for session in sessions.filter(ended_at__isnull=True).select_related("device", "tenant", "viewer"):
        if _mark_ended(session, reason=reason, now=now):
            count += 1
    return count


def hang_up(*, account: RingAccount, now: datetime) -> None:
    """
    End an account's sessions because its tokens are about to be destroyed: the rows now, at Ring right after the commit.

    Called inside the transaction that unlinks, while `account` still carries its tokens. The DELETEs are sent by this
    process, outside the transaction and side by side, with the token it has in memory: nothing is stored that outlives the
    link. They take at most 5 s together (contract 10.1, feature D3). What Ring did not hear by then, or because this process
    died, Ring ends by itself at the session's cap; the sweep writes that down.
    """
    # Also those that ended a moment ago, when Ring has not heard of it yet.
    untold = LiveSession.objects.filter(device__ring_account=account, next_attempt_at__isnull=False)
    due_at = now + CLOSING_LEASE
    sessions = list(untold.select_related("device", "tenant", "viewer"))
    for session in sessions:
        if not _mark_ended(session, reason=LiveSession.EndReason.UNLINKED, now=now, due_at=due_at):
            LiveSession.objects.filter(pk=session.pk).update(next_attempt_at=due_at)
    config = _hurried(ring_config())
    goodbyes = [
        (session, client)
        for session in sessions
        if session.upstream_url and (client := parting_client(account, config=config)) is not None
    ]
    if goodbyes:
        transaction.on_commit(partial(_say_goodbye, goodbyes))


def _hurried(config: RingConfig) -> RingConfig:
    return replace(config, connect_timeout_s=1, read_timeout_s=2, answer_timeout_s=2, max_attempts=1)


def _say_goodbye(goodbyes: Sequence[tuple[LiveSession, RingClient]]) -> None:
    """End these at Ring side by side, each by a client of its own: where Ring is slow, all of them begin in time."""
    deadline = time.monotonic() + HANG_UP_WITHIN_S
    urls = [session.upstream_url for session, _ in goodbyes]
    clients = [client for _, client in goodbyes]
    with ThreadPoolExecutor(min(len(goodbyes), HANG_UP_AT_ONCE), thread_name_prefix="live-goodbye") as pool:
        errors = list(pool.map(partial(_end_until, deadline), clients, urls))
    for (session, _), error in zip(goodbyes, errors, strict=True):
        if error:
            logger.warning("Ring did not end a live session. session=%s kind=%s", session.public_id, error)
        else:
            _forget_upstream(session)


def _end_until(deadline: float, client: RingClient, url: str) -> str:
    """End a session at Ring unless the deadline (monotonic) is over. What kept it from ending, "" where nothing did."""
    with client:
        if time.monotonic() > deadline:
            return "TooLate"
        try:
            client.end_session(url)
        except RingError as error:
            return type(error).__name__
    return ""


def mark_failed(session: LiveSession, *, error: str) -> None:
    """It never began, so nobody watched and there is nothing to close."""
    LiveSession.objects.filter(pk=session.pk, ended_at__isnull=True).update(
        ended_at=timezone.now(),
        end_reason=LiveSession.EndReason.FAILED,
        next_attempt_at=None,
        last_error=error,
    )


def _mark_ended(
    session: LiveSession, *, reason: LiveSession.EndReason, now: datetime, due_at: datetime | None = None
) -> bool:
    """Stamp the end, once, and make the row due (`due_at`, else now); of two who try, one gets True."""
    with transaction.atomic():
        ended = LiveSession.objects.filter(pk=session.pk, ended_at__isnull=True).update(
            ended_at=now, end_reason=reason, attempts=0, next_attempt_at=due_at or now
        )
        if ended and session.kind != LiveSession.Kind.UPSTREAM:
            audit(
                tenant=session.tenant,
                actor=session.viewer,
                action="live.ended",
                subject=f"device {session.device.public_id}",
                about_person=session.device.ring_account.user,
                session=str(session.public_id),
                reason=reason.value,
                watched_s=round((now - session.opened_at).total_seconds(), 1),
                **_who_detail(session),
            )
    return bool(ended)


def close_upstream(session_id: int, *, client: RingClient | None = None) -> None:
    """
    See to it that a session which is due is over at Ring: its time is up, or it ended here.

    `client`: one that may speak for the account, where there is one at hand; else one is made with its tokens.
    Leases the row, so it may be called by a view, a task and the sweep at once. What Ring did not hear is told
    again until the session must have lapsed by itself.
    """
    now = timezone.now()
    rows = LiveSession.objects.select_related("tenant", "viewer", "device__ring_account")
    session = take(rows, session_id, now=now, lease=CLOSING_LEASE)
    if session is None:
        return
    if session.ended_at is None:
        # Without an address, or relayed and before its time: the process that opened or relayed it died.
        is_over = (
            bool(session.upstream_url)
            if session.kind == LiveSession.Kind.DIRECT
            else now >= session.opened_at + timedelta(seconds=session.cap_s)
        )
        gone = (
            LiveSession.EndReason.RELAY
            if session.kind == LiveSession.Kind.RELAYED
            else LiveSession.EndReason.LOST
        )
        reason = LiveSession.EndReason.CAP if is_over else gone
        _mark_ended(session, reason=reason, now=now, due_at=now + CLOSING_LEASE)
    if not session.upstream_url:
        session.finish_work()
        return
    try:
        with (
            nullcontext(client)
            if client is not None
            else client_for(session.device.ring_account, config=_hasty(ring_config()))
        ) as ring:
            give_back_connection()
            ring.end_session(session.upstream_url)
    except (RingUnavailable, RingRateLimited) as error:
        if now < session.opened_at + timedelta(seconds=session.cap_s) + FORGET_AFTER:
            pause = backoff(session.attempts, cap_s=10)
            session.retry_later(now=now, error=type(error).__name__, pause=pause)
            return
        _forget_upstream(session, error=type(error).__name__)
    except (RingError, NotSetUp) as error:
        # Without tokens, or refused: it lapses at Ring by itself, within its cap.
        _forget_upstream(session, error=type(error).__name__)
    else:
        _forget_upstream(session)


def _forget_upstream(session: LiveSession, *, error: str = "") -> None:
    session.upstream_url = ""
    session.save(update_fields=["upstream_url"])
    session.finish_work(error=error)
    if error:
        logger.warning("A live session was left to lapse. session=%s kind=%s", session.public_id, error)
