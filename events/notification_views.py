"""Notifications: what a member is told of, in which browsers, and peace for a while."""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.templatetags.static import static
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.access import ANYONE_IN_THE_TENANT, TenantRequest, roles_allowed
from accounts.models import Membership, Tenant
from devices.grants import Capability
from devices.models import Device
from events import notifications, push, words
from events.models import NotificationSettings
from events.notification_tasks import hand_over
from events.zones import in_own_zone
from portal.walls import enter_tenant

MAX_BODY_BYTES = 8192


class NotificationForm(forms.Form):
    """What to be told of; boxes that are ticked are told."""

    kinds = forms.MultipleChoiceField(
        label="Tell me of",
        required=False,
        widget=forms.CheckboxSelectMultiple,
        choices=[(chip.key, chip.label) for chip in words.FILTERS],
    )
    devices = forms.MultipleChoiceField(
        label="From these devices", required=False, widget=forms.CheckboxSelectMultiple
    )
    cooldown_minutes = forms.TypedChoiceField(
        label="For one device",
        coerce=int,
        choices=NotificationSettings.Cooldown.choices,
        help_text="A busy street tells you once, not thirty times. The doorbell always rings through.",
    )

    def __init__(self, data: Any, *, chosen: NotificationSettings, devices: list[Device]) -> None:
        muted_devices = set(chosen.muted_devices)
        ids = [str(device.public_id) for device in devices]
        super().__init__(
            data,
            initial={
                "kinds": [chip.key for chip in words.FILTERS if chip.key not in chosen.muted_kinds],
                "devices": [public_id for public_id in ids if public_id not in muted_devices],
                "cooldown_minutes": chosen.cooldown_minutes,
            },
        )
        self._chosen, self._ids = chosen, ids
        self.fields["devices"].choices = [  # type: ignore[attr-defined]  # a choice field
            (str(device.public_id), device.name) for device in devices
        ]
        if not devices:
            del self.fields["devices"]

    def save(self) -> None:
        """Keep what is not ticked: what comes later is told."""
        chosen = self._chosen
        kinds, told = self.cleaned_data["kinds"], self.cleaned_data.get("devices", [])
        chosen.muted_kinds = [chip.key for chip in words.FILTERS if chip.key not in kinds]
        # A device that is not shown (a grant that ended, and may come again) stays as it was.
        unseen = [public_id for public_id in chosen.muted_devices if public_id not in self._ids]
        chosen.muted_devices = unseen + [public_id for public_id in self._ids if public_id not in told]
        chosen.cooldown_minutes = self.cleaned_data["cooldown_minutes"]
        chosen.save()


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*ANYONE_IN_THE_TENANT)
@in_own_zone
def notifications_page(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """What this member is told of, and in which browsers."""
    chosen = notifications.settings_of(request.membership)
    devices = list(Device.objects.permitted_to(request.membership, Capability.EVENTS).order_by("name", "pk"))
    form = NotificationForm(request.POST or None, chosen=chosen, devices=devices)
    if form.is_bound and form.is_valid():
        form.save()
        messages.success(request, "Saved.")
        return redirect("events:notifications", request.tenant.slug)
    now = timezone.now()
    context = {
        "form": form,
        "browsers": notifications.browsers_of(request.membership),
        "public_key": push.public_key(notifications.signing_key()),
        "snoozed_until": chosen.snoozed_until
        if chosen.snoozed_until and chosen.snoozed_until > now
        else None,
        "snoozes": notifications.SNOOZES.items(),
    }
    return render(request, "events/notifications.html", context, status=422 if form.is_bound else 200)


@never_cache
@require_safe
@roles_allowed(*ANYONE_IN_THE_TENANT)
def own_notifications(request: TenantRequest, tenant: str) -> JsonResponse:
    """What this member has chosen, for a page that is open (static/js/notices.js)."""
    chosen = notifications.settings_of(request.membership)
    return JsonResponse(
        {
            "muted_kinds": chosen.muted_kinds,
            "muted_devices": chosen.muted_devices,
            "cooldown_minutes": chosen.cooldown_minutes,
            "snoozed_until": chosen.snoozed_until.isoformat() if chosen.snoozed_until else None,
        }
    )


@require_POST
@roles_allowed(*ANYONE_IN_THE_TENANT)
def subscribe(request: TenantRequest, tenant: str) -> HttpResponse:
    """The browser's `PushSubscription`, as JSON, with a `name` for the list. 204, or 400 with the reason."""
    given = _json_of(request)
    name = given.get("name")
    try:
        notifications.subscribe(
            request.membership,
            push.Subscription.read(given.get("subscription")),
            name=name if isinstance(name, str) and name.strip() else "A browser",
            now=timezone.now(),
        )
    except push.NoSubscription as error:
        return JsonResponse({"detail": str(error)}, status=400)
    return HttpResponse(status=204)


@require_POST
@roles_allowed(*ANYONE_IN_THE_TENANT)
def remove_browser(request: TenantRequest, tenant: str, browser: UUID) -> HttpResponseBase:
    """No more notices to one of one's own browsers."""
    get_object_or_404(notifications.browsers_of(request.membership), public_id=browser).delete()
    messages.success(request, "That browser is not notified any more.")
    return redirect("events:notifications", request.tenant.slug)


@require_POST
@roles_allowed(*ANYONE_IN_THE_TENANT)
def send_test(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """A notice to each of one's own browsers, to see that it arrives."""
    notice = notifications.Notice(
        title="Notifications work",
        body=f"This is what {request.tenant.name} looks like here.",
        url=request.path.removesuffix("test/"),
        tag="test",
    )
    browsers = list(notifications.browsers_of(request.membership))
    for browser in browsers:
        hand_over.enqueue(browser.pk, notice.as_message(request.membership), True, 1)
    if browsers:
        messages.success(request, "On its way. It should be here in a few seconds.")
    else:
        messages.warning(request, "No browser is notified yet: turn it on for this one first.")
    return redirect("events:notifications", request.tenant.slug)


@require_POST
@roles_allowed(*ANYONE_IN_THE_TENANT)
def snooze(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """Peace for so many `minutes`; 0 ends it."""
    minutes = _minutes(request.POST.get("minutes", ""))
    if minutes is None:
        messages.error(request, "Choose one of the times that are offered.")
    else:
        until = timezone.now() + timedelta(minutes=minutes) if minutes else None
        notifications.snooze(request.membership, until=until)
        messages.success(request, "No notifications until then." if minutes else "Notifications go on.")
    return redirect("events:notifications", request.tenant.slug)


@csrf_exempt  # the service worker has no page: what the notice carried is the proof, and can do nothing else
@require_POST
def snooze_from_notice(request: HttpRequest, tenant: str) -> HttpResponse:
    """From a notice itself: `{"snooze": …, "minutes": 60}`. 204, or 404 for what is no longer good."""
    found = Tenant.objects.filter(slug=tenant).first()
    given = _json_of(request)
    minutes = _minutes(str(given.get("minutes", "")))
    signed = given.get("snooze")
    if found is None or not minutes or not isinstance(signed, str):
        raise Http404
    enter_tenant(found)
    membership: Membership | None = notifications.member_of_snooze(signed, tenant_id=found.pk)
    if membership is None:
        raise Http404
    notifications.snooze(membership, until=timezone.now() + timedelta(minutes=minutes))
    return HttpResponse(status=204)


@require_safe
def service_worker(request: HttpRequest) -> HttpResponse:
    """The script that shows notices while no page is open. At the root, so that it may speak for every page."""
    return render(
        request,
        "service-worker.js",
        {"icon": static("img/icon-192.png"), "badge": static("img/badge-96.png")},
        content_type="text/javascript",
    )


@require_safe
def manifest(request: HttpRequest) -> JsonResponse:
    """What makes the portal installable on a phone or a desktop."""
    icons = [
        {
            "src": static(f"img/icon-{size}.png"),
            "sizes": f"{size}x{size}",
            "type": "image/png",
            "purpose": purpose,
        }
        for size, purpose in ((192, "any"), (512, "any"), (512, "maskable"))
    ]
    document = {
        "name": "Partner portal",
        "short_name": "Portal",
        "id": "/",
        "start_url": "/",
        "scope": "/",
        "display": "standalone",
        "background_color": "#0d1117",
        "theme_color": "#151b23",
        "icons": icons,
    }
    return JsonResponse(document, content_type="application/manifest+json")


def _minutes(text: str) -> int | None:
    """One of the offered pauses, or 0; None for anything else."""
    return int(text) if text == "0" or text in {str(minutes) for minutes in notifications.SNOOZES} else None


def _json_of(request: HttpRequest) -> dict[str, Any]:
    if len(request.body) > MAX_BODY_BYTES:
        return {}
    try:
        given = json.loads(request.body)
    except (ValueError, RecursionError):
        return {}
    return given if isinstance(given, dict) else {}
