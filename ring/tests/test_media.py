import gzip
import hashlib
import io
import logging
from contextlib import suppress
from dataclasses import replace
from typing import Any, BinaryIO

import pytest

from ring.client import RingClient
from ring.errors import (
    MediaNotReady,
    MediaNotRecorded,
    MediaTooLarge,
    MediaUnreadable,
    RingError,
    RingForbidden,
    RingNotFound,
    RingRejected,
    RingUnauthorized,
    RingUnavailable,
    TimeRangeNotAuthorized,
    UnsafeRedirect,
)
from ring.media import JPEG, MP4, PNG, MediaFacts, sniff
from ring.tests.server import Reply, error_reply, json_reply

DEVICE = "ava1.ring.device.AAA"
CLIP = f"/v1/devices/{DEVICE}/media/video/download"
IMAGE = f"/v1/devices/{DEVICE}/media/image/download"
MP4_BYTES = b"\x00\x00\x00\x20ftypisom" + bytes(range(256)) * 20
JPEG_BYTES = b"\xff\xd8\xff\xe0\x00\x10JFIF" + b"j" * 500
PNG_BYTES = b"\x89PNG\r\n\x1a\n" + b"p" * 500
START_MS = 1_790_000_000_000


def redirect(url: str, status: int = 303, **headers: str) -> Reply:
    return Reply(status, b"a body nobody reads", {"Location": url, "X-Request-ID": "req-api", **headers})


def media(body: bytes = MP4_BYTES, status: int = 200, content_type: str = MP4, **headers: str) -> Reply:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, body, {"Content-Type": content_type, **names})


def fetch_clip(client: RingClient, into: BinaryIO | None = None, **arguments: Any) -> MediaFacts:
    arguments = {"start_ms": START_MS, "duration_ms": 20_000, "max_bytes": 1_000_000} | arguments
    return client.download_clip(DEVICE, into=into if into is not None else io.BytesIO(), **arguments)


def fetch_image(client: RingClient, into: BinaryIO | None = None, **arguments: Any) -> MediaFacts:
    arguments = {"max_bytes": 1_000_000} | arguments
    return client.download_image(DEVICE, into=into if into is not None else io.BytesIO(), **arguments)


@pytest.fixture
def signed(media_host) -> str:
    return f"{media_host.url}/v1/download?security_token=SECRET&req_id=1"


# --- what the media host sees, and what it must not --------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_followed_with_get_and_without_bearer_or_cookie(api, media_host, client, signed, status):
    api.script("POST", CLIP, redirect(signed, status, **{"Set-Cookie": "session=1; Path=/"}))
    media_host.script("GET", "/v1/download", media(X_Media_Timestamp=str(START_MS), X_Request_ID="req-media"))
    into = io.BytesIO()
    facts = fetch_clip(client, into)
    assert into.getvalue() == MP4_BYTES
    (request,) = media_host.received
    assert request.method == "GET"
    assert request.body == b""
    assert request.query == {"security_token": ["SECRET"], "req_id": ["1"]}
    assert request.headers["Authorization"] is None
    assert request.headers["Cookie"] is None
    assert "AT-1" not in str(request.headers)
    assert facts.sha256 == hashlib.sha256(MP4_BYTES).hexdigest()
    assert facts.size_bytes == len(MP4_BYTES)
    assert (facts.start_ms, facts.is_partial, facts.content_type) == (START_MS, False, MP4)
    assert facts.request_id == "req-media"


def test_a_redirect_back_to_the_api_carries_no_bearer_either(api, client):
    api.script("POST", CLIP, redirect("/v1/download?x=1"))
    api.script("GET", "/v1/download", media())
    assert fetch_clip(client).request_id == "req-api"
    assert [request.headers["Authorization"] for request in api.received] == ["Bearer AT-1", None]


def test_no_cookie_is_carried_from_hop_to_hop(api, media_host, client, signed):
    api.script("POST", CLIP, redirect(signed))
    media_host.script("GET", "/v1/download", redirect("/second", 302, **{"Set-Cookie": "hop=1; Path=/"}))
    media_host.script("GET", "/second", media())
    fetch_clip(client)
    assert [request.headers["Cookie"] for request in media_host.received] == [None, None]


def test_three_redirects_and_no_more(api, media_host, client):
    hops = [f"{media_host.url}/{number}" for number in range(4)]
    for number in range(3):
        media_host.script("GET", f"/{number}", redirect(hops[number + 1]))
    media_host.script("GET", "/1", redirect(hops[2]))
    media_host.script("GET", "/2", media())
    media_host.script("GET", "/3", media())
    api.script("POST", CLIP, redirect(hops[0]), redirect(hops[1]))
    with pytest.raises(UnsafeRedirect, match="too often"):
        fetch_clip(client)
    assert [request.path for request in media_host.received] == ["/0", "/1", "/2"]


@pytest.mark.parametrize(
    "location",
    [
        "http://192.0.2.1/clip",
        "http://169.254.169.254/latest/meta-data",
        "https://example.org/clip",
        "https://evildevices.amazon.dev/clip",
        "https://127.0.0.1:1/clip",
        "https://media.devices.amazon.dev:8443/clip",
        "http://media.devices.amazon.dev/clip",
        "http://user@127.0.0.1:1/clip",
        "file:///etc/passwd",
        "https://[bad",
        "",
    ],
)
@pytest.mark.parametrize("is_second_hop", [False, True])
def test_other_addresses_are_refused_on_every_hop(api, media_host, client, signed, location, is_second_hop):
    if is_second_hop:
        api.script("POST", CLIP, redirect(signed))
        media_host.script("GET", "/v1/download", redirect(location))
    else:
        api.script("POST", CLIP, redirect(location))
    into = io.BytesIO()
    with pytest.raises(UnsafeRedirect) as caught:
        fetch_clip(client, into)
    assert into.getvalue() == b""
    assert "SECRET" not in str(caught.value)
    assert not location or location not in str(caught.value)


def test_signed_addresses_reach_no_log(api, media_host, client, signed, caplog):
    api.script("POST", CLIP, redirect(signed))
    media_host.script("GET", "/v1/download", replace(media(), raw_headers=b"no header at all\r\n"))
    with caplog.at_level(logging.DEBUG), suppress(RingError):
        fetch_clip(client)
    assert "/v1/download" in caplog.text
    assert "Failed to parse headers" in caplog.text
    assert "SECRET" not in caplog.text
    assert "AT-1" not in caplog.text


# --- what is asked (contract 11.2, 11.3) ---------------------------------------------------------------------


def test_a_clip_is_asked_for_as_documented(api, client):
    api.script("POST", CLIP, media(), media())
    fetch_clip(client)
    fetch_clip(client, component_id="1", codec="avc", audio_enabled=True)
    assert api.received[0].json == {"timestamp": START_MS, "duration": 20_000}
    assert api.received[1].json == {
        "timestamp": START_MS,
        "duration": 20_000,
        "components": [{"component_id": "1"}],
        "video_options": {"codec": "avc"},
        "audio_options": {"audio_enabled": True},
    }


@pytest.mark.parametrize("duration_ms", [0, -1, 900_001])
def test_a_clip_has_a_length_ring_can_give(api, client, duration_ms):
    with pytest.raises(ValueError, match="15 minutes"):
        fetch_clip(client, duration_ms=duration_ms)
    assert api.received == []


def test_an_image_is_asked_for_as_documented(api, client):
    api.script("POST", IMAGE, *[media(JPEG_BYTES, content_type=JPEG)] * 2, media(PNG_BYTES, content_type=PNG))
    fetch_image(client, at_ms=START_MS)
    fetch_image(client, start_ms=START_MS, end_ms=START_MS + 5, component_id="0")
    facts = fetch_image(client, start_ms=START_MS, format="png", width=640, height=360)
    assert facts.content_type == PNG
    options = {"format": "jpeg"}
    assert [request.json for request in api.received] == [
        {"type": "at_timestamp", "timestamp": START_MS, "image_options": options},
        {
            "type": "latest_in_range",
            "start_timestamp": START_MS,
            "end_timestamp": START_MS + 5,
            "image_options": options,
            "components": [{"component_id": "0"}],
        },
        {
            "type": "latest_in_range",
            "start_timestamp": START_MS,
            "image_options": {"format": "png", "resolution": {"width": 640, "height": 360}},
        },
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"at_ms": 1, "start_ms": 1},
        {"at_ms": 1, "end_ms": 1},
        {"end_ms": 1},
        {"start_ms": 2, "end_ms": 1},
        {"start_ms": 0, "end_ms": 86_400_001},
        {"at_ms": 1, "width": 1921},
        {"at_ms": 1, "height": 0},
    ],
)
def test_an_image_nobody_can_give_is_not_asked_for(api, client, arguments):
    with pytest.raises(ValueError, match=r"at_ms|window|pixels"):
        fetch_image(client, **arguments)
    assert api.received == []


# --- what comes back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 206])
def test_a_direct_answer_is_the_media(api, client, status):
    api.script("POST", CLIP, media(status=status, X_Media_Timestamp=str(START_MS + 5)))
    facts = fetch_clip(client)
    assert facts.is_partial is (status == 206)
    assert facts.start_ms == START_MS + 5


@pytest.mark.parametrize(
    ("headers", "duration_ms"),
    [
        ({"X_Media_Length": "7000"}, 7000),
        ({"X_Media_Duration": "7000"}, 7000),
        ({"X_Media_Length": "7000", "X_Media_Duration": "7001"}, 7000),
        ({"X_Media_Length": "long"}, None),
        ({}, None),
    ],
)
def test_both_names_of_the_real_length(api, media_host, client, signed, headers, duration_ms):
    api.script("POST", CLIP, redirect(signed))
    media_host.script("GET", "/v1/download", media(status=206, **headers))
    facts = fetch_clip(client)
    assert (facts.duration_ms, facts.is_partial) == (duration_ms, True)


@pytest.mark.parametrize("is_chunked", [False, True])
def test_progress_counts_every_byte(api, client, is_chunked):
    body = b"\x00\x00\x00\x20ftypisom" + b"v" * (100 if is_chunked else 300_000)
    api.script("POST", CLIP, Reply(200, body, {"Content-Type": MP4}, chunked=is_chunked))
    seen = []
    into = io.BytesIO()
    fetch_clip(client, into, on_progress=lambda done, total: seen.append((done, total)))
    assert into.getvalue() == body
    assert seen[-1] == (len(body), None if is_chunked else len(body))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize(
    "content_type", ["application/octet-stream", "binary/octet-stream", "", "Video/MP4; codecs=x"]
)
def test_bytes_decide_where_the_type_says_nothing(api, client, content_type):
    api.script("POST", CLIP, media(content_type=content_type))
    assert fetch_clip(client).content_type == MP4


@pytest.mark.parametrize(
    "reply",
    [
        media(b"<html>an error page</html>"),
        media(JPEG_BYTES),
        media(b""),
        media(b"\x00\x00\x00\x20fty"),
        media(bytes(500)),  # TAKE: opaque bytes (contract 14)
        media(content_type="text/html"),
        media(content_type="application/json"),
        media(content_type=JPEG),
    ],
)
def test_what_is_not_the_media_is_never_written(api, client, reply):
    api.script("POST", CLIP, reply)
    into = io.BytesIO()
    with pytest.raises(MediaUnreadable):
        fetch_clip(client, into)
    assert into.getvalue() == b""


def test_an_image_of_another_format_is_not_the_one_asked_for(api, client):
    api.script("POST", IMAGE, media(PNG_BYTES, content_type="application/octet-stream"))
    with pytest.raises(MediaUnreadable):
        fetch_image(client, at_ms=START_MS)


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_download_stops_at_the_callers_limit(api, client, is_chunked):
    api.script("POST", CLIP, Reply(200, MP4_BYTES, {"Content-Type": MP4}, chunked=is_chunked))
    into = io.BytesIO()
    with pytest.raises(MediaTooLarge):
        fetch_clip(client, into, max_bytes=len(MP4_BYTES) - 1)
    assert len(into.getvalue()) < len(MP4_BYTES)


def test_the_limit_itself_is_allowed(api, client):
    api.script("POST", CLIP, media())
    assert fetch_clip(client, max_bytes=len(MP4_BYTES)).size_bytes == len(MP4_BYTES)


def test_a_compressed_download_is_unpacked_and_its_unpacked_bytes_are_counted(api, client):
    """We ask for none, but a host in between may insist."""
    body = MP4_BYTES + bytes(900_000)
    packed = media(gzip.compress(body), Content_Encoding="gzip")
    api.script("POST", CLIP, packed, packed, media(b"no gzip", Content_Encoding="gzip"))
    into = io.BytesIO()
    assert fetch_clip(client, into).size_bytes == len(body)
    assert into.getvalue() == body
    with pytest.raises(MediaTooLarge):
        fetch_clip(client, max_bytes=len(body) - 1)
    with pytest.raises(RingUnavailable, match="broke off"):
        fetch_clip(client)


@pytest.mark.parametrize("missing", [1, 1000])
def test_a_download_that_breaks_off_is_no_clip(api, client, missing):
    api.script("POST", CLIP, Reply(200, MP4_BYTES, {"Content-Type": MP4}, cut_bytes=missing))
    with pytest.raises(RingUnavailable, match="broke off"):
        fetch_clip(client)


def test_a_slow_download_ends_at_its_total_limit(api, make_client):
    api.script("POST", CLIP, Reply(200, MP4_BYTES, {"Content-Type": MP4}, drip=0.02))
    with pytest.raises(RingUnavailable, match="too long"):
        fetch_clip(make_client(media_timeout_s=0.1))


# --- refusals, from either side (contract 11.4) --------------------------------------------------------------


REFUSALS = [
    (error_reply(400, code="INVALID_PAYLOAD"), RingRejected, "INVALID_PAYLOAD"),
    (error_reply(403, code="REQUEST_FORBIDDEN"), RingForbidden, "REQUEST_FORBIDDEN"),
    (error_reply(403, code="TIME_RANGE_NOT_AUTHORIZED"), TimeRangeNotAuthorized, "TIME_RANGE_NOT_AUTHORIZED"),
    (error_reply(404, code="DEVICE_NOT_FOUND"), RingNotFound, "DEVICE_NOT_FOUND"),
    (error_reply(416, code="MEDIA_NOT_FOUND"), MediaNotRecorded, "MEDIA_NOT_FOUND"),
    (error_reply(416, code="TIMESTAMP_NOT_FOUND"), MediaNotRecorded, "TIMESTAMP_NOT_FOUND"),
    (Reply(416), MediaNotRecorded, ""),
    (error_reply(422, code="CORRUPT_RECORDING"), MediaUnreadable, "CORRUPT_RECORDING"),
    (Reply(422, b"<html>"), MediaUnreadable, ""),
    (error_reply(425, code="RECORDING_NOT_READY", Retry_After="3"), MediaNotReady, "RECORDING_NOT_READY"),
    (error_reply(503, code="SERVER_BUSY"), RingUnavailable, "SERVER_BUSY"),
    (error_reply(500, code="INTERNAL_ERROR"), RingUnavailable, "INTERNAL_ERROR"),
]


@pytest.mark.parametrize("is_from_media_host", [False, True])
@pytest.mark.parametrize(("reply", "error", "code"), REFUSALS)
def test_refusals_are_named(api, media_host, client, signed, waits, reply, error, code, is_from_media_host):
    if is_from_media_host:
        api.script("POST", CLIP, redirect(signed))
        media_host.script("GET", "/v1/download", reply)
    else:
        api.script("POST", CLIP, reply)
    into = io.BytesIO()
    with pytest.raises(error) as caught:
        fetch_clip(client, into)
    assert type(caught.value) is error
    assert (caught.value.status, caught.value.code) == (reply.status, code)
    assert caught.value.retry_after_s == (3 if reply.status == 425 else None)
    assert into.getvalue() == b""
    assert waits == []
    assert "SECRET" not in str(caught.value)


def test_error_ids_are_kept_for_support(api, client):
    api.script("POST", CLIP, json_reply({"errors": [{"id": "req-9", "code": "SERVER_BUSY"}]}, 503))
    with pytest.raises(RingError) as caught:
        fetch_clip(client)
    assert caught.value.request_id == "req-9"


def test_an_expired_token_is_refreshed_before_a_download(api, make_client):
    api.script("POST", CLIP, error_reply(401, code="UNAUTHORIZED"), media())
    assert fetch_clip(make_client(refresh=lambda: "AT-2")).size_bytes == len(MP4_BYTES)
    assert api.received[0].json == api.received[1].json


def test_401_of_the_api_is_about_the_token(api, client):
    api.script("POST", CLIP, error_reply(401, code="UNAUTHORIZED"))
    with pytest.raises(RingUnauthorized) as caught:
        fetch_clip(client)
    assert caught.value.code == "UNAUTHORIZED"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_media_host_that_refuses_the_address_says_nothing_about_the_token(
    api, media_host, make_client, signed, status, refresher
):
    api.script("POST", CLIP, redirect(signed))
    media_host.script("GET", "/v1/download", Reply(status, b"<Error>AccessDenied</Error>"))
    with pytest.raises(RingUnavailable, match="signed address"):
        fetch_clip(make_client(refresh=refresher))
    assert refresher.calls == 0


def test_media_is_not_fetched_twice_by_itself(api, media_host, client, signed):
    api.script("POST", CLIP, redirect(signed))
    media_host.script("GET", "/v1/download", Reply(hang_up=True), media())
    with pytest.raises(RingUnavailable) as caught:
        fetch_clip(client)
    assert len(media_host.received) == 1
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("head", "content_type"),
    [
        (MP4_BYTES, MP4),
        (JPEG_BYTES, JPEG),
        (PNG_BYTES, PNG),
        (b"", ""),
        (b"ftypisom", ""),
        (b"\xff\xd8", ""),
        (b"GIF89a......", ""),
    ],
)
def test_sniffing(head, content_type):
    assert sniff(head) == content_type
