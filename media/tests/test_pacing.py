"""Under a real daphne: a slow reader holds back who sends, and gets everything in the end."""

import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from media.tests.pacing_app import PIECE, PIECES
from tests.support.portal_process import ROOT, answers, free_port, wait_for


@pytest.fixture
def daphne() -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(port)]
    child = subprocess.Popen([*command, "media.tests.pacing_app:application"], cwd=ROOT)
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/sent"), what="daphne")
        yield port
    finally:
        child.terminate()
        child.wait(10)


def test_a_slow_reader_is_waited_for(daphne: int) -> None:
    total = len(PIECE) * PIECES
    with socket.create_connection(("127.0.0.1", daphne), timeout=20) as slow:
        slow.sendall(b"GET / HTTP/1.0\r\n\r\n")
        got = len(slow.recv(1024))

        # Without pacing everything is in daphne's memory before it answers anybody else.
        with urllib.request.urlopen(f"http://127.0.0.1:{daphne}/sent") as answer:
            sent = int(answer.read())
        assert 0 < sent < total / 4

        while piece := slow.recv(1 << 20):
            got += len(piece)
    assert got > total
