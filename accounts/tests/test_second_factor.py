"""A tenant demands a second factor: who is kept out, who is led to set one up, and that nothing is lost on the way."""

from typing import Any

from django.core import mail
from django.test import Client
from django.urls import reverse

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.usersessions.models import UserSession

from accounts.access import find_membership
from accounts.mfa_adapter import MFAAdapter, reencrypt_authenticators
from accounts.models import ApiToken, AuditEntry, Membership, MfaPolicy, RingAccount, Role, Tenant, User
from accounts.tests.conftest import Linking
from accounts.tests.scripted_ring import ScriptedRing
from events.admission import find_visitor, still_admitted
from tests.support.cast import NOW, PASSWORD, make_membership, make_tenant, make_user
from tests.support.signin import add_authenticator_app, confirm_again, post_code, sign_in

pytestmark = pytest.mark.django_db

HOME = "/t/acme/"
SETUP = reverse("second_factor")


@pytest.fixture
def acme() -> Tenant:
    return make_tenant("acme")


def demand(tenant: Tenant, policy: MfaPolicy) -> None:
    tenant.require_mfa = policy
    tenant.save()


def browser_of(membership: Membership, *, secret: str = "") -> Client:
    client = Client()
    sign_in(client, membership.user, secret=secret)
    return client


@pytest.mark.parametrize(
    ("policy", "kept_out"),
    [
        (MfaPolicy.NONE, set()),
        (MfaPolicy.TEAM, {Role.OWNER, Role.ADMIN, Role.OPERATOR}),
        (MfaPolicy.EVERYONE, set(Role)),
    ],
)
def test_the_demand_keeps_out_whom_it_names(acme: Tenant, policy: MfaPolicy, kept_out: set[Role]):
    demand(acme, policy)
    for role in Role:
        member = make_membership(acme, f"{role}@acme.example", role)
        client = browser_of(member)

        answer = client.get(HOME)

        if role in kept_out:
            assert answer.status_code == 302 and answer["Location"] == SETUP
            assert find_membership(member.user, "acme") is None
        else:
            assert answer.status_code == 200
            assert find_membership(member.user, "acme") == member


def test_outsiders_learn_nothing_of_the_demand(acme: Tenant):
    demand(acme, MfaPolicy.EVERYONE)
    client = Client()
    sign_in(client, make_user("eve@elsewhere.example"))

    assert client.get(HOME).status_code == 404


def test_every_way_into_the_tenant_is_closed_at_once_and_opens_with_the_factor(acme: Tenant):
    operator = make_membership(acme, "operator@acme.example", Role.OPERATOR)
    client = browser_of(operator)
    scope: dict[str, Any] = {"user": operator.user, "session": client.session, "headers": []}
    visitor = find_visitor(scope, "acme", now=NOW)
    assert visitor is not None and still_admitted([visitor], now=NOW) == {visitor}
    assert client.get("/api/v1/devices").status_code == 200

    demand(acme, MfaPolicy.TEAM)

    assert still_admitted([visitor], now=NOW) == set(), "an open socket stays open"
    assert find_visitor(scope, "acme", now=NOW) is None
    answer = client.get("/api/v1/devices")
    assert answer.status_code == 403 and "second step" in answer.content.decode()
    whep = f"/t/acme/live/{acme.public_id}/whep"
    assert client.post(whep, b"v=0", content_type="application/sdp").status_code == 404
    assert client.get("/t/acme/live/")["Location"] == SETUP

    add_authenticator_app(operator.user)

    assert find_visitor(scope, "acme", now=NOW) is not None
    assert client.get("/api/v1/devices").status_code == 200
    assert client.get("/t/acme/live/").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_the_first_factor_signs_out_whoever_has_only_the_password(acme: Tenant):
    """A thief with the password was signed in before there was a factor: they are not any more."""
    member = make_membership(acme, "owner@acme.example", Role.OWNER)
    thief, own = browser_of(member), browser_of(member)
    EmailAddress.objects.filter(user=member.user).update(verified=True)
    assert thief.get(HOME).status_code == 200
    confirm_again(own)
    page = own.get(reverse("mfa_activate_totp"))
    secret = page.context["form"].secret
    assert post_code(own, reverse("mfa_activate_totp"), secret).status_code == 302
    assert thief.get(HOME).status_code == 302
    assert own.get(HOME).status_code == 200


def test_programs_with_a_token_are_not_asked(acme: Tenant):
    demand(acme, MfaPolicy.EVERYONE)
    _, token = ApiToken.issue(tenant=acme, name="dispatch", scopes=["read"])

    answer = Client().get("/api/v1/devices", headers={"Authorization": f"Bearer {token}"})

    assert answer.status_code == 200


def test_another_tenant_that_demands_nothing_stays_open(acme: Tenant):
    demand(acme, MfaPolicy.TEAM)
    person = make_membership(acme, "operator@acme.example", Role.OPERATOR)
    Membership.objects.create(tenant=make_tenant("harbor"), user=person.user, role=Role.OPERATOR)
    client = browser_of(person)

    assert client.get("/t/harbor/").status_code == 200
    assert client.get("/api/v1/devices").status_code == 200, "the API shows the other tenant"
    assert client.get("/api/v1/devices", {"filter[tenant]": "acme"}).status_code == 403


def test_who_is_led_to_set_up_an_app_comes_back_to_the_page_they_wanted(acme: Tenant):
    demand(acme, MfaPolicy.TEAM)
    client = browser_of(make_membership(acme, "operator@acme.example", Role.OPERATOR))

    page = client.get("/t/acme/events/?q=door", follow=True)
    assert "Acme asks" in page.content.decode()
    confirm_again(client)
    client.get(reverse("mfa_activate_totp"))
    secret = client.session["mfa.totp.secret"]
    done = client.get(post_code(client, reverse("mfa_activate_totp"), secret)["Location"], follow=True)

    assert "Go on where you were" in done.content.decode()
    assert client.get(SETUP)["Location"] == "/t/acme/events/?q=door"
    assert client.get("/t/acme/events/").status_code == 200
    assert client.get(SETUP)["Location"] == "/", "it leads back once"


def test_an_address_is_verified_before_it_is_locked(acme: Tenant):
    demand(acme, MfaPolicy.EVERYONE)
    customer = make_membership(acme, "ada@customer.example", Role.CUSTOMER)
    EmailAddress.objects.create(user=customer.user, email=customer.user.email, primary=True)
    client = browser_of(customer)

    page = client.get(HOME, follow=True).content.decode()

    assert "show that your address is yours" in page and reverse("mfa_activate_totp") not in page
    mail.outbox.clear()
    client.post(reverse("account_email"), {"email": customer.user.email, "action_send": ""})
    assert mail.outbox and mail.outbox[0].to == [customer.user.email]


def test_recovery_codes_alone_are_no_second_factor(acme: Tenant):
    demand(acme, MfaPolicy.TEAM)
    operator = make_membership(acme, "operator@acme.example", Role.OPERATOR)
    RecoveryCodes.activate(operator.user)

    assert find_membership(operator.user, "acme") is None


def test_linking_is_not_lost_by_the_demand(linking: Linking, ring: ScriptedRing):
    """Nonce and time survive the second step of signing in; a newcomer links first and sets up the factor then."""
    demand(linking.tenant, MfaPolicy.EVERYONE)
    person = make_user("ada@customer.example")
    Membership.objects.create(tenant=linking.tenant, user=person, role=Role.CUSTOMER)
    secret = add_authenticator_app(person)
    linking.send_code()
    client = Client()
    linking.arrive(client)

    sign_in(client, person, secret=secret, next="/t/acme/link/")
    answer = client.post("/t/acme/link/")

    assert linking.account.state == RingAccount.State.LINKED
    assert answer["Location"] == f"/t/acme/linked/{linking.account.public_id}/"
    assert client.get(answer["Location"]).status_code == 200


def test_a_newcomer_links_first_and_sets_up_the_factor_then(linking: Linking, ring: ScriptedRing):
    demand(linking.tenant, MfaPolicy.EVERYONE)
    linking.send_code()
    client = Client()
    linking.arrive(client)
    sign_in(client, make_user("ada@customer.example"))

    answer = client.post("/t/acme/link/")

    assert linking.account.state == RingAccount.State.LINKED
    assert client.get(answer["Location"])["Location"] == SETUP


# --- the settings page --------------------------------------------------------------------------------------------


def test_an_admin_sees_who_lacks_a_factor_and_changes_the_demand(acme: Tenant):
    owner = make_membership(acme, "owner@acme.example", Role.OWNER)
    operator = make_membership(acme, "operator@acme.example", Role.OPERATOR)
    add_authenticator_app(operator.user)
    make_membership(acme, "ada@customer.example", Role.CUSTOMER)
    client = browser_of(owner)
    address = reverse("accounts:security", args=["acme"])

    page = client.get(address).content.decode()
    assert "1 of 2 has no second step yet" in page and "1 of 1" in page and "ada@customer.example" in page

    asked = client.post(address, {"require_mfa": "team"})
    assert asked["Location"].startswith(reverse("account_reauthenticate")), (
        "a change asks once more who it is"
    )
    acme.refresh_from_db()
    assert acme.require_mfa == MfaPolicy.NONE
    confirm_again(client)
    client.post(address, {"require_mfa": "team"})

    acme.refresh_from_db()
    assert acme.require_mfa == MfaPolicy.TEAM
    assert AuditEntry.objects.get(action="tenant.mfa_policy").detail == {"policy": "team"}
    assert client.get(address)["Location"] == SETUP, "who has none is led to it too"


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.CUSTOMER])
def test_only_admins_see_the_demand(acme: Tenant, role: Role):
    client = browser_of(make_membership(acme, "someone@acme.example", role))

    assert client.get(reverse("accounts:security", args=["acme"])).status_code == 404
    assert (
        client.post(reverse("accounts:security", args=["acme"]), {"require_mfa": "none"}).status_code == 404
    )


def test_an_unknown_demand_is_refused_in_words(acme: Tenant):
    client = browser_of(make_membership(acme, "owner@acme.example", Role.OWNER))
    confirm_again(client)

    answer = client.post(reverse("accounts:security", args=["acme"]), {"require_mfa": "nonsense"})

    assert answer.status_code == 422


# --- secrets of factors, and sessions -----------------------------------------------------------------------------


def test_what_a_factor_holds_lies_encrypted_and_moves_to_the_newest_key(settings: Any):
    person = make_user("ada@customer.example")
    secret = add_authenticator_app(person)
    RecoveryCodes.activate(person)
    stored = str(list(Authenticator.objects.values_list("data", flat=True)))
    assert secret not in stored and stored.count("v1.") == 2
    codes = Authenticator.objects.get(type="recovery_codes").wrap().get_unused_codes()
    assert not any(code in stored for code in codes)

    settings.FIELD_ENCRYPTION_KEYS = [
        "bmV3LWtleS1uZXcta2V5LW5ldy1rZXktbmV3LWtleSE=",
        *settings.FIELD_ENCRYPTION_KEYS,
    ]
    assert reencrypt_authenticators() == 2
    assert reencrypt_authenticators() == 0
    settings.FIELD_ENCRYPTION_KEYS = settings.FIELD_ENCRYPTION_KEYS[:1]

    row = Authenticator.objects.get(type="totp")
    assert MFAAdapter().decrypt(row.data["secret"]) == secret
    assert Authenticator.objects.get(type="recovery_codes").wrap().get_unused_codes() == codes


def test_a_person_ends_one_of_their_sessions_and_nobody_elses():
    person = make_user("ada@customer.example")
    here, there = Client(), Client()
    sign_in(here, person)
    sign_in(there, person)
    stranger = Client()
    sign_in(stranger, make_user("eve@elsewhere.example"))
    row = UserSession.objects.get(session_key=there.session.session_key)

    assert stranger.post(reverse("end_session", args=[row.pk])).status_code == 404
    assert there.get(reverse("account_email")).status_code == 200
    assert (
        f'action="{reverse("end_session", args=[row.pk])}"'
        in here.get(reverse("usersessions_list")).content.decode()
    )

    here.post(reverse("end_session", args=[row.pk]))

    assert there.get(reverse("account_email")).status_code == 302
    assert here.get(reverse("account_email")).status_code == 200


def test_a_change_of_factors_offers_to_sign_out_everywhere_else():
    person = make_user("ada@customer.example")
    here, there = Client(), Client()
    sign_in(here, person)
    assert "Sign out everywhere else" not in here.get(reverse("mfa_index")).content.decode()
    sign_in(there, person)

    assert "Sign out everywhere else" in here.get(reverse("mfa_index")).content.decode()
    here.post(reverse("usersessions_list"))

    assert there.get(reverse("account_email")).status_code == 302


def test_a_new_password_signs_out_every_other_browser():
    person = make_user("ada@customer.example")
    here, there = Client(), Client()
    sign_in(here, person)
    sign_in(there, person)

    new = "another horse and battery"
    here.post(
        reverse("account_change_password"), {"oldpassword": PASSWORD, "password1": new, "password2": new}
    )

    assert here.get(reverse("account_email")).status_code == 200
    assert there.get(reverse("account_email")).status_code == 302


# --- portal staff -------------------------------------------------------------------------------------------------


@pytest.fixture
def staff() -> User:
    return User.objects.create_superuser("staff@portal.example", PASSWORD)


ADMIN = reverse("admin:index")


@pytest.mark.django_db(transaction=True)  # allauth tells of a new factor once it is committed
def test_staff_without_a_factor_are_led_to_set_one_up_and_back(staff: User):
    client = Client()
    sign_in(client, staff)

    page = client.get(ADMIN, follow=True)
    assert page.redirect_chain[-1][0] == SETUP and "administration asks" in page.content.decode()
    confirm_again(client)
    client.get(reverse("mfa_activate_totp"))
    post_code(client, reverse("mfa_activate_totp"), client.session["mfa.totp.secret"])

    assert client.get(SETUP)["Location"] == ADMIN
    assert client.get(ADMIN).status_code == 200


def test_a_session_opened_by_password_alone_does_not_open_the_admin(staff: User):
    """Whoever stole the password before the factor existed still has that session."""
    client = Client()
    sign_in(client, staff)
    secret = add_authenticator_app(staff)

    answer = client.get(ADMIN, follow=True)

    proof = answer.redirect_chain[-1][0]
    assert proof.startswith(reverse("mfa_reauthenticate"))
    done = post_code(client, reverse("mfa_reauthenticate"), secret, next=ADMIN)
    assert done["Location"] == ADMIN
    assert client.get(ADMIN).status_code == 200


def test_staff_with_an_app_enter_by_password_and_code(staff: User):
    secret = add_authenticator_app(staff)
    client = Client()
    sign_in(client, staff, secret=secret)

    assert client.get(ADMIN).status_code == 200


def test_a_change_in_the_admin_asks_first_who_it_is_and_is_then_done(staff: User, acme: Tenant):
    token, _ = ApiToken.issue(tenant=acme, name="dispatch", scopes=["read"])
    client = Client()
    sign_in(client, staff, secret=add_authenticator_app(staff))
    address = reverse("admin:accounts_apitoken_changelist")
    data = {"action": "revoke", "_selected_action": [token.pk]}

    asked = client.post(address, data)

    token.refresh_from_db()
    assert asked["Location"].startswith(reverse("account_reauthenticate")) and token.revoked_at is None
    done = client.post(asked["Location"], {"password": PASSWORD, "next": address})
    token.refresh_from_db()
    assert done.status_code == 302 and token.revoked_at is not None, "what was asked for is done"


def test_staff_by_permission_without_the_flag_stay_out(acme: Tenant):
    owner = make_membership(acme, "owner@acme.example", Role.OWNER)
    client = browser_of(owner, secret=add_authenticator_app(owner.user))

    assert client.get(ADMIN, follow=True).status_code == 403
