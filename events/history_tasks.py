"""Histories are read regularly, so that an outage of ours loses nothing that Ring still knows."""

import logging
import random
from datetime import datetime, timedelta
from typing import Final

from django.tasks import task
from django.utils import timezone

from apscheduler.triggers.interval import IntervalTrigger
from crontask import cron

from accounts.models import RingAccount
from accounts.retrying import pause_after
from accounts.services import NotSetUp, client_for
from devices.models import Device
from devices.tasks import sync_one_device
from events import history
from events.models import HistoryReading
from portal.work import AHEAD, enqueue_after, enqueue_due, take
from ring.errors import RingError, RingNotFound

logger = logging.getLogger(__name__)

EVERY: Final = timedelta(minutes=15)
# Many pages may have to be read after a long outage; a killed worker's device is taken up again after it.
LEASE: Final = timedelta(minutes=5)
LOST_AFTER: Final = timedelta(seconds=15)
LONGEST_PAUSE_S: Final = 900.0


def plan_reading(*, device: Device, now: datetime) -> None:
    """A camera that Ring described just now gets its history read: the first time at once, then regularly."""
    if not device.has_video:
        return
    reading, is_new = HistoryReading.objects.get_or_create(
        device=device, defaults={"tenant_id": device.tenant_id, "next_attempt_at": now}
    )
    rows = HistoryReading.objects.filter(pk=reading.pk, next_attempt_at=None)
    if is_new or rows.update(next_attempt_at=now, attempts=0):
        read_history.enqueue(reading.pk)


def stop_readings(*, account: RingAccount) -> None:
    """Nothing of the account is due any more; the first sync after a new link plans it anew."""
    rows = HistoryReading.objects.filter(device__ring_account=account)
    rows.update(next_attempt_at=None, attempts=0, last_error="")


@task
def read_history(reading_id: int) -> None:
    """
    Fill the gaps of one device if that is due, and plan the next time.

    A failure is tried again after a pause (Ring's own when it names one). It ends quietly when the account is not linked any
    more or the device is gone: the next sync of the account that lists the device plans it anew.
    """
    rows = HistoryReading.objects.select_related("device__ring_account__tenant")
    reading = take(rows, reading_id, now=timezone.now(), lease=LEASE)
    if reading is None:
        return
    device = reading.device
    pause: timedelta | None = EVERY * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load, guards nothing
    error_name, attempts = "", 0
    try:
        with client_for(device.ring_account) as client:
            history.fill_gaps(reading=reading, client=client, now=timezone.now())
    except RingNotFound:
        sync_one_device.enqueue(device.ring_account_id, device.ring_id)  # is it gone?
        pause = None
    except (RingError, NotSetUp) as error:
        error_name, attempts = type(error).__name__, reading.attempts
        pause = pause_after(error, attempts=attempts, every=EVERY, longest_s=LONGEST_PAUSE_S)
        logger.warning("A history was not read. device=%s error=%s", device.public_id, error_name)
    again_at = None if pause is None or device.removed_at is not None else timezone.now() + pause
    HistoryReading.objects.filter(pk=reading.pk).update(
        next_attempt_at=again_at, attempts=attempts, last_error=error_name
    )
    if again_at is not None and error_name:
        enqueue_after(read_history, reading.pk, again_at)


@cron(IntervalTrigger(seconds=15))  # type: ignore[untyped-decorator]  # crontask has no types
@task(priority=AHEAD)
def sweep_history() -> None:
    """Every camera's history is read regularly, and none is lost with its task."""
    enqueue_due(HistoryReading.objects.all(), read_history, now=timezone.now() - LOST_AFTER)
