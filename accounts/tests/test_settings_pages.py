"""Settings, people and setup: who may enter, what is shown, what is never shown."""

from django.test import Client
from django.urls import reverse

import pytest

from accounts.models import AuditEntry, Membership, RingAccount, Role
from accounts.people import add_member
from tests.support.cast import PASSWORD, TenantCast, make_cast, make_tenant, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> TenantCast:
    return make_cast("acme")


def client_of(membership: Membership) -> Client:
    client = Client()
    client.force_login(membership.user)
    return client


TENANT_PAGES = [
    ("settings", {}),
    ("people", {}),
    ("setup", {}),
    ("company", {}),
    ("drop_key", {}),
    ("linked", {"account": "ada"}),
    ("finish_link", {"account": "ada"}),
    ("unlink", {"account": "ada"}),
]


@pytest.mark.parametrize(("name", "ids"), TENANT_PAGES)
def test_outsiders_get_the_same_404_and_strangers_the_sign_in_page(acme: TenantCast, name, ids):
    birch = make_cast("birch")
    kwargs = dict.fromkeys(ids, acme.ada_account.public_id)
    url = reverse(f"accounts:{name}", kwargs={"tenant": "acme", **kwargs})
    methods = ("get", "post")
    for membership in birch.everyone:
        client = client_of(membership)
        statuses = {getattr(client, method)(url).status_code for method in methods}
        assert statuses <= {404, 405}
        assert 404 in statuses
    answers = [getattr(Client(), method)(url) for method in methods]
    assert {answer.status_code for answer in answers} <= {302, 405}
    assert any(answer.headers.get("Location", "").startswith("/accounts/login/") for answer in answers)


@pytest.mark.parametrize(("name", "ids"), [page for page in TENANT_PAGES if page[1]])
def test_an_account_of_another_tenant_or_person_is_not_there(acme: TenantCast, name, ids):
    birch = make_cast("birch")
    foreign = [birch.ada_account, acme.ben_account]
    for account in foreign:
        url = reverse(f"accounts:{name}", kwargs={"tenant": "acme", "account": account.public_id})
        for membership in (acme.ada, acme.owner, acme.operator):
            client = client_of(membership)
            assert {client.get(url).status_code, client.post(url).status_code} <= {404, 405}
        account.refresh_from_db()
        assert account.state == RingAccount.State.LINKED


@pytest.mark.parametrize("name", ["people", "setup"])
def test_only_admins_set_the_tenant_up(acme: TenantCast, name):
    url = reverse(f"accounts:{name}", args=["acme"])
    assert client_of(acme.owner).get(url).status_code == 200
    for membership in (acme.operator, acme.ada):
        assert client_of(membership).get(url).status_code == 404
        assert client_of(membership).post(url).status_code == 404


def test_settings_show_ones_own_ring_accounts_in_words(acme: TenantCast):
    RingAccount.objects.filter(pk=acme.ada_account.pk).update(state=RingAccount.State.RELINK_REQUIRED)
    page = client_of(acme.ada).get("/t/acme/settings/").content.decode()
    assert "Link again" in page
    assert "Ring asks you to link again" in page, "the banner"
    assert acme.ada_account.ring_id not in page
    assert page.count("Disconnect…") == 1
    assert "Company and Ring" not in page
    assert "Company and Ring" in client_of(acme.owner).get("/t/acme/settings/").content.decode()


def test_disconnecting_asks_with_the_count_and_then_ends_the_link(acme: TenantCast, ring):
    client = client_of(acme.ada)
    url = reverse("accounts:unlink", args=["acme", acme.ada_account.public_id])
    page = client.get(url).content.decode()
    assert "Disconnect 1 device" in page
    acme.ada_account.refresh_from_db()
    assert acme.ada_account.state == RingAccount.State.LINKED

    answer = client.post(url, follow=True)
    assert "remove it" in answer.content.decode()
    acme.ada_account.refresh_from_db()
    assert (acme.ada_account.state, acme.ada_account.access_token) == (RingAccount.State.UNLINKED, "")
    entry = AuditEntry.objects.get(action="link.unlinked")
    assert (entry.actor, entry.detail) == (acme.ada.user, {"reason": "disconnected"})


# --- people; more: test_people.py ---------------------------------------------------------------------------------------------------------


def test_an_account_made_with_somebody_elses_address_does_not_become_a_member(acme: TenantCast):
    squatter = make_user("grace@victim.example")
    client = Client()
    client.force_login(squatter)
    added = add_member(tenant=acme.tenant, email="grace@victim.example", role=Role.OPERATOR)
    assert added.needs_password
    assert not client.login(username=squatter.email, password=PASSWORD)
    assert (
        Client(headers={"cookie": client.cookies.output(header="", sep=";")})
        .get("/t/acme/settings/")
        .status_code
        == 302
    )
    squatter.refresh_from_db()
    assert not squatter.has_usable_password()


def test_a_member_is_not_invited_again(acme: TenantCast):
    answer = client_of(acme.owner).post(
        "/t/acme/settings/people/", {"email": "ADA@acme.example", "role": "admin"}
    )
    assert answer.status_code == 422
    assert b"a member already" in answer.content
    acme.ada.refresh_from_db()
    assert acme.ada.role == Role.CUSTOMER


# --- setup ----------------------------------------------------------------------------------------------------------


def test_setup_shows_the_four_addresses_and_no_secret(acme: TenantCast, settings):
    settings.PUBLIC_URL = "https://portal.example"
    page = client_of(acme.owner).get("/t/acme/settings/ring/").content.decode()
    for path in ("token", "link", "webhook", "home"):
        assert f"https://portal.example/ring/acme/{path}" in page
    assert "acme-client" in page
    assert "acme-secret" not in page
    assert "acme-key" not in page


def test_credentials_are_written_and_an_empty_field_keeps_what_is_there(acme: TenantCast):
    client = client_of(acme.owner)
    answer = client.post(
        "/t/acme/settings/ring/", {"client_id": "new-client", "client_secret": "", "signing_key": "new-key"}
    )
    assert answer.status_code == 302
    acme.tenant.ring_app.refresh_from_db()
    app = acme.tenant.ring_app
    assert (app.client_id, app.client_secret, app.signing_keys) == (
        "new-client",
        "acme-secret",
        ["new-key", "acme-key"],
    )
    entry = AuditEntry.objects.get(action="ring_app.changed")
    assert entry.detail == {"fields": ["client_id", "signing_key"]}

    assert "old signing key is still good" in client.get("/t/acme/settings/ring/").content.decode()
    client.post("/t/acme/settings/ring/drop-key/")
    app.refresh_from_db()
    assert app.signing_keys == ["new-key"]


def test_a_bad_form_keeps_what_was_typed_except_secrets(acme: TenantCast):
    make_tenant("birch")
    answer = client_of(acme.owner).post(
        "/t/acme/settings/ring/",
        {"client_id": "birch-client", "client_secret": "canary-secret", "signing_key": " spaced"},
    )
    page = answer.content.decode()
    assert answer.status_code == 422
    assert 'value="birch-client"' in page
    assert "canary-secret" not in page
    answer = client_of(acme.owner).post("/t/acme/settings/ring/", {"client_id": "birch-client"})
    assert b"in use elsewhere" in answer.content
    acme.tenant.ring_app.refresh_from_db()
    assert acme.tenant.ring_app.client_id == "acme-client"


def test_a_new_tenant_is_told_that_its_credentials_are_missing(acme: TenantCast):
    acme.tenant.ring_app.delete()
    client = client_of(acme.owner)
    assert "no customer can link" in client.get("/t/acme/settings/ring/").content.decode()
    assert client.post("/t/acme/settings/ring/", {"client_id": "c"}).status_code == 422
    data = {"client_id": "c", "client_secret": "s", "signing_key": "k"}
    assert client.post("/t/acme/settings/ring/", data).status_code == 302


def test_name_and_colour_can_be_changed(acme: TenantCast):
    client = client_of(acme.owner)
    client.post(
        "/t/acme/settings/ring/company/", {"name": "Acme Alarms", "accent": "#cc0000", "on_unlink": "keep"}
    )
    acme.tenant.refresh_from_db()
    assert (acme.tenant.name, acme.tenant.accent) == ("Acme Alarms", "#cc0000")
    client.post("/t/acme/settings/ring/company/", {"name": "Acme", "accent": "red;}", "on_unlink": "keep"})
    acme.tenant.refresh_from_db()
    assert acme.tenant.name == "Acme Alarms"


# --- the colour -----------------------------------------------------------------------------------------------------


def test_the_colour_is_a_stylesheet_anyone_may_have_and_caches_may_keep(acme: TenantCast, client):
    acme.tenant.accent = "#FFCC00"
    acme.tenant.save()
    answer = client.get("/t/acme/accent.css")
    css = answer.content.decode()
    assert answer.headers["Content-Type"] == "text/css; charset=utf-8"
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    assert "Set-Cookie" not in answer.headers
    assert "Cookie" not in answer.headers.get("Vary", "")
    assert "--accent: light-dark(#" in css
    assert "#ffcc00);" in css, "bright enough for the night as it is"
    assert "--on-accent: light-dark(#ffffff, #0d1117);" in css
    assert (
        client.get("/t/acme/accent.css", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    )
    assert client.get("/t/nobody/accent.css").status_code == 404
