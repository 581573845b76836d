"""The pages: watching, the wall, the clip library; and the private files behind them."""

from datetime import UTC, datetime, time, timedelta
from uuid import UUID

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.templatetags.static import static
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe

from accounts.access import TenantRequest, roles_allowed
from accounts.models import Role
from accounts.services import NotLinked
from devices.describe import has_privacy_zones
from devices.grants import Capability, holdings_of, may, require
from devices.models import Device, DeviceQuerySet
from events.models import Event
from media import clips, presence
from media.access import ViewerRequest, viewers_allowed
from media.forms import ClipFilterForm, ClipRangeForm
from media.live import has_a_purpose
from media.models import Clip, FetchState, LiveSession, Picture
from media.pictures import latest_picture, latest_pictures_for
from portal.serve import is_from_the_start, serve_file

CLIPS_A_PAGE = 24
VIEWINGS_A_PAGE = 50
JPEG = "image/jpeg"


def _cameras(request: TenantRequest) -> QuerySet[Device]:
    cameras: QuerySet[Device] = (
        Device.objects.permitted_to(request.membership, Capability.LIVE)
        .present()
        .cameras()
        .select_related("ring_account", "tenant")
    )
    return cameras


def _cameras_at_all() -> DeviceQuerySet:
    return Device.objects.cameras().select_related("ring_account", "tenant")


@require_GET
@roles_allowed(*Role)
def wall(request: TenantRequest, tenant: str) -> HttpResponse:
    """Every camera this person may watch, each as its last picture with a button to watch."""
    cameras = _cameras(request)
    tiles = [
        (camera, part or "", number)
        for camera in cameras
        for number, part in enumerate(camera.component_choices, start=1)
    ]
    context = {
        "tiles": tiles,
        "player_count": sum(
            not has_privacy_zones(camera) and not camera.is_plan_ended for camera, _, _ in tiles
        ),
        "known_pictures": latest_pictures_for(holdings_of(request.membership), cameras),
        "wall_most": request.tenant.wall_most,
        "asks": any(has_a_purpose(request.membership, camera) for camera in cameras),
        "known_watching": presence.watching(request.membership),
    }
    return render(request, "media/wall.html", context)


@require_GET
@roles_allowed(*Role)
def watch(request: TenantRequest, tenant: str, device: UUID) -> HttpResponse:
    """One camera, live."""
    camera = _cameras_at_all().get_permitted(request.membership, Capability.LIVE, public_id=device)
    component = request.GET.get("component", "")
    known = [str(part) for part in camera.components]
    if component and component not in known:
        raise Http404("There is no such camera.")
    component = component or (known[0] if known else "")
    newest = Clip.objects.visible_to(request.membership).filter(device=camera).order_by("-created_at")[:4]
    context = {
        "device": camera,
        "component": component,
        "components": known,
        "clips": newest,
        "form": ClipRangeForm(initial={"component": component}),
        "nav": "media:wall",
    }
    return render(request, "media/watch.html", context)


@require_GET
@roles_allowed(*Role)
def watching(request: TenantRequest, tenant: str) -> HttpResponse:
    """
    Who watches now, in words, by the device's public id: of all devices this person sees, or of `?device=` alone.

    Pages ask every few seconds. What is not in the answer nobody watches.
    """
    devices = None
    if wanted := request.GET.get("device"):
        devices = Device.objects.visible_to(request.membership).filter(public_id__in=_uuids(wanted))
    found = presence.watching(request.membership, devices)
    return JsonResponse(
        {"watching": {str(public_id): words for public_id, words in found.items()}},
        headers={"Cache-Control": "no-store"},
    )


def _uuids(text: str) -> list[UUID]:
    try:
        return [UUID(text)]
    except ValueError:
        return []


@require_GET
@roles_allowed(*Role)
def viewings(request: TenantRequest, tenant: str, device: UUID) -> HttpResponse:
    """
    Who watched one camera live: when, how long, why it ended; newest first.

    For everybody who sees the device. Whoever manages it reads everybody's viewings, all others their own.
    """
    camera = get_object_or_404(Device.objects.visible_to(request.membership), public_id=device)
    rows = LiveSession.objects.visible_to(request.membership).of(camera)
    page = Paginator(rows, VIEWINGS_A_PAGE).get_page(request.GET.get("page"))
    context = {
        "device": camera,
        "page": page,
        "sees_everybody": may(request.membership, Capability.MANAGE, camera),
        "nav": "devices:list",
    }
    return render(request, "media/viewings.html", context)


@require_GET
@roles_allowed(*Role)
def library(request: TenantRequest, tenant: str) -> HttpResponse:
    """The clips of this tenant that this person may see, newest first, by device and day (UTC)."""
    rows = Clip.objects.visible_to(request.membership).select_related("device")
    total = rows.count()
    form = ClipFilterForm(request.GET)
    form.is_valid()
    device, day = form.cleaned_data.get("device"), form.cleaned_data.get("day")
    if device:
        rows = rows.filter(device__public_id=device)
    if day:
        begin = datetime.combine(day, time.min, tzinfo=UTC)
        rows = rows.filter(start__gte=begin, start__lt=begin + timedelta(days=1))
    page = Paginator(rows, CLIPS_A_PAGE).get_page(request.GET.get("page"))
    query = request.GET.copy()
    query.pop("page", None)
    context = {
        "page": page,
        "total": total,
        "devices": Device.objects.permitted_to(request.membership, Capability.CLIPS).cameras(),
        "device": device,
        "day": day,
        "is_filtered": bool(device or day),
        "query": query.urlencode(),
    }
    return render(request, "media/clips.html", context)


def _find_clip(request: TenantRequest, clip: UUID) -> Clip:
    rows = Clip.objects.select_related(
        "device__ring_account", "device__tenant", "event", "requested_by", "tenant"
    )
    found: Clip = rows.get_visible(request.membership, public_id=clip)
    return found


@require_GET
@roles_allowed(*Role)
def clip(request: TenantRequest, tenant: str, clip: UUID) -> HttpResponse:
    """One clip: how far it is, or the clip itself. An htmx request gets the changing part only."""
    found = _find_clip(request, clip)
    context = {
        "clip": found,
        "is_pending": found.state in clips.PENDING,
        "waits_for_range": found.state == FetchState.QUEUED
        and found.attempts == 0
        and found.next_attempt_at is not None
        and found.next_attempt_at > timezone.now(),
        "nav": "media:clips",
    }
    is_part = bool(request.headers.get("HX-Request"))
    response = render(request, "media/_clip_state.html" if is_part else "media/clip.html", context)
    patch_vary_headers(response, ["HX-Request"])
    response["Cache-Control"] = "no-store"
    return response


@require_POST
@roles_allowed(*Role)
def request_event_clip(request: TenantRequest, tenant: str, event: UUID) -> HttpResponse:
    """Keep the footage around one event; its page shows the clip once Ring has sent it."""
    rows = Event.objects.select_related("device__ring_account", "device__tenant")
    found: Event = rows.get_visible(request.membership, public_id=event)
    if found.device is not None:
        require(request.membership, Capability.CLIPS, found.device)
    try:
        asked = clips.request_event_clip(event=found, by=request.user, now=timezone.now())
    except (clips.ClipRefused, NotLinked) as error:
        _explain(request, error)
        return redirect("events:detail", tenant, found.public_id)
    return redirect("media:clip", tenant, asked.public_id)


@require_POST
@roles_allowed(*Role)
def request_device_clip(request: TenantRequest, tenant: str, device: UUID) -> HttpResponse:
    """Keep the last 30 seconds of a camera, or the range that was typed in."""
    camera = _cameras_at_all().get_permitted(request.membership, Capability.CLIPS, public_id=device)
    now = timezone.now()
    start, length = now - clips.LATEST_FOOTAGE, clips.LATEST_FOOTAGE
    component = request.POST.get("component", "")
    if request.POST.get("start"):
        form = ClipRangeForm(request.POST)
        if not form.is_valid():
            for error in [error for errors in form.errors.values() for error in errors]:
                messages.error(request, str(error))
            return redirect("media:watch", tenant, camera.public_id)
        start, length = form.cleaned_data["start"], timedelta(seconds=form.cleaned_data["seconds"])
    elif camera.ring_account.consent_at is not None:
        # An account linked a moment ago: what there is since then.
        start = max(start, clips.to_millisecond(camera.ring_account.consent_at) + clips.MILLISECOND)
        length = max(now - start, clips.MILLISECOND)
    try:
        asked = clips.request_clip(
            device=camera,
            start=start,
            duration_ms=length // clips.MILLISECOND,
            component_id=component,
            by=request.user,
            now=now,
        )
    except (clips.ClipRefused, NotLinked) as error:
        _explain(request, error)
        return redirect("media:watch", tenant, camera.public_id)
    return redirect("media:clip", tenant, asked.public_id)


@require_POST
@roles_allowed(*Role)
def ask_again(request: TenantRequest, tenant: str, clip: UUID) -> HttpResponse:
    """Ask once more for a clip that could not be had."""
    found = _find_clip(request, clip)
    try:
        asked = clips.ask_again(clip=found, by=request.user, now=timezone.now())
    except (clips.ClipRefused, NotLinked) as error:
        _explain(request, error)
        return redirect("media:clip", tenant, found.public_id)
    return redirect("media:clip", tenant, asked.public_id)


def _explain(request: HttpRequest, error: Exception) -> None:
    words = str(error)
    if isinstance(error, clips.BeforeConsent):
        words = f"Ring gives no footage from before {error.consent_at:%d %B %Y, %H:%M} UTC, when this account was linked."
    elif isinstance(error, NotLinked):
        words = "The Ring account of this camera is not linked. Link it again, then ask for the clip."
    messages.error(request, words)


@require_http_methods(["GET", "POST"])
@roles_allowed(*Role)
def delete_clip(request: TenantRequest, tenant: str, clip: UUID) -> HttpResponse:
    """Ask once, naming what is lost; then delete it for good."""
    found = _find_clip(request, clip)
    require(request.membership, Capability.MANAGE, found.device)
    if request.method == "POST":
        clips.delete_clip(clip=found, by=request.user)
        messages.success(request, f"The clip of {found.device.name} is deleted.")
        return redirect("media:clips", tenant)
    return render(request, "media/clip_delete.html", {"clip": found, "nav": "media:clips"})


@require_safe
@viewers_allowed(*Role, is_page=True)
def clip_video(request: ViewerRequest, tenant: str, clip: UUID) -> HttpResponseBase:
    """The clip's bytes, exactly as Ring sent them; `?download` makes a browser save them."""
    rows = Clip.objects.select_related("device__ring_account__user", "tenant").filter(state=FetchState.READY)
    found: Clip = rows.get_visible(request.viewer, public_id=clip)
    if "download" in request.GET:
        require(request.viewer, Capability.EXPORT, found.device)
    began = found.actual_start or found.start
    if request.method == "GET" and is_from_the_start(request):
        clips.record_viewing(
            clip=found, by=request.person, api_token=request.api_token, is_download="download" in request.GET
        )
    return serve_file(
        request,
        storage=found.file.storage,
        name=str(found.file.name),
        size_bytes=found.size_bytes or 0,
        sha256=found.sha256,
        content_type="video/mp4",
        filename=f"{found.device.name} {began:%Y-%m-%d %H.%M.%S}.mp4",
        as_attachment="download" in request.GET,
    )


@require_safe
@viewers_allowed(*Role, is_page=True)
def clip_poster(request: ViewerRequest, tenant: str, clip: UUID) -> HttpResponseBase:
    """The first picture of a clip; a drawing while there is none."""
    found: Clip = Clip.objects.get_visible(request.viewer, public_id=clip)
    if not found.poster:
        return _no_picture()
    try:
        with found.poster.open("rb") as content:
            return _picture_answer(content.read())
    except FileNotFoundError:
        return _no_picture()


@require_safe
@viewers_allowed(*Role, is_page=True)
def picture(request: ViewerRequest, tenant: str, picture: UUID) -> HttpResponseBase:
    """One stored picture; a drawing while it is not here."""
    found: Picture = Picture.objects.get_visible(request.viewer, public_id=picture)
    return _stored_picture(found)


@require_safe
@viewers_allowed(*Role, is_page=True)
def latest(request: ViewerRequest, tenant: str, device: UUID) -> HttpResponseBase:
    """The newest picture of a camera (`?component=`); a drawing where there is none, so that no tile breaks."""
    camera = get_object_or_404(
        Device.objects.visible_to(request.viewer).select_related("ring_account"), public_id=device
    )
    if not may(request.viewer, Capability.EVENTS, camera):
        return _no_picture()  # a picture tells of an event
    return _stored_picture(latest_picture(camera, request.GET.get("component", "")))


def _stored_picture(found: Picture | None) -> HttpResponse:
    if found is None or found.state != FetchState.READY:
        return _no_picture()
    try:
        with found.file.open("rb") as content:
            return _picture_answer(content.read())
    except FileNotFoundError:
        return _no_picture()


def _picture_answer(content: bytes) -> HttpResponse:
    return HttpResponse(content, content_type=JPEG, headers={"Cache-Control": "private, no-store"})


def _no_picture() -> HttpResponse:
    """To a drawing of the house, which the browser may keep; this answer it may not."""
    response = redirect(static("img/no-picture.svg"))
    response["Cache-Control"] = "no-store"
    return response
