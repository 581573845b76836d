"""Partner-initiated linking at the sandbox: the page, PKCE, the registered address, and the link's own end (contract 3.2)."""

import base64
import hashlib
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from tests.sandbox.partner import CLIENT, exchange
from tests.support.sandbox_process import SandboxProcess, app_for

PAGE = "/account/integrations/partner-link/authorize"
BACK = "http://127.0.0.1:9/accounts/ring/acme/login/callback/"
VERIFIER = "a-verifier-of-at-least-forty-three-characters-0001"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
ASKED = {
    "client_id": CLIENT,
    "redirect_uri": BACK,
    "response_type": "code",
    "scope": "ava.v1:read",
    "state": "st-1",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}


@pytest.fixture
def ring(sandbox_process: SandboxProcess) -> SandboxProcess:
    sandbox_process.control("POST", "/reset")
    sandbox_process.control("POST", "/apps", app_for("acme", "http://127.0.0.1:9"))
    return sandbox_process


def ask(ring: SandboxProcess, **changes: str | None) -> requests.Response:
    asked = {name: value for name, value in {**ASKED, **changes}.items() if value is not None}
    return requests.get(ring.url + PAGE, params=asked, allow_redirects=False, timeout=10)


def answer_of(response: requests.Response) -> dict[str, str]:
    assert response.status_code == 303, response.text
    assert response.headers["Location"].startswith(BACK + "?")
    return {
        name: values[0] for name, values in parse_qs(urlsplit(response.headers["Location"]).query).items()
    }


def decide(ring: SandboxProcess, decision: str = "allow", **changes: Any) -> requests.Response:
    form = {**ASKED, "person": "ada", "device": ["front-door"], "decision": decision, **changes}
    return requests.post(ring.url + PAGE, data=form, allow_redirects=False, timeout=10)


def allowed_code(ring: SandboxProcess) -> str:
    return answer_of(decide(ring))["code"]


def redeem(ring: SandboxProcess, code: str, **fields: str) -> requests.Response:
    return exchange(ring, grant_type="authorization_code", code=code, **fields)


def test_the_page_asks_who_and_then_which_devices(ring: SandboxProcess):
    people = ask(ring)
    assert people.status_code == 200 and "authorize-ada" in people.text and "Acme" in people.text
    devices = ask(ring, person="ada")
    assert 'data-testid="allow"' in devices.text and "Front Door" in devices.text
    assert "default-src 'none'" in devices.headers["Content-Security-Policy"]


def test_allowed_a_code_comes_back_and_is_worth_a_read_only_pair(ring: SandboxProcess):
    given = answer_of(decide(ring))
    assert given["state"] == "st-1"

    pair = redeem(ring, given["code"], code_verifier=VERIFIER, redirect_uri=BACK).json()

    assert pair["scope"] == "ava.v1:read"
    bearer = {"Authorization": f"Bearer {pair['access_token']}"}
    link = ring.url + "/v1/accounts/me/app-integrations"
    done = requests.patch(
        link, json={"status": "completed", "account_identifier": "a***"}, headers=bearer, timeout=10
    )
    assert done.status_code == 200
    devices = requests.get(ring.url + "/v1/devices", headers=bearer, timeout=10).json()["data"]
    assert len(devices) == 1, "the chosen one"
    refreshed = exchange(ring, grant_type="refresh_token", refresh_token=pair["refresh_token"]).json()
    assert refreshed["scope"] == "ava.v1:read"
    bearer = {"Authorization": f"Bearer {refreshed['access_token']}"}
    assert requests.delete(link, headers=bearer, timeout=10).status_code == 204
    assert requests.get(ring.url + "/v1/devices", headers=bearer, timeout=10).status_code == 401


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"code_verifier": ""},
        {"code_verifier": "too-short"},
        {"code_verifier": VERIFIER.upper()},
        {"code_verifier": CHALLENGE},
        {"code_verifier": VERIFIER, "redirect_uri": BACK + "x"},
    ],
)
def test_a_wrong_verifier_or_address_spends_the_code(ring: SandboxProcess, fields: dict[str, str]):
    code = allowed_code(ring)

    refused = redeem(ring, code, **fields)

    assert (refused.status_code, refused.json()) == (400, {"error": "invalid_grant"})
    assert redeem(ring, code, code_verifier=VERIFIER).status_code == 400, "it was spent"


def test_the_redirect_address_may_be_left_out_at_the_exchange(ring: SandboxProcess):
    assert redeem(ring, allowed_code(ring), code_verifier=VERIFIER).status_code == 200


def test_a_code_lives_ten_minutes_and_is_used_once(ring: SandboxProcess):
    old, fresh = allowed_code(ring), ""
    ring.control("POST", "/clock", {"advance_s": 599})
    fresh = allowed_code(ring)
    assert redeem(ring, old, code_verifier=VERIFIER).status_code == 200
    ring.control("POST", "/clock", {"advance_s": 601})
    assert redeem(ring, fresh, code_verifier=VERIFIER).status_code == 400
    assert redeem(ring, old, code_verifier=VERIFIER).status_code == 400


def test_denied_is_access_denied(ring: SandboxProcess):
    assert answer_of(decide(ring, "deny")) == {"error": "access_denied", "state": "st-1"}
    assert ring.control("GET", "/state")["integrations"] == []


def test_without_a_device_it_asks_again(ring: SandboxProcess):
    assert "at least one device" in decide(ring, device=[]).text


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "client"}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
    ],
)
def test_a_wrong_request_goes_back_with_the_error(ring: SandboxProcess, changes: dict[str, Any], error: str):
    assert answer_of(ask(ring, **changes)) == {"error": error, "state": "st-1"}
    form = {name: value for name, value in changes.items() if value is not None}
    removed = {name: "" for name, value in changes.items() if value is None}
    assert answer_of(decide(ring, **form, **removed))["error"] == error


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "nobody"},
        {"client_id": None},
        {"redirect_uri": None},
        {"redirect_uri": ""},
        {"redirect_uri": BACK + "?x=1"},
        {"redirect_uri": BACK.rstrip("/")},
        {"redirect_uri": "http://evil.example/"},
        {"redirect_uri": BACK.replace("127.0.0.1", "localhost")},
    ],
)
def test_nobody_is_sent_to_an_address_that_is_not_registered(ring: SandboxProcess, changes: dict[str, Any]):
    answer = ask(ring, **changes)
    assert answer.status_code == 400 and "Location" not in answer.headers


def test_a_parameter_given_twice_is_refused(ring: SandboxProcess):
    address = requests.Request("GET", ring.url + PAGE, params=ASKED).prepare().url
    answer = requests.get(f"{address}&redirect_uri={BACK}", allow_redirects=False, timeout=10)
    assert answer.status_code == 400


def test_an_app_that_is_not_invited_has_no_address(ring: SandboxProcess):
    app = {
        name: value
        for name, value in app_for("harbor", "http://127.0.0.1:9").items()
        if name != "redirect_uri"
    }
    ring.control("POST", "/apps", app)
    assert ask(ring, client_id="harbor-client").status_code == 400
    assert ask(ring, client_id="harbor-client", redirect_uri="").status_code == 400


def test_a_one_way_link_still_cannot_be_ended_by_the_partner(ring: SandboxProcess):
    code = ring.control("POST", "/link", {"client_id": CLIENT})["code"]
    token = redeem(ring, code).json()["access_token"]
    link = ring.url + "/v1/accounts/me/app-integrations"
    assert requests.delete(link, headers={"Authorization": f"Bearer {token}"}, timeout=10).status_code == 403
