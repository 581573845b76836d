"""Live view through the sandbox's own routes: rules of the offer, the ledger, and every way it ends (contract 10.1)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import requests
from aiortc import RTCPeerConnection, RTCSessionDescription

from tests.sandbox.partner import Partner, call, device_id, linked_token
from tests.support.portal_process import wait_for
from tests.support.sandbox_process import SandboxProcess


@asynccontextmanager
async def watching(
    sandbox: SandboxProcess, token: str, device: str, query: str = ""
) -> AsyncIterator[requests.Response]:
    """A viewer that opens a session of `device` and holds it; yields Ring's answer to the offer."""
    viewer = RTCPeerConnection()
    try:
        viewer.addTransceiver("video", direction="recvonly")
        await viewer.setLocalDescription(await viewer.createOffer())
        answer = post_offer(sandbox, token, device, viewer.localDescription.sdp, query=query)
        if answer.status_code == 201:
            await viewer.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
        yield answer
    finally:
        await viewer.close()


def post_offer(
    sandbox: SandboxProcess,
    token: str,
    device: str,
    sdp: str,
    *,
    query: str = "",
    content_type: str = "application/sdp",
) -> requests.Response:
    path = f"/v1/devices/{device}/media/streaming/whep/sessions{query}"
    return call(sandbox, "POST", path, token, data=sdp, headers={"Content-Type": content_type})


def open_sessions(sandbox: SandboxProcess) -> list[Any]:
    return [entry for entry in sandbox.control("GET", "/sessions") if entry["ended_ms"] is None]


@pytest.mark.asyncio
async def test_a_session_is_opened_listed_ended_and_gone(sandbox: SandboxProcess, partner: Partner) -> None:
    token = linked_token(sandbox, partner)
    driveway = device_id(sandbox, token, "Driveway")
    async with watching(sandbox, token, driveway) as answer:
        assert answer.status_code == 201
        assert answer.headers["Content-Type"].startswith("application/sdp")
        location = answer.headers["Location"]
        assert location.startswith(f"{sandbox.url}/v1/devices/{driveway}/media/streaming/whep/sessions/")
        assert "a=sendonly" in answer.text
        assert [entry["device"] for entry in open_sessions(sandbox)] == ["driveway"]

        running = call(sandbox, "GET", f"/v1/history/devices/{driveway}/events", token).json()["data"][0]
        assert running["attributes"]["event_type"] == "on_demand"
        assert "end" not in running["attributes"]

        path = location.removeprefix(sandbox.url)
        assert call(sandbox, "DELETE", path, token).status_code == 204
        assert call(sandbox, "DELETE", path, token).status_code == 404
    assert open_sessions(sandbox) == []
    ended = call(sandbox, "GET", f"/v1/history/devices/{driveway}/events", token).json()["data"][0]
    assert ended["attributes"]["end"] >= ended["attributes"]["start"]
    assert ended["attributes"]["is_third_party_reviewed"]


@pytest.mark.asyncio
async def test_a_device_going_offline_ends_its_sessions_and_refuses_new_ones(
    sandbox: SandboxProcess, partner: Partner
) -> None:
    token = linked_token(sandbox, partner)
    yard = device_id(sandbox, token, "Back Yard")
    async with watching(sandbox, token, yard, "?component_id=1") as answer:
        assert answer.status_code == 201
        sandbox.control("PATCH", "/devices", {"device": "Back Yard", "online": False})
        [entry] = sandbox.control("GET", "/sessions")
        assert (entry["component_id"], entry["end_reason"]) == ("1", "device offline")
        async with watching(sandbox, token, yard) as refused:
            assert refused.status_code == 503
            assert refused.json()["errors"][0]["title"] == "Device Unavailable"
    wait_for(lambda: "device_offline" in partner.types(), what="the webhook")


@pytest.mark.asyncio
async def test_removing_the_app_ends_what_it_watches(sandbox: SandboxProcess, partner: Partner) -> None:
    token = linked_token(sandbox, partner)
    door = device_id(sandbox, token, "Front Door")
    async with watching(sandbox, token, door) as answer:
        assert answer.status_code == 201
        sandbox.control("POST", "/unlink", {})
        assert open_sessions(sandbox) == []
        assert (
            call(sandbox, "DELETE", answer.headers["Location"][len(sandbox.url) :], token).status_code == 401
        )


def test_offers_that_ring_refuses(sandbox: SandboxProcess, partner: Partner) -> None:
    token = linked_token(sandbox, partner)
    door, chime = device_id(sandbox, token, "Front Door"), device_id(sandbox, token, "Hallway Chime")
    assert post_offer(sandbox, token, door, "v=0", content_type="text/plain").status_code == 415
    assert post_offer(sandbox, token, door, "hello").status_code == 400
    assert post_offer(sandbox, token, door, "v=0\r\n").status_code == 400
    assert post_offer(sandbox, token, door, "v=0\r\n", query="?component_id=7").status_code == 400
    assert post_offer(sandbox, token, chime, "v=0\r\n").status_code == 400
    assert post_offer(sandbox, token, "no-such-device", "v=0\r\n").status_code == 404
    assert post_offer(sandbox, "no-such-token", door, "v=0\r\n").status_code == 401
    assert sandbox.control("GET", "/sessions") == []


def test_a_chime_plays_only_what_is_in_its_slots(sandbox: SandboxProcess, partner: Partner) -> None:
    token = linked_token(sandbox, partner)
    chime, door = device_id(sandbox, token, "Hallway Chime"), device_id(sandbox, token, "Front Door")
    attributes = call(sandbox, "GET", f"/v1/devices/{chime}/configurations", token).json()["data"]
    slot = attributes["attributes"]["audio"]["customizable_slots"][0]["audio_ref"]

    def play(device: str, ref: str) -> requests.Response:
        body = {"data": {"type": "audio", "attributes": {"audio_ref": ref}}}
        return call(sandbox, "POST", f"/v1/devices/{device}/media/audio/playback", token, json=body)

    done = play(chime, slot)
    assert (done.status_code, done.json()["data"]["attributes"]) == (200, {"status": "completed"})
    assert play(chime, "https://elsewhere.example/tone.mp3").status_code == 400
    assert play(door, slot).status_code == 400
