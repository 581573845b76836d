"""Chaos on the way to the partner is what was ordered, and the same again for the same seed (contract 17.3)."""

import re
from collections import Counter
from typing import Any
from urllib.error import HTTPError

import pytest
import requests

from tests.sandbox.partner import CLIENT, Partner, linked_token
from tests.support.portal_process import wait_for
from tests.support.sandbox_process import SandboxProcess

MOTION = {"device": "Driveway", "type": "motion_detected", "sub_type": "human"}
START_MS = 1_795_348_800_000


@pytest.fixture
def linked(sandbox: SandboxProcess, partner: Partner) -> SandboxProcess:
    """The sandbox with a completed link, all its webhooks delivered and forgotten."""
    linked_token(sandbox, partner)
    wait_for(lambda: "app_integration_added" in partner.types(), what="the link")
    wait_for(lambda: not sandbox.control("GET", "/deliveries?state=waiting"), what="the quiet")
    partner.webhooks.clear()
    sandbox.control("POST", "/clock", {"scale": 20})
    return sandbox


def send(sandbox: SandboxProcess, count: int, **more: Any) -> list[dict[str, Any]]:
    """So many motions; return their deliveries, in the order in which they happened."""
    sent = sandbox.control("POST", "/events", {**MOTION, "count": count, "at_ms": START_MS, **more})["sent"]
    rows = {row["id"]: row for row in sandbox.control("GET", "/deliveries")}
    return [rows[one["delivery_id"]] for one in sent]


def all_settled(sandbox: SandboxProcess) -> list[dict[str, Any]]:
    wait_for(
        lambda: not sandbox.control("GET", "/deliveries?state=waiting"), what="the end of all deliveries"
    )
    found: list[dict[str, Any]] = sandbox.control("GET", "/deliveries")
    return found


def times(partner: Partner) -> list[int]:
    return [event["data"]["attributes"]["timestamp"] for event, _, _ in partner.webhooks]


def test_the_same_seed_is_the_same_day(linked: SandboxProcess) -> None:
    days = []
    for seed in (7, 7, 8):
        linked.control(
            "POST", "/chaos", {"seed": seed, "duplicate": 0.2, "drop": 0.2, "reorder": 0.3, "storm": 0.1}
        )
        days.append([row["fate"] for row in send(linked, 60)])
        linked.control("DELETE", "/chaos")
        all_settled(linked)
    assert days[0] == days[1] != days[2]
    assert {"", "dropped", "sent twice"} < set(days[0])


def test_what_is_doubled_comes_twice_and_what_is_dropped_never(
    linked: SandboxProcess, partner: Partner
) -> None:
    linked.control("POST", "/chaos", {"seed": 3, "duplicate": 0.3, "drop": 0.3})
    rows = send(linked, 40)
    linked.control("DELETE", "/chaos")
    all_settled(linked)
    expected = Counter(
        {row["request_id"]: 2 if row["fate"] else 1 for row in rows if row["state"] != "dropped"}
    )
    assert Counter(event["meta"]["request_id"] for event, _, _ in partner.webhooks) == expected

    dropped = [row for row in rows if row["state"] == "dropped"]
    assert linked.control("POST", "/deliveries/replay", {"state": "dropped"}) == {"replayed": len(dropped)}
    all_settled(linked)
    assert (
        len(expected) + len(dropped)
        == len({event["meta"]["request_id"] for event, _, _ in partner.webhooks})
        == 40
    )


def test_reordered_ones_are_overtaken_and_bursts_wait_for_their_last(
    linked: SandboxProcess, partner: Partner
) -> None:
    linked.control("POST", "/chaos", {"seed": 5, "reorder": 1.0})
    send(linked, 30)
    all_settled(linked)
    assert sorted(times(partner)) == [START_MS + n * 1000 for n in range(30)] != times(partner)

    partner.webhooks.clear()
    linked.control("POST", "/chaos", {"burst": 3})
    send(linked, 2)
    assert partner.webhooks == []
    linked.control("POST", "/events", MOTION)
    all_settled(linked)
    assert len(partner.webhooks) == 3


def test_a_lost_answer_makes_a_retry_of_the_same_request(linked: SandboxProcess, partner: Partner) -> None:
    linked.control("POST", "/chaos", {"storm": 1.0})
    [row] = [linked.control("POST", "/events", MOTION)]
    linked.control("DELETE", "/chaos")
    done = next(found for found in all_settled(linked) if found["id"] == row["delivery_id"])
    assert done["state"] == "delivered"
    assert len(done["attempts"]) == len(partner.webhooks) > 1
    assert {event["meta"]["request_id"] for event, _, _ in partner.webhooks} == {row["request_id"]}
    assert done["attempts"][0]["problem"].startswith("200, lost")


def test_the_clock_brings_the_next_try_and_dead_letters_are_sent_again_together(
    linked: SandboxProcess, partner: Partner
) -> None:
    linked.control("POST", "/chaos", {"delay": 1.0, "delay_s": 3000})
    held = linked.control("POST", "/events", MOTION)["delivery_id"]
    linked.control("DELETE", "/chaos")
    waiting = wait_for(
        lambda: [d for d in linked.control("GET", "/deliveries?state=waiting") if d["next_attempt_ms"]],
        what="the moment it is due",
    )
    assert [d["id"] for d in waiting] == [held]
    assert partner.webhooks == []
    linked.control("POST", "/clock", {"advance_s": 3000})
    all_settled(linked)
    assert len(partner.webhooks) == 1

    # The whole schedule of an hour and a quarter, by moving the clock from try to try.
    partner.webhook_statuses = [503] * 14
    send(linked, 2)

    def is_over() -> bool:
        linked.control("POST", "/clock", {"advance_s": 3600})
        return not linked.control("GET", "/deliveries?state=waiting")

    wait_for(is_over, what="the dead letters")
    assert len(linked.control("GET", "/deliveries?state=dead")) == 2
    page = requests.get(f"{linked.url}/developer", timeout=10).text
    assert "Send all 2 again" in page
    again = requests.post(f"{linked.url}/developer/deliveries/replay", data={"state": "dead"}, timeout=10)
    assert again.status_code == 200
    all_settled(linked)
    assert linked.control("GET", "/deliveries?state=dead") == []


@pytest.mark.parametrize(
    "wrong", [{"drop": 2}, {"burst": -1}, {"delay_s": 1e9}, {"seed": "x"}, {"dorp": 0.1}]
)
def test_orders_that_make_no_sense_change_nothing(sandbox: SandboxProcess, wrong: dict[str, Any]) -> None:
    with pytest.raises(HTTPError, match="400"):
        sandbox.control("POST", "/chaos", wrong)
    assert sandbox.control("GET", "/chaos")["drop"] == 0


def test_events_of_one_moment_have_ids_of_their_own(linked: SandboxProcess) -> None:
    sent = linked.control("POST", "/events", {**MOTION, "count": 50})["sent"]
    assert len({one["event_id"] for one in sent}) == 50


def test_the_chaos_page_sets_it_and_sends_what_is_wrong_on_purpose(
    linked: SandboxProcess, partner: Partner
) -> None:
    page = requests.get(f"{linked.url}/developer/chaos", timeout=10).text
    form = {
        name: "0" for name in re.findall(r'data-testid="chaos-(\w+)"', page) if name not in {"bring", "end"}
    }
    for wanted, do in ((0.5, "bring"), (0, "end")):
        answer = requests.post(
            f"{linked.url}/developer/chaos", data={**form, "drop": "0.5", "do": do}, timeout=10
        )
        assert answer.status_code == 200
        assert linked.control("GET", "/chaos")["drop"] == wanted
    for name in ("unknown-type", "bare-signature", "invalid-signature", "webhook-only", "history-only"):
        place = f"{CLIENT}/ada/driveway"
        sent = requests.post(
            f"{linked.url}/developer/samples", data={"place": place, "name": name}, timeout=10
        )
        assert sent.status_code == 200, name
    all_settled(linked)
    assert sorted(partner.types()) == ["motion_detected"] * 3 + ["robot_waved"]
    history = linked.control("GET", "/state")["events"]
    assert len(history) == 3, "the webhook-only one and the unknown type are not in it"


def test_a_visit_a_flap_a_lapse_and_a_storm(linked: SandboxProcess, partner: Partner) -> None:
    linked.control("POST", "/scenarios", {"name": "delivery-visit"})
    all_settled(linked)
    assert sorted(partner.types()) == ["button_press"] + ["motion_detected"] * 4

    partner.webhooks.clear()
    linked.control("POST", "/scenarios", {"name": "device-flap"})
    all_settled(linked)
    newest = max(partner.webhooks, key=lambda told: told[0]["data"]["attributes"]["timestamp"])
    assert newest[0]["data"]["type"] == "device_online"
    assert Counter(partner.types()) == {"device_online": 5, "device_offline": 5}

    partner.webhooks.clear()
    linked.control("POST", "/scenarios", {"name": "storm"})
    all_settled(linked)
    ids = {event["meta"]["request_id"] for event, _, _ in partner.webhooks}
    assert len(ids) == 200 < len(partner.webhooks)
    assert linked.control("GET", "/chaos")["storm"] == 0, "the storm is over"

    partner.webhooks.clear()
    linked.control("POST", "/scenarios", {"name": "subscription-lapse"})
    all_settled(linked)
    assert partner.types() == ["subscription_activated", "subscription_deactivated"]
