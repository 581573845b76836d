"""create_tenant, add_member, create_api_token: the three ways in from a terminal (design 6)."""

from io import StringIO

from django.core import mail
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

import pytest
from rest_framework.test import APIRequestFactory

from accounts.api_authentication import ApiTokenAuthentication
from accounts.models import ApiToken, Membership, Role, Tenant, User

pytestmark = pytest.mark.django_db


def run(*args: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command(*args, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


@pytest.fixture
def secrets(monkeypatch):
    monkeypatch.setenv("RING_CLIENT_SECRET", "canary-secret")
    monkeypatch.setenv("RING_SIGNING_KEY", "canary-key")


@pytest.fixture
def acme(secrets) -> Tenant:
    run("create_tenant", "acme", "--name", "Acme", "--client-id", "acme-client")
    return Tenant.objects.get()


def test_create_tenant_prints_the_four_addresses_and_no_secret(secrets, monkeypatch):
    monkeypatch.setenv("PORT", "8123")
    out, err = run(
        "create_tenant", "acme", "--name", "Acme", "--client-id", "acme-client", "--accent", "#aa5500"
    )
    for path in ("token", "link", "webhook", "home"):
        assert f"http://127.0.0.1:8123/ring/acme/{path}\n" in out
    assert "canary" not in out + err
    tenant = Tenant.objects.get()
    assert (tenant.name, tenant.accent) == ("Acme", "#aa5500")
    app = tenant.ring_app
    assert (app.client_id, app.client_secret, app.signing_keys) == (
        "acme-client",
        "canary-secret",
        ["canary-key"],
    )


def test_the_printed_addresses_begin_with_the_public_one(secrets, settings):
    settings.PUBLIC_URL = "https://portal.example"
    out, _ = run("create_tenant", "acme", "--name", "Acme", "--client-id", "acme-client")
    assert "https://portal.example/ring/acme/token" in out


def test_create_tenant_again_updates_and_keeps_the_secrets_that_are_not_given(acme, monkeypatch):
    monkeypatch.delenv("RING_CLIENT_SECRET")
    monkeypatch.setenv("RING_SIGNING_KEY", "second-key")
    out, _ = run("create_tenant", "acme", "--name", "Acme Alarms", "--client-id", "acme-2")
    tenant = Tenant.objects.get()
    assert out.startswith("Updated acme")
    assert tenant.name == "Acme Alarms"
    app = tenant.ring_app
    assert (app.client_id, app.client_secret) == ("acme-2", "canary-secret")
    assert app.signing_keys == ["second-key", "canary-key"]


def test_create_tenant_refuses_without_secrets_and_makes_nothing(monkeypatch):
    monkeypatch.delenv("RING_CLIENT_SECRET", raising=False)
    monkeypatch.delenv("RING_SIGNING_KEY", raising=False)
    with pytest.raises(CommandError, match="RING_CLIENT_SECRET"):
        run("create_tenant", "acme", "--name", "Acme", "--client-id", "acme-client")
    assert not Tenant.objects.exists()


@pytest.mark.parametrize(
    "args",
    [
        ("not a slug", "--name", "X", "--client-id", "x"),
        ("ok", "--name", "", "--client-id", "x"),
        ("ok", "--name", "X", "--client-id", "x", "--accent", "red"),
        ("birch", "--name", "Birch", "--client-id", "acme-client"),
    ],
)
def test_create_tenant_refuses_what_cannot_be(acme, args):
    with pytest.raises(CommandError):
        run("create_tenant", *args)
    assert Tenant.objects.count() == 1


def test_add_member_with_a_password_can_sign_in_at_once(acme, monkeypatch):
    monkeypatch.setenv("MEMBER_PASSWORD", "a long enough phrase")
    out, _ = run("add_member", "acme", "Owner@Acme.example", "--role", "owner")
    assert "a long enough phrase" not in out
    assert Membership.objects.get().role == Role.OWNER
    client = Client()
    answer = client.post(
        "/accounts/login/", {"login": "owner@acme.example", "password": "a long enough phrase"}
    )
    assert answer.status_code == 302
    assert not mail.outbox, "the address counts as verified"


def test_add_member_without_a_password_invites(acme, monkeypatch):
    monkeypatch.delenv("MEMBER_PASSWORD", raising=False)
    run("add_member", "acme", "grace@acme.example", "--role", "operator")
    assert "/accounts/password/reset/key/" in mail.outbox[0].body


def test_add_member_again_changes_the_role_and_not_the_password(acme, monkeypatch):
    monkeypatch.setenv("MEMBER_PASSWORD", "a long enough phrase")
    run("add_member", "acme", "grace@acme.example", "--role", "operator")
    monkeypatch.setenv("MEMBER_PASSWORD", "quite another phrase")
    run("add_member", "acme", "grace@acme.example", "--role", "admin")
    assert Membership.objects.get().role == Role.ADMIN
    assert User.objects.get().check_password("a long enough phrase")


@pytest.mark.parametrize(
    ("email", "password"), [("not an address", "a long enough phrase"), ("a@b.example", "123")]
)
def test_add_member_refuses_bad_addresses_and_bad_passwords(acme, monkeypatch, email, password):
    monkeypatch.setenv("MEMBER_PASSWORD", password)
    with pytest.raises(CommandError):
        run("add_member", "acme", email, "--role", "operator")
    assert not User.objects.exists()


def test_create_api_token_prints_the_token_alone_and_keeps_its_digest(acme):
    out, err = run("create_api_token", "acme", "--name", "Nightly", "--scope", "read", "write")
    token = out.strip()
    assert token.startswith("ppt_")
    assert token not in err
    row = ApiToken.objects.get()
    assert (row.sha256, row.scopes) == (ApiToken.digest(token), ["read", "write"])
    request = APIRequestFactory().get("/", headers={"Authorization": f"Bearer {token}"})
    authenticated = ApiTokenAuthentication().authenticate(request)
    assert authenticated is not None
    assert authenticated[1] == row


@pytest.mark.parametrize(
    "args",
    [
        ("add_member", "nobody", "a@b.example", "--role", "owner"),
        ("create_api_token", "nobody", "--name", "x", "--scope", "read"),
    ],
)
def test_an_unknown_tenant_is_named(acme, args):
    with pytest.raises(CommandError, match="nobody"):
        run(*args)
