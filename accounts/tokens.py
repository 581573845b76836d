"""
A Ring account's tokens: stored, kept fresh, and handed to a client. Here, and nowhere else, a token leaves its row.

**One refresh at a time.** A refresh token dies when it is used (contract 4), so two processes must never send the
same one. A row lock would do, but would hold a database transaction open for as long as Ring takes to answer (on
SQLite: all writing, of everybody). Instead the row itself is leased: one `UPDATE … WHERE tokens_obtained_at = <seen>
AND <no lease>` has exactly one winner, on every database; the others wait until `tokens_obtained_at` has moved and
take what the winner stored. A winner that dies leaves a lease that lapses after REFRESH_LEASE.

**What can be saved, and what cannot.** Before the call, and when Ring did not carry it out, nothing is lost: the same
token is sent again. Once Ring has rotated and the answer never reached our database (the connection broke, the process
was killed), the new token is known to nobody but Ring; `refresh_unanswered_at` says since when that may be so. The same
token is still tried, for Ring may not have rotated or may grant a grace period (not documented, contract 4); when Ring
refuses it, the access token in hand serves to its end, and only then the person must link again (contract 2.10). A
process that was merely stopped, and comes back with the pair after another one gave up, brings the account back.
"""

import logging
import time
from dataclasses import replace
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import DateTimeField, Q, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts.audit import about, audit
from accounts.models import RingAccount, RingApp
from accounts.ring_app import answers_recorded
from ring.client import RingClient
from ring.config import RingConfig
from ring.errors import ClientRejected, RefreshRejected, RingError, RingUnauthorized, RingUnavailable
from ring.oauth import TokenPair, refresh_tokens

logger = logging.getLogger(__name__)

REFRESH_AHEAD = timedelta(minutes=5)
"""How long before its end an access token is replaced (contract 4); a tenth of its life when that is less."""

REFRESH_LEASE = timedelta(seconds=45)
"""Longer than a token call may take (connect, read, whole answer), so that a living winner keeps it."""

WAIT_FOR_WINNER_S = 20.0
_LOOK_AGAIN_S = 0.1

TOKEN_FIELDS = ("access_token", "access_expires_at", "refresh_token", "tokens_obtained_at")
_REFRESH_FIELDS = ("state", "refreshing_until", "refresh_unanswered_at", *TOKEN_FIELDS)


class NotLinked(RingUnauthorized):
    """The account has no tokens Ring would take: the person must link again (contract 2.10)."""


class NotSetUp(Exception):
    """The tenant has no Ring app credentials yet: its admin must enter them."""


def ring_config() -> RingConfig:
    """Where Ring is, as the environment says, with the patience of a background task."""
    return RingConfig(
        api_url=settings.RING_API_URL,
        token_url=settings.RING_TOKEN_URL,
        authorize_url=settings.RING_AUTHORIZE_URL,
        media_hosts=settings.RING_MEDIA_HOSTS,
        allow_loopback_http=settings.DEBUG,
    )


def impatient(config: RingConfig) -> RingConfig:
    """The same for a call somebody waits for: one attempt, and an end before the person gives up."""
    return replace(config, connect_timeout_s=2, read_timeout_s=5, answer_timeout_s=8, max_attempts=1)


def ring_app_of(account: RingAccount) -> RingApp:
    """The credentials the account's tokens belong to. Raises NotSetUp."""
    app = RingApp.objects.filter(tenant=account.tenant_id).first()
    if app is None:
        raise NotSetUp("This tenant has no Ring app credentials.")
    return app


def put_tokens(account: RingAccount, pair: TokenPair, *, now: datetime) -> None:
    """Set the pair on the instance, not yet saved. A refresh that did not rotate keeps the token in hand."""
    account.access_token = pair.access_token
    account.access_expires_at = now + timedelta(seconds=pair.expires_in_s)
    if pair.refresh_token is not None:
        account.refresh_token = pair.refresh_token
    account.tokens_obtained_at = now
    account.refresh_unanswered_at = None


def erase_tokens(account: RingAccount) -> None:
    """Take every secret off the instance, not yet saved; the ciphertext goes with the next save."""
    account.access_token = ""
    account.refresh_token = ""
    account.claim_nonce = ""
    account.access_expires_at = None
    account.tokens_obtained_at = None
    account.refreshing_until = None
    account.refresh_unanswered_at = None


def client_for(account: RingAccount, *, config: RingConfig | None = None) -> RingClient:
    """
    A client (use it in a `with`) that acts for a linked account and refreshes its tokens by itself.

    Raises NotLinked when there are no usable tokens or the link is not finished, and what `fresh_access_token` raises.
    """
    account.refresh_from_db(fields=["state"])
    if not account.is_live:
        raise NotLinked("This Ring account is not linked.")
    return token_client(account, config=config or ring_config())


def token_client(account: RingAccount, *, config: RingConfig) -> RingClient:
    """The same for an account whose link is not finished; only linking itself may ask with those tokens."""
    return RingClient(
        config,
        fresh_access_token(account, config=config),
        refresh=lambda: fresh_access_token(account, force=True, config=config),
    )


def parting_client(account: RingAccount, *, config: RingConfig) -> RingClient | None:
    """
    A client with the access token `account` carries now, and no other; None when it carries none.

    For the last words of a link: made before its tokens are erased, used (in a `with`) right after the commit. Until
    then the token lives in this process's memory only.
    """
    return RingClient(config, account.access_token) if account.access_token else None


def fresh_access_token(account: RingAccount, *, force: bool = False, config: RingConfig | None = None) -> str:
    """
    An access token that is good for a while; `force`: another one than `account` holds, for Ring refused that.

    However many processes ask at once, Ring sees one refresh; the new pair is stored before anybody uses it, and
    `account` carries it. When Ring refuses the refresh token, the access token is given as long as it lasts. Not to be
    called inside a transaction: it may wait for Ring. Raises NotLinked (the row is `relink_required` now),
    ClientRejected, NotSetUp, RingRateLimited or RingUnavailable (the same refresh token is tried again next time;
    contract 4 [inferred]).
    """
    refused = account.tokens_obtained_at if force else None
    deadline = time.monotonic() + WAIT_FOR_WINNER_S
    while True:
        try:
            account.refresh_from_db(fields=_REFRESH_FIELDS)
        except RingAccount.DoesNotExist:
            raise NotLinked("This Ring account is gone.") from None
        now = timezone.now()
        if (
            not account.access_token
            or account.tokens_obtained_at is None
            or account.access_expires_at is None
        ):
            raise NotLinked("This Ring account has no tokens.")
        if force and account.tokens_obtained_at != refused:
            return account.access_token  # somebody else was faster
        if not force and now < _refresh_at(account):
            return account.access_token
        lease = now + REFRESH_LEASE
        if _take_lease(account, now=now, lease=lease):
            try:
                return _refresh(account, config=config or ring_config(), may_linger=not force)
            finally:
                RingAccount.objects.filter(pk=account.pk, refreshing_until=lease).update(
                    refreshing_until=None
                )
        if not force and now < account.access_expires_at:
            return account.access_token  # still good while another process gets the next one
        if time.monotonic() > deadline:
            raise RingUnavailable("The tokens are being refreshed elsewhere, and that takes too long.")
        time.sleep(_LOOK_AGAIN_S)


def _refresh_at(account: RingAccount) -> datetime:
    """When to begin asking for the next access token; without a refresh token only its end counts."""
    assert account.access_expires_at is not None and account.tokens_obtained_at is not None  # noqa: S101 - types
    if not account.refresh_token:
        return account.access_expires_at
    tenth = (account.access_expires_at - account.tokens_obtained_at) / 10
    return account.access_expires_at - min(REFRESH_AHEAD, tenth)


def _take_lease(account: RingAccount, *, now: datetime, lease: datetime) -> bool:
    """
    Take the right to send the refresh token. Notes before the call that its answer is open, for the call may kill us.

    A note that is there already stays as it is: it tells of an earlier call.
    """
    free = Q(refreshing_until__isnull=True) | Q(refreshing_until__lte=now)
    rows = RingAccount.objects.filter(free, pk=account.pk, tokens_obtained_at=account.tokens_obtained_at)
    open_since = Coalesce("refresh_unanswered_at", Value(now), output_field=DateTimeField())
    return rows.update(refreshing_until=lease, refresh_unanswered_at=open_since) == 1


def _refresh(account: RingAccount, *, config: RingConfig, may_linger: bool) -> str:
    """Exchange the refresh token and store the pair; the caller holds the lease."""
    generation, family = account.tokens_obtained_at, account.received_at
    if not account.refresh_token:
        _give_up(account, generation, reason="no_refresh_token")
        raise NotLinked("The access token ended, and there is no refresh token.")
    try:
        app = ring_app_of(account)
        with answers_recorded(app):
            pair = refresh_tokens(
                config=config,
                client_id=app.client_id,
                client_secret=app.client_secret,
                refresh_token=account.refresh_token,
            )
    except RefreshRejected as error:
        # Ring had the token once and may have rotated it then: the answer that was lost held the new one.
        reason = "refused" if account.refresh_unanswered_at is None else "answer_lost"
        if may_linger and _linger(account, generation, reason=reason):
            return account.access_token
        _give_up(account, generation, reason=reason)
        raise NotLinked("Ring refused the refresh token.", status=error.status, code=error.code) from error
    except (RingError, NotSetUp) as error:
        if not (isinstance(error, RingUnavailable) and error.ambiguous):
            _close_question(account, generation)
        if isinstance(error, ClientRejected):
            logger.error("Ring refused a tenant's client id or secret. tenant=%s", account.tenant_id)
        raise
    with transaction.atomic():
        row = RingAccount.objects.locked().filter(pk=account.pk).first()
        if row is not None and row.state == RingAccount.State.RELINK_REQUIRED and row.received_at == family:
            _bring_back(row, pair)
        elif row is None or not row.access_token:
            raise NotLinked("This Ring account was unlinked meanwhile.")
        elif row.tokens_obtained_at == generation:
            put_tokens(row, pair, now=timezone.now())
            row.save(update_fields=[*TOKEN_FIELDS, "refresh_unanswered_at"])
        # Else a new code brought newer tokens: those win (contract 2.4).
    account.refresh_from_db(fields=_REFRESH_FIELDS)
    return account.access_token


def _close_question(account: RingAccount, generation: datetime | None) -> None:
    """Ring refused before it did anything: unless an earlier call's answer is open, nothing is uncertain."""
    if account.refresh_unanswered_at is None:
        rows = RingAccount.objects.filter(pk=account.pk, tokens_obtained_at=generation)
        rows.update(refresh_unanswered_at=None)


def _linger(account: RingAccount, generation: datetime | None, *, reason: str) -> bool:
    """
    The refresh token is dead, but Ring has not refused the access token: drop the one and keep the other to its end.

    False when there is nothing to keep. A row without a refresh token ends in `relink_required` when its access token
    does: at the next call, or by the sweep in `accounts/tasks.py`.
    """
    now = timezone.now()
    with transaction.atomic():
        row = RingAccount.objects.locked().filter(pk=account.pk, tokens_obtained_at=generation).first()
        if row is None or row.access_expires_at is None or row.access_expires_at <= now:
            return False
        row.refresh_token = ""
        row.refresh_unanswered_at = None
        row.save(update_fields=["refresh_token", "refresh_unanswered_at"])
        audit(
            tenant=row.tenant,
            actor=None,
            action="link.refresh_refused",
            subject=about(row),
            about_person=row.user,
            reason=reason,
        )
    logger.warning(
        "Ring refused a refresh token; the access token is used to its end. account=%s reason=%s",
        account.public_id,
        reason,
    )
    account.refresh_from_db(fields=_REFRESH_FIELDS)
    return True


def _bring_back(row: RingAccount, pair: TokenPair) -> None:
    """
    relink_required → what it was: the pair another process gave up for lost has arrived after all. The row is locked.

    A link that was complete is linked again; any other goes back to wait for its person.
    """
    put_tokens(row, pair, now=timezone.now())
    is_complete = row.linked_at is not None and (row.claimed_at is None or row.linked_at >= row.claimed_at)
    row.state = RingAccount.State.LINKED if is_complete else RingAccount.State.UNCLAIMED
    if row.linked_at is None:
        row.user = None
    row.save()
    audit(tenant=row.tenant, actor=None, action="link.tokens_recovered", subject=about(row))


def _give_up(account: RingAccount, generation: datetime | None, *, reason: str) -> None:
    """
    Ring refuses these tokens for good: forget them, and have the person link again.

    `reason` for the trail: `refused` (withdrawn or too old), `answer_lost` (an earlier answer never reached us, so
    the token we hold may have been replaced then), `no_refresh_token`. Does nothing when newer tokens came meanwhile. A
    row nobody owns, whose account id is unknown, goes away.
    """
    with transaction.atomic():
        row = RingAccount.objects.locked().filter(pk=account.pk).first()
        if row is None or row.tokens_obtained_at != generation:
            return
        if row.state == RingAccount.State.RECEIVED:
            row.delete()
            return
        erase_tokens(row)
        row.state = RingAccount.State.RELINK_REQUIRED
        row.next_attempt_at = None
        row.save()
        audit(
            tenant=row.tenant,
            actor=None,
            action="link.relink_required",
            subject=about(row),
            about_person=row.user,
            reason=reason,
        )
    logger.warning("Ring refused a refresh token. account=%s reason=%s", account.public_id, reason)
