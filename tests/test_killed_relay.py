"""`kill -9` of the process that relays or of the worker, or a deploy: the camera is let go within five seconds, whoever watched."""

import asyncio
from pathlib import Path

import pytest

from tests.support.installation import Installation, ada_shares, installation, open_at_ring
from tests.support.live_viewer import LiveViewer
from tests.support.portal_process import wait_for


@pytest.fixture
def installed(tmp_path: Path):
    with installation(tmp_path) as made:
        yield made


@pytest.mark.parametrize("way", ["kill", "deploy", "worker killed"])
async def test_a_camera_is_let_go_when_a_process_dies(installed: Installation, way: str) -> None:
    token, camera = ada_shares(installed)
    async with (
        LiveViewer(installed, token=token, camera=camera) as one,
        LiveViewer(installed, token=token, camera=camera) as two,
    ):
        await one.join()
        await two.join()
        assert open_at_ring(installed) == 1

        if way == "kill":
            installed.portal.kill("web")
        elif way == "deploy":
            installed.portal.stop("web")  # SIGTERM, as every process manager says it
        else:
            installed.portal.kill("worker")  # who relays ends it without one, as soon as nobody watches
            await one.leave()
            await two.leave()
        await asyncio.to_thread(
            wait_for, lambda: open_at_ring(installed) == 0, timeout_s=5, what="the end of the session at Ring"
        )
