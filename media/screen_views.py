"""The page on which people make and end screens, and what a screen itself may ask: its wall and its cameras' live view."""

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from accounts.access import TenantRequest, roles_allowed
from accounts.models import Role, Tenant
from devices.describe import has_privacy_zones
from devices.models import Device
from media import screens, whep
from media.access import ViewerRequest
from media.models import LiveSession, Screen
from media.problem import problem
from portal.walls import enter_tenant

COOKIE: Final = "portal-screen"
_FRESH_LINK: Final = "fresh_screen_link"
GOOD_FOR: Final = {"1": "a day", "7": "a week", "30": "30 days", "365": "a year"}


class ScreenForm(forms.Form):
    """A name, cameras, and for how long."""

    name = forms.CharField(
        label="Name", max_length=100, help_text="Where the screen hangs: it tells who watches."
    )
    cameras = forms.ModelMultipleChoiceField(
        Device.objects.none(), label="Cameras", widget=forms.CheckboxSelectMultiple
    )
    days = forms.ChoiceField(label="The link works for", choices=list(GOOD_FOR.items()), initial="30")

    def __init__(self, *args: Any, cameras: list[Device], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["cameras"]
        assert isinstance(field, forms.ModelMultipleChoiceField)  # noqa: S101 - it is declared above
        field.queryset = Device.objects.filter(pk__in=[camera.pk for camera in cameras]).order_by(
            "name", "pk"
        )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*Role)
def screen_list(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """
    The links there are, and a new one, for cameras whose live view one may give to others.

    For everybody who may give any; for others a page that says so. The link itself is shown once, right after it was made.
    """
    now = timezone.now()
    form = ScreenForm(request.POST or None, cameras=screens.showable_cameras(request.membership, now=now))
    if form.is_bound and form.is_valid():
        chosen = form.cleaned_data
        _, token = screens.make_screen(
            member=request.membership,
            name=chosen["name"],
            cameras=list(chosen["cameras"]),
            good_for=timedelta(days=int(chosen["days"])),
            now=now,
        )
        # The session is encrypted in the database; the link is taken out of it when it is shown.
        request.session[_FRESH_LINK] = (
            f"{request.build_absolute_uri(reverse('media:screen', args=[tenant]))}#{token}"
        )
        return redirect("media:screens", tenant)
    rows = Screen.objects.visible_to(request.membership).select_related("membership__user")
    context = {
        "form": form,
        "may_make": bool(form.fields["cameras"].queryset),  # type: ignore[attr-defined]  # a ModelMultipleChoiceField
        "screens": rows.usable(now).prefetch_related("devices"),
        "fresh_link": request.session.pop(_FRESH_LINK, ""),
        "nav": "media:wall",
    }
    status = HTTPStatus.UNPROCESSABLE_ENTITY if form.is_bound else HTTPStatus.OK
    return render(request, "media/screens.html", context, status=status)


@require_POST
@roles_allowed(*Role)
def revoke_screen(request: TenantRequest, tenant: str, screen: UUID) -> HttpResponse:
    """End a link and what it shows, at once. For whoever made it, and for the tenant's team."""
    found = get_object_or_404(
        Screen.objects.visible_to(request.membership).select_related("tenant"), public_id=screen
    )
    screens.revoke(screen=found, by=request.user, now=timezone.now())
    messages.success(request, f"The link of “{found.name}” works no more, and its pictures have ended.")
    return redirect("media:screens", tenant)


# --- what a screen asks -------------------------------------------------------------------------------------------


@never_cache
@sensitive_post_parameters("token")
@require_http_methods(["GET", "HEAD", "POST"])
def screen(request: HttpRequest, tenant: str) -> HttpResponseBase:
    """
    A screen's wall. Admits anybody: the cookie is the key, which a POST of the link's token gets.

    Without it the page only asks for the link: the token stands after the #, where only its script sees it.
    """
    of = get_object_or_404(Tenant, slug=tenant)
    if request.method == "POST":
        return _let_in(request, of)
    found = screens.find_screen(tenant_slug=tenant, token=request.COOKIES.get(COOKIE, ""), now=timezone.now())
    if found is None:
        is_over = COOKIE in request.COOKIES
        response = render(request, "media/screen_entry.html", {"link_tenant": of, "is_over": is_over})
        if is_over:
            response.delete_cookie(COOKIE, path=request.path)
        return response
    enter_tenant(of)
    now = timezone.now()
    screens.note_use(found, now=now)
    cameras = screens.cameras_of(found, now=now)
    context = {
        "link_tenant": of,
        "screen": found,
        "wall_most": of.wall_most,
        "tiles": [
            (camera, part or "", number)
            for camera in cameras
            if not has_privacy_zones(camera) and not camera.is_plan_ended
            for number, part in enumerate(camera.component_choices, start=1)
        ],
    }
    return render(request, "media/screen.html", context)


def _let_in(request: HttpRequest, of: Tenant) -> HttpResponse:
    now = timezone.now()
    token = request.POST.get("token", "")
    found = screens.find_screen(tenant_slug=of.slug, token=token, now=now)
    if found is None:
        return problem(HTTPStatus.NOT_FOUND, "screen", "This link does not work any more. Ask for a new one.")
    enter_tenant(of)
    screens.note_opened(found)
    response = HttpResponse(status=HTTPStatus.NO_CONTENT)
    response.set_cookie(
        COOKIE,
        token,
        max_age=found.expires_at - now,
        path=reverse("media:screen", args=[of.slug]),
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Strict",
    )
    return response


def for_screens(
    view: Callable[..., HttpResponse],
) -> Callable[..., HttpResponseBase]:
    """Let in screens whose link still works; everybody else finds nothing. Gives the view the camera, if it is shown there."""

    @wraps(view)
    def guarded(request: Any, tenant: str, device: UUID, **kwargs: Any) -> HttpResponseBase:
        now = timezone.now()
        found = screens.find_screen(tenant_slug=tenant, token=request.COOKIES.get(COOKIE, ""), now=now)
        if found is None:
            return _not_shown()
        enter_tenant(found.tenant_id)
        request.tenant, request.screen = found.tenant, found
        request.person = request.api_token = None
        screens.note_use(found, now=now)
        for camera in screens.cameras_of(found, now=now):
            if camera.public_id == device:
                return view(request, camera, **kwargs)
        return _not_shown()

    return never_cache(guarded)


def _not_shown() -> HttpResponse:
    """404 with the reason, upon which the screen's page loads itself again and shows what there is left to show."""
    return problem(
        HTTPStatus.NOT_FOUND,
        LiveSession.EndReason.ACCESS,
        "This screen does not show this camera any more. Ask whoever made its link for a new one.",
        headers={"Session-End": LiveSession.EndReason.ACCESS},
    )


def _nothing() -> Http404:
    return Http404("There is no such page for you.")


@for_screens
def screen_whep(request: ViewerRequest, camera: Device) -> HttpResponse:
    """A screen begins to watch one of its cameras: our WHEP endpoint's POST. HEAD: with fresh passwords for TURN."""
    if request.method == "HEAD":
        return whep.name_servers()
    if request.method != "POST":
        raise _nothing()
    return whep.open_viewing(request, camera)


@for_screens
def screen_session(request: ViewerRequest, camera: Device, session: UUID) -> HttpResponse:
    """A screen's own session, as WHEP has it."""
    return whep.answer_session(request, _session_of(request, camera, session))


@for_screens
def screen_more(request: ViewerRequest, camera: Device, session: UUID) -> HttpResponse:
    """A screen goes on watching."""
    return whep.answer_more(request, _session_of(request, camera, session))


def _session_of(request: ViewerRequest, camera: Device, session: UUID) -> LiveSession:
    rows = LiveSession.objects.for_tenant(request.tenant).filter(screen=request.screen, device=camera)
    return whep.find_named(
        rows.select_related("tenant", "viewer", "screen", "device__ring_account", "device__tenant"), session
    )
