"""Live sessions and media downloads (contract 10, 11), and the second origin that hands the files out."""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeGuard
from urllib.parse import urlencode

from aiohttp import web

from sandbox.answers import Problem
from sandbox.behaviour import PEER_SILENT_S, Behaviour
from sandbox.footage import render_image, write_clip
from sandbox.scene import CameraView
from sandbox.whep import LiveSession, OfferRejected, reject_all

if TYPE_CHECKING:
    from sandbox.server import Sandbox
    from sandbox.world import Device, Event, Integration

MAX_CLIP_MS = 900_000
TOLERANCE_MS = 10_000
DAY_MS = 86_400_000
NOT_READY_MS = 2_000
EVENT_BEFORE_MS, EVENT_AFTER_MS = 5_000, 25_000
ONE_USE_MS = 60_000  # fetches closer together than this are one entry of the history
URL_LIFETIME_S = 60
LEDGER_LENGTH = 1000
CAP_GRACE_S = 2.0  # the end of a session takes a moment
FORCEABLE = ("206", "416", "422", "425", "503", "direct200")
PIECE_BYTES = 256 * 1024
DEFAULT_WIDTH, DEFAULT_HEIGHT, DEFAULT_FRAME_RATE = 1280, 720, 15
MAX_FRAME_RATE = 25


@dataclass
class Download:
    """What a signed address hands out."""

    camera: CameraView
    device: Device
    integration: Integration
    kind: Literal["image", "video"]
    start_ms: int
    duration_ms: int
    width: int
    height: int
    frame_rate: int
    expires_ms: int
    format: Literal["jpeg", "png"] = "jpeg"
    latest: bool = False


@dataclass
class LedgerEntry:
    """One live session in the ledger that shows leaks."""

    id: str
    client_id: str
    account: str
    device: str
    component_id: str | None
    opened_ms: int
    cap_s: float
    ended_ms: int | None = None
    end_reason: str = ""
    # A session that the partner ended itself, or that Ring took away: everything else was forgotten.
    FORGOTTEN: ClassVar = frozenset({"cap", "peer gone", "never connected"})

    @property
    def is_forgotten(self) -> bool:
        return self.end_reason in self.FORGOTTEN


def _is_whole(value: object) -> TypeGuard[int]:
    """A number without fraction; JSON's true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def _answered(answer_sdp: str, location: str) -> web.Response:
    return web.Response(
        status=201, text=answer_sdp, content_type="application/sdp", headers={"Location": location}
    )


class MediaApi:
    """Routes of the API origin (WHEP, image and video download) and of the media origin."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.world = sandbox.world
        self.sessions: dict[str, LiveSession] = {}
        self.ledger: dict[str, LedgerEntry] = {}
        self.behaviours: dict[tuple[str, str], Behaviour] = {}
        self.downloads: dict[str, Download] = {}
        self._on_demand: dict[str, Event] = {}
        self._last_use: dict[tuple[str, str, str], Event] = {}

    def routes(self) -> list[web.RouteDef]:
        whep = "/v1/devices/{device}/media/streaming/whep/sessions"
        return [
            web.post(whep, self.open_session),
            web.delete(whep + "/{session}", self.close_session),
            web.post("/v1/devices/{device}/media/image/download", self.image),
            web.post("/v1/devices/{device}/media/video/download", self.video),
        ]

    def download_routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/download", self.download)]

    # --- live (contract 10.1) ---

    async def open_session(self, request: web.Request) -> web.Response:
        await self.sandbox.faults.apply("whep")
        integration, device = self.sandbox.api.shared(request)
        if request.content_type != "application/sdp":
            raise Problem(415, "Send the offer as application/sdp.")
        component = self._component(device, request.query.get("component_id"))
        if not device.has_video:
            raise Problem(400, "This device has no camera.")
        if not device.online:
            raise Problem(503, "Device is currently offline", title="Device Unavailable")
        await self.sandbox.faults.apply("whep", f"{integration.account}/{device.key}")
        offer = await request.text()
        behaviour = self.behaviour(integration.account, device.key)
        cap_s = device.session_cap_s if behaviour.cap_s is None else behaviour.cap_s
        session_id = secrets.token_urlsafe(24)

        def ended(session: LiveSession, reason: str) -> None:
            self._ended(session_id, reason)

        location = f"{self.sandbox.url}{request.path}/{session_id}"
        entry = LedgerEntry(
            session_id,
            integration.client_id,
            integration.account,
            device.key,
            component,
            self.world.now_ms(),
            cap_s,
        )
        try:
            if behaviour.codec == "hevc":
                answer = reject_all(offer)
                self.ledger[session_id] = entry
                self._ended(session_id, "no common codec")
                return _answered(answer, location)
            session = await LiveSession.open(
                offer_sdp=offer,
                camera=self.camera(integration, device, component),
                cap_s=cap_s,
                on_end=ended,
                behaviour=behaviour,
            )
        except OfferRejected as error:
            raise Problem(400, str(error)) from None
        self.sessions[session_id] = session
        self.ledger[session_id] = entry
        self._on_demand[session_id] = self.sandbox.happenings.record(
            integration.account, device.key, "on_demand", length_ms=None, by=integration.client_id
        )
        while len(self.ledger) > LEDGER_LENGTH:
            del self.ledger[next(iter(self.ledger))]
        return _answered(session.answer_sdp, location)

    def behaviour(self, account: str, device: str) -> Behaviour:
        """What this camera does while watched; one object for all its sessions, so that a change reaches them."""
        return self.behaviours.setdefault((account, device), Behaviour())

    def ledger_rows(self) -> list[dict[str, Any]]:
        """
        Every session with `open`, `leak` (words; empty where nothing is wrong), `forgotten` (it ended without a DELETE)
        and, of open ones, `peer_silent_s` and how many packets were `sent` and `withheld`.
        """
        return [self._ledger_row(entry) for entry in self.ledger.values()]

    def _ledger_row(self, entry: LedgerEntry) -> dict[str, Any]:
        row = {**asdict(entry), "open": entry.ended_ms is None, "leak": "", "forgotten": entry.is_forgotten}
        session = self.sessions.get(entry.id)
        if session is None:
            return row
        age_s = (datetime.now(UTC) - session.opened_at).total_seconds()
        silent_s = session.line.silent_s
        if age_s > entry.cap_s + CAP_GRACE_S:
            row["leak"] = "past its cap"
        elif (silent_s if silent_s is not None else age_s) > PEER_SILENT_S:
            row["leak"] = "never connected" if silent_s is None else "peer gone"
        return {
            **row,
            "peer_silent_s": silent_s,
            "sent": session.line.sent,
            "withheld": session.line.withheld,
        }

    async def close_session(self, request: web.Request) -> web.Response:
        await self.sandbox.faults.apply("whep.delete")
        integration = self.sandbox.api.integration(request)
        session_id = request.match_info["session"]
        session = self.sessions.get(session_id)
        entry = self.ledger.get(session_id)
        mine = entry is not None and (entry.client_id, entry.account) == (
            integration.client_id,
            integration.account,
        )
        if session is None or not mine:
            raise Problem(404, "There is no such session.")
        self._ended(session_id, "deleted")
        await session.close("deleted")
        return web.Response(status=204)

    async def close_all(self, integration: Integration, reason: str, device: str | None = None) -> None:
        """End the live sessions of an integration (or of one of its devices), as Ring does when consent ends."""
        for session_id, entry in list(self.ledger.items()):
            same = (entry.client_id, entry.account) == (integration.client_id, integration.account)
            if same and entry.ended_ms is None and device in {None, entry.device}:
                session = self.sessions.get(session_id)
                self._ended(session_id, reason)
                if session is not None:
                    await session.close(reason)

    def _ended(self, session_id: str, reason: str) -> None:
        self.sessions.pop(session_id, None)
        entry = self.ledger.get(session_id)
        if entry is not None and entry.ended_ms is None:
            entry.ended_ms = self.world.now_ms()
            entry.end_reason = reason
        event = self._on_demand.pop(session_id, None)
        if event is not None:
            event.end_ms = self.world.now_ms()
            self.sandbox.changed()

    # --- stills and clips (contract 11) ---

    async def image(self, request: web.Request) -> web.StreamResponse:
        await self.sandbox.faults.apply("image")
        integration, device = self._shared(request)
        body = await self._body(request)
        kind = body.get("type")
        if kind == "at_timestamp":
            start = end = self._moment(body, "timestamp")
        elif kind == "latest_in_range":
            start = self._moment(body, "start_timestamp")
            end = body.get("end_timestamp", self.world.now_ms())
            if not _is_whole(end) or not 0 <= end - start <= DAY_MS:
                raise self._invalid("end_timestamp", "must follow start_timestamp by 24 h at most")
        else:
            raise self._invalid("type", "must be at_timestamp or latest_in_range")
        options = self._object(body, "image_options")
        picture_format = options.get("format", "jpeg")
        if picture_format not in ("jpeg", "png"):
            raise self._invalid("image_options.format", "must be jpeg or png")
        width, height = self._resolution(options, "image_options")
        component = self._chosen(body, device, request)
        self._consented(integration, start)
        return await self._hand_out(
            request,
            Download(
                camera=self.camera(integration, device, component),
                device=device,
                integration=integration,
                kind="image",
                start_ms=start,
                duration_ms=end - start,
                width=width,
                height=height,
                frame_rate=DEFAULT_FRAME_RATE,
                expires_ms=self.world.now_ms() + URL_LIFETIME_S * 1000,
                format=picture_format,
                latest=kind == "latest_in_range",
            ),
        )

    async def video(self, request: web.Request) -> web.StreamResponse:
        await self.sandbox.faults.apply("clip")
        integration, device = self._shared(request)
        body = await self._body(request)
        start = self._moment(body, "timestamp")
        duration = body.get("duration")
        if duration is None:
            raise Problem(403, "Cannot authorize: duration is missing", code="REQUEST_FORBIDDEN")
        if not _is_whole(duration) or not 0 < duration <= MAX_CLIP_MS:
            raise self._invalid("duration", "must be positive and at most 900000")
        options = self._object(body, "video_options")
        frame_rate = options.get("frame_rate", DEFAULT_FRAME_RATE)
        if not _is_whole(frame_rate) or not 0 < frame_rate <= MAX_FRAME_RATE:
            raise self._invalid("video_options.frame_rate", f"must be 1 to {MAX_FRAME_RATE}")
        if options.get("codec", "avc") not in ("avc", "hevc"):
            raise self._invalid("video_options.codec", "must be avc or hevc")
        audio = self._object(body, "audio_options").get("audio_enabled", False)
        if not isinstance(audio, bool):
            raise self._invalid("audio_options.audio_enabled", "must be true or false")
        width, height = self._resolution(options, "video_options")
        component = self._chosen(body, device, request)
        self._consented(integration, start)
        return await self._hand_out(
            request,
            Download(
                camera=self.camera(integration, device, component),
                device=device,
                integration=integration,
                kind="video",
                start_ms=start,
                duration_ms=duration,
                width=width,
                height=height,
                frame_rate=frame_rate,
                expires_ms=self.world.now_ms() + URL_LIFETIME_S * 1000,
            ),
        )

    async def _hand_out(self, request: web.Request, found: Download) -> web.StreamResponse:
        """303 to the media origin (contract 11.1); by knob the bytes at once, as the older pages say."""
        if self.sandbox.forced_media() == "direct200":
            return await self._bytes(request, found)
        now = self.world.now_ms()
        self.downloads = {token: known for token, known in self.downloads.items() if known.expires_ms > now}
        token, request_id = secrets.token_urlsafe(32), str(uuid.uuid4())
        self.downloads[token] = found
        query = {
            "security_token": token,
            "req_type": f"{found.kind}_download",
            "req_id": request_id,
            "X-Amz-Date": datetime.fromtimestamp(now / 1000, UTC).strftime("%Y%m%dT%H%M%SZ"),
            "X-Amz-Expires": URL_LIFETIME_S,
        }
        location = f"{self.sandbox.media_url}/v1/download?{urlencode(query)}"
        return web.Response(status=303, headers={"Location": location, "X-Request-ID": request_id})

    async def download(self, request: web.Request) -> web.StreamResponse:
        """The media origin: a signed address is all it takes, and a bearer or a cookie is a leak that it refuses."""
        await self.sandbox.faults.apply("download")
        if "Authorization" in request.headers or "Cookie" in request.headers:
            raise Problem(400, "credentials do not belong here", code="INVALID_PAYLOAD")
        found = self.downloads.get(request.query.get("security_token", ""))
        if found is None or found.expires_ms < self.world.now_ms():
            raise Problem(403, "this address is no longer good", code="REQUEST_FORBIDDEN")
        self._force(found)
        return await self._bytes(request, found)

    async def _bytes(self, request: web.Request, found: Download) -> web.StreamResponse:
        if found.kind == "image":
            return await self._image_bytes(found)
        return await self._video_bytes(request, found)

    async def _image_bytes(self, found: Download) -> web.Response:
        at = self._recorded_moment(found)
        if at is None:
            raise Problem(416, "nothing was recorded then", code="MEDIA_NOT_FOUND")
        body = await asyncio.to_thread(
            render_image,
            camera=found.camera,
            at_ms=at,
            width=found.width,
            height=found.height,
            format=found.format,
        )
        self._used(found, at, at)
        headers = {
            "X-Media-Timestamp": str(at),
            "X-Media-Origin": "recording",
            "X-Request-ID": str(uuid.uuid4()),
        }
        return web.Response(body=body, content_type=f"image/{found.format}", headers=headers)

    async def _video_bytes(self, request: web.Request, found: Download) -> web.StreamResponse:
        now = self.world.now_ms()
        start, end = found.start_ms, found.start_ms + found.duration_ms
        ranges = self._recorded(found, now)
        covering = next(((a, b) for a, b in ranges if a < min(end, now) and b > start), None)
        if covering is None:
            raise Problem(416, "nothing was recorded then", code="TIMESTAMP_NOT_FOUND")
        if start > now - NOT_READY_MS:
            raise Problem(425, "the recording is not ready", code="RECORDING_NOT_READY")
        real_start, real_end = max(start, covering[0]), min(end, covering[1], now)
        partial = (real_start, real_end) != (start, end) or self.sandbox.forced_media() == "206"
        handle, name = tempfile.mkstemp(suffix=".mp4")
        os.close(handle)
        path = Path(name)
        await asyncio.to_thread(
            write_clip,
            path,
            camera=found.camera,
            start_ms=real_start,
            duration_ms=real_end - real_start,
            width=found.width,
            height=found.height,
            frame_rate=found.frame_rate,
        )
        self._used(found, real_start, real_end)
        headers = {"X-Media-Timestamp": str(real_start), "X-Request-ID": str(uuid.uuid4())}
        if partial:
            headers |= {
                "X-Media-Length": str(real_end - real_start),
                "X-Media-Duration": str(real_end - real_start),
            }
        return await self._send_file(request, path, status=206 if partial else 200, headers=headers)

    @staticmethod
    async def _send_file(
        request: web.Request, path: Path, *, status: int, headers: dict[str, str]
    ) -> web.StreamResponse:
        """Stream a file piece by piece and forget it. `Range` is ignored: a 206 here is not a byte range."""
        file = await asyncio.to_thread(path.open, "rb")
        try:
            await asyncio.to_thread(path.unlink)  # an open file needs no name, and leaves nothing behind
            response = web.StreamResponse(status=status, headers={**headers, "Content-Type": "video/mp4"})
            response.content_length = os.fstat(file.fileno()).st_size
            await response.prepare(request)
            while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                await response.write(piece)
            await response.write_eof()
            return response
        finally:
            await asyncio.to_thread(file.close)

    # --- what is recorded ---

    def _recorded(self, found: Download, now: int) -> list[tuple[int, int]]:
        """Stretches with footage: all the time on line power, around events on battery."""
        if found.device.power == "line":
            return [(found.integration.consent_ms, now)]
        windows = sorted(
            self._window(event, now)
            for event in self.world.events
            if event.recorded
            and (event.account, event.device) == (found.integration.account, found.device.key)
        )
        merged: list[tuple[int, int]] = []
        for a, b in windows:
            if merged and a <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(b, merged[-1][1]))
            else:
                merged.append((a, b))
        return merged

    def _recorded_moment(self, found: Download) -> int | None:
        now = self.world.now_ms()
        low, high = found.start_ms, found.start_ms + found.duration_ms
        if not found.latest:
            low, high = low - TOLERANCE_MS, high + TOLERANCE_MS
        for a, b in reversed(self._recorded(found, now)):
            if a <= min(high, now) and b >= low:
                inside = min(high if found.latest else found.start_ms, b, now)
                return max(inside, a)
        return None

    @staticmethod
    def _window(event: Event, now: int) -> tuple[int, int]:
        if event.type == "on_demand":
            return event.start_ms, now if event.end_ms is None else event.end_ms
        return event.start_ms - EVENT_BEFORE_MS, event.start_ms + EVENT_AFTER_MS

    def _used(self, found: Download, start: int, end: int) -> None:
        """The app has seen this footage: mark its events as reviewed, and note the use (contract 8)."""
        client_id = found.integration.client_id
        for event in self.world.events:
            same = (event.account, event.device) == (found.integration.account, found.device.key)
            shown = event.start_ms <= end and (event.end_ms is None or event.end_ms >= start)
            if same and shown and client_id not in event.reviewed_by:
                event.reviewed_by.append(client_id)
        now, used = self.world.now_ms(), (client_id, found.integration.account, found.device.key)
        last = self._last_use.get(used)
        if last is not None and last.end_ms is not None and 0 <= now - last.end_ms < ONE_USE_MS:
            last.end_ms = now
            self.sandbox.changed()
        else:
            self._last_use[used] = self.sandbox.happenings.record(
                *used[1:], "on_demand", length_ms=0, by=client_id, recorded=False
            )

    def forget(self) -> None:
        """Forget addresses and the ledger, at a reset; live sessions are closed before."""
        self.behaviours.clear()
        self.downloads.clear()
        self.ledger.clear()
        self._last_use.clear()

    def _force(self, found: Download) -> None:
        nothing = "TIMESTAMP_NOT_FOUND" if found.kind == "video" else "MEDIA_NOT_FOUND"
        codes = {
            "416": nothing,
            "422": "CORRUPT_RECORDING",
            "425": "RECORDING_NOT_READY",
            "503": "SERVER_BUSY",
        }
        forced = self.sandbox.forced_media()
        if forced in codes:
            raise Problem(int(forced), "forced through the control plane", code=codes[forced])

    # --- reading requests ---

    def _shared(self, request: web.Request) -> tuple[Integration, Device]:
        """As `PartnerApi.shared`, refusing in the words of the media routes (contract 11.4)."""
        try:
            return self.sandbox.api.shared(request)
        except Problem as problem:
            code = {401: "UNAUTHORIZED", 403: "REQUEST_FORBIDDEN", 404: "DEVICE_NOT_FOUND"}[problem.status]
            raise Problem(problem.status, str(problem), code=code) from None

    def camera(self, integration: Integration, device: Device, component: str | None) -> CameraView:
        device_id = self.world.device_id(integration.client_id, integration.account, device.key)
        return CameraView(
            device_id=device_id,
            device_name=device.name,
            app_name=self.world.apps[integration.client_id].name,
            component_id=component,
            kind=device.scene or "yard",
            scene_seed=sum(device.key.encode()) + int(component or 0),
        )

    def _component(self, device: Device, given: str | None) -> str | None:
        if given is not None and given not in device.components:
            raise Problem(400, "There is no such component.")
        return given if given is not None else (device.components[0] if device.components else None)

    def _chosen(self, body: dict[str, Any], device: Device, request: web.Request) -> str | None:
        given = request.query.get("component_id")
        components = body.get("components")
        if components is not None:
            if (
                not isinstance(components, list)
                or len(components) != 1
                or not isinstance(components[0], dict)
            ):
                raise self._invalid("components", "must name exactly one component")
            given = str(components[0].get("component_id"))
        if not device.has_video:
            raise Problem(400, "this device has no camera", code="INVALID_PAYLOAD")
        known: list[str | None] = [*device.components] or [None]
        if given not in known:
            raise self._invalid("components", "must name one of the device's components")
        return given

    def _consented(self, integration: Integration, start_ms: int) -> None:
        if start_ms < integration.consent_ms:
            raise Problem(403, "the range begins before the user's consent", code="TIME_RANGE_NOT_AUTHORIZED")

    def _moment(self, body: dict[str, Any], name: str) -> int:
        value: object = body.get(name)
        if value is None:
            raise Problem(403, f"Cannot authorize: {name} is missing", code="REQUEST_FORBIDDEN")
        if not _is_whole(value) or not 0 < value <= self.world.now_ms():
            raise self._invalid(name, "must be a past moment in epoch milliseconds")
        if value < self.world.now_ms() - 180 * DAY_MS:
            raise self._invalid(name, "must lie within 180 days")
        return value

    def _resolution(self, options: dict[str, Any], under: str) -> tuple[int, int]:
        given = self._object(options, "resolution")
        width, height = given.get("width", DEFAULT_WIDTH), given.get("height", DEFAULT_HEIGHT)
        if not (_is_whole(width) and _is_whole(height) and 0 < width <= 1920 and 0 < height <= 1080):
            raise self._invalid(f"{under}.resolution", "must be at most 1920x1080")
        return width, height

    def _object(self, body: dict[str, Any], name: str) -> dict[str, Any]:
        value = body.get(name, {})
        if not isinstance(value, dict):
            raise self._invalid(name, "must be an object")
        return value

    async def _body(self, request: web.Request) -> dict[str, Any]:
        raw = await request.read()
        if not raw.strip():
            raise Problem(403, "Cannot authorize: the body is empty", code="REQUEST_FORBIDDEN")
        try:
            body = await request.json()
        except ValueError:
            raise self._invalid("", "the body is not JSON") from None
        if not isinstance(body, dict):
            raise self._invalid("", "the body must be an object")
        return body

    @staticmethod
    def _invalid(pointer: str, detail: str) -> Problem:
        return Problem(400, f"{pointer} {detail}".strip(), code="INVALID_PAYLOAD", pointer=pointer)
