"""Roles, leaving, ownership and invitations: who may what, and what never happens."""

import re
from datetime import timedelta

from django.core import mail
from django.core.exceptions import PermissionDenied
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest
from allauth.account.models import EmailAddress

from accounts import invitations, people
from accounts.models import AuditEntry, Invitation, Membership, RingAccount, Role, Tenant, User
from accounts.tests.threads import in_threads
from tests.support.cast import (
    PASSWORD,
    TenantCast,
    make_cast,
    make_linked_account,
    make_membership,
    make_tenant,
    make_user,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> TenantCast:
    return make_cast("acme")


def client_of(membership: Membership) -> Client:
    client = Client()
    client.force_login(membership.user)
    return client


def link_in_mail() -> str:
    [url] = re.findall(r"http://testserver(/\S+)", str(mail.outbox[-1].body))
    return str(url)


def invite(acme: TenantCast, email: str = "Grace@New.example", role: str = "operator") -> str:
    """The path of the link in the mail."""
    answer = client_of(acme.owner).post("/t/acme/settings/people/", {"email": email, "role": role})
    assert answer.status_code == 302
    return link_in_mail()


# --- roles -----------------------------------------------------------------------------------------------------------


def test_an_admin_changes_roles_but_never_an_owners(acme: TenantCast):
    admin = make_membership(acme.tenant, "admin@acme.example", Role.ADMIN)
    client = client_of(admin)

    def change(member: Membership, role: str) -> int:
        url = reverse("accounts:member", args=["acme", member.public_id])
        status = client.post(url, {"role": role}).status_code
        member.refresh_from_db()
        return int(status)

    assert change(acme.operator, "operator-limited") == 302
    assert (acme.operator.role, acme.operator.is_limited) == (Role.OPERATOR, True)
    assert not acme.operator.sees_whole_tenant
    assert change(acme.operator, "admin") == 302
    assert (acme.operator.role, acme.operator.is_limited) == (Role.ADMIN, False)
    assert change(acme.operator, "owner") == 422  # owners are made by handing over
    assert change(acme.owner, "operator") == 403
    assert acme.owner.role == Role.OWNER
    assert (
        client.post(reverse("accounts:remove_member", args=["acme", acme.owner.public_id])).status_code == 403
    )
    assert AuditEntry.objects.filter(action="member.role").count() == 2


def test_the_last_owner_stays_an_owner(acme: TenantCast):
    client = client_of(acme.owner)
    member = reverse("accounts:member", args=["acme", acme.owner.public_id])
    for url, data in ((member, {"role": "admin"}), ("/t/acme/settings/leave/", {})):
        answer = client.post(url, data)
        assert answer.status_code == 422
        assert "needs an owner" in answer.content.decode()
    acme.owner.refresh_from_db()
    assert acme.owner.role == Role.OWNER


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", ["leave", "step down"])
def test_two_owners_who_go_at_the_same_moment_leave_one_behind(how: str):
    tenant = make_tenant("acme")
    owners = [make_membership(tenant, f"{name}@acme.example", Role.OWNER) for name in ("a", "b")]
    waiting = list(owners)

    def go() -> None:
        one = waiting.pop()
        if how == "leave":
            people.remove_member(member=one, actor=one, now=timezone.now())
        else:
            people.change_role(member=one, role=Role.ADMIN, actor=one)

    results = in_threads(2, go)

    assert sorted(type(result).__name__ for result in results) == ["LastOwner", "NoneType"]
    assert Membership.objects.filter(tenant=tenant, role=Role.OWNER).count() == 1


def test_ownership_is_handed_over_after_asking_who_one_is(acme: TenantCast):
    client = client_of(acme.owner)
    url = reverse("accounts:ownership", args=["acme"])
    data = {"member": str(acme.operator.public_id)}
    asked = client.post(url, data)
    assert asked.status_code == 302 and "reauthenticate" in asked["Location"]
    acme.owner.refresh_from_db()
    assert acme.owner.role == Role.OWNER

    wrong = client.post(asked["Location"], {"password": "not that one"})
    acme.owner.refresh_from_db()
    assert wrong.status_code == 200 and acme.owner.role == Role.OWNER
    client.post(asked["Location"], {"password": PASSWORD})  # what was asked for then goes on
    acme.owner.refresh_from_db()
    acme.operator.refresh_from_db()
    assert (acme.owner.role, acme.operator.role) == (Role.ADMIN, Role.OWNER)
    assert client.post(url, data).status_code == 404, "who handed it over cannot do so again"


def test_ownership_goes_to_no_customer_and_from_nobody_but_an_owner(acme: TenantCast):
    with pytest.raises(PermissionDenied):
        people.transfer_ownership(owner=acme.owner, to=acme.ada)
    with pytest.raises(PermissionDenied):
        people.transfer_ownership(owner=acme.operator, to=acme.operator)


def test_who_is_removed_shares_nothing_any_more(acme: TenantCast, ring):
    url = reverse("accounts:remove_member", args=["acme", acme.ada.public_id])
    ada, owner = client_of(acme.ada), client_of(acme.owner)
    assert "Ring account" in owner.get(url).content.decode()
    assert owner.post(url).status_code == 302

    acme.ada_account.refresh_from_db()
    assert (acme.ada_account.state, acme.ada_account.access_token) == (RingAccount.State.UNLINKED, "")
    assert ring.seen[-1] == ("PATCH app-integrations", {"status": "awaiting"})
    assert ada.get("/t/acme/").status_code == 404
    assert User.objects.filter(pk=acme.ada.user_id).exists()
    assert AuditEntry.objects.filter(action="member.removed").exists()


def test_who_has_become_owner_meanwhile_is_not_removed_and_loses_no_link(acme: TenantCast, ring):
    admin = make_membership(acme.tenant, "admin@acme.example", Role.ADMIN)
    home = make_linked_account(acme.tenant, acme.operator.user, ring_id="ava1.ring.account.OPERATOR")
    as_the_admin_saw_them = Membership.objects.get(pk=acme.operator.pk)
    people.transfer_ownership(owner=acme.owner, to=acme.operator)

    with pytest.raises(PermissionDenied):
        people.remove_member(member=as_the_admin_saw_them, actor=admin, now=timezone.now())

    home.refresh_from_db()
    assert home.state == RingAccount.State.LINKED and home.access_token
    assert "PATCH app-integrations" not in ring.calls, "Ring was told of what did not happen"
    assert Membership.objects.filter(pk=acme.operator.pk, role=Role.OWNER).exists()


def test_anybody_may_leave(acme: TenantCast):
    client = client_of(acme.operator)
    assert client.get("/t/acme/settings/leave/").status_code == 200
    assert client.post("/t/acme/settings/leave/").status_code == 302
    assert client.get("/t/acme/").status_code == 404


def test_the_command_leaves_an_owner_too_and_lifts_a_limit(acme: TenantCast):
    with pytest.raises(CommandError, match="only owner"):
        call_command("add_member", "acme", acme.owner.user.email, role="operator")
    acme.operator.is_limited = True
    acme.operator.save()
    call_command("add_member", "acme", acme.operator.user.email, role="owner")
    acme.operator.refresh_from_db()
    assert (acme.operator.role, acme.operator.is_limited) == (Role.OWNER, False)


# --- invitations -----------------------------------------------------------------------------------------------------


def test_a_new_person_signs_up_by_the_link_and_joins(acme: TenantCast):
    url = invite(acme)
    assert mail.outbox[-1].to == ["grace@new.example"]
    assert not User.objects.filter(email="grace@new.example").exists()
    assert not Membership.objects.filter(user__email="grace@new.example").exists()

    grace = Client()
    page = grace.get(url, follow=True)
    assert page.redirect_chain == [("/t/acme/join/", 302)], "the token leaves the address at once"
    signup = re.search(r'href="(/accounts/signup/[^"]+)"', page.content.decode())
    assert signup is not None
    form = grace.get(signup[1])
    assert "grace@new.example" in form.content.decode()
    done = grace.post(
        signup[1],
        {
            "email": "grace@new.example",
            "password1": "quite a long phrase",
            "password2": "quite a long phrase",
            "next": "/t/acme/join/",
        },
    )
    assert done["Location"] == "/t/acme/join/"
    assert "Join Acme" in grace.get("/t/acme/join/").content.decode()
    assert not Membership.objects.filter(user__email="grace@new.example").exists(), "looking is not joining"
    assert grace.post("/t/acme/join/")["Location"] == "/t/acme/"

    member = Membership.objects.get(user__email="grace@new.example")
    assert (member.role, member.tenant) == (Role.OPERATOR, acme.tenant)
    assert EmailAddress.objects.get(email="grace@new.example").verified
    assert Client().get(url, follow=True).status_code == 410, "the link works once"


def test_a_known_person_signs_in_and_joins(acme: TenantCast):
    url = invite(acme, "grace@known.example", "admin")
    grace = make_user("grace@known.example")
    client = Client()
    page = client.get(url, follow=True).content.decode()
    assert "/accounts/login/?next=%2Ft%2Facme%2Fjoin%2F" in page
    client.force_login(grace)
    client.get(url)
    client.post("/t/acme/join/")
    assert Membership.objects.get(user=grace).role == Role.ADMIN


def test_somebody_else_cannot_use_the_link_and_is_told_why(acme: TenantCast):
    url = invite(acme)
    ada = client_of(acme.ada)
    page = ada.get(url, follow=True)
    assert "signed in as somebody else" in page.content.decode()
    ada.post("/t/acme/join/")
    acme.ada.refresh_from_db()
    assert acme.ada.role == Role.CUSTOMER
    with pytest.raises(PermissionDenied):
        invitations.accept(invitation=Invitation.objects.get(), person=acme.ada.user, now=timezone.now())

    # "Sign out and go on as …" keeps the invitation.
    assert ada.post("/t/acme/join/switch/")["Location"] == "/t/acme/join/"
    again = ada.get("/t/acme/join/")
    assert "Create account" in again.content.decode()


def test_an_invitation_runs_out_is_withdrawn_and_is_sent_again(acme: TenantCast):
    url = invite(acme)
    invitation = Invitation.objects.get()
    owner = client_of(acme.owner)
    send_again = reverse("accounts:send_again", args=["acme", invitation.public_id])

    owner.post(send_again)
    assert len(mail.outbox) == 1, "not within the same minute"
    Invitation.objects.update(
        expires_at=timezone.now() - timedelta(seconds=1),
        sent_at=timezone.now() - timedelta(days=7, seconds=1),
    )
    assert Client().get(url, follow=True).status_code == 410

    owner.post(send_again)
    newer = link_in_mail()
    assert newer != url
    assert Client().get(url, follow=True).status_code == 404, "the older link names nothing any more"
    assert Client().get(newer, follow=True).status_code == 200

    owner.post(reverse("accounts:withdraw", args=["acme", invitation.public_id]))
    assert Client().get(newer, follow=True).status_code == 410
    assert invitation.email not in owner.get("/t/acme/settings/people/").content.decode()


def test_an_older_link_that_was_opened_already_joins_nobody_once_a_newer_one_is_sent(acme: TenantCast):
    grace = make_user("grace@new.example")
    client = Client()
    client.force_login(grace)
    assert client.get(invite(acme), follow=True).status_code == 200
    before = Invitation.objects.get()
    Invitation.objects.update(sent_at=timezone.now() - timedelta(hours=1))
    client_of(acme.owner).post(reverse("accounts:send_again", args=["acme", before.public_id]))

    late = client.post("/t/acme/join/")
    assert late.status_code == 404 and "newest mail" in late.content.decode()
    with pytest.raises(invitations.InvitationOver):  # the page was loaded before, and the button comes after
        invitations.accept(invitation=before, person=grace, now=timezone.now())
    assert not Membership.objects.filter(user=grace).exists()

    client.get(link_in_mail())
    assert client.post("/t/acme/join/").status_code == 302
    assert Membership.objects.filter(user=grace).exists()


def test_of_two_who_accept_at_once_one_membership_comes(acme: TenantCast):
    invite(acme, "grace@new.example")
    grace = make_user("grace@new.example")
    invitation = Invitation.objects.get()
    invitations.accept(invitation=invitation, person=grace, now=timezone.now())
    with pytest.raises(invitations.InvitationOver):
        invitations.accept(invitation=invitation, person=grace, now=timezone.now())
    assert Membership.objects.filter(user=grace).count() == 1


def test_a_customer_who_is_invited_as_staff_becomes_staff_and_nobody_becomes_less(acme: TenantCast):
    for member, role, becomes in (
        (acme.ada, Role.OPERATOR, Role.OPERATOR),
        (acme.operator, Role.GUEST, Role.OPERATOR),
    ):
        invitation = Invitation.objects.create(
            tenant=acme.tenant,
            email=member.user.email,
            role=role,
            sha256=role,
            expires_at=timezone.now() + timedelta(hours=1),
        )
        invitations.accept(invitation=invitation, person=member.user, now=timezone.now())
        member.refresh_from_db()
        assert member.role == becomes


def test_the_token_is_nowhere_but_in_the_mail(acme: TenantCast, caplog: pytest.LogCaptureFixture):
    from portal.logs import redact

    url = invite(acme)
    token = url.partition("token=")[2]
    assert len(token) > 40
    assert token not in str(list(Invitation.objects.values())) + str(list(AuditEntry.objects.values()))
    assert token not in redact(f"GET {url} 200")
    Client().get(url)
    assert token not in redact(caplog.text)


@pytest.mark.parametrize("role", ["owner", "customer", "guest", "king"])
def test_what_an_admin_cannot_invite(acme: TenantCast, role: str):
    admin = make_membership(acme.tenant, "admin@acme.example", Role.ADMIN)
    answer = client_of(admin).post("/t/acme/settings/people/", {"email": "grace@new.example", "role": role})
    assert answer.status_code == 422
    assert not Invitation.objects.exists() and not mail.outbox


def test_nobody_is_invited_twice_at_once(acme: TenantCast):
    invite(acme)
    answer = client_of(acme.owner).post(
        "/t/acme/settings/people/", {"email": "grace@new.example", "role": "admin"}
    )
    assert answer.status_code == 422
    assert "invited already" in answer.content.decode()
    assert Invitation.objects.get().role == Role.OPERATOR


# --- several companies -------------------------------------------------------------------------------------------------


def test_the_front_door_leads_to_where_one_was_last_and_the_switcher_to_the_others(acme: TenantCast):
    birch: Tenant = make_tenant("birch")
    Membership.objects.create(tenant=birch, user=acme.owner.user, role=Role.OPERATOR)
    client = client_of(acme.owner)
    assert "Where to?" in client.get("/").content.decode()

    page = client.get("/t/birch/").content.decode()
    assert 'href="/t/acme/"' in page and "Switch company" in page
    assert client.get("/")["Location"] == "/t/birch/"
    Membership.objects.filter(tenant=birch).update(used_at=timezone.now() - timedelta(hours=1))
    client.get("/t/acme/")
    assert client.get("/")["Location"] == "/t/acme/"


# --- invitations end with the right to send them -----------------------------------------------------------------------


def test_who_is_removed_does_not_come_back_by_an_invitation_of_their_own(acme: TenantCast):
    admin = make_membership(acme.tenant, "admin@acme.example", Role.ADMIN)
    client_of(admin).post("/t/acme/settings/people/", {"email": "second@self.example", "role": "admin"})
    people.remove_member(member=admin, actor=acme.owner, now=timezone.now())
    invitation = Invitation.objects.get(email="second@self.example")
    with pytest.raises(invitations.InvitationOver):
        invitations.accept(invitation=invitation, person=make_user("second@self.example"), now=timezone.now())


def test_a_lesser_role_ends_what_it_could_not_have_sent(acme: TenantCast):
    make_membership(acme.tenant, "other-owner@acme.example", Role.OWNER)
    second = make_membership(acme.tenant, "second@acme.example", Role.ADMIN)
    for email, role in (("boss@new.example", "owner"), ("olga@new.example", "operator")):
        client_of(acme.owner).post("/t/acme/settings/people/", {"email": email, "role": role})
    people.transfer_ownership(owner=acme.owner, to=second)
    waiting = Invitation.objects.pending().values_list("email", flat=True)
    assert list(waiting) == ["olga@new.example"]

    acme.owner.refresh_from_db()
    people.change_role(member=acme.owner, role=Role.OPERATOR, actor=second)
    assert not Invitation.objects.pending().exists()
