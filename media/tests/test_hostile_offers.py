"""Offers nobody would send in good faith, to a camera that is open: they reach our own answerer, and leave nothing behind."""

import json
import re
from pathlib import Path
from random import Random
from typing import Any

from django.test import Client
from django.urls import reverse

import pytest
from asgiref.sync import sync_to_async

from accounts.models import ApiToken
from devices.models import Device
from media import relaying
from media.models import LiveSession
from media.tests.test_relaying import Viewer, open_at_ring, until
from media.tests.test_relaying import viewer as viewer
from media.tests.test_whep_conformance import PLAYER_OFFER, SDP
from tests.support.cast import TenantCast
from tests.support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.usefixtures("relay_closed")

LINES = PLAYER_OFFER.split("\r\n")
# Lines that are well formed for us, and trouble for whoever reads further.
TROUBLE = (
    "m=video 9 UDP/TLS/RTP/SAVPF",
    "m=video 9 UDP/TLS/RTP/SAVPF 96 96",
    "m=video 99999999999 UDP/TLS/RTP/SAVPF 96",
    "m=video x RTP/AVP y",
    "m=video 0 UDP/TLS/RTP/SAVPF 96",
    "m=audio 9 UDP/TLS/RTP/SAVPF 111",
    "m=audio 0 RTP/AVP",
    "a=group:BUNDLE",
    "a=group:BUNDLE 0 0 1",
    "a=mid:",
    "a=mid:1",
    "a=setup:holdconn",
    "a=setup:nobody",
    "a=fingerprint:sha-256 zz",
    "a=fingerprint:md5 00:11",
    "a=fingerprint:",
    "a=ice-ufrag:",
    "a=ice-pwd:short",
    "a=ice-lite",
    "a=ice-options:trickle renomination",
    "a=candidate:1 1 udp 1 192.0.2.1 9",
    "a=candidate:1 x udp y 192.0.2.1 z typ host",
    "a=candidate:1 1 udp 1 not-an-address 9 typ host",
    "a=candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active",
    "a=candidate:1 1 udp 1 192.0.2.1 70000 typ srflx raddr ::1 rport x",
    "a=candidate:1 7 udp 1 192.0.2.1 9 typ relay",
    "a=extmap:x urn:y",
    "a=extmap:1/sendrecv",
    "a=extmap:99999 urn:ietf:params:rtp-hdrext:sdes:mid",
    "a=rtpmap:96",
    "a=rtpmap:x H264/90000",
    "a=rtpmap:96 H264/0",
    "a=rtpmap:96 H264/ninety",
    "a=rtpmap:4096 H264/90000",
    "a=fmtp:96",
    "a=fmtp:96 packetization-mode=1;profile-level-id=zzzzzz",
    "a=fmtp:96 packetization-mode=1;;=;profile-level-id",
    "a=fmtp:97 apt=97",
    "a=fmtp:97 apt=",
    "a=rtcp-fb:* nack",
    "a=rtcp-fb:96",
    "a=rtcp:x",
    "a=rtcp-mux-only",
    "a=ssrc:x cname:y",
    "a=ssrc:99999999999999999999 cname:y",
    "a=ssrc-group:FID 1",
    "a=ssrc-group:",
    "a=msid:",
    "a=sctp-port:x",
    "a=recvonly",
    "a=sendrecv",
    "c=IN IP4",
    "c=",
    "b=AS:x",
    "o=",
    "o=- x y IN IP4 z",
    "t=",
    "a=",
    "a=:",
)


def hostile_offer(chance: Random) -> bytes:
    """A good offer with up to five lines left out, doubled, moved, cut, lengthened, changed in a number, or added."""
    lines = list(LINES)
    for _ in range(chance.randint(1, 5)):
        at = chance.randrange(1, len(lines))
        match chance.randrange(7):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, lines[at])
            case 2:
                lines.insert(at, lines.pop(chance.randrange(1, len(lines))))
            case 3:
                lines[at] = lines[at][: chance.randint(2, 40)]
            case 4:
                lines[at] += chance.choice(("\0", "\x85", "\u2028", " ", ";", "=", "é", "9" * 40, "x" * 5000))
            case 5:
                number = str(chance.choice((-1, 0, 1, 255, 65536, 1 << 70)))
                lines[at] = re.sub(r"\d+", number, lines[at], count=chance.randint(1, 3))
            case _:
                lines.insert(at, chance.choice(TROUBLE))
    return chance.choice(("\r\n", "\n")).join(lines).encode()


def own_udp_sockets() -> int:
    """How many this process has."""
    tables = "".join(Path(f"/proc/self/net/{name}").read_text() for name in ("udp", "udp6"))
    inodes = {line.split()[9] for line in tables.splitlines() if ": " in line and "sl" not in line}
    links = (_link(entry) for entry in Path("/proc/self/fd").iterdir())
    return sum(link.startswith("socket:[") and link[8:-1] in inodes for link in links)


def _link(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except FileNotFoundError:  # closed meanwhile
        return ""


async def test_no_offer_to_an_open_camera_breaks_the_answerer_or_disturbs_who_watches(
    sandbox: SandboxProcess, wired: Device, cast: TenantCast, viewer: Any
) -> None:
    first: Viewer = viewer(cast.ada, wired)
    await first.watch("?path=relay")
    await until(lambda: first.pictures > 5, what="the first viewer's picture")
    watching = await LiveSession.objects.aget(kind="relayed")
    sockets, rows = own_udp_sockets(), await LiveSession.objects.open().acount()
    _, token = await sync_to_async(ApiToken.issue)(tenant=cast.tenant, name="fuzz", scopes=["read"])
    http = Client(headers={"Authorization": f"Bearer {token}"}, raise_request_exception=False)
    endpoint = f"{reverse('media:whep', args=['acme', wired.public_id])}?path=relay"
    answered: list[int] = []

    def offer(body: bytes) -> None:
        answer = http.post(endpoint, body, content_type=SDP)
        answered.append(answer.status_code)
        if answer.status_code == 201:  # harmless after all: a viewer who never connects, and leaves
            assert http.delete(answer["Location"]).status_code == 200
            return
        assert answer.status_code in {400, 413, 422}, (answer.status_code, answer.content, body)
        assert json.loads(answer.content)["detail"].endswith(".")

    def all_offers() -> None:
        for line in TROUBLE:
            offer("\r\n".join([*LINES[:-1], line, ""]).encode())
        chance = Random(5)  # the same offers each time
        for _ in range(100):
            offer(hostile_offer(chance))

    before = first.pictures
    await sync_to_async(all_offers, thread_sensitive=False)()

    assert answered.count(201) >= 10, "some are no trouble"
    reached = LiveSession.objects.filter(end_reason="failed", last_error="offer")
    assert await reached.acount() >= 10, "and some reach the answerer, which refuses them"
    assert first.pictures > before + 5
    await until(
        lambda: relaying.relay().standing()[0] == [watching.pk], timeout_s=5, what="one viewer being left"
    )
    await until(lambda: own_udp_sockets() == sockets, timeout_s=5, what="the sockets being closed")
    assert await LiveSession.objects.open().acount() == rows
    assert await open_at_ring(sandbox) == 1
    after = first.pictures
    await until(lambda: first.pictures > after + 5, what="the first viewer's picture going on")
