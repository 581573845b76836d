"""Signing in as people do: a password on allauth's page, then the six digits of a real authenticator app."""

import time
from typing import Any

from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, generate_totp_secret, hotp_value

from accounts.models import User
from tests.support.cast import PASSWORD


def add_authenticator_app(user: User) -> str:
    """Give the person an authenticator app; return its secret."""
    secret: str = generate_totp_secret()
    TOTP.activate(user, secret)
    return secret


def six_digits(secret: str) -> str:
    """What the app shows now."""
    return str(format_hotp_value(hotp_value(secret, int(time.time()) // 30)))


def sign_in(
    client: Client, user: User, *, password: str = PASSWORD, secret: str = "", next: str = "/"
) -> None:
    """Through the pages. `secret` is that of the person's authenticator app, where they have one."""
    address = f"{reverse('account_login')}?next={next}"
    answer: Any = client.post(address, {"login": user.email, "password": password, "next": next})
    if secret:
        assert answer["Location"] == reverse("mfa_authenticate"), "No second step was asked for"
        answer = post_code(client, answer["Location"], secret)
    assert answer.status_code == 302, answer.content.decode()
    assert client.session.get("_auth_user_id") == str(user.pk)


def post_code(client: Client, address: str, secret: str, **more: str) -> Any:
    """Enter the six digits, and `more` fields; once more when they changed on the way."""
    code = six_digits(secret)
    answer = client.post(address, {"code": code, **more})
    if answer.status_code == 200 and code != (newer := six_digits(secret)):
        answer = client.post(address, {"code": newer, **more})
    return answer


def confirm_again(client: Client, *, password: str = PASSWORD) -> None:
    """Answer "Is it you?", as allauth asks before what protects an account is changed."""
    answer = client.post(reverse("account_reauthenticate"), {"password": password, "next": "/"})
    assert answer.status_code == 302, answer.content.decode()


def staff_client(user: User) -> Client:
    """A browser of portal staff, past the second step and just confirmed: what the admin lets change things."""
    client = Client()
    secret = add_authenticator_app(user)
    sign_in(client, user, secret=secret)
    confirm_again(client)
    cache.clear()  # the counters of rate limits, and the code that was used: the next sign-in may come at once
    return client
