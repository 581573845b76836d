"""The portal as its users run it: real processes on real sockets, that can be killed and started again."""

import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import psycopg

ROOT = Path(__file__).resolve().parent.parent.parent


_given_out: set[int] = set()


def free_port() -> int:
    """A port nobody listens on, never the same one twice: the kernel may offer one again before it is used."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _given_out:
            _given_out.add(port)
            return port


def wait_for[T](
    condition: Callable[[], T | None], *, timeout_s: float = 60.0, what: str = "the condition"
) -> T:
    """Return the condition's first true value. Raises AssertionError when none came in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout_s:.0f} s")
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


class PortalProcess:
    """
    Web server and workers on a database of their own: SQLite in `folder`, or a new one on the server of DATABASE_URL.

    Use as a context manager. `env` adds to or overrides the environment of every process, `database_server` names
    another PostgreSQL than that of DATABASE_URL.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ring_url: str,
        env: dict[str, str] | None = None,
        port: int | None = None,
        database_server: str | None = None,
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "portal.log"
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.database_name = f"portal_process_{secrets.token_hex(4)}"
        self.database_server = (
            os.environ.get("DATABASE_URL", "") if database_server is None else database_server
        )
        if self.database_server.startswith("postgres"):
            base, _, _ = self.database_server.rpartition("/")
            database_url = f"{base}/{self.database_name}"
        else:
            self.database_server = ""
            database_url = f"sqlite:///{folder / 'portal.sqlite3'}"
        self.env = {
            **os.environ,
            "DEBUG": "1",
            "DATABASE_URL": database_url,
            "MEDIA_ROOT": str(folder / "clips"),
            "RING_API_URL": ring_url,
            "RING_TOKEN_URL": f"{ring_url}/oauth/token",
            "RING_AUTHORIZE_URL": f"{ring_url}/account/integrations/partner-link/authorize",
            "PUBLIC_URL": self.url,
            "EMAIL_URL": f"filemail:///{folder / 'mails'}",
            "PYTHONUNBUFFERED": "1",
            **(env or {}),
        }

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.database_server:
            with psycopg.connect(self.database_server, autocommit=True) as connection:
                connection.execute(f'CREATE DATABASE "{self.database_name}"')
        self.manage("migrate", "--verbosity", "0")
        self.start("web")
        self.start("worker")
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.children):
            self.stop(name)
        if self.database_server:
            with psycopg.connect(self.database_server, autocommit=True) as connection:
                connection.execute(f'DROP DATABASE "{self.database_name}" WITH (FORCE)')

    def manage(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        """Run one management command and return what it printed. Raises CalledProcessError when it fails."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**self.env, **(env or {})},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def manage_in_turn(self, *commands: tuple[list[str], dict[str, str]]) -> None:
        """Run management commands, each with its additions to the environment. Raises CalledProcessError when one fails."""
        subprocess.run(
            [sys.executable, "-m", "tests.support.manage_in_turn"],
            cwd=ROOT,
            env=self.env,
            check=True,
            capture_output=True,
            text=True,
            input=json.dumps([{"arguments": arguments, "env": env} for arguments, env in commands]),
        )

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """One statement straight to the database, `?` for each parameter; the rows it gives."""
        url = self.env["DATABASE_URL"]
        if self.database_server:
            with psycopg.connect(url, autocommit=True) as connection:
                # The statements are the tests' own.
                cursor = connection.execute(statement.replace("?", "%s").encode(), parameters)
                return cursor.fetchall() if cursor.description else []
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=20)) as file, file:
            return file.execute(statement, parameters).fetchall()

    def start(self, name: str) -> None:
        """Start `web` (and wait until it answers), a relay node (`relay`, `relay 2`, …) or a worker."""
        if name == "web":
            command = [
                "-m",
                "daphne",
                "-v",
                "0",
                "-b",
                "127.0.0.1",
                "-p",
                str(self.port),
                "portal.asgi:application",
            ]
        else:
            command = ["manage.py", "relay" if name.startswith("relay") else "worker"]
        with self.log.open("ab") as log:
            self.children[name] = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=self.env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if name == "web":
            wait_for(lambda: answers(f"{self.url}/healthz/live"), timeout_s=40, what="the web process")

    def kill(self, name: str) -> None:
        """`kill -9`, as a machine's bad day would."""
        child = self.children.pop(name)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()

    def stop(self, name: str) -> None:
        child = self.children.pop(name)
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
