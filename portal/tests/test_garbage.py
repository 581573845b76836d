"""A process that serves does not stand still for the garbage collector."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LEFT = "import portal.asgi, gc; print(gc.get_freeze_count(), len(gc.get_objects()))"


def test_what_a_server_loads_is_out_of_the_collectors_sight() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", LEFT],
        cwd=ROOT,
        env={**os.environ, "DEBUG": "1"},
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    ).stdout

    spared, left = map(int, loaded.split())

    assert spared > 50_000 and left < spared / 20
