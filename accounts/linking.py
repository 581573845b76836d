"""
One-way account linking, contract 2: from Ring's code to a linked account.

    received --users/me--> unclaimed --claim--> claiming --POST--> awaiting --PATCH--> linked

Every arrow is one function here. Each takes the row's lock, changes the row only when it still is where the
function left it, writes an audit entry, and may be run twice. Remote calls lie between the transactions, so a process
that dies between any two of them leaves a row that says what comes next; its lease lapses (`next_attempt_at`), and
the sweep in `accounts/tasks.py` goes on from there.

**Where the nonce is checked:** `find_match`, below.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts import erasure, signals
from accounts.audit import about, audit
from accounts.limits import is_allowed
from accounts.models import Membership, RingAccount, RingApp, Role, Tenant, User
from accounts.refusals import LinkRefused, Refusal
from accounts.ring_app import answers_recorded
from accounts.tokens import (
    TOKEN_FIELDS,
    NotLinked,
    NotSetUp,
    impatient,
    put_tokens,
    ring_config,
    token_client,
)
from ring.client import RingClient
from ring.config import RingConfig
from ring.documents import User as RingUser
from ring.errors import (
    InvalidNonce,
    RingForbidden,
    RingNotFound,
    RingRejected,
    RingUnauthorized,
)
from ring.nonce import (
    WINDOW_MS,
    FutureNonce,
    LinkQuery,
    NonceError,
    StaleNonce,
    check_freshness,
    nonce_matches,
)
from ring.oauth import exchange_code
from ring.timestamps import to_epoch_ms

logger = logging.getLogger(__name__)

State = RingAccount.State

LINKING = (State.RECEIVED, State.CLAIMING, State.AWAITING)
"""The states in which there is something for us to do."""

INLINE_LEASE = timedelta(seconds=30)
"""How long the request that began the work may take it further before the sweep does."""

NONCE_WINDOW = timedelta(milliseconds=WINDOW_MS)

IDENTIFIER_CHARS = 64  # contract 18 row 37: Ring's own limit is not documented

REASONS_A_MINUTE = 20
"""How often one person is told in a minute why a link fits nothing that waits; then only that it does not."""

_INVALID_TRANSITION = "invalid status transition"  # contract 2.9

# Ring's final word: the same request will get the same answer. Everything else is worth another try.
_FINAL = (RingRejected, RingForbidden, RingNotFound, RingUnauthorized)


class _Overtaken(Exception):
    """While we asked Ring, somebody else moved the row (a new code, an unlink): our answer is about the past."""


# --- the code (contract 2.2 to 2.4) -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Beginning:
    """What we know of a link that began here (contract 3.2): who began it, and what proves that it was this browser."""

    person: User
    code_verifier: str = field(repr=False)
    redirect_uri: str


def receive_code(
    *, tenant: Tenant, code: str, now: datetime, beginning: Beginning | None = None
) -> RingAccount:
    """
    Exchange Ring's one-time code, once, store the tokens, and find out whose they are.

    Gives the row: `unclaimed`, or still `received` when users/me failed (a task asks again; the code is never
    replayed). Raises NotSetUp, and what `exchange_code` raises; then nothing is stored.
    """
    app = RingApp.objects.filter(tenant=tenant).first()
    if app is None:
        raise NotSetUp("This tenant has no Ring app credentials.")
    config = impatient(ring_config())
    with answers_recorded(app):
        pair = exchange_code(
            config=config,
            client_id=app.client_id,
            client_secret=app.client_secret,
            code=code,
            code_verifier=beginning.code_verifier if beginning else "",
            redirect_uri=beginning.redirect_uri if beginning else "",
        )
    account = RingAccount(
        tenant=tenant,
        user=beginning.person if beginning else None,
        partner_initiated=beginning is not None,
        received_at=now,
        attempts=1,
        next_attempt_at=now + INLINE_LEASE,
    )
    # Counted from before the call: a token is never taken for longer-lived than it is.
    put_tokens(account, pair, now=now)
    with transaction.atomic():
        account.save()
        audit(tenant=tenant, actor=account.user, action="link.code_received", subject=about(account))
    return account


def identify(account: RingAccount, *, config: RingConfig) -> RingAccount:
    """
    received → unclaimed: ask Ring whose tokens these are, and put them into that account's one row.

    When there is a row already the newer tokens win and the received one goes; a linked row goes back to `unclaimed`
    too, for Ring wants its link confirmed anew, and keeps its person, to whom its history belongs (contract 2.4,
    2.10). Raises RingError, whatever it is to be tried again: these tokens cannot be had a second time. Only when
    Ring refuses to refresh them (LinkRefused) they are worth nothing, and the received row is gone.
    """
    ring_user = _whose_tokens(account, config=config)
    with transaction.atomic():
        received, known = _received_and_known(account, ring_user)
        if known is not None and _has_newer_tokens(known, received):
            received.delete()
            return known
        row = received if known is None else _move_tokens(received, to=known)
        _back_to_pool(row)
        row.partner_initiated = False
        row.ring_id = ring_user.account_id
        row.first_name = ring_user.first_name[:100]
        row.email = ring_user.email
        row.save()
        audit(
            tenant=row.tenant, actor=None, action="link.unclaimed", subject=about(row), about_person=row.user
        )
    return row


def claim_begun_here(account: RingAccount, *, config: RingConfig) -> RingAccount:
    """
    received → awaiting, for a link that began here: no nonce and no POST, for we know who began it (contract 3.2).

    The account's one row takes the tokens over, whatever state it was in, unless it is somebody else's. Raises RingError
    (try later) or LinkRefused (the received row and its tokens are gone).
    """
    ring_user = _whose_tokens(account, config=config)
    refusal: Refusal | None = None
    try:
        with transaction.atomic():
            now = timezone.now()
            is_being_erased = account.user is not None and _is_being_erased(account.tenant, account.user, now)
            received, known = _received_and_known(account, ring_user)
            person = received.user
            if person is None:  # deleted meanwhile
                refusal = Refusal.NO_MATCH
            elif is_being_erased:
                refusal = Refusal.BEING_DELETED
            elif known is not None and known.user_id not in (None, person.pk):
                refusal = Refusal.SOMEONE_ELSE
            if refusal is not None or person is None:
                received.delete()
            else:
                row = received if known is None else _move_tokens(received, to=known)
                row.state = State.AWAITING
                row.user = person
                row.partner_initiated = True
                row.ring_id = ring_user.account_id
                row.first_name = ring_user.first_name[:100]
                row.account_identifier = masked(person.email)
                row.claim_nonce = row.email = row.last_error = ""
                row.claimed_at, row.consent_at = now, row.received_at
                row.refreshing_until = None
                row.attempts, row.next_attempt_at = 1, now + INLINE_LEASE
                row.save()
                _make_customer(row.tenant, person)
                audit(tenant=row.tenant, actor=person, action="link.claimed", subject=about(row))
                signals.ring_account_claimed.send(sender=RingAccount, account=row)
    except IntegrityError:
        # The database's own promise: a Ring account is claimed once in the whole installation.
        RingAccount.objects.filter(pk=account.pk, state=State.RECEIVED).delete()
        refusal = Refusal.ELSEWHERE
    if refusal is not None:
        # A person who is being deleted gets no new entry, which would name them again.
        raise LinkRefused(refusal, audited=refusal == Refusal.BEING_DELETED)
    return row


def _is_being_erased(tenant: Tenant, person: User, now: datetime) -> bool:
    """
    Within the transaction that claims: no deletion of the person begins before it ends.

    Else one could find half of a link: an account without its person, whose tokens nobody deletes any more.
    """
    erasure.hold(person)
    return erasure.is_being_erased(tenant=tenant, user=person, now=now)


def _whose_tokens(account: RingAccount, *, config: RingConfig) -> RingUser:
    """Ask users/me. Raises RingError; LinkRefused when the tokens are worth nothing."""
    try:
        with token_client(account, config=config) as client:
            return client.me()
    except NotLinked as error:
        raise LinkRefused(Refusal.LINK_AGAIN) from error


def _received_and_known(account: RingAccount, ring_user: RingUser) -> tuple[RingAccount, RingAccount | None]:
    """Lock the received row, and the row the tenant has for this Ring account already. Raises _Overtaken."""
    received = RingAccount.objects.locked().filter(pk=account.pk, state=State.RECEIVED).first()
    if received is None:
        raise _Overtaken
    known = (
        RingAccount.objects.locked().filter(tenant=account.tenant_id, ring_id=ring_user.account_id).first()
    )
    return received, known


def _has_newer_tokens(known: RingAccount, received: RingAccount) -> bool:
    """
    Tell whether a later code has been here already (two codes whose users/me were answered out of order).

    By when the code came, not by when the tokens were refreshed last: a refresh makes an old link's tokens no newer.
    """
    return known.tokens_obtained_at is not None and known.received_at > received.received_at


def _move_tokens(received: RingAccount, *, to: RingAccount) -> RingAccount:
    """Take the received row's tokens over (decrypted for one place, encrypted for the other) and delete it."""
    for name in (*TOKEN_FIELDS, "received_at"):
        setattr(to, name, getattr(received, name))
    to.refresh_unanswered_at = received.refresh_unanswered_at
    received.delete()
    return to


def _back_to_pool(row: RingAccount, *, reason: str = "") -> None:
    """Set an instance to `unclaimed`, not yet saved. Its person stays only when it was linked to them before."""
    row.state = State.UNCLAIMED
    if row.linked_at is None:
        row.user = None
    row.claim_nonce = ""
    row.claimed_at = None
    row.refreshing_until = None
    row.attempts = 0
    row.next_attempt_at = None
    row.last_error = reason


# --- the claim (contract 2.5 to 2.7) ------------------------------------------------------------------------------


def check_link(*, tenant: Tenant, query: LinkQuery, now: datetime) -> None:
    """
    Raise LinkRefused when the link is older than 600 s or more than 5 s ahead of our clock (contract 2.6).

    Also when the tenant has no key to check it with. Says nothing about whose link it is: `find_match` does.
    """
    if not RingApp.objects.filter(tenant=tenant).exists():
        raise LinkRefused(Refusal.NOT_SET_UP)
    try:
        check_freshness(time_ms=query.time_ms, now_ms=to_epoch_ms(now))
    except StaleNonce:
        raise LinkRefused(Refusal.STALE) from None
    except FutureNonce:
        raise LinkRefused(Refusal.FUTURE) from None
    except NonceError:
        raise LinkRefused(Refusal.MALFORMED) from None


def find_match(*, tenant: Tenant, query: LinkQuery) -> RingAccount | None:
    """
    The tenant's unclaimed Ring account whose nonce this is; None when there is none. Changes nothing.

    All unclaimed rows are tried, filtered by state alone: nothing else is known of the account at this moment, and an
    access token that ended is no reason to leave a row out (contract 2.4). Says nothing about the link's age.
    """
    return _find_nonce_owner(
        tenant, query, RingAccount.objects.for_tenant(tenant).filter(state=State.UNCLAIMED)
    )


def find_own_claim(*, tenant: Tenant, user: User, query: LinkQuery) -> RingAccount | None:
    """
    The account of this nonce when this very person has claimed it already.

    A second click, or Sign In tapped again in the Ring app while the link is still being finished.
    """
    own = RingAccount.objects.for_tenant(tenant).filter(user=user, state__in=RingAccount.CLAIMED)
    return _find_nonce_owner(tenant, query, own)


def renew_claim(*, account: RingAccount, query: LinkQuery, now: datetime) -> RingAccount:
    """
    claiming → claiming: its person came from Ring once more, so Ring's POST gets the younger nonce.

    The first one may have run out while Ring could not be reached. An answer to it that is still on its way is about
    the past from here on. Changes nothing in any other state.
    """
    with transaction.atomic():
        row = RingAccount.objects.locked().get(pk=account.pk)
        if row.state == State.CLAIMING and row.user_id == account.user_id and row.claim_nonce != query.nonce:
            row.claim_nonce = query.nonce
            row.claimed_at = now
            row.save(update_fields=["claim_nonce", "claimed_at"])
            audit(tenant=row.tenant, actor=row.user, action="link.claim_renewed", subject=about(row))
    return row


def why_no_match(*, tenant: Tenant, user: User, query: LinkQuery, now: datetime) -> Refusal:
    """
    Say why no account in the pool has this nonce, as far as this tenant's own rows tell.

    Whoever brings an account's nonce comes from that account at Ring, so may know how it stands here; not whose it is.
    """
    if _is_code_on_its_way(tenant, now=now):
        return Refusal.NOT_YET
    # Every row of the tenant is tried, not only those that wait: not something to be asked for in a loop.
    if not is_allowed(f"why_no_match:{user.pk}", limit=REASONS_A_MINUTE, window_s=60):
        return Refusal.NO_MATCH
    rows = RingAccount.objects.for_tenant(tenant).exclude(state=State.UNCLAIMED).exclude(ring_id="")
    known = _find_nonce_owner(tenant, query, rows)
    if known is None:
        return Refusal.NO_MATCH
    if known.state not in RingAccount.CLAIMED:
        return (
            Refusal.LINK_AGAIN
        )  # its tokens are gone, and Ring gives new ones only to a new link (contract 2.10)
    return Refusal.ALREADY_LINKED if known.user_id == user.pk else Refusal.SOMEONE_ELSE


def _find_nonce_owner(tenant: Tenant, query: LinkQuery, rows: "QuerySet[RingAccount]") -> RingAccount | None:
    app = RingApp.objects.filter(tenant=tenant).first()
    if app is None:
        return None
    keys = app.signing_keys
    matches = [
        pk
        for pk, ring_id in rows.values_list("pk", "ring_id")
        if nonce_matches(nonce=query.nonce, keys=keys, time_ms=query.time_ms, account_id=ring_id)
    ]
    return RingAccount.objects.filter(pk=matches[0]).first() if len(matches) == 1 else None


def claim(*, tenant: Tenant, user: User, query: LinkQuery, now: datetime) -> RingAccount:
    """
    unclaimed → claiming: this person proved, by the nonce, that the Ring account is theirs.

    One UPDATE decides, so of two people with the same link exactly one wins. Makes the person a customer of the tenant
    when they are nothing there yet. The caller holds the lease and calls `drive`. Raises LinkRefused.
    """
    check_link(tenant=tenant, query=query, now=now)
    match = find_match(tenant=tenant, query=query)
    if match is None:
        raise LinkRefused(why_no_match(tenant=tenant, user=user, query=query, now=now))
    if match.user_id not in (None, user.pk):
        raise LinkRefused(Refusal.SOMEONE_ELSE)
    try:
        with transaction.atomic():
            if _is_being_erased(tenant, user, now):
                raise LinkRefused(Refusal.BEING_DELETED, audited=True)
            won = RingAccount.objects.filter(
                Q(user__isnull=True) | Q(user=user), pk=match.pk, state=State.UNCLAIMED
            ).update(
                state=State.CLAIMING,
                user=user,
                claimed_at=now,
                account_identifier=masked(user.email),
                attempts=1,
                next_attempt_at=now + INLINE_LEASE,
                last_error="",
            )
            if not won:
                raise LinkRefused(Refusal.SOMEONE_ELSE)
            account = RingAccount.objects.select_related("tenant").get(pk=match.pk)
            account.claim_nonce = query.nonce  # encrypted, so only an instance can write it
            account.save(update_fields=["claim_nonce"])
            _make_customer(tenant, user)
            audit(tenant=tenant, actor=user, action="link.claimed", subject=about(account), about_person=user)
            signals.ring_account_claimed.send(sender=RingAccount, account=account)
    except IntegrityError:
        # The database's own promise: a Ring account is claimed once in the whole installation (contract 18 row 35).
        raise LinkRefused(Refusal.ELSEWHERE) from None
    return account


def _make_customer(tenant: Tenant, user: User) -> None:
    """Unless they are more than that. A guest with a home of their own is a customer: what was given to them stays theirs."""
    Membership.objects.get_or_create(tenant=tenant, user=user, defaults={"role": Role.CUSTOMER})
    Membership.objects.filter(tenant=tenant, user=user, role=Role.GUEST).update(role=Role.CUSTOMER)


def _is_code_on_its_way(tenant: Tenant, *, now: datetime) -> bool:
    """True when tokens arrived lately whose Ring account we could not ask for yet."""
    rows = RingAccount.objects.for_tenant(tenant)
    return rows.filter(state=State.RECEIVED, received_at__gt=now - NONCE_WINDOW).exists()


def masked(email: str) -> str:
    """What the Ring user is shown of the portal account: `a***a@example.com`, ASCII, at most 64 characters."""
    local, _, domain = email.partition("@")
    ends = [char if char.isascii() and char.isalnum() else "*" for char in (local[:1], local[-1:])]
    try:
        host = domain.encode("idna").decode("ascii")
    except UnicodeError:
        host = "***"
    head = f"{ends[0]}***{ends[1]}@" if len(local) > 2 else f"{ends[0]}***@"
    room = IDENTIFIER_CHARS - len(head)
    return head + (host if len(host) <= room else "***" + host[-(room - 3) :])


# --- telling Ring (contract 2.8, 2.9) -----------------------------------------------------------------------------


def confirm(account: RingAccount, *, config: RingConfig) -> RingAccount:
    """
    claiming → awaiting: POST app-integrations with the claim's nonce.

    An earlier attempt may have reached Ring although we saw no answer. So the same nonce is sent again while it is
    fresh, and when Ring then calls it invalid, or it is too old to send, the PATCH decides (contract 2.8 [inferred]).
    Raises RingError (try later) or LinkRefused (the claim was given back).
    """
    assert account.claimed_at is not None  # noqa: S101 - a claiming row was claimed
    tried_before = account.attempts > 1
    if tried_before and timezone.now() - account.claimed_at > NONCE_WINDOW:
        return complete(account, config=config)
    try:
        with token_client(account, config=config) as client:
            client.confirm_integration(
                nonce=account.claim_nonce, account_identifier=account.account_identifier or None
            )
    except InvalidNonce as error:
        if tried_before:
            return complete(account, config=config)
        raise _give_back(account, error) from error
    except _FINAL as error:
        raise _give_back(account, error) from error
    with transaction.atomic():
        row = _locked(account)
        row.state = State.AWAITING
        row.consent_at = row.received_at
        row.claim_nonce = ""
        row.attempts = 1
        row.next_attempt_at = timezone.now() + INLINE_LEASE
        row.save()
        audit(
            tenant=row.tenant,
            actor=row.user,
            action="link.confirmed",
            subject=about(row),
            about_person=row.user,
        )
    return row


def complete(account: RingAccount, *, config: RingConfig) -> RingAccount:
    """
    awaiting → linked: PATCH app-integrations to `completed`, without which nothing works (contract 2.9).

    Repeated until it succeeds. Raises RingError (try later) or LinkRefused (the claim was given back).
    """
    try:
        with token_client(account, config=config) as client:
            identifier = account.account_identifier if account.partner_initiated else ""
            _complete_at_ring(client, is_confirmed=account.state == State.AWAITING, identifier=identifier)
    except _FINAL as error:
        raise _give_back(account, error) from error
    with transaction.atomic():
        return _set_linked(_locked(account), now=timezone.now())


def _complete_at_ring(client: RingClient, *, is_confirmed: bool, identifier: str = "") -> None:
    """
    PATCH to `completed`, and see through "Invalid Status Transition", which means one of two things [inferred].

    `completed` already: an earlier PATCH arrived and its answer was lost. That is certain once the POST was answered
    (`is_confirmed`). Else the link may not have been confirmed at all, and a PATCH back to `awaiting` tells: a completed
    link takes it (contract 2.9), one that still waits for its POST does not. `identifier` is what the Ring user is shown,
    where no POST has said it. Raises RingError.
    """
    try:
        client.update_integration(status="completed", account_identifier=identifier or None)
    except RingRejected as error:
        if not _is_invalid_transition(error):
            raise
        if not is_confirmed:
            client.update_integration(status="awaiting")
            client.update_integration(status="completed")
        logger.warning("Ring had completed a link already.")


def _set_linked(row: RingAccount, *, now: datetime) -> RingAccount:
    """The last arrow; the row is locked."""
    if row.state == State.CLAIMING:
        row.consent_at = row.received_at
    row.state = State.LINKED
    row.linked_at = now
    row.claim_nonce = ""
    row.email = ""  # served to fill in the sign-up form; not needed any more
    row.attempts = 0
    row.next_attempt_at = None
    row.last_error = ""
    row.save()
    audit(tenant=row.tenant, actor=row.user, action="link.linked", subject=about(row), about_person=row.user)
    signals.ring_account_linked.send(sender=RingAccount, account=row)
    return row


def confirm_link_from_ring(
    account: RingAccount, now: datetime, *, happened_at: datetime | None = None
) -> None:
    """
    Ring says the link is complete (`app_integration_added`, contract 9): believe it when only our PATCH is open.

    In every other state it changes nothing: a webhook that comes late must not bring back what was undone. `happened_at`
    is Ring's own time of the news: when it lies before the claim, it speaks of an earlier link, and our PATCH goes on.
    """
    with transaction.atomic():
        row = RingAccount.objects.locked().get(pk=account.pk)
        is_late = happened_at is not None and row.claimed_at is not None and happened_at < row.claimed_at
        if row.state == State.AWAITING and not is_late:
            _set_linked(row, now=now)


def drive(account: RingAccount, *, config: RingConfig) -> RingAccount:
    """
    Take the account as far as it goes now, and give the row as it then is.

    The caller holds its lease (`receive_code` and `claim` give one, else `portal.work.take`). Raises RingError or
    NotSetUp when the next step has to be tried later, LinkRefused when there is none.
    """
    steps: dict[str, Callable[..., RingAccount]] = {
        State.RECEIVED: identify,
        State.CLAIMING: confirm,
        State.AWAITING: complete,
    }
    if account.partner_initiated:
        steps[State.RECEIVED] = claim_begun_here
    while (step := steps.get(account.state)) is not None:
        try:
            account = step(account, config=config)
        except _Overtaken:
            logger.info("A Ring account was moved by somebody else meanwhile. account=%s", account.public_id)
            return RingAccount.objects.filter(pk=account.pk).first() or account
        if step is identify:
            break  # the row it gives may be another one, in the hands of somebody else
    return account


def _locked(account: RingAccount) -> RingAccount:
    """
    Lock the row of a claim, for one transition. Raises _Overtaken when it is not where, or not the claim, we left.

    `claimed_at` tells one claim from the next: two never have the same.
    """
    row = RingAccount.objects.locked().filter(pk=account.pk).first()
    if row is None or row.state != account.state or row.claimed_at != account.claimed_at:
        raise _Overtaken
    return row


def _give_back(account: RingAccount, error: Exception) -> LinkRefused:
    """
    Ring's no is final: the row returns to the pool, whole, and the refusal says why. Give it to `raise`.

    Raises _Overtaken when somebody else has moved the row, or is at work on it, since we took it: the no is an answer to
    what they have done meanwhile (a nonce they used up, a link they completed). Only a refused refresh token stays a no.
    """
    if isinstance(error, NotLinked):
        reason = Refusal.LINK_AGAIN
    elif isinstance(error, InvalidNonce) or _is_invalid_transition(error):
        reason = Refusal.RING_NONCE
    elif isinstance(error, RingNotFound):
        reason = Refusal.NOT_INSTALLED
    else:
        reason = Refusal.RING_REFUSED
    with transaction.atomic():
        row = RingAccount.objects.locked().filter(pk=account.pk).first()
        actor = account.user
        is_ours = row is not None and (row.state, row.claimed_at, row.attempts) == (
            account.state,
            account.claimed_at,
            account.attempts,
        )
        if row is not None and is_ours:
            _back_to_pool(row, reason=reason)
            row.save()
        elif reason != Refusal.LINK_AGAIN:
            raise _Overtaken
        audit(
            tenant=account.tenant,
            actor=actor,
            action="link.refused",
            subject=about(account),
            about_person=actor,
            reason=str(reason),
            status=getattr(error, "status", None),
        )
    logger.warning("Ring refused a link. account=%s reason=%s", account.public_id, reason)
    return LinkRefused(reason, audited=True)


def _is_invalid_transition(error: Exception) -> bool:
    return isinstance(error, RingRejected) and error.title.lower() == _INVALID_TRANSITION
