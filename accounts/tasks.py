"""Linking that goes on by itself, tokens that stay fresh, and the sweeps that find what is due."""

import logging
from datetime import datetime, timedelta

from django.db import DatabaseError
from django.db.models import F, Q, QuerySet
from django.tasks import task
from django.utils import timezone

from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from crontask import cron

from accounts import ageing, audit, data_tasks, identifier, linking, lockout, relinking, unlinking  # noqa: F401 - data_tasks is found through here
from accounts.ageing import KEPT_FRESH
from accounts.models import RelinkNotice, RingAccount, User
from accounts.refusals import LinkRefused
from accounts.retrying import pause_after
from accounts.tokens import NotSetUp, fresh_access_token, ring_config
from portal.walls import enter_tenant_of
from portal.work import AHEAD, backoff, enqueue_after, enqueue_due, enqueue_missing, take
from ring.errors import RingError, RingRejected

logger = logging.getLogger(__name__)

State = RingAccount.State

LEASE = timedelta(minutes=2)
"""Longer than the calls of one attempt take; a killed worker's account is taken up again after it."""

REFRESH_EVERY = timedelta(hours=24)
LONGEST_PAUSE_S = 3600.0
REFRESH_RETRY = timedelta(hours=1)
"""How long an account whose refresh failed waits for its next try."""

SWEPT_AT_ONCE = 500


@task
def continue_linking(account_id: int) -> None:
    """Take one account's linking further; when Ring does not answer, once more after a pause, until it does."""
    now = timezone.now()
    account = take(RingAccount.objects.filter(state__in=linking.LINKING), account_id, now=now, lease=LEASE)
    if account is None:
        return
    at_work(account)
    try:
        linking.drive(account, config=ring_config())
    except LinkRefused as refused:
        logger.warning("A link was refused. account=%s reason=%s", account.public_id, refused.reason)
    except (RingError, NotSetUp) as error:
        try_later(account, error=error, now=timezone.now())


def at_work(account: RingAccount) -> None:
    """Say that an attempt is under way: a row that waits for its next one carries the last one's error."""
    account.last_error = ""
    account.save(update_fields=["last_error"])


def try_later(account: RingAccount, *, error: RingError | NotSetUp, now: datetime) -> None:
    """Give the lease back and have a task try again after a pause: Ring's own when it names one, else growing."""
    row = RingAccount.objects.filter(pk=account.pk, state__in=linking.LINKING).first()
    if row is None:
        return
    pause = backoff(row.attempts)
    if isinstance(error, RingError) and error.retry_after_s is not None:
        pause = max(pause, timedelta(seconds=error.retry_after_s))
    logger.warning(
        "Linking waits for Ring. account=%s state=%s error=%s attempt=%s",
        row.public_id,
        row.state,
        type(error).__name__,
        row.attempts,
    )
    row.retry_later(now=now, error=type(error).__name__, pause=pause)
    enqueue_after(continue_linking, row.pk, now + pause)


@task
def refresh_account(account_id: int) -> None:
    """The daily refresh of one account's tokens, or their end; nothing to do when they were refreshed meanwhile."""
    now = timezone.now()
    enter_tenant_of(RingAccount, account_id)
    account = (_stale(now) | _ended(now)).filter(pk=account_id).first()
    if account is None:
        return
    RingAccount.objects.filter(pk=account.pk).update(refresh_tried_at=now)
    try:
        fresh_access_token(account, force=True)
    except (RingError, NotSetUp) as error:
        logger.warning(
            "Tokens were not refreshed. account=%s error=%s", account.public_id, type(error).__name__
        )


def _stale(now: datetime) -> QuerySet[RingAccount]:
    rows = RingAccount.objects.filter(state__in=KEPT_FRESH, tokens_obtained_at__lt=now - REFRESH_EVERY)
    return rows.exclude(refresh_token="")


def _ended(now: datetime) -> QuerySet[RingAccount]:
    """Accounts that lived on their access token alone, and it ended: somebody has to be told to link again."""
    return RingAccount.objects.filter(state__in=KEPT_FRESH, refresh_token="", access_expires_at__lte=now)


@cron(IntervalTrigger(seconds=5))  # type: ignore[untyped-decorator]  # crontask has no types
@task(priority=AHEAD)
def sweep_linking() -> None:
    """Whatever is due in linking and lost its task gets a new one."""
    enqueue_due(RingAccount.objects.filter(state__in=linking.LINKING), continue_linking, now=timezone.now())


@cron(IntervalTrigger(minutes=10))  # type: ignore[untyped-decorator]  # crontask has no types
@task(priority=AHEAD)
def sweep_refresh() -> None:
    """
    Every token is refreshed once a day, so that none reaches its thirtieth (contract 4).

    Those that were tried longest ago come first: a tenant whose credentials Ring refuses must not use up the places of
    all others.
    """
    now = timezone.now()
    waited = Q(refresh_tried_at__isnull=True) | Q(refresh_tried_at__lt=now - REFRESH_RETRY)
    rows = (_stale(now) | _ended(now)).filter(waited)
    rows = rows.order_by(F("refresh_tried_at").asc(nulls_first=True), "tokens_obtained_at")
    enqueue_missing(rows.values_list("pk", flat=True), refresh_account, limit=SWEPT_AT_ONCE)


@cron(CronTrigger(hour=6))  # type: ignore[untyped-decorator]  # crontask has no types
@task(priority=AHEAD)
def report_ageing() -> None:
    """Tokens that cannot be renewed are told of long before they die."""
    ageing.report_ageing(now=timezone.now())


@cron(IntervalTrigger(hours=1))  # type: ignore[untyped-decorator]  # crontask has no types
@task(priority=AHEAD)
def sweep_unclaimed() -> None:
    """Tokens nobody claimed do not stay."""
    count = unlinking.forget_unclaimed(now=timezone.now())
    if count:
        logger.info("Forgot Ring accounts nobody claimed. accounts=%s", count)


@cron(IntervalTrigger(seconds=5))  # type: ignore[untyped-decorator]  # crontask has no types
@task(priority=AHEAD)
def sweep_audit() -> None:
    """Entries whose process died before it could chain them."""
    audit.chain_all()


@task
def send_lockout_mail(user_id: int) -> None:
    """The mail to one person whose sign-in is locked."""
    person = User.objects.filter(pk=user_id).first()
    if person is not None:
        lockout.send_mail_to(person)


@task
def send_relink_notice(notice_id: int) -> None:
    """The mail to one person whose link broke, if it is due."""
    now = timezone.now()
    rows = RelinkNotice.objects.all()
    notice = take(rows, notice_id, now=now, lease=relinking.LEASE)
    if notice is not None:
        relinking.send_notice(notice, now=now)


@cron(IntervalTrigger(minutes=1))  # type: ignore[untyped-decorator]  # crontask has no types
@task(priority=AHEAD)
def sweep_relink_notices() -> None:
    """Whoever has to link again hears of it."""
    now = timezone.now()
    relinking.plan_notices(now=now)
    enqueue_due(RelinkNotice.objects.all(), send_relink_notice, now=now)


@task
def tell_identifier(account_id: int) -> None:
    """Tell Ring one account's new masked address; when Ring does not answer, once more after a pause."""
    account = take(identifier.linked(), account_id, now=timezone.now(), lease=identifier.LEASE)
    if account is None:
        return
    try:
        identifier.tell_identifier(account)
    except (RingError, NotSetUp) as error:
        name = type(error).__name__
        logger.warning("Ring was not told a new address. account=%s error=%s", account.public_id, name)
        pause = pause_after(error, attempts=account.attempts, every=REFRESH_EVERY, longest_s=LONGEST_PAUSE_S)
        again_at = None if pause is None else timezone.now() + pause
        # Not for Ring's no to the words themselves: the next change of the address says others.
        if isinstance(error, RingRejected):
            again_at = None
        identifier.linked().filter(pk=account.pk).update(next_attempt_at=again_at, last_error=name)
        if again_at is not None:
            enqueue_after(tell_identifier, account.pk, again_at)


@cron(IntervalTrigger(minutes=1))  # type: ignore[untyped-decorator]  # crontask has no types
@task(priority=AHEAD)
def sweep_identifiers() -> None:
    """No lost task leaves an old address at Ring."""
    enqueue_due(identifier.linked(), tell_identifier, now=timezone.now())


@task
def erase_history(account_id: int) -> None:
    """Erase what is kept of one account whose link ended, where its tenant wants that."""
    rows = unlinking.history_to_erase().select_related("tenant", "user")
    account = take(rows, account_id, now=timezone.now(), lease=unlinking.ERASE_LEASE)
    if account is None:
        return
    try:
        unlinking.erase_history(account)
    except (OSError, DatabaseError) as error:
        name, now = type(error).__name__, timezone.now()
        logger.error("A history was not erased. account=%s error=%s", account.public_id, name)
        again_at = now + backoff(account.attempts)
        unlinking.history_to_erase().filter(pk=account.pk).update(next_attempt_at=again_at, last_error=name)
        enqueue_after(erase_history, account.pk, again_at)


@cron(IntervalTrigger(seconds=5))  # type: ignore[untyped-decorator]  # crontask has no types
@task(priority=AHEAD)
def sweep_ended_links() -> None:
    """What is to be erased is, whoever died meanwhile."""
    enqueue_due(unlinking.history_to_erase(), erase_history, now=timezone.now())
