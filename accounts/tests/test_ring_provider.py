"""Ring as allauth's provider: connected accounts kept in step, and the link that begins here (contract 3.2)."""

from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

from django.conf import LazySettings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest
import requests
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken

from accounts import linking
from accounts.models import AuditEntry, Membership, RingAccount, RingApp, Role, Tenant, User
from accounts.tests.conftest import Linking
from accounts.tests.scripted_ring import ScriptedRing
from accounts.tokens import client_for, ring_config
from accounts.unlinking import disconnect, unlink_account
from tests.support.cast import make_linked_account, make_membership, make_tenant, make_user
from tests.support.sandbox_process import SandboxProcess, app_for
from tests.support.signin import sign_in

pytestmark = pytest.mark.django_db(transaction=True)

State = RingAccount.State
PORTAL = "http://127.0.0.1:9"
CONNECTIONS = reverse("socialaccount_connections")
BEGIN = "/accounts/ring/acme/login/"
CALLBACK = "/accounts/ring/acme/login/callback/"


def connected() -> list[tuple[str, str, str]]:
    return [(row.provider, row.uid, row.user.email) for row in SocialAccount.objects.order_by("pk")]


# --- connected accounts -------------------------------------------------------------------------------------------


def test_a_claimed_account_is_a_connected_account_until_it_is_unlinked(
    linking: Linking, ring: ScriptedRing, ada: User, ada_client: Client
):
    linking.send_code()
    assert connected() == []

    linking.arrive(ada_client)
    ada_client.post("/t/acme/link/")

    account = linking.account
    assert connected() == [("ring-acme", str(account.public_id), ada.email)]
    assert not SocialToken.objects.exists() and not SocialApp.objects.exists()
    assert SocialAccount.objects.get().extra_data == {}

    unlink_account(account=account, now=timezone.now(), reason="removed_in_ring")
    assert connected() == []


def test_a_deleted_row_leaves_no_connection(tenant: Tenant, ada: User):
    account = make_linked_account(tenant, ada, ring_id="ava1.ring.account.ADA1")
    assert len(connected()) == 1

    account.delete()

    assert connected() == []


def test_the_page_shows_name_tenant_and_state_and_only_ones_own(
    tenant: Tenant, ada: User, ada_client: Client
):
    make_linked_account(tenant, ada, ring_id="ava1.ring.account.ADA1")
    lost = make_linked_account(make_tenant("harbor"), ada, ring_id="ava1.ring.account.ADA2")
    lost.state = State.RELINK_REQUIRED
    lost.save()
    ben = make_linked_account(tenant, make_user("ben@customer.example"), ring_id="ava1.ring.account.BEN1")
    ben.first_name = "Benjamin"
    ben.save()

    page = ada_client.get(CONNECTIONS).content.decode()

    assert "Ada’s Ring account at Acme" in page and "Ada’s Ring account at Harbor" in page
    assert "Linked" in page and "Link again" in page
    assert "Benjamin" not in page and "ava1.ring" not in page


def test_disconnecting_there_unlinks(linking: Linking, ring: ScriptedRing, ada_client: Client, ada: User):
    linking.send_code()
    linking.arrive(ada_client)
    ada_client.post("/t/acme/link/")
    connection = SocialAccount.objects.get()

    answer = ada_client.post(CONNECTIONS, {"account": connection.pk}, follow=True)

    account = linking.account
    assert (account.state, account.access_token, account.refresh_token) == (State.UNLINKED, "", "")
    assert "deleted the keys" in answer.content.decode()
    assert connected() == []


def test_nobody_disconnects_anothers(tenant: Tenant, ada: User):
    account = make_linked_account(tenant, ada, ring_id="ava1.ring.account.ADA1")
    eve = Client()
    sign_in(eve, make_user("eve@elsewhere.example"))

    eve.post(CONNECTIONS, {"account": SocialAccount.objects.get().pk})

    account.refresh_from_db()
    assert account.state == State.LINKED


# --- linking that begins here -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sandbox_process() -> Iterator[SandboxProcess]:
    with SandboxProcess() as process:
        yield process


@pytest.fixture
def sandbox(sandbox_process: SandboxProcess, tenant: Tenant, settings: LazySettings) -> SandboxProcess:
    """The sandbox with the tenant's app, invited to partner-initiated linking; and the tenant that has turned it on."""
    settings.DEBUG = True  # plain http to loopback is for development only
    settings.PUBLIC_URL = PORTAL
    settings.RING_API_URL = sandbox_process.url
    settings.RING_TOKEN_URL = f"{sandbox_process.url}/oauth/token"
    settings.RING_AUTHORIZE_URL = f"{sandbox_process.url}/account/integrations/partner-link/authorize"
    sandbox_process.control("POST", "/reset")
    sandbox_process.control("POST", "/apps", app_for(tenant.slug, PORTAL))
    RingApp.objects.filter(tenant=tenant).update(partner_initiated=True)
    return sandbox_process


def begin(client: Client) -> str:
    """Press the button; give the address at Ring."""
    answer = client.post(BEGIN)
    assert answer.status_code == 302, answer.content.decode()
    return str(answer["Location"])


def decide(address: str, *, decision: str = "allow", person: str = "ada") -> str:
    """At Ring: the person allows or denies; give the address the browser is sent back to, without its host."""
    asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    form = {**asked, "person": person, "decision": decision, "device": ["front-door", "driveway"]}
    answer = requests.post(address.partition("?")[0], data=form, allow_redirects=False, timeout=10)
    assert answer.status_code == 303, answer.text
    back = answer.headers["Location"]
    assert back.startswith(PORTAL + CALLBACK)
    return back.removeprefix(PORTAL)


def test_the_whole_way(sandbox: SandboxProcess, tenant: Tenant, ada: User, ada_client: Client):
    page = ada_client.get(BEGIN)
    assert "Go on to Ring" in page.content.decode()
    assert f"form-action 'self' {sandbox.url}" in page["Content-Security-Policy"], (
        "the browser may follow the redirect"
    )
    address = begin(ada_client)
    asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    assert asked["code_challenge_method"] == "S256" and len(asked["code_challenge"]) == 43
    assert (asked["response_type"], asked["scope"]) == ("code", "ava.v1:read")
    assert asked["redirect_uri"] == PORTAL + CALLBACK and asked["client_id"] == "acme-client"
    assert "secret" not in address

    answer = ada_client.get(decide(address))

    account = RingAccount.objects.get()
    assert answer["Location"] == reverse("accounts:linked", args=["acme", account.public_id])
    assert (account.state, account.user, account.partner_initiated) == (State.LINKED, ada, True)
    assert Membership.objects.get(user=ada).role == Role.CUSTOMER
    assert connected() == [("ring-acme", str(account.public_id), ada.email)]
    assert not SocialToken.objects.exists()
    [integration] = sandbox.control("GET", "/state")["integrations"]
    assert (integration["status"], integration["account_identifier"]) == (
        "completed",
        linking.masked(ada.email),
    )
    with client_for(account) as ring:
        assert {device.name for device in ring.iter_devices()} == {"Front Door", "Driveway"}
    actions = list(AuditEntry.objects.order_by("pk").values_list("action", flat=True))
    assert actions[:2] == ["link.code_received", "link.claimed"]

    disconnect(account=account, actor=ada, now=timezone.now())

    [integration] = sandbox.control("GET", "/state")["integrations"]
    assert integration["status"] == "removed", "a link that began here ends at Ring too"


def test_nothing_of_it_is_there_while_the_tenant_has_it_off(
    sandbox: SandboxProcess, tenant: Tenant, ada_client: Client
):
    RingApp.objects.filter(tenant=tenant).update(partner_initiated=False)

    for address in (BEGIN, CALLBACK, "/accounts/ring/nobody/login/"):
        assert ada_client.get(address).status_code == 404
    assert ada_client.post(BEGIN).status_code == 404
    assert BEGIN not in ada_client.get("/ring/acme/home").content.decode()


def test_who_is_not_signed_in_signs_in_first(sandbox: SandboxProcess, client: Client):
    assert client.get(BEGIN)["Location"].startswith(reverse("account_login"))


def test_who_denies_is_told_that_nothing_was_linked(sandbox: SandboxProcess, ada_client: Client):
    answer = ada_client.get(decide(begin(ada_client), decision="deny"))

    assert answer.status_code == 403 and "You did not allow it" in answer.content.decode()
    assert not RingAccount.objects.exists()
    assert AuditEntry.objects.get(action="link.refused").detail == {"reason": "denied"}


def test_an_answer_counts_once_and_in_its_own_session_only(
    sandbox: SandboxProcess, ada: User, ada_client: Client
):
    """A stranger's address must not connect the stranger's Ring account to the one who opens it (login CSRF)."""
    back = decide(begin(ada_client))
    eve = Client()
    sign_in(eve, make_user("eve@elsewhere.example"))
    begin(eve)

    for client, address in (
        (eve, back),
        (Client(), back),
        (ada_client, CALLBACK + "?code=abc&state=made-up"),
        (ada_client, CALLBACK + "?code=abc"),
        (ada_client, back + "&state=twice"),
    ):
        answer = client.get(address)
        assert answer.status_code == 400 and "does not fit" in answer.content.decode(), address
        assert "code=" not in answer.content.decode()
    assert not RingAccount.objects.exists()

    assert ada_client.get(back).status_code == 302
    assert ada_client.get(back).status_code == 400, "the second time"
    assert RingAccount.objects.get().user == ada


def test_a_sign_in_as_somebody_else_meanwhile_ends_the_attempt(
    sandbox: SandboxProcess, ada: User, ada_client: Client
):
    back = decide(begin(ada_client))
    ada_client.logout()
    sign_in(ada_client, make_user("eve@elsewhere.example"))

    assert ada_client.get(back).status_code == 400
    assert not RingAccount.objects.exists()


def test_a_code_that_ran_out(sandbox: SandboxProcess, ada_client: Client):
    back = decide(begin(ada_client))
    sandbox.control("POST", "/clock", {"advance_s": 601})

    answer = ada_client.get(back)

    assert answer.status_code == 410 and "run out" in answer.content.decode()
    assert not RingAccount.objects.exists()


def test_a_code_of_another_verifier_is_worth_nothing(sandbox: SandboxProcess, ada_client: Client):
    """Whoever puts a stolen code into their own answer holds another verifier (RFC 7636 1)."""
    stolen = parse_qs(urlsplit(decide(begin(ada_client))).query)["code"][0]
    own = parse_qs(urlsplit(begin(ada_client)).query)["state"][0]

    answer = ada_client.get(CALLBACK, {"code": stolen, "state": own})

    assert answer.status_code == 410 and not RingAccount.objects.exists()


def test_ring_down_at_the_exchange(sandbox: SandboxProcess, ada_client: Client):
    back = decide(begin(ada_client))
    sandbox.control("POST", "/faults", {"route": "token", "kind": "status", "status": 503, "times": 5})

    answer = ada_client.get(back)

    assert answer.status_code == 503 and "cannot be reached" in answer.content.decode()
    assert not RingAccount.objects.exists()


def test_ring_silent_after_the_exchange_loses_nothing(
    sandbox: SandboxProcess,
    ada: User,
    ada_client: Client,
    make_due: Callable[..., None],
    run_tasks: Callable[[], None],
):
    back = decide(begin(ada_client))
    sandbox.control("POST", "/faults", {"route": "users.me", "kind": "status", "status": 503, "times": 5})

    answer = ada_client.get(back)

    account = RingAccount.objects.get()
    assert answer.status_code == 503 and "We keep asking" in answer.content.decode()
    assert (account.state, account.user) == (State.RECEIVED, ada) and account.access_token
    assert connected() == []
    sandbox.control("DELETE", "/faults")
    make_due(account)
    run_tasks()

    account.refresh_from_db()
    assert (account.state, account.user) == (State.LINKED, ada)


def test_the_same_account_again_renews_its_permission(sandbox: SandboxProcess, ada: User, ada_client: Client):
    ada_client.get(decide(begin(ada_client)))
    first = RingAccount.objects.get()
    before = first.refresh_token

    answer = ada_client.get(decide(begin(ada_client)), follow=True)

    account = RingAccount.objects.get()
    assert (account.pk, account.state) == (first.pk, State.LINKED) and account.refresh_token != before
    assert "was linked already" in answer.content.decode()


def test_a_guest_who_connects_a_home_is_a_customer(
    sandbox: SandboxProcess, tenant: Tenant, ada: User, ada_client: Client
):
    Membership.objects.create(tenant=tenant, user=ada, role=Role.GUEST)
    ada_client.get(decide(begin(ada_client)))
    assert Membership.objects.get(tenant=tenant, user=ada).role == Role.CUSTOMER


def test_an_account_of_somebody_else_stays_theirs(
    sandbox: SandboxProcess, tenant: Tenant, ada_client: Client
):
    ada_client.get(decide(begin(ada_client)))
    account = RingAccount.objects.get()
    eve = Client()
    sign_in(eve, make_user("eve@elsewhere.example"))

    answer = eve.get(decide(begin(eve)))

    assert answer.status_code == 409 and "signed in as someone else" in answer.content.decode()
    kept = RingAccount.objects.get()
    assert (kept.pk, kept.user_id, kept.refresh_token) == (account.pk, account.user_id, account.refresh_token)
    assert not Membership.objects.filter(user__email="eve@elsewhere.example").exists()


def test_an_account_that_another_tenant_holds_is_refused(
    sandbox: SandboxProcess, tenant: Tenant, ada_client: Client, ada: User
):
    ada_client.get(decide(begin(ada_client)))
    ring_id = RingAccount.objects.get().ring_id
    RingAccount.objects.all().delete()
    make_linked_account(make_tenant("harbor"), make_user("ben@customer.example"), ring_id=ring_id)

    answer = ada_client.get(decide(begin(ada_client)))

    assert answer.status_code == 409
    assert RingAccount.objects.get().tenant.slug == "harbor", "no tokens stay behind"


def test_a_later_code_from_the_ring_app_is_a_one_way_link_again(
    sandbox: SandboxProcess, tenant: Tenant, ada_client: Client
):
    ada_client.get(decide(begin(ada_client)))
    account = RingAccount.objects.get()
    code = sandbox.control("POST", "/link", {"client_id": "acme-client", "account": "ada"})["code"]

    received = linking.receive_code(tenant=tenant, code=code, now=timezone.now())
    linking.drive(received, config=ring_config())

    account.refresh_from_db()
    assert (account.state, account.partner_initiated) == (State.UNCLAIMED, False)


def test_too_many_attempts_wait(sandbox: SandboxProcess, ada_client: Client):
    answers = [ada_client.post(BEGIN).status_code for _ in range(12)]

    assert answers[0] == 302 and answers[-1] == 429


# --- the switch ---------------------------------------------------------------------------------------------------


def test_admins_turn_it_on_and_others_cannot(tenant: Tenant):
    owner, operator = Client(), Client()
    sign_in(owner, make_membership(tenant, "owner@acme.example", Role.OWNER).user)
    sign_in(operator, make_membership(tenant, "operator@acme.example", Role.OPERATOR).user)
    switch = reverse("accounts:partner_links", args=["acme"])

    assert operator.post(switch, {"partner_initiated": "on"}).status_code == 404
    page = owner.post(switch, {"partner_initiated": "on"}, follow=True).content.decode()

    assert RingApp.objects.get(tenant=tenant).partner_initiated
    assert CALLBACK in page, "the address to register is shown"
    assert AuditEntry.objects.get(action="ring_app.changed").detail == {"fields": ["partner_initiated"]}
    owner.post(switch, {"partner_initiated": "off"})
    assert not RingApp.objects.get(tenant=tenant).partner_initiated


def test_the_button_is_where_people_look_for_it(
    sandbox: SandboxProcess, tenant: Tenant, ada: User, ada_client: Client
):
    assert BEGIN in ada_client.get("/ring/acme/home").content.decode()
    Membership.objects.create(tenant=tenant, user=ada, role=Role.CUSTOMER)
    assert BEGIN in ada_client.get("/t/acme/settings/").content.decode()
    assert BEGIN in ada_client.get(CONNECTIONS).content.decode()


def test_a_ring_account_opens_no_account_and_signs_nobody_in(sandbox: SandboxProcess, client: Client):
    """Whatever allauth offers of its own: nothing leads from Ring to a session."""
    people = User.objects.count()
    for address in (reverse("socialaccount_signup"), CALLBACK + "?code=x&state=y"):
        client.get(address)
        client.post(address, {"email": "new@customer.example"})
    assert User.objects.count() == people
    assert "_auth_user_id" not in client.session
