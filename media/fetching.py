"""
Getting clips and pictures from Ring into storage, whatever dies on the way.

A row is leased (`portal.work.take`); its `attempts` then names the holder. Whoever writes the row or moves a file
into place first makes sure that it still is the holder, so a worker that slept through its lease changes nothing.
Bytes go into a file of the attempt's own beside the clips, on the same filesystem, and become the clip by one rename.
"""

import errno
import io
import logging
import os
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.files.base import ContentFile, File
from django.db import transaction
from django.utils import timezone

from accounts.models import RingAccount
from accounts.services import NotSetUp, client_for, ring_config
from devices.describe import has_privacy_zones
from devices.models import Device
from devices.tasks import sync_one_device
from events.broadcast import announce_picture_on_commit
from media.models import Clip, FetchState, Picture
from media.probe import Undecodable, VideoFacts, probe
from media.verdict import Verdict, judge
from ring.client import MediaFacts, RingClient
from ring.errors import RingError, RingNotFound
from ring.timestamps import parse_epoch_ms, to_epoch_ms

logger = logging.getLogger(__name__)

# Renewed with the bytes that come, so it must outlast the longest silence of a download.
LEASE: Final = timedelta(seconds=60)
# Ring cuts a clip out while we wait for its first byte; an API call is answered faster.
MEDIA_READ_TIMEOUT_S: Final = 30.0
PROGRESS_INTERVAL_S: Final = 0.5
# 15 minutes at 8 Mbit/s, the most a camera sends.
MAX_CLIP_BYTES: Final = 1024 * 1024 * 1024
MAX_PICTURE_BYTES: Final = 16 * 1024 * 1024
# A recording that takes its worker down with it must not do so for ever.
MAX_ATTEMPTS: Final = 40
LEFTOVER_AGE_S: Final = 3600.0


class LeaseLost(Exception):
    """Somebody else has the row now, or it is deleted: throw away what was fetched."""


class _Arrived(File):  # type: ignore[type-arg]
    """A finished file that storage may move into place instead of copying it."""

    def temporary_file_path(self) -> str:
        return str(self.name)


def incoming_folder() -> Path:
    """Where downloads under way lie: on the filesystem of the clips, so that finishing one is a rename."""
    folder = Path(settings.MEDIA_ROOT) / "incoming"
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    return folder


def fetch_clip(clip: Clip) -> datetime | None:
    """
    Fetch a clip whose lease we hold; give the moment to try again, or None when it is decided.

    Ends in `ready`, `unavailable` or `failed`, or due again later. Nothing of an attempt that failed stays on disk.
    """
    if clip.attempts > MAX_ATTEMPTS:
        return _settle(clip, Verdict(FetchState.FAILED, "gave_up"))
    # The camera's settings, or its plan, may have changed since somebody asked.
    if has_privacy_zones(clip.device):
        return _settle(clip, Verdict(FetchState.UNAVAILABLE, "privacy_zones"))
    if clip.device.is_plan_ended:
        return _settle(clip, Verdict(FetchState.UNAVAILABLE, "plan_ended"))
    _ours(clip).update(state=FetchState.FETCHING, received_bytes=0, total_bytes=None)
    try:
        part = incoming_folder() / f"{clip.public_id}-{clip.attempts}.part"
        try:
            _fetch_clip_into(clip, part)
        finally:
            part.unlink(missing_ok=True)
    except LeaseLost:
        logger.info("A fetch was overtaken or its clip deleted. clip=%s", clip.public_id)
    except Undecodable:
        return _settle(clip, Verdict(FetchState.UNAVAILABLE, "unreadable"))
    except (RingError, NotSetUp, OSError) as error:
        return _settle(clip, _judge(error, clip, range_end=_end_of(clip), asked_at=clip.created_at))
    return None


def cancel_fetches(account: RingAccount) -> None:
    """The account is not linked any more: what still waits, or is being fetched, ends now and says so."""
    for model in (Clip, Picture):
        under_way = model._default_manager.filter(
            device__ring_account=account, state__in=(FetchState.QUEUED, FetchState.FETCHING)
        )
        under_way.update(
            state=FetchState.FAILED, error="unlinked", last_error="unlinked", next_attempt_at=None
        )


def _fetch_clip_into(clip: Clip, part: Path) -> None:
    for leftover in part.parent.glob(f"{clip.public_id}-*.part"):
        leftover.unlink(missing_ok=True)
    with part.open("wb") as into, _client_for(clip.device) as client:
        facts = client.download_clip(
            clip.device.ring_id,
            start_ms=to_epoch_ms(clip.start),
            duration_ms=clip.duration_ms,
            component_id=clip.component_id or None,
            into=into,
            max_bytes=MAX_CLIP_BYTES,
            on_progress=_Progress(clip),
            # Every browser plays AVC; a camera that records HEVC is asked to convert (contract 11.3).
            codec="avc" if _records_hevc(clip.device) else None,
        )
        into.flush()
        os.fsync(into.fileno())
    _renew(clip, received_bytes=facts.size_bytes, total_bytes=facts.size_bytes)
    video, poster = probe(part)
    _keep_clip(clip, part, facts, video, poster)


def _client_for(device: Device) -> RingClient:
    return client_for(device.ring_account, config=replace(ring_config(), read_timeout_s=MEDIA_READ_TIMEOUT_S))


def _keep_clip(clip: Clip, part: Path, facts: MediaFacts, video: VideoFacts, poster: bytes) -> None:
    """Move the file into place and make the row say so, in one transaction; raises LeaseLost."""
    with transaction.atomic():
        row = _ours(clip).select_for_update().first()
        if row is None:
            raise LeaseLost
        with part.open("rb") as content:
            _put(row, "file", _Arrived(content, name=str(part)), suffix=".mp4")
        _put(row, "poster", ContentFile(poster), suffix=".jpg")
        row.state = FetchState.READY
        row.ready_at = timezone.now()
        row.error = ""
        row.last_error = ""
        row.next_attempt_at = None
        row.received_bytes = row.total_bytes = row.size_bytes = facts.size_bytes
        row.sha256 = facts.sha256
        row.is_partial = facts.is_partial
        row.actual_start = parse_epoch_ms(facts.start_ms) or row.start
        row.actual_duration_ms = facts.duration_ms or video.duration_ms
        row.width, row.height = video.width, video.height
        row.frame_rate, row.codec = video.frame_rate, video.codec
        row.save()
    logger.info("A clip is here. clip=%s bytes=%s", clip.public_id, facts.size_bytes)


def _put(row: Clip | Picture, field_name: str, content: File, *, suffix: str) -> None:  # type: ignore[type-arg]
    """Store under the row's own name; what a crashed attempt left there makes way."""
    stored = getattr(row, field_name)
    name = stored.field.generate_filename(row, f"media{suffix}")
    stored.storage.delete(name)
    stored.save(f"media{suffix}", content, save=False)


def _end_of(clip: Clip) -> datetime:
    return clip.start + timedelta(milliseconds=clip.duration_ms)


def _records_hevc(device: Device) -> bool:
    video = device.document("device-capabilities").get("attributes", {}).get("video")
    codecs = video.get("codecs") if isinstance(video, dict) else None
    return isinstance(codecs, list) and "HEVC" in codecs


def fetch_picture(picture: Picture) -> datetime | None:
    """Fetch a still whose lease we hold; give the moment to try again, or None when it is decided."""
    if picture.attempts > MAX_ATTEMPTS:
        return _settle(picture, Verdict(FetchState.FAILED, "gave_up"))
    # The camera's settings, or its plan, may have changed since the event.
    if has_privacy_zones(picture.device):
        return _settle(picture, Verdict(FetchState.UNAVAILABLE, "privacy_zones"))
    if picture.device.is_plan_ended:
        return _settle(picture, Verdict(FetchState.UNAVAILABLE, "plan_ended"))
    _ours(picture).update(state=FetchState.FETCHING)
    into = io.BytesIO()
    try:
        with _client_for(picture.device) as client:
            facts = client.download_image(
                picture.device.ring_id,
                at_ms=to_epoch_ms(picture.asked_at),
                component_id=picture.component_id or None,
                into=into,
                max_bytes=MAX_PICTURE_BYTES,
            )
        with transaction.atomic():
            row = _ours(picture).select_for_update().first()
            if row is None:
                raise LeaseLost
            _put(row, "file", ContentFile(into.getvalue()), suffix=".jpg")
            row.state = FetchState.READY
            row.taken_at = parse_epoch_ms(facts.start_ms) or row.asked_at
            row.sha256 = facts.sha256
            row.error = row.last_error = ""
            row.next_attempt_at = None
            row.save()
            announce_picture_on_commit(row.tenant_id)
    except LeaseLost:
        logger.info("A fetch was overtaken or its picture deleted. picture=%s", picture.public_id)
        return None
    except (RingError, NotSetUp, OSError) as error:
        verdict = _judge(error, picture, range_end=picture.asked_at, asked_at=picture.asked_at)
        return _settle(picture, verdict)
    return None


class _Progress:
    """Tells the row how far a download is, at most twice a second, and renews the lease with it."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self._told_at_s = 0.0

    def __call__(self, received_bytes: int, total_bytes: int | None) -> None:
        now_s = time.monotonic()
        if now_s - self._told_at_s < PROGRESS_INTERVAL_S:
            return
        self._told_at_s = now_s
        _renew(self._clip, received_bytes=received_bytes, total_bytes=total_bytes)


def _ours(row: Clip | Picture) -> Any:
    """The row as a queryset that is empty once it is not ours any more."""
    return type(row).objects.filter(pk=row.pk, attempts=row.attempts, next_attempt_at__isnull=False)


def _renew(clip: Clip, *, received_bytes: int, total_bytes: int | None) -> None:
    changed = _ours(clip).update(
        received_bytes=received_bytes, total_bytes=total_bytes, next_attempt_at=timezone.now() + LEASE
    )
    if not changed:
        raise LeaseLost


def _judge(
    error: RingError | NotSetUp | OSError, row: Clip | Picture, *, range_end: datetime, asked_at: datetime
) -> Verdict:
    if isinstance(error, OSError):
        logger.error(
            "Storage failed. row=%s errno=%s", row.public_id, errno.errorcode.get(error.errno or 0, "unknown")
        )
    else:
        logger.warning(
            "A fetch failed. row=%s attempt=%s kind=%s request=%s",
            row.public_id,
            row.attempts,
            type(error).__name__,
            getattr(error, "request_id", ""),
        )
    if isinstance(error, RingNotFound):
        sync_one_device.enqueue(row.device.ring_account_id, row.device.ring_id)
    return judge(error, attempts=row.attempts, now=timezone.now(), range_end=range_end, asked_at=asked_at)


def _settle(row: Clip | Picture, verdict: Verdict) -> datetime | None:
    """Write down what became of an attempt; give the moment of the next one, None when there is none."""
    if verdict.state is None:
        again_at = timezone.now() + verdict.pause
        _ours(row).update(state=FetchState.QUEUED, last_error=verdict.code, next_attempt_at=again_at)
        return again_at
    _ours(row).update(state=verdict.state, error=verdict.code, last_error=verdict.code, next_attempt_at=None)
    return None


def sweep_leftovers(*, now_s: float) -> int:
    """Remove what killed workers left in the incoming folder; `now_s` is epoch seconds. Return how many files."""
    count = 0
    for part in incoming_folder().glob("*.part"):
        try:
            if part.stat().st_mtime < now_s - LEFTOVER_AGE_S:
                part.unlink()
                count += 1
        except FileNotFoundError:
            continue  # its worker has just finished with it
    return count
