"""A PostgreSQL and a Redis of our own for the length of a benchmark, durable as an installation's would be."""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.server import free_port, wait_for_port


@dataclass(frozen=True)
class Services:
    """Where the two servers are; each measurement takes a database of its own."""

    postgres_port: int
    redis_port: int
    binaries: Path

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.redis_port}/0"

    def new_database(self) -> str:
        """The address of a new, empty database."""
        name = f"bench_{uuid.uuid4().hex[:12]}"
        host = ["-h", "127.0.0.1", "-p", str(self.postgres_port), "-U", "portal"]
        _run([str(self.binaries / "createdb"), *host, name])
        return f"postgres://portal@127.0.0.1:{self.postgres_port}/{name}"


@contextmanager
def services() -> Iterator[Services]:
    """Both servers, with PostgreSQL's defaults for durability. Raises FileNotFoundError when one is not installed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        binaries = _postgres_binaries()
        postgres_port, redis_port = free_port(), free_port()
        data = folder / "postgres"
        data.mkdir()
        if os.geteuid() == 0:
            shutil.chown(data, "postgres", "postgres")
        _run(
            [str(binaries / "initdb"), "-D", str(data), "-U", "portal", "--auth=trust", "-E", "UTF8"],
            owner=True,
        )
        options = f"-p {postgres_port} -k {data} -c listen_addresses=127.0.0.1 -c max_connections=200"
        control = [str(binaries / "pg_ctl"), "-D", str(data), "-w"]
        _run([*control, "-l", str(data / "log"), "-o", options, "start"], owner=True)
        redis = subprocess.Popen(  # noqa: S603 - a fixed command
            [
                _redis_server(), "--port", str(redis_port), "--bind", "127.0.0.1", "--save", "",
                "--appendonly", "no", "--dir", str(folder),
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_for_port(redis_port)
            yield Services(postgres_port, redis_port, binaries)
        finally:
            redis.terminate()
            redis.wait(10)
            _run([*control, "-m", "immediate", "stop"], owner=True)


def _postgres_binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    beside = shutil.which("initdb")
    if not found and beside is None:
        raise FileNotFoundError("The benchmark needs PostgreSQL's server (Debian: apt install postgresql).")
    return found[-1].parent if found else Path(str(beside)).parent


def _redis_server() -> str:
    found = shutil.which("redis-server")
    if found is None:
        raise FileNotFoundError("The benchmark needs redis-server (Debian: apt install redis-server).")
    return found


def _run(command: Sequence[str], *, owner: bool = False) -> None:
    if owner and os.geteuid() == 0:  # PostgreSQL refuses to run as root
        command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - fixed commands
