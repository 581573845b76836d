"""Signed webhooks with Ring's retry schedule, dead letters and a journal (contract 9)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import aiohttp

from sandbox.chaos import ORDINARY, Chaos, Dice, Fate

if TYPE_CHECKING:
    from sandbox.server import Sandbox
    from sandbox.world import Integration, Subscription

# After attempt n the pause RETRY_DELAYS_S[n - 1]: 7 attempts in all (contract 9.3).
RETRY_DELAYS_S = (1, 5, 30, 120, 600, 3600)
TIMEOUT_S = 5.0
JOURNAL_LENGTH = 10_000
# So many are on the wire at once; the others wait their turn, which is no part of the 5 s.
LINES = 100
# What waits to be overtaken, or for its burst to be complete, waits no longer than this.
PATIENCE_S = 2.0
KEPT_OVER_RESTART = 300
SIGNATURES = ("valid", "invalid", "bare")

State = Literal["waiting", "delivered", "refused", "dead", "dropped"]
LOST_STATES: tuple[State, ...] = ("dead", "dropped", "refused")


class SendOptions(TypedDict, total=False):
    """What a test may ask of one webhook."""

    request_id: str
    signature: str
    raw_body: str
    even_if_pending: bool
    extra: dict[str, Any]


@dataclass
class Delivery:
    """
    One webhook and every attempt at it.

    `waiting` while attempts are left, then `delivered` (2xx), `refused` (any other answer below 500, never tried
    again) or `dead`; `dropped` when chaos took it before the first. `tries` counts the attempts since it was last sent
    from the start, `fate` says what chaos does to it, `answers_lost` how many good answers are still to be lost.
    """

    id: str
    client_id: str
    type: str
    request_id: str
    event_id: str
    body: str
    signature: str
    state: State = "waiting"
    attempts: list[dict[str, Any]] = field(default_factory=list)
    next_attempt_ms: int | None = None
    account: str = ""
    created_ms: int = 0
    tries: int = 0
    fate: str = ""
    answers_lost: int = 0


def sign(body: bytes, key: str) -> str:
    """The `X-Signature` of these bytes (contract 9.1)."""
    return "sha256=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


def nanosecond_time(ms: int) -> str:
    """ISO time with the nine digits Ring sends; the last six are decoration (contract 5)."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}{time.time_ns() % 1_000_000:06d}Z"


class Webhooks:
    """Everything that is sent to a partner's webhook URL."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.world = sandbox.world
        self.journal: dict[str, Delivery] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._tried: dict[str, asyncio.Event] = {}
        self._lines = asyncio.Semaphore(LINES)
        self._dice = Dice()
        self._overtaken: dict[str, tuple[int, asyncio.Event]] = {}
        self._burst: list[asyncio.Event] = []
        self._clock_moved = asyncio.Event()

    # --- chaos ---

    @property
    def chaos(self) -> Chaos:
        """The orders in force."""
        return self._dice.chaos

    def bring(self, chaos: Chaos) -> None:
        """Let these orders meet every webhook from now on, beginning with the seed's first draw. Raises Problem."""
        chaos.check()
        self._dice = Dice(chaos)
        self._let_go(self._burst)

    def clock_moved(self) -> None:
        """The virtual clock was set: whatever waits for a moment looks again."""
        self._clock_moved.set()
        self._clock_moved = asyncio.Event()

    # --- sending ---

    def send(
        self,
        integration: Integration,
        data: dict[str, Any],
        *,
        request_id: str = "",
        signature: str = "valid",
        raw_body: str | None = None,
        even_if_pending: bool = False,
        extra: dict[str, Any] | None = None,
    ) -> Delivery | None:
        """
        Queue one webhook, signed over the exact bytes that are sent; `extra` joins `data.attributes`.

        None when Ring would send nothing: the link is not completed (contract 2.9). `even_if_pending` sends anyway.
        """
        if integration.status != "completed" and not even_if_pending:
            return None
        app = self.world.apps[integration.client_id]
        request_id = request_id or str(uuid.uuid4())
        if extra:
            data = {**data, "attributes": {**data["attributes"], **extra}}
        envelope = {
            "meta": {
                "version": "1.1",
                "time": nanosecond_time(self.world.now_ms()),
                "request_id": request_id,
                "account_id": self.world.account_id(integration.client_id, integration.account),
            },
            "data": data,
        }
        body = raw_body if raw_body is not None else json.dumps(envelope, separators=(",", ":"))
        signed = sign(body.encode(), app.signing_key if signature != "invalid" else "not-the-key")
        if signature == "bare":
            signed = signed.removeprefix("sha256=")
        delivery = Delivery(
            id=str(uuid.uuid4()),
            client_id=app.client_id,
            type=str(data["type"]),
            request_id=request_id,
            event_id=str(data["id"]),
            body=body,
            signature=signed,
            account=integration.account,
            created_ms=self.world.now_ms(),
        )
        fate = self._dice.throw()
        delivery.fate, delivery.answers_lost = fate.words(), fate.answers_lost
        self._pass_by()
        if fate.dropped:
            delivery.state = "dropped"
            self._note(delivery)
            return delivery
        self._note(delivery)
        self._start(delivery, fate)
        if fate.doubled:
            copy = replace(
                delivery, id=str(uuid.uuid4()), attempts=[], fate="the second copy", answers_lost=0
            )
            self._note(copy)
            self._start(copy)
        return delivery

    def _note(self, delivery: Delivery) -> None:
        self.journal[delivery.id] = delivery
        self._forget_the_oldest()

    def replay(self, delivery: Delivery) -> None:
        """
        Send it again from the start of the schedule, with the old body; earlier attempts stay in the journal.

        Chaos leaves a replay alone.
        """
        self._stop(delivery.id)
        delivery.state, delivery.tries, delivery.next_attempt_ms, delivery.answers_lost = (
            "waiting",
            0,
            None,
            0,
        )
        self._start(delivery)

    def replay_all(self, state: State) -> int:
        """Send all of a state again, oldest first; return how many."""
        found = [d for d in self.journal.values() if d.state == state and d.client_id in self.world.apps]
        for delivery in found:
            self.replay(delivery)
        return len(found)

    def newest(self, client_id: str, count: int = 1) -> list[Delivery]:
        """The app's last deliveries, newest first."""
        return [d for d in reversed(self.journal.values()) if d.client_id == client_id][:count]

    async def tried(self, deliveries: list[Delivery], timeout_s: float) -> None:
        """Wait until each was tried once, or the time is up."""
        waits = [asyncio.create_task(self._tried[d.id].wait()) for d in deliveries if d.id in self._tried]
        if waits:
            _, late = await asyncio.wait(waits, timeout=timeout_s)
            for wait in late:
                wait.cancel()

    def clear(self) -> None:
        """Stop everything on its way and forget the journal."""
        self.stop()
        self.journal.clear()
        self._overtaken.clear()
        self._dice = Dice()

    def stop(self) -> None:
        for delivery_id in list(self._running):
            self._stop(delivery_id)

    def _stop(self, delivery_id: str) -> None:
        task = self._running.pop(delivery_id, None)
        self._overtaken.pop(delivery_id, None)
        self._tried.pop(delivery_id, None)
        if task is not None:
            task.cancel()

    def _forget_the_oldest(self) -> None:
        """Keep the journal bounded: what is settled goes first, what still waits only when there is nothing else."""
        while len(self.journal) > JOURNAL_LENGTH:
            settled = next((d.id for d in self.journal.values() if d.state != "waiting"), None)
            oldest = settled or next(iter(self.journal))
            self._stop(oldest)
            del self.journal[oldest]

    def _start(self, delivery: Delivery, fate: Fate = ORDINARY) -> None:
        self._tried[delivery.id] = asyncio.Event()
        task = asyncio.create_task(self._deliver(delivery, self._waits(delivery, fate), fate.delay_s))
        self._running[delivery.id] = task
        task.add_done_callback(lambda done: self._ended(delivery.id, done))

    def _ended(self, delivery_id: str, task: asyncio.Task[None]) -> None:
        if self._running.get(delivery_id) is task:
            del self._running[delivery_id]
            self._tried.pop(delivery_id, None)

    def _waits(self, delivery: Delivery, fate: Fate) -> list[asyncio.Event]:
        """What must happen before it goes out: some overtake it, its burst is complete."""
        waits: list[asyncio.Event] = []
        if fate.overtaken_by:
            waits.append(asyncio.Event())
            self._overtaken[delivery.id] = (fate.overtaken_by, waits[-1])
        if self.chaos.burst:
            waits.append(asyncio.Event())
            self._burst.append(waits[-1])
            if len(self._burst) >= self.chaos.burst:
                self._let_go(self._burst)
        return waits

    def _pass_by(self) -> None:
        """One more webhook is sent: those that wait to be overtaken are, by one."""
        for delivery_id, (places, event) in list(self._overtaken.items()):
            if places > 1:
                self._overtaken[delivery_id] = (places - 1, event)
            else:
                del self._overtaken[delivery_id]
                # Not at once: the task of one that was made a moment ago must be waiting by then, or all those of one
                # moment would go out in the order in which they were made.
                asyncio.get_running_loop().call_soon(event.set)

    @staticmethod
    def _let_go(waiting: list[asyncio.Event]) -> None:
        for event in waiting:
            event.set()
        waiting.clear()

    async def _until(self, moment_ms: int) -> None:
        """Sleep until the virtual clock shows this."""
        while (left_ms := moment_ms - self.world.now_ms()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_ms / 1000 / self.world.clock_scale):
                    await self._clock_moved.wait()

    async def _deliver(self, delivery: Delivery, waits: Iterable[asyncio.Event], delay_s: float) -> None:
        """Try until it is settled. A delivery from a snapshot goes on where it was: its pause, then its next try."""
        for event in waits:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), PATIENCE_S / self.world.clock_scale)
        if delay_s:
            delivery.next_attempt_ms = self.world.now_ms() + round(delay_s * 1000)
        if delivery.next_attempt_ms is not None:
            await self._until(delivery.next_attempt_ms)
        while delivery.state == "waiting":
            async with self._lines:
                status, problem = await self._post(delivery)
            if delivery.answers_lost and status is not None:
                delivery.answers_lost -= 1
                status, problem = None, f"{status}, lost on its way"
            delivery.tries += 1
            delivery.attempts.append({"at_ms": self.world.now_ms(), "status": status, "problem": problem})
            self._settle(delivery, status)
            self._tried[delivery.id].set()
            self.sandbox.changed()
            if delivery.next_attempt_ms is not None:
                await self._until(delivery.next_attempt_ms)

    def _settle(self, delivery: Delivery, status: int | None) -> None:
        """Say what this answer means (None: no answer within 5 s), and when the next attempt is due."""
        delivery.next_attempt_ms = None
        if status is not None and status < 500:
            # Redirects are undocumented (contract 9.3); trying again would only be redirected again.
            delivery.state = "delivered" if 200 <= status < 300 else "refused"
            return
        if delivery.tries > len(RETRY_DELAYS_S):
            delivery.state = "dead"
            return
        pause_s = RETRY_DELAYS_S[delivery.tries - 1] * self.sandbox.time_scale
        delivery.next_attempt_ms = self.world.now_ms() + round(pause_s * 1000)

    async def _post(self, delivery: Delivery) -> tuple[int | None, str]:
        headers = {
            "Content-Type": "application/json",
            "X-Signature": delivery.signature,
            "User-Agent": "Apache-HttpClient/5.3 (Java/21) ring-sandbox",
        }
        try:
            async with self.sandbox.http.post(
                self.world.apps[delivery.client_id].webhook_url,
                data=delivery.body.encode(),
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            ) as answer:
                return answer.status, ""
        except TimeoutError:
            return None, "no answer within 5 s"
        except aiohttp.ClientError as error:
            return None, type(error).__name__

    # --- envelopes (contract 9.2, 9.5) ---

    def device_event(
        self,
        integration: Integration,
        device_key: str,
        event_type: str,
        *,
        sub_type: str = "",
        at_ms: int | None = None,
        component_ids: list[str] | None = None,
        options: SendOptions | None = None,
    ) -> Delivery | None:
        """Something happened at a device; `at_ms` defaults to now. None as in `send`."""
        at_ms = at_ms or self.world.now_ms()
        device_id = self.world.device_id(integration.client_id, integration.account, device_key)
        attributes: dict[str, Any] = {"source": device_id, "source_type": "devices", "timestamp": at_ms}
        data: dict[str, Any] = {
            "id": f"{device_id}_{sub_type or event_type}_{at_ms}",
            "type": event_type,
            "attributes": attributes,
            "relationships": {"devices": {"links": {"self": f"/v1/devices/{device_id}"}}},
        }
        place = str(self.sandbox.knobs.get("sub_type_position", "attributes"))
        if sub_type and place in {"attributes", "both"}:
            attributes["sub_type"] = sub_type
            readable = datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
            attributes["timestamp_readable"] = readable
        if sub_type and place in {"data", "both"}:
            data["subType"] = sub_type
        if component_ids:
            attributes["component_ids"] = component_ids
        return self.send(integration, data, **(options or {}))

    def integration_event(
        self, integration: Integration, event_type: str, options: SendOptions | None = None
    ) -> Delivery | None:
        """The link itself began or ended; sent in whatever state the link is."""
        account_id = self.world.account_id(integration.client_id, integration.account)
        source_type = str(self.sandbox.knobs.get("integration_source_type", "users"))
        attributes = {"source": account_id, "source_type": source_type, "timestamp": self.world.now_ms()}
        data = {"id": str(uuid.uuid4()), "type": event_type, "attributes": attributes}
        chosen: SendOptions = {**(options or {}), "even_if_pending": True}
        return self.send(integration, data, **chosen)

    def subscription_event(self, integration: Integration, subscription: Subscription) -> Delivery | None:
        """A subscription began or ended. The ending carries no `expires_at` and means now (contract 9.5)."""
        active = subscription.status == "active"
        attributes: dict[str, Any] = {
            "source": "subscriptions",
            "source_id": self.world.directed_id("subscription", subscription.client_id, subscription.id, 113),
            "sub_type": subscription.sub_type,
            "plan_id": subscription.plan_id,
        }
        if active:
            ends = datetime.fromtimestamp(subscription.expires_ms / 1000, UTC)
            attributes["expires_at"] = ends.strftime("%Y-%m-%dT%H:%M:%SZ")
        devices = [
            {
                "type": "device",
                "id": self.world.device_id(subscription.client_id, subscription.account, key),
            }
            for key in subscription.devices
        ]
        data = {
            "id": str(uuid.uuid4()),
            "type": "subscription_activated" if active else "subscription_deactivated",
            "attributes": attributes,
            "relationships": {
                "devices": {"data": devices},
                "subscriptions": {"links": {"self": "/v1/accounts/me/subscriptions"}},
            },
        }
        return self.send(integration, data)

    # --- over a restart ---

    def snapshot(self) -> list[dict[str, Any]]:
        """The newest deliveries, and every one that still waits."""
        newest = list(self.journal.values())[-KEPT_OVER_RESTART:]
        kept = {d.id for d in newest} | {d.id for d in self.journal.values() if d.state == "waiting"}
        return [asdict(delivery) for delivery in self.journal.values() if delivery.id in kept]

    def load(self, rows: list[dict[str, Any]]) -> None:
        """Take the snapshot's journal and go on with what waits."""
        for row in rows:
            delivery = Delivery(**row)
            self.journal[delivery.id] = delivery
            if delivery.state == "waiting" and delivery.client_id in self.world.apps:
                self._start(delivery)
