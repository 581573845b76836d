"""Giving access and ending it: who may, how much, how long, and what ends with what."""

import re
from datetime import timedelta

from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest
from allauth.account.models import EmailAddress

from accounts import invitations
from accounts.models import Invitation, Membership, Role
from accounts.unlinking import unlink_account
from devices import sharing
from devices.grants import Capability, Grant, holdings_of
from devices.models import DeviceGroup
from tests.support.cast import TenantCast, make_camera, make_cast, make_membership, make_user

pytestmark = pytest.mark.django_db

LIVE, CLIPS, EVENTS, EXPORT, MANAGE = Capability


@pytest.fixture
def acme() -> TenantCast:
    return make_cast("acme")


def client_of(membership: Membership) -> Client:
    client = Client()
    client.force_login(membership.user)
    return client


def prove(member: Membership) -> None:
    EmailAddress.objects.create(user=member.user, email=member.user.email, verified=True, primary=True)


def give(by: Membership, to: Membership, target, *held: Capability, lasts: timedelta | None = None) -> Grant:
    now = timezone.now()
    until = None if lasts is None else now + lasts
    return sharing.give(by=by, to=to, target=target, capabilities=held, until=until, now=now)


def share_url(acme: TenantCast) -> str:
    return reverse("devices:share", args=["acme", acme.ada_camera.public_id])


def test_a_customer_invites_a_guest_for_two_hours(acme: TenantCast):
    ada = client_of(acme.ada)
    assert ada.get(share_url(acme)).status_code == 200
    answer = ada.post(
        share_url(acme), {"email": "Guest@New.example", "capabilities": ["live"], "lasts": "2h"}
    )
    assert answer.status_code == 302
    assert "Front Door: watch live" in mail.outbox[-1].body
    assert "guest@new.example" in ada.get(share_url(acme)).content.decode()

    guest_user = make_user("guest@new.example")
    guest = Client()
    guest.force_login(guest_user)
    [url] = re.findall(r"http://testserver(/\S+)", str(mail.outbox[-1].body))
    assert "watch live" in guest.get(url, follow=True).content.decode()
    guest.post("/t/acme/join/")

    member = Membership.objects.get(user=guest_user)
    assert member.role == Role.GUEST
    assert holdings_of(member).of(acme.ada_camera) == {LIVE}
    assert not holdings_of(member, now=timezone.now() + timedelta(hours=2)).of(acme.ada_camera)
    page = guest.get(reverse("devices:detail", args=["acme", acme.ada_camera.public_id])).content.decode()
    assert "Your access" in page and "Keep the last 30 s" not in page and "Latest events" not in page
    assert Invitation.objects.get().expires_at <= timezone.now() + timedelta(hours=2)


def test_an_admin_gives_a_member_access_at_once_and_an_unproved_address_only_by_the_link(acme: TenantCast):
    owner = client_of(acme.owner)
    data = {"email": acme.ben.user.email, "capabilities": ["events", "export"], "lasts": "open"}
    owner.post(share_url(acme), data)
    # Anybody can sign up with an address; only who reads its mails gets the access.
    assert not holdings_of(acme.ben).of(acme.ada_camera)
    assert len(mail.outbox) == 1

    Invitation.objects.update(revoked_at=timezone.now())
    prove(acme.ben)
    owner.post(share_url(acme), data)
    assert len(mail.outbox) == 1
    assert holdings_of(acme.ben).of(acme.ada_camera) == {EVENTS, EXPORT, CLIPS}, (
        "who downloads a clip sees it"
    )


def test_sharing_does_not_tell_a_customer_who_belongs_to_the_company(acme: TenantCast):
    prove(acme.ben)
    EmailAddress.objects.create(user=acme.owner.user, email="boss@home.example", verified=True)
    invitations.invite(by=acme.owner, email="soon@acme.example", role=Role.OPERATOR, now=timezone.now())
    ada = client_of(acme.ada)
    told = set()
    for email in (acme.ben.user.email, "boss@home.example", "soon@acme.example", "nobody@elsewhere.example"):
        given = ada.post(
            share_url(acme), {"email": email, "capabilities": ["live"], "lasts": "open"}, follow=True
        ).content.decode()
        assert email in given and acme.owner.user.email not in given
        told.add(re.sub(r"<[^>]+>", "", given).replace(email, "the address"))
        sharing.end_all(Grant.objects.all(), actor=None, now=timezone.now())

    assert len(told) == 1, (
        "the same page for members, by whichever address, for invited people and for strangers"
    )
    assert not holdings_of(acme.ben).of(acme.ada_camera)
    [url] = re.findall(
        r"http://testserver(/\S+)", next(str(m.body) for m in mail.outbox if acme.ben.user.email in m.to)
    )
    ben = client_of(acme.ben)
    ben.get(url)
    ben.post("/t/acme/join/")
    acme.ben.refresh_from_db()
    assert acme.ben.role == Role.CUSTOMER, "nobody becomes less by accepting"

    again = {"email": acme.ben.user.email, "capabilities": ["live"], "lasts": "open"}
    assert "has access now" in ada.post(share_url(acme), again, follow=True).content.decode(), (
        "no news any more"
    )
    assert holdings_of(acme.ben).of(acme.ada_camera) == {LIVE}


def test_who_may_not_share_is_told_so_and_who_sees_nothing_is_told_nothing(acme: TenantCast):
    give(acme.owner, acme.ben, acme.ada_camera, LIVE, EVENTS)
    assert client_of(acme.ben).get(share_url(acme)).status_code == 403
    assert client_of(acme.operator).get(share_url(acme)).status_code == 403
    guest = make_membership(acme.tenant, "guest@acme.example", Role.GUEST)
    assert client_of(guest).get(share_url(acme)).status_code == 404
    for member in (acme.ben, acme.operator, guest):
        with pytest.raises(sharing.MayNotShare):
            give(member, acme.ada, acme.ada_camera, LIVE)


def test_nobody_fills_strangers_mailboxes_with_invitations(acme: TenantCast, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("devices.sharing_views.SHARED_AN_HOUR", 2)
    ada = client_of(acme.ada)
    statuses = [
        ada.post(
            share_url(acme),
            {"email": f"stranger{number}@elsewhere.example", "capabilities": ["live"], "lasts": "2h"},
        ).status_code
        for number in range(3)
    ]
    assert statuses == [302, 302, 422] and len(mail.outbox) == 2


def test_nobody_gives_more_than_they_hold_or_for_longer(acme: TenantCast):
    guest = make_membership(acme.tenant, "guest@acme.example", Role.GUEST)
    give(acme.ada, acme.ben, acme.ada_camera, LIVE, MANAGE, lasts=timedelta(hours=2))

    with pytest.raises(sharing.MayNotShare, match="more than you hold"):
        give(acme.ben, guest, acme.ada_camera, CLIPS, lasts=timedelta(hours=1))
    with pytest.raises(sharing.MayNotShare, match="longer"):
        give(acme.ben, guest, acme.ada_camera, LIVE)
    with pytest.raises(sharing.MayNotShare, match="longer"):
        give(acme.ben, guest, acme.ada_camera, LIVE, lasts=timedelta(hours=3))
    give(acme.ben, guest, acme.ada_camera, LIVE, lasts=timedelta(hours=1))
    assert holdings_of(guest).of(acme.ada_camera) == {LIVE}
    choices = client_of(acme.ben).get(share_url(acme)).content.decode()
    assert 'value="live"' in choices and 'value="clips"' not in choices


def test_two_grants_do_not_add_up_to_a_right_to_give_on(acme: TenantCast):
    """The right to give on ends with the grant it came by; what was pieced together would outlive a piece."""
    guest = make_membership(acme.tenant, "guest@acme.example", Role.GUEST)
    give(acme.ada, acme.ben, acme.ada_camera, LIVE, MANAGE)
    give(acme.ada, acme.ben, acme.ada_camera, CLIPS)
    with pytest.raises(sharing.MayNotShare, match="more than you hold"):
        give(acme.ben, guest, acme.ada_camera, CLIPS)


@pytest.mark.parametrize("how", ["ended", "member removed"])
def test_what_was_given_on_ends_with_what_it_was_given_under(acme: TenantCast, how: str):
    guest = make_membership(acme.tenant, "guest@acme.example", Role.GUEST)
    friend = make_membership(acme.tenant, "friend@acme.example", Role.GUEST)
    first = give(acme.ada, acme.ben, acme.ada_camera, LIVE, MANAGE)
    give(acme.ben, guest, acme.ada_camera, LIVE, MANAGE)
    give(guest, friend, acme.ada_camera, LIVE)
    assert holdings_of(friend).of(acme.ada_camera)

    if how == "ended":
        sharing.end(grant=first, by=acme.ada, now=timezone.now())
    else:
        acme.ben.delete()
    assert not holdings_of(guest).of(acme.ada_camera)
    assert not holdings_of(friend).of(acme.ada_camera)


def test_what_was_given_on_of_a_device_ends_when_the_device_leaves_the_group(acme: TenantCast):
    guest = make_membership(acme.tenant, "guest@acme.example", Role.GUEST)
    friend = make_membership(acme.tenant, "friend@acme.example", Role.GUEST)
    cameras = [acme.ada_camera, acme.ben_camera]
    group = sharing.save_group(group=None, name="East", devices=cameras, by=acme.owner, now=timezone.now())
    give(acme.owner, guest, group, LIVE, MANAGE)
    for camera in cameras:
        give(guest, friend, camera, LIVE)

    sharing.save_group(group=group, name="East", devices=[acme.ben_camera], by=acme.owner, now=timezone.now())
    assert not holdings_of(guest).of(acme.ada_camera)
    assert not holdings_of(friend).of(acme.ada_camera)
    assert holdings_of(friend).of(acme.ben_camera) == {LIVE}


def test_unlinking_ends_every_access_to_the_home(acme: TenantCast):
    give(acme.ada, acme.ben, acme.ada_camera, LIVE)
    give(acme.owner, acme.ben, acme.ada_camera, EVENTS)
    unlink_account(account=acme.ada_account, now=timezone.now(), reason="removed_in_ring")
    assert not holdings_of(acme.ben).of(acme.ada_camera)
    assert holdings_of(acme.ben).of(acme.ben_camera)


def test_who_may_end_an_access(acme: TenantCast):
    guest = make_membership(acme.tenant, "guest@acme.example", Role.GUEST)
    for by, may in (
        (acme.owner, True),
        (acme.ada, True),  # whose device it is
        (guest, True),  # one's own
        (acme.ben, False),
        (acme.operator, False),
    ):
        grant = give(acme.owner, guest, acme.ada_camera, LIVE)
        answer = client_of(by).post(reverse("devices:end_grant", args=["acme", grant.public_id]))
        assert answer.status_code == (302 if may else 404), by
        grant.refresh_from_db()
        assert (grant.ended_at is not None) == may


def test_a_limited_operator_sees_the_building_that_is_given(acme: TenantCast):
    acme.operator.is_limited = True
    acme.operator.save()
    prove(acme.operator)
    owner, operator = client_of(acme.owner), client_of(acme.operator)
    owner.post("/t/acme/settings/groups/", {"name": "East", "devices": [str(acme.ada_camera.public_id)]})
    group = DeviceGroup.objects.get()
    url = reverse("devices:group", args=["acme", group.public_id])
    assert "Nothing is shared with you" in operator.get("/t/acme/devices/").content.decode()

    answer = owner.post(
        url,
        {
            "what": "share",
            "email": acme.operator.user.email,
            "capabilities": ["live", "clips", "events"],
            "lasts": "open",
        },
    )
    assert answer.status_code == 302
    page = operator.get("/t/acme/devices/").content.decode()
    assert "Front Door" in page and "Driveway" not in page

    # What joins the group is seen at once, what leaves it is not.
    both = [str(camera.public_id) for camera in (acme.ada_camera, acme.ben_camera)]
    owner.post(url, {"what": "save", "name": "East and West", "devices": both})
    assert "Driveway" in operator.get("/t/acme/devices/").content.decode()
    owner.post(url, {"what": "save", "name": "West", "devices": both[1:]})
    page = operator.get("/t/acme/devices/").content.decode()
    assert "Driveway" in page and "Front Door" not in page

    owner.post(reverse("devices:delete_group", args=["acme", group.public_id]))
    assert not DeviceGroup.objects.exists()
    assert not holdings_of(acme.operator).of(acme.ben_camera)


def test_groups_hold_no_other_tenants_devices_and_names_are_taken_once(acme: TenantCast):
    birch = make_cast("birch")
    owner = client_of(acme.owner)
    data = {"name": "East", "devices": [str(birch.ada_camera.public_id)]}
    assert owner.post("/t/acme/settings/groups/", data).status_code == 422
    with pytest.raises(sharing.MayNotShare):
        sharing.save_group(
            group=None, name="East", devices=[birch.ada_camera], by=acme.owner, now=timezone.now()
        )
    assert owner.post("/t/acme/settings/groups/", {"name": "East"}).status_code == 302
    again = owner.post("/t/acme/settings/groups/", {"name": "East"})
    assert again.status_code == 422 and "of this name already" in again.content.decode()


def test_nothing_is_given_across_tenants(acme: TenantCast):
    birch = make_cast("birch")
    for by, to, target in (
        (acme.owner, birch.ada, acme.ada_camera),
        (acme.owner, acme.ada, birch.ada_camera),
        (birch.owner, acme.ada, acme.ada_camera),
    ):
        with pytest.raises(sharing.MayNotShare):
            give(by, to, target, LIVE)
    assert not Grant.objects.exists()


def test_a_customer_learns_nothing_of_the_companys_groups(acme: TenantCast):
    group = sharing.save_group(
        group=None, name="Secret wing", devices=[acme.ada_camera], by=acme.owner, now=timezone.now()
    )
    give(acme.owner, acme.ben, group, LIVE)
    page = client_of(acme.ada).get(share_url(acme)).content.decode()
    assert "Secret wing" not in page and acme.ben.user.email not in page
    assert "Secret wing" in client_of(acme.owner).get(share_url(acme)).content.decode()


def test_a_device_that_comes_later_is_in_no_grant(acme: TenantCast):
    give(acme.ada, acme.ben, acme.ada_camera, LIVE)
    later = make_camera(acme.ada_account, "Garage")
    assert not holdings_of(acme.ben).of(later)
