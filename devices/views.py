"""The device pages: what is shared with us, one device, and asking Ring anew."""

import json
from datetime import timedelta
from typing import Final
from uuid import UUID

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts.access import ANYONE_IN_THE_TENANT, TenantRequest, roles_allowed
from accounts.models import RingAccount
from devices import services, sharing, words
from devices.describe import DEVICE, RELATED
from devices.grants import Capability, holdings_of
from devices.models import AccountSync, Device

DEVICES_A_PAGE: Final = 24
# Ring allows a partner 100 requests a second over all tenants (contract 15): a page's button asks for this many homes.
ACCOUNTS_AT_ONCE: Final = 50
ASK_AGAIN_AFTER: Final = timedelta(seconds=10)
LIVE: Final = (RingAccount.State.AWAITING, RingAccount.State.LINKED)


@never_cache
@require_safe
@roles_allowed(*ANYONE_IN_THE_TENANT)
def device_list(request: TenantRequest, tenant: str) -> HttpResponse:
    """Every device this person may see, cameras first; `?q=` looks for a name, `?show=removed` shows what was shared once."""
    visible = Device.objects.visible_to(request.membership)
    shows_removed = request.GET.get("show") == "removed"
    devices = visible.filter(removed_at__isnull=False) if shows_removed else visible.present()
    query = request.GET.get("q", "").replace("\0", "").strip()[:100]  # PostgreSQL takes no NUL
    if query:
        devices = devices.filter(name__icontains=query)
    accounts = RingAccount.objects.visible_to(request.membership)
    syncs = AccountSync.objects.filter(ring_account__in=accounts.filter(state__in=LIVE))
    troubles = set(syncs.exclude(last_error="").values_list("last_error", flat=True).distinct())
    rows = devices.select_related("ring_account").order_by("-has_video", "name", "pk")
    page = Paginator(rows, DEVICES_A_PAGE).get_page(request.GET.get("page"))
    return render(
        request,
        "devices/list.html",
        {
            "page": page,
            "cameras": [device for device in page if device.has_video],
            "others": [device for device in page if not device.has_video],
            "query": query,
            "shows_removed": shows_removed,
            "present_count": visible.present().count(),
            "removed_count": visible.filter(removed_at__isnull=False).count(),
            "linked_count": accounts.filter(state__in=LIVE).count(),
            "needs_link": accounts.filter(state=RingAccount.State.RELINK_REQUIRED).exists(),
            "without_plan": "RingForbidden" in troubles,
            "is_ring_away": not troubles.isdisjoint({"RingUnavailable", "RingRateLimited"}),
            "synced_at": accounts.filter(state__in=LIVE, synced_at__isnull=False)
            .order_by("-synced_at")
            .values_list("synced_at", flat=True)
            .first(),
        },
    )


@never_cache
@require_safe
@roles_allowed(*ANYONE_IN_THE_TENANT)
def device_detail(request: TenantRequest, tenant: str, device: UUID) -> HttpResponse:
    """One device: live view of each of its cameras, its state and settings, what stands in the way, what happened."""
    found = get_object_or_404(
        Device.objects.visible_to(request.membership).select_related("ring_account__user", "tenant"),
        public_id=device,
    )
    sync = AccountSync.objects.filter(ring_account=found.ring_account).first()
    held = holdings_of(request.membership).of(found)
    can_watch = found.has_video and found.removed_at is None and found.ring_account.is_live
    return render(
        request,
        "devices/detail.html",
        {
            "nav": "devices:list",
            "device": found,
            "components": [part or "" for part in found.component_choices],
            "may_watch": can_watch and Capability.LIVE in held,
            "may_see_clips": found.has_video and Capability.CLIPS in held,
            "own_grants": sharing.own_access(request.membership, found, now=timezone.now()),
            "may_see_events": Capability.EVENTS in held,
            "settings": words.settings_of(found),
            "readings": words.readings_of(found),
            "advice": words.advice_for(found, sync, is_own=found.ring_account.user_id == request.user.pk),
            "documents": _documents(found) if request.membership.is_tenant_admin else [],
        },
    )


def _documents(device: Device) -> list[tuple[str, str]]:
    """Ring's resources as received, for those who want them; the location is for compliance only and not shown."""
    kinds = [DEVICE, *(kind for name, kind in RELATED.items() if name != "location")]
    return [
        (kind, json.dumps(device.documents[kind], indent=2, ensure_ascii=False))
        for kind in kinds
        if kind in device.documents
    ]


@require_POST
@roles_allowed(*ANYONE_IN_THE_TENANT)
def sync(request: TenantRequest, tenant: str) -> HttpResponse:
    """Ask Ring now instead of within a quarter of an hour; a home that was asked a moment ago is left alone."""
    now = timezone.now()
    accounts = RingAccount.objects.visible_to(request.membership).filter(state__in=LIVE)
    asked = Q(device_sync__tried_at__gt=now - ASK_AGAIN_AFTER)
    for account in accounts.exclude(asked).order_by("synced_at")[:ACCOUNTS_AT_ONCE]:
        services.plan_sync(account=account, now=now)
    if accounts.exists():
        messages.success(request, "Ring is being asked. What has changed shows here in a moment.")
    else:
        messages.warning(request, "No Ring account is linked, so there is nothing to ask Ring for.")
    return redirect("devices:list", tenant)
