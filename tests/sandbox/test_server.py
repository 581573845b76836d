"""The sandbox over real sockets: OAuth, linking order, webhooks, media, restart. A second reading of the contract."""

import hashlib
import hmac
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import pytest
import requests
from PIL import Image

from sandbox.api import nonce
from sandbox.webhooks import sign
from tests.sandbox.partner import CLIENT, Partner, call, complete, exchange, link
from tests.support.portal_process import wait_for
from tests.support.sandbox_process import ROOT, SandboxProcess, app_for

KEY = "EXAMPLE-hmac-signing-key-0001"


def test_both_vectors_of_the_contract_hold() -> None:
    assert (
        nonce(KEY, "1790000000000", "ava1.ring.account.AAAABBBBCCCC")
        == "0oi_utg32-sX0YLYO4aKs7n832FoNB4w6RmeODc57vQ"
    )
    body = (
        b'{"meta":{"version":"1.1","time":"2026-09-21T13:33:20Z","request_id":"11111111-2222-4333-8444-555555555555",'
        b'"account_id":"ava1.ring.account.AAAABBBBCCCC"},"data":{"id":"ava1.ring.device.AAA_button_press_1790000000000",'
        b'"type":"button_press","attributes":{"source":"ava1.ring.device.AAA","source_type":"devices",'
        b'"timestamp":1790000000000},"relationships":{"devices":{"links":{"self":"/v1/devices/ava1.ring.device.AAA"}}}}}'
    )
    assert sign(body, KEY) == "sha256=16865a14c59843b315b520e0c34ed8d4820c43f3077a812dca8700b762a79a8c"


def test_a_code_is_good_once_and_for_sixty_seconds(sandbox: SandboxProcess, partner: Partner) -> None:
    link(sandbox, partner)
    again = exchange(sandbox, grant_type="authorization_code", code=partner.codes[-1])
    assert (again.status_code, again.json()) == (400, {"error": "invalid_grant"})

    sandbox.control("POST", "/link", {"client_id": CLIENT, "account": "ada"})
    sandbox.control("POST", "/clock", {"advance_s": 61})
    late = exchange(sandbox, grant_type="authorization_code", code=partner.codes[-1])
    assert late.json() == {"error": "invalid_grant"}


def test_a_refresh_rotates_and_the_old_token_dies(sandbox: SandboxProcess, partner: Partner) -> None:
    _, tokens = link(sandbox, partner)
    rotated = exchange(sandbox, grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert rotated.status_code == 200
    assert rotated.json()["refresh_token"] != tokens["refresh_token"]
    reused = exchange(sandbox, grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert reused.json() == {"error": "invalid_grant"}
    as_bearer = call(sandbox, "GET", "/v1/users/me", rotated.json()["refresh_token"])
    assert as_bearer.status_code == 401


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        ({"grant_type": "authorization_code", "code": "x", "client_secret": "wrong"}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, 400, "invalid_request"),
    ],
)
def test_oauth_refusals_follow_the_rfc(
    sandbox: SandboxProcess, fields: dict[str, str], status: int, error: str
) -> None:
    answer = exchange(sandbox, **fields)
    assert (answer.status_code, answer.json()) == (status, {"error": error})


def test_linking_keeps_the_order_of_the_contract(sandbox: SandboxProcess, partner: Partner) -> None:
    linked, tokens = link(sandbox, partner, devices=["Front Door"])
    # Both before the browser is sent on, and in this order.
    assert partner.order == ["token", "device_added"]
    assert linked["code"] == partner.codes[-1]
    assert partner.token_requests[0]["type"] == "application/x-www-form-urlencoded"
    account = call(sandbox, "GET", "/v1/users/me", tokens["access_token"]).json()["data"]
    assert account["id"] == linked["account_id"]

    # Before the partner confirmed: no devices, and no events.
    assert call(sandbox, "GET", "/v1/devices", tokens["access_token"]).status_code == 403
    with pytest.raises(OSError, match="409"):
        sandbox.control("POST", "/events", {"device": "Front Door", "type": "button_press"})

    wrong = call(
        sandbox, "POST", "/v1/accounts/me/app-integrations", tokens["access_token"], json={"nonce": "A" * 43}
    )
    assert wrong.json()["errors"][0]["title"] == "Invalid Nonce"
    complete(sandbox, linked, tokens["access_token"])
    wait_for(lambda: "app_integration_added" in partner.types(), what="app_integration_added")
    devices = call(sandbox, "GET", "/v1/devices", tokens["access_token"]).json()["data"]
    assert [device["attributes"]["name"] for device in devices] == ["Front Door"]
    assert len(devices[0]["id"]) == 113


def test_webhooks_are_signed_over_the_bytes_and_retried_by_the_schedule(
    sandbox: SandboxProcess, partner: Partner
) -> None:
    linked, tokens = link(sandbox, partner)
    complete(sandbox, linked, tokens["access_token"])
    wait_for(lambda: "app_integration_added" in partner.types(), what="the link")
    partner.webhooks.clear()

    partner.webhook_statuses = [500, 503, 200]
    sent = sandbox.control("POST", "/events", {"device": "Front Door", "type": "button_press"})
    wait_for(lambda: len(partner.webhooks) == 3, what="three attempts")
    assert {event["meta"]["request_id"] for event, _, _ in partner.webhooks} == {sent["request_id"]}
    for _, signature, body in partner.webhooks:
        assert signature == "sha256=" + hmac.new(b"acme-key", body, hashlib.sha256).hexdigest()
    fraction = partner.webhooks[0][0]["meta"]["time"].rpartition(".")[2]
    assert len(fraction) == len("123456789Z")

    partner.webhooks.clear()
    partner.webhook_statuses = [401]
    refused = sandbox.control("POST", "/events", {"device": "Front Door", "type": "button_press"})

    def state_of(delivery_id: str) -> str:
        return str(next(d["state"] for d in sandbox.control("GET", "/deliveries") if d["id"] == delivery_id))

    wait_for(lambda: state_of(refused["delivery_id"]) == "refused", what="the refusal")
    assert len(partner.webhooks) == 1  # 4xx is never tried again


def test_media_comes_from_a_second_origin_that_refuses_a_bearer(
    sandbox: SandboxProcess, partner: Partner
) -> None:
    linked, tokens = link(sandbox, partner)
    token = tokens["access_token"]
    complete(sandbox, linked, token)
    devices = call(sandbox, "GET", "/v1/devices", token).json()["data"]
    camera = next(device["id"] for device in devices if device["attributes"]["name"] == "Driveway")
    sandbox.control("POST", "/clock", {"advance_s": 60})
    now_ms = sandbox.control("GET", "/state")["now_ms"]

    ask = {"timestamp": now_ms - 20_000, "duration": 4_000}
    redirect = call(sandbox, "POST", f"/v1/devices/{camera}/media/video/download", token, json=ask)
    assert redirect.status_code == 303
    address = redirect.headers["Location"]
    assert urlsplit(address).port == sandbox.media_port
    leaked = requests.get(address, headers={"Authorization": f"Bearer {token}"}, timeout=10)
    assert leaked.status_code == 400
    clip = requests.get(address, timeout=60)
    assert (clip.status_code, clip.headers["Content-Type"]) == (200, "video/mp4")
    assert clip.headers["X-Media-Timestamp"] == str(ask["timestamp"])
    with av.open(BytesIO(clip.content), "r") as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert container.duration == pytest.approx(4_000_000, abs=150_000)

    still = {"type": "at_timestamp", "timestamp": now_ms - 10_000}
    redirect = call(sandbox, "POST", f"/v1/devices/{camera}/media/image/download", token, json=still)
    picture = requests.get(redirect.headers["Location"], timeout=30)
    assert Image.open(BytesIO(picture.content)).size == (1280, 720)

    early = {"timestamp": now_ms - 3_600_000, "duration": 1_000}
    before_consent = call(sandbox, "POST", f"/v1/devices/{camera}/media/video/download", token, json=early)
    assert before_consent.json()["errors"][0]["code"] == "TIME_RANGE_NOT_AUTHORIZED"
    empty = call(sandbox, "POST", f"/v1/devices/{camera}/media/video/download", token, data=b"")
    assert empty.json()["errors"][0]["code"] == "REQUEST_FORBIDDEN"


def test_history_pages_newest_first(sandbox: SandboxProcess, partner: Partner) -> None:
    linked, tokens = link(sandbox, partner)
    token = tokens["access_token"]
    complete(sandbox, linked, token)
    devices = call(sandbox, "GET", "/v1/devices", token).json()["data"]
    camera = next(device["id"] for device in devices if device["attributes"]["name"] == "Driveway")
    now_ms = sandbox.control("GET", "/state")["now_ms"]
    for number in range(60):
        at_ms = now_ms + number * 1_000
        kind = "human" if number % 2 else "vehicle"
        sandbox.control(
            "POST",
            "/events",
            {"device": "Driveway", "type": "motion_detected", "sub_type": kind, "at_ms": at_ms},
        )
    path, seen = f"/v1/history/devices/{camera}/events", []
    while path:
        page = call(sandbox, "GET", path, token).json()
        seen += [row["attributes"]["start"] for row in page["data"]]
        path = page.get("links", {}).get("next", "")
    assert len(seen) == 60
    assert seen == sorted(seen, reverse=True)
    people = call(
        sandbox, "GET", f"/v1/history/devices/{camera}/events?event_types=motion.human", token
    ).json()
    assert len(people["data"]) == 30


def test_removal_revokes_tokens_and_tells_the_partner(sandbox: SandboxProcess, partner: Partner) -> None:
    linked, tokens = link(sandbox, partner, devices=["Front Door", "Driveway"])
    complete(sandbox, linked, tokens["access_token"])
    sandbox.control("POST", "/unlink", {"client_id": CLIENT, "account": "ada"})
    wait_for(lambda: partner.types().count("device_removed") == 2, what="both device_removed")
    assert "app_integration_removed" in partner.types()
    assert call(sandbox, "GET", "/v1/devices", tokens["access_token"]).status_code == 401
    assert (
        exchange(sandbox, grant_type="refresh_token", refresh_token=tokens["refresh_token"]).status_code
        == 400
    )


def test_state_survives_a_restart_and_a_kill(partner: Partner, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    with SandboxProcess(apps=[app_for("acme", partner.url)], state=state, time_scale=0.02) as sandbox:
        linked, tokens = link(sandbox, partner)
        complete(sandbox, linked, tokens["access_token"])
        before = call(sandbox, "GET", "/v1/devices", tokens["access_token"]).json()["data"]
        wait_for(lambda: state.exists() and '"completed"' in state.read_text(), what="the snapshot")
        sandbox.kill()
        sandbox.start()
        after = call(sandbox, "GET", "/v1/devices", tokens["access_token"])
        assert after.status_code == 200
        assert [row["id"] for row in after.json()["data"]] == [row["id"] for row in before]
    assert tokens["access_token"] not in state.read_text()


def test_the_hundred_and_first_request_of_a_second_is_told_to_wait(
    sandbox: SandboxProcess, partner: Partner
) -> None:
    linked, tokens = link(sandbox, partner)
    complete(sandbox, linked, tokens["access_token"])
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {tokens['access_token']}"
    deadline = time.monotonic() + 20
    refused = None
    while refused is None and time.monotonic() < deadline:
        burst = [session.get(f"{sandbox.url}/v1/users/me", timeout=10) for _ in range(130)]
        refused = next((answer for answer in burst if answer.status_code == 429), None)
    assert refused is not None
    assert refused.headers["Retry-After"] == "1"
    assert refused.json()["errors"][0]["title"] == "Rate Limit Exceeded"


@pytest.mark.parametrize(
    "arguments",
    [["--host", "0.0.0.0"], ["--portal-url", "https://portal.example"], ["--apps", "/nonexistent.json"]],
)
def test_anything_but_loopback_is_refused_at_the_start(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", "--port", "1", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_a_camera_says_that_it_is_on_line_power_where_its_knob_says_so(
    sandbox: SandboxProcess, partner: Partner
) -> None:
    linked, tokens = link(sandbox, partner)
    complete(sandbox, linked, tokens["access_token"])

    def batteries() -> dict[str, Any]:
        document = call(sandbox, "GET", "/v1/devices?include=status", tokens["access_token"]).json()
        names = {device["id"]: device["attributes"]["name"] for device in document["data"]}
        owners = {
            device["relationships"]["status"]["data"]["id"]: names[device["id"]]
            for device in document["data"]
        }
        return {
            owners[part["id"]]: part["attributes"].get("battery_status")
            for part in document["included"]
            if part["id"] in owners
        }

    told = batteries()
    assert (told["Driveway"], told["Front Door"]) == ({"percentage": 255}, None)
    sandbox.control("PATCH", "/devices", {"device": "Front Door", "tells_line_power": True})
    assert batteries()["Front Door"] == {"percentage": 255}
