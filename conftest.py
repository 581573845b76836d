"""The cast and the tools every test shares."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from django.conf import LazySettings, settings
from django.core.cache import cache
from django.core.management import call_command
from django.test import override_settings

import pytest

from portal.walls import across_tenants, enter_all_tenants
from tests.support import walls as _walls  # noqa: F401  # watches SQLite
from tests.support.log_guard import guard

# A test arranges and looks at everybody's rows; what it tests begins with nobody's: each request, socket and task does.
enter_all_tenants(TESTS_MAY := "a test arranges, and looks at what came of it")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", action="store_true", help="write the pages' pictures to docs/images")


@pytest.fixture(autouse=True)
def _test_settings(settings: LazySettings, tmp_path: Path) -> None:
    """Fast hashing, files in the test's own folder."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.MEDIA_ROOT = tmp_path / "clips"


@pytest.fixture(scope="session", autouse=True)
def _guarded_log() -> Iterator[None]:
    logging.getLogger().addHandler(guard)
    yield
    logging.getLogger().removeHandler(guard)


@pytest.fixture(autouse=True)
def _no_secret_is_logged() -> Iterator[None]:
    """Of all that is logged while a test runs."""
    yield
    assert guard.take() == []


@pytest.fixture(autouse=True)
def _every_tenant_in_scope() -> Iterator[None]:
    """Whatever a test or the code it calls enters ends with the test."""
    with across_tenants(TESTS_MAY):
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_redis_corner(worker_id: str) -> Iterator[None]:
    """
    Parallel test processes have databases of their own; give each a database of the one Redis, too.

    Once for all its tests: a cache that each made anew would leave its connection open.
    """
    redis_url = os.environ.get("REDIS_URL")
    if not redis_url:
        yield
        return
    server, _, _ = redis_url.rpartition("/")
    number = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 0
    own = f"{server}/{number}"
    layer, caches = settings.CHANNEL_LAYERS["default"], settings.CACHES["default"]
    # Redis' channels are shared by all its databases: they need a prefix.
    config = {**layer["CONFIG"], "hosts": [own], "prefix": f"test-{worker_id}"}
    with override_settings(
        CHANNEL_LAYERS={"default": {**layer, "CONFIG": config}},
        CACHES={"default": {**caches, "LOCATION": own}},
    ):
        yield


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()


@pytest.fixture
def run_tasks(db: None) -> Iterator[Callable[[], None]]:
    """Run every task that is ready, as a worker would, until none is left."""

    def run() -> None:
        call_command(
            "db_worker",
            batch=True,
            interval=0,
            startup_delay=False,
            reload=False,
            queue_name="*",
            verbosity=0,
        )

    yield run
