"""Signing in tells strangers nothing, and lets nobody guess for long."""

from django.core import mail
from django.test import Client
from django.urls import reverse

import pytest

from tests.support.cast import PASSWORD, make_user
from tests.support.signin import add_authenticator_app

pytestmark = pytest.mark.django_db

LOGIN, RESET, SIGNUP = (reverse(f"account_{name}") for name in ("login", "reset_password", "signup"))


def test_a_wrong_password_and_an_unknown_address_get_the_same_answer(client: Client):
    make_user("ada@customer.example")

    answers = [
        client.post(LOGIN, {"login": email, "password": "wrong"})
        for email in ("ada@customer.example", "nobody@customer.example")
    ]

    texts = [answer.context["form"].non_field_errors() for answer in answers]
    assert texts[0] == texts[1] and len(texts[0]) == 1


def test_a_reset_answers_the_same_whether_there_is_an_account(client: Client):
    make_user("ada@customer.example")

    pages = [
        client.post(RESET, {"email": email}, follow=True)
        for email in ("ada@customer.example", "nobody@customer.example")
    ]

    assert pages[0].redirect_chain == pages[1].redirect_chain
    assert sorted(message.to[0] for message in mail.outbox) == [
        "ada@customer.example",
        "nobody@customer.example",
    ]


def test_guessing_one_persons_password_ends_although_the_address_changes():
    make_user("ada@customer.example")

    for number in range(5):
        browser = Client(REMOTE_ADDR=f"192.0.2.{number}")
        browser.post(LOGIN, {"login": "ada@customer.example", "password": "wrong"})

    last = Client(REMOTE_ADDR="192.0.2.99")
    last.post(LOGIN, {"login": "ada@customer.example", "password": PASSWORD})
    assert "_auth_user_id" not in last.session, "now even the right one has to wait"


def test_guessing_the_six_digits_ends(client: Client):
    person = make_user("ada@customer.example")
    add_authenticator_app(person)
    client.post(LOGIN, {"login": person.email, "password": PASSWORD})

    answers = [client.post(reverse("mfa_authenticate"), {"code": "000000"}) for _ in range(7)]

    assert "Too many" in str(answers[-1].context["form"].errors)


@pytest.mark.parametrize(("address", "fields"), [(SIGNUP, ("email", "password1")), (RESET, ("email",))])
def test_signing_up_and_resetting_are_limited_with_a_page_that_says_so(
    client: Client, address: str, fields: tuple[str, ...]
):
    for number in range(25):
        values = {"email": f"p{number}@customer.example", "password1": "x"}
        answer = client.post(address, {name: values[name] for name in fields})
        if answer.status_code == 429:
            break

    assert answer.status_code == 429
    assert "That was very often" in answer.content.decode()


def test_the_admin_has_no_password_form_of_its_own_to_guess_at(client: Client):
    answer = client.post(reverse("admin:login"), {"username": "staff@portal.example", "password": "x"})

    assert answer.status_code == 302 and answer["Location"].startswith(LOGIN)
