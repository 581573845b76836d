"""The page on which a tenant's admins say how long events and deliveries are kept."""

from typing import ClassVar

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts.access import TenantRequest, roles_allowed
from accounts.audit import audit
from accounts.models import TENANT_ADMINS, Tenant
from events import retention


class RetentionForm(forms.ModelForm[Tenant]):
    """For how many days; the bounds are the model's."""

    class Meta:
        model = Tenant
        fields: ClassVar[list[str]] = ["keep_events_days", "keep_deliveries_days"]
        labels: ClassVar[dict[str, str]] = {
            "keep_events_days": "Days to keep events",
            "keep_deliveries_days": "Days to keep webhooks",
        }
        help_texts: ClassVar[dict[str, str]] = {
            "keep_events_days": "7 to 3650. An event takes its picture and its webhook with it. Clips stay.",
            "keep_deliveries_days": "What Ring sent, word for word, for the delivery inspector. Not longer than events.",
        }


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*TENANT_ADMINS)
def retention_page(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """How long things are kept, and what would be deleted now: of what is saved, or with `preview`, of what is typed."""
    # A form writes what was typed into its instance: the page must not wear that.
    form = RetentionForm(request.POST or None, instance=Tenant.objects.get(pk=request.tenant.pk))
    is_valid = not form.is_bound or form.is_valid()
    if form.is_bound and is_valid and "preview" not in request.POST:
        if form.changed_data:
            with transaction.atomic():
                # Two fields, not the row: whatever else was saved meanwhile stays.
                form.instance.save(update_fields=["keep_events_days", "keep_deliveries_days"])
                audit(
                    tenant=request.tenant,
                    actor=request.user,
                    action="tenant.retention",
                    subject=f"tenant {request.tenant.public_id}",
                    events=form.instance.keep_events_days,
                    deliveries=form.instance.keep_deliveries_days,
                )
        messages.success(request, "Saved. What is older is deleted within the hour.")
        return redirect("events:retention", request.tenant.slug)
    due = retention.count_due(form.instance, now=timezone.now()) if is_valid else None
    context = {"form": form, "due": due, "is_preview": form.is_bound}
    return render(request, "events/retention.html", context, status=200 if is_valid else 422)
