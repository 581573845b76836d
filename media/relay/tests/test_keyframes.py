"""Keyframe requests: many are one, each viewer's are bounded, the last is never forgotten."""

import asyncio
from itertools import pairwise

import pytest

from media.relay.keyframes import SPACING_S, KeyframeRequests, ViewerRequests
from media.relay.tests.cameras import until


async def test_many_requests_at_once_are_one_now_and_one_at_the_end_of_the_pause() -> None:
    sent: list[float] = []
    loop = asyncio.get_running_loop()
    requests = KeyframeRequests(lambda: sent.append(loop.time()))
    for _ in range(20):
        requests.ask()
    assert len(sent) == 1
    await asyncio.sleep(SPACING_S + 0.1)
    assert len(sent) == 2, "whoever asked meanwhile does not wait for the next natural keyframe"
    assert sent[1] - sent[0] >= SPACING_S - 0.01
    requests.stop()


async def test_a_keyframe_that_came_answers_everybody() -> None:
    sent: list[int] = []
    requests = KeyframeRequests(lambda: sent.append(1))
    requests.ask()
    requests.ask()
    requests.came()
    await asyncio.sleep(SPACING_S + 0.1)
    assert len(sent) == 1


async def test_a_request_that_was_lost_is_made_again() -> None:
    sent: list[int] = []
    requests = KeyframeRequests(lambda: sent.append(1))
    requests.ask()
    await asyncio.sleep(1.2)
    assert len(sent) == 2
    requests.stop()


async def test_one_that_is_on_its_way_is_asked_for_when_it_does_not_come() -> None:
    asked = asyncio.Event()
    requests = KeyframeRequests(asked.set)
    requests.expect()
    assert not asked.is_set()
    await asked.wait()
    requests.stop()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A viewer's pauses, shorter."""
    monkeypatch.setattr("media.relay.keyframes.PAUSES_S", (0.1, 0.2, 0.4))
    monkeypatch.setattr("media.relay.keyframes.QUIET_S", 0.5)


@pytest.mark.usefixtures("hasty")
async def test_what_one_viewer_asks_for_all_the_time_is_passed_on_after_longer_and_longer_pauses() -> None:
    passed: list[float] = []
    loop = asyncio.get_running_loop()
    requests = ViewerRequests(lambda: passed.append(loop.time()))

    def ask_until_five() -> bool:
        requests.ask()
        return len(passed) == 5

    requests.ask()
    assert len(passed) == 1, "the first at once"
    await until(ask_until_five)
    requests.came()
    pauses = [later - earlier for earlier, later in pairwise(passed)]
    for pause, wanted in zip(pauses, (0.1, 0.2, 0.4, 0.4), strict=True):
        assert pause >= wanted - 0.01, pauses


@pytest.mark.usefixtures("hasty")
async def test_a_viewer_that_was_quiet_is_heard_at_once_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("media.relay.keyframes.PAUSES_S", (0.1, 0.2, 60.0))
    passed: list[int] = []
    requests = ViewerRequests(lambda: passed.append(1))
    for count in (1, 2, 3):
        requests.ask()
        await until(lambda count=count: len(passed) == count)  # type: ignore[misc]
    await asyncio.sleep(0.55)
    requests.ask()
    assert len(passed) == 4
    requests.ask()
    await until(lambda: len(passed) == 5, what="the short pause again, not the long one")


@pytest.mark.usefixtures("hasty")
async def test_what_a_viewer_asked_for_meanwhile_is_not_forgotten_and_a_keyframe_answers_it() -> None:
    passed: list[int] = []
    requests = ViewerRequests(lambda: passed.append(1))
    requests.ask()
    requests.ask()
    await until(lambda: len(passed) == 2, timeout_s=2)
    requests.ask()
    requests.came()
    await asyncio.sleep(0.3)
    assert len(passed) == 2
