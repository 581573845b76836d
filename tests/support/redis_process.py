"""A Redis of a test's own, for installations with several processes that talk to each other."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.portal_process import free_port, wait_for


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Its URL, while it runs. It keeps nothing."""
    path = shutil.which("redis-server")
    if path is None:
        pytest.fail("This test needs redis-server (Debian: apt install redis-server).")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [path, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    child = subprocess.Popen([*command, "--dir", str(folder)], stdout=subprocess.DEVNULL)

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(listens, what="Redis")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        child.terminate()
        child.wait()
