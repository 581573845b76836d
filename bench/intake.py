"""
Webhook intake, requests/s that are durable before they are answered.

Ours does the tenant's look-up, HMAC, duplicates, positions, tasks and the broadcast. Rows are counted after every
round: nothing lost, nothing twice, or the figure does not count. PostgreSQL's statistics are brought up to date after
the warm-up, as its autovacuum does within the first minute of an installation: before, it plans for empty tables.
"""

import sqlite3
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import psycopg

from bench import load
from bench.figure import Figure
from bench.server import Kind, environment, prepare, serve
from bench.services import Services

OURS = "portal.asgi:application"
ORDINARY = "bench.peers.ordinary_asgi:application"
BARE = "bench.peers.bare_asgi:application"
STARLETTE = "bench.peers.starlette_asyncpg:application"
EVENTS = "events_event"
WARM_UP = 200


def measure(installation: Services, *, rounds: int) -> list[Figure]:
    """The three figures. Raises AssertionError when a row is lost or doubled or a request was refused."""

    def on_sqlite(application: str) -> float:
        with tempfile.TemporaryDirectory() as name:
            file = Path(name) / "bench.sqlite3"
            return _one_round(
                application, "daphne", f"sqlite:///{file}", "", 1500, lambda: _count_sqlite(file)
            )

    def on_postgresql(application: str, kind: Kind, count: int, table: str = EVENTS) -> float:
        url = installation.new_database()
        return _one_round(
            application, kind, url, installation.redis_url, count, lambda: _count_postgresql(url, table)
        )

    def turn_about(ours: Callable[[], float], peer: Callable[[], float]) -> tuple[float, float]:
        pairs = [(ours(), peer()) for _ in range(rounds)]
        return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)

    ordinary = "a sync Django view: HMAC, insert, group_send"
    figures = []
    for name, peer_name, (ours, peer) in (
        (
            "webhook intake on SQLite, daphne",
            ordinary,
            turn_about(lambda: on_sqlite(OURS), lambda: on_sqlite(ORDINARY)),
        ),
        (
            "webhook intake on PostgreSQL, daphne",
            f"{ordinary}, psycopg pool",
            turn_about(
                lambda: on_postgresql(OURS, "daphne", 4000), lambda: on_postgresql(ORDINARY, "daphne", 1500)
            ),
        ),
        (
            "webhook intake on PostgreSQL, uvicorn",
            "Starlette and asyncpg: HMAC, one insert",
            turn_about(
                lambda: on_postgresql(OURS, "uvicorn", 20_000),
                lambda: on_postgresql(STARLETTE, "uvicorn", 10_000, "bare.event"),
            ),
        ),
    ):
        figures.append(Figure(name=name, unit="requests/s", ours=ours, peer=peer, peer_name=peer_name))
    figures.append(
        Figure(
            name="… beside the ceiling of the server, uvicorn",
            unit="requests/s",
            ours=figures[-1].ours,
            peer=statistics.median(_ceiling(installation) for _ in range(rounds)),
            peer_name="bare ASGI: HMAC, nothing stored",
        )
    )
    return figures


def _ceiling(installation: Services) -> float:
    with tempfile.TemporaryDirectory() as name:
        env = environment(
            database_url="sqlite://:memory:", redis_url=installation.redis_url, folder=Path(name)
        )
        with serve(BARE, kind="uvicorn", env=env) as (port, _):
            load.post(port, count=WARM_UP)
            return load.post(port, count=20_000).per_second


def _one_round(
    application: str, kind: Kind, database_url: str, redis_url: str, count: int, rows: Callable[[], int]
) -> float:
    with tempfile.TemporaryDirectory() as name:
        env = environment(database_url=database_url, redis_url=redis_url, folder=Path(name))
        prepare(env)
        with serve(application, kind=kind, env=env) as (port, _):
            load.post(port, count=WARM_UP)
            analyze(database_url)
            measured = load.post(port, count=count)
        if measured.errors:
            raise AssertionError(f"{measured.errors} webhooks were not answered 200.")
        stored = rows()
        if stored != count + WARM_UP:
            raise AssertionError(f"{count + WARM_UP} webhooks were answered 200, {stored} events stored.")
    return measured.per_second


def analyze(database_url: str) -> None:
    """Bring PostgreSQL's statistics up to date. SQLite plans without."""
    if database_url.startswith("postgres"):
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("ANALYZE")


_COUNT = "SELECT count(*), count(DISTINCT request_id), max(position) FROM "


def _count_sqlite(file: Path) -> int:
    with sqlite3.connect(file) as connection:
        return _agreed(*connection.execute(_COUNT + EVENTS).fetchone())


def _count_postgresql(url: str, table: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(_COUNT + table).fetchone()
    return _agreed(*(row or (0, 0, 0)))


def _agreed(rows: int, requests: int, last: int) -> int:
    if not rows == requests == last:
        raise AssertionError(f"{rows} events, {requests} requests, last position {last}.")
    return rows
