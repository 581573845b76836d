"""The JSON control plane for tests, under `/control/`; never throttled (contract 17.3)."""

from __future__ import annotations

from dataclasses import MISSING, asdict, fields
from typing import TYPE_CHECKING, Any

from aiohttp import web

from sandbox.answers import Problem
from sandbox.api import READ_ONLY_SCOPE
from sandbox.behaviour import WrongBehaviour
from sandbox.chaos import Chaos
from sandbox.faults import Fault
from sandbox.happenings import VIA
from sandbox.knobs import KNOBS
from sandbox.linking import CodeOptions
from sandbox.loopback import require_loopback
from sandbox.scenarios import SCENARIOS, Scene
from sandbox.webhooks import LOST_STATES, SIGNATURES, Delivery, SendOptions
from sandbox.world import App, Integration

if TYPE_CHECKING:
    from sandbox.server import Sandbox

PLAYGROUND_LIFETIME_MS = 30 * 60_000
EVENTS_AT_ONCE = 1000
FAR_FUTURE_MS = 4_102_444_800_000  # the year 2100: beyond it a number is not meant as a moment
REMOVAL_ORDERS = ("link_first", "devices_first")
TOKEN_ACTIONS = {"expire_access": "access", "revoke_refresh": "refresh"}
COPIES_AT_ONCE = 10
YEARS_S = 5 * 366 * 86_400
CLOCK_SCALES = (0.01, 100_000)


class Body:
    """A JSON object from a request, read field by field. Every method raises Problem 400 and names the field."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields

    @classmethod
    async def of(cls, request: web.Request) -> Body:
        """An empty body is an empty object."""
        try:
            given = await request.json() if request.can_read_body else {}
        except ValueError:
            raise Problem(400, "The body is not JSON.") from None
        if not isinstance(given, dict):
            raise Problem(400, "The body must be a JSON object.")
        return cls(given)

    def __contains__(self, name: str) -> bool:
        return self.fields.get(name) is not None

    def text(self, name: str, default: str | None = None) -> str:
        value = self.fields.get(name, default)
        if not isinstance(value, str):
            raise Problem(400, f"{name} must be given, as text.")
        return value

    def flag(self, name: str) -> bool:
        value = self.fields.get(name, False)
        if not isinstance(value, bool):
            raise Problem(400, f"{name} must be true or false.")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self.fields.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Problem(400, f"{name} must be given, as a number.")
        return value

    def texts(self, name: str) -> list[str]:
        value = self.fields.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise Problem(400, f"{name} must be a list of texts.")
        return value

    def moment_ms(self, name: str) -> int | None:
        """Epoch milliseconds, or None where it is not given."""
        if name not in self:
            return None
        value = self.number(name)
        if not 0 < value < FAR_FUTURE_MS:
            raise Problem(400, f"{name} must be a moment in epoch milliseconds.")
        return int(value)

    def build[T](self, kind: type[T]) -> T:
        """A dataclass of plain fields from this object; the fields' types are those of their defaults, or text."""
        known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]  # every caller gives a dataclass
        if unknown := sorted(self.fields.keys() - known.keys()):
            raise Problem(400, f"There is no field {', '.join(unknown)}; there are {', '.join(known)}.")
        for name, f in known.items():
            if name not in self:
                if f.default is MISSING:
                    raise Problem(400, f"{name} must be given.")
                continue
            wanted = str if f.default is MISSING else int if f.default is None else type(f.default)
            value = self.fields[name]
            if not isinstance(value, int | float if wanted is float else wanted) or isinstance(value, bool):
                raise Problem(400, f"{name} must be of type {wanted.__name__}.")
        return kind(**{name: value for name, value in self.fields.items() if value is not None})


class Control:
    """Drive everything a person could do on the pages, and more, from a test."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.world = sandbox.world

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/control/state", self.state),
            web.post("/control/reset", self.reset),
            web.get("/control/apps", self.apps),
            web.post("/control/apps", self.add_app),
            web.post("/control/link", self.link),
            web.post("/control/sign-in", self.sign_in),
            web.get("/control/scenarios", self.scenarios),
            web.post("/control/scenarios", self.play),
            web.post("/control/unlink", self.unlink),
            web.post("/control/events", self.event),
            web.get("/control/deliveries", self.deliveries),
            web.post("/control/deliveries/replay", self.replay_all),
            web.post("/control/deliveries/{delivery}/replay", self.replay),
            web.get("/control/chaos", self.chaos),
            web.post("/control/chaos", self.bring_chaos),
            web.delete("/control/chaos", self.end_chaos),
            web.get("/control/requests", self.requests),
            web.delete("/control/requests", self.clear_requests),
            web.get("/control/sessions", self.sessions),
            web.get("/control/live", self.live),
            web.patch("/control/live", self.change_live),
            web.patch("/control/devices", self.device),
            web.post("/control/plan", self.plan),
            web.post("/control/subscriptions", self.begin_subscription),
            web.delete("/control/subscriptions", self.end_subscriptions),
            web.post("/control/clock", self.clock),
            web.post("/control/age", self.age),
            web.get("/control/faults", self.faults),
            web.post("/control/faults", self.add_fault),
            web.delete("/control/faults", self.clear_faults),
            web.post("/control/tokens", self.tokens),
            web.post("/control/knobs", self.knobs),
        ]

    # --- the whole ---

    async def state(self, request: web.Request) -> web.Response:
        integrations = [
            {**asdict(i), "account_id": self.world.account_id(i.client_id, i.account)}
            for i in self.world.integrations.values()
        ]
        return web.json_response(
            {
                **self.world.public(),
                "integrations": integrations,
                "now_ms": self.world.now_ms(),
                "knobs": self.sandbox.knobs,
            }
        )

    async def reset(self, request: web.Request) -> web.Response:
        await self.sandbox.reset()
        return _done()

    async def clock(self, request: web.Request) -> web.Response:
        body = await Body.of(request)
        scale = body.number("scale", self.world.clock_scale)
        if not CLOCK_SCALES[0] <= scale <= CLOCK_SCALES[1]:
            raise Problem(400, f"scale must be {CLOCK_SCALES[0]} to {CLOCK_SCALES[1]}.")
        offset_ms = self.world.clock_offset_ms + int(
            body.number("advance_s", 0 if "scale" in body else None) * 1000
        )
        if abs(offset_ms) > FAR_FUTURE_MS // 10:
            raise Problem(400, "The clock can be moved by a few years, not further.")
        self.world.clock_offset_ms = offset_ms
        self.world.scale_clock(scale)
        self.sandbox.webhooks.clock_moved()
        return web.json_response({"now_ms": self.world.now_ms(), "scale": scale})

    async def age(self, request: web.Request) -> web.Response:
        """Links, nonces, codes and tokens get older; the clock, which partners compare with theirs, stays."""
        seconds = (await Body.of(request)).number("seconds")
        if not 0 < seconds <= YEARS_S:
            raise Problem(400, "seconds must be more than 0, and a few years at most.")
        self.world.age(seconds)
        return _done()

    # --- apps and links ---

    async def apps(self, request: web.Request) -> web.Response:
        hidden = {"client_secret", "signing_key"}
        return web.json_response(
            [{k: v for k, v in asdict(app).items() if k not in hidden} for app in self.world.apps.values()]
        )

    async def add_app(self, request: web.Request) -> web.Response:
        app = (await Body.of(request)).build(App)
        for url in app.urls:
            require_loopback(url)
        self.world.apps[app.client_id] = app
        return _done(201)

    async def link(self, request: web.Request) -> web.Response:
        body = await Body.of(request)
        app, account = self._app(body), self._account(body)
        result = await self.sandbox.linking.install(
            app,
            account,
            self._device_keys(account, body),
            encoding=body.text("encoding", "form"),
            extra_fields=body.flag("extra_fields"),
            duplicate=body.flag("duplicate"),
            code=CodeOptions(
                wrong=body.flag("wrong_code"), hold=body.flag("hold_code"), age_s=body.number("code_age_s", 0)
            ),
            new_ids=body.flag("new_ids"),
        )
        return web.json_response(result)

    async def sign_in(self, request: web.Request) -> web.Response:
        body = await Body.of(request)
        integration, fault = self._integration(body), body.text("nonce_fault", "")
        if body.flag("new_code"):
            return web.json_response(await self.sandbox.linking.sign_in_with_code(integration, fault))
        url = await self.sandbox.linking.sign_in_again(integration, fault)
        return web.json_response({"redirect_url": url})

    async def unlink(self, request: web.Request) -> web.Response:
        body = await Body.of(request)
        order, copies = body.text("order", "link_first"), body.number("copies", 1)
        if order not in REMOVAL_ORDERS:
            raise Problem(400, f"order must be one of {', '.join(REMOVAL_ORDERS)}.")
        if not 0 <= copies <= COPIES_AT_ONCE:
            raise Problem(400, f"copies must be 0 to {COPIES_AT_ONCE}.")
        sent = await self.sandbox.linking.remove(
            self._integration(body), devices_first=order == "devices_first", copies=int(copies)
        )
        return web.json_response({"status": "ok", "deliveries": [{"id": d.id, "type": d.type} for d in sent]})

    async def scenarios(self, request: web.Request) -> web.Response:
        return web.json_response(
            [{k: v for k, v in vars(scenario).items() if k != "play"} for scenario in SCENARIOS.values()]
        )

    async def play(self, request: web.Request) -> web.Response:
        body = await Body.of(request)
        scenario = SCENARIOS.get(body.text("name"))
        if scenario is None:
            raise Problem(400, f"name must be one of {', '.join(SCENARIOS)}.")
        result = await scenario.play(Scene(self.sandbox, self._app(body), self._account(body)))
        return web.json_response(
            {"name": scenario.name, "then": scenario.then, "expect": scenario.expect, **result}
        )

    async def tokens(self, request: web.Request) -> web.Response:
        """Make tokens bad; or hand out a Playground one: 30 minutes, read only, no refresh (contract 4)."""
        body = await Body.of(request)
        integration = self._integration(body)
        action = body.text("action", next((name for name in TOKEN_ACTIONS if body.flag(name)), ""))
        if action == "issue_playground":
            token = self.world.issue(
                "access", integration.client_id, integration.account, PLAYGROUND_LIFETIME_MS, READ_ONLY_SCOPE
            )
            return web.json_response({"access_token": token}, status=201)
        if action not in TOKEN_ACTIONS:
            raise Problem(400, f"action must be one of {', '.join([*TOKEN_ACTIONS, 'issue_playground'])}.")
        self.world.expire(integration, TOKEN_ACTIONS[action])
        return _done()

    # --- homes ---

    async def event(self, request: web.Request) -> web.Response:
        body = await Body.of(request)
        integration = self._integration(body)
        event_type = body.text("type")
        count = body.number("count", 1)
        if not 1 <= count <= EVENTS_AT_ONCE:
            raise Problem(400, f"count must be 1 to {EVENTS_AT_ONCE}.")
        options = self._send_options(body)
        via = body.text("via", "both")
        if via not in VIA:
            raise Problem(400, f"via must be one of {', '.join(VIA)}.")
        at_ms, every_ms = body.moment_ms("at_ms"), int(body.number("every_ms", 1000))
        if at_ms is not None and not 0 < at_ms + (int(count) - 1) * every_ms < FAR_FUTURE_MS:
            raise Problem(400, "every_ms leads out of all time.")
        sent: list[Delivery] = []
        for number in range(int(count)):
            if "device" in body:
                sent += await self.sandbox.happenings.at_device(
                    integration.account,
                    self._device_key(integration.account, body.text("device")),
                    event_type,
                    to=[integration],
                    sub_type=body.text("sub_type", ""),
                    at_ms=None if at_ms is None else at_ms + number * every_ms,
                    component_ids=body.texts("component_ids"),
                    options=options,
                    via=via,
                )
            else:
                delivery = self.sandbox.webhooks.integration_event(integration, event_type, options)
                sent += [delivery] if delivery is not None else []
        if via == "history":
            return web.json_response({"sent": []})
        if not sent:
            raise Problem(
                409, "Ring sends no events here: the link is not completed, or the home has no plan."
            )
        told = [{"request_id": d.request_id, "event_id": d.event_id, "delivery_id": d.id} for d in sent]
        return web.json_response(told[0] if len(told) == 1 else {"sent": told})

    @staticmethod
    def _send_options(body: Body) -> SendOptions:
        options: SendOptions = {
            "even_if_pending": body.flag("even_if_pending"),
            "request_id": body.text("request_id", ""),
            "signature": body.text("signature", "valid"),
        }
        if options["signature"] not in SIGNATURES:
            raise Problem(400, f"signature must be one of {', '.join(SIGNATURES)}.")
        if "body" in body:
            options["raw_body"] = body.text("body")
        extra = body.fields.get("attributes", {})
        if not isinstance(extra, dict):
            raise Problem(400, "attributes must be an object.")
        options["extra"] = extra
        return options

    async def device(self, request: web.Request) -> web.Response:
        body = await Body.of(request)
        account = self._account(body)
        key = self._device_key(account, body.text("device"))
        changes = {k: v for k, v in body.fields.items() if k not in {"account", "device", "client_id"}}
        await self.sandbox.happenings.change_device(account, key, changes)
        return _done()

    async def live(self, request: web.Request) -> web.Response:
        """The behaviour of every camera for which one was ordered."""
        return web.json_response(
            [
                {"account": account, "device": device, **asdict(behaviour)}
                for (account, device), behaviour in self.sandbox.media.behaviours.items()
            ]
        )

    async def change_live(self, request: web.Request) -> web.Response:
        """How a camera behaves while watched; null takes a field back."""
        body = await Body.of(request)
        account = self._account(body)
        key = self._device_key(account, body.text("device"))
        if not self.world.accounts[account].devices[key].has_video:
            raise Problem(400, "device must be a camera or doorbell.")
        behaviour = self.sandbox.media.behaviour(account, key)
        try:
            behaviour.change({k: v for k, v in body.fields.items() if k not in {"account", "device"}})
        except WrongBehaviour as error:
            raise Problem(400, str(error)) from None
        return web.json_response(asdict(behaviour))

    async def plan(self, request: web.Request) -> web.Response:
        body = await Body.of(request)
        account = self.world.accounts[self._account(body)]
        await self.sandbox.happenings.change_plan(account, body.flag("active"))
        return _done()

    async def begin_subscription(self, request: web.Request) -> web.Response:
        body = await Body.of(request)
        integration = self._integration(body)
        subscription = self.sandbox.happenings.begin_subscription(
            integration,
            trial=body.flag("trial"),
            devices=self._device_keys(integration.account, body),
            days=body.number("days", 30),
        )
        return web.json_response(asdict(subscription), status=201)

    async def end_subscriptions(self, request: web.Request) -> web.Response:
        integration = self._integration(await Body.of(request))
        for subscription in self.world.subscriptions:
            theirs = (subscription.client_id, subscription.account)
            if subscription.status == "active" and theirs == (integration.client_id, integration.account):
                self.sandbox.happenings.end_subscription(subscription)
        return _done()

    # --- what went out and came in ---

    async def deliveries(self, request: web.Request) -> web.Response:
        state = request.query.get("state")
        return web.json_response(
            [asdict(d) for d in self.sandbox.webhooks.journal.values() if state in {None, d.state}]
        )

    async def replay(self, request: web.Request) -> web.Response:
        delivery = self.sandbox.webhooks.journal.get(request.match_info["delivery"])
        if delivery is None or delivery.client_id not in self.world.apps:
            raise Problem(404, "There is no such delivery.")
        self.sandbox.webhooks.replay(delivery)
        return _done()

    async def replay_all(self, request: web.Request) -> web.Response:
        state = (await Body.of(request)).text("state", "dead")
        found = next((known for known in LOST_STATES if known == state), None)
        if found is None:
            raise Problem(400, f"state must be one of {', '.join(LOST_STATES)}.")
        return web.json_response({"replayed": self.sandbox.webhooks.replay_all(found)})

    async def chaos(self, request: web.Request) -> web.Response:
        return web.json_response(asdict(self.sandbox.webhooks.chaos))

    async def bring_chaos(self, request: web.Request) -> web.Response:
        self.sandbox.webhooks.bring((await Body.of(request)).build(Chaos))
        return await self.chaos(request)

    async def end_chaos(self, request: web.Request) -> web.Response:
        self.sandbox.webhooks.bring(Chaos())
        return _done()

    async def requests(self, request: web.Request) -> web.Response:
        return web.json_response(list(self.sandbox.requests))

    async def clear_requests(self, request: web.Request) -> web.Response:
        self.sandbox.requests.clear()
        return _done()

    async def sessions(self, request: web.Request) -> web.Response:
        return web.json_response(self.sandbox.media.ledger_rows())

    # --- faults and knobs ---

    async def faults(self, request: web.Request) -> web.Response:
        return web.json_response([asdict(fault) for fault in self.sandbox.faults.waiting])

    async def add_fault(self, request: web.Request) -> web.Response:
        body = await Body.of(request)
        account = self._account(body)
        body.fields.pop("account", None)
        if "device" in body:
            body.fields["device"] = f"{account}/{self._device_key(account, body.text('device'))}"
        self.sandbox.faults.add(body.build(Fault))
        return _done(201)

    async def clear_faults(self, request: web.Request) -> web.Response:
        self.sandbox.faults.waiting.clear()
        return _done()

    async def knobs(self, request: web.Request) -> web.Response:
        given = (await Body.of(request)).fields
        for name, value in given.items():
            if name not in KNOBS:
                raise Problem(400, f"There is no knob {name}; there are {', '.join(KNOBS)}.")
            if value is not None and value not in KNOBS[name].values:
                raise Problem(
                    400, f"{name} must be one of {', '.join(map(str, KNOBS[name].values))}, or null."
                )
        self.sandbox.knobs = {k: v for k, v in (self.sandbox.knobs | given).items() if v is not None}
        return web.json_response(self.sandbox.knobs)

    # --- finding ---

    def _app(self, body: Body) -> App:
        app = self.world.apps.get(body.text("client_id", next(iter(self.world.apps))))
        if app is None:
            raise Problem(404, "There is no such app.")
        return app

    def _account(self, body: Body) -> str:
        account = body.text("account", "ada")
        if account not in self.world.accounts:
            raise Problem(404, "There is no such account.")
        return account

    def _integration(self, body: Body) -> Integration:
        found = self.world.integration(self._app(body).client_id, self._account(body))
        if found is None:
            raise Problem(404, "This app is not installed there.")
        return found

    def _device_key(self, account: str, given: str) -> str:
        """A device by its key, its name, or the id that any app has for it."""
        for key, device in self.world.accounts[account].devices.items():
            ids = (self.world.device_id(client_id, account, key) for client_id in self.world.apps)
            if given in {key, device.name} or given in ids:
                return key
        raise Problem(404, f"There is no device {given}.")

    def _device_keys(self, account: str, body: Body) -> list[str]:
        """The `devices` of the body: names, keys or ids, or "all" (the default)."""
        if body.fields.get("devices", "all") == "all":
            return [key for key, device in self.world.accounts[account].devices.items() if not device.removed]
        return [self._device_key(account, given) for given in body.texts("devices")]


def _done(status: int = 200) -> web.Response:
    return web.json_response({"status": "ok"}, status=status)
