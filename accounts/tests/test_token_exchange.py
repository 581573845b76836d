"""Ring's backend hands over a code (contract 2.2 to 2.4, feature A1)."""

import json
from datetime import timedelta
from http import HTTPStatus

from django.test import Client
from django.utils import timezone

import pytest

from accounts.models import AuditEntry, RingAccount
from accounts.tests.conftest import FORM, Linking
from accounts.tests.scripted_ring import LOST
from tests.support.cast import make_tenant

State = RingAccount.State
URL = "/ring/acme/token"


def test_a_code_becomes_an_unclaimed_account(linking: Linking):
    answer = Client().post(URL, "code=canary-code-1", content_type=FORM)

    assert (answer.status_code, answer.json()) == (HTTPStatus.OK, {"status": "ok"})
    account = linking.account
    assert account.state == State.UNCLAIMED
    assert account.user is None
    assert (account.access_token, account.refresh_token) == ("canary-access-1", "canary-refresh-1")
    assert account.first_name == "Ada"
    assert account.next_attempt_at is None
    exchange = linking.ring.seen[0][1]
    assert exchange == {
        "grant_type": "authorization_code",
        "code": "canary-code-1",
        "client_id": "acme-client",
        "client_secret": "acme-secret",
    }


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("code=c1", FORM),
        ("code=c1&state=x&scope=ava", f"{FORM}; charset=utf-8"),
        ('{"code": "c1"}', "application/json"),
        ('{"code": "c1", "extra": {"code": "no"}}', "Application/JSON; charset=utf-8"),
        ('  {"code": "c1"}', ""),
        ("code=c1", ""),
    ],
)
def test_a_code_is_taken_in_every_form_ring_may_send_it(linking: Linking, body: str, content_type: str):
    answer = Client().generic("POST", URL, body, content_type=content_type)

    assert answer.status_code == HTTPStatus.OK
    assert linking.ring.seen[0][1]["code"] == "c1"


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        ("code=c1", "text/plain", 415),
        ("<code>c1</code>", "application/xml", 415),
        ("", FORM, 422),
        ("state=x", FORM, 422),
        ("code=", FORM, 422),
        ("code=a&code=b", FORM, 422),
        ("code=a%00b", FORM, 422),
        (f"code={'x' * 2049}", FORM, 422),
        ("&".join(f"f{n}=1" for n in range(60)), FORM, 400),
        (b"code=\xff\xfe", FORM, 400),
        ("{", "application/json", 400),
        ("[" * 5000, "application/json", 400),
        ('["c1"]', "application/json", 422),
        ('{"code": 7}', "application/json", 422),
        ('{"code": "a", "code": "b"}', "application/json", 422),
        ("code=" + "x" * 8192, FORM, 413),
    ],
)
def test_an_unusable_body_gets_its_status_and_never_reaches_ring(
    linking: Linking, body, content_type, status
):
    answer = Client().generic("POST", URL, body, content_type=content_type)

    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/json"
    assert not linking.ring.seen
    assert not RingAccount.objects.exists()


def test_only_post_and_only_known_tenants_and_no_redirect(linking: Linking):
    client = Client(enforce_csrf_checks=True)
    assert client.get(URL).status_code == HTTPStatus.METHOD_NOT_ALLOWED
    assert client.post("/ring/nobody/token", {"code": "c1"}).status_code == HTTPStatus.NOT_FOUND
    assert client.post(f"{URL}/", {"code": "c1"}).status_code == HTTPStatus.NOT_FOUND
    assert client.post(URL, "code=c1", content_type=FORM).status_code == HTTPStatus.OK


def test_a_rejected_code_is_a_400_and_leaves_nothing(linking: Linking):
    linking.ring.script["code"] = [(400, {"error": "invalid_grant"})]

    assert linking.send_code() == HTTPStatus.BAD_REQUEST
    assert not RingAccount.objects.exists()


@pytest.mark.parametrize(
    "answer",
    [(500, {}), (LOST, None), (401, {"error": "invalid_client"}), (429, {}), (200, {"nothing": "here"})],
)
def test_a_failed_exchange_asks_ring_to_come_again_and_is_not_repeated_by_us(linking: Linking, answer):
    linking.ring.script["code"] = [answer]

    assert linking.send_code() == HTTPStatus.SERVICE_UNAVAILABLE
    assert linking.ring.counts["code"] == 1
    assert not RingAccount.objects.exists()

    assert linking.send_code() == HTTPStatus.OK  # Ring's own retry gets its chance
    assert linking.account.state == State.UNCLAIMED


def test_a_repeated_delivery_of_a_code_is_not_exchanged_twice(linking: Linking):
    assert linking.send_code() == linking.send_code() == HTTPStatus.OK
    assert linking.ring.counts["code"] == 1

    linking.ring.script["code"] = [(400, {"error": "invalid_grant"})]
    assert linking.send_code("used") == linking.send_code("used") == HTTPStatus.BAD_REQUEST
    assert linking.ring.counts["code"] == 2


@pytest.mark.django_db(transaction=True)
def test_tokens_are_kept_when_the_ring_user_cannot_be_asked_yet(linking: Linking, run_tasks, make_due):
    linking.ring.script["me"] = [(500, {})]

    assert linking.send_code() == HTTPStatus.OK
    received = RingAccount.objects.get()
    assert (received.state, received.ring_id) == (State.RECEIVED, "")
    assert received.access_token == "canary-access-1"

    make_due(received)
    run_tasks()
    assert linking.account.state == State.UNCLAIMED
    assert linking.ring.counts["code"] == 1, "the code is never replayed"


def test_a_tenant_without_ring_credentials_is_an_installation_fault(linking: Linking):
    linking.tenant.ring_app.delete()
    assert linking.send_code() == HTTPStatus.SERVICE_UNAVAILABLE


def test_too_many_codes_are_slowed_down_for_one_tenant_alone(linking: Linking, monkeypatch):
    monkeypatch.setattr("accounts.ring_views.CODES_A_MINUTE", 2)
    monkeypatch.setattr("accounts.limits.time", lambda: 1_795_000_000.0)  # not across the end of a minute
    assert [linking.send_code(f"c{n}") for n in range(4)] == [200, 200, 429, 429]
    make_tenant("birch")
    assert Client().post("/ring/birch/token", "code=c9", content_type=FORM).status_code == HTTPStatus.OK


@pytest.mark.parametrize("state", [State.UNCLAIMED, State.LINKED, State.UNLINKED, State.RELINK_REQUIRED])
def test_a_new_code_for_a_known_account_renews_its_one_row(linking: Linking, make_unclaimed, ada, state):
    linked_at = None if state == State.UNCLAIMED else timezone.now()
    user = None if state == State.UNCLAIMED else ada
    known = make_unclaimed(state=state, user=user, linked_at=linked_at)

    assert linking.send_code() == HTTPStatus.OK

    account = RingAccount.objects.get()
    assert account.pk == known.pk
    assert account.state == State.UNCLAIMED
    assert account.user == user, "the history keeps its person"
    assert account.access_token == "canary-access-1"
    assert account.refresh_token == "canary-refresh-1"


@pytest.mark.django_db(transaction=True)
def test_late_tokens_do_not_replace_newer_ones(linking: Linking, make_unclaimed, run_tasks, make_due):
    linking.ring.script["me"] = [(500, {})]
    linking.send_code()
    received = RingAccount.objects.get()
    known = make_unclaimed(tokens_obtained_at=timezone.now() + timedelta(seconds=1))

    make_due(received)
    run_tasks()

    account = RingAccount.objects.get()
    assert account.pk == known.pk
    assert account.access_token == known.access_token


def test_each_tenant_has_its_own_row_for_what_may_be_the_same_account(linking: Linking):
    make_tenant("birch")
    linking.send_code()
    Client().post("/ring/birch/token", "code=c2", content_type=FORM)
    assert sorted(RingAccount.objects.values_list("tenant__slug", "state")) == [
        ("acme", State.UNCLAIMED),
        ("birch", State.UNCLAIMED),
    ]


def test_further_fields_are_logged_by_name_only(linking: Linking, caplog):
    Client().generic(
        "POST", URL, json.dumps({"code": "c1", "state": "canary-state", "né": 1}), "application/json"
    )
    assert "names=? state" in caplog.text
    assert "canary-state" not in caplog.text


def test_every_step_is_in_the_trail(linking: Linking):
    linking.send_code()
    assert set(AuditEntry.objects.values_list("action", flat=True)) == {
        "link.code_received",
        "link.unclaimed",
    }
