"""What a camera does wrong or differently while watched, ordered through the control plane, seen by aiortc."""

from __future__ import annotations

import asyncio
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import requests
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.rtp import RtpPacket

from tests.sandbox.partner import Partner, device_id, linked_token
from tests.sandbox.test_live_routes import open_sessions, post_offer
from tests.support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.asyncio


class Watching:
    """A viewer of one device that counts the RTP it gets, by kind of payload, and reads the stream's parameter set."""

    def __init__(self) -> None:
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.packets: Counter[int] = Counter()
        self.profiles: set[str] = set()
        self.answer: requests.Response

    async def open(
        self, sandbox: SandboxProcess, token: str, device: str, *, audio: bool = False
    ) -> requests.Response:
        self.peer.addTransceiver("video", direction="recvonly")
        if audio:
            self.peer.addTransceiver("audio", direction="recvonly")
        await self.peer.setLocalDescription()
        self.answer = await asyncio.to_thread(
            post_offer, sandbox, token, device, self.peer.localDescription.sdp
        )
        return self.answer

    async def watch(
        self, sandbox: SandboxProcess, token: str, device: str, *, audio: bool = False
    ) -> requests.Response:
        answer = await self.open(sandbox, token, device, audio=audio)
        assert answer.status_code == 201
        transport: Any = self.peer.getReceivers()[0].transport
        handle = transport._handle_rtp_data

        async def tap(data: bytes, arrival_time_ms: int) -> None:
            packet = RtpPacket.parse(data)
            self.packets[packet.payload_type] += 1
            self._read_profile(packet.payload)
            await handle(data, arrival_time_ms=arrival_time_ms)

        transport._handle_rtp_data = tap
        # aiortc knows the baseline names only; what came is read off the packets.
        sdp = answer.text.replace("64001f", "42001f")
        await self.peer.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
        return answer

    def _read_profile(self, payload: bytes) -> None:
        """A sequence parameter set alone, or the first in an aggregate (RFC 6184 5.7.1)."""
        if payload and payload[0] & 31 == 24:
            payload = payload[3:]
        if payload and payload[0] & 31 == 7:
            self.profiles.add(payload[1:4].hex())


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str) -> None:
    async with asyncio.timeout(20):
        while True:
            met = condition()
            if met if isinstance(met, bool) else await met:
                return
            await asyncio.sleep(0.05)
    raise AssertionError(what)


@pytest.fixture
async def viewer():
    made: list[Watching] = []

    def make() -> Watching:
        made.append(Watching())
        return made[-1]

    yield make
    for one in made:
        await one.peer.close()


@pytest.fixture
def home(sandbox: SandboxProcess, partner: Partner) -> tuple[str, str]:
    """A token, and Ring's id of the Driveway."""
    token = linked_token(sandbox, partner)
    return token, device_id(sandbox, token, "Driveway")


def behave(sandbox: SandboxProcess, **changes: Any) -> Any:
    return sandbox.control("PATCH", "/live", {"device": "Driveway", **changes})


@pytest.mark.parametrize("profile", ["42001f", "42e01f", "64001f"])
async def test_the_answer_and_the_stream_name_the_same_profile(sandbox, home, viewer, profile):
    behave(sandbox, profile=profile)
    one = viewer()

    answer = await one.watch(sandbox, *home)

    assert f"profile-level-id={profile}" in answer.text
    await until(lambda: bool(one.profiles), "a parameter set")
    assert one.profiles == {profile}
    async with asyncio.timeout(10):
        assert (await one.peer.getReceivers()[0].track.recv()).width == 1280


async def test_a_stalled_session_stays_up_and_goes_on_when_told(sandbox, home, viewer):
    one = viewer()
    await one.watch(sandbox, *home)
    await until(lambda: one.packets.total() > 20, "a picture")

    behave(sandbox, stall_after_s=0)
    [entry] = open_sessions(sandbox)
    await until(lambda: open_sessions(sandbox)[0]["withheld"] > entry["withheld"] + 20, "silence")
    [stalled] = open_sessions(sandbox)
    await until(lambda: open_sessions(sandbox)[0]["withheld"] > stalled["withheld"] + 20, "more silence")

    assert open_sessions(sandbox)[0]["sent"] == stalled["sent"]
    assert (one.peer.connectionState, open_sessions(sandbox)[0]["leak"]) == ("connected", "")
    before = one.packets.total()
    behave(sandbox, stall_after_s=None)
    await until(lambda: one.packets.total() > before + 20, "the picture again")


async def test_a_share_of_the_packets_is_never_sent(sandbox, home, viewer):
    behave(sandbox, loss_percent=20, loss_seed=7)
    one = viewer()
    await one.watch(sandbox, *home)

    await until(
        lambda: sum(open_sessions(sandbox)[0].get(k, 0) for k in ("sent", "withheld")) > 300, "packets"
    )

    [entry] = open_sessions(sandbox)
    assert 0.1 < entry["withheld"] / (entry["sent"] + entry["withheld"]) < 0.3


async def test_a_short_cap_ends_the_session_and_the_ledger_says_nobody_deleted_it(sandbox, home, viewer):
    behave(sandbox, cap_s=1)
    one = viewer()
    await one.watch(sandbox, *home)

    await until(lambda: not open_sessions(sandbox), "the cap")

    [entry] = sandbox.control("GET", "/sessions")
    assert (entry["end_reason"], entry["cap_s"], entry["forgotten"]) == ("cap", 1.0, True)
    page = await asyncio.to_thread(requests.get, f"{sandbox.url}/developer", timeout=10)
    assert "cap: no DELETE" in page.text


async def test_a_camera_with_a_microphone_sends_opus_beside_the_picture(sandbox, home, viewer):
    behave(sandbox, audio=True)
    one = viewer()

    answer = await one.watch(sandbox, *home, audio=True)

    video, audio = answer.text.split("m=audio")
    assert "a=sendonly" in video
    assert "a=sendonly" in audio
    assert "opus/48000/2" in audio
    receiver = next(r for r in one.peer.getReceivers() if r.track.kind == "audio")
    async with asyncio.timeout(10):
        loudest = 0
        while loudest < 100:  # the first frames of a codec are quieter
            samples = array("h", bytes((await receiver.track.recv()).planes[0]))
            loudest = max(loudest, *samples)


async def test_a_microphone_nobody_asks_for_is_not_heard(sandbox, home, viewer):
    behave(sandbox, audio=True)
    one = viewer()

    answer = await one.watch(sandbox, *home)

    assert "m=audio" not in answer.text


async def test_a_camera_without_h264_rejects_the_video(sandbox, home, viewer):
    behave(sandbox, codec="hevc")
    one = viewer()

    answer = await one.open(sandbox, *home)

    assert answer.status_code == 201
    assert "m=video 0 " in answer.text
    [entry] = sandbox.control("GET", "/sessions")
    assert (entry["open"], entry["end_reason"], entry["forgotten"]) == (False, "no common codec", False)


@pytest.mark.parametrize("status", [409, 429, 500, 503])
async def test_one_camera_refuses_so_many_offers(sandbox, home, viewer, status):
    fault = {"route": "whep", "kind": "status", "status": status, "retry_after": 3, "device": "Driveway"}
    sandbox.control("POST", "/faults", fault | {"times": 2})
    token, driveway = home
    other = device_id(sandbox, token, "Front Door")

    assert (await viewer().open(sandbox, token, other)).status_code == 201
    refused = [await viewer().open(sandbox, token, driveway) for _ in range(2)]
    assert [(r.status_code, r.headers["Retry-After"]) for r in refused] == [(status, "3")] * 2
    assert (await viewer().open(sandbox, token, driveway)).status_code == 201


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ({"device": "Driveway", "loss": 3}, "no field loss"),
        ({"device": "Driveway", "loss_percent": 101}, "loss_percent must be a number from 0 to 100"),
        ({"device": "Driveway", "cap_s": 0}, "cap_s must be"),
        ({"device": "Driveway", "audio": 1}, "audio must be true or false"),
        ({"device": "Driveway", "profile": "4d001f"}, "profile must be one of 42001f"),
        ({"device": "Driveway", "codec": "av1"}, "codec must be one of h264, hevc"),
        ({"device": "Hallway Chime", "audio": True}, "camera or doorbell"),
        ({"device": "Driveway", "loss_percent": 5, "stall_after_s": -1}, "stall_after_s must be"),
    ],
)
async def test_an_order_that_makes_no_sense_is_refused_and_changes_nothing(sandbox, home, order, words):
    refused = await asyncio.to_thread(requests.patch, f"{sandbox.url}/control/live", json=order, timeout=10)

    assert refused.status_code == 400
    assert words in refused.text
    assert all(entry["loss_percent"] == 0 for entry in sandbox.control("GET", "/live"))


async def test_the_ledger_names_who_never_came_and_who_went_without_a_word(sandbox, home, viewer):
    silent, absent = viewer(), viewer()
    await silent.watch(sandbox, *home)
    await until(lambda: silent.packets.total() > 20, "a picture")
    await absent.open(sandbox, *home)
    assert [entry["leak"] for entry in open_sessions(sandbox)] == ["", ""]

    # As when its machine loses power: nothing is said any more, by anybody.
    connection: Any = silent.peer.getReceivers()[0].transport.transport._connection
    for protocol in connection._protocols:
        protocol.transport.abort()

    def leaks() -> dict[str, str]:
        return {entry["id"]: entry["leak"] for entry in open_sessions(sandbox)}

    def name(one: Watching) -> str:
        return str(one.answer.headers["Location"].rsplit("/", 1)[1])

    await until(lambda: leaks() == {name(silent): "peer gone", name(absent): "never connected"}, "both leaks")
    for one in (silent, absent):
        token = {"Authorization": f"Bearer {home[0]}"}
        ended = await asyncio.to_thread(
            requests.delete, one.answer.headers["Location"], headers=token, timeout=10
        )
        assert ended.status_code == 204
    assert leaks() == {}
