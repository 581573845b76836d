"""A cast whose tokens are good now, a scripted Ring, and real small videos."""

import hashlib
import io
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path

from django.conf import LazySettings
from django.core.files.base import ContentFile
from django.utils import timezone

import av
import pytest

from accounts.models import RingAccount
from accounts.services import client_for
from devices.models import Device
from devices.services import sync_devices
from events.models import Event
from media import closing, relaying
from media.models import Clip, FetchState, LiveSession
from ring.tests.server import Reply, ScriptedServer, running_server
from tests.support.cast import TenantCast, make_cast
from tests.support.portal_process import wait_for
from tests.support.sandbox_process import SandboxProcess

TOKEN = "media-tests"
ANSWER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=sendonly\r\n"
OFFER = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
    "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n"
    "a=fingerprint:sha-256 00:11\r\na=setup:actpass\r\na=mid:0\r\na=recvonly\r\na=rtpmap:96 H264/90000\r\n"
)


@pytest.fixture
def cast(db: None) -> TenantCast:
    """The usual people; their tokens are fresh, and they linked a week ago."""
    people = make_cast()
    now = timezone.now()
    RingAccount.objects.update(
        access_expires_at=now + timedelta(hours=4),
        tokens_obtained_at=now,
        consent_at=now - timedelta(days=7),
        linked_at=now - timedelta(days=7),
    )
    for account in (people.ada_account, people.ben_account):
        account.refresh_from_db()
    for camera in (people.ada_camera, people.ben_camera):
        camera.refresh_from_db()
    return people


@pytest.fixture
def ring(settings: LazySettings) -> Iterator[ScriptedServer]:
    """A Ring that says what the test tells it to."""
    with running_server() as server:
        settings.DEBUG = True  # plain http to loopback
        settings.RING_API_URL = server.url
        settings.RING_TOKEN_URL = f"{server.url}/oauth/token"
        yield server


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    """A Ring that has cameras with pictures."""
    with SandboxProcess(token=TOKEN) as process:
        yield process


@pytest.fixture
def relay_closed(transactional_db: None) -> Iterator[None]:
    """The relay reads in a thread of its own; what is open afterwards is ended."""
    yield
    relaying.relay().close()


@pytest.fixture
def cameras(sandbox: SandboxProcess, cast: TenantCast, settings: LazySettings) -> dict[str, Device]:
    """Ada's home as the sandbox shares it, by name."""
    settings.DEBUG = True
    settings.RING_API_URL = sandbox.url
    settings.RING_TOKEN_URL = f"{sandbox.url}/oauth/token"
    Device.objects.all().delete()
    account = cast.ada_account
    account.access_token = TOKEN
    account.save()
    with client_for(account) as client:
        sync_devices(account=account, client=client, now=timezone.now())
    return {device.name: device for device in Device.objects.all()}


@pytest.fixture
def wired(cameras: dict[str, Device]) -> Device:
    """A camera on line power."""
    camera = cameras["Driveway"]
    Device.objects.filter(pk=camera.pk).update(is_battery_powered=False)
    return camera


@pytest.fixture
def battery(cameras: dict[str, Device]) -> Device:
    return next(d for d in cameras.values() if d.is_battery_powered and d.has_video)


@pytest.fixture
def media_host() -> Iterator[ScriptedServer]:
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Four seconds of 640x360 H.264 in an MP4 that can be played while it comes."""
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    write_video(path)
    return path.read_bytes()


def write_video(path: Path, *, seconds: int = 4, rate: int = 10, width: int = 640, height: int = 360) -> None:
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(seconds * rate):
            frame = av.VideoFrame(width, height, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([number * 5 % 256]) * plane.buffer_size)
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    """A real, small JPEG."""
    out = io.BytesIO()
    with av.open(out, "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 36, "yuvj420p"
        frame = av.VideoFrame(64, 36, "yuvj420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.pts, frame.time_base = 0, Fraction(1, 1)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


@pytest.fixture
def make_clip(cast: TenantCast) -> Callable[..., Clip]:
    """A clip of Ada's camera, ten minutes old, due now."""

    def make(**changes: object) -> Clip:
        now = timezone.now()
        values: dict[str, object] = {
            "tenant": cast.tenant,
            "device": cast.ada_camera,
            "start": now - timedelta(minutes=10),
            "duration_ms": 30_000,
            "next_attempt_at": now,
            "requested_by": cast.ada.user,
        }
        clip: Clip = Clip.objects.create(**{**values, **changes})
        return clip

    return make


@pytest.fixture
def ready_clip(make_clip: Callable[..., Clip], video: bytes) -> Clip:
    """A clip whose file is really there."""
    clip = make_clip(next_attempt_at=None)
    clip.file.save("media.mp4", ContentFile(video), save=False)
    clip.state = FetchState.READY
    clip.size_bytes = len(video)
    clip.sha256 = hashlib.sha256(video).hexdigest()
    clip.actual_start, clip.actual_duration_ms = clip.start, 4000
    clip.width, clip.height = 640, 360
    clip.save()
    return clip


def video_path(cast: TenantCast, kind: str = "video") -> str:
    return f"/v1/devices/{cast.ada_camera.ring_id}/media/{kind}/download"


def sessions_path(cast: TenantCast) -> str:
    return f"/v1/devices/{cast.ada_camera.ring_id}/media/streaming/whep/sessions"


def created(server: ScriptedServer, cast: TenantCast, session: str = "s1") -> Reply:
    """Ring's answer to a good offer."""
    headers = {"Content-Type": "application/sdp", "Location": f"{server.url}{sessions_path(cast)}/{session}"}
    return Reply(201, ANSWER.encode(), headers)


def sweep() -> None:
    """What a worker does every second with live sessions; and wait until nothing is left to do with those that are due."""
    due = list(LiveSession.objects.filter(next_attempt_at__lte=timezone.now()).values_list("pk", flat=True))
    closing.sweep()
    left = LiveSession.objects.filter(pk__in=due, next_attempt_at__isnull=False)
    wait_for(lambda: not left.exists(), timeout_s=5, what="the end of every session that is due")


def make_event(
    cast: TenantCast, *, occurred_at: datetime, event_type: str = "button_press", position: int = 1
) -> Event:
    event: Event = Event.objects.create(
        tenant=cast.tenant,
        request_id=f"request-{position}",
        position=position,
        event_type=event_type,
        ring_account=cast.ada_account,
        device=cast.ada_camera,
        occurred_at=occurred_at,
        received_at=occurred_at,
    )
    return event
