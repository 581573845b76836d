"""Five hundred join one camera in rushes, through the whole product: `make test-long`, which no other run includes."""

import asyncio
import logging
import statistics
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.installation import Installation, ada_shares, installation, open_at_ring
from tests.support.live_viewer import LiveViewer
from tests.support.portal_process import wait_for

pytestmark = pytest.mark.long

logger = logging.getLogger(__name__)

# Each viewer decodes its first picture in this process: with more at a time it is those who are waited for.
RUSHES, AT_ONCE = 25, 20


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path) as made:
        yield made


async def test_five_hundred_who_join_in_rushes_all_get_a_picture(installed: Installation) -> None:
    # On line power, and so watched for five minutes without another word.
    token, camera = await asyncio.to_thread(ada_shares, installed, "Driveway")
    took_s: list[float] = []

    async def join(viewer: LiveViewer) -> None:
        began = time.monotonic()
        await viewer.join()
        viewer.look_away()
        took_s.append(time.monotonic() - began)

    async with LiveViewer(installed, token=token, camera=camera) as first:
        await first.join()
        first.look_away()
        for _ in range(RUSHES):
            async with AsyncExitStack() as stack:
                rush = [
                    await stack.enter_async_context(LiveViewer(installed, token=token, camera=camera))
                    for _ in range(AT_ONCE)
                ]
                await asyncio.gather(*(viewer.offer() for viewer in rush))
                await asyncio.gather(*(join(viewer) for viewer in rush))
                assert await asyncio.to_thread(open_at_ring, installed) <= 2, "one, and the next at its cap"
                await asyncio.gather(*(viewer.leave() for viewer in rush))
        await first.leave()
    assert len(took_s) == RUSHES * AT_ONCE
    logger.info(
        "%d joined, %d at a time. First picture after a median of %.2f s, the slowest %.2f s.",
        len(took_s), AT_ONCE, statistics.median(took_s), max(took_s),
    )  # fmt: skip
    await asyncio.to_thread(
        wait_for, lambda: open_at_ring(installed) == 0, timeout_s=5, what="the end at Ring"
    )
