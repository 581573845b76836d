from dataclasses import replace

import pytest

from ring.config import RingConfig, is_loopback

CONFIG = RingConfig(
    api_url="https://api.amazonvision.com",
    token_url="https://oauth.ring.com/oauth/token",
    authorize_url="https://account.ring.com/authorize",
    media_hosts=(".devices.amazon.dev", "amazonaws.com"),
)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.amazonvision.com",
        "http://127.0.0.1:8001",
        "ftp://api.amazonvision.com",
        "api.amazonvision.com",
        "https://",
        "https://user@api.amazonvision.com",
        "https://api.amazonvision.com?x=1",
        "https://api.amazonvision.com#x",
        "https://api.amazonvision.com:port",
        "https://[::1",
        "https://api.amazonvision.com\\@other.example",
        "https://api.amazonvision.com ",
        "https://apí.example",
        "",
    ],
)
@pytest.mark.parametrize("field", ["api_url", "token_url", "authorize_url"])
def test_unsafe_addresses_stop_the_start(field, url):
    with pytest.raises(ValueError, match=field):
        replace(CONFIG, **{field: url})


@pytest.mark.parametrize("url", ["http://127.0.0.1:8001", "http://localhost:8001", "http://[::1]:8001"])
def test_plain_http_only_to_loopback_and_only_where_allowed(url):
    assert replace(CONFIG, api_url=url, allow_loopback_http=True).api_url == url
    with pytest.raises(ValueError, match="https"):
        replace(CONFIG, api_url=url)
    with pytest.raises(ValueError, match="https"):
        replace(CONFIG, api_url="http://api.example.com", allow_loopback_http=True)


@pytest.mark.parametrize(
    "host", ["localhost.example.com", "127.0.0.1.example.com", "2130706433", "0x7f.1", "", None]
)
def test_names_that_only_look_like_loopback(host):
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("media_hosts", ("",)),
        ("media_hosts", (".",)),
        ("media_hosts", ("*.amazonaws.com",)),
        ("media_hosts", ("https://a.example",)),
        ("connect_timeout_s", 0),
        ("read_timeout_s", -1),
        ("max_attempts", 0),
        ("user_agent", "two\nlines"),
        ("user_agent", ""),
    ],
)
def test_other_values_are_checked(field, value):
    with pytest.raises(ValueError, match=field):
        replace(CONFIG, **{field: value})
