"""
Partner-initiated linking (contract 3.2): to Ring with state and PKCE, and back with a code.

allauth's OAuth flow as far as the code: state bound to the session and used once, S256 challenge, fixed redirect address.
From there the portal's own state machine takes over (`accounts/linking.py`), so that tokens are stored encrypted at once,
and a Ring that does not answer loses nothing. Nobody is signed in by it.
"""

import logging
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.csp import CSP
from django.views.decorators.cache import never_cache
from django.views.decorators.csp import csp_override
from django.views.decorators.http import require_http_methods, require_safe

from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.internal import statekit
from allauth.socialaccount.providers.oauth2.views import OAuth2Adapter

from accounts import linking, tasks
from accounts.access import find_membership
from accounts.addresses import base_url, redirect_url
from accounts.connections import PREFIX, provider_of
from accounts.limits import is_allowed
from accounts.link_pages import write_down
from accounts.models import RingAccount, RingApp, Tenant, User
from accounts.providers.ring.refusals import TEXTS, Trouble
from accounts.refusals import TEXTS as LINK_TEXTS
from accounts.refusals import LinkRefused
from accounts.tokens import NotSetUp, impatient, ring_config
from portal.walls import enter_tenant
from ring.errors import ClientRejected, CodeRejected, RingError, RingRejected

logger = logging.getLogger(__name__)

State = RingAccount.State

BEGUN_A_MINUTE = 10
"""How often one person may go to Ring and back."""

MAX_CODE_CHARS = 2048


class RingOAuth2Adapter(OAuth2Adapter):  # type: ignore[misc]  # allauth has no types
    """Where allauth's redirect to Ring leads, and where it comes back to."""

    provider_id = "ring"

    @property
    def authorize_url(self) -> str:
        return str(settings.RING_AUTHORIZE_URL)

    access_token_url = ""  # the exchange is ours (accounts/linking.py), where the tenant's secret is

    def get_callback_url(self, request: HttpRequest, app: Any) -> str:
        """The tenant's one registered address, never made from what a browser sent."""
        tenant = Tenant.objects.get(slug=app.provider_id.removeprefix(PREFIX))
        return redirect_url(tenant, base=base_url(request))


def _tenant(slug: str) -> Tenant:
    """The tenant, entered, when linking may begin here. Raises Http404 when it may not, as if there were nothing."""
    tenant = get_object_or_404(Tenant, slug=slug)
    enter_tenant(tenant)
    if not RingApp.objects.for_tenant(tenant).filter(partner_initiated=True).exists():
        raise Http404("There is no such page.")
    return tenant


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def login(request: HttpRequest, tenant: str) -> HttpResponseBase:
    """
    "Connect your Ring account": GET says what happens, POST leads to Ring. For anybody signed in, like every link.

    Only a POST begins: a link on a stranger's page must not start a connection.
    """
    of = _tenant(tenant)
    if request.method != "POST":
        return _ask(request, of)
    if not is_allowed(f"ring-begin:{request.user.pk}", limit=BEGUN_A_MINUTE, window_s=60):
        return _trouble(request, of, Trouble.TOO_OFTEN)
    provider = get_adapter(request).get_provider(request, provider=provider_of(of.slug))
    response: HttpResponseBase = provider.redirect_from_request(request)
    return response


def _ask(request: HttpRequest, tenant: Tenant) -> HttpResponseBase:
    """The page with the button. Browsers hold a form's policy against the redirect that answers it, too: Ring is let in."""
    ring = urlsplit(settings.RING_AUTHORIZE_URL)
    policy: dict[str, Any] = {
        **settings.SECURE_CSP,
        "form-action": [CSP.SELF, f"{ring.scheme}://{ring.netloc}"],
    }

    @csp_override(policy)
    def page(request: HttpRequest) -> HttpResponseBase:
        return render(request, "socialaccount/ring_connect.html", {"link_tenant": tenant})

    return page(request)


@never_cache
@require_safe
def callback(request: HttpRequest, tenant: str) -> HttpResponseBase:
    """
    Ring's browser comes back, with a code or an error, and the state of the session it left from.

    For the person who began: without their session, or with somebody else's, the state fits nothing.
    """
    of = _tenant(tenant)
    state = _take_state(request, of)
    person = request.user
    if state is None or not isinstance(person, User) or state.get("person") != str(person.pk):
        return _trouble(request, of, Trouble.STATE)
    errors, codes = request.GET.getlist("error"), request.GET.getlist("code")
    if errors:
        return _trouble(request, of, Trouble.DENIED if errors == ["access_denied"] else Trouble.RING_SAID_NO)
    if len(codes) != 1 or not 0 < len(codes[0]) <= MAX_CODE_CHARS:
        return _trouble(request, of, Trouble.RING_SAID_NO)
    beginning = linking.Beginning(
        person=person,
        code_verifier=str(state["pkce_code_verifier"]),
        redirect_uri=redirect_url(of, base=base_url(request)),
    )
    return _link(request, of, person, codes[0], beginning)


def _take_state(request: HttpRequest, tenant: Tenant) -> dict[str, Any] | None:
    """The one stashed state this answer belongs to, which is thereby used up; None for a wrong, old or doubled one."""
    given = request.GET.getlist("state")
    if len(given) != 1:
        return None
    state: dict[str, Any] | None = statekit.unstash_state(
        request, state_id=given[0], provider_id=provider_of(tenant.slug)
    )
    return state


def _link(
    request: HttpRequest, tenant: Tenant, person: User, code: str, beginning: linking.Beginning
) -> HttpResponseBase:
    """Exchange the code, then go as far as Ring lets us within this request; a task does the rest."""
    own = RingAccount.objects.for_tenant(tenant).filter(user=person, state=State.LINKED)
    linked_before = set(own.values_list("pk", flat=True))
    try:
        account = linking.receive_code(tenant=tenant, code=code, now=timezone.now(), beginning=beginning)
    except CodeRejected:
        return _trouble(request, tenant, Trouble.CODE)
    except RingRejected:
        return _trouble(request, tenant, Trouble.RING_SAID_NO)
    except (RingError, NotSetUp) as error:
        level = logging.ERROR if isinstance(error, ClientRejected | NotSetUp) else logging.WARNING
        logger.log(level, "A code was not exchanged. tenant=%s error=%s", tenant.pk, type(error).__name__)
        return _trouble(request, tenant, Trouble.RING_DOWN)
    try:
        account = linking.drive(account, config=impatient(ring_config()))
    except LinkRefused as refused:
        return _refused(request, tenant, refused)
    except (RingError, NotSetUp) as error:
        account = _latest(account)
        tasks.try_later(account, error=error, now=timezone.now())
        if account.state == State.RECEIVED:
            return _trouble(request, tenant, Trouble.NOT_YET)
    if account.pk in linked_before:
        messages.info(request, "This Ring account was linked already. Its permission is renewed.")
    return redirect("accounts:linked", tenant.slug, account.public_id)


def _latest(account: RingAccount) -> RingAccount:
    """
    The row the link is in now.

    When Ring fails after users/me, the received row may have become part of the account's one row; that one carries the
    lease of this request, taken a moment ago by this person.
    """
    now = RingAccount.objects.filter(pk=account.pk).first()
    if now is not None:
        return now
    moved = RingAccount.objects.for_tenant(account.tenant_id).filter(
        user=account.user, received_at=account.received_at
    )
    # Whatever state it is in: Ring's webhook may have completed it a moment ago.
    return moved.first() or account


def _refused(request: HttpRequest, tenant: Tenant, refused: LinkRefused) -> HttpResponse:
    """A refusal that linking has in common with the way from the Ring app."""
    if not refused.audited:
        write_down(request, tenant, str(refused.reason))
    return _page(request, tenant, LINK_TEXTS[refused.reason])


def _trouble(request: HttpRequest, tenant: Tenant, trouble: Trouble) -> HttpResponse:
    write_down(request, tenant, str(trouble))  # the reason, never the code or the state
    return _page(request, tenant, TEXTS[trouble])


def _page(request: HttpRequest, tenant: Tenant, text: Any) -> HttpResponse:
    is_member = find_membership(request.user, tenant.slug) is not None
    context = {"link_tenant": tenant, "refusal": text, "is_member": is_member}
    return render(request, "socialaccount/ring_refused.html", context, status=text.status)
