"""Two tenants with their people, and a server process on the test's own database."""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator

from django.conf import LazySettings
from django.test import Client

import pytest

from accounts.models import Membership
from events.tests.test_server import database_url
from tests.support.cast import TenantCast, make_cast
from tests.support.portal_process import ROOT, answers, free_port, wait_for


@pytest.fixture
def acme(db: None) -> TenantCast:
    return make_cast("acme")


@pytest.fixture(scope="module")
def server(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The portal under daphne on the test's database; gives its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    folder = tmp_path_factory.mktemp("server")
    environment = os.environ | {
        "DEBUG": "1",
        "DATABASE_URL": database_url(),
        "MEDIA_ROOT": str(folder / "clips"),
        "PUBLIC_URL": url,
    }
    command = ["-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(port), "portal.asgi:application"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        wait_for(lambda: answers(f"{url}/healthz/live"), timeout_s=60, what="the web process")
        yield url
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def served(server: str, transactional_db: None, settings: LazySettings) -> str:
    """The same, with PUBLIC_URL leading there."""
    settings.PUBLIC_URL = server
    settings.DEBUG = True  # plain http, as in development
    return server


_numbers = itertools.count(1)


@pytest.fixture
def cast(transactional_db: None) -> TenantCast:
    """A tenant with a name of its own: the server process remembers keys by name for some seconds."""
    return make_cast(f"acme-{next(_numbers)}")


def signed_in(membership: Membership) -> Client:
    client = Client()
    client.force_login(membership.user)
    return client
