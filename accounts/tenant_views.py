"""The pages on which a tenant's admins set it up, and the tenant's colour."""

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.http import condition, require_http_methods, require_POST, require_safe

from accounts.access import TenantRequest, roles_allowed
from accounts.addresses import base_url, redirect_url, registered_urls
from accounts.audit import audit
from accounts.forms import CompanyForm, RingAppForm
from accounts.models import TENANT_ADMINS, RingApp, Tenant
from accounts.ring_app import (
    ClientIdTaken,
    SecretsMissing,
    drop_previous_key,
    set_partner_initiated,
    set_ring_app,
)
from portal.accent import accent_pair


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*TENANT_ADMINS)
def setup(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """The four addresses for Ring's console, and the credentials from it. For the tenant's admins."""
    app = RingApp.objects.filter(tenant=request.tenant).first()
    form = RingAppForm(request.POST or None, app=app)
    if request.method == "POST" and form.is_valid():
        try:
            set_ring_app(tenant=request.tenant, actor=request.user, **form.cleaned_data)
        except ClientIdTaken:
            form.add_error(
                "client_id", "This client id is in use elsewhere. Copy it again from Ring's console."
            )
        except SecretsMissing:
            form.add_error(None, "Enter the client secret and the signing key too.")
        else:
            messages.success(request, "Saved. New links and webhooks use these credentials from now on.")
            came_from = "onboarding:checklist" if request.POST.get("from") == "setup" else "accounts:setup"
            return redirect(came_from, request.tenant.slug)
    return _render_setup(
        request, app=app, form=form, company_form=CompanyForm(instance=_own_copy(request.tenant))
    )


def _own_copy(tenant: Tenant) -> Tenant:
    """A form writes what was typed into its instance, also what is refused: the page must not wear that."""
    return Tenant.objects.get(pk=tenant.pk)


def _render_setup(
    request: TenantRequest, *, app: RingApp | None, form: RingAppForm, company_form: CompanyForm
) -> HttpResponse:
    context = {
        "form": form,
        "company_form": company_form,
        "app": app,
        "redirect_url": redirect_url(request.tenant, base=base_url(request)),
        "urls": registered_urls(request.tenant, base=base_url(request)),
    }
    status = 422 if form.errors or company_form.errors else 200
    return render(request, "accounts/setup.html", context, status=status)


@require_POST
@roles_allowed(*TENANT_ADMINS)
def company(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """The tenant's name, colour, and where its customers turn to. For its admins."""
    form = CompanyForm(request.POST, instance=_own_copy(request.tenant))
    if form.is_valid():
        if form.changed_data:
            with transaction.atomic():
                form.save()
                audit(
                    tenant=request.tenant,
                    actor=request.user,
                    action="tenant.changed",
                    subject=f"tenant {request.tenant.public_id}",
                    fields=form.changed_data,
                )
        messages.success(request, "Saved.")
        return redirect("accounts:setup", request.tenant.slug)
    app = RingApp.objects.filter(tenant=request.tenant).first()
    return _render_setup(request, app=app, form=RingAppForm(app=app), company_form=form)


@require_POST
@roles_allowed(*TENANT_ADMINS)
def drop_key(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """Stop accepting the signing key before the current one. For the tenant's admins."""
    drop_previous_key(tenant=request.tenant, actor=request.user)
    messages.success(request, "Webhooks and links signed with the old key are refused from now on.")
    return redirect("accounts:setup", request.tenant.slug)


@require_POST
@roles_allowed(*TENANT_ADMINS)
def partner_links(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """Whether customers may begin a link here, which Ring allows by invitation. For the tenant's admins."""
    is_on = request.POST.get("partner_initiated") == "on"
    try:
        set_partner_initiated(tenant=request.tenant, is_on=is_on, actor=request.user)
    except RingApp.DoesNotExist:
        messages.error(request, "Enter the Ring app’s credentials first.")
    else:
        messages.success(
            request,
            "Saved. Customers can begin here now."
            if is_on
            else "Saved. Customers begin in the Ring app only; links that exist stay.",
        )
    return redirect("accounts:setup", request.tenant.slug)


def _accent_tag(request: HttpRequest, tenant: str) -> str | None:
    accent = Tenant.objects.filter(slug=tenant).values_list("accent", flat=True).first()
    return f'"{accent.lower()}"' if accent else None


@require_safe
@condition(etag_func=_accent_tag)
@cache_control(public=True, max_age=300)
def accent(request: HttpRequest, tenant: str) -> HttpResponse:
    """The tenant's colour as a stylesheet, readable in both themes. For anyone: the sign-in page wears it too."""
    pair = accent_pair(get_object_or_404(Tenant, slug=tenant).accent)
    css = (
        ":root {\n"
        f"  --accent: light-dark({pair.light}, {pair.dark});\n"
        f"  --on-accent: light-dark({pair.on_light}, {pair.on_dark});\n"
        "}\n"
    )
    return HttpResponse(css, content_type="text/css; charset=utf-8")
