"""The pages on which a tenant's admins say which events' footage is kept without anybody asking."""

from typing import Any, ClassVar
from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts.access import TenantRequest, roles_allowed
from accounts.models import TENANT_ADMINS
from devices.models import Device
from media import rules
from media.models import ClipRule


class RuleForm(forms.ModelForm[ClipRule]):
    """A name, what happens, where, and how much of it is kept."""

    kinds = forms.MultipleChoiceField(
        label="When this happens",
        choices=[(kind.key, kind.label) for kind in rules.KINDS],
        widget=forms.CheckboxSelectMultiple,
    )
    where = forms.ChoiceField(
        label="At",
        choices=[("all", "All cameras"), ("chosen", "The cameras chosen below")],
        widget=forms.RadioSelect,
    )
    devices = forms.ModelMultipleChoiceField(
        Device.objects.none(),
        label="Cameras",
        to_field_name="public_id",
        widget=forms.CheckboxSelectMultiple,
        required=False,
    )
    before_s = forms.IntegerField(label="Seconds before", min_value=0, max_value=ClipRule.MAX_BEFORE_S)
    after_s = forms.IntegerField(label="Seconds after", min_value=1, max_value=ClipRule.MAX_AFTER_S)
    daily_limit = forms.IntegerField(
        label="At most so many clips of a camera in 24 hours",
        min_value=1,
        max_value=1000,
        required=False,
        help_text="Left empty, there is no limit.",
    )

    class Meta:
        model = ClipRule
        fields: ClassVar[list[str]] = [
            "name",
            "kinds",
            "where",
            "devices",
            "before_s",
            "after_s",
            "daily_limit",
            "is_enabled",
        ]
        labels: ClassVar[dict[str, str]] = {"name": "Name", "is_enabled": "The rule is on"}
        help_texts: ClassVar[dict[str, str]] = {"name": "It stands on each clip that the rule keeps."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        rule: ClipRule = kwargs["instance"]
        kwargs["initial"] = {
            "where": "all" if rule.all_devices else "chosen",
            "devices": [] if rule.pk is None else [str(one.public_id) for one in rule.devices.all()],
        }
        super().__init__(*args, **kwargs)
        field: Any = self.fields["devices"]
        cameras = Device.objects.for_tenant(rule.tenant_id).present().cameras().select_related("ring_account")
        field.queryset = cameras
        field.label_from_instance = _called

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        others = ClipRule.objects.for_tenant(self.instance.tenant_id).exclude(pk=self.instance.pk)
        if others.filter(name=name).exists():
            raise ValidationError("Another rule has this name.")
        return name

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = self.cleaned_data
        self.instance.all_devices = data.get("where") == "all"
        if data.get("where") == "chosen" and "devices" in data and not data["devices"]:
            self.add_error("devices", "Choose at least one camera, or all of them above.")
        return data


def _called(device: Device) -> str:
    home = device.ring_account.first_name
    return f"{device.name} ({home}’s home)" if home else device.name


@never_cache
@require_safe
@roles_allowed(*TENANT_ADMINS)
def rule_list(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """The tenant's rules."""
    labels = {kind.key: kind.label for kind in rules.KINDS}
    rows = ClipRule.objects.for_tenant(request.tenant).prefetch_related("devices")
    listed = [(rule, [labels[key] for key in rule.kinds if key in labels]) for rule in rows]
    return render(request, "media/clip_rules.html", {"rules": listed})


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*TENANT_ADMINS)
def add_rule(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """A new rule; it counts from the next event on."""
    return _edit(request, ClipRule(tenant=request.tenant, created_at=timezone.now()))


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*TENANT_ADMINS)
def rule(request: TenantRequest, tenant: str, rule: UUID) -> HttpResponseBase:
    """Change one rule."""
    return _edit(request, _find(request, rule))


def _edit(request: TenantRequest, row: ClipRule) -> HttpResponseBase:
    form = RuleForm(request.POST or None, instance=row)
    if form.is_bound and form.is_valid():
        saved = form.save(commit=False)
        rules.save_rule(rule=saved, devices=form.cleaned_data["devices"], by=request.user)
        messages.success(request, f"Saved. “{saved.name}” counts from the next event on.")
        return redirect("media:clip_rules", request.tenant.slug)
    context = {"form": form, "rule": row if row.pk is not None else None}
    return render(request, "media/clip_rule.html", context, status=422 if form.is_bound else 200)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*TENANT_ADMINS)
def remove_rule(request: TenantRequest, tenant: str, rule: UUID) -> HttpResponseBase:
    """Ask once, then remove; what it kept stays."""
    row = _find(request, rule)
    if request.method != "POST":
        return render(request, "media/clip_rule_remove.html", {"rule": row, "clip_count": row.clips.count()})
    rules.remove_rule(rule=row, by=request.user)
    messages.success(request, f"“{row.name}” is removed. The clips it kept are still here.")
    return redirect("media:clip_rules", request.tenant.slug)


def _find(request: TenantRequest, public_id: UUID) -> ClipRule:
    found: ClipRule = get_object_or_404(
        ClipRule.objects.for_tenant(request.tenant).select_related("tenant"), public_id=public_id
    )
    return found
