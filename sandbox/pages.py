"""Pages like the Ring app: choose a person, find an app, share devices, press buttons. Plain forms, no script."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from sandbox.answers import Problem
from sandbox.footage import render_image
from sandbox.world import Account, App, Device, Integration

if TYPE_CHECKING:
    from sandbox.server import Sandbox
    from sandbox.webhooks import Delivery

COLOUR = re.compile(r"#[0-9a-fA-F]{3}(?:[0-9a-fA-F]{3})?")
STATIC = Path(__file__).parent / "static"
CSP = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' http://127.0.0.1:* http://localhost:*; frame-ancestors 'none'; base-uri 'none'"

BUTTONS: dict[str, list[tuple[str, str, str, str]]] = {
    "doorbell": [
        ("press", "Press the doorbell", "button_press", ""),
        ("motion-human", "Person", "motion_detected", "human"),
        ("motion-package", "Package", "motion_detected", "package_delivery"),
        ("motion", "Motion", "motion_detected", "motion"),
    ],
    "camera": [
        ("motion-human", "Person", "motion_detected", "human"),
        ("motion-vehicle", "Vehicle", "motion_detected", "vehicle"),
        ("motion-animal", "Animal", "motion_detected", "animal"),
        ("motion", "Motion", "motion_detected", "motion"),
    ],
    "contact": [
        ("open", "Open", "contact_sensor_faulted", ""),
        ("close", "Close", "contact_sensor_cleared", ""),
    ],
}
BUTTONS["multi_camera"] = BUTTONS["camera"]
EVENT_TYPES = {kind for buttons in BUTTONS.values() for _, _, kind, _ in buttons} | {
    "device_online",
    "device_offline",
}
KINDS = {
    "doorbell": "Doorbell",
    "camera": "Camera",
    "multi_camera": "Two cameras",
    "chime": "Chime",
    "contact": "Contact sensor",
}
STATUS_WORDS = {
    "pending": "Waiting for you to sign in at the partner",
    "awaiting": "Almost done: the partner is finishing",
    "completed": "Active",
    "removed": "Removed",
}


def _session_end(row: dict[str, Any]) -> str:
    """How a live session ended; what was not ended by the partner, or is open and should not be, stands out."""
    words = escape(row["leak"] or row["end_reason"])
    if row["leak"]:
        return f"<strong>LEAK: {words}</strong>"
    return f"<strong>{words}: no DELETE</strong>" if row["forgotten"] else words


def _table(heads: tuple[str, ...], rows: str, empty: str) -> str:
    """A table from ready rows, or the words for an empty one."""
    if not rows:
        return f'<p class="note">{empty}</p>'
    head = "".join(f"<th scope=col>{name}</th>" for name in heads)
    return f"<div class=scroll tabindex=0 role=group aria-label=Table><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


class Pages:
    """What a Ring user sees."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.world = sandbox.world

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/", self.people),
            web.static("/static", STATIC),
            web.get("/home/{account}", self.home),
            web.get("/home/{account}/picture/{device}", self.picture),
            web.post("/home/{account}/event", self.event),
            web.post("/home/{account}/plan", self.plan),
            web.get("/apps/{app}/mark.svg", self.mark),
            web.get("/home/{account}/appstore", self.appstore),
            web.get("/home/{account}/appstore/{app}", self.consent),
            web.get("/home/{account}/appstore/{app}/devices", self.choose),
            web.post("/home/{account}/appstore/{app}/share", self.share),
            web.get("/home/{account}/apps", self.my_apps),
            web.post("/home/{account}/apps/{app}/sign-in", self.sign_in),
            web.post("/home/{account}/apps/{app}/remove", self.remove),
            web.get("/developer", self.developer),
            web.post("/developer/deliveries/{delivery}/replay", self.replay),
        ]

    # --- pages ---

    async def people(self, request: web.Request) -> web.Response:
        cards = "".join(
            f'<a class="card person" data-testid="person-{a.key}" href="/home/{a.key}">'
            f'<span class="avatar">{escape(a.first_name[0])}</span><span><b>{escape(a.first_name)} {escape(a.last_name)}</b>'
            f"<small>{len(a.devices)} devices at home</small></span></a>"
            for a in self.world.accounts.values()
        )
        body = f"<h1>Whose home?</h1><p class=lead>Each person has a simulated home. Choose one to act as its owner.</p><div class=stack>{cards}</div>"
        return self._page("Whose home?", body, place="people", narrow=True)

    async def home(self, request: web.Request) -> web.Response:
        account = self._account(request)
        tiles = "".join(
            self._tile(account, device) for device in account.devices.values() if not device.removed
        )
        linked = any(
            i.account == account.key and i.status == "completed" for i in self.world.integrations.values()
        )
        hint = (
            ""
            if linked
            else (
                f'<p class="note">No app is linked yet, so nobody is told of events. '
                f'<a href="/home/{account.key}/appstore">Open the Appstore</a> and share your devices first.</p>'
            )
        )
        rows = self._delivery_rows(self._newest(account.key)[:6], "Nothing was sent yet.")
        body = (
            f"<h1>{escape(account.first_name)}'s home</h1>{self._plan_line(account)}{hint}<div class=grid>{tiles}</div>"
            f"<h2>Told to your apps</h2>{rows}"
        )
        return self._page(f"{account.first_name}'s home", body, account, "home")

    @staticmethod
    def _plan_line(account: Account) -> str:
        words, action, value = (
            ("Ring plan: active", "Let it lapse", "lapse")
            if account.plan_active
            else ("No Ring plan: apps get no data and hear of no events", "Start it again", "start")
        )
        return (
            f'<form class="plan" method="post" action="/home/{account.key}/plan"><span data-testid="plan">{words}</span>'
            f'<input type="hidden" name="change" value="{value}"><button class="quiet" data-testid="plan-{value}">{action}</button></form>'
        )

    def _tile(self, account: Account, device: Device) -> str:
        picture = ""
        if device.has_video:
            inside = (
                f'<img src="/home/{account.key}/picture/{device.key}" width="640" height="360" alt="What {escape(device.name)} sees" loading="lazy">'
                if device.online
                else '<div class="no-picture">Offline</div>'
            )
            picture = f'<div class="picture">{inside}</div>'
        power = "Line power" if device.power == "line" else f"Battery {device.battery_percent} %"
        buttons = [
            self._button(account, device, f"{name}-{device.key}", label, kind, sub_type)
            for name, label, kind, sub_type in BUTTONS.get(device.kind, [])
        ]
        word, kind = (
            ("Go offline", "device_offline") if device.online else ("Come back online", "device_online")
        )
        buttons.append(
            self._button(
                account,
                device,
                f"{'offline' if device.online else 'online'}-{device.key}",
                word,
                kind,
                "",
                quiet=True,
            )
        )
        state = "Online" if device.online else "Offline"
        if device.kind == "contact":
            state = f"{'Open' if device.faulted else 'Closed'} · {state}"
        return (
            f'<section class="card device">{picture}<div class="about"><h2>{escape(device.name)}</h2>'
            f"<small>{KINDS[device.kind]} · {power} · {state}</small></div><div class=buttons>{''.join(buttons)}</div></section>"
        )

    def _button(
        self,
        account: Account,
        device: Device,
        test_id: str,
        label: str,
        kind: str,
        sub_type: str,
        *,
        quiet: bool = False,
    ) -> str:
        return (
            f'<form method="post" action="/home/{account.key}/event"><input type="hidden" name="device" value="{device.key}">'
            f'<input type="hidden" name="type" value="{kind}"><input type="hidden" name="sub_type" value="{sub_type}">'
            f'<button class="{"quiet" if quiet else "primary" if kind == "button_press" else ""}" data-testid="{test_id}">{escape(label)}</button></form>'
        )

    async def picture(self, request: web.Request) -> web.Response:
        account = self._account(request)
        device = account.devices.get(request.match_info["device"])
        if device is None or not device.has_video:
            raise Problem(404)
        app = next(iter(self.world.apps.values()))
        view = self.sandbox.media.camera(
            Integration(app.client_id, account.key),
            device,
            device.components[0] if device.components else None,
        )
        body = await asyncio.to_thread(
            render_image, camera=view, at_ms=self.world.now_ms(), width=640, height=360, format="jpeg"
        )
        return web.Response(body=body, content_type="image/jpeg", headers={"Cache-Control": "no-store"})

    async def event(self, request: web.Request) -> web.Response:
        account = self._account(request)
        form = await request.post()
        key, kind, sub_type = (str(form.get(name, "")) for name in ("device", "type", "sub_type"))
        device = account.devices.get(key)
        if device is None:
            raise Problem(404)
        if kind not in EVENT_TYPES:
            raise Problem(400, "There is no such event.")
        sharing = self.world.links(account.key, key)
        components = device.components[:1]
        await self.sandbox.happenings.at_device(
            account.key, key, kind, to=sharing, sub_type=sub_type, component_ids=components
        )
        raise web.HTTPSeeOther(f"/home/{account.key}")

    async def plan(self, request: web.Request) -> web.Response:
        account = self._account(request)
        change = (await request.post()).get("change")
        if change not in ("lapse", "start"):
            raise Problem(400, "The plan can lapse or start.")
        await self.sandbox.happenings.change_plan(account, change == "start")
        raise web.HTTPSeeOther(f"/home/{account.key}")

    async def mark(self, request: web.Request) -> web.Response:
        """An app's mark in its own colour; a picture, as the pages allow no inline style."""
        app = self._app(request)
        fill = app.accent if COLOUR.fullmatch(app.accent) else App.accent
        picture = (
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 44 44"><rect width="44" height="44" rx="12" '
            f'fill="{fill}"/><text x="22" y="30" text-anchor="middle" font-family="system-ui, sans-serif" '
            f'font-size="22" font-weight="700" fill="#fff">{escape(app.name[:1].upper())}</text></svg>'
        )
        return web.Response(text=picture, content_type="image/svg+xml")

    async def appstore(self, request: web.Request) -> web.Response:
        account = self._account(request)
        cards = "".join(
            f'<a class="card app" data-testid="app-{escape(app.client_id)}" href="/home/{account.key}/appstore/{escape(app.client_id)}">'
            f"{self._mark(app)}<span><b>{escape(app.name)}</b><small>Partner app</small></span></a>"
            for app in self.world.apps.values()
        )
        body = f"<h1>Appstore</h1><p class=lead>Apps of partners that work with your devices.</p><div class=stack>{cards}</div>"
        return self._page("Appstore", body, account, "appstore", narrow=True)

    async def consent(self, request: web.Request) -> web.Response:
        account, app = self._account(request), self._app(request)
        body = (
            f'<div class="app-head">{self._mark(app)}<h1>{escape(app.name)}</h1></div>'
            "<p class=lead>This app asks for access to:</p><ul class=checks><li>Live video of the devices you choose</li>"
            "<li>Events as they happen: rings, motion, sensors</li><li>Recorded video and pictures from now on</li>"
            "<li>Your name and e-mail address</li></ul>"
            f'<p><a class="primary" data-testid="consent" href="/home/{account.key}/appstore/{escape(app.client_id)}/devices">Agree and choose devices</a></p>'
        )
        return self._page(app.name, body, account, "appstore", narrow=True)

    async def choose(self, request: web.Request) -> web.Response:
        account, app = self._account(request), self._app(request)
        boxes = "".join(
            f'<label class="card choice"><input type="checkbox" name="device" value="{d.key}" checked> '
            f"<span><b>{escape(d.name)}</b><small>{KINDS[d.kind]}</small></span></label>"
            for d in account.devices.values()
            if not d.removed
        )
        body = (
            f"<h1>Which devices?</h1><p class=lead>{escape(app.name)} will see only these.</p>"
            f'<form method="post" action="/home/{account.key}/appstore/{escape(app.client_id)}/share"><div class=stack>{boxes}</div>'
            '<p><button class="primary" data-testid="share-devices">Share and sign in at the partner</button></p></form>'
        )
        return self._page("Which devices?", body, account, "appstore", narrow=True)

    async def share(self, request: web.Request) -> web.Response:
        account, app = self._account(request), self._app(request)
        form = await request.post()
        devices = [str(key) for key in form.getall("device", []) if str(key) in account.devices]
        result = await self.sandbox.linking.install(app, account.key, devices)
        if result["token_exchange_status"] != 200:
            body = (
                "<h1>The partner did not answer</h1><p class=lead>"
                f"Its Token Exchange URL answered {result['token_exchange_status'] or 'nothing'}. "
                "Is the portal running, and are client id and secret the same on both sides?</p>"
                f'<p><a class="primary" href="/home/{account.key}/appstore/{escape(app.client_id)}">Try again</a></p>'
            )
            return self._page(
                "The partner did not answer", body, account, "appstore", status=502, narrow=True
            )
        raise web.HTTPSeeOther(result["redirect_url"])

    async def my_apps(self, request: web.Request) -> web.Response:
        account = self._account(request)
        rows = "".join(
            self._app_row(account, i) for i in self.world.integrations.values() if i.account == account.key
        )
        empty = f'<p class="note">No app yet. <a href="/home/{account.key}/appstore">Open the Appstore</a> to add one.</p>'
        return self._page(
            "My apps",
            f"<h1>My apps</h1><p class=lead>What works with your devices, and how to end it.</p><div class=stack>{rows or empty}</div>",
            account,
            "apps",
            narrow=True,
        )

    def _app_row(self, account: Account, integration: Integration) -> str:
        app = self.world.apps.get(integration.client_id)
        if app is None:
            return ""
        base = f"/home/{account.key}/apps/{escape(app.client_id)}"
        actions = ""
        if integration.status in {"pending", "awaiting"}:
            actions += f'<form method="post" action="{base}/sign-in"><button class="primary" data-testid="sign-in-{escape(app.client_id)}">Sign In</button></form>'
        if integration.status != "removed":
            actions += f'<form method="post" action="{base}/remove"><button class="danger" data-testid="remove-{escape(app.client_id)}">Remove</button></form>'
            actions += f'<a class="button" href="{escape(app.app_homepage_url)}">Manage</a>'
        identifier = f" as {escape(integration.account_identifier)}" if integration.account_identifier else ""
        return (
            f'<section class="card app-row">{self._mark(app)}<span><b>{escape(app.name)}</b>'
            f'<small data-testid="status-{escape(app.client_id)}">{STATUS_WORDS.get(integration.status, "")}{identifier}</small></span>'
            f'<span class="actions">{actions}</span></section>'
        )

    async def sign_in(self, request: web.Request) -> web.Response:
        raise web.HTTPSeeOther(await self.sandbox.linking.sign_in_again(self._integration(request)))

    async def remove(self, request: web.Request) -> web.Response:
        integration = self._integration(request)
        await self.sandbox.linking.remove(integration)
        raise web.HTTPSeeOther(f"/home/{integration.account}/apps")

    async def developer(self, request: web.Request) -> web.Response:
        requests = "".join(
            f"<tr><td>{self._clock(r['at_ms'])}</td><td>{r['method']}</td><td class=path>{escape(r['path'][:90])}</td><td>{r['status']}</td>"
            f"<td>{'bearer' if r['authorization'] else ''}</td></tr>"
            for r in list(self.sandbox.requests)[-40:][::-1]
        )
        sessions = "".join(
            f"<tr data-testid=live-session><td>{self._clock(s['opened_ms'])}</td><td>{escape(s['device'])}</td><td>{escape(s['client_id'])}, {escape(s['account'])}</td>"
            f"<td>{s['cap_s']:g} s</td><td>{'open' if s['open'] else self._clock(s['ended_ms'])}</td><td>{_session_end(s)}</td></tr>"
            for s in self.sandbox.media.ledger_rows()[-40:][::-1]
        )
        given_up = [d for d in self._newest(None) if d.state == "dead"]
        dead = self._delivery_rows(given_up[:40], "No webhook was given up.", replay=True)
        if len(given_up) > 1:
            dead += (
                '<form method="post" action="/developer/deliveries/replay"><input type="hidden" name="state" value="dead">'
                f'<p><button data-testid="replay-dead">Send all {len(given_up)} again</button></p></form>'
            )
        waiting = sum(fault.times for fault in self.sandbox.faults.waiting)
        body = (
            "<h1>Developer</h1><p class=lead>What went out and what came in. The control plane for tests is under <code>/control/</code>.</p>"
            '<p><a class="button" data-testid="scenarios" href="/developer/scenarios">Scenarios</a> '
            '<a class="button" data-testid="knobs" href="/developer/knobs">Knobs</a> '
            '<a class="button" data-testid="live" href="/developer/live">Live</a> '
            '<a class="button" data-testid="chaos" href="/developer/chaos">Chaos</a></p>'
            + (f'<p class="note">{waiting} ordered faults wait for their route.</p>' if waiting else "")
            + f"<h2>Dead letters</h2>{dead}"
            f"<h2>Deliveries</h2>{self._delivery_rows(self._newest(None)[:40], 'Nothing was sent yet.', replay=True)}"
            f"<h2>Live sessions</h2>{_table(('Opened', 'Device', 'For', 'Cap', 'Ended', 'How'), sessions, 'Nobody watched yet.')}"
            f"<h2>Requests</h2>{_table(('Time', 'Method', 'Path', 'Answer', 'Auth'), requests, 'Nobody asked yet.')}"
        )
        return self._page("Developer", body, None, "developer")

    async def replay(self, request: web.Request) -> web.Response:
        delivery = self.sandbox.webhooks.journal.get(request.match_info["delivery"])
        if delivery is None or delivery.client_id not in self.world.apps:
            raise Problem(404)
        self.sandbox.webhooks.replay(delivery)
        raise web.HTTPSeeOther("/developer")

    # --- parts ---

    def _newest(self, account: str | None) -> list[Delivery]:
        return [d for d in self.sandbox.webhooks.journal.values() if account in {None, d.account}][::-1]

    def _delivery_rows(self, found: list[Delivery], empty: str, *, replay: bool = False) -> str:
        rows = "".join(self._delivery_row(delivery, replay) for delivery in found)
        heads = ("Time", "Event", "State", "App", "Tries", "Chaos", *([""] if replay else []))
        return _table(heads, rows, empty)

    def _delivery_row(self, d: Delivery, replay: bool) -> str:
        app = self.world.apps.get(d.client_id)
        answer = d.attempts[-1]["status"] or d.attempts[-1]["problem"] if d.attempts else ""
        state = f"next try {self._clock(d.next_attempt_ms)}" if d.next_attempt_ms else d.state
        detail = f" · {escape(str(answer))}" if answer and d.state != "delivered" else ""
        again = (
            f'<td><form method="post" action="/developer/deliveries/{d.id}/replay">'
            '<button class="quiet">Send again</button></form></td>'
        )
        return (
            f"<tr><td>{self._clock(d.created_ms)}</td><td>{escape(d.type)}</td>"
            f'<td><span class="state {d.state}">{state}{detail}</span></td><td>{escape(app.name if app else d.client_id)}</td><td>{len(d.attempts)}</td><td>{escape(d.fate)}</td>{again if replay else ""}</tr>'
        )

    def problem(self, problem: Problem) -> web.Response:
        """A page's own words for what went wrong."""
        title = "There is no such page" if problem.status == 404 else "That did not work"
        words = escape(str(problem)) or "It may have been removed, or the sandbox was reset."
        body = (
            f'<h1>{title}</h1><p class=lead>{words}</p><p><a class="primary" href="/">To the people</a></p>'
        )
        return self._page(title, body, status=problem.status, narrow=True)

    @staticmethod
    def _clock(ms: int) -> str:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%H:%M:%S")

    @staticmethod
    def _mark(app: App) -> str:
        return (
            f'<img class="mark" src="/apps/{escape(app.client_id)}/mark.svg" width="44" height="44" alt="">'
        )

    def show(self, title: str, body: str) -> web.Response:
        """A narrow page outside of any home, for the parts of Ring that are not its app."""
        return self._page(title, body, narrow=True)

    def page(self, title: str, body: str, place: str, *, narrow: bool = False) -> web.Response:
        """A page of nobody's home in the sandbox's clothes, for the other modules that have pages."""
        return self._page(title, body, None, place, narrow=narrow)

    def _page(
        self,
        title: str,
        body: str,
        account: Account | None = None,
        place: str = "",
        *,
        status: int = 200,
        narrow: bool = False,
    ) -> web.Response:
        links = [("/", "People", "people")]
        if account is not None:
            base = f"/home/{account.key}"
            links += [
                (base, "Home", "home"),
                (f"{base}/appstore", "Appstore", "appstore"),
                (f"{base}/apps", "My apps", "apps"),
            ]
        links.append(("/developer", "Developer", "developer"))
        nav = "".join(
            f'<a href="{href}"{" aria-current=page" if name == place else ""}>{label}</a>'
            for href, label, name in links
        )
        page = (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>{escape(title)} · Sandbox</title><link rel="stylesheet" href="/static/sandbox.css"></head><body>'
            f'<aside class="simulated" aria-label="About this page">SIMULATED — this is not Ring</aside><header><nav aria-label="Main">{nav}</nav></header><main{' class="phone"' if narrow else ""}>{body}</main></body></html>'
        )
        return web.Response(
            text=page,
            content_type="text/html",
            status=status,
            headers={"Content-Security-Policy": CSP, "Cache-Control": "no-store"},
        )

    # --- finding ---

    def _account(self, request: web.Request) -> Account:
        account = self.world.accounts.get(request.match_info["account"])
        if account is None:
            raise Problem(404)
        return account

    def _app(self, request: web.Request) -> App:
        app = self.world.apps.get(request.match_info["app"])
        if app is None:
            raise Problem(404)
        return app

    def _integration(self, request: web.Request) -> Integration:
        found = self.world.integration(request.match_info["app"], request.match_info["account"])
        if found is None:
            raise Problem(404)
        return found
