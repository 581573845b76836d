"""Signing in tells strangers nothing, and lets nobody guess for long."""

import re
from collections.abc import Callable

from django.core import mail
from django.test import Client, RequestFactory
from django.urls import reverse

import pytest
from allauth.core import ratelimit

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


def guess(email: str, times: int) -> None:
    for number in range(times):
        Client(REMOTE_ADDR=f"192.0.2.{number}").post(LOGIN, {"login": email, "password": "wrong"})


@pytest.mark.django_db(transaction=True)
def test_whose_sign_in_is_locked_gets_one_mail_that_says_what_to_do(run_tasks: Callable[[], None]):
    make_user("ada@customer.example")
    guess("Ada@customer.example", 4)
    run_tasks()
    assert mail.outbox == [], "a few wrong ones happen to everybody"

    guess("ada@customer.example", 6)
    run_tasks()
    [message] = mail.outbox
    assert message.to == ["ada@customer.example"]
    assert "Wait five minutes" in message.body and RESET in message.body

    # The next lock within the hour is not told: nobody's mailbox is filled this way.
    request = RequestFactory().post(LOGIN)
    ratelimit.clear(request, action="login_failed", key="testserver:ada@customer.example")
    guess("ada@customer.example", 5)
    run_tasks()
    assert len(mail.outbox) == 1


@pytest.mark.django_db(transaction=True)
def test_an_address_nobody_has_is_locked_with_the_same_answer_and_no_mail(run_tasks: Callable[[], None]):
    make_user("ada@customer.example")
    answers = []
    for email in ("ada@customer.example", "nobody@customer.example"):
        guess(email, 5)
        answer = Client(REMOTE_ADDR="192.0.2.99").post(LOGIN, {"login": email, "password": "wrong"})
        answers.append(answer.context["form"].non_field_errors())
    run_tasks()
    assert answers[0] == answers[1] and "Too many" in str(answers[0])
    assert [message.to for message in mail.outbox] == [["ada@customer.example"]]


def test_a_new_password_lifts_the_lock_at_once(client: Client):
    person = make_user("ada@customer.example")
    guess("ada@customer.example", 6)
    client.post(RESET, {"email": person.email})
    [path] = re.findall(r"http://testserver(/accounts/password/reset/key/\S+)", str(mail.outbox[-1].body))
    form = client.get(path, follow=True)
    client.post(
        form.redirect_chain[-1][0], {"password1": "a long walk home", "password2": "a long walk home"}
    )

    client.post(LOGIN, {"login": person.email, "password": "a long walk home"})
    assert client.session["_auth_user_id"] == str(person.pk)


def test_signing_up_at_a_link_with_a_taken_address_leads_on_with_the_link(client: Client):
    make_user("ada@customer.example")
    back = "/t/acme/link/"
    answer = client.post(SIGNUP, {"email": "ada@customer.example", "password1": PASSWORD, "next": back})
    page = answer.content.decode()
    assert "Sign in with it below" in page
    [path] = re.findall(r'href="(/accounts/login/[^"]*)"', page)
    answer = client.post(path, {"login": "ada@customer.example", "password": PASSWORD})
    assert answer["Location"] == back


def test_asking_who_one_is_is_limited_too(client: Client):
    person = make_user("ada@customer.example")
    client.force_login(person)
    answers = [client.post(reverse("account_reauthenticate"), {"password": "wrong"}) for _ in range(12)]
    assert answers[-1].status_code == 429 or "Too many" in answers[-1].content.decode()


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
