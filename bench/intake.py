"""
Webhook intake, requests/s that are durable before they are answered.

Ours does the tenant's look-up, HMAC, duplicates, positions, tasks and the broadcast. Rows are counted after every
round: nothing lost, nothing twice, or the figure does not count. PostgreSQL's statistics are brought up to date after
the warm-up, as its autovacuum does within the first minute of an installation: before, it plans for empty tables.

A disk here is quicker than a cloud machine's. So ours and the bare service are measured once more on a PostgreSQL that
waits 2 ms before each flush of its log (`commit_delay`). It is kind to both: commits that come during the wait are in that
flush, where a disk that is already writing would have them wait for the next.
"""

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg import sql

from bench import load
from bench.figure import Figure
from bench.server import Kind, environment, prepare, serve
from bench.services import Services

OURS = "portal.asgi:application"
ORDINARY = "bench.peers.ordinary_asgi:application"
BARE = "bench.peers.bare_asgi:application"
STARLETTE = "bench.peers.starlette_asyncpg:application"
EVENTS = "events_event"
BARE_EVENTS = "bare.event"
WARM_UP = 200
FLUSH_WAIT_US = 2000
COMMITS = 100


def measure(installation: Services, *, rounds: int) -> list[Figure]:
    """All figures of the intake. Raises AssertionError when a row is lost or doubled or a request was refused."""

    def on_sqlite(application: str) -> float:
        with tempfile.TemporaryDirectory() as name:
            file = Path(name) / "bench.sqlite3"
            return _one_round(
                application, "daphne", f"sqlite:///{file}", "", 1500, lambda: _count_sqlite(file)
            )

    def on_postgresql(
        application: str,
        kind: Kind,
        count: int,
        table: str = EVENTS,
        *,
        connections: int = 32,
        slow_disk: bool = False,
    ) -> float:
        url = installation.new_database()
        if slow_disk:
            _wait_before_each_flush(url)
        return _one_round(
            application,
            kind,
            url,
            installation.redis_url,
            count,
            lambda: _count_postgresql(url, table),
            connections=connections,
        )

    def turn_about(ours: Callable[[], float], peer: Callable[[], float]) -> tuple[float, float]:
        pairs = [(ours(), peer()) for _ in range(rounds)]
        return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)

    def on_slow_disk(connections: int) -> tuple[float, float]:
        return turn_about(
            lambda: on_postgresql(OURS, "uvicorn", 10_000, connections=connections, slow_disk=True),
            lambda: on_postgresql(
                STARLETTE, "uvicorn", 10_000, BARE_EVENTS, connections=connections, slow_disk=True
            ),
        )

    ordinary = "a sync Django view: HMAC, insert, group_send"
    bare = "Starlette and asyncpg: HMAC, one insert"
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
            bare,
            turn_about(
                lambda: on_postgresql(OURS, "uvicorn", 20_000),
                lambda: on_postgresql(STARLETTE, "uvicorn", 10_000, BARE_EVENTS),
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
    for connections in (32, 256):
        ours, peer = on_slow_disk(connections)
        figures.append(
            Figure(
                name=f"uvicorn, 2 ms before each WAL flush, {connections} connections",
                unit="requests/s",
                ours=ours,
                peer=peer,
                peer_name=bare,
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


def _wait_before_each_flush(url: str) -> None:
    """
    Have PostgreSQL wait before it writes its log to the disk, in every session of this database from now on.

    Raises AssertionError when a connection by itself still commits more often than that allows.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        database = sql.Identifier(connection.info.dbname)
        # With no siblings asked for, it waits also where nobody else is about to commit.
        for name, value in (("commit_delay", FLUSH_WAIT_US), ("commit_siblings", 0)):
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(database, sql.Identifier(name), value)
            )
    with psycopg.connect(url, autocommit=True) as connection:
        delay, siblings = _shown(connection, "commit_delay"), _shown(connection, "commit_siblings")
        connection.execute("CREATE TABLE slow_disk (number integer)")
        began = time.perf_counter()
        for number in range(COMMITS):
            connection.execute("INSERT INTO slow_disk VALUES (%s)", [number])
        per_second = COMMITS / (time.perf_counter() - began)
        connection.execute("DROP TABLE slow_disk")
    if (delay, siblings) != (str(FLUSH_WAIT_US), "0") or per_second > 1_000_000 / FLUSH_WAIT_US:
        raise AssertionError(
            f"commit_delay is {delay}, commit_siblings {siblings}: {per_second:.0f} commits/s of one connection."
        )


def _shown(connection: psycopg.Connection, name: str) -> str:
    row = connection.execute(sql.SQL("SHOW {}").format(sql.Identifier(name))).fetchone()
    return "" if row is None else str(row[0])


def _one_round(
    application: str,
    kind: Kind,
    database_url: str,
    redis_url: str,
    count: int,
    rows: Callable[[], int],
    *,
    connections: int = 32,
) -> float:
    with tempfile.TemporaryDirectory() as name:
        env = environment(database_url=database_url, redis_url=redis_url, folder=Path(name))
        prepare(env)
        with serve(application, kind=kind, env=env) as (port, _):
            load.post(port, count=WARM_UP)
            analyze(database_url)
            measured = load.post(port, count=count, connections=connections)
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
