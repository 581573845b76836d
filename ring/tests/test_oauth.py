import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ring.errors import (
    ClientRejected,
    CodeRejected,
    RefreshRejected,
    RingRateLimited,
    RingRejected,
    RingUnavailable,
    UnsafeRedirect,
)
from ring.oauth import UNSTATED_EXPIRY_S, TokenPair, exchange_code, refresh_tokens
from ring.tests.server import Reply, error_reply, json_reply, running_server

PAIR = {
    "access_token": "AT-new",
    "refresh_token": "RT-new",
    "scope": "ava",
    "expires_in": 14400,
    "token_type": "Bearer",
}
SECRETS = ("code-7", "RT-old", "client-secret-9", "AT-new", "RT-new")


def exchange(config) -> TokenPair:
    return exchange_code(config=config, client_id="client-1", client_secret="client-secret-9", code="code-7")


def refresh(config) -> TokenPair:
    return refresh_tokens(
        config=config, client_id="client-1", client_secret="client-secret-9", refresh_token="RT-old"
    )


def test_code_is_exchanged_with_exactly_the_documented_form(api, config):
    api.script("POST", "/oauth/token", json_reply(PAIR))
    pair = exchange(config)
    assert (pair.access_token, pair.refresh_token, pair.expires_in_s, pair.scope) == (
        "AT-new",
        "RT-new",
        14400,
        ("ava",),
    )
    (request,) = api.received
    assert request.form == {
        "grant_type": ["authorization_code"],
        "code": ["code-7"],
        "client_id": ["client-1"],
        "client_secret": ["client-secret-9"],
    }
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert request.headers["User-Agent"] == config.user_agent
    assert request.headers["Authorization"] is None
    assert not any(secret in repr(pair) for secret in SECRETS)


def test_refresh_sends_the_old_token_and_gives_the_new_pair(api, config):
    api.script("POST", "/oauth/token", json_reply(PAIR))
    assert refresh(config).refresh_token == "RT-new"
    assert api.received[0].form == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["RT-old"],
        "client_id": ["client-1"],
        "client_secret": ["client-secret-9"],
    }


@pytest.mark.parametrize(
    ("fields", "expires_in_s", "scope"),
    [
        ({"expires_in": "14400", "scope": ["ava", "ava.v1:read"]}, 14400, ("ava", "ava.v1:read")),
        ({"expires_in": 60, "scope": "ava ava.v1:read"}, 60, ("ava", "ava.v1:read")),
        ({"expires_in": None, "scope": None}, UNSTATED_EXPIRY_S, ()),
        ({"expires_in": -5, "scope": [7]}, UNSTATED_EXPIRY_S, ()),
        ({"expires_in": True}, UNSTATED_EXPIRY_S, ("ava",)),
        ({"expires_in": 10**15}, 365 * 86_400, ("ava",)),
    ],
)
def test_seconds_and_scope_in_every_accepted_form(api, config, fields, expires_in_s, scope):
    api.script("POST", "/oauth/token", json_reply(PAIR | fields))
    pair = exchange(config)
    assert (pair.expires_in_s, pair.scope) == (expires_in_s, scope)


@pytest.mark.parametrize("value", [None, "", 7])
def test_a_playground_token_has_no_refresh_token(api, config, value):
    api.script("POST", "/oauth/token", json_reply(PAIR | {"refresh_token": value}))
    assert exchange(config).refresh_token is None


CODE_REFUSALS = [
    (
        json_reply({"error": "invalid_grant", "error_description": "code-7 is used"}, 400),
        CodeRejected,
        "invalid_grant",
    ),
    (json_reply({"error": "invalid_grant"}, 401), CodeRejected, "invalid_grant"),
    (error_reply(400, title="Invalid Grant"), CodeRejected, "invalid_grant"),
    (error_reply(400, title="Bad Request"), CodeRejected, ""),
    (Reply(400, b"<html>"), CodeRejected, ""),
    (json_reply({"error": "invalid_client"}, 401), ClientRejected, "invalid_client"),
    (error_reply(401, title="Invalid Client"), ClientRejected, "invalid_client"),
    (json_reply({"error": "unauthorized_client"}, 400), ClientRejected, "unauthorized_client"),
    (Reply(401, b""), ClientRejected, ""),
    (json_reply({"error": "unsupported_grant_type"}, 400), RingRejected, "unsupported_grant_type"),
    (json_reply({"error": "invalid_request"}, 400), RingRejected, "invalid_request"),
    (json_reply({"error": "code-7"}, 400), CodeRejected, ""),
    (Reply(429, headers={"Retry-After": "60"}), RingRateLimited, ""),
    (Reply(302, headers={"Location": "http://127.0.0.1:1/"}), UnsafeRedirect, ""),
    (Reply(307, headers={"Location": "/oauth/other"}), UnsafeRedirect, ""),
]


@pytest.mark.parametrize(("reply", "error", "code"), CODE_REFUSALS)
def test_refusals_of_a_code_in_both_shapes(api, config, reply, error, code):
    api.script("POST", "/oauth/token", reply)
    with pytest.raises(error) as caught:
        exchange(config)
    assert type(caught.value) is error
    assert caught.value.code == code
    assert caught.value.status == reply.status
    assert not any(secret in str(caught.value) for secret in SECRETS)
    assert len(api.received) == 1


def test_a_refresh_is_refused_in_its_own_words(api, config):
    api.script("POST", "/oauth/token", json_reply({"error": "invalid_grant"}, 400))
    with pytest.raises(RefreshRejected):
        refresh(config)


@pytest.mark.parametrize(
    ("reply", "ambiguous"),
    [
        (Reply(500), True),
        (Reply(503, b"<html>busy"), True),
        (Reply(408), True),
        (Reply(200, b"<html>"), True),
        (json_reply({"token": "x"}), True),
        (json_reply(PAIR | {"access_token": "two words"}), True),
        (json_reply(PAIR | {"access_token": "a\r\nb"}), True),
        (Reply(hang_up=True), True),
        (Reply(200, b'{"access_token":', cut_bytes=50), True),
        # A CDN in front refused; Ring never saw the token, and nobody has to link again (contract 1.2).
        (Reply(403, b"error code: 1010"), False),
        (Reply(404), False),
    ],
)
@pytest.mark.parametrize("call", [exchange, refresh])
def test_neither_call_is_ever_repeated_and_tells_what_it_knows(api, config, call, reply, ambiguous):
    api.script("POST", "/oauth/token", reply, json_reply(PAIR))
    with pytest.raises(RingUnavailable) as caught:
        call(config)
    assert caught.value.ambiguous is ambiguous
    assert len(api.received) == 1
    assert not any(secret in str(caught.value) for secret in SECRETS)


def test_a_timeout_is_ambiguous(api, config):
    api.script("POST", "/oauth/token", Reply(hold=True))
    with pytest.raises(RingUnavailable) as caught:
        exchange(replace(config, read_timeout_s=0.1))
    assert caught.value.ambiguous


def test_a_refused_connection_is_not_ambiguous(config):
    with pytest.raises(RingUnavailable) as caught:
        exchange(replace(config, token_url="http://127.0.0.1:1/oauth/token"))
    assert not caught.value.ambiguous
    assert caught.value.__cause__ is None


def test_a_certificate_nobody_vouches_for_ends_the_call_before_the_secret_leaves(config, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "oauth.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with running_server(context) as server:
        with pytest.raises(RingUnavailable) as caught:
            refresh(replace(config, token_url=f"{server.url}/oauth/token"))
        assert not caught.value.ambiguous
        assert server.received == []
