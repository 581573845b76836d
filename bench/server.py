"""An application under daphne or uvicorn, in a process of its own, on a database that was just made."""

import base64
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent
KEY = "bench-signing-key"
# The end of the Ring ids of the account and the camera that `prepare` makes.
HOME = "BENCH"
STARTS_WITHIN_S = 40

Kind = Literal["daphne", "uvicorn"]


def environment(*, database_url: str, redis_url: str, folder: Path) -> dict[str, str]:
    """What the portal reads, for a benchmark."""
    return {
        **os.environ,
        "DEBUG": "0",
        "SECRET_KEY": "bench-" + "k" * 60,
        "FIELD_ENCRYPTION_KEYS": base64.urlsafe_b64encode(b"bench-field-key-of-32-bytes-long").decode(),
        "ALLOWED_HOSTS": "127.0.0.1",
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "MEDIA_ROOT": str(folder / "clips"),
        "RING_CLIENT_SECRET": "bench-secret",
        "RING_SIGNING_KEY": KEY,
    }


_HOME = """
from accounts.models import RingAccount, Tenant
from devices.models import Device
from django.utils import timezone
from portal.walls import enter_all_tenants
enter_all_tenants("a benchmark makes its home")
tenant = Tenant.objects.get(slug="bench")
now = timezone.now()
account = RingAccount.objects.create(
    tenant=tenant, ring_id="ava1.ring.account.BENCH", state=RingAccount.State.UNCLAIMED, received_at=now
)
Device.objects.create(
    tenant=tenant, ring_account=account, ring_id="ava1.ring.device.BENCH", name="Front Door", seen_at=now
)
"""


def prepare(env: Mapping[str, str]) -> None:
    """Migrate, and make the tenant `bench` with one home and its camera."""
    manage(env, "migrate", "--verbosity", "0")
    manage(env, "create_tenant", "bench", "--name", "Bench", "--client-id", "bench")
    manage(env, "shell", "--no-imports", "-c", _HOME)


def manage(env: Mapping[str, str], *arguments: str) -> str:
    """Run one of our commands; return what it prints."""
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=dict(env),
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    ).stdout


@contextmanager
def serve(application: str, *, kind: Kind, env: Mapping[str, str]) -> Iterator[tuple[int, int]]:
    """The server's port and process id while it runs."""
    port = free_port()
    command = {
        "daphne": ["daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(port), application],
        "uvicorn": [
            "uvicorn", "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning",
            "--ws", "websockets-sansio", "--ws-per-message-deflate", "false", application,
        ],
    }[kind]  # fmt: skip
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=dict(env),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_port(port)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(20)


def cpu_seconds(pid: int) -> float:
    """What the operating system has counted for a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(pid: int) -> int:
    """A process's resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    """Return when somebody listens. Raises AssertionError when nobody does in time."""
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"Nothing listens on port {port}.")
