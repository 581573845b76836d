"""Where clients and tests usually go wrong: cursors, consent, components, tokens, orders that make no sense."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from sandbox.api import nonce
from tests.sandbox.partner import Partner, call, complete, device_id, link, linked_token
from tests.support.sandbox_process import SandboxProcess, app_for

INTEGRATIONS = "/v1/accounts/me/app-integrations"


def test_history_loses_nothing_that_happened_in_the_same_millisecond(
    sandbox: SandboxProcess, partner: Partner
) -> None:
    token = linked_token(sandbox, partner)
    camera = device_id(sandbox, token, "Driveway")
    now_ms = sandbox.control("GET", "/state")["now_ms"]
    order = {"device": "Driveway", "type": "motion_detected", "sub_type": "human"}
    sandbox.control("POST", "/events", {**order, "at_ms": now_ms + 5_000, "count": 70})
    sandbox.control("POST", "/events", {**order, "at_ms": now_ms + 1_000, "count": 50, "sub_type": "vehicle"})

    path, ids = f"/v1/history/devices/{camera}/events?event_types=motion.human,motion.vehicle", []
    while path:
        page = call(sandbox, "GET", path, token).json()
        ids += [row["id"] for row in page["data"]]
        path = page.get("links", {}).get("next", "")
        if path:
            query = parse_qs(urlsplit(path).query)
            assert query["event_types"] == ["motion.human,motion.vehicle"]
            assert query["page[key]"][0].endswith("Z")
    assert len(ids) == len(set(ids)) == 120

    refused = call(sandbox, "GET", f"/v1/history/devices/{camera}/events?page[key]=yesterday", token)
    assert refused.status_code == 400


@pytest.mark.parametrize("fault", ["stale", "future", "wrong_key", "padded", "swapped_account"])
def test_a_spoiled_nonce_is_not_what_the_key_gives_now(
    sandbox: SandboxProcess, partner: Partner, fault: str
) -> None:
    linked, tokens = link(sandbox, partner)
    url = sandbox.control("POST", "/sign-in", {"nonce_fault": fault})["redirect_url"]
    query = parse_qs(urlsplit(url).query)
    given, time_ms = query["nonce"][0], query["time"][0]
    right = nonce("acme-key", time_ms, linked["account_id"])
    if fault in {"stale", "future"}:
        assert given == right
        assert abs(int(time_ms) - sandbox.control("GET", "/state")["now_ms"]) >= 599_000
    else:
        assert given != right
    answer = call(sandbox, "POST", INTEGRATIONS, tokens["access_token"], json={"nonce": given})
    assert answer.json()["errors"][0]["title"] == "Invalid Nonce"


def test_signing_in_again_gives_a_new_nonce_until_the_link_is_completed(
    sandbox: SandboxProcess, partner: Partner
) -> None:
    first, tokens = link(sandbox, partner)
    sandbox.control("POST", "/clock", {"advance_s": 3_600})
    second = {"redirect_url": sandbox.control("POST", "/sign-in", {})["redirect_url"]}
    assert second["redirect_url"] != first["redirect_url"]
    complete(sandbox, second, tokens["access_token"])
    with pytest.raises(OSError, match="409"):
        sandbox.control("POST", "/sign-in", {})
    sandbox.control("POST", "/unlink", {})
    with pytest.raises(OSError, match="409"):
        sandbox.control("POST", "/unlink", {})


def test_finalizing_out_of_turn_or_with_nonsense_is_refused(
    sandbox: SandboxProcess, partner: Partner
) -> None:
    _, tokens = link(sandbox, partner)
    token = tokens["access_token"]

    def title(method: str, body: Any) -> str:
        answer = call(sandbox, method, INTEGRATIONS, token, json=body)
        assert answer.status_code == 400
        return str(answer.json()["errors"][0]["title"])

    assert title("PATCH", {"status": "completed"}) == "Invalid Status Transition"
    assert title("PATCH", {"status": ["completed"]}) == "Invalid Status Transition"
    assert title("PATCH", {}) == "Missing Required Fields"
    assert title("POST", {}) == "Missing Required Fields"
    assert title("POST", {"nonce": "ключ"}) == "Invalid Nonce"
    assert call(sandbox, "DELETE", INTEGRATIONS, token).status_code == 403


def test_a_playground_token_reads_and_nothing_else(sandbox: SandboxProcess, partner: Partner) -> None:
    linked_token(sandbox, partner)
    token = sandbox.control("POST", "/tokens", {"action": "issue_playground"})["access_token"]
    assert call(sandbox, "GET", "/v1/devices", token).status_code == 200
    assert call(sandbox, "PATCH", INTEGRATIONS, token, json={"status": "completed"}).status_code == 403
    assert call(sandbox, "GET", "/v1/accounts/me/subscriptions", token).status_code == 422
    sandbox.control("POST", "/clock", {"advance_s": 31 * 60})
    assert call(sandbox, "GET", "/v1/devices", token).status_code == 401


def test_clips_are_partial_missing_or_not_ready_as_the_recording_is(
    sandbox: SandboxProcess, partner: Partner
) -> None:
    token = linked_token(sandbox, partner)
    sandbox.control("POST", "/clock", {"advance_s": 120})
    now_ms = sandbox.control("GET", "/state")["now_ms"]

    def fetch(name: str, **body: Any) -> requests.Response:
        path = f"/v1/devices/{device_id(sandbox, token, name)}/media/video/download"
        answer = call(sandbox, "POST", path, token, json=body)
        if answer.status_code != 303:
            return answer
        return requests.get(answer.headers["Location"], timeout=60)

    def code(answer: requests.Response) -> tuple[int, str]:
        return answer.status_code, answer.json()["errors"][0]["code"]

    # A battery camera records around events only, from 5 s before.
    assert code(fetch("Garden", timestamp=now_ms - 30_000, duration=1_000)) == (416, "TIMESTAMP_NOT_FOUND")
    at_ms = now_ms - 30_000
    sandbox.control("POST", "/events", {"device": "Garden", "type": "motion_detected", "at_ms": at_ms})
    small = {"resolution": {"width": 320, "height": 180}, "frame_rate": 5}
    partial = fetch("Garden", timestamp=at_ms - 7_000, duration=4_000, video_options=small)
    assert partial.status_code == 206
    assert partial.headers["X-Media-Timestamp"] == str(at_ms - 5_000)
    assert partial.headers["X-Media-Length"] == partial.headers["X-Media-Duration"] == "2000"

    just_now = sandbox.control("GET", "/state")["now_ms"]
    early = fetch("Driveway", timestamp=just_now - 100, duration=5_000)
    assert code(early) == (425, "RECORDING_NOT_READY")

    # The two-camera device wants to be told which; the others have nothing to choose.
    assert code(fetch("Back Yard", timestamp=at_ms, duration=1_000)) == (400, "INVALID_PAYLOAD")
    one = fetch(
        "Back Yard", timestamp=at_ms, duration=1_000, components=[{"component_id": "1"}], video_options=small
    )
    assert one.status_code == 200
    assert code(fetch("Hallway Chime", timestamp=at_ms, duration=1_000)) == (400, "INVALID_PAYLOAD")
    assert code(fetch("Driveway", timestamp=at_ms, duration=900_001)) == (400, "INVALID_PAYLOAD")
    assert code(fetch("Driveway", timestamp=at_ms, duration=True)) == (400, "INVALID_PAYLOAD")

    sandbox.control("POST", "/knobs", {"media_force": "direct200"})
    path = f"/v1/devices/{device_id(sandbox, token, 'Driveway')}/media/video/download"
    direct = call(
        sandbox, "POST", path, token, json={"timestamp": at_ms, "duration": 1_000, "video_options": small}
    )
    assert (direct.status_code, direct.headers["Content-Type"]) == (200, "video/mp4")
    assert direct.content[4:8] == b"ftyp"
    sandbox.control("POST", "/knobs", {"media_force": "422"})
    assert code(fetch("Driveway", timestamp=at_ms, duration=1_000)) == (422, "CORRUPT_RECORDING")

    # Using footage is itself history, as one entry, and marks the event as reviewed.
    events = f"/v1/history/devices/{device_id(sandbox, token, 'Garden')}/events"
    rows = [row["attributes"] for row in call(sandbox, "GET", events, token).json()["data"]]
    assert [row["event_type"] for row in rows] == ["on_demand", "motion"]
    motion = rows[1]
    assert not motion["is_third_party_reviewed"]  # the two seconds fetched end before the event begins


def test_a_signed_address_runs_out(sandbox: SandboxProcess, partner: Partner) -> None:
    token = linked_token(sandbox, partner)
    path = f"/v1/devices/{device_id(sandbox, token, 'Driveway')}/media/image/download"
    now_ms = sandbox.control("GET", "/state")["now_ms"]
    body = {"type": "at_timestamp", "timestamp": now_ms, "image_options": {"format": "png"}}
    address = call(sandbox, "POST", path, token, json=body).headers["Location"]
    with_cookie = requests.get(address, cookies={"session": "1"}, timeout=10)
    assert with_cookie.status_code == 400
    picture = requests.get(address, timeout=30)
    assert picture.content.startswith(b"\x89PNG")
    sandbox.control("POST", "/clock", {"advance_s": 61})
    assert requests.get(address, timeout=10).status_code == 403


def test_a_removed_device_is_gone_everywhere_and_may_come_back(
    sandbox: SandboxProcess, partner: Partner
) -> None:
    token = linked_token(sandbox, partner)
    door = device_id(sandbox, token, "Front Door")
    sandbox.control("PATCH", "/devices", {"device": door, "removed": True})
    for path in ("", "/status", "/capabilities", "/configurations", "/location"):
        assert call(sandbox, "GET", f"/v1/devices/{door}{path}", token).status_code == 404
    sandbox.control("PATCH", "/devices", {"device": "Front Door", "removed": False})
    assert device_id(sandbox, token, "Front Door") == door


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/link", {"devices": ["No Such Device"]}),
        ("POST", "/link", {"encoding": "xml"}),
        ("POST", "/link", {"devices": 3}),
        ("POST", "/link", []),
        ("POST", "/apps", {"client_id": "x"}),
        ("POST", "/apps", {**app_for("evil", "http://partner.example")}),
        ("POST", "/apps", {**app_for("evil", "http://127.0.0.1:port")}),
        ("POST", "/faults", {"route": "user.me", "kind": "status"}),
        ("POST", "/faults", {"route": "users.me", "kind": "tiemout"}),
        ("POST", "/faults", {"route": "users.me", "kind": "status", "status": "500"}),
        ("POST", "/faults", {"kind": "status"}),
        ("POST", "/knobs", {"media_force": "418"}),
        ("POST", "/knobs", {"no_such_knob": True}),
        ("POST", "/clock", {}),
        ("POST", "/clock", {"advance_s": 1e300}),
        ("POST", "/events", {"device": "Front Door"}),
        ("POST", "/events", {"device": "Front Door", "type": "button_press", "count": 0}),
        ("POST", "/events", {"device": "Front Door", "type": "button_press", "at_ms": 1e30}),
        ("POST", "/tokens", {"action": "steal"}),
        ("PATCH", "/devices", {"device": "Front Door", "online": "no"}),
        ("PATCH", "/devices", {"device": "Front Door", "has_video": False}),
        ("PATCH", "/devices", {"online": False}),
    ],
)
def test_an_order_that_makes_no_sense_is_named_and_changes_nothing(
    sandbox: SandboxProcess, partner: Partner, method: str, path: str, body: Any
) -> None:
    sandbox.control("POST", "/link", {})
    before = sandbox.control("GET", "/state")
    answer = requests.request(method, f"{sandbox.url}/control{path}", json=body, timeout=10)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["errors"][0]["detail"]
    after = sandbox.control("GET", "/state")
    before.pop("now_ms"), after.pop("now_ms")
    assert after == before


def test_a_fault_strikes_as_often_as_ordered(sandbox: SandboxProcess, partner: Partner) -> None:
    token = linked_token(sandbox, partner)
    sandbox.control(
        "POST", "/faults", {"route": "devices", "kind": "status", "status": 503, "retry_after": 2}
    )
    sandbox.control("POST", "/faults", {"route": "users.me", "kind": "html", "times": 2})
    struck = call(sandbox, "GET", "/v1/devices", token)
    assert (struck.status_code, struck.headers["Retry-After"]) == (503, "2")
    assert call(sandbox, "GET", "/v1/devices", token).status_code == 200
    seen = [call(sandbox, "GET", "/v1/users/me", token).status_code for _ in range(3)]
    assert seen == [502, 502, 200]


def test_the_chosen_token_outlives_a_reset_and_a_restart(partner: Partner, tmp_path: Path) -> None:
    apps = [app_for("acme", partner.url)]
    with SandboxProcess(apps=apps, token="T" * 20, state=tmp_path / "deep" / "state.json") as sandbox:
        assert len(call(sandbox, "GET", "/v1/devices", "T" * 20).json()["data"]) == 6
        sandbox.control("POST", "/apps", app_for("later", partner.url))
        sandbox.stop()
        sandbox.start()
        assert [app["client_id"] for app in sandbox.control("GET", "/apps")] == [
            "acme-client",
            "later-client",
        ]
        sandbox.control("POST", "/reset")
        assert call(sandbox, "GET", "/v1/devices", "T" * 20).status_code == 200
        assert [app["client_id"] for app in sandbox.control("GET", "/apps")] == ["acme-client"]


def test_only_this_machines_own_pages_may_give_orders(sandbox: SandboxProcess) -> None:
    rebound = requests.get(f"{sandbox.url}/control/state", headers={"Host": "evil.example"}, timeout=10)
    assert rebound.status_code == 403
    forged = requests.post(
        f"{sandbox.url}/control/reset", headers={"Sec-Fetch-Site": "cross-site"}, timeout=10
    )
    assert forged.status_code == 403


def test_every_answer_of_the_api_carries_its_headers_and_no_journal_keeps_a_secret(
    sandbox: SandboxProcess, partner: Partner
) -> None:
    token = linked_token(sandbox, partner)
    for path in ("/v1/users/me", "/v1/no/such/path"):
        answer = call(sandbox, "GET", path, token)
        assert answer.headers["X-Request-ID"]
        assert answer.headers["X-RateLimit-Limit"] == "100"
    assert call(sandbox, "PUT", "/v1/devices", token).status_code == 405
    told = requests.get(f"{sandbox.url}/control/requests", timeout=10).text
    state = requests.get(f"{sandbox.url}/control/state", timeout=10).text
    for secret in (token, "acme-secret", "acme-key", partner.codes[-1]):
        assert secret not in told + state
