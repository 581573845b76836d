"""Marking events reviewed, one or many, and taking that back. Every answer is a page, or JSON for static/js/review.js."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBadRequest, JsonResponse, QueryDict
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from accounts.access import ANYONE_IN_THE_TENANT, TenantRequest, roles_allowed
from devices.grants import Capability
from devices.models import Device
from events import reviews
from events.filters import Filters
from events.models import Event
from events.zones import in_own_zone

WAITING_SHOWN = 99
# More than a page has rows; what is more is asked for by the filters.
_CHOSEN_AT_ONCE = 500


def waiting_words(count: int) -> str:
    """ "7", or "99+"."""
    return f"{WAITING_SHOWN}+" if count > WAITING_SHOWN else str(count)


@require_POST
@roles_allowed(*ANYONE_IN_THE_TENANT)
@in_own_zone
def review(request: TenantRequest, tenant: str) -> HttpResponse:
    """
    Mark events reviewed for the person who asks, of those they may see: `mark` one, `put_back` one, or with `do` the
    `selected` ones (`event`) or `all` that the filters in `query` let through and that had come up to position `until`.

    Leads back to the list, which offers to undo it; to the event's own page for `from=event`.
    """
    form, now = request.POST, timezone.now()
    seen = Event.objects.visible_to(request.membership)
    if form.get("put_back"):
        events = reviews.put_back(membership=request.membership, events=_ids(form.getlist("put_back")))
        return _answer(request, f"{_count(len(events))} to review again.", put_back=events)
    if form.get("do") == "all":
        filters = _filters(request)
        seen = filters.apply(seen, request.membership, now=now)
        until = form.get("until", "")
        if not (until.isascii() and until.isdigit() and len(until) < 19):
            return HttpResponseBadRequest("Which events these are is not said.")
        # What has come since the page was made, nobody has looked at.
        seen = seen.filter(position__lte=int(until))
    else:
        chosen = _ids([*form.getlist("mark"), *(form.getlist("event") if form.get("do") else [])])
        if not chosen:
            return _answer(request, "No event is selected.")
        seen = seen.filter(public_id__in=chosen[:_CHOSEN_AT_ONCE])
    marked = reviews.mark_reviewed(membership=request.membership, events=seen, now=now)
    words = f"{_count(len(marked.events))} marked reviewed."
    if marked.is_cut:
        words += " These are the newest of what matches; do it again for the rest."
    return _answer(request, words, marked=marked)


@require_POST
@roles_allowed(*ANYONE_IN_THE_TENANT)
@in_own_zone
def undo(request: TenantRequest, tenant: str) -> HttpResponse:
    """Take back what one action (`batch`) of the person who asks has marked, and nothing else."""
    batches = _ids([request.POST.get("batch", "")])
    if not batches:
        return HttpResponseBadRequest("What to undo is not said.")
    events = reviews.undo(membership=request.membership, batch=batches[0])
    return _answer(request, f"{_count(len(events))} to review again.", put_back=events)


def marked_lately(request: TenantRequest) -> tuple[UUID, int] | None:
    """The action that the address calls `marked`, and how much of it can be undone; None for nothing."""
    for batch in _ids([request.GET.get("marked", "")]):
        if count := reviews.count_marked(request.membership, batch):
            return batch, count
    return None


def _answer(
    request: TenantRequest,
    words: str,
    *,
    marked: reviews.Marked | None = None,
    put_back: Iterable[UUID] = (),
) -> HttpResponse:
    if request.accepts("text/html"):
        if request.POST.get("from") == "event" and (event := _event_shown(request)) is not None:
            return redirect("events:detail", request.tenant.slug, event)
        address = reverse("events:list", args=[request.tenant.slug]) + _filters(request).query()
        if marked is not None and marked.events:
            # The list says it, with the way back beside it.
            return redirect(f"{address}{'' if address.endswith('?') else '&'}marked={marked.batch}")
        messages.info(request, words)
        return redirect(address)
    waiting = _filters(request).count_waiting(request.membership, most=WAITING_SHOWN, now=timezone.now())
    answer: dict[str, Any] = {
        "words": words,
        "batch": marked.batch if marked is not None and marked.events else None,
        "reviewed": marked.events if marked is not None else [],
        "put_back": list(put_back),
        "waiting": waiting_words(waiting),
    }
    return JsonResponse(answer)


def _event_shown(request: TenantRequest) -> UUID | None:
    return next(iter(_ids([request.POST.get("mark", "") or request.POST.get("put_back", "")])), None)


def _filters(request: TenantRequest) -> Filters:
    """Those of the list that the form stands on; read anew, so that an answer leads nowhere else."""
    devices = Device.objects.permitted_to(request.membership, Capability.EVENTS)
    return Filters.of(QueryDict(request.POST.get("query", "").removeprefix("?")), devices)


def _ids(texts: Iterable[str]) -> list[UUID]:
    found = []
    for text in texts:
        try:
            found.append(UUID(text))
        except ValueError:
            continue
    return found


def _count(count: int) -> str:
    return f"{count} event{'' if count == 1 else 's'}"
