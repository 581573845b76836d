"""
One mail to a person whose sign-in is locked, because somebody gave a wrong password too often.

allauth does the locking (`login_failed` in ACCOUNT_RATE_LIMITS), and answers the same whether there is an account or not;
so does this: only the mailbox of the address learns of it.
"""

import logging

from django.core.mail import send_mail
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse

from allauth.core import ratelimit

from accounts.addresses import base_url
from accounts.models import User
from accounts.people import find_person

logger = logging.getLogger(__name__)


def note_failure(request: HttpRequest, login: str) -> None:
    """Count a wrong password for this address; with the one that locks it, at most once an hour, have the person told."""
    from accounts.tasks import send_lockout_mail

    if ratelimit.consume(request, action="failures_before_lockout", key=login):
        return
    person, _ = find_person(login)
    if (
        person is not None
        and person.is_active
        and ratelimit.consume(request, action="lockout_mail", key=login)
    ):
        # By a worker: waiting for a mail server would tell that there is somebody.
        send_lockout_mail.enqueue(person.pk)


def send_mail_to(person: User) -> None:
    """Say what happened and what to do."""
    urls = {
        "reset_url": base_url() + reverse("account_reset_password"),
        "second_step_url": base_url() + reverse("mfa_index"),
    }
    body = render_to_string("accounts/email/locked.txt", {"person": person, **urls})
    try:
        send_mail("Too many attempts to sign in to your account", body, None, [person.email])
    except OSError as error:  # smtplib's errors are OSErrors too
        logger.warning("A mail about a locked sign-in was not sent. error=%s", type(error).__name__)
