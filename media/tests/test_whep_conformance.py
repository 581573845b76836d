"""
Our WHEP endpoint against the draft (draft-ietf-wish-whep, RFC 9725 where it refers to it), on both paths, by raw HTTP.

What is open is open in earnest: Ring is the sandbox, the relay is the real one, its ledger says what is left. Where nothing
is opened, a scripted Ring says what it was asked.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from django.conf import LazySettings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from accounts.models import ApiToken, AuditEntry, Tenant
from devices.models import Device
from media.models import LiveSession
from media.tests.conftest import OFFER, created, sessions_path
from ring.tests.server import Reply, ScriptedServer
from tests.support.cast import TenantCast
from tests.support.portal_process import wait_for
from tests.support.sandbox_process import SandboxProcess

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
ELSEWHERE = {"Origin": "https://player.example"}
# What a player sends that knows one H.264 and has gathered one candidate (an address of nobody's, RFC 5737).
PLAYER_OFFER = "\r\n".join(
    (
        "v=0",
        "o=- 4004819312 2 IN IP4 0.0.0.0",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "a=msid-semantic:WMS *",
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
        "c=IN IP4 0.0.0.0",
        "a=rtcp:9 IN IP4 0.0.0.0",
        "a=candidate:1 1 udp 2130706431 192.0.2.1 46129 typ host",
        "a=ice-ufrag:jCTW",
        "a=ice-pwd:blQz8iDQS3oUjLPezGGYkC",
        "a=fingerprint:sha-256 " + ":".join(["A2"] * 32),
        "a=setup:actpass",
        "a=mid:0",
        "a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid",
        "a=recvonly",
        "a=rtcp-mux",
        "a=rtpmap:96 H264/90000",
        "a=rtcp-fb:96 nack",
        "a=rtcp-fb:96 nack pli",
        "a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        "a=rtpmap:97 rtx/90000",
        "a=fmtp:97 apt=96",
        "",
    )
)


@pytest.fixture
def player(cast: TenantCast) -> Client:
    """A player with a token: what a standard WHEP client has."""
    _, token = ApiToken.issue(tenant=cast.tenant, name="player", scopes=["read"])
    return Client(headers={"Authorization": f"Bearer {token}"})


def endpoint(cast: TenantCast, path: str = "direct") -> str:
    return f"{reverse('media:whep', args=[cast.tenant.slug, cast.ada_camera.public_id])}?path={path}"


@dataclass(frozen=True)
class Opened:
    """A session that is open: the answer that said so, its address, and Ring."""

    answer: Any
    url: str
    sandbox: SandboxProcess

    def is_open_at_ring(self) -> bool:
        return any(entry["ended_ms"] is None for entry in self.sandbox.control("GET", "/sessions"))


@pytest.fixture(params=["direct", "relay"])
def path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def session(
    path: str,
    wired: Device,
    sandbox: SandboxProcess,
    player: Client,
    relay_closed: None,
    settings: LazySettings,
) -> Iterator[Opened]:
    """Opened by a player that has not connected yet, which it has fifteen seconds for."""
    settings.ICE_SERVERS = ("stun:stun.example:3478",)
    address = f"{reverse('media:whep', args=['acme', wired.public_id])}?path={path}"
    answer = player.post(address, PLAYER_OFFER, content_type=SDP, headers={"Accept": SDP})
    assert answer.status_code == HTTPStatus.CREATED, answer.content
    opened = Opened(answer, str(answer["Location"]), sandbox)
    assert opened.is_open_at_ring()
    yield opened
    player.delete(opened.url)
    wait_for(lambda: not opened.is_open_at_ring(), timeout_s=5, what="the end at Ring")


def test_a_created_session_has_all_the_draft_demands(session: Opened, path: str) -> None:
    answer = session.answer

    assert answer["Content-Type"] == SDP
    assert re.fullmatch(r'"[^"]+"', answer["ETag"]), "a strong entity tag"
    assert answer["Accept-Patch"] == FRAGMENT
    assert answer["Link"] == '<stun:stun.example:3478>; rel="ice-server"'
    assert re.search(r"/[0-9a-f-]{36}$", session.url), "nobody guesses it"
    assert answer["Live-Path"] == path


def test_the_answer_sends_what_the_offer_asked_for_and_nothing_else(session: Opened, path: str) -> None:
    lines = session.answer.content.decode().split("\r\n")

    assert lines[0] == "v=0"
    [video] = [line for line in lines if line.startswith("m=")]
    assert video.startswith("m=video ") and "96" in video.split()[3:]
    assert "a=sendonly" in lines and "a=mid:0" in lines and "a=rtcp-mux" in lines
    assert ("a=rtcp-mux-only" in lines) is (path == "relay"), "Ring's own answer is passed on as it is"
    assert "a=rtpmap:96 H264/90000" in lines
    assert [line for line in lines if line.startswith("a=setup:")] == ["a=setup:active"]
    for credential in ("a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:sha-256 ", "a=candidate:"):
        assert any(line.startswith(credential) for line in lines), credential
    assert {line.partition(":")[0] for line in lines} & {"a=sendrecv", "a=recvonly"} == set()


def test_the_session_says_what_it_is_and_takes(session: Opened, player: Client) -> None:
    head, options, get = player.head(session.url), player.options(session.url), player.get(session.url)

    assert (head.status_code, head["Content-Type"]) == (HTTPStatus.OK, SDP)
    assert head["ETag"] == session.answer["ETag"]
    assert head["Live-Path"] == session.answer["Live-Path"]
    assert (options.status_code, options["Accept-Patch"]) == (HTTPStatus.NO_CONTENT, FRAGMENT)
    assert {"DELETE", "PATCH", "GET", "HEAD", "OPTIONS"} <= set(options["Allow"].split(", "))
    assert (get.status_code, get.content, get["ETag"]) == (HTTPStatus.NO_CONTENT, b"", head["ETag"])
    put = player.put(session.url)
    assert (put.status_code, put["Allow"]) == (HTTPStatus.METHOD_NOT_ALLOWED, options["Allow"])


def test_a_session_is_its_opener_s_alone(session: Opened, cast: TenantCast, player: Client) -> None:
    _, token = ApiToken.issue(tenant=cast.tenant, name="another", scopes=["read"])
    another = Client(headers={"Authorization": f"Bearer {token}"})

    for method in ("head", "patch", "post", "delete"):
        assert getattr(another, method)(session.url).status_code == HTTPStatus.NOT_FOUND
        assert getattr(Client(), method)(session.url).status_code == HTTPStatus.UNAUTHORIZED
    assert player.head(session.url).status_code == HTTPStatus.OK
    assert session.is_open_at_ring()


@pytest.mark.parametrize("accept", ["application/json", "text/html", "application/sdp;q=0"])
@pytest.mark.parametrize("path", ["direct", "relay"])
def test_who_takes_no_sdp_is_told_before_a_camera_is_woken(
    cast: TenantCast, ring: ScriptedServer, player: Client, accept: str, path: str
) -> None:
    answer = player.post(endpoint(cast, path), OFFER, content_type=SDP, headers={"Accept": accept})

    assert answer.status_code == HTTPStatus.NOT_ACCEPTABLE
    assert ring.received == []
    assert not LiveSession.objects.exists()


@pytest.mark.parametrize("accept", ["*/*", "application/*", "text/html, application/sdp;q=0.5"])
def test_who_takes_sdp_among_others_gets_it(
    cast: TenantCast, ring: ScriptedServer, player: Client, accept: str
) -> None:
    ring.script("POST", sessions_path(cast), created(ring, cast))

    answer = player.post(endpoint(cast), OFFER, content_type=SDP, headers={"Accept": accept})

    assert answer.status_code == HTTPStatus.CREATED


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_the_endpoint_takes_nothing_but_offers(cast: TenantCast, player: Client, method: str) -> None:
    answer = player.generic(method, endpoint(cast))

    assert answer.status_code == HTTPStatus.METHOD_NOT_ALLOWED
    assert answer["Allow"] == "POST, GET, HEAD, OPTIONS"
    assert answer["Accept-Post"] == SDP


def test_options_and_head_say_what_can_be_posted(cast: TenantCast, player: Client) -> None:
    options, head, get = (getattr(player, method)(endpoint(cast)) for method in ("options", "head", "get"))

    assert (options.status_code, options["Accept-Post"]) == (HTTPStatus.NO_CONTENT, SDP)
    assert (head.status_code, head["Content-Type"]) == (HTTPStatus.OK, SDP)
    assert (get.status_code, get.content, get["Accept-Post"]) == (HTTPStatus.NO_CONTENT, b"", SDP)


def test_the_end_of_candidates_is_taken_with_the_entity_tag_only(player: Client, session: Opened) -> None:
    tag = session.answer["ETag"]
    fragment = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\nm=video 9 X 0\r\na=mid:0\r\na=end-of-candidates\r\n"

    def patch(content: str, content_type: str = FRAGMENT, **headers: str) -> int:
        return int(player.patch(session.url, content, content_type=content_type, headers=headers).status_code)

    assert patch(fragment) == HTTPStatus.PRECONDITION_REQUIRED
    assert patch(fragment, **{"If-Match": '"another"'}) == HTTPStatus.PRECONDITION_FAILED
    assert patch(fragment, "text/plain", **{"If-Match": tag}) == HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    assert patch(fragment, **{"If-Match": tag}) == HTTPStatus.NO_CONTENT
    taken = player.patch(session.url, fragment, content_type=FRAGMENT, headers={"If-Match": tag})
    assert (taken.content, "ETag" in taken) == (b"", False)
    for malformed in ("\r\n", "hello", fragment + "m=", fragment + "a=\r\n", fragment + "end-of-candidates"):
        assert patch(malformed, **{"If-Match": tag}) == HTTPStatus.BAD_REQUEST, malformed
    candidate = fragment + "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n"
    assert patch(candidate, **{"If-Match": tag}) == HTTPStatus.UNPROCESSABLE_ENTITY
    assert patch("a=x\r\n" * 20_000, **{"If-Match": tag}) == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert session.is_open_at_ring()


def test_an_ice_restart_is_refused_in_words_and_the_session_goes_on(player: Client, session: Opened) -> None:
    fragment = "a=ice-ufrag:efgh\r\na=ice-pwd:9999999999012345678901\r\n"

    answer = player.patch(session.url, fragment, content_type=FRAGMENT, headers={"If-Match": "*"})

    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert json.loads(answer.content)["reason"] == "ice_restart"
    assert player.head(session.url)["ETag"] == session.answer["ETag"]
    assert session.is_open_at_ring()


def test_delete_asks_for_no_entity_tag_and_ends_it_once(player: Client, session: Opened) -> None:
    assert player.delete(session.url, headers={"If-Match": '"another"'}).status_code == HTTPStatus.OK
    wait_for(lambda: not session.is_open_at_ring(), timeout_s=5, what="the end at Ring")

    # Players close their peer connection first, which says by DTLS what the DELETE says again.
    assert player.delete(session.url).status_code == HTTPStatus.OK
    for method in (player.head, player.get, player.patch):
        gone = method(session.url)
        assert (gone.status_code, gone["Session-End"]) == (HTTPStatus.NOT_FOUND, "closed")
    assert player.options(session.url).status_code == HTTPStatus.NO_CONTENT


def test_a_page_of_another_site_may_play_with_a_token_and_never_with_a_cookie(
    cast: TenantCast, ring: ScriptedServer, player: Client
) -> None:
    asked = Client().options(endpoint(cast), headers={**ELSEWHERE, "Access-Control-Request-Method": "POST"})
    assert asked.status_code == HTTPStatus.NO_CONTENT
    assert asked["Access-Control-Allow-Origin"] == "*"
    assert "Authorization" in asked["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in asked

    ring.script("POST", sessions_path(cast), created(ring, cast))
    played = player.post(endpoint(cast), OFFER, content_type=SDP, headers=ELSEWHERE)
    assert played["Access-Control-Allow-Origin"] == "*"
    assert {"Location", "ETag", "Link", "Accept-Patch"} <= set(
        played["Access-Control-Expose-Headers"].split(", ")
    )

    person = Client()
    person.force_login(cast.ada.user)
    seen = person.head(endpoint(cast), headers=ELSEWHERE)
    assert "Access-Control-Allow-Origin" not in seen


def test_a_preflight_tells_nobody_what_is_there(cast: TenantCast) -> None:
    nowhere = endpoint(cast).replace(str(cast.ada_camera.public_id), "00000000-0000-4000-8000-000000000000")
    headers = {**ELSEWHERE, "Access-Control-Request-Method": "POST"}

    here, there = (
        Client().options(endpoint(cast), headers=headers),
        Client().options(nowhere, headers=headers),
    )

    assert (here.status_code, dict(here.items())) == (there.status_code, dict(there.items())) or (
        {**dict(here.items()), "X-Request-ID": ""} == {**dict(there.items()), "X-Request-ID": ""}
    )


def test_turn_gets_a_password_that_ends(cast: TenantCast, player: Client, settings: LazySettings) -> None:
    settings.ICE_SERVERS = ("stun:stun.example:3478", "turn:turn.example:3478?transport=udp")
    settings.TURN_SECRET = "shared with coturn"

    link = player.head(endpoint(cast))["Link"]

    stun, turn = link.split(", ")
    assert stun == '<stun:stun.example:3478>; rel="ice-server"'
    found = re.fullmatch(
        r'<turn:turn\.example:3478\?transport=udp>; rel="ice-server"; username="(\d+)"; credential="([^"]+)"; credential-type="password"',
        turn,
    )
    assert found
    assert 0 < int(found[1]) - timezone.now().timestamp() <= 12 * 3600 + 1
    expected = hmac.new(b"shared with coturn", found[1].encode(), hashlib.sha1).digest()
    assert found[2] == base64.b64encode(expected).decode()
    assert "shared" not in link


def test_the_page_gets_the_same_servers_as_any_player(cast: TenantCast, settings: LazySettings) -> None:
    settings.ICE_SERVERS = ("turn:turn.example:3478",)
    settings.TURN_SECRET = "shared with coturn"
    person = Client()
    person.force_login(cast.ada.user)

    page = person.get(
        reverse("devices:detail", args=[cast.tenant.slug, cast.ada_camera.public_id])
    ).content.decode()

    assert "turn:turn.example:3478" in page
    assert "credential" in page
    assert "shared with coturn" not in page


def test_a_viewing_belongs_to_its_sign_in_before_ring_is_asked(
    cast: TenantCast, ring: ScriptedServer
) -> None:
    """Who signs out while the picture is being opened leaves no session that nobody ends."""
    ring.script("POST", sessions_path(cast), Reply(hang_up=True))
    person = Client()
    person.force_login(cast.ada.user)

    person.post(endpoint(cast), OFFER, content_type=SDP)

    assert LiveSession.objects.get().session_key == person.session.session_key


_LINES = OFFER.split("\r\n")


@st.composite
def broken_offers(draw: st.DrawFn) -> bytes:
    """A real offer with lines left out, doubled, swapped or replaced, other line ends, and bytes of any sort in it."""
    lines = list(_LINES)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.integers(0, 5)):
            case 0:
                del lines[at : at + 1]
            case 1:
                lines.insert(at, lines[at])
            case 2:
                lines.insert(
                    at,
                    draw(
                        st.sampled_from(
                            [
                                "m=video 9 X 0",
                                "m=audio 0 RTP/AVP",
                                "a=sendrecv",
                                "a=group:BUNDLE 0 0",
                                "a=rtpmap:0",
                                "c=IN",
                                "m=",
                            ]
                        )
                    ),
                )
            case 3:
                lines[at] = lines[at][: draw(st.integers(0, 20))]
            case 4:
                lines[at] += draw(st.text(max_size=20))
            case _:
                lines.insert(at, "a=" + "x" * draw(st.integers(0, 5000)))
        if not lines:
            lines = [""]
    text = draw(st.sampled_from(["\r\n", "\n", "\r"])).join(lines).encode("utf-8", "surrogatepass")
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(st.binary(max_size=8)) + text[at:]


@pytest.mark.django_db(transaction=True)  # the relay reads in a thread of its own
@pytest.mark.parametrize("path", ["direct", "relay"])
@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(offer=broken_offers())
def test_no_offer_breaks_the_endpoint_or_leaves_a_session(
    cast: TenantCast, ring: ScriptedServer, player: Client, path: str, offer: bytes
) -> None:
    """Ring refuses whatever reaches it: what is counted here is our own manners."""
    ring.script("POST", sessions_path(cast), *[Reply(400)] * 5)

    answer = player.post(endpoint(cast, path), offer, content_type=SDP)

    assert answer.status_code in {400, 413, 422, 503}, answer.content
    assert json.loads(answer.content)["detail"].endswith(".")
    assert not LiveSession.objects.open().exists()


@pytest.mark.parametrize(
    ("chosen", "asked", "expected"), [("direct", "", "direct"), ("relay", "direct", "direct")]
)
def test_the_company_chooses_the_way_and_a_player_may_choose_otherwise(
    cast: TenantCast, ring: ScriptedServer, player: Client, chosen: str, asked: str, expected: str
) -> None:
    owner = Client()
    owner.force_login(cast.owner.user)
    page = reverse("media:live_settings", args=[cast.tenant.slug])
    chosen_limits = {"live_path": chosen, "live_most": 50, "wall_most": 4, "battery_minutes": 30}
    assert owner.post(page, chosen_limits).status_code == HTTPStatus.FOUND
    ring.script("POST", sessions_path(cast), created(ring, cast))

    answer = player.post(
        endpoint(cast, asked) if asked else endpoint(cast).partition("?")[0], OFFER, content_type=SDP
    )

    assert answer["Live-Path"] == expected
    entry = AuditEntry.objects.get(tenant=cast.tenant, action="tenant.live_path")
    assert entry.detail["live_path"] == chosen


@pytest.mark.django_db(transaction=True)
def test_where_the_company_chose_the_relay_it_is_the_relay_that_asks_ring(
    cast: TenantCast, ring: ScriptedServer, player: Client
) -> None:
    Tenant.objects.filter(pk=cast.tenant.pk).update(live_path="relay")
    Device.objects.filter(pk=cast.ada_camera.pk).update(is_battery_powered=False)
    ring.script("POST", sessions_path(cast), Reply(500))

    player.post(endpoint(cast).partition("?")[0], OFFER, content_type=SDP)

    assert LiveSession.objects.filter(kind=LiveSession.Kind.RELAYED).exists()
    assert ring.received[0].body.decode() != OFFER, "its own offer, not the player's"


@pytest.mark.parametrize("given", ["", "somewhere"])
def test_a_way_that_is_none_is_refused(cast: TenantCast, given: str) -> None:
    owner = Client()
    owner.force_login(cast.owner.user)

    answer = owner.post(
        reverse("media:live_settings", args=[cast.tenant.slug]), {"live_path": given, "x": "1"}
    )

    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert Tenant.objects.get(pk=cast.tenant.pk).live_path == "auto"
