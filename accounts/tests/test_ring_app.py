"""What the portal knows about a tenant's credentials without asking: how Ring answered when they were used."""

from http import HTTPStatus

from django.test import Client
from django.utils import timezone

import pytest

from accounts.models import RingApp
from accounts.ring_app import record_answer, set_ring_app
from accounts.tests.conftest import Linking
from tests.support.cast import make_cast

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("answer", "accepted", "refused"),
    [
        ((401, {"error": "invalid_client"}), False, True),
        # It speaks of the code, so the client was known.
        ((400, {"error": "invalid_grant"}), True, False),
        # Whatever a bare 400 is about, it proves nothing.
        ((400, {}), False, False),
        ((500, {}), False, False),
    ],
)
def test_ring_s_answer_to_a_code_tells_about_the_credentials(linking: Linking, answer, accepted, refused):
    linking.ring.script["code"] = [answer]
    linking.send_code()

    app = RingApp.objects.get()
    assert (app.accepted_at is not None, app.refused_at is not None) == (accepted, refused)


def test_a_good_exchange_ends_a_refusal_and_new_credentials_begin_unknown(linking: Linking):
    linking.ring.script["code"] = [(401, {"error": "invalid_client"})]
    assert linking.send_code() == HTTPStatus.SERVICE_UNAVAILABLE
    assert linking.send_code() == HTTPStatus.OK
    app = RingApp.objects.get()
    assert app.accepted_at is not None
    assert app.refused_at is None

    set_ring_app(tenant=linking.tenant, client_id=app.client_id, client_secret="another one")
    app.refresh_from_db()
    assert app.accepted_at is None


def test_an_answer_to_credentials_that_changed_meanwhile_is_not_theirs(linking: Linking):
    asked_with = RingApp.objects.get()
    set_ring_app(tenant=linking.tenant, client_id="new-client")
    record_answer(asked_with, accepted=False, now=timezone.now())

    assert RingApp.objects.get().refused_at is None


# --- whom customers turn to -------------------------------------------------------------------------------------------


def test_customers_are_told_whom_to_ask_and_on_which_terms_before_they_link():
    acme = make_cast("acme")
    owner = Client()
    owner.force_login(acme.owner.user)
    before = Client().get("/ring/acme/home").content.decode()
    assert "mailto:" not in before

    answer = owner.post(
        "/t/acme/settings/ring/company/",
        {
            "name": "Acme",
            "accent": "#2257d6",
            "support_email": "help@acme.example",
            "privacy_url": "https://acme.example/privacy",
            "terms_url": "",
            "on_unlink": "keep",
        },
    )
    assert answer.status_code == 302
    for path in ("/ring/acme/home", "/ring/acme/link"):
        page = Client().get(path).content.decode()
        assert 'href="mailto:help@acme.example"' in page
        assert 'href="https://acme.example/privacy"' in page
        assert "Terms of use" not in page


def test_an_address_that_is_no_https_is_refused_and_named():
    acme = make_cast("acme")
    owner = Client()
    owner.force_login(acme.owner.user)
    answer = owner.post(
        "/t/acme/settings/ring/company/",
        {"name": "Acme Alarms", "accent": "#2257d6", "privacy_url": "http://acme.example/privacy"},
    )

    assert answer.status_code == 422
    assert "begins with https://" in answer.content.decode()
    acme.tenant.refresh_from_db()
    assert (acme.tenant.name, acme.tenant.privacy_url) == ("Acme", "")
