"""The retry schedule, dead letters, and what a restart does to them (contract 9.3)."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sandbox.webhooks import RETRY_DELAYS_S
from tests.sandbox.partner import Partner, call, device_id, linked_token
from tests.support.portal_process import wait_for
from tests.support.sandbox_process import SandboxProcess, app_for

PRESS = {"device": "Front Door", "type": "button_press"}


def delivery(sandbox: SandboxProcess, delivery_id: str) -> dict[str, Any]:
    return next(d for d in sandbox.control("GET", "/deliveries") if d["id"] == delivery_id)


def test_seven_attempts_by_the_documented_pauses_then_a_dead_letter(partner: Partner) -> None:
    scale = 0.0005
    with SandboxProcess(apps=[app_for("acme", partner.url)], time_scale=scale) as sandbox:
        linked_token(sandbox, partner, devices=["Front Door"])
        wait_for(lambda: "app_integration_added" in partner.types(), what="the link")
        partner.webhooks.clear()
        partner.webhook_statuses = [503] * 7
        sent = sandbox.control("POST", "/events", PRESS)
        wait_for(lambda: delivery(sandbox, sent["delivery_id"])["state"] == "dead", what="the dead letter")

        attempts = delivery(sandbox, sent["delivery_id"])["attempts"]
        assert [attempt["status"] for attempt in attempts] == [503] * 7
        pauses_ms = [b["at_ms"] - a["at_ms"] for a, b in pairwise(attempts)]
        for pause_ms, documented_s in zip(pauses_ms, RETRY_DELAYS_S, strict=True):
            assert pause_ms >= int(documented_s * scale * 1000)
        dead = sandbox.control("GET", "/deliveries?state=dead")
        assert [d["id"] for d in dead] == [sent["delivery_id"]]

        # Replayed, it is the same request, and what was tried before is not forgotten.
        sandbox.control("POST", f"/deliveries/{sent['delivery_id']}/replay")
        wait_for(lambda: delivery(sandbox, sent["delivery_id"])["state"] == "delivered", what="the replay")
        assert len(delivery(sandbox, sent["delivery_id"])["attempts"]) == 8
        assert len({body for _, _, body in partner.webhooks}) == 1


def test_a_restart_goes_on_with_the_schedule_where_it_was(partner: Partner, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    with SandboxProcess(apps=[app_for("acme", partner.url)], state=state, time_scale=0.1) as sandbox:
        linked_token(sandbox, partner, devices=["Front Door"])
        wait_for(lambda: "app_integration_added" in partner.types(), what="the link")
        partner.webhooks.clear()
        partner.webhook_statuses = [500] * 3
        sent = sandbox.control("POST", "/events", PRESS)

        def saved_after_three() -> Any:
            rows = json.loads(state.read_text())["deliveries"] if state.exists() else []
            return next((r for r in rows if r["id"] == sent["delivery_id"] and len(r["attempts"]) == 3), None)

        saved = wait_for(saved_after_three, what="the third attempt in the snapshot")
        sandbox.kill()
        sandbox.start()
        wait_for(lambda: delivery(sandbox, sent["delivery_id"])["state"] == "delivered", what="the delivery")
        attempts = delivery(sandbox, sent["delivery_id"])["attempts"]
        assert [attempt["status"] for attempt in attempts] == [500, 500, 500, 200]
        assert attempts[3]["at_ms"] >= saved["next_attempt_ms"]
        assert {event["meta"]["request_id"] for event, _, _ in partner.webhooks} == {sent["request_id"]}


def test_events_are_refused_retried_or_delivered_as_the_signature_and_body_ask(
    sandbox: SandboxProcess, partner: Partner
) -> None:
    linked_token(sandbox, partner, devices=["Front Door"])
    wait_for(lambda: "app_integration_added" in partner.types(), what="the link")
    partner.webhooks.clear()
    sandbox.control("POST", "/events", {**PRESS, "signature": "bare", "request_id": "chosen"})
    wait_for(lambda: partner.webhooks, what="the webhook")
    event, signature, _ = partner.webhooks[-1]
    assert event["meta"]["request_id"] == "chosen"
    assert not signature.startswith("sha256=")
    assert len(signature) == 64


@pytest.mark.parametrize(
    ("position", "in_attributes", "in_data"),
    [("attributes", True, False), ("data", False, True), ("both", True, True)],
)
def test_the_sub_type_stands_where_the_knob_says(
    sandbox: SandboxProcess, partner: Partner, position: str, in_attributes: bool, in_data: bool
) -> None:
    linked_token(sandbox, partner, devices=["Driveway"])
    sandbox.control("POST", "/knobs", {"sub_type_position": position})
    sandbox.control(
        "POST", "/events", {"device": "Driveway", "type": "motion_detected", "sub_type": "vehicle"}
    )
    wait_for(lambda: "motion_detected" in partner.types(), what="the motion")
    data = next(e["data"] for e, _, _ in partner.webhooks if e["data"]["type"] == "motion_detected")
    assert ("sub_type" in data["attributes"]) is in_attributes
    assert ("subType" in data) is in_data


def test_a_subscription_begins_ends_and_is_listed_by_pages(sandbox: SandboxProcess, partner: Partner) -> None:
    token = linked_token(sandbox, partner)
    assert call(sandbox, "GET", "/v1/accounts/me/subscriptions", token).json()["data"] == []
    sandbox.control("POST", "/subscriptions", {"trial": True, "devices": ["Front Door"]})
    with pytest.raises(OSError, match="409"):
        sandbox.control("POST", "/subscriptions", {"trial": True})
    for _ in range(26):
        sandbox.control("POST", "/subscriptions", {"devices": ["Front Door"]})
    first = call(sandbox, "GET", "/v1/accounts/me/subscriptions", token).json()
    second = call(sandbox, "GET", first["links"]["next"], token).json()
    assert (len(first["data"]), len(second["data"]), "links" in second) == (25, 2, False)
    assert first["data"][0]["attributes"]["plan_id"] is None
    front_door = device_id(sandbox, token, "Front Door")
    assert first["data"][0]["relationships"]["devices"]["data"] == [{"type": "devices", "id": front_door}]

    # The plan lapses: every subscription goes with it, devices are out of reach, nobody hears of the doorbell.
    sandbox.control("POST", "/plan", {"account": "ada", "active": False})
    wait_for(lambda: partner.types().count("subscription_deactivated") == 27, what="the endings")
    ended = next(e for e, _, _ in partner.webhooks if e["data"]["type"] == "subscription_deactivated")
    assert "expires_at" not in ended["data"]["attributes"]
    assert call(sandbox, "GET", "/v1/devices", token).status_code == 403
    with pytest.raises(OSError, match="409"):
        sandbox.control("POST", "/events", PRESS)
    sandbox.control("POST", "/plan", {"account": "ada", "active": True})
    assert call(sandbox, "GET", "/v1/devices", token).status_code == 200
