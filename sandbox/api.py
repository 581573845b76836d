"""The Ring Partner API over HTTP: OAuth, users, integrations, devices, history, subscriptions, chimes (contract 2-13)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from aiohttp import web

from sandbox.answers import Problem
from sandbox.authorize import verifies
from sandbox.documents import INCLUDABLE, DeviceDocuments, iso
from sandbox.world import (
    ACCESS_LIFETIME_S,
    NONCE_WINDOW_MS,
    REFRESH_LIFETIME_MS,
    Device,
    Event,
    Grant,
    Integration,
    Subscription,
)

if TYPE_CHECKING:
    from sandbox.server import Sandbox

HISTORY_PAGE = 50
SUBSCRIPTIONS_PAGE = 25
REFRESH_GRACE_MS = 120_000
READ_ONLY_SCOPE = "ava.v1:read"
IDENTIFIER_LENGTH = 256


def nonce(key: str, time_ms: str, account_id: str) -> str:
    """Contract 2.6."""
    digest = hmac.new(key.encode(), f"{time_ms}:{account_id}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _cursor_time(start_ms: int, given: int) -> str:
    moment = datetime.fromtimestamp(start_ms / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{start_ms % 1000:03d}{given:06d}Z"


def _read_cursor(cursor: str) -> tuple[int, int]:
    """Any ISO time in UTC; digits beyond the milliseconds count events. Raises ValueError."""
    whole, _, fraction = cursor.removesuffix("Z").partition(".")
    seconds = datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp()
    digits = fraction.ljust(9, "0")
    if not digits.isdigit() or len(digits) != 9:
        raise ValueError("a fraction of a second has at most nine digits")
    return int(seconds) * 1000 + int(digits[:3]), int(digits[3:])


class PartnerApi:
    """Every JSON route; the media routes are in `media.py`."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.world = sandbox.world

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/oauth/token", self.token),
            web.get("/v1/users/me", self.users_me),
            web.post("/v1/accounts/me/app-integrations", self.confirm),
            web.patch("/v1/accounts/me/app-integrations", self.finalize),
            web.delete("/v1/accounts/me/app-integrations", self.unlink),
            web.get("/v1/accounts/me/subscriptions", self.subscriptions),
            web.get("/v1/devices", self.devices),
            web.get("/v1/devices/{device}", self.device),
            web.get(
                "/v1/devices/{device}/{part:status|capabilities|configurations|location}", self.device_part
            ),
            web.get("/v1/history/devices/{device}/events", self.history),
            web.post("/v1/devices/{device}/media/audio/playback", self.play),
        ]

    # --- who asks ---

    def grant(self, request: web.Request) -> Grant | None:
        """What the bearer token grants; None for a missing, expired or revoked one."""
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        return self.world.grant(secret, "access") if scheme.lower() == "bearer" else None

    def integration(
        self, request: web.Request, *statuses: str, writes: bool = False, manages: bool = False
    ) -> Integration:
        """
        The integration behind the bearer token. Raises Problem 401, 404 or 403 (contract 15).

        `manages`: a change of the link itself, which a partner-initiated link's read scope allows (contract 3.2).
        """
        grant = self.grant(request)
        if grant is None:
            raise Problem(401, "The access token is missing, expired or revoked.")
        if writes and grant.scope == READ_ONLY_SCOPE:
            raise Problem(403, "This token may only read.", title="Out of Scope Access")
        found = self.world.integration(grant.client_id, grant.account)
        if found is None or found.status == "removed" or found.client_id not in self.world.apps:
            raise Problem(404, "There is no integration for this token.")
        if manages and grant.scope == READ_ONLY_SCOPE and not found.partner_initiated:
            raise Problem(403, "This token may only read.", title="Out of Scope Access")
        if found.status == "awaiting" and statuses and self.sandbox.knobs.get("data_while_awaiting") is False:
            statuses = ("completed",)
        if statuses and found.status not in statuses:
            raise Problem(403, "The user has not given consent yet.", title="Out of Scope Access")
        return found

    def consented(self, request: web.Request, *, writes: bool = False) -> Integration:
        """As `integration`, once its device consents are active and while the home has a plan. Raises Problem."""
        integration = self.integration(request, "awaiting", "completed", writes=writes)
        gated = self.sandbox.knobs.get("plan_gating") is not False
        if gated and not self.world.accounts[integration.account].plan_active:
            raise Problem(403, "The home has no active Ring plan.", title="Forbidden")
        return integration

    def shared(self, request: web.Request, *, writes: bool = False) -> tuple[Integration, Device]:
        """The device of the path, shared and still there. Raises Problem."""
        integration = self.consented(request, writes=writes)
        device = self.world.shared_device(integration, request.match_info["device"])
        if device is None:
            raise Problem(404, "There is no such device in this integration.")
        return integration, device

    # --- OAuth (contract 2.3, 4) ---

    async def token(self, request: web.Request) -> web.Response:
        # Whole before an ordered fault: half a request rotates nothing.
        await request.read()
        await self.sandbox.faults.apply("token")
        if request.content_type != "application/x-www-form-urlencoded":
            return self._oauth_error("invalid_request")
        form = await request.post()
        app = self.world.apps.get(str(form.get("client_id", "")))
        if app is None or not hmac.compare_digest(
            app.client_secret.encode(), str(form.get("client_secret", "")).encode()
        ):
            return self._oauth_error("invalid_client", 401)
        kinds = {"authorization_code": ("code", "code"), "refresh_token": ("refresh", "refresh_token")}
        grant_type = str(form.get("grant_type", ""))
        if grant_type not in kinds:
            return self._oauth_error("unsupported_grant_type")
        kind, name = kinds[grant_type]
        if not form.get(name):
            return self._oauth_error("invalid_request")
        grant = self.world.grant(str(form[name]), kind)
        refused = kind == "refresh" and bool(self.sandbox.knobs.get("refuse_refresh"))
        if grant is None or grant.client_id != app.client_id or refused:
            return self._oauth_error("invalid_grant")
        if grant.code_challenge:
            # One try: a verifier that is wrong spends the code (RFC 7636 4.6, RFC 6749 4.1.3).
            redirect_uri = str(form.get("redirect_uri", grant.redirect_uri))
            if redirect_uri != grant.redirect_uri or not verifies(
                str(form.get("code_verifier", "")), grant.code_challenge
            ):
                self.world.use_up(str(form[name]))
                return self._oauth_error("invalid_grant")
        keep = kind == "refresh" and bool(self.sandbox.knobs.get("no_rotation"))
        if keep:
            refresh_token = str(form[name])
        else:
            if kind == "refresh" and self.sandbox.knobs.get("refresh_grace"):
                grant.expires_ms = min(grant.expires_ms, self.world.now_ms() + REFRESH_GRACE_MS)
            else:
                self.world.use_up(str(form[name]))
            refresh_token = self.world.issue(
                "refresh", app.client_id, grant.account, REFRESH_LIFETIME_MS, grant.scope
            )
        answer: dict[str, Any] = {
            "access_token": self.world.issue(
                "access", app.client_id, grant.account, ACCESS_LIFETIME_S * 1000, grant.scope
            ),
            "refresh_token": refresh_token,
            "scope": grant.scope,
            "expires_in": ACCESS_LIFETIME_S,
            "token_type": "Bearer",
        }
        if self.sandbox.knobs.get("token_answer") == "loose":
            answer |= {"scope": ["ava"], "expires_in": str(ACCESS_LIFETIME_S), "issued_by": "sandbox"}
        return web.json_response(answer)

    def _oauth_error(self, word: str, status: int = 400) -> web.Response:
        """Undocumented, so in either shape partners have to take (contract 2.3)."""
        if self.sandbox.knobs.get("oauth_errors") == "jsonapi":
            return web.json_response(
                {"errors": [{"status": str(status), "code": word, "title": word}]}, status=status
            )
        return web.json_response({"error": word}, status=status)

    async def users_me(self, request: web.Request) -> web.Response:
        await self.sandbox.faults.apply("users.me")
        if self.grant(request) is None and self.sandbox.knobs.get("users_me_403"):
            raise Problem(403, "The access token is missing, expired or revoked.")
        integration = self.integration(request)
        account = self.world.accounts[integration.account]
        return self._document(
            {
                "type": "users",
                "id": self.world.account_id(integration.client_id, integration.account),
                "attributes": {
                    "first_name": account.first_name,
                    "last_name": account.last_name,
                    "email": account.email,
                },
            }
        )

    # --- app-integrations (contract 2.8, 2.9) ---

    async def confirm(self, request: web.Request) -> web.Response:
        await self.sandbox.faults.apply("app-integrations.post")
        integration = self.integration(request, writes=True)
        body = await self._json(request)
        given = body.get("nonce")
        if not isinstance(given, str) or not given:
            raise Problem(400, title="Missing Required Fields")
        app = self.world.apps[integration.client_id]
        account_id = self.world.account_id(integration.client_id, integration.account)
        fresh = (
            integration.last_time != ""
            and 0 <= self.world.now_ms() - int(integration.last_time) + integration.aged_ms <= NONCE_WINDOW_MS
        )
        is_used = integration.used_time == integration.last_time
        if is_used and self.sandbox.knobs.get("post_repeat") == "invalid_nonce":
            fresh = False
        expected = nonce(app.signing_key, integration.last_time, account_id)
        if not fresh or not hmac.compare_digest(expected.encode(), given.encode()):
            raise Problem(400, title="Invalid Nonce")
        integration.used_time = integration.last_time
        if integration.status == "pending":
            integration.status = "awaiting"
        if "account_identifier" in body:
            integration.account_identifier = self._identifier(body)
        return self._integration(integration)

    async def finalize(self, request: web.Request) -> web.Response:
        await self.sandbox.faults.apply("app-integrations.patch")
        integration = self.integration(request, manages=True)
        body = await self._json(request)
        if not {"status", "account_identifier"} & body.keys():
            raise Problem(400, title="Missing Required Fields")
        identifier = (
            self._identifier(body) if "account_identifier" in body else integration.account_identifier
        )
        if "status" in body:
            if body["status"] not in ("completed", "awaiting") or integration.status == "pending":
                raise Problem(400, title="Invalid Status Transition")
            repeated = body["status"] == integration.status == "completed"
            if repeated and self.sandbox.knobs.get("patch_repeat") == "invalid_transition":
                raise Problem(400, title="Invalid Status Transition")
            before, integration.status = integration.status, body["status"]
            if before != "completed" and integration.status == "completed":
                self.sandbox.webhooks.integration_event(integration, "app_integration_added")
        integration.account_identifier = identifier
        return self._integration(integration)

    async def unlink(self, request: web.Request) -> web.Response:
        """For links that began at the partner only (contract 2.9, 3.2)."""
        integration = self.integration(request, manages=True)
        if not integration.partner_initiated:
            raise Problem(403, "Only the Ring user can remove a one-way integration.")
        await self.sandbox.linking.remove(integration)
        return web.Response(status=204)

    def _integration(self, integration: Integration) -> web.Response:
        integration.updated_ms = self.world.now_ms()
        attributes = {
            "status": integration.status,
            "account_identifier": integration.account_identifier,
            "updated_at": iso(integration.updated_ms),
        }
        if self.sandbox.knobs.get("app_integrations_shape") == "flat":
            return web.json_response(attributes)
        client = self.world.directed_id("client", integration.client_id, "", 60)
        return self._document({"type": "app-integrations", "id": client, "attributes": attributes})

    # --- devices (contract 7) ---

    async def devices(self, request: web.Request) -> web.Response:
        await self.sandbox.faults.apply("devices")
        integration = self.consented(request)
        devices = [self.world.accounts[integration.account].devices[key] for key in integration.devices]
        documents = [
            DeviceDocuments(self.world, integration, device) for device in devices if not device.removed
        ]
        return self._with_included(request, documents, many=True)

    async def device(self, request: web.Request) -> web.Response:
        await self.sandbox.faults.apply("devices")
        integration, device = self.shared(request)
        return self._with_included(request, [DeviceDocuments(self.world, integration, device)], many=False)

    async def device_part(self, request: web.Request) -> web.Response:
        await self.sandbox.faults.apply("devices")
        integration, device = self.shared(request)
        return self._document(
            DeviceDocuments(self.world, integration, device).part(request.match_info["part"])
        )

    def _with_included(
        self, request: web.Request, documents: list[DeviceDocuments], *, many: bool
    ) -> web.Response:
        wanted = [part for part in request.query.get("include", "").split(",") if part]
        if unknown := set(wanted) - set(INCLUDABLE):
            raise Problem(400, f"Cannot include {', '.join(sorted(unknown))}.")
        included: dict[tuple[str, str], dict[str, Any]] = {}
        for part in INCLUDABLE:
            if part in wanted:
                for document in documents:
                    resource = document.part(part)
                    included[resource["type"], resource["id"]] = resource
        data: Any = [document.device_resource() for document in documents]
        body: dict[str, Any] = {"data": data if many else data[0], "meta": {"time": iso(self.world.now_ms())}}
        if wanted:
            body["included"] = list(included.values())
        return web.json_response(body)

    # --- history, subscriptions, chimes (contract 8, 12, 13) ---

    async def history(self, request: web.Request) -> web.Response:
        await self.sandbox.faults.apply("history")
        integration, device = self.shared(request)
        wanted = [kind for kind in request.query.get("event_types", "").split(",") if kind]
        events = [
            event
            for event in self.world.events
            if (event.account, event.device) == (integration.account, device.key)
            and event.start_ms >= integration.consent_ms
            and (not wanted or event.type in wanted or f"{event.type}.{event.sub_type}" in wanted)
        ]
        events.sort(key=lambda event: (event.start_ms, event.id), reverse=True)
        key = request.query.get("page[key]")
        after = self._events_after(events, key) if key is not None else events
        page = after[:HISTORY_PAGE]
        body: dict[str, Any] = {"data": [self._history_entry(integration, event) for event in page]}
        if page:
            cursor = self._cursor(events, len(events) - len(after) + len(page))
        elif self.sandbox.knobs.get("history_next_on_empty"):
            cursor = key or _cursor_time(self.world.now_ms(), 0)
        else:
            cursor = None
        if cursor is not None:
            query = {name: value for name, value in request.query.items() if name != "page[key]"}
            body["links"] = {"next": f"{request.path}?{urlencode({**query, 'page[key]': cursor})}"}
        return web.json_response(body)

    def _history_entry(self, integration: Integration, event: Event) -> dict[str, Any]:
        device_id = self.world.device_id(integration.client_id, integration.account, event.device)
        return {
            "type": "history-events",
            "id": self.world.directed_id("history.event", integration.client_id, event.id, 120),
            "attributes": {
                "event_type": event.type,
                "is_third_party_reviewed": integration.client_id in event.reviewed_by,
                "start": event.start_ms,
                **({} if event.end_ms is None else {"end": event.end_ms}),
            },
            "relationships": {
                "source": {"data": {"type": "devices", "id": device_id}},
                "cv_detections": {"data": []},
            },
            "meta": {"riid": None},
        }

    @staticmethod
    def _cursor(events: list[Event], given: int) -> str:
        """The time of the last event given, with the number given of that very millisecond in its last digits."""
        start_ms = events[given - 1].start_ms
        same = sum(event.start_ms == start_ms for event in events[:given])
        return _cursor_time(start_ms, same)

    @staticmethod
    def _events_after(events: list[Event], cursor: str) -> list[Event]:
        """Raises Problem 400 for a cursor that is no ISO time."""
        try:
            start_ms, given = _read_cursor(cursor)
        except ValueError:
            raise Problem(400, "page[key] must be taken from links.next.") from None
        same = [event for event in events if event.start_ms == start_ms]
        return same[given:] + [event for event in events if event.start_ms < start_ms]

    async def subscriptions(self, request: web.Request) -> web.Response:
        await self.sandbox.faults.apply("subscriptions")
        integration = self.integration(request)
        grant = self.grant(request)
        if grant is not None and grant.scope == READ_ONLY_SCOPE:
            raise Problem(422, "Subscriptions cannot be read with this token.")
        theirs = [
            subscription
            for subscription in self.world.subscriptions
            if (subscription.client_id, subscription.account) == (integration.client_id, integration.account)
        ]
        begin = request.query.get("page[cursor]", "0")
        if not begin.isascii() or not begin.isdigit():
            raise Problem(400, "page[cursor] must be taken from links.next.")
        end = int(begin) + SUBSCRIPTIONS_PAGE
        body: dict[str, Any] = {
            "data": [self._subscription(subscription) for subscription in theirs[int(begin) : end]],
            "meta": {"time": iso(self.world.now_ms())},
        }
        if end < len(theirs):
            body["links"] = {"next": f"{request.path}?{urlencode({'page[cursor]': end})}"}
        return web.json_response(body)

    def _subscription(self, found: Subscription) -> dict[str, Any]:
        expired = found.expires_ms <= self.world.now_ms()
        devices = [
            {"type": "devices", "id": self.world.device_id(found.client_id, found.account, key)}
            for key in found.devices
        ]
        return {
            "type": "subscriptions",
            "id": self.world.directed_id("subscription", found.client_id, found.id, 113),
            "attributes": {
                "sub_type": found.sub_type,
                "status": "inactive" if expired else found.status,
                "plan_id": found.plan_id,
                "expires_at": iso(found.expires_ms),
                "created_at": iso(found.created_ms),
            },
            "relationships": {"devices": {"data": devices}},
        }

    async def play(self, request: web.Request) -> web.Response:
        await self.sandbox.faults.apply("chime")
        integration, device = self.shared(request, writes=True)
        if device.kind != "chime":
            raise Problem(400, "This device cannot play audio.")
        body = await self._json(request)
        try:
            audio_ref = str(body["data"]["attributes"]["audio_ref"])
        except (KeyError, TypeError):
            raise Problem(400, "Send data.attributes.audio_ref.") from None
        slots = DeviceDocuments(self.world, integration, device).part("configurations")["attributes"]["audio"]
        if audio_ref not in {slot["audio_ref"] for slot in slots["customizable_slots"]}:
            raise Problem(400, "There is no such audio in the app's slots.")
        return web.json_response(
            {"data": {"type": "audio", "id": audio_ref, "attributes": {"status": "completed"}}}
        )

    # --- helpers ---

    @staticmethod
    def _identifier(body: dict[str, Any]) -> str:
        given = body["account_identifier"]
        if not isinstance(given, str) or len(given) > IDENTIFIER_LENGTH:
            raise Problem(400, f"account_identifier must be text of at most {IDENTIFIER_LENGTH} characters.")
        return given

    async def _json(self, request: web.Request) -> dict[str, Any]:
        try:
            body = await request.json()
        except ValueError:
            raise Problem(400, "The body is not JSON.") from None
        if not isinstance(body, dict):
            raise Problem(400, "The body must be a JSON object.")
        return body

    def _document(self, data: dict[str, Any]) -> web.Response:
        return web.json_response({"data": data, "meta": {"time": iso(self.world.now_ms())}})
