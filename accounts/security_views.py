"""Settings → Security: of whom the tenant demands a second factor, and who has none yet."""

from django.contrib import messages
from django.db import transaction
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from allauth.account.decorators import reauthentication_required

from accounts.access import TenantRequest, roles_allowed
from accounts.audit import audit
from accounts.forms import MfaPolicyForm
from accounts.mfa_policy import people_with_second_factor
from accounts.models import TENANT_ADMINS, TENANT_STAFF, Membership, MfaPolicy, Tenant

SHOWN = 200
"""How many people without a factor the page names; there may be thousands of customers."""


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*TENANT_ADMINS)
@reauthentication_required(allow_get=True)  # type: ignore[untyped-decorator]
def security(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """The demand, and whom it would keep out. For the tenant's admins; a change asks once more who they are."""
    form = MfaPolicyForm(request.POST or None, initial={"require_mfa": request.tenant.require_mfa})
    if request.method == "POST" and form.is_valid():
        set_mfa_policy(request, MfaPolicy(form.cleaned_data["require_mfa"]))
        messages.success(request, "Saved. It holds from the next page anybody opens.")
        return redirect("accounts:security", request.tenant.slug)
    members = Membership.objects.visible_to(request.membership).select_related("user")
    team = list(members.filter(role__in=TENANT_STAFF).order_by("role", "user__email"))
    customers = list(members.exclude(role__in=TENANT_STAFF).order_by("user__email"))
    having = people_with_second_factor({row.user_id for row in [*team, *customers]})
    without = [row for row in customers if row.user_id not in having]
    context = {
        "form": form,
        "team": [(row, row.user_id in having) for row in team],
        "team_without": sum(row.user_id not in having for row in team),
        "customers": len(customers),
        "customers_without": without[:SHOWN],
        "customers_without_count": len(without),
        "own_missing": request.user.pk not in having,
        "person": request.user,
    }
    return render(request, "accounts/security.html", context, status=422 if form.errors else 200)


def set_mfa_policy(request: TenantRequest, policy: MfaPolicy) -> None:
    """Store whom the tenant demands a second factor of, and write it down."""
    with transaction.atomic():
        row = Tenant.objects.select_for_update().get(pk=request.tenant.pk)
        if row.require_mfa != policy:
            row.require_mfa = policy
            row.save(update_fields=["require_mfa"])
            audit(
                tenant=row,
                actor=request.user,
                action="tenant.mfa_policy",
                subject=f"tenant {row.public_id}",
                policy=policy.value,
            )
