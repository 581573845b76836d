"""The addresses a tenant registers at Ring: token exchange, account link, home (contract 1.4)."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Concatenate

from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from accounts import link_session, linking, tasks
from accounts.access import find_membership
from accounts.limits import is_allowed
from accounts.link_pages import refuse
from accounts.models import RingApp, Tenant
from accounts.refusals import LinkRefused, Refusal
from accounts.token_exchange import MAX_BODY_BYTES, UnusableBody, parse_code
from accounts.tokens import NotSetUp, impatient, ring_config
from portal.walls import enter_tenant
from ring.errors import ClientRejected, CodeRejected, RingError, RingRejected
from ring.nonce import MalformedNonce, parse_link_query

logger = logging.getLogger(__name__)

CODES_A_MINUTE = 600
"""How many codes one tenant may be sent in a minute: a tenth of Ring's 100 requests a second (contract 15)."""

_CODE_LIFE_S = 60  # contract 2.2
_RETRY_AFTER_S = 5


def of_tenant[**P](
    view: Callable[Concatenate[HttpRequest, Tenant, P], HttpResponseBase],
) -> Callable[Concatenate[HttpRequest, str, P], HttpResponseBase]:
    """Give the view the tenant of its address, or answer 404. Whoever comes is a stranger: Ring, or a Ring user."""

    @wraps(view)
    def found(request: HttpRequest, tenant: str, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        of = get_object_or_404(Tenant, slug=tenant)
        enter_tenant(of)
        return view(request, of, *args, **kwargs)

    # Django passes the tenant by name, which Concatenate cannot say.
    return found  # type: ignore[return-value]


# --- Token Exchange URL (contract 2.2) ----------------------------------------------------------------------------


@csrf_exempt
@never_cache
@require_POST
@of_tenant
def token_exchange(request: HttpRequest, tenant: Tenant) -> HttpResponse:
    """
    Ring's backend hands over a one-time code, and may do so without proof: the exchange itself is the proof.

    Anyone may POST here. 200 once the tokens are stored; 4xx when the request or the code is bad; 5xx when another
    try may help. Never a redirect, never a word about why beyond what Ring needs.
    """
    if not is_allowed(f"code:{tenant.pk}", limit=CODES_A_MINUTE, window_s=60):
        logger.warning("Too many codes for one tenant. tenant=%s", tenant.pk)
        return _answer(429, "slow_down", retry_after_s=60)
    if _stated_length(request) > MAX_BODY_BYTES:
        return _answer(413, "too_large")
    body = request.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        return _answer(413, "too_large")
    try:
        code = parse_code(body=body, content_type=request.content_type or "")
    except UnusableBody as error:
        logger.warning("A code could not be read. tenant=%s status=%s: %s", tenant.pk, error.status, error)
        return _answer(error.status, "unusable_body", detail=str(error))
    return _exchange_once(tenant, code)


def _stated_length(request: HttpRequest) -> int:
    """The Content-Length; 0 where it is missing or nonsense (the bytes themselves are counted too)."""
    stated = request.META.get("CONTENT_LENGTH") or "0"
    return int(stated) if stated.isascii() and stated.isdigit() else 0


def _exchange_once(tenant: Tenant, code: str) -> HttpResponse:
    """
    Exchange the code unless this process group has it already: a repeated delivery must not burn it twice.

    The note in the cache holds a keyed digest of the code, for as long as the code lives.
    """
    note = f"code:{tenant.pk}:{salted_hmac('accounts.token_exchange', code, algorithm='sha256').hexdigest()}"
    if not cache.add(note, "busy", 2 * _CODE_LIFE_S):
        known = cache.get(note)
        if known == "stored":
            return _answer(200, "ok")
        if known == "rejected":
            return _answer(400, "rejected")
        return _answer(503, "busy", retry_after_s=_RETRY_AFTER_S)
    outcome = ""
    try:
        account = linking.receive_code(tenant=tenant, code=code, now=timezone.now())
        outcome = "stored"
    except (CodeRejected, RingRejected) as error:
        logger.warning("Ring rejected a code. tenant=%s error=%s", tenant.pk, type(error).__name__)
        outcome = "rejected"
        return _answer(400, "rejected")
    except (RingError, NotSetUp) as error:
        level = logging.ERROR if isinstance(error, ClientRejected | NotSetUp) else logging.WARNING
        logger.log(level, "A code was not exchanged. tenant=%s error=%s", tenant.pk, type(error).__name__)
        return _answer(503, "unavailable", retry_after_s=_RETRY_AFTER_S)
    finally:
        if outcome:
            cache.set(note, outcome, 2 * _CODE_LIFE_S)
        else:
            cache.delete(note)
    # The tokens are safe: whatever happens from here on, a task goes on with it.
    try:
        linking.drive(account, config=impatient(ring_config()))
    except LinkRefused as refused:
        logger.warning("Fresh tokens were refused. tenant=%s reason=%s", tenant.pk, refused.reason)
    except (RingError, NotSetUp) as error:
        tasks.try_later(account, error=error, now=timezone.now())
    return _answer(200, "ok")


def _answer(status: int, word: str, *, detail: str = "", retry_after_s: int | None = None) -> JsonResponse:
    body = {"status": word, "detail": detail} if detail else {"status": word}
    response = JsonResponse(body, status=status)
    if retry_after_s is not None:
        response["Retry-After"] = str(retry_after_s)
    return response


# --- Account Link URL (contract 2.5) ------------------------------------------------------------------------------


@never_cache
@require_safe
@of_tenant
def link(request: HttpRequest, tenant: Tenant) -> HttpResponseBase:
    """
    A Ring user's browser arrives with nonce and time. Anyone may come; nothing is claimed, or changed, by coming.

    A usable link is kept in the session. Somebody signed in goes on to confirm; everybody else is offered to create an
    account first, and to sign in.
    """
    try:
        given = {name: request.GET.getlist(name) for name in ("nonce", "time")}
        if any(len(values) != 1 for values in given.values()):
            raise LinkRefused(Refusal.MALFORMED)
        query = parse_link_query(given["nonce"][0], given["time"][0])
        linking.check_link(tenant=tenant, query=query, now=timezone.now())
    except MalformedNonce:
        return refuse(request, tenant, LinkRefused(Refusal.MALFORMED))
    except LinkRefused as refused:
        return refuse(request, tenant, refused)
    link_session.remember(request.session, tenant, query)
    if request.user.is_authenticated:
        return redirect("accounts:confirm_link", tenant.slug)
    match = linking.find_match(tenant=tenant, query=query)
    if match is not None and match.email:
        request.session[link_session.EMAIL] = match.email
    return render(
        request,
        "accounts/link_welcome.html",
        {"link_tenant": tenant, "ring_name": match.first_name if match else "", "is_link": True},
    )


# --- App Homepage URL (contract 16.3) -----------------------------------------------------------------------------


@never_cache
@require_safe
@of_tenant
def home(request: HttpRequest, tenant: Tenant) -> HttpResponseBase:
    """Where Ring's "Manage app" leads. Anyone may come: members to their dashboard, others learn what this is."""
    if find_membership(request.user, tenant.slug) is not None:
        return redirect("events:dashboard", tenant.slug)
    begins_here = RingApp.objects.for_tenant(tenant).filter(partner_initiated=True).exists()
    context = {"link_tenant": tenant, "begins_here": begins_here}
    return render(request, "accounts/ring_home.html", context)
