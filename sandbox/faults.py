"""Faults on purpose: the next answers of a route fail, hang or come as HTML (contract 17.3)."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field

from aiohttp import web

from sandbox.answers import Problem

ROUTES = (
    "token", "users.me", "app-integrations.post", "app-integrations.patch", "subscriptions", "devices", "history",
    "whep", "whep.delete", "image", "clip", "download", "chime",
)  # fmt: skip
KINDS = ("status", "slow", "timeout", "html", "lost", "done_status", "late")
TIMEOUT_S = 60.0


_spoiled: ContextVar[Fault | None] = ContextVar("spoiled", default=None)


class HtmlAnswer(Exception):
    """A gateway's page instead of JSON."""

    def response(self) -> web.Response:
        return web.Response(
            status=502, text="<html><h1>502 Bad Gateway</h1></html>", content_type="text/html"
        )


@dataclass
class Fault:
    """
    One fault; `times` counts down and -1 stays. `slow` answers properly, `delay_s` seconds late.

    `lost`, `done_status` and `late` carry the order out; then the connection is dropped, or `status` answered all the
    same, or the answer comes `delay_s` seconds after.
    """

    route: str
    kind: str
    status: int = 500
    times: int = 1
    delay_s: float = 0.0
    retry_after: int | None = None
    # Of the route whep: only this camera, as `account/key`; empty for all.
    device: str = ""


@dataclass
class Faults:
    """The faults that wait for their route."""

    waiting: list[Fault] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        """Raises Problem for a route or kind that is none: a typing error must not make a test pass."""
        if fault.route not in ROUTES:
            raise Problem(400, f"route must be one of {', '.join(ROUTES)}.")
        if fault.kind not in KINDS:
            raise Problem(400, f"kind must be one of {', '.join(KINDS)}.")
        if fault.device and fault.route != "whep":
            raise Problem(400, "device goes with the route whep only.")
        if not 400 <= fault.status <= 599 and fault.kind == "status":
            raise Problem(400, "status must be 400 to 599.")
        self.waiting.append(fault)

    async def apply(self, route: str, device: str = "") -> None:
        """
        Suffer the first fault of this route (and `device`, as `account/key`), if any: raises Problem or HtmlAnswer, or only takes its time.

        The kinds that carry the order out are left to `take_spoiled`.
        """
        fault = next(
            (fault for fault in self.waiting if (fault.route, fault.device) == (route, device)), None
        )
        if fault is None:
            return
        if fault.times > 0:
            fault.times -= 1
            if fault.times == 0:
                self.waiting.remove(fault)
        if fault.delay_s and fault.kind != "late":
            await asyncio.sleep(fault.delay_s)
        if fault.kind in {"lost", "done_status", "late"}:
            _spoiled.set(fault)
        if fault.kind == "timeout":
            await asyncio.sleep(TIMEOUT_S)
        if fault.kind == "html":
            raise HtmlAnswer
        if fault.kind in {"status", "timeout"}:
            raise Problem(
                fault.status, "A fault ordered through the control plane.", retry_after_s=fault.retry_after
            )

    @staticmethod
    def take_spoiled() -> Fault | None:
        """The fault that spoils the answer of the request at hand, once; None for a sound answer."""
        fault = _spoiled.get()
        _spoiled.set(None)
        return fault
