"""The pages on which people see what is known about them and was done with it, take it out, and delete it."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any, ParamSpec
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
)
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from allauth.account.decorators import reauthentication_required

from accounts import activity, erasure, exports, personal_data
from accounts.access import ANYONE_IN_THE_TENANT, TenantRequest, roles_allowed
from accounts.audit import audit, chained_content
from accounts.limits import is_allowed
from accounts.models import AuditEntry, AuditPerson, DataExport, Erasure, Membership, Role, User
from accounts.own_data import profile_of
from accounts.personal_data import Scope
from portal.serve import is_from_the_start, serve_file
from portal.streams import csv_line, stream_file
from portal.walls import across_tenants, tenant_scope

LINES_A_PAGE = 50
BATCH = 500
EXPORTS_A_DAY = 5
"""How often one person may ask for a copy in a day: each lies on the disk for a week, with every clip in it."""


P = ParamSpec("P")


def shown_lately(
    *, allow_get: bool = False
) -> Callable[[Callable[P, HttpResponseBase]], Callable[P, HttpResponseBase]]:
    """Ask a person who they are once more, unless they have shown it lately; `allow_get`: only before a POST."""
    decorate: Callable[[Callable[P, HttpResponseBase]], Callable[P, HttpResponseBase]]
    decorate = reauthentication_required(allow_get=allow_get)
    return decorate


# --- the activity -------------------------------------------------------------------------------------------------


class ActivityFilterForm(forms.Form):
    """What to show of the activity; whatever cannot be read is left out."""

    action = forms.ChoiceField(required=False, label="What")
    person = forms.UUIDField(required=False, label="Who")
    since = forms.DateField(required=False, label="From")
    until = forms.DateField(required=False, label="To")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["action"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 - it is declared above
        field.choices = [("", "Everything"), *activity.known_actions()]


def _entries(request: TenantRequest) -> tuple[Any, ActivityFilterForm]:
    """The entries this person may read, narrowed by the page's filters."""
    rows = AuditEntry.objects.visible_to(request.membership).order_by("-at", "-pk")
    form = ActivityFilterForm(request.GET)
    form.is_valid()
    chosen = form.cleaned_data
    if chosen.get("action"):
        rows = rows.filter(action=chosen["action"])
    if chosen.get("person"):
        rows = rows.of_person(
            AuditPerson.objects.for_tenant(request.tenant).filter(public_id=chosen["person"])
        )
    if chosen.get("since"):
        rows = rows.filter(at__gte=datetime.combine(chosen["since"], time.min, tzinfo=UTC))
    if chosen.get("until"):
        rows = rows.filter(at__lt=datetime.combine(chosen["until"], time.min, tzinfo=UTC) + timedelta(days=1))
    return rows, form


@never_cache
@require_safe
@roles_allowed(*ANYONE_IN_THE_TENANT)
def activity_page(request: TenantRequest, tenant: str) -> HttpResponse:
    """Who did what. For everybody what concerns themselves; for owners and admins all of the tenant's."""
    rows, form = _entries(request)
    page = Paginator(rows, LINES_A_PAGE).get_page(request.GET.get("page"))
    query = request.GET.copy()
    query.pop("page", None)
    persons: list[AuditPerson] = []
    if request.membership.is_tenant_admin:
        persons = list(
            AuditPerson.objects.for_tenant(request.tenant)
            .select_related("user")
            .order_by("user__email")[:500]
        )
    context = {
        "page": page,
        "lines": activity.lines(list(page.object_list), tenant=request.tenant, reader=request.user),
        "persons": persons,
        "actions": activity.known_actions(),
        "chosen": form.cleaned_data,
        "query": query.urlencode(),
    }
    return render(request, "accounts/activity.html", context)


@never_cache
@require_safe
@roles_allowed(*ANYONE_IN_THE_TENANT)
def activity_file(request: TenantRequest, tenant: str, ending: str) -> HttpResponseBase:
    """The same entries as a file: CSV in words, JSON with the hashes. For whoever may see the page."""
    rows, _ = _entries(request)
    audit(
        tenant=request.tenant,
        actor=request.user,
        action="audit.exported",
        subject=f"tenant {request.tenant.public_id}",
        format=ending,
    )
    pieces, content_type = (
        (_json_pieces(request, rows), "application/json")
        if ending == "json"
        else (_csv_pieces(request, rows), "text/csv; charset=utf-8")
    )
    return stream_file(
        request, pieces, content_type=content_type, filename=f"activity-{request.tenant.slug}.{ending}"
    )


def _batches(request: TenantRequest, rows: Any) -> Iterator[list[AuditEntry]]:
    """The entries, oldest first, some at a time. A stream outlives its request's scope: each batch enters the tenant."""
    last = 0
    while True:
        with tenant_scope(request.tenant):
            batch = list(rows.order_by("pk").filter(pk__gt=last)[:BATCH])
        if not batch:
            return
        last = batch[-1].pk
        yield batch


def _json_pieces(request: TenantRequest, rows: Any) -> Iterator[str]:
    separator = "[\n"
    for batch in _batches(request, rows.exclude(sequence=None)):
        for entry in batch:
            shown = {**chained_content(entry, request.tenant), "hash": entry.hash}
            yield separator + json.dumps(shown, cls=DjangoJSONEncoder)
            separator = ",\n"
    yield "[]\n" if separator == "[\n" else "\n]\n"


def _csv_pieces(request: TenantRequest, rows: Any) -> Iterator[str]:
    yield csv_line(["time (UTC)", "who", "what", "detail", "whose", "number", "hash"])
    for batch in _batches(request, rows):
        with tenant_scope(request.tenant):
            lines = activity.lines(batch, tenant=request.tenant, reader=request.user)
        for line in lines:
            yield csv_line(
                [
                    line.entry.at.isoformat(timespec="seconds"),
                    line.who,
                    line.what,
                    line.extra,
                    line.whose,
                    line.entry.sequence or "",
                    line.entry.hash if line.entry.sequence else "",
                ]
            )


# --- taking out ---------------------------------------------------------------------------------------------------


@never_cache
@require_safe
@roles_allowed(*ANYONE_IN_THE_TENANT)
def your_data(request: TenantRequest, tenant: str) -> HttpResponse:
    """What is held about the person here, their exports, and the ways to delete. For everybody in the tenant."""
    is_owner = request.membership.role == Role.OWNER
    rows = list(DataExport.objects.visible_to(request.membership).exclude(state=DataExport.State.GONE)[:10])
    shown = {
        "exports": rows,
        "polls": any(export.state == DataExport.State.BUILDING for export in rows),
    }
    if request.headers.get("HX-Request"):
        return render(request, "accounts/your_data.html#exports", shown)
    context = {
        **shown,
        "counts": _counts(Scope(request.tenant, request.user)),
        "is_owner": is_owner,
        "planned": erasure.planned_deletion(request.tenant) if request.membership.is_tenant_admin else None,
        "kept_days": exports.KEPT.days,
    }
    return render(request, "accounts/your_data.html", context)


def _counts(scope: Scope) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for part in personal_data.parts():
        counts.update(part.counts(scope))
    return list(counts.items())


@require_POST
@roles_allowed(*ANYONE_IN_THE_TENANT)
@shown_lately()
def ask_for_export(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """Have everything put together. A person's own for everybody; the whole company's for its owners."""
    kind = DataExport.Kind.PERSON
    if request.POST.get("kind") == DataExport.Kind.TENANT:
        if request.membership.role != Role.OWNER:
            raise Http404("There is no such export for you.")
        kind = DataExport.Kind.TENANT
    if not is_allowed(f"export:{request.membership.pk}", limit=EXPORTS_A_DAY, window_s=86_400):
        messages.warning(
            request, "That was often enough for today. The copies you have can be downloaded below."
        )
        return redirect("accounts:your_data", request.tenant.slug)
    try:
        exports.ask_for_export(tenant=request.tenant, user=request.user, kind=kind, now=timezone.now())
    except exports.AlreadyBuilding:
        messages.info(request, "It is being put together already.")
    else:
        messages.success(request, "We are putting it together. A mail tells you when it is ready.")
    return redirect("accounts:your_data", request.tenant.slug)


@never_cache
@require_safe
@roles_allowed(*ANYONE_IN_THE_TENANT)
def download_export(request: TenantRequest, tenant: str, export: UUID) -> HttpResponseBase:
    """The archive, whole or in part. For the person who asked for it, when they have shown who they are lately."""
    found = get_object_or_404(
        DataExport.objects.visible_to(request.membership), public_id=export, state=DataExport.State.READY
    )
    if found.kind == DataExport.Kind.TENANT and request.membership.role != Role.OWNER:
        raise Http404("There is no such export for you.")
    if found.expires_at is not None and found.expires_at <= timezone.now():
        raise Http404("This export is over.")
    return _send_export(request, found)


@shown_lately()
def _send_export(request: TenantRequest, found: DataExport) -> HttpResponseBase:
    if request.method == "GET" and is_from_the_start(request):
        with transaction.atomic():
            audit(
                tenant=request.tenant,
                actor=request.user,
                action="export.downloaded",
                subject=f"export {found.public_id}",
                about_person=request.user,
                kind=found.kind,
            )
    return serve_file(
        request,
        storage=found.file.storage,
        name=str(found.file.name),
        size_bytes=found.size_bytes or 0,
        sha256=found.sha256,
        content_type="application/zip",
        filename=f"{request.tenant.slug}-{found.kind}-{found.asked_at:%Y-%m-%d}.zip",
        as_attachment=True,
    )


# --- deleting -----------------------------------------------------------------------------------------------------


def _typed_right(request: HttpRequest, wanted: str) -> bool:
    return request.POST.get("typed", "").strip().casefold() == wanted.casefold()


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*ANYONE_IN_THE_TENANT)
@shown_lately(allow_get=True)
def erase_person(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """Leave this company, and have everything it holds about one deleted. For the person themselves."""
    context: dict[str, Any] = {
        "counts": _counts(Scope(request.tenant, request.user)),
        "typed": request.user.email,
        "sole": erasure.sole_ownerships(request.user, tenant=request.tenant),
    }
    if request.method == "POST" and not context["sole"]:
        if not _typed_right(request, request.user.email):
            return render(request, "accounts/erase_person.html", {**context, "is_wrong": True}, status=422)
        try:
            begun = erasure.erase_person(tenant=request.tenant, user=request.user, now=timezone.now())
        except erasure.UnderWay:
            messages.info(request, "It is being deleted already.")
            return redirect("home")
        except erasure.SoleOwner:
            return redirect("accounts:erase_person", request.tenant.slug)
        erasure.cut_off(begun)
        return redirect(erasure.receipt_path(begun))
    return render(request, "accounts/erase_person.html", context)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(Role.OWNER)
@shown_lately(allow_get=True)
def erase_company(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """Delete the whole company, after some days of grace. For its owners."""
    context: dict[str, Any] = {
        "counts": _counts(Scope(request.tenant, None)),
        "typed": request.tenant.slug,
        "grace_days": erasure.GRACE.days,
    }
    if request.method == "POST":
        if not _typed_right(request, request.tenant.slug):
            return render(request, "accounts/erase_company.html", {**context, "is_wrong": True}, status=422)
        try:
            erasure.erase_tenant(tenant=request.tenant, actor=request.user, now=timezone.now())
        except erasure.UnderWay:
            messages.info(request, "It is planned already.")
        return redirect("accounts:your_data", request.tenant.slug)
    return render(request, "accounts/erase_company.html", context)


@require_POST
@roles_allowed(Role.OWNER)
def keep_company(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """Take a planned deletion of the company back. For its owners."""
    if erasure.keep_tenant(tenant=request.tenant, actor=request.user):
        messages.success(request, f"{request.tenant.name} stays.")
    else:
        messages.error(request, "The deletion has begun, or there was none.")
    return redirect("accounts:your_data", request.tenant.slug)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@login_required
@shown_lately(allow_get=True)
def erase_account(request: HttpRequest) -> HttpResponseBase:
    """Delete one's whole account, at every company. For anybody who is signed in."""
    person = request.user
    assert isinstance(person, User)  # noqa: S101 - login_required
    rows = Membership.objects.filter(user=person).select_related("tenant").order_by("tenant__name")
    with across_tenants("a person may belong to several tenants, and sees what each holds"):
        memberships = list(rows)
    companies = []
    for each in memberships:
        with tenant_scope(each.tenant):
            companies.append((each, _counts(Scope(each.tenant, person))))
    context: dict[str, Any] = {
        "companies": companies,
        "typed": person.email,
        "sole": erasure.sole_ownerships(person),
    }
    if request.method == "POST" and not context["sole"]:
        if not _typed_right(request, person.email):
            return render(request, "accounts/erase_account.html", {**context, "is_wrong": True}, status=422)
        try:
            begun = erasure.erase_account(user=person, now=timezone.now())
        except (erasure.UnderWay, erasure.SoleOwner):
            return redirect("data:erase_account")
        logout(request)
        erasure.cut_off(begun)
        return redirect(erasure.receipt_path(begun))
    return render(request, "accounts/erase_account.html", context)


@never_cache
@require_safe
@login_required
@shown_lately()
def profile(request: HttpRequest) -> HttpResponse:
    """One's sign-in as JSON: what is known of a person whichever company they are at. For anybody who is signed in."""
    person = request.user
    assert isinstance(person, User)  # noqa: S101 - login_required
    return JsonResponse(
        profile_of(person),
        json_dumps_params={"indent": 1, "ensure_ascii": False},
        headers={"Content-Disposition": 'attachment; filename="profile.json"'},
    )


@never_cache
@require_safe
def receipt(request: HttpRequest, token: str) -> HttpResponse:
    """How a deletion goes, then its receipt; `?download` as a file. For whoever has the address: it names nobody."""
    found: Erasure | None = erasure.find_receipt(token, now=timezone.now())
    if found is None:
        raise Http404("There is no such receipt, or it is no longer kept.")
    if "download" in request.GET and found.finished_at is not None:
        return JsonResponse(
            {**found.receipt(), "sha256": found.sha256},
            json_dumps_params={"indent": 1},
            headers={"Content-Disposition": f'attachment; filename="receipt-{found.public_id}.json"'},
        )
    context = {"erasure": found, "kept_days": erasure.RECEIPT_KEPT.days}
    return render(request, "accounts/receipt.html", context)
