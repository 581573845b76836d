"""
Partner-initiated linking, Ring's side (contract 3.2): a person comes from the partner, chooses a home and devices, and
allows or denies. OAuth 2.0 authorization code with PKCE (RFC 6749 4.1, RFC 7636); S256 only, one scope, registered
redirect addresses compared character by character.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from aiohttp import web

from sandbox.answers import Problem
from sandbox.world import Integration

if TYPE_CHECKING:
    from sandbox.server import Sandbox
    from sandbox.world import Account, App

PATH = "/account/integrations/partner-link/authorize"
SCOPE = "ava.v1:read"
CODE_LIFETIME_MS = 600_000
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}", re.ASCII)
_FIELDS = (
    "client_id",
    "redirect_uri",
    "response_type",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
)


def verifies(verifier: str, challenge: str) -> bool:
    """Whether the challenge was made from this verifier (RFC 7636 4.6, S256)."""
    if _VERIFIER.fullmatch(verifier) is None:
        return False
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    return hmac.compare_digest(digest, challenge.encode())


@dataclass(frozen=True)
class Asked:
    """A partner's request that may be answered at its redirect address."""

    app: App
    fields: dict[str, str]

    def back(self, **answer: str) -> str:
        """The partner's address with the answer, and the state it gave."""
        parts = urlsplit(self.fields["redirect_uri"])
        query = [*parse_qsl(parts.query, keep_blank_values=True), *answer.items()]
        if "state" in self.fields:
            query.append(("state", self.fields["state"]))
        return urlunsplit(parts._replace(query=urlencode(query)))

    @property
    def error(self) -> str:
        """What is wrong with it, in OAuth's words; "" when nothing is."""
        fields = self.fields
        if fields.get("response_type") != "code":
            return "unsupported_response_type"
        if fields.get("scope") != SCOPE:
            return "invalid_scope"
        if fields.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(
            fields.get("code_challenge", "")
        ):
            return "invalid_request"
        return ""


class Authorize:
    """The page a partner's customers are sent to."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.world = sandbox.world

    def routes(self) -> list[web.AbstractRouteDef]:
        return [web.get(PATH, self.page), web.post(PATH, self.decide)]

    async def page(self, request: web.Request) -> web.Response:
        """Whose home, then which devices. A request that is wrong goes back to the partner with the error."""
        asked = self._asked(request.query.items())
        if asked.error:
            raise web.HTTPSeeOther(asked.back(error=asked.error))
        account = self.world.accounts.get(request.query.get("person", ""))
        return self._devices(asked, account) if account else self._people(asked)

    async def decide(self, request: web.Request) -> web.Response:
        """Allowed: a code that lives ten minutes. Denied: `access_denied`."""
        form = await request.post()
        asked = self._asked((name, str(value)) for name, value in form.items())
        if asked.error:
            raise web.HTTPSeeOther(asked.back(error=asked.error))
        account = self.world.accounts.get(str(form.get("person", "")))
        if account is None:
            raise Problem(400, "Choose whose home it is.")
        if form.get("decision") != "allow":
            raise web.HTTPSeeOther(asked.back(error="access_denied"))
        devices = [str(key) for key in form.getall("device", []) if str(key) in account.devices]
        if not devices:
            return self._devices(asked, account, hint="Choose at least one device, or deny.")
        raise web.HTTPSeeOther(asked.back(code=self._allow(asked, account, devices)))

    def _allow(self, asked: Asked, account: Account, devices: list[str]) -> str:
        """Note the consent and give the code. Devices become readable at once; `completed` is the partner's to say."""
        client_id, now = asked.app.client_id, self.world.now_ms()
        found = self.world.integration(client_id, account.key)
        if found is None or found.status in ("removed", "pending"):
            found = Integration(client_id, account.key, "awaiting", devices, now, partner_initiated=True)
            self.world.integrations[f"{client_id}/{account.key}"] = found
        found.devices, found.updated_ms = devices, now
        return self.world.issue(
            "code",
            client_id,
            account.key,
            CODE_LIFETIME_MS,
            SCOPE,
            code_challenge=asked.fields["code_challenge"],
            redirect_uri=asked.fields["redirect_uri"],
        )

    def _asked(self, given: Iterable[tuple[str, str]]) -> Asked:
        """
        Read the request. Raises Problem where the browser must not be sent anywhere: an unknown client, an address that
        is not registered for it, or a parameter given twice.
        """
        fields: dict[str, str] = {}
        for name, value in given:
            if name in _FIELDS:
                if name in fields:
                    raise Problem(400, f"{name} is given twice.")
                fields[name] = value
        app = self.world.apps.get(fields.get("client_id", ""))
        if app is None:
            raise Problem(400, "There is no such partner app.")
        if not app.redirect_uri or fields.get("redirect_uri") != app.redirect_uri:
            raise Problem(400, "This redirect address is not registered for the partner app.")
        return Asked(app, fields)

    # --- pages ---

    def _people(self, asked: Asked) -> web.Response:
        cards = "".join(
            f'<a class="card person" data-testid="authorize-{a.key}" href="{PATH}?{escape(urlencode({**asked.fields, "person": a.key}))}">'
            f'<span class="avatar">{escape(a.first_name[0])}</span><span><b>{escape(a.first_name)} {escape(a.last_name)}</b>'
            f"<small>{escape(a.email)}</small></span></a>"
            for a in self.world.accounts.values()
        )
        body = f"<h1>Sign in to Ring</h1><p class=lead>{escape(asked.app.name)} wants to connect. As whom do you sign in?</p><div class=stack>{cards}</div>"
        return self.sandbox.pages.show("Sign in to Ring", body)

    def _devices(self, asked: Asked, account: Account, *, hint: str = "") -> web.Response:
        hidden = "".join(
            f'<input type="hidden" name="{name}" value="{escape(value)}">'
            for name, value in {**asked.fields, "person": account.key}.items()
        )
        boxes = "".join(
            f'<label class="card choice"><input type="checkbox" name="device" value="{d.key}" checked> <span><b>{escape(d.name)}</b></span></label>'
            for d in account.devices.values()
            if not d.removed
        )
        note = f'<p class="note" role="alert">{escape(hint)}</p>' if hint else ""
        body = (
            f"<h1>Connect {escape(asked.app.name)}?</h1><p class=lead>It will see live video, events and recordings of the devices "
            f"you choose, {escape(account.first_name)}, and your name and e-mail address.</p>{note}"
            f'<form method="post" action="{PATH}">{hidden}<div class=stack>{boxes}</div><p class="buttons">'
            '<button class="primary" name="decision" value="allow" data-testid="allow">Allow</button>'
            '<button name="decision" value="deny" data-testid="deny">Deny</button></p></form>'
        )
        return self.sandbox.pages.show(f"Connect {asked.app.name}?", body)
