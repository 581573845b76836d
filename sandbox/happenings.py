"""What happens in a home: history, the device's state, live sessions that end, and the webhooks about it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from sandbox.answers import Problem
from sandbox.world import EVENTS_KEPT, Event, Subscription

if TYPE_CHECKING:
    from sandbox.server import Sandbox
    from sandbox.webhooks import Delivery, SendOptions
    from sandbox.world import Account, Device, Integration

HISTORY_TYPES = {"motion_detected": "motion", "button_press": "ding"}
EVENT_LENGTH_MS = 20_000
SAME_MOMENT_MS = 10_000
VIA = ("both", "webhook", "history")

CHANGEABLE: dict[str, type] = {
    "online": bool,
    "removed": bool,
    "name": str,
    "power": str,
    "battery_percent": int,
    "tells_line_power": bool,
    "faulted": bool,
    "privacy_zones": list,
}


class Happenings:
    """The pages and the control plane both act through this, so that both mean the same."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.world = sandbox.world
        self._last_ms: dict[tuple[str, str], int] = {}

    async def at_device(
        self,
        account: str,
        device_key: str,
        event_type: str,
        *,
        to: list[Integration],
        sub_type: str = "",
        at_ms: int | None = None,
        component_ids: list[str] | None = None,
        options: SendOptions | None = None,
        via: str = "both",
    ) -> list[Delivery]:
        """
        One event at a device, told to the integrations `to`. Returns the deliveries, none where Ring would be silent:
        before a link is completed, and of events while the home has no Ring plan (contract 14).

        `via`: one of VIA. "history": no webhook ever tells it; "webhook": the history forgets it.
        """
        at_ms = at_ms or self._moment(account, device_key)
        device = self.world.accounts[account].devices[device_key]
        if event_type in {"device_online", "device_offline"}:
            await self._set_online(account, device, event_type == "device_online")
        if event_type.startswith("contact_sensor_"):
            device.faulted = event_type.endswith("_faulted")
        if event_type in HISTORY_TYPES and via != "webhook":
            self.record(account, device_key, HISTORY_TYPES[event_type], sub_type, at_ms=at_ms)
        self.sandbox.changed()
        if via == "history" or not self._plan_covers(account, event_type):
            return []
        sent = [
            self.sandbox.webhooks.device_event(
                integration,
                device_key,
                event_type,
                sub_type=sub_type,
                at_ms=at_ms,
                component_ids=component_ids,
                options=options,
            )
            for integration in to
        ]
        return [delivery for delivery in sent if delivery is not None]

    def _moment(self, account: str, device_key: str) -> int:
        """Now; a device does no two things in the same millisecond, for their ids are made of it (contract 9.2)."""
        now_ms, last_ms = self.world.now_ms(), self._last_ms.get((account, device_key), 0)
        # Further ahead, it is the clock that was set back.
        moment = last_ms + 1 if 0 <= last_ms - now_ms < SAME_MOMENT_MS else now_ms
        self._last_ms[account, device_key] = moment
        return moment

    def record(
        self,
        account: str,
        device_key: str,
        kind: str,
        sub_type: str = "",
        *,
        at_ms: int | None = None,
        length_ms: int | None = EVENT_LENGTH_MS,
        by: str = "",
        recorded: bool = True,
    ) -> Event:
        """
        Add to the history (contract 8), and give a battery camera its reason to have recorded, where `recorded`.

        `length_ms` None: it goes on. `by`: the client id of the app that caused it, which thereby has reviewed it.
        """
        start = at_ms or self.world.now_ms()
        event = Event(
            id=str(uuid.uuid4()),
            account=account,
            device=device_key,
            type=kind,
            sub_type=sub_type,
            start_ms=start,
            end_ms=None if length_ms is None else start + length_ms,
            reviewed_by=[by] if by else [],
            recorded=recorded,
        )
        self.world.events.append(event)
        del self.world.events[:-EVENTS_KEPT]
        self.sandbox.changed()
        return event

    async def change_device(self, account: str, device_key: str, changes: dict[str, Any]) -> None:
        """Change a device's fields; tell every app that shares it what Ring would tell. Raises Problem."""
        device = self.world.accounts[account].devices[device_key]
        for name, value in changes.items():
            if name not in CHANGEABLE:
                raise Problem(400, f"{name} cannot be changed; these can: {', '.join(CHANGEABLE)}.")
            if not isinstance(value, CHANGEABLE[name]):
                raise Problem(400, f"{name} must be of type {CHANGEABLE[name].__name__}.")
        was_online, was_removed = device.online, device.removed
        for name, value in changes.items():
            setattr(device, name, value)
        sharing = self.world.links(account, device_key)
        if device.online != was_online:
            kind = "device_online" if device.online else "device_offline"
            await self.at_device(account, device_key, kind, to=sharing)
        if device.removed != was_removed:
            for integration in sharing:
                if device.removed:
                    await self.sandbox.media.close_all(integration, "device removed", device_key)
                self.sandbox.webhooks.device_event(
                    integration, device_key, "device_removed" if device.removed else "device_added"
                )
        self.sandbox.changed()

    async def change_plan(self, account: Account, active: bool) -> None:
        """The home's own Ring plan begins or lapses. A lapse ends every app's subscription (contract 13)."""
        account.plan_active = active
        if not active:
            for subscription in self.world.subscriptions:
                if subscription.account == account.key and subscription.status == "active":
                    self.end_subscription(subscription)
            for integration in self.world.links(account.key):
                await self.sandbox.media.close_all(integration, "plan ended")
        self.sandbox.changed()

    def begin_subscription(
        self, integration: Integration, *, trial: bool, devices: list[str], days: float
    ) -> Subscription:
        """One trial for each person and app. Raises Problem 409 for a second."""
        theirs = [
            s
            for s in self.world.subscriptions
            if (s.client_id, s.account) == (integration.client_id, integration.account)
        ]
        if trial and any(s.sub_type == "trial" for s in theirs):
            raise Problem(409, "This person already had a trial of this app.")
        now = self.world.now_ms()
        subscription = Subscription(
            id=str(uuid.uuid4()),
            client_id=integration.client_id,
            account=integration.account,
            sub_type="trial" if trial else "paid",
            devices=devices,
            created_ms=now,
            expires_ms=now + int(days * 86_400_000),
            plan_id=None if trial else str(uuid.uuid5(uuid.NAMESPACE_URL, integration.client_id)),
        )
        self.world.subscriptions.append(subscription)
        self.sandbox.webhooks.subscription_event(integration, subscription)
        self.sandbox.changed()
        return subscription

    def end_subscription(self, subscription: Subscription) -> None:
        subscription.status = "inactive"
        integration = self.world.integration(subscription.client_id, subscription.account)
        if integration is not None and integration.client_id in self.world.apps:
            self.sandbox.webhooks.subscription_event(integration, subscription)
        self.sandbox.changed()

    async def _set_online(self, account: str, device: Device, online: bool) -> None:
        device.online = online
        if not online:
            for integration in self.world.links(account, device.key):
                await self.sandbox.media.close_all(integration, "device offline", device.key)

    def _plan_covers(self, account: str, event_type: str) -> bool:
        """Without a Ring plan only lifecycle events arrive (contract 14)."""
        gated = self.sandbox.knobs.get("plan_gating") is not False
        return not gated or self.world.accounts[account].plan_active or event_type.startswith("device_")
