"""Fetching, and the sweeps that find what is due although a task was lost."""

import time
from datetime import timedelta

from django.tasks import task
from django.utils import timezone

from apscheduler.triggers.interval import IntervalTrigger
from crontask import cron, scheduler

from media import closing, fetching, nodes, watchers
from media.models import Clip, Picture
from portal.work import AHEAD, enqueue_after, enqueue_due, take

PICTURE_LEASE = timedelta(seconds=60)


@task(queue_name="media")
def fetch_clip(clip_id: int) -> None:
    """One attempt at a clip that is due."""
    rows = Clip.objects.select_related("tenant", "device__ring_account")
    clip = take(rows, clip_id, now=timezone.now(), lease=fetching.LEASE)
    again_at = fetching.fetch_clip(clip) if clip is not None else None
    if again_at is not None:
        enqueue_after(fetch_clip, clip_id, again_at)


@task(queue_name="media")
def fetch_picture(picture_id: int) -> None:
    """One attempt at a picture that is due."""
    rows = Picture.objects.select_related("tenant", "device__ring_account")
    picture = take(rows, picture_id, now=timezone.now(), lease=PICTURE_LEASE)
    again_at = fetching.fetch_picture(picture) if picture is not None else None
    if again_at is not None:
        enqueue_after(fetch_picture, picture_id, again_at)


@cron(IntervalTrigger(seconds=10))  # type: ignore[untyped-decorator]
@task(priority=AHEAD)
def sweep_clips() -> None:
    """Clips whose task was lost, or whose worker died."""
    enqueue_due(Clip.objects.all(), fetch_clip, now=timezone.now())


@cron(IntervalTrigger(seconds=10))  # type: ignore[untyped-decorator]
@task(priority=AHEAD)
def sweep_pictures() -> None:
    """The same for pictures."""
    enqueue_due(Picture.objects.all(), fetch_picture, now=timezone.now())


@cron(IntervalTrigger(minutes=10))  # type: ignore[untyped-decorator]
@task(priority=AHEAD)
def sweep_leftovers() -> None:
    """Half files of workers that were killed, and rows of relay nodes that were."""
    fetching.sweep_leftovers(now_s=time.time())
    nodes.forget_dead(now=timezone.now())


# Not tasks: they must not wait behind one (media/watchers.py, media/closing.py).
scheduler.add_job(
    watchers.look,
    IntervalTrigger(seconds=watchers.LOOK_EVERY_S),
    name="watchers",
    max_instances=1,
    coalesce=True,
)
scheduler.add_job(
    closing.sweep,
    IntervalTrigger(seconds=closing.LOOK_EVERY_S),
    name="live endings",
    max_instances=1,
    coalesce=True,
)
