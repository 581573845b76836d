"""The developer's page for deliveries: chaos on their way, and single ones that are wrong on purpose (contract 17.3)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from aiohttp import web

from sandbox.answers import Problem
from sandbox.chaos import Chaos
from sandbox.webhooks import LOST_STATES, SendOptions

if TYPE_CHECKING:
    from sandbox.server import Sandbox


@dataclass(frozen=True)
class Sample:
    """One thing to send. `via` and `options` as on the control plane."""

    label: str
    does: str
    type: str = "motion_detected"
    sub_type: str = "human"
    via: str = "both"
    options: SendOptions = field(default_factory=SendOptions)


SAMPLES = {
    "unknown-type": Sample("Unknown type", "A type your app has never heard of: keep it, answer 200.", "robot_waved", ""),
    "bare-signature": Sample("Bare signature", "The hex alone, without sha256=: good.", options={"signature": "bare"}),
    "invalid-signature": Sample(
        "Invalid signature", "Signed with another key: 401, nothing kept.", options={"signature": "invalid"}
    ),
    "malformed": Sample("Malformed", "Well signed, and no JSON: 400.", options={"raw_body": '{"meta": '}),
    "history-only": Sample("History only", "No webhook tells it: found when the history is read.", via="history"),
    "webhook-only": Sample("Webhook only", "The history never hears of it.", via="webhook"),
}  # fmt: skip

SAID = {
    "seed": "Seed: the same orders meet the same fate",
    "duplicate": "Sent twice (share, 0 to 1)",
    "drop": "Never sent (share)",
    "delay": "Held back (share)",
    "delay_s": "Held back so many seconds at most",
    "reorder": "Overtaken by up to ten later ones (share)",
    "storm": "Your answer is lost up to three times (share)",
    "burst": "So many gathered and sent at once",
}


class Delivering:
    """Everything here can be ordered under `/control/` too."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.world = sandbox.world

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/developer/chaos", self.page),
            web.post("/developer/chaos", self.bring),
            web.post("/developer/samples", self.send),
            web.post("/developer/deliveries/replay", self.replay_all),
        ]

    async def page(self, request: web.Request) -> web.Response:
        now = asdict(self.sandbox.webhooks.chaos)
        rows = "".join(
            f'<section class="card app-row"><span><b>{name}</b><small>{said}</small></span>'
            f'<span class="actions"><input name="{name}" aria-label="{name}" inputmode="decimal" size="6" value="{now[name]:g}" data-testid="chaos-{name}"></span></section>'
            for name, said in SAID.items()
        )
        places = "".join(
            f'<option value="{escape(f"{link.client_id}/{link.account}/{key}")}">{escape(self._place(link.client_id, link.account, key))}</option>'
            for link in self.world.integrations.values()
            if link.status == "completed" and link.client_id in self.world.apps
            for key in link.devices
            if self.world.accounts[link.account].devices[key].has_video
        )
        samples = "".join(
            f'<section class="card device"><div class="about"><h3>{sample.label}</h3><p>{sample.does}</p></div><div class=buttons>'
            f'<button name="name" value="{name}" data-testid="send-{name}">Send</button></div></section>'
            for name, sample in SAMPLES.items()
        )
        wrong = (
            '<form method="post" action="/developer/samples">'
            f'<p><label>Camera <select name="place">{places}</select></label></p><div class=grid>{samples}</div></form>'
            if places
            else "<p class=lead>Link a person's camera with an app first.</p>"
        )
        body = (
            "<h1>Chaos</h1><p class=lead>What a bad day does to webhooks on their way. It holds for every webhook from now on.</p>"
            f'<form method="post" action="/developer/chaos"><div class=stack>{rows}</div>'
            '<p><button class="primary" name="do" value="bring" data-testid="chaos-bring">Set</button> '
            '<button name="do" value="end" data-testid="chaos-end">As on a good day</button></p></form>'
            f"<h2>Single deliveries</h2>{wrong}"
        )
        return self.sandbox.pages.page("Chaos", body, "developer")

    def _place(self, client_id: str, account: str, device: str) -> str:
        person = self.world.accounts[account]
        return f"{person.first_name}: {person.devices[device].name}, {self.world.apps[client_id].name}"

    async def bring(self, request: web.Request) -> web.Response:
        form = await request.post()
        chosen: dict[str, Any] = {}
        if form.get("do") != "end":
            for name, default in asdict(Chaos()).items():
                try:
                    chosen[name] = type(default)(str(form.get(name, default)))
                except ValueError:
                    raise Problem(400, f"{name} must be a number.") from None
        self.sandbox.webhooks.bring(Chaos(**chosen))
        raise web.HTTPSeeOther("/developer/chaos")

    async def send(self, request: web.Request) -> web.Response:
        form = await request.post()
        sample = SAMPLES.get(str(form.get("name")))
        client_id, _, rest = str(form.get("place")).partition("/")
        account, _, device = rest.partition("/")
        link = self.world.integration(client_id, account)
        if sample is None or link is None or device not in link.devices:
            raise Problem(400, "Choose a camera and what to send.")
        await self.sandbox.happenings.at_device(
            account,
            device,
            sample.type,
            to=[link],
            sub_type=sample.sub_type,
            options=sample.options,
            via=sample.via,
        )
        raise web.HTTPSeeOther("/developer")

    async def replay_all(self, request: web.Request) -> web.Response:
        given = str((await request.post()).get("state"))
        found = next((state for state in LOST_STATES if state == given), None)
        if found is None:
            raise Problem(400, "There is no such state.")
        self.sandbox.webhooks.replay_all(found)
        raise web.HTTPSeeOther("/developer")
