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

import django
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

import psycopg

from bench.figure import Figure
from bench.server import ROOT, environment, manage
from bench.services import Services

EVENTS = {"large": 1_000_000, "small": 1_000, "rest": 3_999_000}
PAGES = 30

_FILL = """
INSERT INTO events_event (
    tenant_id, public_id, attempts, last_error, request_id, position, provenance, event_type, sub_type, ring_event_id,
    account_ring_id, device_ring_id, component_ids, occurred_at, received_at, attributes, device_id, ring_account_id,
    history_id
)
SELECT tenant.id, gen_random_uuid(), 0, '', 'bench-' || number, number, 'webhook', 'motion_detected', 'human',
       'bench-' || number, account.ring_id, device.ring_id, '[]', now() - number * interval '40 seconds',
       now() - number * interval '40 seconds', '{}', device.id, account.id, ''
  FROM accounts_tenant AS tenant JOIN accounts_ringaccount AS account ON account.tenant_id = tenant.id
  JOIN devices_device AS device ON device.tenant_id = tenant.id, generate_series(1, %s) AS number
 WHERE tenant.slug = %s
"""


def measure(installation: Services) -> list[Figure]:
    """Milliseconds of the first page, and its queries. Raises AssertionError when the two pages ask differently often."""
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
    if pages["large"]["queries"] != pages["small"]["queries"]:
        raise AssertionError(f"The pages ask the database differently often: {pages}")
    return [
        Figure(
            name="first page of a tenant's 1 M events, of 5 M in all",
            unit="ms",
            ours=pages["large"]["ms"],
            peer=pages["small"]["ms"],
            peer_name=f"the page of a tenant's 1,000 events; {pages['large']['queries']} queries each",
        )
    ]


def _main() -> None:
    django.setup()
    from accounts.models import Role
    from portal.walls import enter_all_tenants
    from tests.support.cast import make_camera, make_linked_account, make_membership, make_tenant

    enter_all_tenants("a benchmark makes three companies")
    owners = {}
    for slug in EVENTS:
        tenant = make_tenant(slug)
        owner = owners[slug] = make_membership(tenant, f"owner@{slug}.example", Role.OWNER)
        make_camera(make_linked_account(tenant, owner.user, ring_id=f"ava1.ring.account.{slug}"))
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
        for slug, count in EVENTS.items():
            database.execute(_FILL, [count, slug])
        # As autovacuum leaves a database that has been filled over years.
        database.execute("VACUUM ANALYZE")
    result = {slug: _first_page(slug, owners[slug].user) for slug in ("small", "large")}
    sys.stdout.write(json.dumps(result) + "\n")


def _first_page(slug: str, user: object) -> dict[str, float]:
    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(user)  # type: ignore[arg-type]  # a user
    address = f"/t/{slug}/events/"
    took_ms: list[float] = []
    queries = 0
    for number in range(PAGES):
        began = time.perf_counter()
        if number == 0:  # Django has its caches filled afterwards
            answer = client.get(address, secure=True)
        else:
            with CaptureQueriesContext(connection) as asked:
                answer = client.get(address, secure=True)
            took_ms.append((time.perf_counter() - began) * 1000)
            queries = len(asked)
        if answer.status_code != 200:
            raise AssertionError(f"{address} answered {answer.status_code}.")
    return {"ms": statistics.median(took_ms), "queries": queries}


if __name__ == "__main__":
    _main()
