"""A PostgreSQL of a test's own, which it may stop without taking anybody else's database away."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.portal_process import free_port


class OwnPostgres:
    """A cluster in a folder of its own; `url` names a database on it. PostgreSQL refuses to run as root."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self._data = folder / "data"
        self._port = free_port()
        self.url = f"postgres://portal@127.0.0.1:{self._port}/postgres"
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        self._run("initdb", "-D", str(self._data), "-U", "portal", "--auth=trust", "-E", "UTF8")

    def _run(self, program: str, *arguments: str) -> None:
        as_owner = (
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        )
        command = [*as_owner, str(self._binaries / program), *arguments]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def start(self) -> None:
        """Start it and wait until it answers. What it wrote outlives its own end, if not the machine's."""
        options = f"-p {self._port} -k {self._data} -c listen_addresses=127.0.0.1 -c max_connections=100 -c fsync=off"
        self._run(
            "pg_ctl", "-D", str(self._data), "-l", str(self._data / "log"), "-w", "start", "-o", options
        )

    def crash(self) -> None:
        """Stop it hard: no connection is ended in good order, and it recovers from its log when it starts."""
        self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")


@contextmanager
def own_postgres() -> Iterator[OwnPostgres]:
    """A running cluster; skips the test where PostgreSQL's server is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    named = shutil.which("initdb")
    if not found and named is None:
        pytest.skip("needs PostgreSQL's server (Debian: apt install postgresql)")
    binaries = found[-1].parent if found else Path(str(named)).parent
    with tempfile.TemporaryDirectory(prefix="portal-postgres-") as folder:
        cluster = OwnPostgres(binaries, Path(folder))
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.crash()
