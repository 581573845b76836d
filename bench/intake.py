"""Webhook intake, durable on SQLite: requests a second, ours over the ordinary Django view, both under daphne."""

import asyncio
import hashlib
import hmac
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import aiohttp

from bench.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
KEY = "bench-signing-key"
CONNECTIONS = 32
REQUESTS = 1500
PORT = 8766


def measure(*, rounds: int) -> Figure:
    """Median requests/s of ours and of the ordinary way. Raises AssertionError when a row is lost or doubled."""
    ours, peer = [], []
    for _ in range(rounds):
        ours.append(_one_round("portal.asgi:application"))
        peer.append(_one_round("bench.peers.ordinary_asgi:application"))
    return Figure(
        name="webhook intake on SQLite, requests/s",
        unit="requests/s",
        ours=statistics.median(ours),
        peer=statistics.median(peer),
        peer_name="a sync Django view: HMAC, insert, group_send",
    )


def _one_round(application: str) -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = {
            **os.environ,
            "DEBUG": "1",
            "DATABASE_URL": f"sqlite:///{folder / 'bench.sqlite3'}",
            "REDIS_URL": "",
            "MEDIA_ROOT": str(folder / "clips"),
            "RING_CLIENT_SECRET": "bench-secret",
            "RING_SIGNING_KEY": KEY,
        }
        for arguments in (["migrate"], ["create_tenant", "bench", "--name", "Bench", "--client-id", "bench"]):
            subprocess.run(  # noqa: S603 - our own command
                [sys.executable, "manage.py", *arguments, "--verbosity", "0"],
                cwd=ROOT,
                env=env,
                check=True,
                stdout=subprocess.DEVNULL,
            )
        server = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(PORT), application],
            cwd=ROOT,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for_server()
            asyncio.run(_post(count=100))
            began = time.perf_counter()
            asyncio.run(_post(count=REQUESTS))
            seconds = time.perf_counter() - began
        finally:
            server.terminate()
            server.wait(15)
        _count_rows(folder / "bench.sqlite3", expected=REQUESTS + 100)
    return REQUESTS / seconds


def _wait_for_server() -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/ring/bench/webhook", timeout=1)
        except urllib.error.HTTPError:
            return  # it answers: a GET is refused
        except OSError:
            time.sleep(0.05)
    raise AssertionError("The server did not answer within 30 s.")


async def _post(*, count: int) -> None:
    bodies = iter([_body() for _ in range(count)])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:

        async def one_connection() -> None:
            for body in bodies:
                signature = "sha256=" + hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()
                async with session.post(
                    f"http://127.0.0.1:{PORT}/ring/bench/webhook",
                    data=body,
                    headers={"Content-Type": "application/json", "X-Signature": signature},
                ) as answer:
                    if answer.status != 200:
                        raise AssertionError(f"A webhook was answered {answer.status}.")

        await asyncio.gather(*(one_connection() for _ in range(CONNECTIONS)))


def _body() -> bytes:
    number = uuid.uuid4().hex
    document = {
        "meta": {
            "version": "1.1",
            "time": "2026-09-21T13:33:20Z",
            "request_id": str(uuid.uuid4()),
            "account_id": "ava1.ring.account.BENCH",
        },
        "data": {
            "id": f"ava1.ring.device.BENCH_motion_{number}",
            "type": "motion_detected",
            "attributes": {
                "source": "ava1.ring.device.BENCH",
                "source_type": "devices",
                "timestamp": 1790000000000,
                "sub_type": "human",
            },
        },
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _count_rows(database: Path, *, expected: int) -> None:
    """Nothing lost, nothing twice, or the figure does not count."""
    with sqlite3.connect(database) as connection:
        (rows, requests, last) = connection.execute(
            "SELECT count(*), count(DISTINCT request_id), max(position) FROM events_event"
        ).fetchone()
    if not rows == requests == last == expected:
        raise AssertionError(
            f"{expected} webhooks were answered 200, {rows} events stored, last position {last}."
        )
