"""The pages of linking a Ring account, and of one's own Ring accounts."""

from contextlib import suppress
from uuid import UUID

from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render, resolve_url
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import link_session, linking, tasks, unlinking
from accounts.access import ANYONE_IN_THE_TENANT, TenantRequest, find_membership, roles_allowed
from accounts.link_pages import refuse
from accounts.models import RingAccount, RingApp, Tenant, User
from accounts.refusals import TEXTS, LinkRefused, Refusal, refusal_from
from accounts.tokens import NotSetUp, impatient, ring_config
from portal.walls import enter_tenant
from portal.work import take
from ring.errors import RingError
from ring.nonce import LinkQuery

State = RingAccount.State

# Refusals behind which the very person's own claim may stand.
_NOT_IN_THE_POOL = {Refusal.NOT_YET, Refusal.NO_MATCH, Refusal.ALREADY_LINKED, Refusal.SOMEONE_ELSE}

# What became of a link its person waited for, where the state itself says it.
_REFUSAL_OF_STATE: dict[str, Refusal] = {
    State.RELINK_REQUIRED: Refusal.LINK_AGAIN,
    State.UNLINKED: Refusal.NOT_INSTALLED,
}


# --- confirming a link (contract 2.7) -----------------------------------------------------------------------------


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def confirm_link(request: HttpRequest, tenant: str) -> HttpResponseBase:
    """
    "Link this Ring account to me?" GET asks and changes nothing; POST claims, and tells Ring.

    Admits any signed-in person, member of the tenant or not: linking is how one becomes a customer. What proves the
    right to the Ring account is the nonce in the session, put there by Ring's redirect.
    """
    of = get_object_or_404(Tenant, slug=tenant)
    enter_tenant(of)
    person = request.user
    assert isinstance(person, User)  # noqa: S101 - login_required
    query = link_session.pending(request.session, of)
    if query is None:
        claimed = link_session.claimed(request.session, of)
        if claimed is not None and RingAccount.objects.for_tenant(of).filter(public_id=claimed).exists():
            return redirect("accounts:linked", of.slug, claimed)
        return refuse(request, of, LinkRefused(Refusal.NO_PENDING))
    try:
        if request.method == "POST":
            return _claim(request, of, person, query)
        return _ask(request, of, person, query)
    except LinkRefused as refused:
        if not TEXTS[refused.reason].next_step.needs_link:
            link_session.forget(request.session, of)
        return refuse(request, of, refused)


def _ask(request: HttpRequest, tenant: Tenant, person: User, query: LinkQuery) -> HttpResponse:
    """Show whose Ring account would be linked to whom; raise LinkRefused where a POST would be refused already."""
    now = timezone.now()
    linking.check_link(tenant=tenant, query=query, now=now)
    match = linking.find_match(tenant=tenant, query=query)
    if match is None:
        match = linking.find_own_claim(tenant=tenant, user=person, query=query)
        if match is None:
            reason = linking.why_no_match(tenant=tenant, user=person, query=query, now=now)
            if reason != Refusal.NOT_YET:  # that one may come true while the person reads
                raise LinkRefused(reason)
        elif match.state == State.LINKED:
            raise LinkRefused(Refusal.ALREADY_LINKED)
    elif match.user_id not in (None, person.pk):
        raise LinkRefused(Refusal.SOMEONE_ELSE)
    membership = find_membership(person, tenant.slug)
    return render(
        request,
        "accounts/link_confirm.html",
        {
            "link_tenant": tenant,
            "ring_name": match.first_name if match else "",
            "shown_to_ring": linking.masked(person.email),
            "works_here": person.is_staff or (membership is not None and membership.sees_whole_tenant),
        },
    )


def _claim(request: HttpRequest, tenant: Tenant, person: User, query: LinkQuery) -> HttpResponseBase:
    """Claim, then go as far as Ring lets us within this request; a task does the rest."""
    try:
        account = linking.claim(tenant=tenant, user=person, query=query, now=timezone.now())
    except LinkRefused as refused:
        if refused.reason not in _NOT_IN_THE_POOL:
            raise
        own = linking.find_own_claim(tenant=tenant, user=person, query=query)
        if own is None:
            raise
        # A second click, or Sign In once more: what was begun goes on, with the younger nonce.
        account = linking.renew_claim(account=own, query=query, now=timezone.now())
    else:
        _drive_now(account)
    link_session.remember_claim(request.session, tenant, account)
    return redirect("accounts:linked", tenant.slug, account.public_id)


def _drive_now(account: RingAccount) -> None:
    """Go on with a leased account while its person waits. Raises LinkRefused; what must wait goes to a task."""
    try:
        linking.drive(account, config=impatient(ring_config()))
    except (RingError, NotSetUp) as error:
        tasks.try_later(account, error=error, now=timezone.now())


@never_cache
@require_POST
def switch_person(request: HttpRequest, tenant: str) -> HttpResponseBase:
    """
    "Not you?": sign out, and in again as somebody else, without losing the link that waits.

    Admits anyone: who has no link waiting is merely signed out. Signing out empties the session, so the link is carried over.
    """
    of = get_object_or_404(Tenant, slug=tenant)
    query = link_session.pending(request.session, of)
    logout(request)
    if query is not None:
        link_session.remember(request.session, of, query)
    return redirect_to_login(reverse("accounts:confirm_link", args=[of.slug]), resolve_url("account_login"))


# --- after the claim ----------------------------------------------------------------------------------------------


def _own_account(request: TenantRequest, public_id: UUID) -> RingAccount:
    """
    The person's own Ring account, or the one this browser claimed last: a claim that Ring refused belongs to nobody.

    Raises Http404 for every other.
    """
    account = get_object_or_404(
        RingAccount.objects.for_tenant(request.tenant).select_related("tenant"), public_id=public_id
    )
    claimed_here = link_session.claimed(request.session, request.tenant) == public_id
    if account.user_id == request.user.pk or (account.user_id is None and claimed_here):
        return account
    raise Http404("There is no such Ring account for you.")


@never_cache
@require_safe
@roles_allowed(*ANYONE_IN_THE_TENANT)
def linked(request: TenantRequest, tenant: str, account: UUID) -> HttpResponse:
    """How the link goes, and the devices it brought. For the person who linked; asks again by itself while things move."""
    row = _own_account(request, account)
    refusal = _REFUSAL_OF_STATE.get(row.state) or refusal_from(row.last_error)
    is_finishing = row.state in (State.RECEIVED, State.CLAIMING, State.AWAITING)
    is_syncing = row.state == State.LINKED and row.synced_at is None
    devices = row.devices.present().select_related("ring_account") if row.state == State.LINKED else []
    # Whoever goes to the Ring app now, to share one, finds it here on coming back.
    awaits_devices = row.state == State.LINKED and not devices
    context = {
        "account": row,
        "link_tenant": request.tenant,
        "refusal": TEXTS[refusal or Refusal.NO_PENDING]
        if not is_finishing and row.state != State.LINKED
        else None,
        "is_finishing": is_finishing,
        "is_ring_silent": is_finishing and row.last_error != "",
        "is_syncing": is_syncing,
        "poll_every_s": 2 if is_finishing or is_syncing else 10 if awaits_devices else None,
        "devices": devices,
    }
    template = (
        "accounts/linked.html#progress" if request.headers.get("HX-Request") else "accounts/linked.html"
    )
    return render(request, template, context)


@never_cache
@require_POST
@roles_allowed(*ANYONE_IN_THE_TENANT)
def finish_link(request: TenantRequest, tenant: str, account: UUID) -> HttpResponseBase:
    """The *Finish linking* button: try now instead of when the next attempt is due. For the person who linked."""
    row = _own_account(request, account)
    now = timezone.now()
    # Waiting for its next attempt is no reason to refuse a person; being worked on at this moment is.
    waiting = RingAccount.objects.filter(state__in=(State.CLAIMING, State.AWAITING)).exclude(last_error="")
    waiting.filter(pk=row.pk, next_attempt_at__gt=now).update(next_attempt_at=now)
    leased = take(waiting, row.pk, now=now, lease=linking.INLINE_LEASE)
    if leased is not None:
        tasks.at_work(leased)
        with suppress(LinkRefused):  # the page says so: the row keeps the reason
            _drive_now(leased)
    return redirect("accounts:linked", request.tenant.slug, account)


# --- settings: one's own Ring accounts ----------------------------------------------------------------------------


@never_cache
@require_safe
@roles_allowed(*ANYONE_IN_THE_TENANT)
def settings(request: TenantRequest, tenant: str) -> HttpResponse:
    """One's own Ring accounts and sign-in. For everybody in the tenant; nobody sees another's here."""
    own = (
        RingAccount.objects.visible_to(request.membership)
        .filter(user=request.user)
        .order_by("-linked_at", "pk")
    )
    begins_here = RingApp.objects.for_tenant(request.tenant).filter(partner_initiated=True).exists()
    return render(request, "accounts/settings.html", {"accounts": own, "begins_here": begins_here})


@require_http_methods(["GET", "HEAD", "POST"])
@roles_allowed(*ANYONE_IN_THE_TENANT)
def unlink(request: TenantRequest, tenant: str, account: UUID) -> HttpResponseBase:
    """Disconnect one's own Ring account: GET says what will be lost, POST does it. For the person it belongs to."""
    own = RingAccount.objects.visible_to(request.membership).filter(user=request.user)
    row = get_object_or_404(own, public_id=account)
    # The company may have changed its mind while the person read: they confirm what they were shown, nothing else.
    policy = request.tenant.on_unlink
    has_changed = request.method == "POST" and request.POST.get("history", policy) != policy
    if request.method != "POST" or has_changed:
        context = {"account": row, "has_changed": has_changed}
        return render(request, "accounts/unlink.html", context, status=409 if has_changed else 200)
    unlinking.disconnect(account=row, actor=request.user, now=timezone.now())
    messages.success(request, unlinking.words_after(row))
    return redirect("accounts:settings", request.tenant.slug)
