"""
Read and check every environment variable the portal knows, in one place.

A start-up that lacks something fails once, with every problem listed, not one at a time.
"""

import base64
import binascii
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

import environ

# Only the demo and the tests may run with these; `load` refuses them without DEBUG.
DEVELOPMENT_SECRET_KEY = "development-only-secret-key-never-used-without-debug"  # noqa: S105 - refused without DEBUG
DEVELOPMENT_FIELD_KEY = base64.urlsafe_b64encode(b"development-only-32-byte-key!!!!").decode()

type Network = IPv4Network | IPv6Network
# The first parts of the portal's other addresses.
_TAKEN_PATHS = {"accounts", "api", "healthz", "metrics", "ring", "static", "t", "ws"}


@dataclass(frozen=True)
class Environment:
    """What the environment says, checked. Durations are seconds."""

    debug: bool
    secret_key: str = field(repr=False)
    secret_key_fallbacks: list[str] = field(repr=False)
    field_encryption_keys: tuple[str, ...] = field(repr=False)
    allowed_hosts: list[str]
    csrf_trusted_origins: list[str]
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    ring_api_url: str
    ring_token_url: str
    ring_authorize_url: str
    ring_media_hosts: tuple[str, ...]
    media_root: Path
    ice_servers: tuple[str, ...]
    turn_secret: str = field(repr=False)
    live_relay: str
    email_url: str = field(repr=False)
    public_url: str
    log_format: str
    metrics_token: str = field(repr=False)
    admin_path: str
    admin_allowed_networks: tuple[Network, ...]


def load(base_dir: Path, source: Mapping[str, str] | None = None) -> Environment:
    """
    Return the checked environment. Raises ImproperlyConfigured naming every variable that is missing or wrong.

    Without DEBUG the secrets, the hosts and a folder for clips must be given: a forgotten one must stop the
    start-up, never fall back to something guessable.
    """
    env = environ.Env()
    env.ENVIRON = dict(os.environ if source is None else source)
    problems: list[str] = []
    debug = env.bool("DEBUG", default=False)

    def required(name: str, development: str, why: str) -> str:
        value = str(env.str(name, default=""))
        if value:
            return value
        if not debug:
            problems.append(f"{name} is not set: {why}")
        return development

    secret_key = required(
        "SECRET_KEY", DEVELOPMENT_SECRET_KEY, "a long random string; signs sessions and links in e-mails."
    )
    keys = tuple(
        key.strip()
        for key in required(
            "FIELD_ENCRYPTION_KEYS",
            DEVELOPMENT_FIELD_KEY,
            "32 random bytes as URL-safe base64 (newest first, comma between); encrypts Ring tokens at rest. "
            'Make one: python -c "import base64,os;print(base64.urlsafe_b64encode(os.urandom(32)).decode())"',
        ).split(",")
    )
    problems.extend(_key_problems(keys))
    hosts = required("ALLOWED_HOSTS", "*", "the host names the portal answers to, comma between.")
    media_root = Path(
        required(
            "MEDIA_ROOT", str(base_dir / "var" / "clips"), "the folder for clips, outside the source tree."
        )
    ).expanduser()
    source_packages = {base_dir / name for name in ("media", "static", "templates", "portal", "accounts")}
    if media_root.resolve() == base_dir or any(
        media_root.resolve().is_relative_to(package) for package in source_packages
    ):
        problems.append("MEDIA_ROOT lies inside the source tree: choose a folder of its own for clips.")

    ring_urls = {
        "RING_API_URL": str(env.str("RING_API_URL", default="https://api.amazonvision.com")),
        "RING_TOKEN_URL": str(env.str("RING_TOKEN_URL", default="https://oauth.ring.com/oauth/token")),
        "RING_AUTHORIZE_URL": str(
            env.str(
                "RING_AUTHORIZE_URL",
                default="https://account.ring.com/account/integrations/partner-link/authorize",
            )
        ),
    }
    for name, url in ring_urls.items():
        problems.extend(_url_problems(name, url, debug=debug))
    redis_url = str(env.str("REDIS_URL", default=""))
    if redis_url and urlsplit(redis_url).scheme not in {"redis", "rediss", "unix"}:
        problems.append("REDIS_URL must begin with redis://, rediss:// or unix://.")
    live_relay = str(env.str("LIVE_RELAY", default="web"))
    if live_relay not in {"web", "nodes"}:
        problems.append("LIVE_RELAY must be web (the web process relays) or nodes (manage.py relay does).")
    elif live_relay == "nodes" and not redis_url:
        problems.append("LIVE_RELAY=nodes needs REDIS_URL: web processes ask the relay nodes through Redis.")
    log_format = str(env.str("LOG_FORMAT", default="text" if debug else "json"))
    if log_format not in {"text", "json"}:
        problems.append("LOG_FORMAT must be text or json.")

    networks: list[Network] = []
    for text in env.list("ADMIN_ALLOWED_NETWORKS", default=[]):
        try:
            networks.append(ip_network(text.strip()))
        except ValueError as error:
            problems.append(f"ADMIN_ALLOWED_NETWORKS: {error}. Give networks as 192.0.2.0/24, comma between.")

    admin_path = str(env.str("ADMIN_PATH", default="admin")).strip("/")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", admin_path) or admin_path in _TAKEN_PATHS:
        problems.append("ADMIN_PATH must be one word of a-z, 0-9 and -, and no other part of the portal's.")

    if problems:
        raise ImproperlyConfigured(
            "The portal cannot start; set these environment variables (see .env.example):\n  - "
            + "\n  - ".join(problems)
        )
    return Environment(
        debug=debug,
        secret_key=secret_key,
        secret_key_fallbacks=env.list("SECRET_KEY_FALLBACKS", default=[]),
        field_encryption_keys=keys,
        allowed_hosts=[host.strip() for host in hosts.split(",") if host.strip()],
        csrf_trusted_origins=env.list("CSRF_TRUSTED_ORIGINS", default=[]),
        database_url=str(env.str("DATABASE_URL", default=f"sqlite:///{base_dir / 'var' / 'portal.sqlite3'}")),
        redis_url=redis_url,
        ring_api_url=ring_urls["RING_API_URL"].rstrip("/"),
        ring_token_url=ring_urls["RING_TOKEN_URL"],
        ring_authorize_url=ring_urls["RING_AUTHORIZE_URL"],
        ring_media_hosts=tuple(
            env.list("RING_MEDIA_HOSTS", default=["devices.amazon.dev", "amazonvision.com", "amazonaws.com"])
        ),
        media_root=media_root,
        ice_servers=tuple(env.list("ICE_SERVERS", default=[])),
        turn_secret=str(env.str("TURN_SECRET", default="")),
        live_relay=live_relay,
        email_url=str(env.str("EMAIL_URL", default="consolemail://" if debug else "smtp://localhost:25")),
        public_url=str(env.str("PUBLIC_URL", default="")).rstrip("/"),
        log_format=log_format,
        metrics_token=str(env.str("METRICS_TOKEN", default="")),
        admin_allowed_networks=tuple(networks),
        admin_path=admin_path,
    )


def _key_problems(keys: tuple[str, ...]) -> list[str]:
    problems = []
    for number, key in enumerate(keys, start=1):
        try:
            good = len(base64.urlsafe_b64decode(key)) == 32
        except (ValueError, binascii.Error):
            good = False
        if not good:
            problems.append(f"FIELD_ENCRYPTION_KEYS: key {number} is not 32 bytes of URL-safe base64.")
    return problems


def _url_problems(name: str, url: str, *, debug: bool) -> list[str]:
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return []
    loopback = parts.hostname in {"127.0.0.1", "localhost", "::1"}
    if parts.scheme == "http" and loopback and debug:
        return []
    return [f"{name} must be an https:// address (plain http only to loopback and only with DEBUG)."]
