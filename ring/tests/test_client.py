from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from ring.client import LONGEST_WAIT_S, RingClient
from ring.errors import (
    DeviceOffline,
    InvalidNonce,
    MalformedDocument,
    RefreshRejected,
    RingError,
    RingForbidden,
    RingNotFound,
    RingRateLimited,
    RingRejected,
    RingUnauthorized,
    RingUnavailable,
    TimeRangeNotAuthorized,
    UnsafeRedirect,
)
from ring.tests.bodies import load
from ring.tests.server import Reply, error_reply, json_reply

ME = "/v1/users/me"
INTEGRATION = "/v1/accounts/me/app-integrations"
SUBSCRIPTIONS = "/v1/accounts/me/subscriptions"
DEVICE = "ava1.ring.device.AAA"
HISTORY = f"/v1/history/devices/{DEVICE}/events"
USER = {"data": {"type": "users", "id": "ava1.ring.account.AAA", "attributes": {"email": "ada@example.com"}}}
UNAUTHORIZED = error_reply(401, title="Invalid Client")


def device(key: str) -> dict[str, object]:
    return {"type": "devices", "id": f"ava1.ring.device.{key}", "attributes": {"name": key}}


# --- every call ---------------------------------------------------------------------------------------------


def test_every_call_carries_bearer_and_product_name(api, client, config):
    api.script("GET", ME, json_reply(USER))
    assert client.me().account_id == "ava1.ring.account.AAA"
    (request,) = api.received
    assert request.headers["Authorization"] == "Bearer AT-1"
    assert request.headers["User-Agent"] == config.user_agent
    assert "application/vnd.api+json" in request.headers["Accept"]


def test_environment_credentials_and_proxies_are_not_used(api, client, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    api.script("GET", ME, json_reply(USER))
    client.me()
    assert api.received[0].headers["Authorization"] == "Bearer AT-1"


def test_cookies_are_not_kept(api, client):
    api.script("GET", ME, json_reply(USER, Set_Cookie="session=1"), json_reply(USER))
    client.me()
    client.me()
    assert api.received[1].headers["Cookie"] is None


def test_expired_token_is_refreshed_once_and_kept(api, make_client, refresher):
    api.script("GET", ME, UNAUTHORIZED, json_reply(USER), json_reply(USER))
    client = make_client(refresh=refresher)
    client.me()
    client.me()
    assert refresher.calls == 1
    assert [r.headers["Authorization"] for r in api.received] == ["Bearer AT-1", "Bearer AT-2", "Bearer AT-2"]


def test_401_after_the_refresh_means_link_again(api, make_client):
    api.script("GET", ME, UNAUTHORIZED, UNAUTHORIZED, json_reply(USER))
    with pytest.raises(RingUnauthorized):
        make_client(refresh=lambda: "AT-2").me()
    assert len(api.received) == 2


def test_401_without_a_way_to_refresh(api, client):
    api.script("GET", ME, UNAUTHORIZED)
    with pytest.raises(RingUnauthorized):
        client.me()


def test_403_is_a_token_signal_on_users_me_only(api, make_client, refresher):
    api.script("GET", ME, error_reply(403, title="Forbidden"), json_reply(USER))
    api.script("GET", f"/v1/devices/{DEVICE}/status", error_reply(403, title="Forbidden"))
    client = make_client(refresh=refresher)
    client.me()
    with pytest.raises(RingForbidden):
        client.get_status(DEVICE)
    assert refresher.calls == 1


def test_403_of_users_me_that_stays_is_not_a_dead_link(api, make_client):
    """A CDN's or a scope's 403 must not make a person link again (contract 1.2, 6)."""
    api.script("GET", ME, Reply(403, b"error code: 1010"), Reply(403, b"error code: 1010"))
    with pytest.raises(RingForbidden):
        make_client(refresh=lambda: "AT-2").me()


def test_what_the_refresh_raises_passes_through(api, make_client):
    def refuse() -> str:
        raise RefreshRejected("dead")

    api.script("GET", ME, UNAUTHORIZED)
    with pytest.raises(RefreshRejected):
        make_client(refresh=refuse).me()


def test_a_post_is_repeated_after_401_for_it_was_not_carried_out(api, make_client):
    api.script("POST", INTEGRATION, UNAUTHORIZED, json_reply({"status": "awaiting"}))
    assert (
        make_client(refresh=lambda: "AT-2").confirm_integration(nonce="N", account_identifier=None)
        == "awaiting"
    )


@pytest.mark.parametrize("token", ["", "two words", "a\r\nX-Other: 1", "ä"])
def test_a_token_that_would_break_the_header_is_refused(config, token):
    with pytest.raises(ValueError, match="access token") as caught:
        RingClient(config, token)
    assert not token or token not in str(caught.value)


def test_the_limiter_is_asked_before_every_request(api, make_client):
    asked = []
    api.script("GET", ME, Reply(500), UNAUTHORIZED, json_reply(USER))
    client = make_client(limiter=lambda: asked.append(len(api.received)), refresh=lambda: "AT-2")
    client.me()
    assert asked == [0, 1, 2]


@pytest.mark.parametrize(
    "fault",
    [Reply(500), Reply(502, b"<html>"), Reply(504), Reply(hang_up=True), Reply(200, b"{", cut_bytes=9)],
)
def test_a_read_is_repeated_with_growing_pauses(api, client, waits, fault):
    api.script("GET", ME, fault, fault, json_reply(USER))
    client.me()
    assert len(api.received) == 3
    assert 0.5 <= waits[0] <= 1
    assert 1 <= waits[1] <= 2


def test_a_read_is_made_three_times_at_most(api, client, waits):
    api.script("GET", ME, *[Reply(503, headers={"X-Request-ID": "req-1"})] * 4)
    with pytest.raises(RingUnavailable) as caught:
        client.me()
    assert len(api.received) == 3
    assert len(waits) == 2
    assert (caught.value.status, caught.value.request_id) == (503, "req-1")


def test_retry_after_is_kept_up_to_the_longest_wait(api, client, waits):
    api.script("GET", ME, Reply(429, headers={"Retry-After": "7"}), json_reply(USER))
    client.me()
    assert waits == [7]
    api.script("GET", ME, Reply(429, headers={"Retry-After": "60"}), json_reply(USER))
    with pytest.raises(RingRateLimited) as caught:
        client.me()
    assert caught.value.retry_after_s == 60 > LONGEST_WAIT_S
    assert waits == [7]


@pytest.mark.parametrize(
    "value", ["", "soon", "-1", "1e9", "99999999999", "²", "Mon, 99 Foo 2026 00:00:00 GMT"]
)
def test_an_odd_retry_after_is_no_wait_of_ours(api, client, waits, value):
    api.script("GET", ME, Reply(429, headers={"Retry-After": value}), json_reply(USER))
    client.me()
    assert 0.5 <= waits[0] <= 1


def test_retry_after_may_be_a_date(api, client, waits):
    api.script(
        "GET", ME, Reply(429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}), json_reply(USER)
    )
    client.me()
    assert waits == [0]


def test_a_slow_answer_ends_at_the_total_limit(api, make_client):
    """Each byte comes in time, the answer as a whole does not."""
    api.script("GET", ME, Reply(200, b" " * 1000, drip=0.02))
    with pytest.raises(RingUnavailable, match="too slow"):
        make_client(answer_timeout_s=0.1, max_attempts=1).me()


def test_an_endless_answer_is_cut(api, make_client):
    api.script("GET", ME, Reply(200, b" " * (8 * 1024 * 1024 + 1)))
    with pytest.raises(RingUnavailable, match="too long"):
        make_client(max_attempts=1).me()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_api_redirects_are_not_followed(api, media_host, make_client, status):
    api.script("GET", ME, Reply(status, headers={"Location": media_host.url + ME}))
    with pytest.raises(UnsafeRedirect):
        make_client(refresh=lambda: "AT-2").me()
    assert media_host.received == []


@pytest.mark.parametrize("location", ["https://[bad", "//", "\\\\x", "http://127.0.0.1:1/"])
def test_an_unreadable_redirect_is_still_a_ring_error(api, client, location):
    api.script("GET", ME, Reply(302, headers={"Location": location}))
    with pytest.raises(UnsafeRedirect):
        client.me()


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (error_reply(400, title="Bad Request"), RingRejected),
        (error_reply(403, title="Out of Scope Access"), RingForbidden),
        (error_reply(403, code="TIME_RANGE_NOT_AUTHORIZED"), TimeRangeNotAuthorized),
        (error_reply(404, title="Not Found"), RingNotFound),
        (Reply(404, b"<html>"), RingNotFound),
        (Reply(409), RingRejected),
        (Reply(415), RingRejected),
        (error_reply(422, title="Unprocessable Entity"), RingRejected),
        (error_reply(503, title="Device Unavailable"), DeviceOffline),
    ],
)
def test_refusals_are_named_and_not_repeated(api, client, waits, reply, error):
    api.script("GET", f"/v1/devices/{DEVICE}/status", reply)
    with pytest.raises(error) as caught:
        client.get_status(DEVICE)
    assert type(caught.value) is error
    assert waits == []
    assert "secret-detail" not in str(caught.value)
    assert DEVICE not in str(caught.value)


@pytest.mark.parametrize(
    "body", [b"<html>", b"", b"[]", b"null", b'{"data":[]}', b'{"data":{"type":"users"}}']
)
def test_an_unreadable_answer_is_unavailable(api, client, body):
    api.script("GET", ME, Reply(200, body))
    with pytest.raises(MalformedDocument):
        client.me()


def test_nobody_listens(make_client, waits):
    with pytest.raises(RingUnavailable) as caught:
        make_client(api_url="http://127.0.0.1:1").me()
    assert not caught.value.ambiguous
    assert len(waits) == 2


# --- the link (contract 2.8, 2.9) ----------------------------------------------------------------------------


NESTED = {
    "data": {"type": "app-integrations", "id": "ava1.ring.client.AAA", "attributes": {"status": "awaiting"}}
}


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (json_reply({"status": "awaiting"}), "awaiting"),
        (json_reply(NESTED), "awaiting"),
        (Reply(200), None),
        (Reply(204), None),
        (Reply(200, b"<html>"), None),
    ],
)
def test_confirm_reads_both_shapes_and_believes_any_2xx(api, client, reply, status):
    api.script("POST", INTEGRATION, reply)
    assert client.confirm_integration(nonce="N-1", account_identifier="u***r@example.com") == status
    assert api.received[0].json == {"nonce": "N-1", "account_identifier": "u***r@example.com"}
    assert api.received[0].headers["Content-Type"] == "application/json"


def test_confirm_without_an_identifier_sends_none(api, client):
    api.script("POST", INTEGRATION, json_reply(NESTED))
    client.confirm_integration(nonce="N-1", account_identifier=None)
    assert api.received[0].json == {"nonce": "N-1"}


@pytest.mark.parametrize(
    "fault", [Reply(500), Reply(503), Reply(hang_up=True), Reply(429, headers={"Retry-After": "1"})]
)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_changes_are_never_repeated_by_themselves(api, client, waits, fault, method):
    api.script(method, INTEGRATION, fault, json_reply(NESTED))
    with pytest.raises((RingUnavailable, RingRateLimited)) as caught:
        if method == "POST":
            client.confirm_integration(nonce="N-1", account_identifier=None)
        else:
            client.update_integration(status="completed")
    assert len(api.received) == 1
    assert waits == []
    assert getattr(caught.value, "ambiguous", True)


def test_invalid_nonce_is_told_apart(api, client):
    api.script(
        "POST",
        INTEGRATION,
        error_reply(400, title="Invalid Nonce"),
        error_reply(400, title="Missing Required Fields"),
    )
    with pytest.raises(InvalidNonce) as caught:
        client.confirm_integration(nonce="N-secret", account_identifier=None)
    assert caught.value.title == "Invalid Nonce"
    assert "N-secret" not in str(caught.value)
    with pytest.raises(RingRejected) as other:
        client.confirm_integration(nonce="N-secret", account_identifier=None)
    assert type(other.value) is RingRejected
    assert other.value.title == "Missing Required Fields"


def test_a_title_that_is_not_plain_words_is_dropped(api, client):
    api.script(
        "POST", INTEGRATION, error_reply(400, title="Bad nonce 0oi_utg32-sX0YLYO4aKs7n832FoNB4w6RmeODc57vQ")
    )
    with pytest.raises(RingRejected) as caught:
        client.confirm_integration(nonce="N", account_identifier=None)
    assert caught.value.title == caught.value.code == ""


def test_update_sends_what_it_is_given(api, client):
    api.script(
        "PATCH", INTEGRATION, json_reply({"status": "completed", "updated_at": "2026-02-03T00:35:00Z"})
    )
    assert client.update_integration(status="completed") == "completed"
    assert api.received[0].json == {"status": "completed"}
    with pytest.raises(ValueError, match="status"):
        client.update_integration()


# --- devices -------------------------------------------------------------------------------------------------


def test_devices_include_all_four_related_resources(api, client):
    api.script("GET", "/v1/devices", json_reply(load("devices.json")))
    devices = list(client.iter_devices())
    assert [found.name for found in devices][:2] == ["Front Door", "Hall"]
    assert api.received[0].query == {"include": ["status,capabilities,location,configurations"]}


def test_devices_over_pages_each_once(api, client):
    api.script(
        "GET",
        "/v1/devices",
        json_reply({"data": [device("A")], "links": {"next": "/v1/devices?page=2&include=status"}}),
        json_reply(
            {"data": [device("A"), device("B")], "links": {"next": {"href": f"{api.url}/v1/devices?page=3"}}}
        ),
        json_reply({"data": [device("C")], "links": {"next": None}}),
    )
    assert [found.name for found in client.iter_devices()] == ["A", "B", "C"]
    assert api.received[1].query == {"page": ["2"], "include": ["status"]}
    assert api.received[2].query == {"page": ["3"]}


def test_the_bearer_does_not_follow_a_link_to_another_origin(api, media_host, client):
    api.script(
        "GET",
        "/v1/devices",
        json_reply({"data": [device("A")], "links": {"next": f"{media_host.url}/v1/devices"}}),
    )
    with pytest.raises(UnsafeRedirect):
        list(client.iter_devices())
    assert media_host.received == []


def test_a_list_of_devices_is_whole_or_an_error(api, client):
    """Half a list taken for the whole would look like devices removed."""
    again = json_reply({"data": [device("A")], "links": {"next": "/v1/devices?page=2"}})
    api.script("GET", "/v1/devices", again, again, again)
    with pytest.raises(MalformedDocument, match="do not end"):
        list(client.iter_devices())
    assert len(api.received) == 2


def test_pages_without_an_end_are_bounded(api, client):
    for page in range(60):
        api.script(
            "GET",
            "/v1/devices",
            json_reply({"data": [device(f"D{page}")], "links": {"next": f"/v1/devices?page={page}"}}),
        )
    with pytest.raises(MalformedDocument, match="do not end"):
        list(client.iter_devices())
    assert len(api.received) == 50


def test_an_empty_home(api, client):
    api.script("GET", "/v1/devices", json_reply({"data": [], "links": {"next": "/v1/devices?page=2"}}))
    assert list(client.iter_devices()) == []


def test_one_device(api, client):
    api.script(
        "GET",
        f"/v1/devices/{DEVICE}",
        json_reply({"data": device("AAA")}),
        json_reply({"data": device("BBB")}),
    )
    assert client.get_device(DEVICE).name == "AAA"
    with pytest.raises(MalformedDocument, match="another device"):
        client.get_device(DEVICE)


def test_an_id_stays_one_segment_on_the_wire(api, client):
    odd = "a/../b?c#d%2F"
    path = f"/v1/devices/{quote(odd, safe='')}/status"
    api.script(
        "GET",
        path,
        json_reply({"data": {"type": "device-status", "id": "S", "attributes": {"online": True}}}),
    )
    assert client.get_status(odd, component_id="1").online is True
    assert api.received[0].query == {"component_id": ["1"]}
    for dots in ("..", ".", ""):
        with pytest.raises(ValueError, match="id"):
            client.get_status(dots)


# --- history (contract 8) ------------------------------------------------------------------------------------


def history(*starts: int, next_link: str | None = None) -> Reply:
    entries = [
        {"type": "history-events", "id": f"E{start}", "attributes": {"event_type": "motion", "start": start}}
        for start in starts
    ]
    return json_reply({"data": entries} | ({"links": {"next": next_link}} if next_link else {}))


def at(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def test_history_follows_the_cursor_and_stops_on_an_empty_page(api, client):
    api.script(
        "GET",
        HISTORY,
        history(5000, 4000, next_link=f"{HISTORY}?event_types=ding&page%5Bkey%5D=4"),
        history(4000, 3000, next_link=f"{HISTORY}?event_types=ding&page%5Bkey%5D=3"),
        history(next_link=f"{HISTORY}?page%5Bkey%5D=2"),
    )
    events = list(client.iter_history(DEVICE, event_types=["ding", "motion.human"]))
    assert [event.started_at for event in events] == [at(5000), at(4000), at(3000)]
    assert api.received[0].query == {"event_types": ["ding,motion.human"]}
    assert api.received[1].query == {"event_types": ["ding"], "page[key]": ["4"]}
    assert len(api.received) == 3


def test_history_stops_before_a_time_and_reads_no_further(api, client):
    api.script("GET", HISTORY, history(5000, 4000, 3000, next_link=f"{HISTORY}?page%5Bkey%5D=3"))
    events = list(client.iter_history(DEVICE, stop_before=at(4000)))
    assert [event.started_at for event in events] == [at(5000), at(4000)]
    assert len(api.received) == 1


def test_history_stops_at_a_repeated_cursor_and_at_the_page_cap(api, client):
    api.script("GET", HISTORY, *[history(5000, next_link=f"{HISTORY}?page%5Bkey%5D=5")] * 3)
    assert len(list(client.iter_history(DEVICE))) == 1
    assert len(api.received) == 2
    api.script("GET", HISTORY, *[history(n, next_link=f"{HISTORY}?page%5Bkey%5D={n}") for n in (9, 8, 7)])
    assert len(list(client.iter_history(DEVICE, max_pages=2))) == 2


# --- subscriptions (contract 13) -----------------------------------------------------------------------------


def test_subscriptions(api, client):
    api.script("GET", SUBSCRIPTIONS, json_reply(load("subscriptions.json")))
    assert [found.is_active for found in client.iter_subscriptions()] == [True, False]


@pytest.mark.parametrize("status", [404, 422])
def test_no_subscription_information_is_no_fault(api, client, status):
    api.script("GET", SUBSCRIPTIONS, error_reply(status))
    assert list(client.iter_subscriptions()) == []


@pytest.mark.parametrize(("status", "error"), [(400, RingRejected), (403, RingForbidden)])
def test_other_subscription_errors_are_errors(api, client, status, error):
    api.script("GET", SUBSCRIPTIONS, error_reply(status))
    with pytest.raises(error):
        list(client.iter_subscriptions())


# --- chimes (contract 12) ------------------------------------------------------------------------------------


def test_a_chime_plays_one_of_its_slots(api, client):
    path = f"/v1/devices/{DEVICE}/media/audio/playback"
    answer = {"data": {"type": "audio", "id": "tone-1", "attributes": {"status": "completed"}}}
    api.script("POST", path, json_reply(answer), Reply(204), Reply(500))
    assert client.play_chime(DEVICE, "tone-1") == "completed"
    assert api.received[0].json == {"data": {"type": "audio", "attributes": {"audio_ref": "tone-1"}}}
    assert client.play_chime(DEVICE, "tone-1") == ""
    with pytest.raises(RingUnavailable):
        client.play_chime(DEVICE, "tone-1")
    assert len(api.received) == 3


def test_the_tree_of_errors_is_what_callers_rely_on():
    assert all(
        issubclass(kind, RingError)
        for kind in (
            RingUnauthorized,
            RingForbidden,
            RingNotFound,
            RingRejected,
            RingRateLimited,
            UnsafeRedirect,
        )
    )
    assert issubclass(MalformedDocument, RingUnavailable)
