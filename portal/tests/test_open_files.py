"""A process that serves may open as many files as the system lets it, whatever it was started with."""

import os
import subprocess
import sys

from portal.open_files import raise_limit_of_open_files
from tests.support.open_files import few_open_files, has_all_it_may
from tests.support.portal_process import ROOT

ASK = "import portal.asgi, resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))"


def test_a_low_limit_is_raised_as_far_as_may_be() -> None:
    with few_open_files():
        assert not has_all_it_may(os.getpid())
        raise_limit_of_open_files()
        assert has_all_it_may(os.getpid())


def test_the_web_process_raises_it_when_it_begins() -> None:
    with few_open_files():
        asked = subprocess.run(
            [sys.executable, "-c", ASK],
            cwd=ROOT,
            env={**os.environ, "DEBUG": "1"},
            check=True,
            capture_output=True,
            text=True,
        )
    soft, hard = asked.stdout.split()
    assert soft == hard
