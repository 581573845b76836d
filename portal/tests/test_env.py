"""The environment is read once, and everything wrong with it is said at once."""

from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

import pytest

from portal.env import DEVELOPMENT_FIELD_KEY, DEVELOPMENT_SECRET_KEY, load

BASE = Path("/srv/portal")
GOOD = {
    "SECRET_KEY": "long and random",
    "FIELD_ENCRYPTION_KEYS": DEVELOPMENT_FIELD_KEY,
    "ALLOWED_HOSTS": "portal.example, www.portal.example",
    "MEDIA_ROOT": "/srv/clips",
}


def problems(**changes: str) -> str:
    with pytest.raises(ImproperlyConfigured) as error:
        load(BASE, {**GOOD, **changes})
    return str(error.value)


def test_a_complete_environment_is_taken():
    env = load(BASE, {**GOOD, "PUBLIC_URL": "https://portal.example/"})
    assert env.debug is False
    assert env.allowed_hosts == ["portal.example", "www.portal.example"]
    assert env.media_root == Path("/srv/clips")
    assert env.ring_api_url == "https://api.amazonvision.com"
    assert env.public_url == "https://portal.example"
    assert env.log_format == "json"
    assert load(BASE, {**GOOD, "SECRET_KEY_FALLBACKS": "older,oldest"}).secret_key_fallbacks == [
        "older",
        "oldest",
    ]


def test_without_debug_every_missing_secret_is_named_at_once():
    with pytest.raises(ImproperlyConfigured) as error:
        load(BASE, {})
    for name in ("SECRET_KEY", "FIELD_ENCRYPTION_KEYS", "ALLOWED_HOSTS", "MEDIA_ROOT"):
        assert f"{name} is not set" in str(error.value)


def test_with_debug_nothing_needs_to_be_set():
    env = load(BASE, {"DEBUG": "1"})
    assert env.secret_key == DEVELOPMENT_SECRET_KEY
    assert env.field_encryption_keys == (DEVELOPMENT_FIELD_KEY,)
    assert env.log_format == "text"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FIELD_ENCRYPTION_KEYS", "short"),
        ("FIELD_ENCRYPTION_KEYS", f"{DEVELOPMENT_FIELD_KEY},!!"),
        ("RING_API_URL", "http://api.amazonvision.com"),
        ("RING_API_URL", "http://127.0.0.1:8001"),
        ("RING_TOKEN_URL", "ftp://oauth.ring.com"),
        ("REDIS_URL", "localhost:6379"),
        ("LOG_FORMAT", "xml"),
        ("LIVE_RELAY", "somewhere"),
        ("LIVE_RELAY", "nodes"),
        ("ADMIN_ALLOWED_NETWORKS", "192.0.2.0/24,office"),
        ("ADMIN_ALLOWED_NETWORKS", "192.0.2.1/24"),
        ("ADMIN_PATH", "back room"),
        ("ADMIN_PATH", "ring"),
        ("ADMIN_PATH", "/"),
        ("MEDIA_ROOT", "/srv/portal"),
        ("MEDIA_ROOT", "/srv/portal/media/clips"),
        ("MEDIA_ROOT", "/srv/portal/static/../media"),
    ],
)
def test_what_is_wrong_is_named(name, value):
    assert name in problems(**{name: value})


def test_relay_nodes_need_redis_to_be_asked_through():
    assert "REDIS_URL" in problems(LIVE_RELAY="nodes")
    redis = {"LIVE_RELAY": "nodes", "REDIS_URL": "redis://localhost:6379/0"}
    assert load(BASE, {**GOOD, **redis}).live_relay == "nodes"
    assert load(BASE, GOOD).live_relay == "web"


def test_no_secret_is_in_what_the_environment_prints():
    secrets = {"SECRET_KEY": "canary-key", "TURN_SECRET": "canary-turn", "METRICS_TOKEN": "canary-metrics"}
    assert "canary" not in repr(load(BASE, {**GOOD, **secrets}))


def test_plain_http_to_loopback_needs_debug():
    env = load(BASE, {"DEBUG": "1", "RING_API_URL": "http://127.0.0.1:8001/"})
    assert env.ring_api_url == "http://127.0.0.1:8001"
    assert "RING_API_URL" in problems(DEBUG="1", RING_API_URL="http://ring.example")


def test_secrets_are_not_in_what_the_environment_prints():
    env = load(BASE, {**GOOD, "DATABASE_URL": "postgres://u:canary@db/p", "REDIS_URL": "redis://:canary@r/0"})
    assert "canary" not in repr(env)
    assert "long and random" not in repr(env)
    assert DEVELOPMENT_FIELD_KEY not in repr(env)
