"""The developer's pages for scenarios, knobs and cameras: what the control plane can do, by plain forms (contract 17.3)."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from aiohttp import web

from sandbox.answers import Problem
from sandbox.behaviour import CODECS, MAX_CAP_S, PROFILES, Behaviour, WrongBehaviour
from sandbox.knobs import KNOBS
from sandbox.scenarios import SCENARIOS, Scene

if TYPE_CHECKING:
    from sandbox.server import Sandbox
    from sandbox.world import Account, Device

LINKS = {
    "stale_redirect_url": "Open the link that is too old",
    "redirect_url": "Go on to the partner",
    "second_redirect_url": "The second person's link, for another browser",
}


def _options(values: list[tuple[str, str]], chosen: str = "") -> str:
    return "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>{escape(label)}</option>'
        for value, label in values
    )


# Field, label, largest value.
NUMBERS = (
    ("cap_s", "Ends after, seconds", MAX_CAP_S),
    ("stall_after_s", "Stalls after, seconds", MAX_CAP_S),
    ("loss_percent", "Loses of its packets, %", 100.0),
)


class Workbench:
    """Scenarios, knobs and cameras. Everything here can be ordered under `/control/` too."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.world = sandbox.world

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/developer/scenarios", self.scenarios),
            web.post("/developer/scenarios", self.play),
            web.get("/developer/knobs", self.knobs),
            web.post("/developer/knobs", self.turn),
            web.get("/developer/live", self.live),
            web.post("/developer/live", self.behave),
        ]

    async def scenarios(self, request: web.Request) -> web.Response:
        people = _options([(a.key, f"{a.first_name} {a.last_name}") for a in self.world.accounts.values()])
        apps = _options([(app.client_id, app.name) for app in self.world.apps.values()])
        cards = "".join(
            f'<section class="card device"><div class="about"><h3>{escape(scenario.title)}</h3><p>{escape(scenario.sets_up)}</p>'
            f"<small>{escape(scenario.expect)}</small></div><div class=buttons>"
            f'<button name="name" value="{scenario.name}" data-testid="play-{scenario.name}">Play</button></div></section>'
            for scenario in SCENARIOS.values()
        )
        body = (
            "<h1>Scenarios</h1><p class=lead>What happens in practice. What Ring does is done at once; you do the rest.</p>"
            '<form method="post" action="/developer/scenarios">'
            f'<p><label>Person <select name="account">{people}</select></label> <label>App <select name="client_id">{apps}</select></label></p>'
            f"<div class=grid>{cards}</div></form>"
        )
        return self.sandbox.pages.page("Scenarios", body, "developer")

    async def play(self, request: web.Request) -> web.Response:
        form = await request.post()
        scenario = SCENARIOS.get(str(form.get("name")))
        app = self.world.apps.get(str(form.get("client_id")))
        account = str(form.get("account"))
        if scenario is None or app is None or account not in self.world.accounts:
            raise Problem(400, "Choose a person, an app and a scenario.")
        result = await scenario.play(Scene(self.sandbox, app, account))
        status = result.get("token_exchange_status", 200)
        warning = (
            ""
            if status == 200
            else f'<p class="note">The Token Exchange URL answered {escape(str(status or "nothing"))}.</p>'
        )
        links = "".join(
            f'<p><a class="{"primary" if name == "redirect_url" else "button"}" data-testid="{name}" href="{escape(str(result[name]))}">{label}</a></p>'
            for name, label in LINKS.items()
            if name in result
        )
        body = (
            f"<h1>{escape(scenario.title)}</h1><p class=lead>{escape(scenario.sets_up)}</p>{warning}"
            f"<h2>Your turn</h2><p>{escape(scenario.then)}</p>{links}<h2>What a good partner does</h2><p>{escape(scenario.expect)}</p>"
            '<p><a class="button" href="/developer/scenarios">Other scenarios</a></p>'
        )
        return self.sandbox.pages.page(scenario.title, body, "developer", narrow=True)

    async def knobs(self, request: web.Request) -> web.Response:
        rows = "".join(
            f'<section class="card app-row"><span><b>{name}</b><small>{escape(knob.does)}</small></span>'
            f'<form class="actions" method="post" action="/developer/knobs"><input type="hidden" name="knob" value="{name}">'
            f'<select name="value" aria-label="{name}" data-testid="knob-{name}">{self._values(name)}</select>'
            "<button>Set</button></form></section>"
            for name, knob in KNOBS.items()
        )
        body = (
            "<h1>Knobs</h1><p class=lead>What Ring's documentation leaves open. Turn one to see whether your app lives with the other reading.</p>"
            f"<div class=stack>{rows}</div>"
        )
        return self.sandbox.pages.page("Knobs", body, "developer")

    def _values(self, name: str) -> str:
        chosen = self.sandbox.knobs.get(name)
        values = [("", "as documented"), *((str(value), str(value).lower()) for value in KNOBS[name].values)]
        return _options(values, "" if chosen is None else str(chosen))

    async def turn(self, request: web.Request) -> web.Response:
        form = await request.post()
        name, given = str(form.get("knob")), str(form.get("value"))
        if name not in KNOBS:
            raise Problem(400, "There is no such knob.")
        found = [value for value in KNOBS[name].values if str(value) == given]
        if not found and given:
            raise Problem(400, f"{name} has no such value.")
        self.sandbox.knobs.pop(name, None)
        if found:
            self.sandbox.knobs[name] = found[0]
        raise web.HTTPSeeOther("/developer/knobs")

    async def live(self, request: web.Request) -> web.Response:
        cards = "".join(
            self._camera(account, device)
            for account in self.world.accounts.values()
            for device in account.devices.values()
            if device.has_video and not device.removed
        )
        body = (
            "<h1>Live</h1><p class=lead>How a camera behaves while somebody watches it. Stall and loss reach sessions that are open, the rest the next one. "
            "An empty field is as documented: a session ends after 60 seconds on line power, after 30 on battery.</p>"
            f"<div class=grid>{cards}</div>"
        )
        return self.sandbox.pages.page("Live", body, "developer")

    def _camera(self, account: Account, device: Device) -> str:
        behaviour = self.sandbox.media.behaviours.get((account.key, device.key), Behaviour())
        numbers = "".join(
            f'<label>{label} <input type="number" name="{name}" min="0" max="{most:g}" step="any" value="{_shown(behaviour, name)}"></label>'
            for name, label, most in NUMBERS
        )
        profiles = _options([("", "as offered"), *((name, name) for name in PROFILES)], behaviour.profile)
        codecs = _options([(name, name.upper()) for name in CODECS], behaviour.codec)
        sounds = _options([("", "none"), ("true", "a quiet tone")], "true" if behaviour.audio else "")
        return (
            f'<section class="card device"><div class="about"><h2>{escape(device.name)}</h2>'
            f"<small>{escape(account.first_name)}’s · {'line power' if device.power == 'line' else 'battery'}</small></div>"
            f'<form class="fields" method="post" action="/developer/live"><input type="hidden" name="account" value="{account.key}">'
            f'<input type="hidden" name="device" value="{device.key}">{numbers}'
            f'<label>H.264 profile <select name="profile">{profiles}</select></label>'
            f'<label>Video <select name="codec">{codecs}</select></label><label>Sound <select name="audio">{sounds}</select></label>'
            f'<div class="buttons"><button class="primary" name="do" value="set" data-testid="live-{device.key}">Set</button>'
            '<button name="do" value="reset">As documented</button></div></form></section>'
        )

    async def behave(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        account = self.world.accounts.get(form.get("account", ""))
        device = account.devices.get(form.get("device", "")) if account is not None else None
        if account is None or device is None or not device.has_video:
            raise Problem(400, "Choose a camera.")
        names = [*(name for name, _, _ in NUMBERS), "profile", "codec", "audio"]
        given = {} if form.get("do") == "reset" else form
        try:
            self.sandbox.media.behaviour(account.key, device.key).change(
                {name: _typed(name, given.get(name, "")) for name in names}
            )
        except WrongBehaviour as error:
            raise Problem(400, str(error)) from None
        raise web.HTTPSeeOther("/developer/live")


def _shown(behaviour: Behaviour, name: str) -> str:
    """A number in its field; empty where it is as documented."""
    value = getattr(behaviour, name)
    return "" if value == getattr(Behaviour(), name) else f"{value:g}"


def _typed(name: str, text: str) -> object:
    """What a field of the form means: None for as documented. Raises WrongBehaviour."""
    if not text:
        return None
    if name == "audio":
        return text == "true"
    if name in {"profile", "codec"}:
        return text
    try:
        return float(text)
    except ValueError:
        raise WrongBehaviour(f"{name} must be a number.") from None
