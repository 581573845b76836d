"""The delivery inspector: what Ring sent, what became of it, and taking it in once more. For the tenant's admins."""

import shlex
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts.access import TenantRequest, roles_allowed
from accounts.addresses import base_url
from accounts.models import TENANT_ADMINS, Membership, Role
from devices.models import Device
from events import inspector
from events.attempts import Outcome, attempts_of
from events.delivery_filters import DeliveryFilters
from events.inspector import AT_ONCE, State
from events.models import Delivery, DeliveryQuerySet
from events.zones import in_own_zone

PAGE_DELIVERIES = 50

STATES = (
    (State.RECORDED, "Recorded", "ok"),
    (State.WORKING, "Working on it", "busy"),
    (State.FAILED, "Effects failed", "bad"),
    (State.MERGED, "Merged", "ok"),
    (State.DUPLICATE, "Duplicate", "idle"),
    (State.MALFORMED, "Unreadable", "warn"),
    (State.ERASED, "Deleted person", "idle"),
)
_OUTCOMES = {
    Outcome.DONE: {"label": "Done", "tone": "ok"},
    Outcome.FAILED: {"label": "Failed", "tone": "warn"},
    Outcome.GIVEN_UP: {"label": "Given up", "tone": "bad"},
}
_WORDS = {state: {"label": label, "tone": tone} for state, label, tone in STATES}


def _devices(request: TenantRequest) -> list[Device]:
    return list(Device.objects.visible_to(request.membership).order_by("name", "pk"))


def _deliveries(request: TenantRequest) -> DeliveryQuerySet:
    rows: DeliveryQuerySet = Delivery.objects.visible_to(request.membership)
    return rows.select_related("event__device", "replayed_by")


@never_cache
@require_safe
@roles_allowed(*TENANT_ADMINS)
@in_own_zone
def deliveries(request: TenantRequest, tenant: str) -> HttpResponse:
    """The newest deliveries, narrowed by what stands in the address (`events.delivery_filters`); `before` pages on."""
    devices = _devices(request)
    filters = DeliveryFilters.of(request.GET, devices)
    rows = filters.apply(_deliveries(request))
    before = _before(request)
    if before is not None:
        rows = rows.filter(
            Q(received_at__lt=before.received_at) | Q(received_at=before.received_at, pk__lt=before.pk)
        )
    found = list(rows[: PAGE_DELIVERIES + 1])
    shown = found[:PAGE_DELIVERIES]
    return render(
        request,
        "events/deliveries.html",
        {
            "nav": "accounts:settings",
            "rows": [_row(delivery) for delivery in shown],
            "filters": filters,
            "devices": devices,
            "chips": [
                {"label": label, "query": filters.query(state=value), "current": value is filters.state}
                for value, label, _ in STATES
            ],
            "any_state_query": filters.query(state=""),
            "older": filters.query(before=str(shown[-1].public_id)) if len(found) > PAGE_DELIVERIES else "",
            "newest": filters.query() if before is not None else "",
            "at_once": AT_ONCE,
        },
    )


@never_cache
@require_safe
@roles_allowed(*TENANT_ADMINS)
@in_own_zone
def delivery(request: TenantRequest, tenant: str, delivery: UUID) -> HttpResponse:
    """One delivery: when, how long it took, what it said, what became of it. An owner sees the ids in its body."""
    found: Delivery = get_object_or_404(_deliveries(request), public_id=delivery)
    is_owner = request.membership.role == Role.OWNER
    return render(
        request,
        "events/delivery.html",
        {
            "nav": "accounts:settings",
            "row": _row(found),
            "attempts": _attempts(found),
            "replayed_by": _replayed_by(request, found),
            "body": inspector.body_text(found, with_ids=is_owner),
            "size_bytes": len(bytes(found.body)),
            "curl": _curl(request, found) if is_owner and found.body else "",
            "step": inspector.plan([found])[0],
        },
    )


@require_POST
@roles_allowed(*TENANT_ADMINS)
@in_own_zone
def replay(request: TenantRequest, tenant: str) -> HttpResponse:
    """
    Take deliveries in once more: those whose ids are given (`delivery`), or with `all` those that match the filters.

    Without `confirm` nothing is done but told: the dry run.
    """
    filters = DeliveryFilters.of(request.POST, _devices(request))
    rows = filters.apply(_deliveries(request))
    if "all" in request.POST:
        chosen = list(rows[: AT_ONCE + 1])
        is_cut = len(chosen) > AT_ONCE
        chosen = chosen[:AT_ONCE]
    else:
        ids = [UUID(value) for value in request.POST.getlist("delivery") if _is_uuid(value)]
        chosen, is_cut = list(rows.filter(public_id__in=ids[:AT_ONCE])), False
    if not chosen:
        messages.warning(request, "Choose the deliveries to take in again first.")
        return redirect("events:deliveries", request.tenant.slug)
    if "confirm" in request.POST:
        done = inspector.replay(chosen, tenant=request.tenant, actor=request.user, now=timezone.now())
        messages.success(request, _told(done))
        if len(done) == 1:
            return redirect("events:delivery", request.tenant.slug, done[0].delivery.public_id)
        return redirect("events:deliveries", request.tenant.slug)
    steps = inspector.plan(chosen)
    return render(
        request,
        "events/replay.html",
        {
            "nav": "accounts:settings",
            "steps": [{"row": _row(step.delivery), "step": step} for step in steps],
            "counts": [(outcome.value, count) for outcome, count in inspector.counts_of(steps)],
            "does_something": any(step.does_something for step in steps),
            "is_cut": is_cut,
            "at_once": AT_ONCE,
        },
    )


def _row(delivery: Delivery) -> dict[str, Any]:
    """A delivery with the words the pages show of it."""
    said = inspector.said_by(delivery)
    event = inspector.event_of(delivery)
    return {
        "delivery": delivery,
        "event": event,
        "event_type": said.event_type if said is not None else delivery.event_type,
        "is_readable": said is not None,
        "state": _WORDS[inspector.state_of(delivery)],
        "is_erased": delivery.verdict == Delivery.Verdict.ERASED,
        "took_ms": inspector.took_ms(delivery),
    }


def _attempts(delivery: Delivery) -> list[dict[str, Any]]:
    event = inspector.event_of(delivery)
    attempts = attempts_of(event) if event is not None else []
    return [{"attempt": attempt, **_OUTCOMES[attempt.outcome]} for attempt in attempts]


def _replayed_by(request: TenantRequest, delivery: Delivery) -> str:
    """Who replayed it; the people who run the installation are not named to its tenants."""
    person = delivery.replayed_by
    if person is None:
        return "somebody whose data was deleted"
    is_ours = Membership.objects.for_tenant(request.tenant).filter(user=person).exists()
    return person.email if is_ours else "somebody who does not work here"


def _before(request: TenantRequest) -> Delivery | None:
    given = request.GET.get("before", "")
    if not _is_uuid(given):
        return None
    found: Delivery | None = (
        Delivery.objects.visible_to(request.membership).filter(public_id=UUID(given)).first()
    )
    return found


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _told(done: list[inspector.Replay]) -> str:
    parts = [f"{count} × {outcome.value}" for outcome, count in inspector.counts_of(done)]
    return "Taken in again: " + ", ".join(parts) + "."


def _curl(request: TenantRequest, delivery: Delivery) -> str:
    """A command that sends the same bytes again; the key stays in the reader's own environment."""
    text = bytes(delivery.body).decode("utf-8", "backslashreplace")
    url = (
        f"{base_url(request)}/ring/{request.tenant.slug}/webhook"  # in front of Django's urls: portal/asgi.py
    )
    return (
        f"printf %s {shlex.quote(text)} > delivery.json\n"
        'signature=$(openssl dgst -sha256 -hmac "$RING_SIGNING_KEY" -hex < delivery.json | sed "s/.*= *//")\n'
        f"curl -X POST {shlex.quote(url)} -H 'Content-Type: application/json' \\\n"
        '  -H "X-Signature: sha256=$signature" --data-binary @delivery.json'
    )
