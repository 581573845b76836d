"""Settings → Links: who must link again, whose tokens grow old, and what becomes of a history."""

import logging
from datetime import timedelta
from http import HTTPStatus

from django.test import Client
from django.utils import timezone

import pytest

from accounts import relinking, tasks
from accounts.models import RingAccount, Tenant
from accounts.ring_app import record_answer
from tests.support.cast import PASSWORD, TenantCast, make_cast

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> TenantCast:
    cast = make_cast("acme")
    RingAccount.objects.update(tokens_obtained_at=timezone.now())
    return cast


def client_of(membership) -> Client:
    client = Client()
    assert client.login(username=membership.user.email, password=PASSWORD)
    return client


def page(membership) -> str:
    answer = client_of(membership).get("/t/acme/settings/links/")
    assert answer.status_code == HTTPStatus.OK
    return answer.content.decode()


@pytest.mark.parametrize("who", ["owner", "operator"])
def test_staff_see_who_must_link_again_and_how_often_they_were_told(acme: TenantCast, who: str):
    assert "Nobody: Ring takes the permission" in page(getattr(acme, who))
    RingAccount.objects.filter(pk=acme.ada_account.pk).update(state="relink_required")
    relinking.plan_notices(now=timezone.now())
    shown = page(getattr(acme, who))
    assert "ada@acme.example" in shown and "None yet" in shown
    assert "ben@acme.example" not in shown


def test_customers_and_other_tenants_see_nothing(acme: TenantCast):
    other = make_cast("other")
    RingAccount.objects.filter(pk=other.ada_account.pk).update(state="relink_required")
    assert "ada@other.example" not in page(acme.owner)
    for nobody in (acme.ada, other.owner):
        assert client_of(nobody).get("/t/acme/settings/links/").status_code == HTTPStatus.NOT_FOUND


def test_links_that_are_not_renewed_are_listed_oldest_first_with_the_cause(acme: TenantCast):
    now = timezone.now()
    RingAccount.objects.filter(pk=acme.ada_account.pk).update(tokens_obtained_at=now - timedelta(days=4))
    RingAccount.objects.filter(pk=acme.ben_account.pk).update(tokens_obtained_at=now - timedelta(days=9))
    shown = page(acme.owner)
    assert 0 < shown.index("ben@acme.example") < shown.index("ada@acme.example")
    assert "Ring may be out of reach" in shown
    record_answer(acme.tenant.ring_app, accepted=False, now=now)
    assert "Ring refuses this company’s client id or secret" in page(acme.owner)


def test_ageing_is_said_in_the_log_once_a_tenant(acme: TenantCast, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, logger="accounts.ageing"):
        tasks.report_ageing.func()
        assert caplog.records == []
        RingAccount.objects.update(tokens_obtained_at=timezone.now() - timedelta(days=4))
        tasks.report_ageing.func()
        RingAccount.objects.update(tokens_obtained_at=timezone.now() - timedelta(days=26))
        tasks.report_ageing.func()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "Tokens were not renewed for long. tenant=acme links=2 oldest_days=4"),
        ("ERROR", "Tokens were not renewed for long. tenant=acme links=2 oldest_days=26"),
    ]


# --- what the person confirms -----------------------------------------------------------------------------------------


def test_the_disconnect_page_says_what_becomes_of_the_history(acme: TenantCast):
    path = f"/t/acme/settings/accounts/{acme.ada_account.public_id}/unlink"
    client = client_of(acme.ada)
    assert "Events and clips we have kept stay here" in client.get(path).content.decode()
    Tenant.objects.update(on_unlink="erase")
    assert "is erased for good" in client.get(path).content.decode()


def test_a_policy_that_changed_while_the_person_read_is_shown_first(acme: TenantCast):
    path = f"/t/acme/settings/accounts/{acme.ada_account.public_id}/unlink"
    Tenant.objects.update(on_unlink="erase")
    answer = client_of(acme.ada).post(path, {"history": "keep"})
    assert answer.status_code == HTTPStatus.CONFLICT
    assert "Please read once more" in answer.content.decode()
    assert RingAccount.objects.get(pk=acme.ada_account.pk).state == "linked"
