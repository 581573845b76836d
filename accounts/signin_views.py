"""What signing in needs beside django-allauth's own pages: setting up a second factor, and ending one session."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from allauth.account.models import EmailAddress
from allauth.usersessions.adapter import get_adapter as get_sessions_adapter
from allauth.usersessions.models import UserSession

from accounts.access import memberships_of
from accounts.mfa_policy import RETURN_TO, has_second_factor, needs_second_factor
from accounts.models import User


@never_cache
@require_safe
@login_required
def second_factor(request: HttpRequest) -> HttpResponseBase:
    """
    Why a second factor is asked for, and the ways to one. For anybody signed in.

    Who has one goes on to the page that asked. allauth takes factors only for addresses that are all verified, else a
    stranger could lock the owner of an address out by signing up with it first.
    """
    person = request.user
    assert isinstance(person, User)  # noqa: S101 - login_required
    if has_second_factor(person):
        return redirect(request.session.pop(RETURN_TO, None) or "home")
    context = {
        "asking": [row.tenant for row in memberships_of(person) if needs_second_factor(row)],
        "unverified": EmailAddress.objects.filter(user=person, verified=False),
    }
    return render(request, "account/second_factor.html", context)


@require_POST
@login_required
def end_session(request: HttpRequest, session: int) -> HttpResponse:
    """Sign one of one's own browsers out. For anybody signed in; this very browser signs out on its own page."""
    row = get_object_or_404(UserSession.objects.filter(user_id=request.user.pk), pk=session)
    if row.session_key == request.session.session_key:
        return redirect("account_logout")
    get_sessions_adapter().end_sessions([row])
    messages.success(request, "That browser is signed out.")
    return redirect("usersessions_list")
