from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ring.addresses import media_url, next_page_url, segment, session_url, sessions_path
from ring.errors import UnsafeRedirect
from ring.tests.test_config import CONFIG

API = "https://api.amazonvision.com"
HERE = f"{API}/v1/devices"
DEVICE = "ava1.ring.device.AAA"
SESSIONS = API + sessions_path(DEVICE)
SANDBOX = replace(CONFIG, api_url="http://127.0.0.1:8001", allow_loopback_http=True)


@pytest.mark.parametrize(
    "url",
    [
        "https://download-us-east-1.prod.phoenix.devices.amazon.dev/v1/download?security_token=x&req_type=a%2Fb",
        "https://bucket.s3.amazonaws.com:443/clip",
        "https://amazonaws.com/clip",
        "https://api.amazonvision.com/clip",
        "HTTPS://Bucket.AmazonAWS.com/clip",
        "//bucket.amazonaws.com/clip",
        "/v1/download?id=1",
    ],
)
def test_downloads_go_to_listed_hosts(url):
    assert media_url(HERE, url, config=CONFIG).lower().startswith("https://")


@pytest.mark.parametrize(
    "url",
    [
        "https://evilamazonaws.com/clip",  # the end of the name, but not at a dot
        "https://amazonaws.com.example.org/clip",
        "https://example.org/?.amazonaws.com",
        "https://example.org#.amazonaws.com",
        "https://example.org\\.amazonaws.com/clip",
        "https://bucket.amazonaws.com@example.org/clip",
        "https://example.org:443@bucket.amazonaws.com/clip",
        "http://bucket.amazonaws.com/clip",
        "https://bucket.amazonaws.com:8443/clip",
        "https://bucket.amazonaws.com:99999/clip",
        "https://bucket.amazonaws.com:0/clip",
        "https://-.amazonaws.com/clip",
        "https://a..amazonaws.com/clip",
        "https://bucket.amazonaws.com./clip",
        "https://169.254.169.254/latest/meta-data",
        "https://127.0.0.1/clip",
        "https://[::1]/clip",
        "https://[bad",
        "http://127.0.0.1:8002/clip",
        "file:///etc/passwd",
        "ftp://bucket.amazonaws.com/clip",
        "javascript:alert(1)",
        "https://",
        "https:///clip",
        "",
        "https://bucket.amazonaws.com/a\r\nHost: x",
        "https://bücket.amazonaws.com/clip",
        "https://bucket.amazonaws.com/" + "a" * 20_000,
    ],
)
def test_downloads_go_nowhere_else(url):
    with pytest.raises(UnsafeRedirect) as caught:
        media_url(HERE, url, config=CONFIG)
    assert "clip" not in str(caught.value)


def test_plain_http_is_for_a_sandbox_on_loopback_only():
    url = "http://127.0.0.1:8002/clip"
    assert media_url(SANDBOX.api_url + "/v1", url, config=SANDBOX) == url
    assert media_url(SANDBOX.api_url + "/v1", "http://[::1]:8002/c", config=SANDBOX)
    refused = [
        (SANDBOX, "http://192.168.0.1:8002/clip"),
        (SANDBOX, "http://2130706433/clip"),
        (SANDBOX, "https://127.0.0.1:8002/clip"),
        # The real API must not be able to send us to our own machine, whatever the flag says.
        (replace(CONFIG, allow_loopback_http=True), url),
        (replace(CONFIG, api_url="https://127.0.0.1"), url),
    ]
    for config, location in refused:
        with pytest.raises(UnsafeRedirect):
            media_url(config.api_url + "/v1", location, config=config)


@given(st.text(max_size=60))
def test_no_text_reaches_an_unlisted_host(text):
    try:
        url = media_url(HERE, "https://" + text, config=CONFIG)
    except UnsafeRedirect:
        return
    host = url.removeprefix("https://").split("/")[0].split("?")[0].split("#")[0].split(":")[0].lower()
    assert ("." + host).endswith((".devices.amazon.dev", ".amazonaws.com", ".api.amazonvision.com"))


@pytest.mark.parametrize(
    "link", ["/v1/devices?page=2", f"{API}/v1/devices?page=2", f"{API}:443/v1/devices?page=2", "?page=2"]
)
def test_next_page_on_the_same_origin(link):
    assert next_page_url(HERE, link, config=CONFIG).endswith("/v1/devices?page=2")


@pytest.mark.parametrize(
    "link",
    [
        "https://example.org/v1/devices",
        "//example.org/v1/devices",
        "http://api.amazonvision.com/v1/devices",
        f"{API}:8443/v1/devices",
        f"{API}.example.org/v1/devices",
        f"{API}@example.org/v1/devices",
        "/oauth/token",
        "/v1/../admin",
        "/v1/%2e%2e/admin",
    ],
)
def test_next_page_stays_on_the_api(link):
    with pytest.raises(UnsafeRedirect):
        next_page_url(HERE, link, config=CONFIG)


@pytest.mark.parametrize("location", [f"{SESSIONS}/s-1", f"{sessions_path(DEVICE)}/s-1"])
def test_session_absolute_or_relative(location):
    assert session_url(SESSIONS, location, config=CONFIG, ring_id=DEVICE) == f"{SESSIONS}/s-1"


@pytest.mark.parametrize(
    "location",
    [
        "",
        "https://example.org" + sessions_path(DEVICE) + "/s-1",
        "http://api.amazonvision.com" + sessions_path(DEVICE) + "/s-1",
        SESSIONS,
        SESSIONS + "/",
        SESSIONS + "/s-1/more",
        SESSIONS + "/..",
        SESSIONS + "/%2e%2e",
        SESSIONS + "/s-1#f",
        "/v1/devices/" + DEVICE,
        "/v1/accounts/me/app-integrations",
        sessions_path("ava1.ring.device.BBB") + "/s-1",
    ],
)
def test_session_elsewhere_is_not_trusted(location):
    with pytest.raises(UnsafeRedirect):
        session_url(SESSIONS, location, config=CONFIG, ring_id=DEVICE)


@given(st.text(min_size=1).filter(lambda text: text not in (".", "..") and text.isascii()))
def test_an_id_is_always_one_segment(ring_id):
    encoded = segment(ring_id)
    assert not set(encoded) & set("/?#\\ ")
    # An encoded id comes back as the same device's, whatever is in it.
    url = API + sessions_path(ring_id) + "/s-1"
    assert session_url(HERE, url, config=CONFIG, ring_id=ring_id) == url


@pytest.mark.parametrize("ring_id", ["", ".", ".."])
def test_ids_no_encoding_helps_are_refused(ring_id):
    with pytest.raises(ValueError, match="id"):
        segment(ring_id)


def test_a_base_path_is_part_of_the_api():
    behind = replace(CONFIG, api_url="https://gate.example.com/ring/")
    here = "https://gate.example.com/ring/v1/devices"
    assert next_page_url(here, "/ring/v1/devices?p=2", config=behind).endswith("/ring/v1/devices?p=2")
    with pytest.raises(UnsafeRedirect):
        next_page_url(here, "/v1/devices?p=2", config=behind)
