"""
A bad day, drawn from a seed: deliveries doubled, dropped, late, out of order and in bursts, processes killed, sockets cut.

At its end every event is there once, and every browser has had every event its person may see, once and in order.
"""

import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from tests.sandbox.partner import complete, device_id
from tests.support.portal_process import PortalProcess, free_port, wait_for
from tests.support.postgresql import own_postgres
from tests.support.sandbox_process import SandboxProcess, app_for

SEED = 20261123
CHAOS = {
    "duplicate": 0.1,
    "drop": 0.05,
    "delay": 0.05,
    "delay_s": 1.0,
    "reorder": 0.2,
    "storm": 0.02,
    "burst": 20,
}
HOUR_S = 3600
# Everything happened within the hour before: Ring's history tells it, and no moment is too young to be read.
# Further apart than `events.history.SAME_WITHIN`: of two closer ones, the webhook of one may be taken for the late one of the
# other, whose own was lost; nothing that Ring tells would say otherwise (contract 8).
SPACING_MS = 2500
SETTLES_WITHIN_S = 150.0


@dataclass(frozen=True)
class Home:
    """One person's one camera, shared with one tenant. Its privacy zones keep pictures out of this."""

    tenant: str
    account: str
    camera: str

    @property
    def key(self) -> str:
        return f"{self.tenant}/{self.account}"


HOMES = (
    Home("acme", "ada", "Front Door"),
    Home("acme", "ben", "Porch"),
    Home("harbor", "ada", "Driveway"),
    Home("meadow", "ben", "Carport"),
)


@dataclass
class Browser:
    """A feed that comes back with the last position it has, whatever happens to its line."""

    name: str
    url: str
    headers: dict[str, str]
    positions: list[int] = field(default_factory=list)
    line: ClientConnection | None = None
    cuts: int = 0

    async def stay(self) -> None:
        while True:
            after = self.positions[-1] if self.positions else 0
            try:
                async with connect(
                    f"{self.url}?after={after}", additional_headers=self.headers, proxy=None, open_timeout=5
                ) as self.line:
                    async for text in self.line:
                        frame = json.loads(text)
                        if frame["type"] == "event":
                            self.positions.append(frame["position"])
            except (OSError, TimeoutError, ConnectionClosed, InvalidMessage, InvalidStatus):
                await asyncio.sleep(0.1)  # as feed.js does, though not as patiently

    def cut(self) -> None:
        """The network goes away: no close frame, no goodbye."""
        if self.line is not None:
            self.cuts += 1
            self.line.transport.abort()


class Browsers:
    """All browsers, on a loop in a thread of their own."""

    def __init__(self) -> None:
        self.all: list[Browser] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> "Browsers":
        self._thread.start()
        return self

    def open(self, browser: Browser) -> None:
        self.all.append(browser)
        asyncio.run_coroutine_threadsafe(browser.stay(), self._loop)

    def cut(self, chosen: list[Browser]) -> None:
        for browser in chosen:
            self._loop.call_soon_threadsafe(browser.cut)

    def __exit__(self, *_: object) -> None:
        async def leave() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(leave(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


_MAKE_HOMES = """
import json, os
from datetime import datetime
from django.test import Client
from accounts.models import ApiToken, Membership, RingAccount, Role, Tenant
from devices.models import Device
from events.models import HistoryReading
from portal.walls import enter_all_tenants
from tests.support.cast import make_linked_account, make_tenant, make_user
enter_all_tenants("a test makes its tenants and homes")
made = {"tokens": {}, "cookies": {}, "accounts": {}}
for home in json.loads(os.environ["HOMES"]):
    begin = datetime.fromisoformat(home["begin"])
    slug = home["tenant"]
    if slug not in made["tokens"]:
        made["tokens"][slug] = ApiToken.issue(tenant=make_tenant(slug), name="test", scopes=["read"])[1]
    tenant = Tenant.objects.get(slug=slug)
    user = make_user(f"{home['account']}@{slug}.example")
    Membership.objects.create(tenant=tenant, user=user, role=Role.CUSTOMER)
    account = make_linked_account(tenant, user, ring_id=home["account_id"])
    RingAccount.objects.filter(pk=account.pk).update(consent_at=begin)
    account.access_token, account.refresh_token = home["access_token"], home["refresh_token"]
    account.save(update_fields=["access_token", "refresh_token"])
    device = Device.objects.create(
        tenant=tenant, ring_account=account, ring_id=home["device_id"], name=home["camera"], seen_at=begin
    )
    HistoryReading.objects.create(tenant=tenant, device=device)
    browser = Client()
    browser.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    key = f"{slug}/{home['account']}"
    made["cookies"][key] = browser.cookies["sessionid"].value
    made["accounts"][key] = str(account.public_id)
print(json.dumps(made))
"""


@dataclass
class Day:
    """Ring, the portal, and who watches; `tokens` by tenant, `cookies` and the `accounts`' ids in the API by home."""

    sandbox: SandboxProcess
    portal: PortalProcess
    browsers: Browsers
    homes: Sequence[Home]
    tokens: dict[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)

    def count(self, table: str, condition: str) -> int:
        [(found,)] = self.portal.sql(f"SELECT count(*) FROM {table} WHERE {condition}")  # noqa: S608 - ours
        return int(found)

    def read_histories(self) -> None:
        """Make every camera's history due, and wait until it is read, back to the consent."""
        now = datetime.now(UTC) - timedelta(minutes=1)
        self.portal.sql(
            "UPDATE events_historyreading SET read_until = NULL, next_attempt_at = ?",
            now.strftime("%Y-%m-%d %H:%M:%S"),
        )
        wait_for(
            lambda: self.count("events_historyreading", "read_until IS NULL") == 0,
            timeout_s=SETTLES_WITHIN_S,
            what="the reading of the histories",
        )

    def rows(self, tenant: str) -> list[dict[str, Any]]:
        """All events of a tenant, by the API, in order of position."""
        found: list[dict[str, Any]] = []
        address: str | None = (
            f"{self.portal.url}/api/v1/events?filter[after]=0&page[size]=100&include=account"
        )
        while address is not None:
            answer = requests.get(
                address, headers={"Authorization": f"Bearer {self.tokens[tenant]}"}, timeout=30
            )
            assert answer.status_code == 200, answer.text
            document = answer.json()
            found += document["data"]
            address = document["links"]["next"]
        return found


@contextmanager
def a_day(folder: Path, homes: Sequence[Home], database_server: str) -> Iterator[Day]:
    """Each home linked with its tenant for more than an hour, as Ring and the portal both have it."""
    port = free_port()
    apps = [app_for(slug, f"http://127.0.0.1:{port}") for slug in sorted({home.tenant for home in homes})]
    with (
        SandboxProcess(apps=apps, time_scale=0.02) as sandbox,
        PortalProcess(folder, ring_url=sandbox.url, port=port, database_server=database_server) as portal,
        Browsers() as browsers,
    ):
        day = Day(sandbox, portal, browsers, homes)
        linked = [{**asdict(home), **link_at_ring(sandbox, home)} for home in homes]
        sandbox.control("POST", "/age", {"seconds": HOUR_S + 600})
        # What was told of the links before the portal knew their tenants was refused, and is no part of this.
        made = json.loads(
            portal.manage("shell", "--no-imports", "-c", _MAKE_HOMES, env={"HOMES": json.dumps(linked)})
        )
        day.tokens, day.cookies, day.accounts = made["tokens"], made["cookies"], made["accounts"]
        yield day


def link_at_ring(sandbox: SandboxProcess, home: Home) -> dict[str, str]:
    zones = {"account": home.account, "device": home.camera, "privacy_zones": [{"name": "the neighbours"}]}
    sandbox.control("PATCH", "/devices", zones)
    app = {"client_id": f"{home.tenant}-client", "client_secret": f"{home.tenant}-secret"}
    asked = {
        "client_id": app["client_id"],
        "account": home.account,
        "devices": [home.camera],
        "hold_code": True,
    }
    linked = sandbox.control("POST", "/link", asked)
    form = {**app, "grant_type": "authorization_code", "code": linked["code"]}
    tokens = requests.post(f"{sandbox.url}/oauth/token", data=form, timeout=10).json()
    complete(sandbox, linked, tokens["access_token"])
    return {
        "account_id": linked["account_id"],
        "device_id": device_id(sandbox, tokens["access_token"], home.camera),
        "access_token": tokens["access_token"],
        "refresh_token": tokens["refresh_token"],
        "begin": (datetime.now(UTC) - timedelta(seconds=HOUR_S + 300)).isoformat(),
    }


def open_browsers(day: Day) -> None:
    """One that sees the whole tenant in each, and each person's own."""
    base = day.portal.url.replace("http://", "ws://")
    for tenant, token in day.tokens.items():
        headers = {"Authorization": f"Bearer {token}"}
        day.browsers.open(Browser(tenant, f"{base}/ws/t/{tenant}/events/", headers))
    for key, cookie in day.cookies.items():
        headers = {"Cookie": f"sessionid={cookie}", "Origin": day.portal.url}
        day.browsers.open(Browser(key, f"{base}/ws/t/{key.partition('/')[0]}/events/", headers))


def happen(day: Day, home: Home, *, first_ms: int, count: int) -> list[int]:
    """So many motions of a home at moments in a row; return those."""
    day.sandbox.control(
        "POST",
        "/events",
        {
            "client_id": f"{home.tenant}-client",
            "account": home.account,
            "device": home.camera,
            "type": "motion_detected",
            "sub_type": "human",
            "count": count,
            "at_ms": first_ms,
            "every_ms": SPACING_MS,
        },
    )
    return [first_ms + number * SPACING_MS for number in range(count)]


def run_the_day(day: Day, *, rounds: int, each: int, disasters: list[Callable[[], None]]) -> None:
    sandbox = day.sandbox
    dice = random.Random(SEED)
    schedule = sorted(dice.sample(range(rounds), len(disasters)))
    open_browsers(day)
    begin_ms = sandbox.control("GET", "/state")["now_ms"] - HOUR_S * 1000
    before = {slug: len(day.rows(slug)) for slug in day.tokens}
    sandbox.control("POST", "/chaos", {"seed": SEED, **CHAOS})
    happened: dict[str, list[int]] = {home.key: [] for home in day.homes}
    for number in range(rounds):
        for home in day.homes:
            first_ms = begin_ms + number * each * SPACING_MS
            happened[home.key] += happen(day, home, first_ms=first_ms, count=each)
        if number in schedule:
            disasters[schedule.index(number)]()
        day.browsers.cut(dice.sample(day.browsers.all, 2))
    sandbox.control("DELETE", "/chaos")

    # Nobody has to wait for the pauses of the last retries.
    sandbox.control("POST", "/clock", {"scale": 50})

    def is_quiet() -> bool:
        if sandbox.control("GET", "/deliveries?state=waiting"):
            return False
        replayed: int = sandbox.control("POST", "/deliveries/replay", {"state": "dead"})["replayed"]
        return replayed == 0

    wait_for(is_quiet, timeout_s=SETTLES_WITHIN_S, what="the end of all deliveries")
    sandbox.control("POST", "/clock", {"scale": 1})
    told = [row for row in sandbox.control("GET", "/deliveries") if row["type"] == "motion_detected"]
    fates = Counter(row["fate"].split(",")[0] for row in told)
    assert fates["dropped"] and fates["sent twice"]
    assert {row["state"] for row in told} == {"delivered", "dropped"}

    # What was dropped is found where Ring still knows it.
    day.read_histories()
    # What a killed worker had in its hands is done as well.
    wait_for(
        lambda: day.count("events_event", "next_attempt_at IS NOT NULL") == 0,
        timeout_s=SETTLES_WITHIN_S,
        what="the effects of all events",
    )
    assert day.count("events_event", "last_error <> ''") == 0

    for slug in day.tokens:
        rows = day.rows(slug)
        homes = [home for home in day.homes if home.tenant == slug]
        motions = [row for row in rows if row["attributes"]["event_type"].startswith("motion")]
        moments = Counter(row["attributes"]["occurred_at"][:23] for row in motions)
        expected = Counter(iso(ms) for home in homes for ms in happened[home.key])
        assert moments == expected, f"{slug}: {len(motions)} of {expected.total()}, {dict(fates)}"
        positions = [row["attributes"]["position"] for row in rows]
        assert positions == list(range(1, len(rows) + 1))
        assert len(rows) - before[slug] == expected.total()
        by_account: dict[str, list[int]] = {}
        for row in rows:
            account = (row["relationships"]["account"]["data"] or {}).get("id", "")
            by_account.setdefault(account, []).append(row["attributes"]["position"])
        watching = [browser for browser in day.browsers.all if browser.name.partition("/")[0] == slug]
        for browser in watching:
            its_own = positions if browser.name == slug else by_account[day.accounts[browser.name]]
            wait_for(partial(has_seen, browser, its_own), what=f"all events in the browser {browser.name}")
        assert len(watching) == 1 + len(homes)
    assert sum(browser.cuts for browser in day.browsers.all) >= rounds


def has_seen(browser: Browser, positions: list[int]) -> bool:
    """True when it has had all of these and no other, once and in order."""
    return browser.positions == positions


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")[:23]


def again(day: Day, name: str) -> Callable[[], None]:
    """`kill -9` of a process, and its next start."""

    def disaster() -> None:
        day.portal.kill(name)
        day.portal.start(name)

    return disaster


def test_nothing_is_lost_and_nothing_doubled_on_a_bad_day(tmp_path: Path) -> None:
    with a_day(tmp_path / "portal", HOMES[:3], "") as day:
        run_the_day(day, rounds=4, each=20, disasters=[again(day, "web")])


@pytest.mark.services
def test_nothing_is_lost_and_nothing_doubled_on_the_worst_day(tmp_path: Path) -> None:
    with own_postgres() as postgres, a_day(tmp_path / "portal", HOMES, postgres.url) as day:

        def crash() -> None:
            postgres.crash()
            postgres.start()

        disasters = [
            again(day, "web"),
            again(day, "worker"),
            crash,
            again(day, "web"),
            again(day, "worker"),
        ]
        run_the_day(day, rounds=24, each=48, disasters=disasters)
