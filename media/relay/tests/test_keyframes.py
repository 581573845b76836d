"""Keyframe requests: many are one, the last is never forgotten."""

import asyncio

from media.relay.keyframes import SPACING_S, KeyframeRequests


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
