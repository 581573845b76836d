"""The pages on which a company's people are looked after: who belongs, as what, who is invited, who leaves; and joining."""

from collections.abc import Callable
from uuid import UUID

from django.contrib import messages
from django.contrib.auth import logout
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render, resolve_url
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from allauth.account.decorators import reauthentication_required

from accounts import invitations, people
from accounts.access import ANYONE_IN_THE_TENANT, TenantRequest, roles_allowed
from accounts.addresses import base_url
from accounts.forms import INVITED_EMAIL, InviteForm, OwnerForm, RoleForm
from accounts.models import TENANT_ADMINS, TENANT_STAFF, Invitation, Membership, Role, Tenant, User
from portal.walls import enter_tenant

MEMBERS_A_PAGE = 50
_INVITATION = "invitation"
"""The session's key of the link a browser came with: its digest, never the token; a newer link replaces it."""


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*TENANT_ADMINS)
def people_page(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """Who belongs to the tenant and who is invited; inviting more. For its admins; only an owner invites owners."""
    form = InviteForm(request.POST or None, may_make_owners=request.membership.role == Role.OWNER)
    if request.method == "POST" and form.is_valid():
        role, is_limited = form.chosen
        try:
            invited = invitations.invite(
                by=request.membership,
                email=form.cleaned_data["email"],
                role=role,
                is_limited=is_limited,
                now=timezone.now(),
            )
        except invitations.AlreadyMember:
            form.add_error("email", "This person is a member already.")
        except invitations.AlreadyInvited:
            form.add_error(
                "email", "This person is invited already. Send the mail again below, or withdraw it first."
            )
        else:
            _say_sent(request, invitations.send(invited, base_url=base_url(request)))
            return redirect("accounts:people", request.tenant.slug)
    members = Membership.objects.visible_to(request.membership).select_related("user")
    team = list(members.filter(role__in=TENANT_STAFF).order_by("created_at", "pk"))
    query = request.GET.get("q", "").replace("\0", "").strip()[:100]
    others = members.exclude(role__in=TENANT_STAFF).order_by("user__email", "pk")
    if query:
        others = others.filter(user__email__icontains=query)
    context = {
        "form": form,
        "team": team,
        "others": Paginator(others, MEMBERS_A_PAGE).get_page(request.GET.get("page")),
        "query": query,
        "invitations": Invitation.objects.for_tenant(request.tenant)
        .pending()
        .select_related("created_by")
        .order_by("-sent_at"),
        "now": timezone.now(),
        "person": request.user,
    }
    return render(request, "accounts/people.html", context, status=422 if form.errors else 200)


def _say_sent(request: HttpRequest, is_sent: bool) -> None:
    if is_sent:
        messages.success(request, "Invited. The mail tells them how to get in.")
    else:
        messages.warning(request, "Invited, but the mail could not be sent. Send it again in a few minutes.")


def _find_member(request: TenantRequest, member: UUID) -> Membership:
    rows = Membership.objects.visible_to(request.membership).select_related("user", "tenant")
    return get_object_or_404(rows, public_id=member)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*TENANT_ADMINS)
def member_page(request: TenantRequest, tenant: str, member: UUID) -> HttpResponseBase:
    """One member: their role, and what is given to them. For admins; owners only for owners."""
    found = _find_member(request, member)
    may_change = people.may_change(request.membership, found)
    form = RoleForm(
        request.POST or None,
        choices=_roles_for(found),
        initial={"role": RoleForm.value_of(found.role, is_limited=found.is_limited)},
    )
    if request.method == "POST":
        if not may_change:
            raise PermissionDenied("You may not change this person's role.")
        if form.is_valid():
            role, is_limited = form.chosen
            try:
                people.change_role(member=found, role=role, is_limited=is_limited, actor=request.membership)
            except people.LastOwner as error:
                form.add_error("role", str(error))
            else:
                messages.success(request, "Saved. It holds at once, also where they are signed in now.")
                return redirect("accounts:member", request.tenant.slug, found.public_id)
    context = {
        "member": found,
        "form": form,
        "may_change": may_change,
        "is_self": found == request.membership,
    }
    return render(request, "accounts/member.html", context, status=422 if form.errors else 200)


def _roles_for(member: Membership) -> list[str]:
    """What the member may become: staff any staff, and whoever comes from outside also stays what they are."""
    staff = [Role.OPERATOR.value, RoleForm.LIMITED, Role.ADMIN.value]
    present = [] if member.role in (Role.OPERATOR, Role.ADMIN, Role.OWNER) else [member.role]
    return [*present, *staff]


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*TENANT_ADMINS)
def remove_member(request: TenantRequest, tenant: str, member: UUID) -> HttpResponseBase:
    """Ask once, naming what ends; then end somebody's part in the tenant. For admins; owners only for owners."""
    found = _find_member(request, member)
    if not people.may_change(request.membership, found):
        raise PermissionDenied("You may not remove this person.")
    done = reverse("accounts:people", args=[request.tenant.slug])
    return _remove(request, found, done=done, said=f"{found.user} belongs to {request.tenant.name} no more.")


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*ANYONE_IN_THE_TENANT)
def leave(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """End one's own part in the tenant. For everybody but its last owner."""
    said = f"You have left {request.tenant.name}."
    return _remove(request, request.membership, done=reverse("home"), said=said)


def _remove(request: TenantRequest, member: Membership, *, done: str, said: str) -> HttpResponseBase:
    context = {
        "member": member,
        "is_self": member.pk == request.membership.pk,
        "accounts": people.ring_accounts_of(member),
        "error": "",
    }
    if request.method == "POST":
        try:
            people.remove_member(member=member, actor=request.membership, now=timezone.now())
        except people.LastOwner as error:
            context["error"] = str(error)
        else:
            messages.success(request, said)
            return redirect(done)
    status = 422 if context["error"] else 200
    return render(request, "accounts/member_remove.html", context, status=status)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(Role.OWNER)
@reauthentication_required(allow_get=True)  # type: ignore[untyped-decorator]
def ownership(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """Hand the company over to an admin or operator. For owners; asks once more who they are."""
    candidates: QuerySet[Membership] = (
        Membership.objects.visible_to(request.membership)
        .filter(role__in=(Role.ADMIN, Role.OPERATOR), user__is_active=True)
        .select_related("user")
        .order_by("user__email")
    )
    form = OwnerForm(request.POST or None, candidates=candidates)
    if request.method == "POST" and form.is_valid():
        new_owner: Membership = form.cleaned_data["member"]
        people.transfer_ownership(owner=request.membership, to=new_owner)
        messages.success(request, f"{new_owner.user} owns {request.tenant.name} now. You are an admin.")
        return redirect("accounts:people", request.tenant.slug)
    context = {"form": form, "has_candidates": candidates.exists()}
    return render(request, "accounts/ownership.html", context, status=422 if form.errors else 200)


# --- invitations --------------------------------------------------------------------------------------------------


def _with_invitation(
    request: TenantRequest, invitation: UUID, act: Callable[[Invitation], None]
) -> HttpResponseBase:
    rows = Invitation.objects.visible_to(request.membership).select_related("tenant", "created_by")
    found = get_object_or_404(rows, public_id=invitation)
    try:
        act(found)
    except invitations.InvitationOver:
        messages.warning(request, "That invitation is over. Invite the person anew.")
    except invitations.TooSoon:
        messages.warning(request, "The mail was sent a moment ago. Wait a minute before you send it again.")
    return redirect("accounts:people", request.tenant.slug)


@require_POST
@roles_allowed(*TENANT_ADMINS)
def send_again(request: TenantRequest, tenant: str, invitation: UUID) -> HttpResponseBase:
    """Send an invitation once more, with a new link. For admins."""

    def act(found: Invitation) -> None:
        invited = invitations.send_again(invitation=found, by=request.membership, now=timezone.now())
        _say_sent(request, invitations.send(invited, base_url=base_url(request)))

    return _with_invitation(request, invitation, act)


@require_POST
@roles_allowed(*TENANT_ADMINS)
def withdraw(request: TenantRequest, tenant: str, invitation: UUID) -> HttpResponseBase:
    """Make an invitation's link stop working. For admins."""

    def act(found: Invitation) -> None:
        invitations.withdraw(invitation=found, actor=request.user, now=timezone.now())
        messages.success(request, "Withdrawn. The link works no more.")

    return _with_invitation(request, invitation, act)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def join(request: HttpRequest, tenant: str) -> HttpResponseBase:
    """
    Where an invitation's link leads. Admits anybody: the token is the key, and goes into the session at once, so that
    no further address carries it. POST joins, for the person invited, signed in.
    """
    of = get_object_or_404(Tenant, slug=tenant)
    enter_tenant(of)
    token = request.GET.get("token")
    if token is not None:
        named = invitations.find_by_token(of, token)
        if named is None:
            request.session.pop(_INVITATION, None)
        else:
            request.session[_INVITATION] = named.sha256
            request.session[INVITED_EMAIL] = named.email
        return redirect("accounts:join", of.slug)
    kept = request.session.get(_INVITATION)
    rows = Invitation.objects.for_tenant(of).select_related("tenant", "created_by")
    invitation = rows.filter(sha256=kept).first() if kept else None
    if invitation is None:
        return _join_page(request, of, None, state="unknown", status=404)
    person = request.user
    if not invitation.is_open(timezone.now()):
        is_here = isinstance(person, User) and invitation.accepted_by_id == person.pk
        return (
            redirect("events:dashboard", of.slug)
            if is_here
            else _join_page(request, of, invitation, "over", 410)
        )
    if not isinstance(person, User):
        return _join_page(request, of, invitation, "sign_in")
    if not invitations.is_for(invitation, person):
        return _join_page(request, of, invitation, "someone_else")
    if request.method == "POST":
        return _accept(request, invitation, person)
    return _join_page(request, of, invitation, "accept")


def _join_page(
    request: HttpRequest, tenant: Tenant, invitation: Invitation | None, state: str, status: int = 200
) -> HttpResponse:
    here = urlencode({"next": reverse("accounts:join", args=[tenant.slug])})
    context = {
        "link_tenant": tenant,
        "invitation": invitation,
        "state": state,
        "login_url": f"{resolve_url('account_login')}?{here}",
        "signup_url": f"{resolve_url('account_signup')}?{here}",
    }
    return render(request, "accounts/join.html", context, status=status)


def _accept(request: HttpRequest, invitation: Invitation, person: User) -> HttpResponseBase:
    try:
        invitations.accept(invitation=invitation, person=person, now=timezone.now())
    except invitations.InvitationOver:
        return redirect("accounts:join", invitation.tenant.slug)
    for key in (_INVITATION, INVITED_EMAIL):
        request.session.pop(key, None)
    messages.success(request, f"Welcome to {invitation.tenant.name}.")
    return redirect("events:dashboard", invitation.tenant.slug)


@require_POST
def join_as_another(request: HttpRequest, tenant: str) -> HttpResponseBase:
    """Sign out to join as somebody else, without losing the invitation. Admits anybody who came with one."""
    of = get_object_or_404(Tenant, slug=tenant)
    kept = {key: request.session.get(key) for key in (_INVITATION, INVITED_EMAIL)}
    if kept[_INVITATION] is None:
        raise Http404("There is no invitation here.")
    logout(request)
    request.session.update(kept)
    return redirect("accounts:join", of.slug)
