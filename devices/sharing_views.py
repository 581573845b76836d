"""The pages on which access to devices is given and ended, and devices are grouped."""

from uuid import UUID

from django.contrib import messages
from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts import invitations
from accounts.access import ANYONE_IN_THE_TENANT, TenantRequest, roles_allowed
from accounts.addresses import base_url
from accounts.limits import is_allowed
from accounts.models import TENANT_ADMINS
from devices import sharing
from devices.forms import GroupForm, ShareForm
from devices.grants import Capability, Grant, NotGranted
from devices.models import Device, DeviceGroup

SHARED_AN_HOUR = 30
"""How often one person gives access in an hour: each may send a mail in the company's name to an address they chose."""


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*ANYONE_IN_THE_TENANT)
def share_device(request: TenantRequest, tenant: str, device: UUID) -> HttpResponseBase:
    """
    Who can see a device, and giving somebody access.

    For the tenant's admins, the person whose device it is, and whoever may give access on; 403 for those who only see it.
    """
    found = get_object_or_404(
        Device.objects.visible_to(request.membership).select_related("ring_account__user", "tenant"),
        public_id=device,
    )
    now = timezone.now()
    if not sharing.may_share(request.membership, found, now=now):
        raise NotGranted(Capability.MANAGE)
    form = ShareForm(request.POST or None, shareable=sharing.shareable(request.membership, found, now=now))
    done = reverse("devices:share", args=[request.tenant.slug, found.public_id])
    if request.method == "POST" and form.is_valid() and _share(request, form, found):
        return redirect(done)
    context = {
        "nav": "devices:list",
        "device": found,
        "form": form,
        "grants": sharing.people_with_access(request.membership, found, now=now),
        "decides": sharing.is_at_home(request.membership, found),
        "is_own": found.ring_account.user_id == request.user.pk,
        "owner": found.ring_account.user if request.membership.is_tenant_admin else None,
    }
    return render(request, "devices/share.html", context, status=422 if form.errors else 200)


def _share(request: TenantRequest, form: ShareForm, target: Device | DeviceGroup) -> bool:
    """Do what the form says and tell the person; False when it cannot be done, with the reason on the form."""
    if not is_allowed(f"share:{request.membership.pk}", limit=SHARED_AN_HOUR, window_s=3600):
        form.add_error(None, "That was very often. Wait an hour before you give access again.")
        return False
    now = timezone.now()
    try:
        shared = sharing.share(
            by=request.membership,
            email=form.cleaned_data["email"],
            target=target,
            capabilities=form.wanted,
            until=form.until(now),
            now=now,
        )
    except sharing.MayNotShare as error:
        form.add_error(None, str(error))
        return False
    except invitations.AlreadyInvited:
        form.add_error("email", "This person is being invited at this moment. Try again.")
        return False
    email = form.cleaned_data["email"]
    if shared.grant.invitation is None:
        messages.success(request, f"{email} has access now.")
        return True
    said = f"{email} is invited: they have access once they accept, by the link in their mail."
    if shared.invited is None:
        messages.success(request, said)
        return True
    what = [f"{target}: {', '.join(str(capability.label) for capability in form.wanted)}"]
    if invitations.send(shared.invited, base_url=base_url(request), what=what):
        messages.success(request, said)
    else:
        messages.warning(
            request,
            f"The mail to {email} could not be sent. End this access and give it again in a few minutes.",
        )
    return True


@require_POST
@roles_allowed(*ANYONE_IN_THE_TENANT)
def end_grant(request: TenantRequest, tenant: str, grant: UUID) -> HttpResponse:
    """End an access. For admins, whoever gave it, whoever has it, and the person whose device it is."""
    rows = Grant.objects.for_tenant(request.tenant).select_related("device__ring_account", "group")
    found = get_object_or_404(rows, public_id=grant)
    if not sharing.may_end(found, request.membership):
        raise Http404("There is no such access for you.")
    sharing.end(grant=found, by=request.membership, now=timezone.now())
    messages.success(request, "Ended. Whoever watches by it is cut off within seconds.")
    return redirect(_back_to(request, found))


def _back_to(request: TenantRequest, grant: Grant) -> str:
    slug, member = request.tenant.slug, request.membership
    if grant.membership_id == member.pk:
        return reverse("devices:list", args=[slug])
    if grant.group is not None:
        return reverse("devices:group", args=[slug, grant.group.public_id])
    device = grant.device
    if device is not None and sharing.may_share(member, device, now=timezone.now()):
        return reverse("devices:share", args=[slug, device.public_id])
    return reverse("devices:list", args=[slug])


# --- groups ----------------------------------------------------------------------------------------------------------


def _choices(request: TenantRequest, group: DeviceGroup | None = None) -> QuerySet[Device]:
    """Devices to choose among: those shared with us, and what is in the group already."""
    rows = Device.objects.visible_to(request.membership)
    shown = Q(removed_at__isnull=True)
    if group is not None:
        shown |= Q(pk__in=group.devices.values("pk"))
    wanted: QuerySet[Device] = rows.filter(shown)
    return wanted.select_related("ring_account").order_by("ring_account__first_name", "name", "pk")


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*TENANT_ADMINS)
def group_list(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """The tenant's groups, and making one. For its admins."""
    form = GroupForm(request.POST or None, choices=_choices(request))
    if request.method == "POST" and form.is_valid() and (made := _save_group(request, form, None)):
        messages.success(request, f"{made.name} is there. Now say who may see it.")
        return redirect("devices:group", request.tenant.slug, made.public_id)
    groups = DeviceGroup.objects.visible_to(request.membership).annotate(
        device_count=Count("memberships", distinct=True)
    )
    context = {"form": form, "groups": groups}
    return render(request, "devices/groups.html", context, status=422 if form.errors else 200)


def _save_group(request: TenantRequest, form: GroupForm, group: DeviceGroup | None) -> DeviceGroup | None:
    try:
        return sharing.save_group(
            group=group,
            name=form.cleaned_data["name"],
            devices=list(form.cleaned_data["devices"]),
            by=request.membership,
            now=timezone.now(),
        )
    except sharing.NameTaken:
        form.add_error("name", "There is a group of this name already.")
        return None


def _find_group(request: TenantRequest, group: UUID) -> DeviceGroup:
    return get_object_or_404(DeviceGroup.objects.visible_to(request.membership), public_id=group)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*TENANT_ADMINS)
def group_page(request: TenantRequest, tenant: str, group: UUID) -> HttpResponseBase:
    """One group: who may see it, and its name and devices. For admins. The two forms say by `what` which they are."""
    found = _find_group(request, group)
    is_sharing = request.method == "POST" and request.POST.get("what") == "share"
    is_saving = request.method == "POST" and not is_sharing
    form = GroupForm(request.POST if is_saving else None, choices=_choices(request, found), group=found)
    share_form = ShareForm(request.POST if is_sharing else None, shareable=frozenset(Capability))
    if is_saving and form.is_valid() and _save_group(request, form, found):
        messages.success(request, "Saved. It holds at once for everybody who has access to the group.")
        return redirect("devices:group", request.tenant.slug, found.public_id)
    if is_sharing and share_form.is_valid() and _share(request, share_form, found):
        return redirect("devices:group", request.tenant.slug, found.public_id)
    context = {
        "group": found,
        "form": form,
        "share_form": share_form,
        "grants": sharing.grants_on(found, now=timezone.now()),
    }
    status = 422 if form.errors or share_form.errors else 200
    return render(request, "devices/group.html", context, status=status)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*TENANT_ADMINS)
def delete_group(request: TenantRequest, tenant: str, group: UUID) -> HttpResponseBase:
    """Ask once, naming what ends; then delete the group. The devices stay. For admins."""
    found = _find_group(request, group)
    if request.method == "POST":
        sharing.delete_group(group=found, by=request.membership, now=timezone.now())
        messages.success(request, f"{found.name} is deleted. Its devices stay.")
        return redirect("devices:groups", request.tenant.slug)
    context = {"group": found, "grant_count": sharing.grants_on(found, now=timezone.now()).count()}
    return render(request, "devices/group_delete.html", context)
