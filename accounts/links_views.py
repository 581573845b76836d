"""Settings → Links: how the tenant's links with Ring stand, who must link again, and whose tokens grow old."""

from collections import Counter

from django.core.paginator import Paginator
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.access import TenantRequest, roles_allowed
from accounts.ageing import NOT_RENEWED, REFRESH_LIFETIME, not_renewed
from accounts.models import TENANT_STAFF, RingAccount, RingApp

SHOWN = 50
"""How many links a list of the page names; there may be thousands."""

State = RingAccount.State


@never_cache
@require_safe
@roles_allowed(*TENANT_STAFF)
def links(request: TenantRequest, tenant: str) -> HttpResponse:
    """Who has to link again, and whose tokens grow old. For the tenant's staff, who see what they see elsewhere."""
    now = timezone.now()
    accounts = RingAccount.objects.visible_to(request.membership)
    states = Counter(dict(accounts.order_by().values_list("state").annotate(Count("pk"))))
    broken = accounts.filter(state=State.RELINK_REQUIRED).select_related("user", "relink_notice")
    old = not_renewed(now).filter(pk__in=accounts.values("pk")).select_related("user")
    app = RingApp.objects.filter(tenant=request.tenant).first()
    context = {
        "counts": [
            ("Linked", states[State.LINKED]),
            ("Being linked", states[State.CLAIMING] + states[State.AWAITING]),
            ("Waiting for their person", states[State.RECEIVED] + states[State.UNCLAIMED]),
            ("Must link again", states[State.RELINK_REQUIRED]),
            ("Disconnected", states[State.UNLINKED]),
        ],
        "broken": Paginator(broken.order_by("-relink_notice__required_since", "pk"), SHOWN).get_page(
            request.GET.get("page")
        ),
        "ageing": [
            (account, account.tokens_obtained_at + REFRESH_LIFETIME)
            for account in old[:SHOWN]
            if account.tokens_obtained_at is not None
        ],
        "ageing_count": old.count(),
        "not_renewed_days": NOT_RENEWED.days,
        "is_refused": app is not None and app.refused_at is not None,
    }
    return render(request, "accounts/links.html", context)
