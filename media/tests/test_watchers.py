"""Whoever watches must still be allowed to; and what is not granted cannot be watched, seen or taken."""

from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus

from django.conf import LazySettings
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest

from accounts.models import ApiToken, Membership, RingAccount, Role
from devices.grants import Grant
from media import watchers
from media.models import Clip, LiveSession
from media.tests.conftest import OFFER, created, sessions_path, sweep
from ring.tests.server import Reply, ScriptedServer
from tests.support.cast import TenantCast, make_cast, make_membership
from tests.support.portal_process import wait_for

pytestmark = pytest.mark.django_db


@pytest.fixture
def guest(cast: TenantCast) -> Membership:
    return make_membership(cast.tenant, "guest@acme.example", Role.GUEST)


@pytest.fixture
def grant(cast: TenantCast, guest: Membership) -> Grant:
    return Grant.objects.create(
        tenant=cast.tenant,
        membership=guest,
        device=cast.ada_camera,
        live=True,
        until=timezone.now() + timedelta(hours=2),
    )


def watch(client: Client, cast: TenantCast, **headers: str):
    path = reverse("media:whep", args=[cast.tenant.slug, cast.ada_camera.public_id]) + "?path=direct"
    return client.post(path, OFFER, content_type="application/sdp", headers=headers)


@pytest.fixture
def watching(cast: TenantCast, guest: Membership, grant: Grant, ring: ScriptedServer) -> Client:
    """The guest watches Ada's camera."""
    client = Client()
    client.force_login(guest.user)
    ring.script("POST", sessions_path(cast), created(ring, cast))
    ring.script("DELETE", sessions_path(cast) + "/s1", Reply(status=204))
    assert watch(client, cast).status_code == HTTPStatus.CREATED
    return client


def end_grant(grant: Grant, client: Client) -> None:
    Grant.objects.filter(pk=grant.pk).update(ended_at=timezone.now())


def let_grant_run_out(grant: Grant, client: Client) -> None:
    Grant.objects.filter(pk=grant.pk).update(until=timezone.now())


def take_live_away(grant: Grant, client: Client) -> None:
    Grant.objects.filter(pk=grant.pk).update(live=False, events=True)


def remove_member(grant: Grant, client: Client) -> None:
    assert grant.membership is not None
    grant.membership.delete()


def deactivate(grant: Grant, client: Client) -> None:
    assert grant.membership is not None
    grant.membership.user.is_active = False
    grant.membership.user.save()


def sign_out(grant: Grant, client: Client) -> None:
    client.logout()


def let_sign_in_run_out(grant: Grant, client: Client) -> None:
    Session.objects.update(expire_date=timezone.now())


def change_password(grant: Grant, client: Client) -> None:
    assert grant.membership is not None
    grant.membership.user.set_password("another long enough password")
    grant.membership.user.save()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "what_happens",
    [
        end_grant,
        let_grant_run_out,
        take_live_away,
        remove_member,
        deactivate,
        sign_out,
        let_sign_in_run_out,
        change_password,
    ],
    ids=lambda change: change.__name__,
)
def test_a_watcher_whose_right_ends_is_cut_off_at_ring(
    watching: Client,
    cast: TenantCast,
    grant: Grant,
    ring: ScriptedServer,
    what_happens: Callable[[Grant, Client], None],
):
    assert watchers.end_unentitled(now=timezone.now()) == 0

    what_happens(grant, watching)

    assert watchers.end_unentitled(now=timezone.now()) == 1
    assert LiveSession.objects.get().end_reason == LiveSession.EndReason.ACCESS
    sweep()
    assert not LiveSession.objects.get().upstream_url
    assert [request.method for request in ring.received] == ["POST", "DELETE"]
    assert watchers.end_unentitled(now=timezone.now()) == 0


@pytest.mark.django_db(transaction=True)
def test_a_watching_program_whose_token_is_revoked_is_cut_off(cast: TenantCast, ring: ScriptedServer):
    row, token = ApiToken.issue(tenant=cast.tenant, name="wall", scopes=["read"])
    ring.script("POST", sessions_path(cast), created(ring, cast))
    ring.script("DELETE", sessions_path(cast) + "/s1", Reply(status=204))
    assert watch(Client(), cast, Authorization=f"Bearer {token}").status_code == HTTPStatus.CREATED
    assert watchers.end_unentitled(now=timezone.now()) == 0

    ApiToken.objects.filter(pk=row.pk).update(revoked_at=timezone.now())

    assert watchers.end_unentitled(now=timezone.now()) == 1
    sweep()
    assert ring.received[-1].method == "DELETE"


@pytest.mark.django_db(transaction=True)
def test_one_company_s_camera_that_ring_does_not_let_go_of_delays_no_other_company_s_end(
    cast: TenantCast, ring: ScriptedServer
):
    other = make_cast("globex")
    slow, quick = (watched_at_ring(ring, each) for each in (cast, other))
    ring.script("DELETE", f"{sessions_path(cast)}/{slow.public_id}", Reply(hold=True))
    ring.script("DELETE", f"{sessions_path(other)}/{quick.public_id}", Reply(204))
    ApiToken.objects.update(revoked_at=timezone.now())

    watchers.look()

    wait_for(lambda: is_told(quick), timeout_s=2, what="the end of the one that Ring answers")
    slow.refresh_from_db()
    assert slow.end_reason == "access", "its viewer is cut off although Ring has not answered"
    assert not slow.last_error, "Ring has not answered for it yet"
    ring.released.set()
    wait_for(lambda: LiveSession.objects.get(pk=slow.pk).last_error, what="the slow one's turn to end")


def watched_at_ring(ring: ScriptedServer, cast: TenantCast) -> LiveSession:
    """A program of this company watches Ada's camera directly."""
    token, _ = ApiToken.issue(tenant=cast.tenant, name="wall", scopes=["read"])
    now = timezone.now()
    RingAccount.objects.update(tokens_obtained_at=now, access_expires_at=now + timedelta(hours=4))
    session = LiveSession(
        tenant=cast.tenant,
        device=cast.ada_camera,
        api_token=token,
        opened_at=now,
        cap_s=60,
        next_attempt_at=now + timedelta(seconds=62),
    )
    session.upstream_url = f"{ring.url}{sessions_path(cast)}/{session.public_id}"
    session.save()
    return session


def is_told(session: LiveSession) -> bool:
    return LiveSession.objects.filter(pk=session.pk, upstream_url="", next_attempt_at=None).exists()


def test_others_go_on_watching(cast: TenantCast, watching: Client, grant: Grant, ring: ScriptedServer):
    owner = Client()
    owner.force_login(cast.owner.user)
    ring.script("POST", sessions_path(cast), created(ring, cast, "s2"))
    assert watch(owner, cast).status_code == HTTPStatus.CREATED
    end_grant(grant, watching)

    assert watchers.end_unentitled(now=timezone.now()) == 1
    assert LiveSession.objects.open().get().viewer == cast.owner.user


def test_a_new_secret_key_cuts_nobody_off(watching: Client, ring: ScriptedServer, settings: LazySettings):
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another long and random one"
    assert watchers.end_unentitled(now=timezone.now()) == 0

    settings.SECRET_KEY_FALLBACKS = []  # the old key counts no longer
    assert watchers.end_unentitled(now=timezone.now()) == 1


def test_a_right_that_ends_is_noticed_well_within_five_seconds():
    from crontask import scheduler

    import media.tasks  # noqa: F401 - importing it is what puts the look on the schedule

    assert watchers.LOOK_EVERY_S <= 2
    assert "watchers" in {job.name for job in scheduler.get_jobs()}


# --- what is not granted -----------------------------------------------------------------------------------------


def grant_only(grant: Grant, *held: str) -> None:
    names = ("live", "clips", "events", "export", "manage")
    Grant.objects.filter(pk=grant.pk).update(**{name: name in held for name in names})


def test_who_may_not_watch_is_told_so_and_who_sees_nothing_is_told_nothing(
    cast: TenantCast, guest: Membership, grant: Grant
):
    client = Client()
    client.force_login(guest.user)
    grant_only(grant, "events", "clips", "export", "manage")

    refused = watch(client, cast)
    page = client.get(reverse("media:watch", args=["acme", cast.ada_camera.public_id]))
    assert refused.status_code == page.status_code == HTTPStatus.FORBIDDEN
    assert "not watch it live" in refused.json()["detail"]
    assert "not watch it live" in page.content.decode()
    assert not LiveSession.objects.exists()

    Grant.objects.update(until=timezone.now())
    assert watch(client, cast).status_code == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize(
    ("held", "answers"),
    [
        (("live",), {"page": 403, "video": 403, "download": 403, "delete": 403}),
        (("clips",), {"page": 200, "video": 200, "download": 403, "delete": 403}),
        (("clips", "export"), {"page": 200, "video": 200, "download": 200, "delete": 403}),
        (("clips", "manage"), {"page": 200, "video": 200, "download": 403, "delete": 200}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_a_clip_is_seen_taken_and_deleted_as_granted(
    ready_clip: Clip, guest: Membership, grant: Grant, held: tuple[str, ...], answers: dict[str, int]
):
    grant_only(grant, *held)
    client = Client()
    client.force_login(guest.user)
    args = ["acme", ready_clip.public_id]
    video = reverse("media:clip_video", args=args)

    statuses = {
        "page": client.get(reverse("media:clip", args=args)).status_code,
        "video": client.get(video).status_code,
        "download": client.get(video + "?download").status_code,
        "delete": client.get(reverse("media:delete_clip", args=args)).status_code,
    }
    assert statuses == answers
    if statuses["page"] == 200:
        text = client.get(reverse("media:clip", args=args)).content.decode()
        assert ("?download" in text) == (answers["download"] == 200)
        assert ("Delete…" in text) == (answers["delete"] == 200)


def test_the_api_honours_grants_too(ready_clip: Clip, guest: Membership, grant: Grant):
    client = Client()
    client.force_login(guest.user)
    path = f"/api/v1/clips/{ready_clip.public_id}"

    grant_only(grant, "events")
    assert client.get("/api/v1/clips").json()["data"] == []
    refused = client.get(path)
    assert refused.status_code == 403 and refused.json()["errors"][0]["code"] == "not_granted"

    grant_only(grant, "clips")
    document = client.get(path + "?include=device,device.account,event").json()
    assert document["data"]["relationships"]["event"]["data"] is None
    assert {row["type"] for row in document["included"]} == {"devices"}
    assert document["included"][0]["relationships"]["account"]["data"] is None
    assert client.delete(path).status_code == 403
    assert Clip.objects.filter(pk=ready_clip.pk).exists()
