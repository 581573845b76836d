"""
What an installation needs, looked at one after the other: settings, keys, database, queue, storage, clock, addresses.

Each finding says what to do. Nothing is changed; what is written to try something out is taken away again.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django_tasks_db.models import DBTaskResult

from accounts.models import RingAccount, RingApp, Tenant
from events.broadcast import LAYER_ERRORS
from media import nodes
from onboarding import own_address
from onboarding.findings import Finding, Verdict
from onboarding.own_address import Unreachable, look_at_clock
from portal.env import DEVELOPMENT_FIELD_KEY, DEVELOPMENT_SECRET_KEY
from portal.fields import DecryptionError
from portal.postgresql import policies
from portal.walls import across_tenants, tenant_scope
from portal.workers import is_anyone_alive
from ring.nonce import compute_nonce, nonce_matches
from ring.signature import sign, signature_valid

SLOW_DATABASE_MS = 200
WAITS_TOO_LONG_S = 60
LAYER_WITHIN_S = 3.0

OK, WARN, BAD, NOTE = Verdict.OK, Verdict.WARN, Verdict.BAD, Verdict.NOTE

type Look = Callable[[], Iterator[Finding]]


def examine(tenant: Tenant | None = None) -> Iterator[Finding]:
    """The whole installation, and one tenant in depth when it is named."""
    for look in _LOOKS:
        yield from look()
    address = own_address.look_at_address()
    yield from address
    reachable = address[-1].verdict != BAD
    tenants = [tenant] if tenant is not None else list(Tenant.objects.order_by("slug"))
    if not tenants:
        yield Finding("tenants", "Tenants", NOTE, "There are none yet.", "Make one: manage.py create_tenant.")
    for one in tenants:
        with tenant_scope(one):
            findings = list(examine_tenant(one, reachable=reachable, in_depth=tenant is not None))
        yield from findings


def examine_tenant(tenant: Tenant, *, reachable: bool, in_depth: bool) -> Iterator[Finding]:
    """One tenant's credentials, key and, in depth, its four addresses."""
    title = f"{tenant.slug}: credentials"
    app = RingApp.objects.filter(tenant=tenant).first()
    try:
        _ = app and (app.client_secret, app.signing_keys)
    except DecryptionError:
        yield Finding(
            "credentials",
            title,
            BAD,
            "They cannot be read.",
            "Put the key they were stored under back into FIELD_ENCRYPTION_KEYS.",
        )
        return
    if app is None:
        yield Finding(
            "credentials", title, WARN, "There are none.", "Its admin enters them under Settings, Set-up."
        )
        return
    if app.refused_at is not None:
        yield Finding(
            "credentials",
            title,
            BAD,
            "Ring refused them the last time.",
            "Compare client id and secret with Ring's console.",
        )
    elif app.accepted_at is None:
        yield Finding("credentials", title, NOTE, "Stored; not used with Ring yet.")
    else:
        yield Finding("credentials", title, OK, "Stored, and taken by Ring.")
    yield _signing(tenant, app)
    if in_depth and reachable:
        for finding in own_address.look_at_four_addresses(tenant.slug):
            yield Finding(
                finding.key,
                f"{tenant.slug}: {finding.title}",
                finding.verdict,
                finding.said,
                finding.fix,
                finding.ms,
            )


def _signing(tenant: Tenant, app: RingApp) -> Finding:
    """The key signs and checks, webhooks and links alike, and another key does not."""
    body, now = b'{"doctor": true}', "1790000000000"
    nonce = compute_nonce(key=app.signing_key, time_ms=now, account_id="doctor")
    good = (
        signature_valid(body=body, header=sign(body, app.signing_key), keys=app.signing_keys)
        and not signature_valid(body=body, header=sign(body, secrets.token_hex()), keys=app.signing_keys)
        and nonce_matches(nonce=nonce, keys=app.signing_keys, time_ms=now, account_id="doctor")
        and not nonce_matches(nonce=nonce, keys=app.signing_keys, time_ms=now, account_id="another")
    )
    title = f"{tenant.slug}: signing key"
    if not good:
        return Finding(
            "signing",
            title,
            BAD,
            "It does not tell right from wrong.",
            "Enter it again, as Ring's console showed it.",
        )
    said = "Signs and checks."
    if app.previous_signing_key:
        said += " The one before it is still accepted; drop it when Ring signs with the new one."
    return Finding("signing", title, OK, said)


def _settings() -> Iterator[Finding]:
    if settings.DEBUG:
        yield Finding(
            "debug", "Settings", WARN, "DEBUG is on: for development only.", "Unset DEBUG in production."
        )
    for message in checks.run_checks(include_deployment_checks=not settings.DEBUG):
        if message.is_silenced():
            continue
        verdict = BAD if message.level >= checks.ERROR else WARN
        yield Finding("settings", "Settings", verdict, f"{message.id}: {message.msg}", message.hint or "")
    if not settings.PUBLIC_URL:
        yield Finding("public_url", "Settings", WARN, "PUBLIC_URL is not set.", own_address.SET_PUBLIC_URL)
    if not settings.DEBUG and "*" in settings.ALLOWED_HOSTS:
        yield Finding(
            "hosts", "Settings", WARN, "ALLOWED_HOSTS lets every name in.", "Name the portal's own hosts."
        )


def _keys() -> Iterator[Finding]:
    title = "Encryption keys"
    development = (
        DEVELOPMENT_FIELD_KEY in settings.FIELD_ENCRYPTION_KEYS
        or settings.SECRET_KEY == DEVELOPMENT_SECRET_KEY
    )
    try:
        # Secrets are decrypted when they are looked at.
        with across_tenants("one keyring encrypts the secrets of all tenants"):
            for app in RingApp.objects.iterator():
                _ = app.client_secret, app.signing_keys
            # The newest and the oldest: keys leave the ring at its old end.
            for order in ("pk", "-pk"):
                account = RingAccount.objects.exclude(access_token="").order_by(order).first()
                _ = account and account.access_token
    except DecryptionError:
        yield Finding(
            "keys",
            title,
            BAD,
            "Something stored is under a key that FIELD_ENCRYPTION_KEYS lacks.",
            "Put the old key back behind the new one, comma between.",
        )
        return
    except Error:
        return  # the database speaks for itself
    if development:
        yield Finding(
            "keys",
            title,
            WARN if settings.DEBUG else BAD,
            "The development keys are in use: everybody has them.",
            "Set SECRET_KEY and FIELD_ENCRYPTION_KEYS.",
        )
    else:
        yield Finding(
            "keys",
            title,
            OK,
            f"{len(settings.FIELD_ENCRYPTION_KEYS)} in the ring; what is stored can be read.",
        )


def _database() -> Iterator[Finding]:
    title = "Database"
    began = time.monotonic()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
        ms = round((time.monotonic() - began) * 1000)
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except Error as error:
        yield Finding(
            "database",
            title,
            BAD,
            f"No answer ({type(error).__name__}).",
            "Start it, and compare DATABASE_URL.",
        )
        return
    if ms > SLOW_DATABASE_MS:
        yield Finding(
            "database",
            title,
            WARN,
            f"{connection.vendor}, slow.",
            "Put it nearer, or see what keeps it busy.",
            ms,
        )
    elif connection.vendor == "sqlite" and not settings.DEBUG:
        yield Finding(
            "database",
            title,
            WARN,
            "SQLite: one machine, a few tenants.",
            "Set DATABASE_URL to a PostgreSQL for more.",
            ms,
        )
    else:
        yield Finding("database", title, OK, f"{connection.vendor} answers.", ms=ms)
    if missing:
        names = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in missing[:3])
        yield Finding(
            "migrations",
            "Migrations",
            BAD,
            f"{len(missing)} are not applied: {names}.",
            "Run manage.py migrate.",
        )
    else:
        yield Finding("migrations", "Migrations", OK, "All applied.")


def _walls() -> Iterator[Finding]:
    """On PostgreSQL the database itself keeps tenants apart (docs/tenancy.md)."""
    title = "Wall between tenants"
    if connection.vendor != "postgresql":
        yield Finding(
            "walls", title, NOTE, "Only PostgreSQL has one; here the portal's own queries keep tenants apart."
        )
        return
    try:
        holes = policies.holes(using="default")
    except Error:
        return  # the database speaks for itself
    if holes:
        yield Finding(
            "walls",
            title,
            BAD,
            f"It has holes: {', '.join(holes)}.",
            "Run manage.py migrate with the portal's own DATABASE_URL, whose role must own the tables.",
        )
    else:
        yield Finding("walls", title, OK, "Stands around every table of a tenant.")


def _channel_layer() -> Iterator[Finding]:
    title = "Channel layer"
    began = time.monotonic()
    try:
        heard = async_to_sync(_say_and_hear)()
    except LAYER_ERRORS as error:
        yield Finding(
            "channels",
            title,
            BAD,
            f"No answer ({type(error).__name__}).",
            "Start Redis, and compare REDIS_URL. Until then pages hear of events late.",
        )
        return
    ms = round((time.monotonic() - began) * 1000)
    if not heard:
        yield Finding(
            "channels", title, BAD, "A message to ourselves did not come back.", "Compare REDIS_URL."
        )
    elif "InMemory" in settings.CHANNEL_LAYERS["default"]["BACKEND"]:
        yield Finding(
            "channels", title, OK, "In memory: right for one web process. Set REDIS_URL for more.", ms=ms
        )
    else:
        yield Finding("channels", title, OK, "A message to ourselves came back.", ms=ms)


async def _say_and_hear() -> bool:
    layer = get_channel_layer()
    async with asyncio.timeout(LAYER_WITHIN_S):
        channel = await layer.new_channel()
        word = secrets.token_hex(8)
        await layer.send(channel, {"type": "doctor.hello", "word": word})
        message = await layer.receive(channel)
        return bool(message.get("word") == word)


def _cache() -> Iterator[Finding]:
    key = f"doctor:{secrets.token_hex(8)}"
    try:
        cache.set(key, "1", 10)
        good = cache.get(key) == "1"
        cache.delete(key)
    except Exception as error:
        yield Finding(
            "cache",
            "Cache",
            BAD,
            f"No answer ({type(error).__name__}).",
            "Start Redis, and compare REDIS_URL.",
        )
        return
    if good:
        yield Finding("cache", "Cache", OK, "Keeps what it is given.")
    else:
        yield Finding(
            "cache",
            "Cache",
            BAD,
            "It forgets at once: rate limits and repeated codes are not noticed.",
            "Give Redis more memory.",
        )


def _queue() -> Iterator[Finding]:
    now = timezone.now()
    try:
        alive = is_anyone_alive(now=now)
        oldest = (
            DBTaskResult.objects.ready().order_by("enqueued_at").values_list("enqueued_at", flat=True).first()
        )
        failed = DBTaskResult.objects.failed().count()
    except Error:
        return  # the database speaks for itself
    if alive:
        yield Finding("worker", "Workers", OK, "At least one is alive.")
    else:
        yield Finding(
            "worker",
            "Workers",
            BAD,
            "None is alive: links, syncs, effects and clips stand still.",
            "Start manage.py worker.",
        )
    waits_s = (now - oldest).total_seconds() if oldest is not None else 0
    if alive and waits_s > WAITS_TOO_LONG_S:
        yield Finding(
            "queue", "Queue", WARN, f"The oldest task has waited {waits_s:.0f} s.", "Start more workers."
        )
    if failed:
        yield Finding(
            "failed",
            "Queue",
            WARN,
            f"{failed} tasks of the last week failed.",
            "Administration, Tasks shows each with its error.",
        )


def _relay() -> Iterator[Finding]:
    title = "Relay"
    if settings.LIVE_RELAY != "nodes":
        yield Finding("relay", title, OK, "The web processes pass live pictures on.")
        return
    try:
        alive = len(nodes.living(now=timezone.now()))
    except Error:
        return  # the database speaks for itself
    if alive:
        yield Finding("relay", title, OK, f"{alive} node{'s' if alive != 1 else ''} alive.")
    else:
        yield Finding(
            "relay",
            title,
            BAD,
            "No relay node is alive: live pictures come direct from Ring or not at all.",
            "Start manage.py relay, or unset LIVE_RELAY.",
        )


def _storage() -> Iterator[Finding]:
    title = "Storage of clips"
    content = secrets.token_bytes(64)
    began = time.monotonic()
    try:
        name = default_storage.save(f"doctor/{secrets.token_hex(8)}", ContentFile(content))
        try:
            with default_storage.open(name) as file:
                good = file.read() == content
        finally:
            default_storage.delete(name)
    except OSError as error:
        yield Finding(
            "storage",
            title,
            BAD,
            f"Not writable: {error.strerror or type(error).__name__}.",
            "Give the portal's user the folder in MEDIA_ROOT, and room.",
        )
        return
    ms = round((time.monotonic() - began) * 1000)
    if good:
        yield Finding("storage", title, OK, "Written, read and deleted.", ms=ms)
    else:
        yield Finding(
            "storage", title, BAD, "What was read is not what was written.", "See the storage's own log.", ms
        )


def _ring() -> Iterator[Finding]:
    """Ring's clock, where Ring can be reached; being out of its reach is no fault of the installation's settings."""
    host = urlsplit(settings.RING_API_URL).hostname or ""
    try:
        reply = own_address.ask("GET", settings.RING_API_URL)
    except Unreachable as error:
        yield Finding(
            "ring",
            "Ring",
            NOTE,
            f"{host} does not answer from here: {error.said}",
            "The portal must reach it from the inside out, on port 443.",
        )
        return
    yield Finding("ring", "Ring", OK, f"{host} answers.", ms=reply.ms)
    clock = look_at_clock(reply, whose="Ring")
    if clock is not None:
        yield clock
    else:
        yield Finding("clock", "Clock", NOTE, "Ring's answer says no time.")


def _turn() -> Iterator[Finding]:
    title = "STUN and TURN"
    servers = [server for server in settings.ICE_SERVERS if server.startswith(("turn:", "turns:"))]
    if servers:
        yield Finding(
            "turn",
            title,
            OK,
            f"{len(servers)} TURN server{'s' if len(servers) != 1 else ''} for browsers behind strict firewalls.",
        )
    else:
        yield Finding(
            "turn",
            title,
            NOTE,
            "No TURN server: browsers behind strict firewalls may not play live video.",
            "Name one in ICE_SERVERS if your customers need it.",
        )


_LOOKS: tuple[Look, ...] = (
    _settings,
    _keys,
    _database,
    _walls,
    _channel_layer,
    _cache,
    _queue,
    _relay,
    _storage,
    _turn,
    _ring,
)
