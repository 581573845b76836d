"""A right or a link that ends while a node relays: the web process and the worker end it, in another process, within five seconds."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.installation import Installation, ada_shares, installation, open_at_ring
from tests.support.live_viewer import LiveViewer
from tests.support.open_files import few_open_files, has_all_it_may
from tests.test_relay_nodes import nodes, until

pytestmark = pytest.mark.services  # the web process asks the nodes through Redis

REVOKE = """
from django.utils import timezone
from accounts.models import ApiToken
from portal.walls import enter_all_tenants
enter_all_tenants("a test revokes the one token there is")
ApiToken.objects.update(revoked_at=timezone.now())
"""
UNLINK = """
from django.utils import timezone
from accounts.models import RingAccount
from accounts.unlinking import disconnect
from portal.walls import enter_all_tenants
enter_all_tenants("a test unlinks the one account there is")
account = RingAccount.objects.get()
disconnect(account=account, actor=account.user, now=timezone.now())
"""


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path, env={"LIVE_RELAY": "nodes"}) as made:
        with few_open_files():  # as systems start a process; each viewer takes three or four
            made.portal.start("relay")
        yield made


async def test_revoked_and_unlinked_while_a_node_relays(installed: Installation) -> None:
    await until(lambda: nodes(installed), what="a node")
    assert has_all_it_may(installed.portal.children["relay"].pid)
    token, camera = ada_shares(installed)
    for order in (REVOKE, UNLINK):
        async with LiveViewer(installed, token=token, camera=camera) as viewer:
            await viewer.join()
            assert open_at_ring(installed) == 1

            # In a thread: a viewer whose loop stands still misses the goodbye.
            await asyncio.to_thread(installed.portal.manage, "shell", "--no-imports", "-c", order)

            await until(lambda: open_at_ring(installed) == 0, timeout_s=5, what="the end at Ring")
            await until(lambda: viewer.is_cut_off, timeout_s=5, what="the end of the picture")
            await until(
                lambda: set(nodes(installed).values()) == {(0, 0)}, timeout_s=5, what="nothing at the node"
            )
        token = installed.api_token("acme")
