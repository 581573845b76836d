"""C13, end to end: one company's flood keeps no event of another waiting, in front of a real server and a real worker."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from events.tests.conftest import body_of
from events.tests.test_server import post
from tests.support.portal_process import PortalProcess, wait_for

FLOOD = 600
OTHERS = 10
SENDERS = 4
WITHIN_S = 2.0
# The one that is being done when another's arrives, and one that was taken in the same moment.
IN_FRONT_AT_MOST = 2


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[PortalProcess]:
    with PortalProcess(tmp_path / "portal", ring_url="http://127.0.0.1:9") as running:
        for slug in ("flooding", "harbor"):
            ring = {"RING_CLIENT_SECRET": f"{slug}-secret", "RING_SIGNING_KEY": f"{slug}-key"}
            running.manage(
                "create_tenant", slug, "--name", slug.title(), "--client-id", f"{slug}-client", env=ring
            )
        yield running


def tell(portal: PortalProcess, slug: str, request: str) -> None:
    path = f"/ring/{slug}/webhook"
    status, _ = post(portal.port, body_of("motion_detected", request=request), path=path, key=f"{slug}-key")
    assert status == 200


def waiting(portal: PortalProcess, slug: str) -> int:
    """How many events of a company still wait for their effects."""
    [(count,)] = portal.sql(
        "SELECT count(*) FROM events_event e JOIN accounts_tenant t ON t.id = e.tenant_id "
        "WHERE t.slug = ? AND e.next_attempt_at IS NOT NULL",
        slug,
    )
    return int(count)


@dataclass(frozen=True)
class Done:
    """One task of the queue: for which events, and when it was put there and begun, as the database spells it."""

    events: frozenset[int]
    enqueued_at: Any
    started_at: Any


def tasks_of(portal: PortalProcess, slug: str) -> list[Done]:
    events = {
        pk
        for (pk,) in portal.sql(
            "SELECT e.id FROM events_event e JOIN accounts_tenant t ON t.id = e.tenant_id WHERE t.slug = ?",
            slug,
        )
    }
    rows = portal.sql(
        "SELECT args_kwargs, enqueued_at, started_at FROM django_tasks_database_dbtaskresult "
        "WHERE task_path LIKE ? AND started_at IS NOT NULL",
        "%apply_effects_of",
    )
    tasks = []
    for arguments, enqueued_at, started_at in rows:
        kept = json.loads(arguments) if isinstance(arguments, str) else arguments
        told = frozenset(kept["args"][0])
        if told <= events:
            tasks.append(Done(told, enqueued_at, started_at))
    return tasks


def test_a_flood_of_one_company_keeps_no_event_of_another_waiting(portal: PortalProcess) -> None:
    portal.stop("worker")
    with ThreadPoolExecutor(SENDERS) as senders:
        list(senders.map(lambda number: tell(portal, "flooding", f"flood-{number}"), range(FLOOD)))
    portal.start("worker")
    # What came first has the right to go first: the flood is one only after that.
    wait_for(lambda: waiting(portal, "flooding") < FLOOD - 60, what="the beginning of the flood")
    for number in range(OTHERS):
        tell(portal, "harbor", f"other-{number}")
        wait_for(
            lambda: waiting(portal, "harbor") == 0, timeout_s=WITHIN_S, what="the effects of another's event"
        )
    left = waiting(portal, "flooding")
    assert left > 0, "The flood was over: nothing was shown"

    flood = tasks_of(portal, "flooding")
    others = tasks_of(portal, "harbor")
    assert len(others) == OTHERS
    for other in others:
        in_front = [task for task in flood if other.enqueued_at < task.started_at < other.started_at]
        assert len(in_front) <= IN_FRONT_AT_MOST
