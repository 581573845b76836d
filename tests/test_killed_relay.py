"""`kill -9` of the process that relays or of the worker, or a deploy: the camera is let go within five seconds, whoever watched."""

import asyncio
from pathlib import Path
from urllib.parse import urljoin

import pytest
import requests
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from tests.support.installation import Installation, Person, installation, wait_until_linked
from tests.support.portal_process import wait_for


@pytest.fixture
def installed(tmp_path: Path):
    with installation(tmp_path) as made:
        yield made


def open_at_ring(installed: Installation) -> int:
    return sum(session["ended_ms"] is None for session in installed.sandbox.control("GET", "/sessions"))


@pytest.mark.parametrize("way", ["kill", "deploy", "worker killed"])
async def test_a_camera_is_let_go_when_a_process_dies(installed: Installation, way: str) -> None:
    token = installed.api_token("acme")
    link = installed.sandbox.control("POST", "/link", {"client_id": "acme-client", "account": "ada"})
    ada = Person(installed.portal.url)
    ada.submit(ada.sign_up(link["redirect_url"], "ada@customer.example"), action="/link/")
    wait_until_linked(installed, token)
    devices = wait_for(
        lambda: [d for d in installed.api(token, "devices") if d["attributes"]["name"] == "Garden"],
        what="the camera",
    )
    address = f"{installed.portal.url}/t/acme/live/{devices[0]['id']}/whep?path=relay"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/sdp"}
    peers = [RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2)]
    sessions = []
    try:
        for peer in peers:
            peer.addTransceiver("video", direction="recvonly")
            await peer.setLocalDescription(await peer.createOffer())
            answer = await asyncio.to_thread(
                requests.post, address, data=peer.localDescription.sdp, headers=headers, timeout=30
            )
            assert answer.status_code == 201, answer.text
            sessions.append(urljoin(address, answer.headers["Location"]))
            await peer.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
            await asyncio.wait_for(peer.getReceivers()[0].track.recv(), 20)
        assert open_at_ring(installed) == 1

        if way == "kill":
            installed.portal.kill("web")
        elif way == "deploy":
            installed.portal.stop("web")  # SIGTERM, as every process manager says it
        else:
            installed.portal.kill("worker")  # who relays ends it without one, as soon as nobody watches
            for session in sessions:
                ended = await asyncio.to_thread(requests.delete, session, headers=headers, timeout=30)
                assert ended.status_code == 200
        await asyncio.to_thread(
            wait_for, lambda: open_at_ring(installed) == 0, timeout_s=5, what="the end of the session at Ring"
        )
    finally:
        for peer in peers:
            await peer.close()
