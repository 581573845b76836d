"""The pages as a person without script uses them: forms, redirects, and words for what went wrong."""

import re
from html import unescape
from urllib.parse import parse_qs, urlsplit

import requests

from sandbox.api import nonce
from tests.sandbox.partner import Partner, complete, exchange, linked_token
from tests.support.portal_process import wait_for
from tests.support.sandbox_process import SandboxProcess


def page(sandbox: SandboxProcess, path: str, status: int = 200) -> str:
    answer = requests.get(f"{sandbox.url}{path}", timeout=30)
    assert answer.status_code == status
    assert "SIMULATED" in answer.text
    assert "script" not in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    return answer.text


def press(sandbox: SandboxProcess, path: str, test_id: str) -> requests.Response:
    """Send the form around the button `test_id` on the page at `path`."""
    forms = re.findall(r"<form\b[^>]*>.*?</form>", page(sandbox, path), re.DOTALL)
    form = next(form for form in forms if f'data-testid="{test_id}"' in form)
    action = re.search(r'action="([^"]+)"', form)
    assert action is not None
    fields = [
        (name, unescape(value))
        for name, value in re.findall(r'<input type="[a-z]+" name="([^"]+)" value="([^"]*)"', form)
    ]
    return requests.post(
        f"{sandbox.url}{unescape(action[1])}", data=fields, timeout=30, allow_redirects=False
    )


def test_from_the_appstore_to_the_partner_and_out_again(sandbox: SandboxProcess, partner: Partner) -> None:
    assert 'data-testid="person-ada"' in page(sandbox, "/")
    assert 'data-testid="app-acme-client"' in page(sandbox, "/home/ada/appstore")
    assert 'data-testid="consent"' in page(sandbox, "/home/ada/appstore/acme-client")
    leave = press(sandbox, "/home/ada/appstore/acme-client/devices", "share-devices")
    assert leave.status_code == 303
    target = urlsplit(leave.headers["Location"])
    query = parse_qs(target.query)
    assert f"{target.scheme}://{target.netloc}{target.path}" == f"{partner.url}/ring/acme/link"
    account_id = sandbox.control("GET", "/state")["integrations"][0]["account_id"]
    assert query["nonce"] == [nonce("acme-key", query["time"][0], account_id)]
    assert partner.types().count("device_added") == 6

    again = press(sandbox, "/home/ada/apps", "sign-in-acme-client")
    token = exchange(sandbox, grant_type="authorization_code", code=partner.codes[-1]).json()["access_token"]
    complete(sandbox, {"redirect_url": again.headers["Location"]}, token)
    assert "Active" in page(sandbox, "/home/ada/apps")
    assert press(sandbox, "/home/ada/apps", "remove-acme-client").status_code == 303
    wait_for(lambda: partner.types().count("device_removed") == 6, what="the removals")
    assert "Removed" in page(sandbox, "/home/ada/apps")


def test_each_button_sends_its_event(sandbox: SandboxProcess, partner: Partner) -> None:
    linked_token(sandbox, partner)
    buttons = {
        "press-front-door": "button_press",
        "motion-human-driveway": "motion_detected",
        "open-patio-door": "contact_sensor_faulted",
        "close-patio-door": "contact_sensor_cleared",
        "offline-garden": "device_offline",
        "online-garden": "device_online",
    }
    for test_id, event_type in buttons.items():
        assert press(sandbox, "/home/ada", test_id).status_code == 303
        wait_for(lambda wanted=event_type: wanted in partner.types(), what=event_type)  # type: ignore[misc]

    # Without a Ring plan the doorbell tells nobody.
    press(sandbox, "/home/ada", "plan-lapse")
    before = partner.types().count("button_press")
    press(sandbox, "/home/ada", "press-front-door")
    press(sandbox, "/home/ada", "plan-start")
    press(sandbox, "/home/ada", "press-front-door")
    wait_for(lambda: partner.types().count("button_press") == before + 1, what="one press of two")


def test_cameras_show_a_picture_and_marks_their_colour(sandbox: SandboxProcess) -> None:
    picture = requests.get(f"{sandbox.url}/home/ada/picture/back-yard", timeout=30)
    assert picture.content.startswith(b"\xff\xd8\xff")
    assert requests.get(f"{sandbox.url}/home/ada/picture/hallway-chime", timeout=10).status_code == 404
    mark = requests.get(f"{sandbox.url}/apps/acme-client/mark.svg", timeout=10)
    assert mark.headers["Content-Type"].startswith("image/svg+xml")
    assert 'fill="#2257d6"' in mark.text


def test_a_partner_that_does_not_answer_is_said_in_words(sandbox: SandboxProcess, partner: Partner) -> None:
    partner.token_status = 500
    failed = press(sandbox, "/home/ada/appstore/acme-client/devices", "share-devices")
    assert failed.status_code == 502
    assert "answered 500" in failed.text


def test_the_developer_page_sends_a_refused_webhook_again(sandbox: SandboxProcess, partner: Partner) -> None:
    linked_token(sandbox, partner, devices=["Front Door"])
    wait_for(lambda: "app_integration_added" in partner.types(), what="the link")
    partner.webhook_statuses = [401]
    sent = sandbox.control("POST", "/events", {"device": "Front Door", "type": "button_press"})
    wait_for(lambda: "refused · 401" in page(sandbox, "/developer"), what="the refusal")
    requests.post(f"{sandbox.url}/developer/deliveries/{sent['delivery_id']}/replay", timeout=10)
    wait_for(lambda: partner.types().count("button_press") == 2, what="the second try")


def test_a_wrong_address_or_form_gets_a_page_that_says_so(sandbox: SandboxProcess) -> None:
    for path in ("/home/nobody", "/no/such/page", "/home/ada/appstore/no-app"):
        assert "There is no such page" in page(sandbox, path, 404)
    wrong = requests.post(f"{sandbox.url}/home/ada/event", data={"device": "garden"}, timeout=10)
    assert (wrong.status_code, "There is no such event" in wrong.text) == (400, True)


def test_a_camera_is_told_how_to_behave_live_and_set_back(sandbox: SandboxProcess) -> None:
    camera = {"account": "ada", "device": "driveway", "do": "set"}
    address = f"{sandbox.url}/developer/live"

    def behaviour() -> dict[str, object]:
        found = sandbox.control("GET", "/live")
        return next(row for row in found if (row["account"], row["device"]) == ("ada", "driveway"))

    fields = {
        "cap_s": "12",
        "stall_after_s": "3.5",
        "loss_percent": "2",
        "profile": "64001f",
        "audio": "true",
    }
    answer = requests.post(address, data={**camera, **fields}, allow_redirects=False, timeout=10)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/developer/live")
    assert behaviour() == {
        "account": "ada", "device": "driveway", "cap_s": 12.0, "stall_after_s": 3.5, "loss_percent": 2.0,
        "loss_seed": 0, "profile": "64001f", "codec": "h264", "audio": True,
    }  # fmt: skip
    shown = page(sandbox, "/developer/live")
    assert 'value="12"' in shown and 'value="3.5"' in shown and "Hallway Chime" not in shown

    for wrong in ({"cap_s": "soon"}, {"loss_percent": "101"}, {"codec": "vp8"}, {"device": "hallway-chime"}):
        refused = requests.post(address, data={**camera, **wrong}, timeout=10)
        assert refused.status_code == 400, wrong
    assert behaviour()["cap_s"] == 12.0

    requests.post(address, data={**camera, **fields, "do": "reset"}, timeout=10)
    assert behaviour()["cap_s"] is None and behaviour()["audio"] is False
    assert 'value="12"' not in page(sandbox, "/developer/live")
