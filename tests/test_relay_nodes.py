"""Relay nodes as an installation runs them: a camera at one of two, which dies, ends in peace, or hangs."""

import asyncio
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.installation import Installation, ada_shares, installation, open_at_ring
from tests.support.live_viewer import LiveViewer
from tests.support.portal_process import wait_for

pytestmark = pytest.mark.services  # the web process asks the nodes through Redis


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path, env={"LIVE_RELAY": "nodes"}) as made:
        yield made


@pytest.fixture
def two_nodes(installed: Installation) -> Installation:
    installed.portal.start("relay 1")
    installed.portal.start("relay 2")
    wait_for(lambda: len(nodes(installed)) == 2, what="two nodes that are alive")
    return installed


def nodes(installed: Installation) -> dict[str, tuple[int, int]]:
    """Viewers and sessions at Ring by the node's name."""
    rows = installed.portal.sql("SELECT name, viewers, sessions FROM media_relaynode")
    return {str(name): (int(viewers), int(sessions)) for name, viewers, sessions in rows}


def open_at(installed: Installation, kind: str) -> list[str]:
    """The nodes of the open sessions of this kind."""
    rows = installed.portal.sql(
        "SELECT relay_node FROM media_livesession WHERE ended_at IS NULL AND kind = ?", kind
    )
    return [str(name) for (name,) in rows]


def process_of(installed: Installation, node: str) -> str:
    """The process of a node, whose number is in its name."""
    number = int(node.split("-")[-2])
    [found] = [name for name, child in installed.portal.children.items() if child.pid == number]
    return found


async def until(condition: Any, *, timeout_s: float = 20, what: str) -> None:
    await asyncio.to_thread(wait_for, condition, timeout_s=timeout_s, what=what)


async def test_all_viewers_of_a_camera_are_at_one_node_and_it_lets_go_after_the_last(
    two_nodes: Installation,
) -> None:
    token, camera = ada_shares(two_nodes)
    async with (
        LiveViewer(two_nodes, token=token, camera=camera) as one,
        LiveViewer(two_nodes, token=token, camera=camera) as two,
        LiveViewer(two_nodes, token=token, camera=camera) as three,
    ):
        await asyncio.gather(one.join(), two.join(), three.join())
        assert open_at_ring(two_nodes) == 1
        [home] = open_at(two_nodes, "upstream")
        assert open_at(two_nodes, "relayed") == [home] * 3
        await until(lambda: nodes(two_nodes)[home] == (3, 1), what="the node's own count")
        assert await asyncio.to_thread(of_metrics, two_nodes, "portal_relay_nodes") == 2

        for viewer in (one, two, three):
            await viewer.leave()
        await until(lambda: open_at_ring(two_nodes) == 0, timeout_s=5, what="the end at Ring")


def of_metrics(installed: Installation, name: str) -> float:
    lines = requests.get(f"{installed.portal.url}/metrics", timeout=10).text.splitlines()
    [value] = [line.split()[1] for line in lines if line.startswith(f"{name} ")]
    return float(value)


@pytest.mark.parametrize("way", ["kill", "deploy", "hang"])
async def test_the_viewers_of_a_node_that_ends_come_back_by_another(
    two_nodes: Installation, way: str
) -> None:
    token, camera = ada_shares(two_nodes)
    async with LiveViewer(two_nodes, token=token, camera=camera) as before:
        await before.join()
        [home] = open_at(two_nodes, "upstream")
        process = process_of(two_nodes, home)
        if way == "kill":
            two_nodes.portal.kill(process)
        elif way == "hang":
            os.kill(two_nodes.portal.children[process].pid, signal.SIGSTOP)
        else:
            await asyncio.to_thread(two_nodes.portal.stop, process)
            assert await before.why_it_ended() == "relay"

        # At once: it has not been silent for long enough yet to be taken for dead.
        async with LiveViewer(two_nodes, token=token, camera=camera) as after:
            async with asyncio.timeout(5):
                await after.join()
            await until(lambda: len(open_at(two_nodes, "upstream")) == 1, timeout_s=8, what="one session")
            [now_at] = open_at(two_nodes, "upstream")
            assert now_at != home
            assert open_at(two_nodes, "relayed") == [now_at]
            await until(
                lambda: open_at_ring(two_nodes) == 1, timeout_s=5, what="the end of the old one at Ring"
            )

            if way == "hang":
                # It wakes, and lets go what others were given meanwhile.
                os.kill(two_nodes.portal.children[process].pid, signal.SIGCONT)
                await before.sees_the_end()
                await until(lambda: nodes(two_nodes)[home] == (0, 0), what="nothing at the node that hung")
                # Its viewer is gone before the row says so.
                await until(
                    lambda: open_at(two_nodes, "relayed") == [now_at], timeout_s=5, what="the end of the row"
                )
            await after.see()
            assert open_at(two_nodes, "relayed") == [now_at]
            assert open_at_ring(two_nodes) == 1


async def test_of_two_nodes_with_one_camera_the_earlier_gives_way(two_nodes: Installation) -> None:
    """It was not heard of for longer than a question waits, and shorter than it takes to be held for dead."""
    token, camera = ada_shares(two_nodes)
    async with (
        LiveViewer(two_nodes, token=token, camera=camera) as before,
        LiveViewer(two_nodes, token=token, camera=camera) as after,
    ):
        await before.join()
        [home] = open_at(two_nodes, "upstream")
        process = two_nodes.portal.children[process_of(two_nodes, home)]
        os.kill(process.pid, signal.SIGSTOP)
        await after.join()
        os.kill(process.pid, signal.SIGCONT)

        await until(lambda: open_at_ring(two_nodes) == 1, timeout_s=10, what="one session at Ring")
        [now_at] = open_at(two_nodes, "upstream")
        assert now_at != home
        await before.sees_the_end()
        assert await before.why_it_ended() == "relay"
        await after.see()
        await until(lambda: nodes(two_nodes) == {home: (0, 0), now_at: (1, 1)}, what="who has what")


async def test_without_a_node_it_is_said_and_with_the_first_it_works(installed: Installation) -> None:
    token, camera = ada_shares(installed)
    async with LiveViewer(installed, token=token, camera=camera) as too_early:
        with pytest.raises(AssertionError, match="No process that passes live pictures on is running"):
            await too_early.join()
    installed.portal.start("relay")
    await until(lambda: nodes(installed), what="a node")
    async with LiveViewer(installed, token=token, camera=camera) as viewer:
        await viewer.join()
        assert open_at_ring(installed) == 1


async def test_what_ring_refuses_is_told_by_the_web_process(two_nodes: Installation) -> None:
    token, camera = ada_shares(two_nodes)
    refusal = {"route": "whep", "kind": "status", "status": 429, "retry_after": 7, "device": "Garden"}
    two_nodes.sandbox.control("POST", "/faults", refusal)
    async with LiveViewer(two_nodes, token=token, camera=camera) as viewer:
        with pytest.raises(AssertionError, match="Ring asks for a pause"):
            await viewer.join()
    assert open_at(two_nodes, "relayed") == []


async def test_those_who_wait_for_ring_leave_others_their_database_connections(
    two_nodes: Installation,
) -> None:
    """A web process has a dozen connections; who waits for a slow camera holds none."""
    # All of them wait in threads of this process, which has six unless told.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(32))
    token, camera = ada_shares(two_nodes)
    two_nodes.sandbox.control("POST", "/faults", {"route": "whep", "kind": "slow", "delay_s": 9})
    viewers = [LiveViewer(two_nodes, token=token, camera=camera) for _ in range(16)]
    async with AsyncExitStack() as everybody:
        for viewer in viewers:
            await everybody.enter_async_context(viewer)
            await viewer.offer()
        asking = [asyncio.create_task(viewer.ask()) for viewer in viewers]
        await until(lambda: len(open_at(two_nodes, "relayed")) == len(viewers), what="everybody waiting")

        names = await asyncio.to_thread(two_nodes.api, token, "devices")
        assert names and not any(task.done() for task in asking), "a page came while all of them still waited"

        await asyncio.gather(*asking)
        assert open_at_ring(two_nodes) == 1
