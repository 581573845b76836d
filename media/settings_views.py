"""The page on which a tenant's admins choose the way live pictures take, and how much of them there may be."""

from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts.access import TenantRequest, roles_allowed
from accounts.audit import audit
from accounts.models import TENANT_ADMINS, Tenant


class LiveForm(forms.ModelForm[Tenant]):
    """The way, how many at once, how long of a battery, and whether the team says what for."""

    class Meta:
        model = Tenant
        fields: ClassVar[list[str]] = [
            "live_path",
            "live_most",
            "wall_most",
            "battery_minutes",
            "must_say_purpose",
        ]
        widgets: ClassVar[dict[str, Any]] = {"live_path": forms.RadioSelect}
        labels: ClassVar[dict[str, str]] = {
            "live_path": "Live pictures go",
            "live_most": "At most at once, in the whole company",
            "wall_most": "At most at once, on one wall",
            "battery_minutes": "Live minutes a day, each battery camera",
            "must_say_purpose": "The team must say what it watches for",
        }
        help_texts: ClassVar[dict[str, str]] = {
            "live_most": "Whoever comes when so many watch is told to try again in a moment.",
            "wall_most": "The other cameras show their last picture until it is their turn.",
            "battery_minutes": "1 to 1440, in any 24 hours, however many watch. Then live view of that camera pauses.",
            "must_say_purpose": "Before a live picture of a camera that is not their own. Its owner reads it in “Watched live”.",
        }


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*TENANT_ADMINS)
def live_settings(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """The choices count for viewings that begin from now on; a player may still ask for one way (`?path=`)."""
    form = LiveForm(request.POST or None, instance=Tenant.objects.get(pk=request.tenant.pk))
    if form.is_bound and form.is_valid():
        if form.changed_data:
            with transaction.atomic():
                form.instance.save(update_fields=form.changed_data)
                audit(
                    tenant=request.tenant,
                    actor=request.user,
                    action="tenant.live_path",
                    subject=f"tenant {request.tenant.public_id}",
                    **{name: form.cleaned_data[name] for name in form.changed_data},
                )
        messages.success(request, "Saved. It counts for whoever begins to watch from now on.")
        return redirect("media:live_settings", request.tenant.slug)
    return render(request, "media/live_settings.html", {"form": form}, status=422 if form.is_bound else 200)
