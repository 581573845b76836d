"""Run a few processes as one: start them, restart one that dies, end all of them together."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
STOP_GRACE_S = 8.0
RESTART_PAUSE_S = 0.5
MOST_RESTARTS = 5
RESTART_WINDOW_S = 30.0


def fail(sentence: str) -> NoReturn:
    """End the program with a sentence that says what to do."""
    sys.stderr.write(sentence.rstrip() + "\n")
    raise SystemExit(1)


def require_free_port(port: int, *, variable: str) -> None:
    """End the program with a clear sentence when `port` is taken on loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            fail(
                f"Port {port} is taken. End what runs there, or choose another: {variable}={port + 100} make …"
            )


def wait_until_ready(url: str, *, timeout_s: float) -> None:
    """Return when `url` answers 200; end the program when it does not within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own loopback address
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.1)
    fail(f"{url} did not answer within {timeout_s:.0f} s; the log lines above say why.")


@dataclass
class Process:
    """One supervised process, in a session of its own so that Ctrl-C reaches the supervisor only."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    child: subprocess.Popen[bytes] | None = None
    starts: deque[float] = field(default_factory=deque)

    def start(self) -> None:
        self.starts.append(time.monotonic())
        self.child = subprocess.Popen(  # noqa: S603 - our own commands
            list(self.command), cwd=ROOT, env={**os.environ, **self.env}, start_new_session=True
        )

    def died(self) -> bool:
        return self.child is not None and self.child.poll() is not None

    def dies_too_often(self) -> bool:
        now = time.monotonic()
        while self.starts and now - self.starts[0] > RESTART_WINDOW_S:
            self.starts.popleft()
        return len(self.starts) > MOST_RESTARTS


class Supervisor:
    """Start in order, keep alive until SIGINT or SIGTERM, then end all; use as a context manager."""

    def __init__(self) -> None:
        self.processes: list[Process] = []
        self.stopping = False

    def __enter__(self) -> "Supervisor":
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        self._end_all()

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> None:
        process = Process(name, command, env)
        self.processes.append(process)
        process.start()

    def run(self) -> None:
        """Return after SIGINT or SIGTERM. A process that dies is started again; one that keeps dying ends the program."""
        while not self.stopping:
            for process in self.processes:
                if process.died() and not self.stopping:
                    code = process.child.returncode if process.child else None
                    if process.dies_too_often():
                        fail(f"{process.name} keeps ending (exit code {code}); see its log lines above.")
                    sys.stderr.write(f"{process.name} ended (exit code {code}); starting it again.\n")
                    time.sleep(RESTART_PAUSE_S)
                    process.start()
            time.sleep(0.2)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.stopping:
            return
        self.stopping = True
        # Leaves whatever is being waited for; the context manager then ends every process.
        raise SystemExit(0)

    def _end_all(self) -> None:
        running = [p.child for p in self.processes if p.child is not None and p.child.poll() is None]
        for child in running:
            child.terminate()
        deadline = time.monotonic() + STOP_GRACE_S
        for child in running:
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def web_command(port: int) -> list[str]:
    """The web server: daphne, or uvicorn with `ASGI_SERVER=uvicorn`."""
    server = os.environ.get("ASGI_SERVER", "daphne")
    if server == "daphne":
        return [
            sys.executable,
            "-m",
            "daphne",
            "-b",
            "127.0.0.1",
            "-p",
            str(port),
            "-v",
            "0",  # its access log would show the nonce of a link
            "--application-close-timeout",
            "5",
            "portal.asgi:application",
        ]
    if server == "uvicorn":
        return [
            sys.executable,
            "-m",
            "uvicorn",
            "portal.asgi:application",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--no-access-log",
            # Frames are short and go to many: compressing each for each socket costs more than all the rest.
            "--ws",
            "websockets-sansio",
            "--ws-per-message-deflate",
            "false",
            "--timeout-graceful-shutdown",
            "5",
        ]
    fail("ASGI_SERVER must be daphne or uvicorn.")


def worker_commands() -> dict[str, list[str]]:
    """A worker a queue: no slow server stands before an event's effects, no long download before anything else."""
    worker = [sys.executable, "manage.py", "worker"]
    return {
        "events worker": [*worker, "--queues", "events", "--no-schedule"],
        "worker": [*worker, "--queues", "default"],
        "media worker": [*worker, "--queues", "media", "--no-schedule"],
    }


def relay_commands() -> dict[str, list[str]]:
    """One relay node, where live pictures are passed on by nodes (`LIVE_RELAY=nodes`); others run on other machines."""
    if os.environ.get("LIVE_RELAY", "") != "nodes":
        return {}
    return {"relay": [sys.executable, "manage.py", "relay"]}


def manage(*arguments: str, env: Mapping[str, str]) -> None:
    """Run one management command; end the program when it fails (it has said why)."""
    done = subprocess.run(  # noqa: S603 - our own commands
        [sys.executable, "manage.py", *arguments], cwd=ROOT, env={**os.environ, **env}, check=False
    )
    if done.returncode:
        raise SystemExit(done.returncode)
