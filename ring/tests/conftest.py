from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from ring.client import RingClient
from ring.config import RingConfig
from ring.tests.server import ScriptedServer, running_server


@pytest.fixture
def api() -> Iterator[ScriptedServer]:
    with running_server() as server:
        yield server


@pytest.fixture
def media_host() -> Iterator[ScriptedServer]:
    """A second origin: it must never see a bearer or a cookie."""
    with running_server() as server:
        yield server


@pytest.fixture
def config(api: ScriptedServer) -> RingConfig:
    return RingConfig(
        api_url=api.url,
        token_url=f"{api.url}/oauth/token",
        authorize_url=f"{api.url}/authorize",
        media_hosts=(".devices.amazon.dev",),
        allow_loopback_http=True,
        connect_timeout_s=2,
        read_timeout_s=2,
    )


@pytest.fixture
def waits() -> list[float]:
    """The pauses a client made, in seconds; none is really slept."""
    return []


@pytest.fixture
def make_client(config: RingConfig, waits: list[float]) -> Iterator[Callable[..., RingClient]]:
    clients: list[RingClient] = []

    def make(*, bearer="AT-1", refresh=None, limiter=None, **changes) -> RingClient:
        client = RingClient(
            replace(config, **changes), bearer, refresh=refresh, limiter=limiter, sleep=waits.append
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


class Refresher:
    """Gives AT-2 and counts how often it was asked."""

    calls = 0

    def __call__(self) -> str:
        self.calls += 1
        return "AT-2"


@pytest.fixture
def refresher() -> Refresher:
    return Refresher()


@pytest.fixture
def client(make_client: Callable[..., RingClient]) -> RingClient:
    return make_client()
