"""Wiring: two origins (API with pages and control plane, media downloads), middleware, lifetime."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from sandbox.answers import Problem
from sandbox.api import PartnerApi
from sandbox.authorize import Authorize
from sandbox.control import Control
from sandbox.delivering import Delivering
from sandbox.faults import Faults, HtmlAnswer
from sandbox.happenings import Happenings
from sandbox.linking import Linking
from sandbox.loopback import is_loopback_host, origin_of
from sandbox.media import MediaApi
from sandbox.pages import Pages
from sandbox.webhooks import Webhooks
from sandbox.workbench import Workbench
from sandbox.world import App, Integration, World

RATE_LIMIT_PER_S = 100
SAVE_DELAY_S = 0.2
BODY_LIMIT_BYTES = 2 * 1024 * 1024
SHUTDOWN_TIMEOUT_S = 2.0
STATIC_TOKEN_CONSENT_MS = 3_600_000
JOURNAL_LENGTH = 1000
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Sandbox:
    """One simulated Ring."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        media_port: int,
        apps: list[App],
        state: Path | None,
        time_scale: float,
        token: str | None = None,
    ) -> None:
        self.host, self.port, self.media_port = host, port, media_port
        self.url = origin_of(host, port)
        self.media_url = origin_of(host, media_port)
        self.time_scale = time_scale
        self.world = World(apps, path=state)
        self.knobs: dict[str, Any] = {}
        self.faults = Faults()
        self.requests: deque[dict[str, Any]] = deque(maxlen=JOURNAL_LENGTH)
        self.webhooks = Webhooks(self)
        self.happenings = Happenings(self)
        self.linking = Linking(self)
        self.api = PartnerApi(self)
        self.media = MediaApi(self)
        self.pages = Pages(self)
        self.authorize = Authorize(self)
        self.http: aiohttp.ClientSession
        self._token = token
        self._spent: dict[str, deque[float]] = {}
        self._saving: asyncio.Task[None] | None = None

    # --- state ---

    def forced_media(self) -> str:
        return str(self.knobs.get("media_force", ""))

    def changed(self) -> None:
        """Something worth keeping changed: write the snapshot soon."""
        if self.world.path is not None and (self._saving is None or self._saving.done()):
            self._saving = asyncio.get_running_loop().create_task(self._save_soon())

    async def _save_soon(self) -> None:
        await asyncio.sleep(SAVE_DELAY_S)
        self.save()

    def save(self) -> None:
        self.world.save(deliveries=self.webhooks.snapshot())

    async def reset(self) -> None:
        """Everything as at the first start; nothing of before is sent or answered any more."""
        await self._close_sessions("reset")
        self.webhooks.clear()
        self.world.begin_anew()
        self.knobs.clear()
        self.faults.waiting.clear()
        self.requests.clear()
        self.media.forget()
        self._spent.clear()
        self._accept_token()
        self.changed()

    def _accept_token(self) -> None:
        """Make the token of `--token` good: the first account of the first app, its link completed an hour ago."""
        if self._token is None:
            return
        client_id, account = next(iter(self.world.apps)), next(iter(self.world.accounts))
        linked = self.world.integration(client_id, account)
        if linked is None or linked.status != "completed":
            devices = list(self.world.accounts[account].devices)
            consent_ms = self.world.now_ms() - STATIC_TOKEN_CONSENT_MS
            self.world.integrations[f"{client_id}/{account}"] = Integration(
                client_id, account, "completed", devices, consent_ms
            )
        self.world.accept_token(self._token, client_id, account)

    async def _close_sessions(self, reason: str) -> None:
        for session in list(self.media.sessions.values()):
            with contextlib.suppress(ConnectionError):
                await session.close(reason)

    # --- middleware ---

    @web.middleware
    async def _every_request(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        journaled = request.path.startswith(("/v1/", "/oauth/"))
        self.faults.take_spoiled()  # one connection's requests share their context
        try:
            self._from_this_desk(request)
            if journaled:
                self._spend(request)
            response = await handler(request)
        except HtmlAnswer as answer:
            response = answer.response()
        except Problem as problem:
            response = self._refusal(request, problem)
        except web.HTTPRedirection:
            self.changed()
            raise
        except web.HTTPError as error:
            response = self._refusal(request, Problem(error.status))
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
        spoiled = self.faults.take_spoiled()
        if spoiled is not None and spoiled.kind == "late":
            await asyncio.sleep(spoiled.delay_s)
        if spoiled is not None and spoiled.kind == "done_status":
            response = Problem(spoiled.status, "It was done; this answer was ordered.").response()
        if journaled:
            self._journal(request, response, lost=spoiled is not None and spoiled.kind == "lost")
        if spoiled is not None and spoiled.kind == "lost" and request.transport is not None:
            request.transport.abort()
        if request.method != "GET":
            self.changed()
        return response

    def _refusal(self, request: web.Request, problem: Problem) -> web.Response:
        """Programs get a document, people a page."""
        if request.path.startswith(("/v1/", "/oauth/", "/control/")):
            return problem.response()
        return self.pages.problem(problem)

    def _journal(self, request: web.Request, response: web.StreamResponse, *, lost: bool) -> None:
        """Note that it came, never its secrets; add the headers every answer of Ring carries."""
        self.requests.append(
            {
                "at_ms": self.world.now_ms(),
                "origin": "media" if self._is_media(request) else "api",
                "method": request.method,
                "path": request.path,
                "status": response.status,
                "lost": lost,
                "authorization": "Authorization" in request.headers,
                "cookie": "Cookie" in request.headers,
                "user_agent": request.headers.get("User-Agent", ""),
            }
        )
        if not response.prepared:
            response.headers.setdefault("X-Request-ID", str(uuid.uuid4()))
            response.headers.setdefault("X-RateLimit-Limit", str(RATE_LIMIT_PER_S))
            response.headers.setdefault("X-RateLimit-Remaining", str(self._left(request)))

    def _is_media(self, request: web.Request) -> bool:
        address = request.get_extra_info("sockname")
        return address is not None and address[1] == self.media_port

    @staticmethod
    def _from_this_desk(request: web.Request) -> None:
        """
        Refuse what a web page elsewhere could make a browser do here: a name that was pointed at loopback,
        and pages and control plane used from another site. Raises Problem.
        """
        if not is_loopback_host(request.url.host or ""):
            raise Problem(403, "The sandbox answers to loopback names only.")
        if request.method != "GET" and request.headers.get("Sec-Fetch-Site") == "cross-site":
            raise Problem(403, "The sandbox takes orders from this machine's own pages only.")

    def _window(self, request: web.Request) -> deque[float]:
        """The last second's requests of this client id; those without a good token count together."""
        grant = self.api.grant(request)
        window = self._spent.setdefault(grant.client_id if grant else "", deque())
        while window and window[0] < time.monotonic() - 1:
            window.popleft()
        return window

    def _left(self, request: web.Request) -> int:
        return max(0, RATE_LIMIT_PER_S - len(self._window(request)))

    def _spend(self, request: web.Request) -> None:
        if self._is_media(request):  # another host at Ring, outside the API's budget
            return
        window = self._window(request)
        if len(window) >= RATE_LIMIT_PER_S:
            raise Problem(429, "100 requests a second for each client id.", retry_after_s=1)
        window.append(time.monotonic())

    # --- lifetime ---

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """
        Serve until `stop` is set; then end live sessions and write the snapshot.

        Raises BrokenState for an unreadable `--state`, OSError when a port is taken.
        """
        deliveries = self.world.load()
        self._accept_token()
        main = web.Application(middlewares=[self._every_request], client_max_size=BODY_LIMIT_BYTES)
        main.add_routes([web.get("/healthz", self._health)])
        for part in (
            self.api,
            self.media,
            Control(self),
            self.pages,
            Workbench(self),
            Delivering(self),
            self.authorize,
        ):
            main.add_routes(part.routes())
        downloads = web.Application(middlewares=[self._every_request])
        downloads.add_routes(self.media.download_routes())
        async with aiohttp.ClientSession() as self.http, contextlib.AsyncExitStack() as stack:
            for application, port in ((main, self.port), (downloads, self.media_port)):
                runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
                await runner.setup()
                stack.push_async_callback(runner.cleanup)
                await web.TCPSite(runner, self.host, port).start()
            self.webhooks.load(deliveries)
            ready()
            await stop.wait()
            await self._close_sessions("sandbox stopped")
            self.webhooks.stop()
        if self.world.path is not None:
            self.save()

    @staticmethod
    async def _health(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")
