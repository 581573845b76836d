"""
Whose effects run first: who tells much steps behind those who tell little, so that one's flood is not another's delay (C13).

The queue takes the highest priority first, and among equals the oldest. A tenant's tasks lose one step for every
EVENTS_A_STEP events it told in the last minute; they keep the floor, so nothing else overtakes them for good.
"""

import threading
from collections import deque
from datetime import datetime, timedelta
from typing import Final

FIRST: Final = 50
LAST: Final = 1
"""Still before pictures and clips, which have the default 0: those take as long as Ring takes."""

EVENTS_A_STEP: Final = 20
WINDOW: Final = timedelta(minutes=1)


class Turns:
    """What each tenant told lately, as this process heard it. Any thread may ask."""

    def __init__(self) -> None:
        self._told: dict[int, deque[tuple[datetime, int]]] = {}
        self._lock = threading.Lock()

    def priority(self, tenant_id: int, *, count: int, now: datetime) -> int:
        """The priority of the next `count` events of a tenant, which count from then on."""
        with self._lock:
            self._forget(now - WINDOW)
            told = self._told.setdefault(tenant_id, deque())
            before = sum(number for _, number in told)
            told.append((now, count))
        return max(LAST, FIRST - before // EVENTS_A_STEP)

    def _forget(self, moment: datetime) -> None:
        for tenant_id, told in list(self._told.items()):
            while told and told[0][0] <= moment:
                told.popleft()
            if not told:
                del self._told[tenant_id]
