"""A screen's link shows its cameras live and nothing else, until it is ended; its token is in no address that is asked for."""

import logging
from datetime import timedelta
from http import HTTPStatus

from django.conf import LazySettings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest

from accounts.models import AuditEntry, Membership, Role
from devices.grants import Grant
from media import screens, watchers
from media.models import LiveSession, Screen
from media.tests.conftest import OFFER, created, sessions_path, sweep
from ring.tests.server import Reply, ScriptedServer
from tests.support.cast import TenantCast, make_cast, make_membership

pytestmark = pytest.mark.django_db

SDP = "application/sdp"


def signed_in(member: Membership) -> Client:
    client = Client()
    client.force_login(member.user)
    return client


def make(cast: TenantCast, member: Membership, **good_for: int) -> tuple[Screen, str]:
    """A screen that shows Ada's camera."""
    return screens.make_screen(
        member=member,
        name="Lobby",
        cameras=[cast.ada_camera],
        good_for=timedelta(**good_for) if good_for else timedelta(days=1),
        now=timezone.now(),
    )


def open_link(cast: TenantCast, token: str) -> Client:
    browser = Client()
    answer = browser.post(page_of(cast), {"token": token})
    assert answer.status_code == HTTPStatus.NO_CONTENT
    return browser


def page_of(cast: TenantCast) -> str:
    return reverse("media:screen", args=[cast.tenant.slug])


def whep_of(cast: TenantCast) -> str:
    return reverse("media:screen_whep", args=[cast.tenant.slug, cast.ada_camera.public_id]) + "?path=direct"


def watch(cast: TenantCast, browser: Client, ring: ScriptedServer) -> str:
    """The address of the session the screen has opened."""
    ring.script("POST", sessions_path(cast), created(ring, cast))
    ring.script("DELETE", sessions_path(cast) + "/s1", Reply(status=204))
    answer = browser.post(whep_of(cast), OFFER, content_type=SDP)
    assert answer.status_code == HTTPStatus.CREATED
    return str(answer["Location"])


def test_a_link_is_made_and_shown_once(cast: TenantCast):
    ada = signed_in(cast.ada)
    page = reverse("media:screens", args=[cast.tenant.slug])
    ada.post(page, {"name": "Kitchen", "cameras": [cast.ada_camera.pk], "days": "7"})

    first, second = ada.get(page).content.decode(), ada.get(page).content.decode()

    screen = Screen.objects.get()
    assert f"/t/acme/screen/#{Screen.PREFIX}" in first
    assert Screen.PREFIX not in second and "Kitchen" in second
    assert screen.sha256 and Screen.PREFIX not in screen.sha256
    assert screen.expires_at - screen.created_at == timedelta(days=7)


def test_nobody_makes_a_link_for_a_camera_they_may_not_give_to_others(cast: TenantCast):
    guest = make_membership(cast.tenant, "gus@acme.example", Role.GUEST)
    Grant.objects.create(tenant=cast.tenant, membership=guest, device=cast.ada_camera, live=True)
    page = reverse("media:screens", args=[cast.tenant.slug])

    for member in (guest, cast.ben, cast.operator):
        form = {"name": "Mine", "cameras": [cast.ada_camera.pk], "days": "7"}
        assert signed_in(member).post(page, form).status_code == HTTPStatus.UNPROCESSABLE_ENTITY

    assert not Screen.objects.exists()


def test_a_screen_watches_its_camera_and_the_owner_sees_that_it_does(cast: TenantCast, ring: ScriptedServer):
    screen, token = make(cast, cast.ada)
    browser = open_link(cast, token)
    assert "Front Door" in browser.get(page_of(cast)).content.decode()

    address = watch(cast, browser, ring)

    assert address.startswith(page_of(cast))
    assert browser.head(address).status_code == HTTPStatus.OK
    told = signed_in(cast.ada).get(reverse("media:watching", args=[cast.tenant.slug])).json()["watching"]
    assert told == {str(cast.ada_camera.public_id): "The screen “Lobby” is watching."}
    assert AuditEntry.objects.get(action="live.started").detail["screen"] == str(screen.public_id)
    assert watchers.end_unentitled(now=timezone.now()) == 0
    assert browser.delete(address).status_code == HTTPStatus.OK
    assert not LiveSession.objects.open().exists()


def test_a_screen_that_is_switched_off_while_it_asks_ends_what_it_asked_for(
    cast: TenantCast, ring: ScriptedServer
):
    _, token = make(cast, cast.ada)
    browser = open_link(cast, token)
    ring.script("POST", sessions_path(cast), created(ring, cast))
    ring.script("DELETE", sessions_path(cast) + "/s1", Reply(status=204))
    name = "0190a0de-7c4d-7c4e-8000-3d2e6a5b9c01"
    browser.post(whep_of(cast), OFFER, content_type=SDP, headers={"Session-Name": name})

    address = reverse("media:screen_session", args=[cast.tenant.slug, cast.ada_camera.public_id, name])
    assert browser.delete(address).status_code == HTTPStatus.OK

    assert not LiveSession.objects.open().exists()


def test_a_screen_hangs_for_longer_than_the_passwords_of_turn_last(cast: TenantCast, settings: LazySettings):
    settings.ICE_SERVERS, settings.TURN_SECRET = ("turn:turn.example:3478",), "shared"
    _, token = make(cast, cast.ada)

    answer = open_link(cast, token).head(whep_of(cast))

    assert answer.status_code == HTTPStatus.OK
    assert answer["Link"].startswith('<turn:turn.example:3478>; rel="ice-server"; username="')
    assert Client().head(whep_of(cast)).status_code == HTTPStatus.NOT_FOUND


def test_a_screen_sees_nothing_else_of_the_portal(cast: TenantCast):
    _, token = make(cast, cast.ada)
    browser = open_link(cast, token)
    slug, ours, other = cast.tenant.slug, cast.ada_camera.public_id, cast.ben_camera.public_id

    assert "Driveway" not in browser.get(page_of(cast)).content.decode()
    refused = browser.post(reverse("media:screen_whep", args=[slug, other]), OFFER, content_type=SDP)
    assert refused.status_code == HTTPStatus.NOT_FOUND
    for name, *args in (
        ("media:wall",),
        ("media:watching",),
        ("media:latest_picture", ours),
        ("devices:detail", ours),
        ("events:list",),
    ):
        answer = browser.get(reverse(name, args=[slug, *args]))
        assert answer.status_code == HTTPStatus.FOUND
        assert answer["Location"].startswith(reverse("account_login"))
    whep = reverse("media:whep", args=[slug, ours])
    assert browser.post(whep, OFFER, content_type=SDP).status_code == HTTPStatus.UNAUTHORIZED


def test_a_screen_of_one_company_opens_nothing_of_another(cast: TenantCast):
    other = make_cast("harbor")
    _, token = make(cast, cast.ada)

    assert Client().post(page_of(other), {"token": token}).status_code == HTTPStatus.NOT_FOUND
    browser = open_link(cast, token)
    browser.cookies["portal-screen"]["path"] = "/"
    path = reverse("media:screen_whep", args=[other.tenant.slug, cast.ada_camera.public_id])
    assert browser.post(path, OFFER, content_type=SDP).status_code == HTTPStatus.NOT_FOUND


def test_a_screen_cannot_touch_the_session_of_somebody_else(cast: TenantCast, ring: ScriptedServer):
    address = watch(cast, open_link(cast, make(cast, cast.ada)[1]), ring)
    another = open_link(cast, make(cast, cast.ada)[1])

    assert another.delete(address).status_code == HTTPStatus.NOT_FOUND
    assert LiveSession.objects.open().count() == 1


@pytest.mark.django_db(transaction=True)
def test_revoking_ends_the_link_and_its_pictures(cast: TenantCast, ring: ScriptedServer):
    screen, token = make(cast, cast.ada)
    browser = open_link(cast, token)
    address = watch(cast, browser, ring)

    signed_in(cast.ada).post(reverse("media:revoke_screen", args=[cast.tenant.slug, screen.public_id]))
    sweep()

    assert [request.method for request in ring.received] == ["POST", "DELETE"]
    assert LiveSession.objects.get().end_reason == LiveSession.EndReason.ACCESS
    gone = browser.head(address)
    assert (gone.status_code, gone["Session-End"]) == (HTTPStatus.NOT_FOUND, "access")
    page = browser.get(page_of(cast))
    assert "This link has ended" in page.content.decode()
    assert page.cookies["portal-screen"].value == ""
    assert Client().post(page_of(cast), {"token": token}).status_code == HTTPStatus.NOT_FOUND
    assert [
        entry.action for entry in AuditEntry.objects.filter(action__startswith="screen").order_by("pk")
    ] == [
        "screen.made",
        "screen.opened",
        "screen.revoked",
    ]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what_happens", ["expires", "loses_right", "leaves", "camera_taken_off"])
def test_a_screen_whose_right_ends_is_cut_off(cast: TenantCast, ring: ScriptedServer, what_happens: str):
    maker = make_membership(cast.tenant, "meg@acme.example", Role.GUEST)
    grant = Grant.objects.create(
        tenant=cast.tenant, membership=maker, device=cast.ada_camera, live=True, manage=True
    )
    screen, token = make(cast, maker)
    browser = open_link(cast, token)
    watch(cast, browser, ring)
    assert watchers.end_unentitled(now=timezone.now()) == 0

    if what_happens == "expires":
        Screen.objects.update(expires_at=timezone.now())
    elif what_happens == "loses_right":
        Grant.objects.filter(pk=grant.pk).update(ended_at=timezone.now())
    elif what_happens == "leaves":
        maker.delete()
    else:
        screen.devices.clear()

    assert watchers.end_unentitled(now=timezone.now()) == 1
    sweep()
    assert [request.method for request in ring.received] == ["POST", "DELETE"]
    assert browser.post(whep_of(cast), OFFER, content_type=SDP).status_code == HTTPStatus.NOT_FOUND


def test_the_list_says_when_a_link_was_used_last(cast: TenantCast):
    _, token = make(cast, cast.ada)
    browser = open_link(cast, token)
    assert Screen.objects.get().last_used_at is None

    browser.get(page_of(cast))

    used_at = Screen.objects.get().last_used_at
    assert used_at is not None
    browser.get(page_of(cast))
    assert Screen.objects.get().last_used_at == used_at, "once a minute is enough"
    listed = signed_in(cast.owner).get(reverse("media:screens", args=[cast.tenant.slug]))
    assert "Made by ada@acme.example" in listed.content.decode()
    assert (
        "Lobby"
        not in signed_in(cast.ben).get(reverse("media:screens", args=[cast.tenant.slug])).content.decode()
    )


def test_the_token_is_in_no_log_no_address_and_no_cookie_that_scripts_read(
    cast: TenantCast, caplog: pytest.LogCaptureFixture
):
    _, token = make(cast, cast.ada)
    with caplog.at_level(logging.DEBUG):
        browser = open_link(cast, token)
        page = browser.get(page_of(cast))

    assert token not in caplog.text and token not in page.content.decode()
    cookie = browser.cookies["portal-screen"]
    assert cookie["httponly"] and cookie["samesite"] == "Strict" and cookie["path"] == page_of(cast)


def test_a_wrong_token_is_told_nothing(cast: TenantCast):
    for token in ("", "pps_", "pps_" + "x" * 43, "ppt_" + "x" * 43, "pps_\0"):
        assert Client().post(page_of(cast), {"token": token}).status_code == HTTPStatus.NOT_FOUND
