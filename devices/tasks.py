"""Syncing that goes on by itself: at once after linking, then regularly, and after a failure when Ring is back."""

import logging
import random
from datetime import timedelta
from typing import Final

from django.tasks import task
from django.utils import timezone

from apscheduler.triggers.interval import IntervalTrigger
from crontask import cron

from accounts.models import RingAccount
from accounts.retrying import pause_after
from accounts.services import NotSetUp, client_for
from devices import plans, services
from devices.models import AccountSync
from portal.walls import across_tenants, enter_tenant_of, tenant_scope
from portal.work import AHEAD, backoff, enqueue_after, enqueue_missing, take
from ring.client import RingClient
from ring.errors import RingError, RingForbidden, RingUnauthorized

logger = logging.getLogger(__name__)

EVERY: Final = timedelta(minutes=15)
# Longer than the pages of one list may take; a killed worker's account is taken up again after it.
LEASE: Final = timedelta(minutes=2)
# A task enqueued with its row is a moment away; what is due for longer has lost its task.
LOST_AFTER: Final = timedelta(seconds=15)
LONGEST_PAUSE_S: Final = 900.0
# One device that Ring does not answer for is left to the regular sync of its account after so many attempts.
MAX_DEVICE_ATTEMPTS: Final = 6


@task
def sync_account_devices(account_id: int) -> None:
    """
    Sync one account's devices if that is due, and plan the next time.

    A failure is tried again after a pause (Ring's own when it names one), for as long as the account is linked; when
    it is not, or Ring refuses its tokens, syncing ends quietly: linking again begins anew.
    """
    now = timezone.now()
    enter_tenant_of(RingAccount, account_id)
    row = AccountSync.objects.filter(ring_account=account_id).first()
    if row is None:
        account = RingAccount.objects.filter(pk=account_id, state__in=_LIVE).first()
        if account is None:
            return
        row, _ = AccountSync.objects.get_or_create(
            ring_account=account, defaults={"tenant_id": account.tenant_id, "next_attempt_at": now}
        )
    rows = AccountSync.objects.select_related("ring_account__tenant")
    sync = take(rows, row.pk, now=now, lease=LEASE)
    if sync is not None:
        _attempt(sync)


_LIVE = (RingAccount.State.AWAITING, RingAccount.State.LINKED)


def _attempt(sync: AccountSync) -> None:
    account = sync.ring_account
    began_at = timezone.now()
    try:
        with client_for(account) as client:
            try:
                services.sync_devices(account=account, client=client, now=began_at)
            except RingForbidden:
                # Most often a plan that ended: Ring may still say so of the subscription.
                _read_plans(account, client)
                raise
            _read_plans(account, client)
    except (RingError, NotSetUp) as error:
        logger.warning(
            "Devices were not synced. account=%s error=%s attempt=%s",
            account.public_id,
            type(error).__name__,
            sync.attempts,
        )
        _plan_retry(sync, error)
        return
    for ring_id in services.absent_devices(account):
        sync_one_device.enqueue(account.pk, ring_id)
    # Spread, so that accounts linked in one hour do not all ask in one second for ever.
    pause = EVERY * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load, guards nothing
    now = timezone.now()
    # Only while the lease is ours: whoever asked for a sync meanwhile gets it.
    AccountSync.objects.filter(pk=sync.pk, next_attempt_at=sync.next_attempt_at).update(
        next_attempt_at=now + pause, attempts=0, last_error="", tried_at=now
    )


def _read_plans(account: RingAccount, client: RingClient) -> None:
    """Beside the devices, which are in already: where Ring does not answer, the next sync asks again."""
    try:
        plans.read_plans(account=account, client=client, now=timezone.now())
    except RingUnauthorized:
        raise
    except RingError as error:
        logger.warning("Plans were not read. account=%s error=%s", account.public_id, type(error).__name__)


def _plan_retry(sync: AccountSync, error: RingError | NotSetUp) -> None:
    now = timezone.now()
    pause = pause_after(error, attempts=sync.attempts, every=EVERY, longest_s=LONGEST_PAUSE_S)
    again_at = None if pause is None else now + pause
    ours = AccountSync.objects.filter(pk=sync.pk, next_attempt_at=sync.next_attempt_at)
    if (
        ours.update(next_attempt_at=again_at, last_error=type(error).__name__, tried_at=now)
        and again_at is not None
    ):
        enqueue_after(sync_account_devices, sync.ring_account_id, again_at)


@task
def sync_one_device(account_id: int, ring_id: str, attempt: int = 1) -> None:
    """
    Ask Ring about one device: a new one comes in, one that is gone is stamped.

    Tried a few times with growing pauses; after that the account's regular sync brings the news.
    """
    enter_tenant_of(RingAccount, account_id)
    account = RingAccount.objects.select_related("tenant").filter(pk=account_id).first()
    if account is None:
        return
    began_at = timezone.now()
    try:
        with client_for(account) as client:
            services.sync_device(account=account, client=client, ring_id=ring_id, now=began_at)
    except RingUnauthorized:
        return
    except (RingError, NotSetUp) as error:
        logger.warning(
            "A device was not synced. account=%s error=%s attempt=%s",
            account.public_id,
            type(error).__name__,
            attempt,
        )
        if (
            isinstance(error, RingError)
            and not isinstance(error, RingForbidden)
            and attempt < MAX_DEVICE_ATTEMPTS
        ):
            pause = max(backoff(attempt), timedelta(seconds=error.retry_after_s or 0))
            sync_one_device.using(run_after=timezone.now() + pause).enqueue(account_id, ring_id, attempt + 1)


@task
def sync_plans(account_id: int, attempt: int = 1) -> None:
    """
    Read an account's subscriptions anew, because a webhook told of one.

    Tried as `sync_one_device` is; after that the account's regular sync brings the news.
    """
    enter_tenant_of(RingAccount, account_id)
    account = RingAccount.objects.select_related("tenant").filter(pk=account_id).first()
    if account is None:
        return
    began_at = timezone.now()
    try:
        with client_for(account) as client:
            plans.read_plans(account=account, client=client, now=began_at)
    except RingUnauthorized:
        return
    except (RingError, NotSetUp) as error:
        logger.warning(
            "Plans were not read. account=%s error=%s attempt=%s",
            account.public_id,
            type(error).__name__,
            attempt,
        )
        if isinstance(error, RingError) and attempt < MAX_DEVICE_ATTEMPTS:
            pause = max(backoff(attempt), timedelta(seconds=error.retry_after_s or 0))
            sync_plans.using(run_after=timezone.now() + pause).enqueue(account_id, attempt + 1)


@cron(IntervalTrigger(seconds=15))  # type: ignore[untyped-decorator]  # crontask has no types
@task(priority=AHEAD)
def sweep_device_syncs() -> None:
    """Every linked account is synced regularly, and none is lost with its task."""
    _adopt_accounts()
    due = AccountSync.objects.filter(next_attempt_at__lte=timezone.now() - LOST_AFTER)
    account_ids = due.order_by("next_attempt_at").values_list("ring_account_id", flat=True)
    enqueue_missing(account_ids, sync_account_devices)


def _adopt_accounts() -> None:
    """Linked accounts nobody planned a sync for get one: none is forgotten whatever way it came to be linked."""
    linked = RingAccount.objects.filter(state=RingAccount.State.LINKED, device_sync__isnull=True)
    with across_tenants("the sweeps find what is due, whichever tenant's it is"):
        accounts = list(linked.order_by("pk")[:500])
    for account in accounts:
        with tenant_scope(account.tenant_id):
            services.plan_sync(account=account, now=timezone.now())
