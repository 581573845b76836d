"""
Everything the simulated Ring knows: partner apps, people, homes, integrations, tokens, events.

Plain dataclasses that turn into one JSON snapshot and back, so that a restart finds every link intact.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

CODE_LIFETIME_MS = 60_000
ACCESS_LIFETIME_S = 14_400
REFRESH_LIFETIME_MS = 30 * 24 * 3_600_000
NONCE_WINDOW_MS = 600_000
STATIC_TOKEN_LIFETIME_MS = 365 * 86_400_000

EVENTS_KEPT = 10_000

Status = Literal["pending", "awaiting", "completed", "removed"]


@dataclass
class App:
    """One partner's credentials and the four addresses registered for it (contract 1.3, 1.4)."""

    client_id: str
    client_secret: str
    signing_key: str
    name: str
    token_exchange_url: str
    account_link_url: str
    webhook_url: str
    app_homepage_url: str
    accent: str = "#2257d6"
    # Where partner-initiated linking may end (contract 3.2); empty for an app that is not invited to it.
    redirect_uri: str = ""

    @property
    def urls(self) -> tuple[str, ...]:
        always = self.token_exchange_url, self.account_link_url, self.webhook_url, self.app_homepage_url
        return (*always, self.redirect_uri) if self.redirect_uri else always


@dataclass
class Device:
    """One device of a home. `scene` names its picture; `power` decides how long a live session lasts."""

    key: str
    name: str
    kind: Literal["doorbell", "camera", "multi_camera", "chime", "contact"]
    scene: Literal["doorbell", "driveway", "garden", "yard", ""] = ""
    power: Literal["line", "battery"] = "line"
    battery_percent: int = 255
    # Ring need not say that a camera is on line power (contract 18 row 28); of those that do, the battery is at 255 %.
    tells_line_power: bool = False
    online: bool = True
    removed: bool = False
    faulted: bool = False
    components: list[str] = field(default_factory=list)
    privacy_zones: list[dict[str, Any]] = field(default_factory=list)

    @property
    def has_video(self) -> bool:
        return self.kind in {"doorbell", "camera", "multi_camera"}

    @property
    def session_cap_s(self) -> float:
        return 60.0 if self.power == "line" else 30.0


@dataclass
class Account:
    """A person with a home."""

    key: str
    first_name: str
    last_name: str
    email: str
    devices: dict[str, Device] = field(default_factory=dict)
    plan_active: bool = True


@dataclass
class Event:
    """
    Something that happened at a device: history and, where `recorded`, the reason for a recording.

    `end_ms` is None while it goes on (a live session).
    """

    id: str
    account: str
    device: str
    type: str
    sub_type: str
    start_ms: int
    end_ms: int | None
    reviewed_by: list[str] = field(default_factory=list)
    recorded: bool = True


@dataclass
class Subscription:
    """What a person pays one app for, or tries (contract 13). Not the Ring plan itself."""

    id: str
    client_id: str
    account: str
    sub_type: Literal["paid", "trial"]
    devices: list[str]
    created_ms: int
    expires_ms: int
    plan_id: str | None = None
    status: Literal["active", "inactive"] = "active"


@dataclass
class Integration:
    """
    The link of one app and one account (contract 1.1, 2).

    `last_time` is the `time` of the newest nonce, `used_time` of the last one a POST came with, `aged_ms` how much older that one was made by order. `ids` tells
    the directed ids of one linking from those of another, where Ring gives new ones (contract 18 row 36).
    """

    client_id: str
    account: str
    status: Status = "pending"
    devices: list[str] = field(default_factory=list)
    consent_ms: int = 0
    account_identifier: str = ""
    updated_ms: int = 0
    last_time: str = ""
    used_time: str = ""
    aged_ms: int = 0
    ids: str = ""
    partner_initiated: bool = False


@dataclass
class Grant:
    """A code or a token, known by its SHA-256 only. One that was used up is forgotten."""

    client_id: str
    account: str
    kind: Literal["code", "access", "refresh"]
    expires_ms: int
    scope: str = "ava"
    code_challenge: str = ""
    redirect_uri: str = ""


def _homes() -> dict[str, Account]:
    ada = Account("ada", "Ada", "Example", "ada@example.com")
    for device in (
        Device("front-door", "Front Door", "doorbell", "doorbell"),
        Device("driveway", "Driveway", "camera", "driveway", tells_line_power=True),
        Device("garden", "Garden", "camera", "garden", "battery", 82),
        Device("back-yard", "Back Yard", "multi_camera", "yard", components=["0", "1"]),
        Device("hallway-chime", "Hallway Chime", "chime"),
        Device("patio-door", "Patio Door", "contact", "", "battery", 91),
    ):
        ada.devices[device.key] = device
    ben = Account("ben", "Ben", "Sample", "ben@example.com")
    for device in (
        Device("porch", "Porch", "doorbell", "doorbell", "battery", 64),
        Device("carport", "Carport", "camera", "driveway"),
    ):
        ben.devices[device.key] = device
    return {"ada": ada, "ben": ben}


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class BrokenState(Exception):
    """The file of `--state` is not a snapshot of this sandbox. The message says what is wrong with it."""


class World:
    """All state, the virtual clock, and the snapshot."""

    def __init__(self, apps: list[App], *, path: Path | None = None) -> None:
        self.path = path
        self._first_apps = apps
        self.begin_anew()

    def begin_anew(self) -> None:
        """Everything as at the first start: the given apps, the people at home, nobody linked."""
        self.accounts = _homes()
        self.apps: dict[str, App] = {app.client_id: app for app in self._first_apps}
        self.integrations: dict[str, Integration] = {}
        self.grants: dict[str, Grant] = {}
        self.events: list[Event] = []
        self.subscriptions: list[Subscription] = []
        self.clock_offset_ms = 0
        self.clock_scale = 1.0
        self._scaled_since_ms = 0.0

    # --- clock and ids ---

    def now_ms(self) -> int:
        real_ms = time.time() * 1000
        return int(real_ms + self._ahead_ms(real_ms))

    def _ahead_ms(self, real_ms: float) -> float:
        """How far the virtual clock is ahead of the real one. From one reading: two would differ by what lies between."""
        return self.clock_offset_ms + (real_ms - self._scaled_since_ms) * (self.clock_scale - 1)

    def scale_clock(self, scale: float) -> None:
        """Let the virtual clock run `scale` times as fast from now on."""
        real_ms = time.time() * 1000
        self.clock_offset_ms = int(self._ahead_ms(real_ms))
        self.clock_scale, self._scaled_since_ms = scale, real_ms

    def age(self, seconds: float) -> None:
        """Make every link, nonce, code, token and subscription so much older; the clock stays where it is."""
        past_ms = int(seconds * 1000)
        for grant in self.grants.values():
            grant.expires_ms -= past_ms
        for integration in self.integrations.values():
            integration.consent_ms -= past_ms
            integration.aged_ms += past_ms
        for subscription in self.subscriptions:
            subscription.expires_ms -= past_ms

    def directed_id(self, kind: str, client_id: str, name: str, length: int) -> str:
        """An opaque id of Ring's real length, the same after a restart, different for each app (contract 5)."""
        prefix = f"ava1.ring.{kind}."
        digest = b"".join(
            hashlib.sha256(f"{kind}/{client_id}/{name}/{n}".encode()).digest() for n in range(4)
        )
        return prefix + base64.b32encode(digest).decode().rstrip("=")[: length - len(prefix)]

    def account_id(self, client_id: str, account: str) -> str:
        return self.directed_id("account", client_id, account + self._ids(client_id, account), 113)

    def device_id(self, client_id: str, account: str, device: str) -> str:
        name = f"{account}{self._ids(client_id, account)}/{device}"
        return self.directed_id("device", client_id, name, 113)

    def _ids(self, client_id: str, account: str) -> str:
        found = self.integration(client_id, account)
        return found.ids if found is not None else ""

    # --- finding ---

    def integration(self, client_id: str, account: str) -> Integration | None:
        return self.integrations.get(f"{client_id}/{account}")

    def links(self, account: str, device: str | None = None) -> list[Integration]:
        """One person's integrations, removed ones too; with `device`, those that share it. Of known apps only."""
        return [
            found
            for found in self.integrations.values()
            if found.account == account
            and found.client_id in self.apps
            and (device is None or device in found.devices)
        ]

    def shared_device(self, integration: Integration, device_id: str) -> Device | None:
        """The device behind a directed id, if it is shared and still there."""
        for key in integration.devices:
            device = self.accounts[integration.account].devices[key]
            if (
                not device.removed
                and self.device_id(integration.client_id, integration.account, key) == device_id
            ):
                return device
        return None

    # --- grants ---

    def issue(
        self,
        kind: Literal["code", "access", "refresh"],
        client_id: str,
        account: str,
        lifetime_ms: int,
        scope: str = "ava",
        *,
        code_challenge: str = "",
        redirect_uri: str = "",
    ) -> str:
        secret = ("us-east-1." if kind == "code" else "") + secrets.token_urlsafe(
            48 if kind == "code" else 96
        )
        self.grants[_digest(secret)] = Grant(
            client_id, account, kind, self.now_ms() + lifetime_ms, scope, code_challenge, redirect_uri
        )
        return secret

    def accept_token(self, secret: str, client_id: str, account: str) -> None:
        """Take a token chosen by the developer as an access token."""
        expires_ms = self.now_ms() + STATIC_TOKEN_LIFETIME_MS
        self.grants[_digest(secret)] = Grant(client_id, account, "access", expires_ms)

    def grant(self, secret: str, kind: str) -> Grant | None:
        found = self.grants.get(_digest(secret))
        if found is None or found.kind != kind or found.expires_ms <= self.now_ms():
            return None
        return found

    def use_up(self, secret: str) -> None:
        """A code is single use; a refresh token dies when it is rotated (contract 4)."""
        self.grants.pop(_digest(secret), None)

    def expire(self, integration: Integration, kind: str) -> None:
        """End the link's tokens of this kind now."""
        for grant in self.grants.values():
            if (grant.client_id, grant.account, grant.kind) == (
                integration.client_id,
                integration.account,
                kind,
            ):
                grant.expires_ms = 0

    def revoke(self, client_id: str, account: str) -> None:
        self.grants = {
            key: grant
            for key, grant in self.grants.items()
            if (grant.client_id, grant.account) != (client_id, account)
        }

    # --- snapshot ---

    def public(self) -> dict[str, Any]:
        """The state without anything secret."""
        return {
            "devices": {
                a.key: {d.key: asdict(d) for d in a.devices.values()} for a in self.accounts.values()
            },
            "plans": {a.key: a.plan_active for a in self.accounts.values()},
            "integrations": {key: asdict(value) for key, value in self.integrations.items()},
            "events": [asdict(event) for event in self.events[-EVENTS_KEPT:]],
            "subscriptions": [asdict(subscription) for subscription in self.subscriptions],
            "clock_offset_ms": int(self._ahead_ms(time.time() * 1000)),
        }

    def snapshot(self) -> dict[str, Any]:
        """Everything a restart needs. Grants as hashes; apps that came later with their secrets."""
        first = {app.client_id for app in self._first_apps}
        now = self.now_ms()
        return {
            **self.public(),
            "grants": {key: asdict(value) for key, value in self.grants.items() if value.expires_ms > now},
            "added_apps": [asdict(app) for app in self.apps.values() if app.client_id not in first],
        }

    def load(self) -> list[dict[str, Any]]:
        """Take the snapshot's state; return the webhooks' journal in it. Raises BrokenState."""
        if self.path is None or not self.path.exists():
            return []
        try:
            document = json.loads(self.path.read_text())
            self._take(document)
            return list(document["deliveries"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BrokenState(f"{self.path}: {error}") from error

    def _take(self, document: dict[str, Any]) -> None:
        for account, devices in document["devices"].items():
            self.accounts[account].devices = {key: Device(**value) for key, value in devices.items()}
        for account, active in document.get("plans", {}).items():
            self.accounts[account].plan_active = bool(active)
        for row in document.get("added_apps", []):
            self.apps.setdefault(row["client_id"], App(**row))
        self.integrations = {key: Integration(**value) for key, value in document["integrations"].items()}
        known = Grant.__dataclass_fields__
        self.grants = {
            key: Grant(**{name: given for name, given in value.items() if name in known})
            for key, value in document["grants"].items()
            if not value.get("used")
        }
        self.events = [Event(**value) for value in document["events"]]
        for event in self.events:
            if event.end_ms is None:  # a live session that the last process took with it
                event.end_ms = event.start_ms
        self.subscriptions = [Subscription(**value) for value in document.get("subscriptions", [])]
        self.clock_offset_ms = int(document["clock_offset_ms"])

    def save(self, *, deliveries: list[dict[str, Any]]) -> None:
        """Write the snapshot beside the old one and put it in its place in one step."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".partial")
        partial.touch(mode=0o600, exist_ok=True)
        partial.write_text(json.dumps({**self.snapshot(), "deliveries": deliveries}))
        partial.replace(self.path)
