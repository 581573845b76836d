from typing import Any

import pytest

from ring.client import RingClient, UpstreamSession
from ring.errors import (
    DeviceOffline,
    RingForbidden,
    RingNotFound,
    RingRateLimited,
    RingRejected,
    RingUnauthorized,
    RingUnavailable,
    SessionConflict,
    UnsafeRedirect,
)
from ring.tests.server import Reply, error_reply

DEVICE = "ava1.ring.device.AAA"
SESSIONS = f"/v1/devices/{DEVICE}/media/streaming/whep/sessions"
OFFER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\n"
ANSWER = "v=0\r\no=- 2 2 IN IP4 127.0.0.1\r\ns=-\r\n"


def created(location: str, body: str = ANSWER, status: int = 201) -> Reply:
    return Reply(status, body.encode(), {"Content-Type": "application/sdp", "Location": location})


def start(client: RingClient, **arguments: Any) -> UpstreamSession:
    return client.start_session(DEVICE, offer_sdp=OFFER, **arguments)


@pytest.mark.parametrize("is_absolute", [True, False])
def test_offer_in_answer_out(api, client, is_absolute):
    location = (api.url if is_absolute else "") + SESSIONS + "/s-1"
    api.script("POST", SESSIONS, created(location))
    session = start(client)
    assert session.answer_sdp == ANSWER
    assert session.url == f"{api.url}{SESSIONS}/s-1"
    (request,) = api.received
    assert request.body == OFFER.encode()
    assert request.headers["Content-Type"] == request.headers["Accept"] == "application/sdp"
    assert request.query == {}
    assert "v=0" not in repr(session)


def test_one_camera_of_several(api, client):
    api.script("POST", SESSIONS, created(f"{SESSIONS}/s-1"))
    assert start(client, component_id="1").url == f"{api.url}{SESSIONS}/s-1"
    assert api.received[0].query == {"component_id": ["1"]}


@pytest.mark.parametrize(
    "location",
    ["", "{other}{path}/s-1", "{path}", "/v1/users/me", "{path}/../../s-1", "{path}/s-1@{other}/x"],
)
def test_a_session_at_another_address_is_not_trusted(api, media_host, client, location):
    api.script("POST", SESSIONS, created(location.format(other=media_host.url, path=SESSIONS)))
    with pytest.raises(UnsafeRedirect):
        start(client)
    assert len(api.received) == 1
    assert media_host.received == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_offer_and_bearer_follow_no_redirect(api, media_host, client, status):
    api.script("POST", SESSIONS, created(media_host.url + SESSIONS, status=status))
    with pytest.raises(UnsafeRedirect):
        start(client)
    assert media_host.received == []


@pytest.mark.parametrize(
    ("reply", "error", "ambiguous"),
    [
        (error_reply(503, title="Device Unavailable"), DeviceOffline, False),
        (error_reply(500), RingUnavailable, True),
        (Reply(hang_up=True), RingUnavailable, True),
        (created(f"{SESSIONS}/s-1", status=200), RingUnavailable, True),
        (error_reply(403), RingForbidden, None),
        (error_reply(404), RingNotFound, None),
        (error_reply(401), RingUnauthorized, None),
        (error_reply(400), RingRejected, None),
        (error_reply(409, title="Conflict"), SessionConflict, None),
        (Reply(429, headers={"Retry-After": "1"}), RingRateLimited, None),
    ],
)
def test_a_session_is_asked_for_once(api, client, waits, reply, error, ambiguous):
    api.script("POST", SESSIONS, reply, created(f"{SESSIONS}/s-1"))
    with pytest.raises(error) as caught:
        start(client)
    assert type(caught.value) is error
    assert getattr(caught.value, "ambiguous", None) is ambiguous
    assert len(api.received) == 1
    assert waits == []


@pytest.mark.parametrize("end", [Reply(204), Reply(500)])
@pytest.mark.parametrize("body", ["", "<html>", "v"])
def test_a_session_without_an_answer_is_ended_at_once(api, make_client, body, end):
    api.script("POST", SESSIONS, created(f"{SESSIONS}/s-1", body))
    api.script("DELETE", f"{SESSIONS}/s-1", end)
    with pytest.raises(RingUnavailable) as caught:
        start(make_client(max_attempts=1))
    assert caught.value.status == 201
    assert [request.method for request in api.received] == ["POST", "DELETE"]


@pytest.mark.parametrize("reply", [Reply(200), Reply(202), Reply(204), error_reply(404)])
def test_ended_or_gone_is_the_same(api, client, reply):
    api.script("DELETE", f"{SESSIONS}/s-1", reply)
    client.end_session(f"{api.url}{SESSIONS}/s-1")
    assert api.received[0].headers["Authorization"] == "Bearer AT-1"


def test_ending_is_repeated_until_it_is_done(api, make_client, waits):
    api.script("DELETE", f"{SESSIONS}/s-1", Reply(hang_up=True), error_reply(401), error_reply(404))
    make_client(refresh=lambda: "AT-2").end_session(f"{api.url}{SESSIONS}/s-1")
    assert len(api.received) == 3
    assert len(waits) == 1


def test_the_bearer_goes_to_no_other_address(api, media_host, client):
    for url in (f"{media_host.url}{SESSIONS}/s-1", f"{api.url}/v1/users/me", f"{api.url}{SESSIONS}", ""):
        with pytest.raises(UnsafeRedirect):
            client.end_session(url)
    assert api.received == media_host.received == []
