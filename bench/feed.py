"""
The first page of the list of events: in a tenant of a million events, on an installation that holds five millions.

The peer is the same page in a tenant of a thousand on the same installation: what a page costs must not grow with what
lies behind it. `python -m bench.feed` fills the database of `DATABASE_URL` and prints one JSON object.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import django
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

import psycopg
from psycopg import sql

from bench.figure import Figure
from bench.server import ROOT, environment, manage
from bench.services import Services

if TYPE_CHECKING:  # Django is set up later
    from accounts.models import User

EVENTS = {"large": 1_000_000, "small": 1_000, "rest": 3_999_000}
PAGES = 30

_FILL = """
INSERT INTO events_event (
    tenant_id, public_id, attempts, attempt_log, last_error, request_id, position, provenance, event_type, sub_type, ring_event_id,
    account_ring_id, device_ring_id, component_ids, occurred_at, received_at, attributes, device_id, ring_account_id,
    history_id
)
SELECT tenant.id, gen_random_uuid(), 0, '[]', '', 'bench-' || number, number, 'webhook', 'motion_detected', 'human',
       'bench-' || number, account.ring_id, device.ring_id, '[]', now() - (%(count)s - number) * interval '40 seconds',
       now() - (%(count)s - number) * interval '40 seconds', '{}', device.id, account.id, ''
  FROM accounts_tenant AS tenant JOIN accounts_ringaccount AS account ON account.tenant_id = tenant.id
  JOIN devices_device AS device ON device.tenant_id = tenant.id, generate_series(1, %(count)s) AS number
 WHERE tenant.slug = %(slug)s
"""

# Those that belong to no constraint: they can go and come back while the other tables' keys stay.
_INDEXES = """
SELECT indexname, indexdef FROM pg_indexes
 WHERE tablename = 'events_event' AND indexname NOT IN (SELECT conname FROM pg_constraint)
"""


def measure(installation: Services) -> list[Figure]:
    """
    Milliseconds of the first page, and its queries; two to three minutes, most of them for the five million rows.

    Raises AssertionError when not every page of both tenants asks the database equally often.
    """
    url = installation.new_database()
    with tempfile.TemporaryDirectory() as name:
        env = environment(database_url=url, redis_url=installation.redis_url, folder=Path(name))
        manage(env, "migrate", "--verbosity", "0")
        manage(env, "collectstatic", "--noinput", "--verbosity", "0")
        done = subprocess.run(
            [sys.executable, "-m", "bench.feed"],
            cwd=ROOT,
            env={**env, "DJANGO_SETTINGS_MODULE": "portal.settings"},
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        )
    pages = json.loads(done.stdout.splitlines()[-1])
    if len({*pages["large"]["queries"], *pages["small"]["queries"]}) != 1:
        raise AssertionError(f"The pages ask the database differently often: {pages}")
    [queries] = pages["large"]["queries"]
    return [
        Figure(
            name="first page of a tenant's 1 M events, of 5 M in all",
            unit="ms",
            ours=pages["large"]["ms"],
            peer=pages["small"]["ms"],
            peer_name=f"the page of a tenant's 1,000 events; {queries} queries each",
        )
    ]


def _main() -> None:
    django.setup()
    from accounts.models import Role
    from events.models import TenantPosition
    from portal.walls import enter_all_tenants
    from tests.support.cast import make_camera, make_linked_account, make_membership, make_tenant

    enter_all_tenants("a benchmark makes three companies")
    owners = {}
    for slug, count in EVENTS.items():
        tenant = make_tenant(slug)
        owner = owners[slug] = make_membership(tenant, f"owner@{slug}.example", Role.OWNER)
        make_camera(make_linked_account(tenant, owner.user, ring_id=f"ava1.ring.account.{slug}"))
        TenantPosition.objects.create(tenant=tenant, last=count)
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
        _fill(database)
    pages = {slug: _Page(slug, owners[slug].user) for slug in ("small", "large")}
    for _ in range(PAGES):  # turn about: whatever else the machine does falls on both
        for page in pages.values():
            page.ask()
    result = {
        slug: {"ms": statistics.median(page.took_ms), "queries": sorted(page.queries)}
        for slug, page in pages.items()
    }
    sys.stdout.write(json.dumps(result) + "\n")


def _fill(database: psycopg.Connection) -> None:
    """Five million events, with the indexes that the migrations made."""
    # Every row's references are right, and to look up each of them costs half as much again as to write the rows. And an
    # index is built quicker than it grows.
    database.execute("SET session_replication_role = replica")
    database.execute("SET maintenance_work_mem = '512MB'")
    indexes = database.execute(_INDEXES).fetchall()
    for name, _ in indexes:
        database.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
    for slug, count in EVENTS.items():
        database.execute(_FILL, {"count": count, "slug": slug})
    for _, definition in indexes:
        database.execute(definition)
    # As autovacuum leaves a database that has been filled over years.
    database.execute("VACUUM ANALYZE")


class _Page:
    """A tenant's first page, asked for by its owner: how long it took each time, and the numbers of its queries."""

    def __init__(self, slug: str, user: "User") -> None:
        self._address = f"/t/{slug}/events/"
        self._client = Client(headers={"host": "127.0.0.1"})
        self._client.force_login(user)
        self.took_ms: list[float] = []
        self.queries: set[int] = set()
        self._get()  # Django has its caches filled afterwards

    def ask(self) -> None:
        began = time.perf_counter()
        with CaptureQueriesContext(connection) as asked:
            self._get()
        self.took_ms.append((time.perf_counter() - began) * 1000)
        self.queries.add(len(asked))

    def _get(self) -> None:
        answer = self._client.get(self._address, secure=True)
        if answer.status_code != 200:
            raise AssertionError(f"{self._address} answered {answer.status_code}.")


if __name__ == "__main__":
    _main()
