"""The pages on which a tenant's admins get from credentials to a first linked customer, and on to certification."""

from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.access import TenantRequest, roles_allowed
from accounts.addresses import base_url, registered_urls
from accounts.forms import RingAppForm
from accounts.limits import is_allowed
from accounts.models import TENANT_ADMINS, RingApp
from devices.models import Device
from onboarding import certification as demands
from onboarding import credentials, runs, services, test_events
from onboarding import rehearsal as scenes
from onboarding.checklist import is_sandbox, progress_of
from onboarding.models import CheckRun, Dismissal
from onboarding.own_address import RUNS_A_MINUTE
from portal.workers import is_anyone_alive


@never_cache
@require_safe
@roles_allowed(*TENANT_ADMINS)
def checklist(request: TenantRequest, tenant: str) -> HttpResponse:
    """Where the set-up stands, and the one next step. For the tenant's admins."""
    app = RingApp.objects.filter(tenant=request.tenant).first()
    is_dismissed = Dismissal.objects.for_tenant(request.tenant).filter(membership=request.membership).exists()
    context = {
        "progress": progress_of(request.tenant),
        "app": app,
        "form": RingAppForm(app=app),
        "urls": registered_urls(request.tenant, base=base_url(request)),
        "sandbox_url": settings.RING_API_URL if is_sandbox() else "",
        "is_dismissed": is_dismissed,
    }
    return render(request, "accounts/setup_checklist.html", context)


@require_POST
@roles_allowed(*TENANT_ADMINS)
def remind(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """Hide the set-up from one's own home page (`hide=1`), or show it there again. For the tenant's admins."""
    if request.POST.get("hide"):
        services.dismiss(membership=request.membership, now=timezone.now())
        messages.success(request, "Hidden. The set-up stays under Settings.")
        return redirect("events:dashboard", request.tenant.slug)
    services.show_again(membership=request.membership)
    messages.success(request, "Your home page shows the set-up again while it is unfinished.")
    return redirect("onboarding:checklist", request.tenant.slug)


@require_POST
@roles_allowed(*TENANT_ADMINS)
def ask_sandbox(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """Ask the sandbox whether it knows the credentials; the real Ring is never asked. For the tenant's admins."""
    if not is_sandbox():
        raise Http404("There is no sandbox here.")
    app = RingApp.objects.filter(tenant=request.tenant).first()
    if app is None:
        messages.error(request, "There are no credentials yet. Enter them first.")
    else:
        answer = credentials.ask_sandbox(app)
        (messages.success if answer.is_good else messages.error)(request, answer.words)
    return redirect("onboarding:checklist", request.tenant.slug)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*TENANT_ADMINS)
def self_test(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """A signed webhook through the real path: POST starts it, GET shows what was found. For the tenant's admins."""
    return _check(request, CheckRun.Kind.WEBHOOK, "onboarding:self_test", "accounts/setup_self_test.html", {})


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*TENANT_ADMINS)
def test_event(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """
    Send one test event of a chosen type and device. POST sends it and leads to its delivery. For the tenant's admins.

    Unlike the self-test it is sent at once: one request to the web process, which answers beside this one.
    """
    devices = Device.objects.visible_to(request.membership).present().select_related("ring_account")
    chosen = request.POST.get("type", "motion_detected")
    event_type = request.POST.get("other", "").strip() or chosen
    wanted = request.POST.get("device", "")
    device = next((row for row in devices if str(row.public_id) == wanted), None)
    trouble: list[str] = []
    if request.method == "POST":
        trouble = _refused(request, event_type)
        if not trouble:
            try:
                sent = test_events.send_test_event(
                    tenant=request.tenant,
                    event_type=event_type,
                    device=device,
                    actor=request.user,
                    now=timezone.now(),
                )
            except test_events.NoKey:
                trouble = ["There is no signing key yet.", "Enter the credentials from Ring’s console first."]
            except test_events.NotSent as error:
                trouble = [error.said, error.fix]
            else:
                words = f"Sent and stored: answered 200 after {sent.answered_ms} ms, position {sent.event.position}."
                messages.success(request, words)
                assert sent.event.delivery is not None  # noqa: S101 - the intake keeps both in one transaction
                return redirect("events:delivery", request.tenant.slug, sent.event.delivery.public_id)
    context = {
        "nav": "accounts:settings",
        "types": test_events.TYPES,
        "chosen": chosen,
        "other": request.POST.get("other", ""),
        "devices": devices,
        "device": device,
        "trouble": trouble,
        "max_chars": test_events.MAX_TYPE_CHARS,
    }
    return render(request, "accounts/setup_test_event.html", context)


def _refused(request: TenantRequest, event_type: str) -> list[str]:
    """What is wrong before anything is sent, and what to do."""
    if not test_events.is_type(event_type):
        return ["That is no event type.", "Give a word such as motion_detected."]
    if not is_allowed(f"setup:{request.tenant.pk}", limit=RUNS_A_MINUTE, window_s=60):
        return ["That was often enough for now.", "Try again in a minute."]
    return []


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*TENANT_ADMINS)
def rehearsal(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """The customer's way with made-up links: POST walks it, GET shows what was seen. For the tenant's admins."""
    more = {
        "scenes": [scene for scene in scenes.SCENES.values() if scene.key != "good"],
        "sandbox_url": settings.RING_API_URL if is_sandbox() else "",
        "has_key": RingApp.objects.filter(tenant=request.tenant).exists(),
    }
    return _check(request, CheckRun.Kind.LINK, "onboarding:rehearsal", "accounts/setup_rehearsal.html", more)


def _check(
    request: TenantRequest, kind: CheckRun.Kind, name: str, template: str, more: dict[str, object]
) -> HttpResponseBase:
    if request.method == "POST":
        if is_allowed(f"setup:{request.tenant.pk}", limit=RUNS_A_MINUTE, window_s=60):
            services.start_check(tenant=request.tenant, kind=kind, actor=request.user, now=timezone.now())
        else:
            messages.warning(request, "That was often enough for now. Try again in a minute.")
        return redirect(name, request.tenant.slug)
    run = runs.latest(request.tenant, kind)
    context = {
        **more,
        "run": run,
        "findings": runs.findings_of(run),
        "polls": run is not None and run.is_open,
        "has_worker": is_anyone_alive(now=timezone.now()),
        "progress_url": reverse(name, args=[request.tenant.slug]),
    }
    part = "accounts/_setup_run.html" if request.headers.get("HX-Request") else template
    return render(request, part, context)


@require_POST
@roles_allowed(*TENANT_ADMINS)
def open_scene(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """Send one's own browser where a customer's would go with such a link. For the tenant's admins."""
    scene = scenes.SCENES.get(request.POST.get("scene", ""))
    app = RingApp.objects.filter(tenant=request.tenant).first()
    if scene is None or app is None:
        raise Http404("There is no such scene.")
    query = scenes.query_of(scene, key=app.signing_key, now=timezone.now())
    link = reverse("ring:link", args=[request.tenant.slug])
    return redirect(f"{link}?{urlencode({'nonce': query.nonce, 'time': query.time_ms})}")


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*TENANT_ADMINS)
def certification(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """What Ring still wants before it publishes the app; POST ticks what only people know. For the tenant's admins."""
    if request.method == "POST":
        demand = demands.BY_KEY.get(request.POST.get("demand", ""))
        if demand is None:
            raise Http404("There is no such demand.")
        services.attest(
            tenant=request.tenant,
            key=demand.key,
            is_met=request.POST.get("met") == "1",
            actor=request.user,
            now=timezone.now(),
        )
        return redirect(f"{reverse('onboarding:certification', args=[request.tenant.slug])}#{demand.key}")
    return render(
        request, "accounts/setup_certification.html", {"report": demands.report_for(request.tenant)}
    )
