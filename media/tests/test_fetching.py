"""Clips on their way from Ring, with everything that can happen to them there."""

import errno
import hashlib
import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from django.utils import timezone

import pytest

from accounts.models import RingAccount
from media import fetching
from media.clips import delete_clip
from media.models import Clip, FetchState
from media.tasks import fetch_clip, sweep_clips
from media.tests.conftest import video_path
from media.verdict import judge
from portal.work import take
from ring.errors import RingUnavailable
from ring.tests.server import Reply, ScriptedServer, error_reply
from tests.support.cast import TenantCast

MP4 = "video/mp4"


def see_other(host: ScriptedServer) -> Reply:
    return Reply(303, b"", {"Location": f"{host.url}/v1/download?security_token=SECRET"})


def run(clip: Clip) -> Clip:
    fetch_clip.func(clip.pk)
    clip.refresh_from_db()
    return clip


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_clip_comes_over_the_other_host_without_the_bearer_and_is_stored_to_the_byte(
    cast: TenantCast,
    ring: ScriptedServer,
    media_host: ScriptedServer,
    make_clip: Callable[..., Clip],
    video: bytes,
    settings,
) -> None:
    clip = make_clip()
    ring.script("POST", video_path(cast), see_other(media_host))
    media_host.script("GET", "/v1/download", Reply(200, video, {"Content-Type": MP4}))

    run(clip)

    assert clip.state == FetchState.READY
    with clip.file.open("rb") as stored:
        assert stored.read() == video
    assert clip.sha256 == hashlib.sha256(video).hexdigest()
    assert clip.size_bytes == clip.received_bytes == clip.total_bytes == len(video)
    assert (clip.width, clip.height, clip.codec, clip.frame_rate) == (640, 360, "h264", 10)
    assert (clip.actual_start, clip.actual_duration_ms, clip.is_partial) == (clip.start, 4000, False)
    with clip.poster.open("rb") as poster:
        assert poster.read(3) == b"\xff\xd8\xff"
    assert clip.next_attempt_at is None and clip.error == ""
    assert {path.suffix for path in files_under(settings.MEDIA_ROOT)} == {".mp4", ".jpg"}
    assert json.loads(ring.received[0].body) == {
        "timestamp": int(clip.start.timestamp() * 1000),
        "duration": 30_000,
    }
    assert "Authorization" not in media_host.received[0].headers


def test_a_part_of_the_range_is_kept_and_called_partial(
    cast: TenantCast, ring: ScriptedServer, make_clip: Callable[..., Clip], video: bytes
) -> None:
    clip = make_clip()
    began_ms = int((clip.start + timedelta(seconds=7)).timestamp() * 1000)
    headers = {"Content-Type": MP4, "X-Media-Timestamp": str(began_ms), "X-Media-Length": "3900"}
    ring.script("POST", video_path(cast), Reply(206, video, headers))

    run(clip)

    assert (clip.state, clip.is_partial, clip.actual_duration_ms) == (FetchState.READY, True, 3900)
    assert clip.actual_start is not None and int(clip.actual_start.timestamp() * 1000) == began_ms


@pytest.mark.parametrize(
    ("reply", "state", "code"),
    [
        (error_reply(416, code="TIMESTAMP_NOT_FOUND"), FetchState.UNAVAILABLE, "not_recorded"),
        (error_reply(425, code="RECORDING_NOT_READY"), FetchState.UNAVAILABLE, "not_ready"),
        (error_reply(403, code="TIME_RANGE_NOT_AUTHORIZED"), FetchState.UNAVAILABLE, "before_consent"),
        (error_reply(403, code="REQUEST_FORBIDDEN"), FetchState.UNAVAILABLE, "forbidden"),
        (error_reply(422, code="CORRUPT_RECORDING"), FetchState.UNAVAILABLE, "unreadable"),
        (error_reply(404, code="DEVICE_NOT_FOUND"), FetchState.UNAVAILABLE, "device_gone"),
        (error_reply(400, code="INVALID_PAYLOAD"), FetchState.FAILED, "rejected"),
        (Reply(200, b"not a video at all", {"Content-Type": MP4}), FetchState.UNAVAILABLE, "unreadable"),
        (
            Reply(200, b"\0\0\0\x18ftypisom" + b"\x55" * 500, {"Content-Type": MP4}),
            FetchState.UNAVAILABLE,
            "unreadable",
        ),
        (
            Reply(200, b"\0\0\0\x18ftypisom", {"Content-Type": MP4, "Content-Length": str(2**31)}),
            FetchState.UNAVAILABLE,
            "too_large",
        ),
        (Reply(303, b"", {"Location": "http://192.0.2.1/x"}), FetchState.FAILED, "unsafe_address"),
    ],
)
def test_what_waiting_does_not_mend_ends_with_its_reason_and_leaves_no_file(
    cast: TenantCast,
    ring: ScriptedServer,
    make_clip: Callable[..., Clip],
    settings,
    reply: Reply,
    state: FetchState,
    code: str,
) -> None:
    ring.script("POST", video_path(cast), reply)

    clip = run(make_clip())

    assert (clip.state, clip.error, clip.next_attempt_at) == (state, code, None)
    assert files_under(settings.MEDIA_ROOT) == []


@pytest.mark.parametrize("reply", [error_reply(416, code="TIMESTAMP_NOT_FOUND"), error_reply(425)])
def test_a_recording_that_is_not_there_yet_is_asked_for_again_unchanged(
    cast: TenantCast, ring: ScriptedServer, make_clip: Callable[..., Clip], video: bytes, reply: Reply
) -> None:
    clip = make_clip(start=timezone.now() - timedelta(seconds=40))
    ring.script("POST", video_path(cast), reply, Reply(200, video, {"Content-Type": MP4}))

    run(clip)
    assert clip.state == FetchState.QUEUED
    assert clip.next_attempt_at is not None and clip.next_attempt_at > timezone.now()
    assert run(clip).attempts == 1, "not due yet"

    Clip.objects.update(next_attempt_at=timezone.now())
    assert run(clip).state == FetchState.READY
    assert ring.received[0].body == ring.received[1].body


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (error_reply(503), "ring_unavailable"),
        (error_reply(500), "ring_unavailable"),
        (error_reply(429, Retry_After="90"), "ring_busy"),
        (Reply(hang_up=True), "ring_unavailable"),
    ],
)
def test_a_ring_in_trouble_is_waited_for_and_then_given_up(
    cast: TenantCast, ring: ScriptedServer, make_clip: Callable[..., Clip], reply: Reply, code: str
) -> None:
    clip = make_clip()
    ring.script("POST", video_path(cast), reply, reply)

    run(clip)
    assert (clip.state, clip.last_error, clip.error) == (FetchState.QUEUED, code, "")
    assert clip.next_attempt_at is not None
    if code == "ring_busy":
        assert clip.next_attempt_at > timezone.now() + timedelta(seconds=80)

    long_ago = timezone.now() - timedelta(hours=1)
    Clip.objects.update(next_attempt_at=timezone.now(), attempts=9, created_at=long_ago, start=long_ago)
    assert (run(clip).state, clip.error) == (FetchState.FAILED, code)


def test_an_answer_that_breaks_off_is_fetched_anew_from_its_first_byte(
    cast: TenantCast, ring: ScriptedServer, make_clip: Callable[..., Clip], video: bytes, settings
) -> None:
    clip = make_clip()
    cut = Reply(200, video[:1000], {"Content-Type": MP4}, cut_bytes=len(video) - 1000)
    ring.script("POST", video_path(cast), cut, Reply(200, video, {"Content-Type": MP4}))

    assert run(clip).state == FetchState.QUEUED
    assert files_under(settings.MEDIA_ROOT) == []
    Clip.objects.update(next_attempt_at=timezone.now())

    assert run(clip).sha256 == hashlib.sha256(video).hexdigest()


def test_a_dead_link_says_so(cast: TenantCast, ring: ScriptedServer, make_clip: Callable[..., Clip]) -> None:
    clip = make_clip()
    RingAccount.objects.filter(pk=cast.ada_account.pk).update(state=RingAccount.State.RELINK_REQUIRED)

    assert (run(clip).state, clip.error) == (FetchState.FAILED, "link_again")


def test_of_two_workers_one_has_the_clip(make_clip: Callable[..., Clip]) -> None:
    clip, now = make_clip(), timezone.now()

    assert take(Clip.objects.all(), clip.pk, now=now, lease=fetching.LEASE) is not None
    assert take(Clip.objects.all(), clip.pk, now=now, lease=fetching.LEASE) is None


@pytest.mark.django_db(transaction=True)
def test_a_killed_worker_leaves_a_lease_that_the_sweep_takes_up(
    cast: TenantCast, ring: ScriptedServer, make_clip: Callable[..., Clip], video: bytes, run_tasks, settings
) -> None:
    clip, now = make_clip(), timezone.now()
    killed = take(Clip.objects.all(), clip.pk, now=now, lease=fetching.LEASE)
    assert killed is not None
    Clip.objects.update(state=FetchState.FETCHING, received_bytes=5)
    (fetching.incoming_folder() / f"{clip.public_id}-1.part").write_bytes(b"half")
    # It died after the rename and before the commit, the worst moment.
    orphan = settings.MEDIA_ROOT / "clips" / str(cast.tenant.public_id) / f"{clip.public_id}.mp4"
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"old")
    sweep_clips.func()
    run_tasks()
    assert ring.received == [], "the lease still holds"

    Clip.objects.update(next_attempt_at=now)
    ring.script("POST", video_path(cast), Reply(200, video, {"Content-Type": MP4}))
    sweep_clips.func()
    run_tasks()

    clip.refresh_from_db()
    assert (clip.state, clip.attempts) == (FetchState.READY, 2)
    assert orphan.read_bytes() == video
    assert {path.suffix for path in files_under(settings.MEDIA_ROOT)} == {".mp4", ".jpg"}


def test_a_worker_that_slept_through_its_lease_changes_nothing(
    cast: TenantCast, ring: ScriptedServer, make_clip: Callable[..., Clip], video: bytes, settings
) -> None:
    clip = make_clip()
    asleep = take(
        Clip.objects.select_related("tenant", "device__ring_account"),
        clip.pk,
        now=timezone.now(),
        lease=timedelta(0),
    )
    ring.script("POST", video_path(cast), *[Reply(200, video, {"Content-Type": MP4})] * 2)
    ready_sha = run(clip).sha256
    assert asleep is not None and clip.state == FetchState.READY

    assert fetching.fetch_clip(asleep) is None

    clip.refresh_from_db()
    assert (clip.state, clip.sha256, clip.attempts) == (FetchState.READY, ready_sha, 2)
    assert clip.file.storage.exists(str(clip.file.name))
    assert len(files_under(settings.MEDIA_ROOT)) == 2


@pytest.mark.django_db(transaction=True)
def test_a_clip_deleted_on_its_way_leaves_nothing(
    cast: TenantCast, ring: ScriptedServer, make_clip: Callable[..., Clip], video: bytes, settings
) -> None:
    clip = make_clip()
    taken = take(
        Clip.objects.select_related("tenant", "device__ring_account"),
        clip.pk,
        now=timezone.now(),
        lease=fetching.LEASE,
    )
    assert taken is not None
    ring.script("POST", video_path(cast), Reply(200, video, {"Content-Type": MP4}))
    delete_clip(clip=clip, by=None)

    assert fetching.fetch_clip(taken) is None

    assert not Clip.objects.exists()
    assert files_under(settings.MEDIA_ROOT) == []


def test_a_full_disk_is_waited_for_and_then_told() -> None:
    now = timezone.now()
    full = OSError(errno.ENOSPC, "No space left on device")

    first = judge(full, attempts=1, now=now, range_end=now, asked_at=now)
    last = judge(full, attempts=8, now=now + timedelta(hours=1), range_end=now, asked_at=now)

    assert (first.state, first.code) == (None, "storage")
    assert (last.state, last.code) == (FetchState.FAILED, "storage")


def test_a_folder_that_cannot_be_written_fails_the_attempt_not_the_worker(
    cast: TenantCast, ring: ScriptedServer, make_clip: Callable[..., Clip], settings
) -> None:
    settings.MEDIA_ROOT.parent.mkdir(parents=True, exist_ok=True)
    settings.MEDIA_ROOT.write_text("a file where the folder should be")

    clip = run(make_clip())

    assert (clip.state, clip.last_error) == (FetchState.QUEUED, "storage")


def test_an_outage_is_waited_for_longer_than_a_missing_recording() -> None:
    now = datetime.fromisoformat("2026-11-22T12:00:00+00:00")
    verdict = judge(
        RingUnavailable("x"), attempts=12, now=now, range_end=now, asked_at=now - timedelta(minutes=29)
    )

    assert verdict.state is None
    assert timedelta(minutes=3) < verdict.pause < timedelta(minutes=7)


def test_a_clip_that_takes_its_worker_down_again_and_again_is_given_up(
    make_clip: Callable[..., Clip],
) -> None:
    clip = make_clip(attempts=fetching.MAX_ATTEMPTS)

    assert (run(clip).state, clip.error) == (FetchState.FAILED, "gave_up")


def test_progress_is_told_while_bytes_come(make_clip: Callable[..., Clip]) -> None:
    clip = take(Clip.objects.all(), make_clip().pk, now=timezone.now(), lease=timedelta(seconds=1))
    assert clip is not None
    progress = fetching._Progress(clip)

    progress(1000, 5000)
    progress(2000, 5000)

    clip.refresh_from_db()
    assert (clip.received_bytes, clip.total_bytes) == (1000, 5000), "twice a second is enough"
    assert clip.next_attempt_at is not None and clip.next_attempt_at > timezone.now() + timedelta(seconds=50)


def test_old_halves_are_swept_and_young_ones_left(settings) -> None:
    old, young = (fetching.incoming_folder() / name for name in ("a-1.part", "b-1.part"))
    for part in (old, young):
        part.write_bytes(b"x")
    os.utime(old, (0, 0))

    assert fetching.sweep_leftovers(now_s=young.stat().st_mtime) == 1
    assert not old.exists() and young.exists()


def test_a_camera_that_records_hevc_is_asked_for_what_browsers_play(
    cast: TenantCast, ring: ScriptedServer, make_clip: Callable[..., Clip]
) -> None:
    cast.ada_camera.documents = {
        "device-capabilities": {"attributes": {"video": {"codecs": ["HEVC", "AVC"]}}}
    }
    cast.ada_camera.save()
    ring.script("POST", video_path(cast), error_reply(422))

    run(make_clip())

    assert json.loads(ring.received[0].body)["video_options"] == {"codec": "avc"}
