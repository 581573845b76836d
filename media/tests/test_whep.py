"""Our WHEP endpoint, against a Ring that is scripted over real sockets."""

import json
from datetime import timedelta
from http import HTTPStatus

from django.conf import LazySettings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest

from accounts.models import ApiToken, AuditEntry, Membership, RingAccount
from accounts.services import client_for, unlink_account
from accounts.unlinking import disconnect
from devices.services import record_connectivity, remove_device
from media import live
from media.models import LiveSession
from media.tests.conftest import ANSWER, OFFER, created, sessions_path, sweep
from ring.tests.server import Reply, ScriptedServer, error_reply, json_reply
from tests.support.cast import TenantCast, make_cast

SDP = "application/sdp"
INTEGRATION = "/v1/accounts/me/app-integrations"


def client_of(membership: Membership, *, csrf: bool = False) -> Client:
    client = Client(enforce_csrf_checks=csrf)
    client.force_login(membership.user)
    return client


def whep(cast: TenantCast) -> str:
    return reverse("media:whep", args=[cast.tenant.slug, cast.ada_camera.public_id])


def watch(
    client: Client,
    cast: TenantCast,
    offer: str | bytes = OFFER,
    content_type: str = SDP,
    query: str = "",
    **headers: str,
):
    return client.post(whep(cast) + query, offer, content_type=content_type, headers=headers)


def test_an_offer_is_answered_by_ring_and_the_browser_sees_neither_token_nor_address(
    cast: TenantCast, ring: ScriptedServer, settings: LazySettings
) -> None:
    settings.ICE_SERVERS = ("stun:stun.example:3478",)
    ring.script("POST", sessions_path(cast), created(ring, cast))

    response = watch(client_of(cast.ada), cast)

    session = LiveSession.objects.get()
    assert response.status_code == HTTPStatus.CREATED
    assert response.content.decode() == ANSWER
    assert response["Content-Type"] == SDP
    assert response["Location"] == f"{whep(cast)}/{session.public_id}"
    assert response["ETag"].startswith('"') and response["Accept-Patch"] == "application/trickle-ice-sdpfrag"
    assert response["Link"] == '<stun:stun.example:3478>; rel="ice-server"'
    assert response["Session-Cap"] == "60"
    assert ring.received[0].headers["Authorization"] == f"Bearer {cast.ada_account.access_token}"
    assert ring.received[0].body.decode() == OFFER
    seen = str(dict(response.items())) + response.content.decode()
    assert cast.ada_account.access_token not in seen
    assert ring.url not in seen
    assert session.upstream_url.endswith("/s1")
    entry = AuditEntry.objects.get(action="live.started")
    assert entry.actor == cast.ada.user
    assert entry.subject == f"device {cast.ada_camera.public_id}"


def test_the_lease_is_there_before_ring_is_asked(cast: TenantCast, ring: ScriptedServer) -> None:
    """A process that dies while Ring answers leaves a row the sweep ends."""
    ring.script("POST", sessions_path(cast), Reply(hang_up=True))

    response = watch(client_of(cast.ada), cast)

    assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    session = LiveSession.objects.get()
    assert session.end_reason == LiveSession.EndReason.FAILED


@pytest.mark.django_db(transaction=True)
def test_a_row_whose_opener_died_is_ended_by_the_sweep(cast: TenantCast) -> None:
    now = timezone.now()
    LiveSession.objects.create(
        tenant=cast.tenant,
        device=cast.ada_camera,
        viewer=cast.ada.user,
        opened_at=now - timedelta(seconds=70),
        cap_s=60,
        next_attempt_at=now - timedelta(seconds=10),
    )

    sweep()

    session = LiveSession.objects.get()
    assert session.end_reason == LiveSession.EndReason.LOST
    assert session.next_attempt_at is None


def test_delete_ends_the_session_at_ring_once_however_often(cast: TenantCast, ring: ScriptedServer) -> None:
    ring.script("POST", sessions_path(cast), created(ring, cast))
    ring.script("DELETE", f"{sessions_path(cast)}/s1", Reply(204))
    client = client_of(cast.ada)
    url = watch(client, cast)["Location"]

    assert client.head(url).status_code == HTTPStatus.OK
    assert client.delete(url, headers={"If-Match": '"whatever"'}).status_code == HTTPStatus.OK
    after = client.head(url)
    assert (after.status_code, after["Session-End"]) == (HTTPStatus.NOT_FOUND, "closed")
    assert client.delete(url).status_code == HTTPStatus.OK
    assert client.post(url).status_code == HTTPStatus.OK

    assert [request.method for request in ring.received] == ["POST", "DELETE"]
    session = LiveSession.objects.get()
    assert (session.upstream_url, session.next_attempt_at) == ("", None)
    assert AuditEntry.objects.get(action="live.ended").detail["reason"] == "closed"


def test_a_beacon_ends_the_session_too(cast: TenantCast, ring: ScriptedServer) -> None:
    ring.script("POST", sessions_path(cast), created(ring, cast))
    ring.script("DELETE", f"{sessions_path(cast)}/s1", Reply(204))
    client = client_of(cast.ada)

    assert client.post(watch(client, cast)["Location"]).status_code == HTTPStatus.OK
    assert ring.received[-1].method == "DELETE"


def test_a_session_goes_by_the_name_that_its_viewer_gave_it(cast: TenantCast, ring: ScriptedServer) -> None:
    """So that who leaves before the answer is there can end it; a name counts among one's own sessions only."""
    ring.script("POST", sessions_path(cast), *(created(ring, cast, session) for session in ("s1", "s2")))
    ring.script("DELETE", f"{sessions_path(cast)}/s2", Reply(204))
    ada, owner = client_of(cast.ada), client_of(cast.owner)
    name = "0190a0de-7c4d-7c4e-8000-3d2e6a5b9c01"
    for client in (ada, owner):
        answer = watch(client, cast, query="?path=direct", **{"Session-Name": name})
        assert answer.status_code == HTTPStatus.CREATED

    assert owner.delete(f"{whep(cast)}/{name}").status_code == HTTPStatus.OK

    assert [session.viewer for session in LiveSession.objects.open()] == [cast.ada.user]
    assert client_of(cast.ben).delete(f"{whep(cast)}/{name}").status_code == HTTPStatus.NOT_FOUND
    refused = watch(ada, cast, **{"Session-Name": "mine"})
    assert (refused.status_code, refused.json()["reason"]) == (HTTPStatus.BAD_REQUEST, "session_name")


@pytest.mark.django_db(transaction=True)
def test_an_end_that_ring_did_not_hear_is_told_again(cast: TenantCast, ring: ScriptedServer) -> None:
    ring.script("POST", sessions_path(cast), created(ring, cast))
    ring.script("DELETE", f"{sessions_path(cast)}/s1", Reply(500), Reply(204))
    client = client_of(cast.ada)

    assert client.delete(watch(client, cast)["Location"]).status_code == HTTPStatus.OK
    session = LiveSession.objects.get()
    assert session.next_attempt_at is not None and session.last_error == "RingUnavailable"

    LiveSession.objects.update(next_attempt_at=timezone.now())
    sweep()

    assert LiveSession.objects.get().next_attempt_at is None
    assert [request.method for request in ring.received] == ["POST", "DELETE", "DELETE"]


@pytest.mark.django_db(transaction=True)
def test_the_cap_ends_the_row(cast: TenantCast, ring: ScriptedServer) -> None:
    ring.script("POST", sessions_path(cast), created(ring, cast))
    ring.script("DELETE", f"{sessions_path(cast)}/s1", Reply(404))
    watch(client_of(cast.ada), cast)
    session = LiveSession.objects.get()
    assert session.next_attempt_at is not None
    assert timedelta(seconds=55) < session.next_attempt_at - session.opened_at < timedelta(seconds=70)

    LiveSession.objects.update(next_attempt_at=timezone.now())
    sweep()

    session.refresh_from_db()
    assert session.end_reason == LiveSession.EndReason.CAP
    assert session.next_attempt_at is None


@pytest.mark.parametrize(
    ("reply", "status", "reason"),
    [
        (error_reply(503, title="Device Unavailable"), 503, "offline"),
        (error_reply(503, title="Service Unavailable"), 503, "unavailable"),
        (error_reply(500), 503, "unavailable"),
        (error_reply(429, Retry_After="17"), 503, "busy"),
        (error_reply(403, title="Out of Scope Access"), 403, "forbidden"),
        (error_reply(404, title="Not Found"), 404, "removed"),
        (error_reply(400, title="Bad Request"), 422, "rejected"),
        (error_reply(409, title="Conflict"), 409, "in_use"),
        (Reply(201, b"no sdp", {"Location": "/v1/elsewhere"}), 503, "unavailable"),
        (Reply(302, b"", {"Location": "http://127.0.0.1:9/"}), 503, "unavailable"),
    ],
)
def test_each_refusal_of_ring_is_told_in_words_with_its_reason(
    cast: TenantCast, ring: ScriptedServer, reply: Reply, status: int, reason: str
) -> None:
    ring.script("POST", sessions_path(cast), reply)

    response = watch(client_of(cast.ada), cast)

    body = json.loads(response.content)
    assert (response.status_code, body["reason"]) == (status, reason)
    assert response["Content-Type"] == "application/problem+json"
    assert body["detail"].endswith(".") and "secret-detail" not in body["detail"]
    pauses = {"offline": "30", "unavailable": "5", "busy": "17", "in_use": "5"}
    assert response.headers.get("Retry-After") == pauses.get(reason)
    assert LiveSession.objects.get().end_reason == LiveSession.EndReason.FAILED
    assert not AuditEntry.objects.filter(action__startswith="live.").exists()


def test_an_account_that_is_not_linked_is_told_to_link_again(cast: TenantCast, ring: ScriptedServer) -> None:
    RingAccount.objects.filter(pk=cast.ada_account.pk).update(state=RingAccount.State.RELINK_REQUIRED)

    response = watch(client_of(cast.ada), cast)

    assert (response.status_code, json.loads(response.content)["reason"]) == (
        HTTPStatus.CONFLICT,
        "link_again",
    )
    assert ring.received == []


@pytest.mark.parametrize(
    ("offer", "content_type", "status"),
    [
        (OFFER, "text/plain", 415),
        (OFFER, "application/json", 415),
        ("\r\n", SDP, 400),
        ("hello", SDP, 400),
        (b"v=0\r\n\xff\xfe", SDP, 400),
        ("v=0\r\nthis is not a line\r\n", SDP, 400),
        (OFFER.replace("a=recvonly", "a=sendrecv"), SDP, 422),
        (OFFER.replace("a=recvonly\r\n", ""), SDP, 422),
        (OFFER.replace("m=video", "m=audio"), SDP, 422),
        (OFFER.replace("a=ice-ufrag:abcd\r\n", ""), SDP, 422),
        (OFFER.replace("a=ice-pwd:0123456789012345678901\r\n", ""), SDP, 422),
        (OFFER + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=recvonly\r\n", SDP, 422),
        (OFFER + "a=x\r\n" * 20_000, SDP, 413),
    ],
)
def test_an_offer_ring_could_not_answer_never_reaches_it(
    cast: TenantCast, ring: ScriptedServer, offer: str | bytes, content_type: str, status: int
) -> None:
    response = watch(client_of(cast.ada), cast, offer, content_type)

    assert response.status_code == status
    assert json.loads(response.content)["detail"].endswith(".")
    assert ring.received == []
    assert not LiveSession.objects.exists()


def test_a_device_without_a_camera_is_422(cast: TenantCast, ring: ScriptedServer) -> None:
    cast.ada_camera.has_video = False
    cast.ada_camera.save()

    assert watch(client_of(cast.ada), cast).status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert ring.received == []


def test_methods_that_a_standard_player_may_try(cast: TenantCast, ring: ScriptedServer) -> None:
    client = client_of(cast.ada)

    assert client.get(whep(cast)).status_code == HTTPStatus.NO_CONTENT
    assert client.put(whep(cast)).status_code == HTTPStatus.METHOD_NOT_ALLOWED
    options = client.options(whep(cast))
    assert options.status_code == HTTPStatus.NO_CONTENT and options["Accept-Post"] == SDP
    head = client.head(whep(cast))
    assert (head.status_code, head["Content-Type"]) == (HTTPStatus.OK, SDP)


def test_patch_takes_the_end_of_candidates_and_nothing_ring_would_never_hear(
    cast: TenantCast, ring: ScriptedServer
) -> None:
    ring.script("POST", sessions_path(cast), created(ring, cast))
    client = client_of(cast.ada)
    opened = watch(client, cast)

    def patch(body: str, content_type: str = "application/trickle-ice-sdpfrag", **headers: str) -> int:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.patch(opened["Location"], body, content_type=content_type, headers=sent).status_code

    fragment = "a=ice-pwd:x\r\nm=video 9 RTP/AVP 0\r\na=mid:0\r\na=end-of-candidates\r\n"
    candidate = fragment.replace("a=end-of", "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=end-of")
    assert patch(fragment, If_Match=opened["ETag"]) == HTTPStatus.NO_CONTENT
    assert patch(fragment) == HTTPStatus.PRECONDITION_REQUIRED
    assert patch(fragment, If_Match='"other"') == HTTPStatus.PRECONDITION_FAILED
    assert patch(candidate, If_Match=opened["ETag"]) == HTTPStatus.UNPROCESSABLE_ENTITY
    assert patch(fragment, "text/plain", If_Match=opened["ETag"]) == HTTPStatus.UNSUPPORTED_MEDIA_TYPE


def test_who_may_watch(cast: TenantCast, ring: ScriptedServer) -> None:
    outsider = make_cast("globex")
    ring.script("POST", sessions_path(cast), *(created(ring, cast) for _ in range(3)))
    for membership, status in [
        (cast.ada, HTTPStatus.CREATED),
        (cast.operator, HTTPStatus.CREATED),
        (cast.owner, HTTPStatus.CREATED),
        (cast.ben, HTTPStatus.NOT_FOUND),
        (outsider.owner, HTTPStatus.NOT_FOUND),
    ]:
        assert watch(client_of(membership), cast, query="?path=direct").status_code == status, membership
    assert watch(Client(), cast).status_code == HTTPStatus.UNAUTHORIZED
    assert len(ring.received) == 3


def test_a_session_belongs_to_who_opened_it(cast: TenantCast, ring: ScriptedServer) -> None:
    ring.script("POST", sessions_path(cast), created(ring, cast))
    url = watch(client_of(cast.ada), cast)["Location"]

    for other in (cast.owner, cast.ben, make_cast("globex").owner):
        assert client_of(other).delete(url).status_code == HTTPStatus.NOT_FOUND
    assert LiveSession.objects.get().ended_at is None


def test_a_session_needs_the_csrf_header_and_a_token_does_not(cast: TenantCast, ring: ScriptedServer) -> None:
    ring.script("POST", sessions_path(cast), created(ring, cast), created(ring, cast))
    _, token = ApiToken.issue(tenant=cast.tenant, name="wall", scopes=["read"])
    browser = client_of(cast.ada, csrf=True)

    refused = watch(browser, cast)
    browser.get(reverse("media:watch", args=["acme", cast.ada_camera.public_id]))
    allowed = watch(browser, cast, X_CSRFToken=browser.cookies["csrftoken"].value)
    program = watch(
        Client(enforce_csrf_checks=True), cast, query="?path=direct", Authorization=f"Bearer {token}"
    )

    assert (refused.status_code, json.loads(refused.content)["reason"]) == (HTTPStatus.FORBIDDEN, "csrf")
    assert allowed.status_code == program.status_code == HTTPStatus.CREATED
    assert LiveSession.objects.filter(api_token__name="wall", viewer=None).count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("news", ["unlinked", "removed", "offline"])
def test_news_from_below_ends_open_sessions_at_once_and_behind_no_task(
    cast: TenantCast, ring: ScriptedServer, news: str
) -> None:
    ring.script("POST", sessions_path(cast), created(ring, cast))
    ring.script("DELETE", f"{sessions_path(cast)}/s1", Reply(204))
    client = client_of(cast.ada)
    url = watch(client, cast)["Location"]
    now = timezone.now()

    if news == "unlinked":
        unlink_account(account=cast.ada_account, now=now, reason="removed_in_ring")
    elif news == "removed":
        remove_device(device=cast.ada_camera, at=now)
    else:
        record_connectivity(device=cast.ada_camera, online=False, at=now)
    sweep()

    after = client.head(url)
    assert (after.status_code, after["Session-End"]) == (HTTPStatus.NOT_FOUND, news)
    assert LiveSession.objects.get().next_attempt_at is None
    # Ring took the tokens back, and ended the session itself.
    assert ("DELETE" in [request.method for request in ring.received]) == (news != "unlinked")


@pytest.mark.django_db(transaction=True)
def test_a_camera_taken_away_while_ring_answers_is_closed_again(
    cast: TenantCast, ring: ScriptedServer
) -> None:
    ring.script("DELETE", f"{sessions_path(cast)}/s1", Reply(204))
    now = timezone.now()
    session = LiveSession.objects.create(
        tenant=cast.tenant,
        device=cast.ada_camera,
        viewer=cast.ada.user,
        opened_at=now,
        cap_s=60,
        next_attempt_at=now,
    )
    live.end_sessions(LiveSession.objects.all(), reason=LiveSession.EndReason.REMOVED, now=now)

    with client_for(cast.ada_account) as opener, pytest.raises(live.LiveRefused) as refusal:
        live._complete(session, url=f"{ring.url}{sessions_path(cast)}/s1", client=opener)

    assert refusal.value.reason == "removed"
    assert [request.method for request in ring.received] == ["DELETE"]


@pytest.mark.django_db(transaction=True)
def test_disconnecting_ends_live_sessions_at_ring_before_it_says_goodbye(
    cast: TenantCast, ring: ScriptedServer
) -> None:
    """The tokens are destroyed first; the DELETE goes out all the same, with the one this process still knows."""
    ring.script("POST", sessions_path(cast), created(ring, cast))
    ring.script("DELETE", f"{sessions_path(cast)}/s1", Reply(204))
    ring.script("PATCH", INTEGRATION, json_reply({"data": {"attributes": {"status": "awaiting"}}}))
    client = client_of(cast.ada)
    url = watch(client, cast)["Location"]
    token = cast.ada_account.access_token

    disconnect(account=cast.ada_account, actor=cast.ada.user, now=timezone.now())

    assert [request.method for request in ring.received] == ["POST", "DELETE", "PATCH"]
    assert ring.received[1].headers["Authorization"] == f"Bearer {token}"
    assert RingAccount.objects.get(pk=cast.ada_account.pk).access_token == ""
    session = LiveSession.objects.get()
    assert (session.end_reason, session.upstream_url, session.next_attempt_at) == ("unlinked", "", None)
    sweep()
    assert len(ring.received) == 3  # nothing is left for the worker
    assert client.head(url)["Session-End"] == "unlinked"


@pytest.mark.django_db(transaction=True)
def test_disconnecting_while_ring_is_slow_tells_it_of_every_session(
    cast: TenantCast, ring: ScriptedServer
) -> None:
    """One after the other, the third would begin when its turn is over."""
    paths = [f"{sessions_path(cast)}/s{number}" for number in range(1, 5)]
    for number, path in enumerate(paths, start=1):
        ring.script("POST", sessions_path(cast), created(ring, cast, f"s{number}"))
        ring.script("DELETE", path, Reply(hold=True))
        assert watch(client_of(cast.ada), cast, query="?path=direct").status_code == HTTPStatus.CREATED

    disconnect(account=cast.ada_account, actor=cast.ada.user, now=timezone.now())

    assert sorted(request.path for request in ring.received if request.method == "DELETE") == paths
    assert {session.end_reason for session in LiveSession.objects.all()} == {"unlinked"}


@pytest.mark.django_db(transaction=True)
def test_deleting_a_person_ends_what_they_watch_at_ring(cast: TenantCast, ring: ScriptedServer) -> None:
    ring.script("POST", sessions_path(cast), created(ring, cast))
    ring.script("DELETE", f"{sessions_path(cast)}/s1", Reply(204))
    watch(client_of(cast.ada), cast)

    cast.ada.user.delete()

    assert [request.method for request in ring.received] == ["POST", "DELETE"]
    assert LiveSession.objects.get().next_attempt_at is None


@pytest.mark.django_db(transaction=True)
def test_a_goodbye_that_ring_does_not_hear_keeps_nobody_linked_and_lapses(
    cast: TenantCast, ring: ScriptedServer
) -> None:
    ring.script("POST", sessions_path(cast), created(ring, cast))
    ring.script("DELETE", f"{sessions_path(cast)}/s1", Reply(hang_up=True))
    ring.script("PATCH", INTEGRATION, Reply(hang_up=True))
    watch(client_of(cast.ada), cast)

    disconnect(account=cast.ada_account, actor=cast.ada.user, now=timezone.now())

    assert RingAccount.objects.get(pk=cast.ada_account.pk).state == RingAccount.State.UNLINKED
    session = LiveSession.objects.get()
    assert session.ended_at is not None and session.next_attempt_at is not None
    LiveSession.objects.update(next_attempt_at=timezone.now())
    sweep()
    session = LiveSession.objects.get()
    assert (session.upstream_url, session.next_attempt_at, session.last_error) == ("", None, "NotLinked")


@pytest.mark.django_db(transaction=True)
def test_a_session_that_opens_while_the_account_is_unlinked_is_closed_by_its_opener(
    cast: TenantCast, ring: ScriptedServer
) -> None:
    ring.script("DELETE", f"{sessions_path(cast)}/s1", Reply(204))
    now = timezone.now()
    session = LiveSession.objects.create(
        tenant=cast.tenant, device=cast.ada_camera, opened_at=now, cap_s=60, next_attempt_at=now
    )
    with client_for(cast.ada_account) as opener:
        unlink_account(account=cast.ada_account, now=now, reason="disconnected")
        with pytest.raises(live.LiveRefused) as refusal:
            live._complete(session, url=f"{ring.url}{sessions_path(cast)}/s1", client=opener)

    assert refusal.value.reason == "unlinked"
    assert [request.method for request in ring.received] == ["DELETE"]
    assert LiveSession.objects.get().next_attempt_at is None
