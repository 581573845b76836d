"""Every knob of linking, tokens, plan and clock does what it says (contract 17.3, 18)."""

from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from tests.sandbox.partner import CLIENT, Partner, call, complete, exchange, link, linked_token
from tests.support.portal_process import wait_for
from tests.support.sandbox_process import SandboxProcess

INTEGRATIONS = "/v1/accounts/me/app-integrations"


def status_of(sandbox: SandboxProcess) -> str:
    [integration] = sandbox.control("GET", "/state")["integrations"]
    return str(integration["status"])


def refresh(sandbox: SandboxProcess, tokens: dict[str, str]) -> requests.Response:
    return exchange(sandbox, grant_type="refresh_token", refresh_token=tokens["refresh_token"])


def title_of(answer: requests.Response) -> str:
    return str(answer.json()["errors"][0]["title"])


@pytest.mark.parametrize("kind", ["lost", "done_status"])
def test_an_answer_can_be_lost_after_the_order_was_carried_out(
    sandbox: SandboxProcess, partner: Partner, kind: str
) -> None:
    linked, tokens = link(sandbox, partner)
    nonce = parse_qs(urlsplit(linked["redirect_url"]).query)["nonce"][0]

    def spoil(route: str, ask: Any) -> None:
        sandbox.control("POST", "/faults", {"route": route, "kind": kind, "status": 503})
        if kind == "lost":
            with pytest.raises(requests.ConnectionError):
                ask()
        else:
            assert ask().status_code == 503

    token = tokens["access_token"]
    spoil("users.me", lambda: call(sandbox, "GET", "/v1/users/me", token))
    spoil("app-integrations.post", lambda: call(sandbox, "POST", INTEGRATIONS, token, json={"nonce": nonce}))
    assert status_of(sandbox) == "awaiting"
    spoil(
        "app-integrations.patch",
        lambda: call(sandbox, "PATCH", INTEGRATIONS, token, json={"status": "completed"}),
    )
    assert status_of(sandbox) == "completed"
    spoil("token", lambda: refresh(sandbox, tokens))
    assert refresh(sandbox, tokens).json() == {"error": "invalid_grant"}, "it was rotated all the same"
    assert call(sandbox, "GET", "/v1/users/me", token).status_code == 200, "one fault spoils one answer"
    journal = sandbox.control("GET", "/requests")
    assert sum(entry["lost"] for entry in journal) == (4 if kind == "lost" else 0)


def test_codes_can_be_wrong_held_back_or_too_old(sandbox: SandboxProcess, partner: Partner) -> None:
    held = sandbox.control("POST", "/link", {"hold_code": True})
    assert (held["token_exchange_status"], partner.codes) == (None, [])
    assert exchange(sandbox, grant_type="authorization_code", code=held["code"]).status_code == 200

    sandbox.control("POST", "/link", {"wrong_code": True})
    sandbox.control("POST", "/link", {"code_age_s": 61})
    for code in partner.codes:
        refused = exchange(sandbox, grant_type="authorization_code", code=code)
        assert (refused.status_code, refused.json()) == (400, {"error": "invalid_grant"})
    assert len(partner.codes) == 2


def test_signing_in_again_can_send_a_new_code_and_leaves_the_first_tokens_good(
    sandbox: SandboxProcess, partner: Partner
) -> None:
    _, first = link(sandbox, partner)
    sandbox.control("POST", "/sign-in", {"new_code": True})
    sandbox.control("POST", "/knobs", {"code_on_sign_in": True})
    sandbox.control("POST", "/sign-in", {})
    assert len(set(partner.codes)) == 3
    second = exchange(sandbox, grant_type="authorization_code", code=partner.codes[-1]).json()
    for tokens in (first, second):
        assert call(sandbox, "GET", "/v1/users/me", tokens["access_token"]).status_code == 200


def test_everything_can_get_older_while_the_clock_stays(sandbox: SandboxProcess, partner: Partner) -> None:
    linked, tokens = link(sandbox, partner)
    before = sandbox.control("GET", "/state")["now_ms"]
    sandbox.control("POST", "/age", {"seconds": 5 * 3600})
    assert sandbox.control("GET", "/state")["now_ms"] - before < 60_000
    assert call(sandbox, "GET", "/v1/users/me", tokens["access_token"]).status_code == 401
    tokens = refresh(sandbox, tokens).json()
    nonce = parse_qs(urlsplit(linked["redirect_url"]).query)["nonce"][0]
    old = call(sandbox, "POST", INTEGRATIONS, tokens["access_token"], json={"nonce": nonce})
    assert title_of(old) == "Invalid Nonce"
    complete(sandbox, sandbox.control("POST", "/sign-in", {}), tokens["access_token"])
    sandbox.control("POST", "/age", {"seconds": 31 * 86_400})
    assert refresh(sandbox, tokens).json() == {"error": "invalid_grant"}


def test_the_clock_can_run_faster_and_be_set_apart(sandbox: SandboxProcess, partner: Partner) -> None:
    _, tokens = link(sandbox, partner)
    sandbox.control("POST", "/clock", {"scale": 100_000})
    wait_for(
        lambda: call(sandbox, "GET", "/v1/users/me", tokens["access_token"]).status_code == 401,
        what="four hours",
    )
    sandbox.control("POST", "/clock", {"scale": 1, "advance_s": -10})
    first = sandbox.control("GET", "/state")["now_ms"]
    assert 0 <= sandbox.control("GET", "/state")["now_ms"] - first < 10_000


def test_a_clock_that_was_moved_is_told_as_far_ahead_as_it_was_moved(
    sandbox: SandboxProcess, partner: Partner
) -> None:
    sandbox.control("POST", "/clock", {"advance_s": 3600})
    assert {sandbox.control("GET", "/state")["clock_offset_ms"] for _ in range(200)} == {3_600_000}


@pytest.mark.parametrize(("order", "first"), [("link_first", "app"), ("devices_first", "device")])
def test_a_removal_is_told_in_either_order_as_often_as_one_likes(
    sandbox: SandboxProcess, partner: Partner, order: str, first: str
) -> None:
    linked_token(sandbox, partner, devices=["Front Door", "Driveway"])
    wait_for(lambda: "app_integration_added" in partner.types(), what="the link's webhook")
    begun = len(partner.webhooks)
    told = sandbox.control("POST", "/unlink", {"order": order, "copies": 2})
    assert len(told["deliveries"]) == 3
    wait_for(lambda: len(partner.webhooks) - begun == 6, what="all copies")
    news = partner.webhooks[begun:]
    if order == "devices_first":
        assert news[0][0]["data"]["type"].startswith(first)
        assert news[2][0]["data"]["type"] == "app_integration_removed"
    assert {event["data"]["type"] for event, _, _ in news} == {"app_integration_removed", "device_removed"}
    assert len({event["meta"]["request_id"] for event, _, _ in news}) == 3, "copies are the same requests"


def test_a_removal_can_be_kept_secret(sandbox: SandboxProcess, partner: Partner) -> None:
    token = linked_token(sandbox, partner)
    assert sandbox.control("POST", "/unlink", {"copies": 0})["deliveries"] == []
    assert call(sandbox, "GET", "/v1/devices", token).status_code == 401


def test_linking_anew_keeps_the_ids_unless_told_otherwise(sandbox: SandboxProcess, partner: Partner) -> None:
    first, _ = link(sandbox, partner)
    assert link(sandbox, partner)[0]["account_id"] == first["account_id"]
    other, tokens = link(sandbox, partner, new_ids=True)
    assert other["account_id"] != first["account_id"]
    user = call(sandbox, "GET", "/v1/users/me", tokens["access_token"]).json()["data"]
    assert user["id"] == other["account_id"]
    complete(sandbox, other, tokens["access_token"])
    assert link(sandbox, partner)[0]["account_id"] == other["account_id"]


def test_repeats_can_be_refused(sandbox: SandboxProcess, partner: Partner) -> None:
    linked, tokens = link(sandbox, partner)
    complete(sandbox, linked, tokens["access_token"])
    complete(sandbox, linked, tokens["access_token"])  # as it is: the same answer again
    sandbox.control("POST", "/knobs", {"post_repeat": "invalid_nonce", "patch_repeat": "invalid_transition"})
    nonce = parse_qs(urlsplit(linked["redirect_url"]).query)["nonce"][0]
    token = tokens["access_token"]
    assert title_of(call(sandbox, "POST", INTEGRATIONS, token, json={"nonce": nonce})) == "Invalid Nonce"
    again = call(sandbox, "PATCH", INTEGRATIONS, token, json={"status": "completed"})
    assert title_of(again) == "Invalid Status Transition"
    assert call(sandbox, "PATCH", INTEGRATIONS, token, json={"status": "awaiting"}).status_code == 200
    assert call(sandbox, "DELETE", INTEGRATIONS, token).status_code == 403, "only the Ring user can remove it"


def test_tokens_can_be_refused_kept_or_given_loosely(sandbox: SandboxProcess, partner: Partner) -> None:
    _, tokens = link(sandbox, partner)
    sandbox.control("POST", "/knobs", {"refuse_refresh": True})
    assert refresh(sandbox, tokens).json() == {"error": "invalid_grant"}
    sandbox.control("POST", "/knobs", {"oauth_errors": "jsonapi"})
    assert refresh(sandbox, tokens).json()["errors"][0]["code"] == "invalid_grant"
    sandbox.control(
        "POST", "/knobs", {"refuse_refresh": None, "refresh_grace": True, "token_answer": "loose"}
    )
    loose = refresh(sandbox, tokens).json()
    assert (loose["expires_in"], loose["scope"]) == ("14400", ["ava"])
    assert refresh(sandbox, tokens).status_code == 200, "within the grace period"
    sandbox.control("POST", "/age", {"seconds": 121})
    assert refresh(sandbox, tokens).status_code == 400


def test_consents_and_plans_can_gate_or_not(sandbox: SandboxProcess, partner: Partner) -> None:
    linked, tokens = link(sandbox, partner)
    token = tokens["access_token"]
    nonce = parse_qs(urlsplit(linked["redirect_url"]).query)["nonce"][0]
    assert call(sandbox, "POST", INTEGRATIONS, token, json={"nonce": nonce}).status_code == 200
    assert call(sandbox, "GET", "/v1/devices", token).status_code == 200
    sandbox.control("POST", "/knobs", {"data_while_awaiting": False})
    assert call(sandbox, "GET", "/v1/devices", token).status_code == 403
    assert call(sandbox, "PATCH", INTEGRATIONS, token, json={"status": "completed"}).status_code == 200
    assert call(sandbox, "GET", "/v1/devices", token).status_code == 200
    sandbox.control("POST", "/plan", {"active": False})
    assert call(sandbox, "GET", "/v1/devices", token).status_code == 403
    sandbox.control("POST", "/knobs", {"plan_gating": False, "integration_source_type": "accounts"})
    assert call(sandbox, "GET", "/v1/devices", token).status_code == 200
    sandbox.control("POST", "/unlink", {})
    wait_for(lambda: "app_integration_removed" in partner.types(), what="the removal")
    [removed] = [e for e, _, _ in partner.webhooks if e["data"]["type"] == "app_integration_removed"]
    assert removed["data"]["attributes"]["source_type"] == "accounts"


def test_every_scenario_can_be_played_and_says_what_to_expect(
    sandbox: SandboxProcess, partner: Partner
) -> None:
    needs_link = {
        "refresh-race", "refresh-answer-lost", "thirty-days", "late-removal",
        "delivery-visit", "device-flap", "subscription-lapse", "storm",
    }  # fmt: skip
    listed = sandbox.control("GET", "/scenarios")
    assert {scenario["name"] for scenario in listed} > needs_link
    for scenario in listed:
        sandbox.control("DELETE", "/faults")
        if scenario["name"] in needs_link:
            sandbox.control("POST", "/scenarios", {"name": "removed-meanwhile"})
            with pytest.raises(HTTPError, match="409"):
                sandbox.control("POST", "/scenarios", {"name": scenario["name"]})
            linked_token(sandbox, partner)
        played = sandbox.control("POST", "/scenarios", {"name": scenario["name"], "client_id": CLIENT})
        assert played["expect"] == scenario["expect"]
        if "redirect_url" in scenario["then"]:
            assert played["redirect_url"].startswith(f"{partner.url}/ring/acme/link?nonce=")
    with pytest.raises(HTTPError, match="400"):
        sandbox.control("POST", "/scenarios", {"name": "no such"})


def test_the_developers_pages_play_scenarios_and_turn_knobs(
    sandbox: SandboxProcess, partner: Partner
) -> None:
    base = f"{sandbox.url}/developer"
    assert 'data-testid="play-slow-sign-up"' in requests.get(f"{base}/scenarios", timeout=10).text
    order = {"name": "slow-sign-up", "account": "ada", "client_id": CLIENT}
    played = requests.post(f"{base}/scenarios", data=order, timeout=30)
    assert played.status_code == 200
    assert 'data-testid="stale_redirect_url"' in played.text
    assert f"{partner.url}/ring/acme/link?nonce=" in played.text
    assert requests.post(f"{base}/scenarios", data={**order, "name": "none"}, timeout=10).status_code == 400

    turned = requests.post(f"{base}/knobs", data={"knob": "refresh_grace", "value": "True"}, timeout=10)
    assert '<option value="True" selected>' in turned.text
    assert sandbox.control("GET", "/state")["knobs"] == {"refresh_grace": True}
    requests.post(f"{base}/knobs", data={"knob": "refresh_grace", "value": ""}, timeout=10)
    assert sandbox.control("GET", "/state")["knobs"] == {}
    assert requests.post(f"{base}/knobs", data={"knob": "no", "value": ""}, timeout=10).status_code == 400
