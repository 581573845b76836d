"""The node that passes a picture on is killed while Chromium shows it: the picture comes back by itself, by another node."""

import logging
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.test_journey import HAS_PICTURE, wait_until_no_session_is_open
from tests.browser.test_relay import ADA, open_sessions, watch
from tests.support.installation import Installation, ada_shares, installation
from tests.support.portal_process import wait_for
from tests.support.redis_process import redis_server

pytestmark = pytest.mark.browser

logger = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("nodes")
    with (
        redis_server(folder / "redis") as redis_url,
        installation(folder / "portal", env={"LIVE_RELAY": "nodes", "REDIS_URL": redis_url}) as whole,
    ):
        for name in ("relay 1", "relay 2"):
            whole.portal.start(name)
        wait_for(lambda: len(whole.portal.sql("SELECT name FROM media_relaynode")) == 2, what="two nodes")
        yield whole


def node_of_the_picture(installed: Installation) -> str:
    """The name of the node that has the one open session at Ring; "" while there is not one."""
    rows = installed.portal.sql(
        "SELECT relay_node FROM media_livesession WHERE ended_at IS NULL AND kind = 'upstream'"
    )
    return str(rows[0][0]) if len(rows) == 1 else ""


def test_a_picture_comes_back_by_another_node(installed: Installation, chromium: Browser) -> None:
    _, camera = ada_shares(installed)
    # High profile: Chromium offers it under a payload type that aiortc does not take over.
    installed.sandbox.control("PATCH", "/live", {"device": "Garden", "profile": "64001f"})
    page = watch(installed, chromium, camera, ADA)
    before = node_of_the_picture(installed)
    number = int(before.split("-")[-2])
    [process] = [name for name, child in installed.portal.children.items() if child.pid == number]

    killed_at = time.monotonic()
    installed.portal.kill(process)

    page.wait_for_selector("[data-player][data-state=stalled]")
    page.wait_for_selector("[data-player][data-state=live]")
    page.wait_for_function(HAS_PICTURE)
    logger.info("A picture again %.1f s after the kill.", time.monotonic() - killed_at)
    assert node_of_the_picture(installed) not in ("", before)
    wait_for(
        lambda: len(open_sessions(installed)) == 1, timeout_s=5, what="the end of the old session at Ring"
    )
    page.context.close()
    wait_until_no_session_is_open(installed)
