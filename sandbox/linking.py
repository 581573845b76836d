"""One-way linking as Ring drives it: code, device_added, redirect with a nonce; and its end (contract 2)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import aiohttp

from sandbox.answers import Problem
from sandbox.api import nonce
from sandbox.webhooks import TIMEOUT_S
from sandbox.world import CODE_LIFETIME_MS, NONCE_WINDOW_MS, Integration

if TYPE_CHECKING:
    from sandbox.server import Sandbox
    from sandbox.webhooks import Delivery
    from sandbox.world import App


ENCODINGS = ("form", "json", "none")
NONCE_FAULTS = ("stale", "future", "wrong_key", "padded", "swapped_account")
TOKEN_EXCHANGE_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class CodeOptions:
    """How a code is handed over: `wrong` sends one Ring never gave, `hold` none at all, `age_s` lets it lie before."""

    wrong: bool = False
    hold: bool = False
    age_s: float = 0.0


class Linking:
    """What happens when a person installs, signs in again, or removes an app."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.world = sandbox.world

    async def install(
        self,
        app: App,
        account: str,
        devices: list[str],
        *,
        encoding: str = "form",
        extra_fields: bool = False,
        duplicate: bool = False,
        code: CodeOptions | None = None,
        new_ids: bool = False,
    ) -> dict[str, Any]:
        """
        Consent, code to the partner, `device_added`, and the address the browser is sent to (timeline 2.1).

        Every `device_added` was tried once before this returns, as the browser leaves only after them. An app that
        is installed again starts from the beginning: the old link's tokens and live sessions end. `new_ids`: account
        and devices then have other ids than before (contract 18 row 36). Raises Problem.
        """
        if encoding not in ENCODINGS:
            raise Problem(400, f"encoding must be one of {', '.join(ENCODINGS)}.")
        before = self.world.integration(app.client_id, account)
        if before is not None:
            await self.sandbox.media.close_all(before, "installed again")
        now = self.world.now_ms()
        integration = Integration(app.client_id, account, devices=devices, consent_ms=now, updated_ms=now)
        integration.ids = f"+{now}" if new_ids else before.ids if before is not None else ""
        self.world.revoke(app.client_id, account)
        self.world.integrations[f"{app.client_id}/{account}"] = integration
        given, status = await self._hand_over(app, account, encoding, extra_fields, code or CodeOptions())
        if duplicate:
            await self._post_code(app, given, encoding, extra_fields)
        added = [
            self.sandbox.webhooks.device_event(
                integration, device, "device_added", options={"even_if_pending": True}
            )
            for device in devices
        ]
        await self.sandbox.webhooks.tried([d for d in added if d is not None], TIMEOUT_S)
        redirect_url = self.sign_in(integration)
        self.sandbox.changed()
        return {
            "redirect_url": redirect_url,
            "account_id": self.world.account_id(app.client_id, account),
            "token_exchange_status": status,
            "code": given,
        }

    async def _hand_over(
        self, app: App, account: str, encoding: str, extra_fields: bool, options: CodeOptions
    ) -> tuple[str, int | None]:
        """Issue a code and POST it; give it with the partner's answer, None where there was none."""
        lifetime_ms = CODE_LIFETIME_MS - int(options.age_s * 1000)
        code = self.world.issue("code", app.client_id, account, lifetime_ms)
        if options.hold:
            return code, None
        sent = code if not options.wrong else "us-east-1.no-code-of-ours"
        return code, await self._post_code(app, sent, encoding, extra_fields)

    async def sign_in_with_code(self, integration: Integration, fault: str = "") -> dict[str, Any]:
        """
        Sign In again, and a new code for the same account (contract 18 row 9); the earlier tokens stay good.

        Raises Problem 409 as `sign_in` does.
        """
        redirect_url = self.sign_in(integration, fault)
        app = self.world.apps[integration.client_id]
        code, status = await self._hand_over(app, integration.account, "form", False, CodeOptions())
        return {"redirect_url": redirect_url, "code": code, "token_exchange_status": status}

    async def sign_in_again(self, integration: Integration, fault: str = "") -> str:
        """What tapping Sign In does: a fresh redirect, and with the knob `code_on_sign_in` a new code before it."""
        if self.sandbox.knobs.get("code_on_sign_in"):
            return str((await self.sign_in_with_code(integration, fault))["redirect_url"])
        return self.sign_in(integration, fault)

    def sign_in(self, integration: Integration, fault: str = "") -> str:
        """
        A fresh `time` and nonce; the code is not sent again (contract 2.4). `fault` spoils the nonce (contract 17.3).

        Raises Problem 409 when there is nothing left to sign in for.
        """
        if integration.status not in {"pending", "awaiting"}:
            raise Problem(409, "There is nothing to sign in for: the link is completed or removed.")
        if fault and fault not in NONCE_FAULTS:
            raise Problem(400, f"nonce_fault must be one of {', '.join(NONCE_FAULTS)}.")
        app = self.world.apps[integration.client_id]
        shift_ms = {"stale": -NONCE_WINDOW_MS - 1_000, "future": NONCE_WINDOW_MS}.get(fault, 0)
        time_ms = str(self.world.now_ms() + shift_ms)
        integration.last_time, integration.aged_ms = time_ms, 0
        account = integration.account if fault != "swapped_account" else "somebody else"
        key = app.signing_key if fault != "wrong_key" else "not-the-key"
        given = nonce(key, time_ms, self.world.account_id(app.client_id, account))
        parts = urlsplit(app.account_link_url)
        query = [
            *parse_qsl(parts.query, keep_blank_values=True),
            ("nonce", given + "=" if fault == "padded" else given),
            ("time", time_ms),
        ]
        self.sandbox.changed()
        return urlunsplit(parts._replace(query=urlencode(query)))

    async def remove(
        self, integration: Integration, *, devices_first: bool = False, copies: int = 1
    ) -> list[Delivery]:
        """
        The person removes the app: tokens revoked, live sessions ended, webhooks sent (contract 2.10).

        `devices_first`: device_removed before app_integration_removed, each tried before the next leaves, for the
        order is not defined. `copies`: how often each is sent; 0 tells nobody. Raises Problem 409 when it was removed before.
        """
        if integration.status == "removed":
            raise Problem(409, "The app was removed before.")
        self.world.revoke(integration.client_id, integration.account)
        await self.sandbox.media.close_all(integration, "unlinked")
        integration.status = "removed"
        sent: list[Delivery] = []
        for group in ("devices", "link") if devices_first else ("link", "devices"):
            news = self._news_of_removal(integration, group) if copies else []
            if devices_first:
                await self.sandbox.webhooks.tried(news, TIMEOUT_S)
            sent += news
        if copies > 1:
            await self.sandbox.webhooks.tried(sent, TIMEOUT_S)
            for delivery in sent * (copies - 1):
                self.sandbox.webhooks.replay(delivery)
                await self.sandbox.webhooks.tried([delivery], TIMEOUT_S)
        self.sandbox.changed()
        return sent

    def _news_of_removal(self, integration: Integration, group: str) -> list[Delivery]:
        webhooks = self.sandbox.webhooks
        if group == "link":
            news = [webhooks.integration_event(integration, "app_integration_removed")]
        else:
            home = self.world.accounts[integration.account].devices
            news = [
                webhooks.device_event(integration, key, "device_removed", options={"even_if_pending": True})
                for key in integration.devices
                if not home[key].removed
            ]
        return [delivery for delivery in news if delivery is not None]

    async def _post_code(self, app: App, code: str, encoding: str, extra_fields: bool) -> int | None:
        fields = {"code": code} | ({"scope": "ava", "state": "opaque"} if extra_fields else {})
        headers = {"User-Agent": "Java-http-client/21.0.4"}
        if encoding == "json":
            body, headers["Content-Type"] = json.dumps(fields), "application/json"
        else:
            body = urlencode(fields)
            if encoding == "form":
                headers["Content-Type"] = "application/x-www-form-urlencoded"
        skip = [] if encoding != "none" else ["Content-Type"]
        try:
            async with self.sandbox.http.post(
                app.token_exchange_url,
                data=body.encode(),
                headers=headers,
                skip_auto_headers=skip,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=TOKEN_EXCHANGE_TIMEOUT_S),
            ) as answer:
                return answer.status
        except (TimeoutError, aiohttp.ClientError):
            return None
