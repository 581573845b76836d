"""
Linking as a state machine against a Ring that keeps its own truth (issue 3, "done when" 1; features A3, A4, A6).

A random interleaver makes up stories: two browsers, two Ring accounts, two tenants; codes doubled and sent again; answers refused,
dropped or lost; processes killed at any write or call; webhooks late and twice; links ended and begun anew; hours and
months passing. After every step, and once more after Ring has been well for a while:

- a Ring account has one owner in the whole installation, and never changes hands;
- a refresh token that Ring takes and that reached us whole is stored, once;
- nothing is stuck: each row is finished, or has a moment at which somebody goes on, or a next step for its person that works.

The same stories every time, in half a minute. Longer, and others: LINKING_MODEL_STORIES=5000 LINKING_MODEL_SEED=7 pytest <this
file>. A story that fails is shortened step by step, and what is left of it is printed.

(Not a RuleBasedStateMachine: that one spent nine tenths of its steps on orders that mean nothing, and reached few links.)
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any
from urllib.parse import urlencode

from django.conf import LazySettings
from django.core.cache import cache
from django.db import connection
from django.test import Client

import pytest

from accounts import linking, tasks
from accounts.models import AuditEntry, RingAccount, Tenant, User
from accounts.refusals import TEXTS, Refusal
from accounts.services import confirm_link_from_ring, find_ring_account, unlink_account
from accounts.tests.truthful_ring import CALLS, FAULTS, Habits, Key, Pair, TruthfulRing, serve
from accounts.tokens import NotLinked, NotSetUp, client_for
from portal.walls import enter_all_tenants
from ring.errors import RingError
from ring.transport import OneHopSession
from tests.support.cast import make_tenant, make_user

State = RingAccount.State

STORIES = int(os.environ.get("LINKING_MODEL_STORIES", "35"))
SEED = int(os.environ.get("LINKING_MODEL_SEED", "1"))
STEPS = 40

BEGIN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
_stories = count(1)


class Killed(BaseException):
    """`kill -9`: nothing after this is done, no `finally` reaches the database."""


class Life:
    """How many writes and calls a process makes before it is killed."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.is_over = False

    def step(self) -> None:
        if self.is_over:
            raise Killed
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.is_over = True
                raise Killed

    def execute(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if self.is_over:
            raise Killed
        if sql.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE")):
            self.step()
        return execute(sql, params, many, context)


Step = tuple[str, dict[str, Any]]
_steps: dict[str, tuple[int, dict[str, list[Any]]]] = {}


def step[F: Callable[..., None]](weight: int, **choices: list[Any]) -> Callable[[F], F]:
    """A thing that can happen in a story: how often, and what its arguments are chosen from."""

    def note(method: F) -> F:
        _steps[method.__name__] = weight, choices
        return method

    return note


WHICH = [0, 0, 0, 0, 1, 2, 2, 3]  # mostly one link, and the same Ring account at the other tenant
WHO = [0, 0, 0, 1]
FAULTY = [[fault] for fault in FAULTS] + [["lost", "lost"], ["done500", "500"], ["lost", "400"], ["500"] * 5]
MEANWHILE = ["tasks", "refresh", "confirm", "webhook", "code", "page", "lease ends"]
PAUSES = [
    timedelta(seconds=20),
    timedelta(seconds=20),
    timedelta(minutes=3),
    timedelta(minutes=3),
    timedelta(minutes=11),
    timedelta(hours=3, minutes=58),
    timedelta(hours=5),
    timedelta(hours=25),
    timedelta(days=31),
]


class Story:
    """One story. `keys` are the four links there can be: two tenants, two Ring accounts."""

    clock: datetime
    ring: TruthfulRing
    life: Life

    def __init__(self, habits: Habits) -> None:
        type(self).clock = BEGIN
        ring = self.ring
        ring.habits = habits
        ring.apps.clear()
        ring.integrations.clear()
        ring.grants.clear()
        ring.sent.clear()
        ring.faults.clear()
        ring.meanwhile.clear()
        cache.clear()
        story = next(_stories)
        self.tenants: list[Tenant] = [make_tenant(f"{name}-{story}") for name in ("acme", "birch")]
        self.people: list[User] = [make_user(f"{name}{story}@customer.example") for name in ("ada", "ben")]
        self.browsers = [Client(raise_request_exception=True) for _ in self.people]
        self.keys: list[Key] = []
        for tenant in self.tenants:
            app = tenant.ring_app
            ring.apps[app.client_id] = (app.client_secret, app.signing_key)
            self.keys += [(app.client_id, f"ava1.ring.account.{story}.{n}") for n in (1, 2)]
        self.tenant_of = {key: self.tenants[index // 2] for index, key in enumerate(self.keys)}
        self.expected: dict[Key, Pair] = {}
        self.owners: dict[int, int] = {}
        self.webhooks: list[tuple[Key, str, datetime]] = []

    # --- the tools of a story ---

    @contextmanager
    def process(self) -> Iterator[None]:
        """
        What happens inside is done by one process of ours, which may be killed.

        Afterwards the newest whole pair of every link is expected to be stored; after a kill only when it is.
        """
        self.ring.sent.clear()
        was_killed = False
        try:
            with connection.execute_wrapper(self.life.execute):
                yield
        except Killed:
            was_killed = True
            cache.clear()  # it lived in the process's memory
        finally:
            self.life.left, self.life.is_over = None, False
        if self.ring.trouble:
            raise self.ring.trouble.pop()
        stored = self.stored_tokens() if was_killed else None
        for pair in sorted(self.ring.sent, key=lambda pair: (pair.family, pair.number)):
            known = self.expected.get(pair.key)
            if known is not None and (known.family, known.number) > (pair.family, pair.number):
                continue
            if not self.ring.lives(pair.refresh_token):
                continue
            if stored is None or stored[pair.refresh_token]:
                self.expected[pair.key] = pair
            elif known is not None and known.family == pair.family:
                del self.expected[
                    pair.key
                ]  # rotated and never written down: nothing can save it (contract 4)
        self.ring.sent.clear()

    def rows(self) -> list[RingAccount]:
        return list(RingAccount.objects.filter(tenant__in=self.tenants).order_by("pk"))

    def stored_tokens(self) -> Counter[str]:
        return Counter(row.refresh_token for row in self.rows() if row.refresh_token)

    def row_of(self, key: Key) -> RingAccount | None:
        return find_ring_account(tenant=self.tenant_of[key], ring_id=key[1])

    def post_code(self, key: Key, code: str) -> None:
        Client().post(
            f"/ring/{self.tenant_of[key].slug}/token",
            urlencode({"code": code}),
            content_type="application/x-www-form-urlencoded",
        )

    def visit(self, who: int, method: str, path: str, **data: str) -> Any:
        """A request of a signed-in browser; a session that ran out meanwhile begins again."""
        browser = self.browsers[who]
        browser.force_login(self.people[who], backend="django.contrib.auth.backends.ModelBackend")
        return getattr(browser, method)(path, data)

    def arrive_and_confirm(self, key: Key, who: int) -> Any:
        """Sign In in the Ring app, then *Link Ring account* here."""
        slug = self.tenant_of[key].slug
        query = self.ring.sign_in(key)
        self.visit(who, "get", f"/ring/{slug}/link", nonce=query.nonce, time=query.time_ms)
        return self.visit(who, "post", f"/t/{slug}/link/")

    def run_due_tasks(self) -> None:
        now = self.clock
        due = RingAccount.objects.filter(
            tenant__in=self.tenants, state__in=linking.LINKING, next_attempt_at__lte=now
        )
        for pk in list(due.values_list("pk", flat=True)):
            tasks.continue_linking.func(pk)

    def run_daily_refresh(self) -> None:
        rows = RingAccount.objects.filter(tenant__in=self.tenants)
        for pk in list(rows.values_list("pk", flat=True)):
            tasks.refresh_account.func(pk)

    def call_ring(self, key: Key) -> None:
        row = self.row_of(key)
        if row is not None:
            try:
                with client_for(row) as client:
                    client.me()
            except (RingError, NotLinked, NotSetUp):
                pass

    def deliver(self, number: int) -> None:
        """What events.effects does with the two webhooks of a link."""
        if not self.webhooks:
            return
        key, kind, happened_at = self.webhooks[number % len(self.webhooks)]
        row = self.row_of(key)
        if row is None:
            return
        if kind == "app_integration_added":
            confirm_link_from_ring(row, self.clock, happened_at=happened_at)
        else:
            unlink_account(account=row, now=self.clock, reason="removed_in_ring", happened_at=happened_at)

    def note_completions(self) -> None:
        """Ring tells of a completed link by a webhook (timeline 2.1, step 12)."""
        for key, found in self.ring.integrations.items():
            told = [kind for k, kind, _ in self.webhooks if k == key]
            if found.status == "completed" and told[-1:] != ["app_integration_added"]:
                self.webhooks.append((key, "app_integration_added", self.clock))

    # --- what happens at Ring ---

    def pass_time(self, pause: timedelta) -> None:
        type(self).clock += pause

    @step(5, which=WHICH, copies=[1, 1, 2])
    def install(self, which: int, copies: int) -> None:
        """Somebody adds the app; Ring's backend sends the code, sometimes twice."""
        key = self.keys[which]
        self.pass_time(timedelta(seconds=30))  # consent and the choice of devices take a person a while
        code = self.ring.install(key)
        self.expected.pop(key, None)
        with self.process():
            for _ in range(copies):
                self.post_code(key, code)

    @step(2, which=WHICH)
    def send_another_code(self, which: int) -> None:
        """Sign In again with a new code (contract 18 row 9): the earlier tokens stay good at Ring."""
        key = self.keys[which]
        if key in self.ring.integrations:
            self.pass_time(timedelta(seconds=5))
            code = self.ring.code(key)
            with self.process():
                self.post_code(key, code)

    @step(2, which=WHICH)
    def remove_in_ring(self, which: int) -> None:
        key = self.keys[which]
        if key in self.ring.integrations:
            self.pass_time(timedelta(seconds=10))
            self.ring.remove(key)
            self.expected.pop(key, None)
            self.webhooks.append((key, "app_integration_removed", self.clock))

    @step(2, which=WHICH)
    def access_token_ends_early(self, which: int) -> None:
        self.ring.end_access(self.keys[which])

    # --- what people do ---

    @step(2, which=WHICH, who=WHO)
    def come_from_ring(self, which: int, who: int) -> None:
        key = self.keys[which]
        if key in self.ring.integrations:
            query = self.ring.sign_in(key)
            slug = self.tenant_of[key].slug
            with self.process():
                self.visit(who, "get", f"/ring/{slug}/link", nonce=query.nonce, time=query.time_ms)

    @step(2, where=[0, 0, 1], who=WHO)
    def confirm(self, where: int, who: int) -> None:
        with self.process():
            self.visit(who, "post", f"/t/{self.tenants[where].slug}/link/")

    @step(9, which=WHICH, who=WHO)
    def come_and_confirm(self, which: int, who: int) -> None:
        key = self.keys[which]
        if key in self.ring.integrations:
            with self.process():
                self.arrive_and_confirm(key, who)

    @step(3, which=WHICH)
    def press_finish(self, which: int) -> None:
        row = self.row_of(self.keys[which])
        if row is not None and row.user is not None:
            who = self.people.index(row.user)
            with self.process():
                self.visit(who, "post", f"/t/{row.tenant.slug}/linked/{row.public_id}/finish/")

    @step(1, which=WHICH)
    def disconnect_here(self, which: int) -> None:
        row = self.row_of(self.keys[which])
        if row is not None and row.user is not None:
            who = self.people.index(row.user)
            with self.process():
                self.visit(who, "post", f"/t/{row.tenant.slug}/settings/accounts/{row.public_id}/unlink")
            row.refresh_from_db()
            if row.state == State.UNLINKED:
                self.expected.pop(self.keys[which], None)

    # --- what the portal does by itself ---

    @step(5)
    def tasks_run(self) -> None:
        with self.process():
            self.run_due_tasks()

    @step(2)
    def daily_refresh_runs(self) -> None:
        with self.process():
            self.run_daily_refresh()

    @step(1)
    def unclaimed_are_swept(self) -> None:
        with self.process():
            tasks.sweep_unclaimed.func()
        for key in self.keys:
            row = self.row_of(key)
            if row is not None and row.state == State.UNLINKED:
                self.expected.pop(key, None)

    @step(4, which=WHICH)
    def a_page_asks_ring(self, which: int) -> None:
        with self.process():
            self.call_ring(self.keys[which])

    @step(4, number=list(range(12)))
    def a_webhook_comes(self, number: int) -> None:
        """Any that was ever sent: late, out of order, again."""
        with self.process():
            self.deliver(number)

    # --- what goes wrong ---

    @step(6, call=list(CALLS), faults=FAULTY)
    def ring_will_fail(self, call: str, faults: list[str]) -> None:
        self.ring.faults[call] = faults

    @step(6, after=list(range(25)))
    def the_next_process_will_be_killed(self, after: int) -> None:
        self.life.left = after

    @step(6, call=list(CALLS), what=MEANWHILE, which=WHICH, who=WHO)
    def meanwhile(self, call: str, what: str, which: int, who: int) -> None:
        """While Ring answers the next such call, another process does something."""
        key = self.keys[which]

        def act() -> None:
            enter_all_tenants("another process of ours, in a thread of its own")
            try:
                if what == "tasks":
                    self.run_due_tasks()
                elif what == "refresh":
                    self.run_daily_refresh()
                elif what == "confirm" and key in self.ring.integrations:
                    self.arrive_and_confirm(key, who)
                elif what == "webhook" and self.webhooks:
                    self.deliver(which)
                elif what == "code" and key in self.ring.integrations:
                    self.pass_time(timedelta(seconds=1))
                    self.post_code(key, self.ring.code(key))
                elif what == "page":
                    self.call_ring(key)
                elif what == "lease ends":
                    self.pass_time(timedelta(minutes=3))
                    self.run_due_tasks()
            finally:
                connection.close()

        self.ring.meanwhile[call] = [act]

    @step(4, pause=PAUSES)
    def time_passes(self, pause: timedelta) -> None:
        self.pass_time(pause)

    # --- what must always be so ---

    def nobody_loses_and_nothing_is_stuck(self) -> None:
        self.note_completions()
        rows = self.rows()
        claimed = Counter(row.ring_id for row in rows if row.state in RingAccount.CLAIMED)
        assert all(number == 1 for number in claimed.values()), f"two owners: {claimed}"
        for row in rows:
            if row.linked_at is not None:
                assert self.owners.setdefault(row.pk, row.user_id or 0) == row.user_id, (
                    "an account changed hands"
                )
            self.assert_goes_on(row)
        stored = self.stored_tokens()
        assert all(number == 1 for number in stored.values()), "a token is stored twice"
        for key, pair in self.expected.items():
            if self.ring.lives(pair.refresh_token):
                found = self.row_of(key)
                assert stored[pair.refresh_token] == 1, f"a token was lost: {pair} {found!r}"

    @staticmethod
    def assert_goes_on(row: RingAccount) -> None:
        """Each row is done, or somebody goes on with it, or its person has a step to take."""
        has_tokens = row.access_token != ""
        if row.state in linking.LINKING:
            assert row.next_attempt_at is not None, f"nobody goes on with {row!r}"
            assert has_tokens
        elif row.state in (State.UNCLAIMED, State.LINKED):
            assert has_tokens, f"{row!r} has no tokens and says nothing of it"
        else:
            assert (row.access_token, row.refresh_token, row.claim_nonce) == ("", "", "")
            assert row.ring_id != "", "a row nobody can ever come back to"

    def end(self) -> None:
        """Ring gets well. Whatever was begun ends, and every next step a person is told works."""
        self.ring.faults.clear()
        self.ring.meanwhile.clear()
        self.life.left = None
        self.settle()
        self.nobody_loses_and_nothing_is_stuck()
        for row in self.rows():
            assert row.state not in linking.LINKING, f"{row!r} is still {row.state}: {row.last_error}"
        for key in self.keys:
            held = self.row_of(key)
            if held is not None and held.state == State.LINKED and key in self.expected:
                found = self.ring.integrations[key]
                assert found.status == "completed", f"linked here, {found.status} at Ring"
                assert held.user is not None
                assert found.identifier == linking.masked(held.user.email)
        for key in self.keys:
            if key in self.ring.integrations and self.ring.integrations[key].status != "completed":
                self.follow_the_next_step(key)

    def settle(self) -> None:
        for _ in range(8):
            self.pass_time(timedelta(minutes=12))
            with self.process():
                self.run_due_tasks()

    def follow_the_next_step(self, key: Key) -> None:
        """The Ring app shows Sign In: the person taps it, and does what the page says until it is linked."""
        row = self.row_of(key)
        who = self.people.index(row.user) if row is not None and row.user is not None else 0
        for _ in range(3):
            with self.process():
                answer = self.arrive_and_confirm(key, who)
            if answer.status_code == 302:
                self.settle()
                row = self.row_of(key)
                if row is not None and row.state == State.LINKED:
                    return
                page = self.visit(who, "get", answer.headers["Location"]).content.decode()
            else:
                page = answer.content.decode()
            reason = next(reason for reason, text in TEXTS.items() if f"<h1>{text.title}</h1>" in page)
            if reason == Refusal.ELSEWHERE:
                assert RingAccount.objects.filter(ring_id=key[1], state__in=RingAccount.CLAIMED).exists()
                return
            assert reason in (Refusal.LINK_AGAIN, Refusal.NO_MATCH, Refusal.RING_REFUSED), reason
            # "Remove this company and add it again."
            self.pass_time(timedelta(minutes=1))
            self.ring.remove(key)
            self.expected.pop(key, None)
            self.webhooks.append((key, "app_integration_removed", self.clock))
            self.pass_time(timedelta(minutes=1))
            code = self.ring.install(key)
            with self.process():
                self.post_code(key, code)
        raise AssertionError(f"Following what the pages say never ends: {self.row_of(key)!r}")


def make_up(seed: int) -> tuple[Habits, list[Step]]:
    """The story of this number, the same every time."""
    random = Random(seed)
    habits = Habits(
        repeated_post=random.choice(["same", "invalid"]),
        repeated_patch=random.choice(["same", "invalid"]),
        bad_token_at_me=random.choice([401, 403]),
        old_refresh_token=random.choice(["dead", "dead", "grace"]),
    )
    names = list(_steps)
    chosen = random.choices(names, [_steps[name][0] for name in names], k=STEPS)
    steps = [
        (name, {argument: random.choice(options) for argument, options in _steps[name][1].items()})
        for name in chosen
    ]
    return habits, [("install", {"which": 0, "copies": 1}), *steps]


def play(story: type[Story], habits: Habits, steps: list[Step]) -> Exception | None:
    """Give what is wrong in the story, None when all is well."""
    try:
        told = story(habits)
        for name, arguments in steps:
            getattr(told, name)(**arguments)
            told.nobody_loses_and_nothing_is_stuck()
        told.end()
    except Exception as error:  # whatever it is, it is what this test looks for
        return error
    return None


def shorten(story: type[Story], habits: Habits, steps: list[Step]) -> list[Step]:
    """Leave out what is not needed for the story to go wrong."""
    size = len(steps)
    while size:
        size //= 2
        at = 0
        while size and at < len(steps):
            fewer = steps[:at] + steps[at + size :]
            if play(story, habits, fewer) is not None:
                steps = fewer
            else:
                at += size
    return steps


@pytest.fixture
def story(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Story]]:
    """Stories with their Ring, a clock that is everybody's clock, and processes that can be killed."""

    class OurStory(Story):
        clock = BEGIN
        life = Life()
        ring = TruthfulRing(clock=lambda: OurStory.clock)

    whole_request = OneHopSession.request

    def request(session: OneHopSession, *args: Any, **kwargs: Any) -> Any:
        # Only the process that was chosen dies: whatever runs meanwhile is another one, in another thread.
        is_chosen = OurStory.life.execute in connection.execute_wrappers
        if is_chosen:
            OurStory.life.step()
        answer = whole_request(session, *args, **kwargs)
        if is_chosen:
            OurStory.life.step()
        return answer

    monkeypatch.setattr(OneHopSession, "request", request)
    monkeypatch.setattr("django.utils.timezone.now", lambda: OurStory.clock)
    monkeypatch.setattr("accounts.tokens.WAIT_FOR_WINNER_S", 0.0)
    monkeypatch.setattr("accounts.tokens._LOOK_AGAIN_S", 0.001)
    monkeypatch.setattr("accounts.linking.REASONS_A_MINUTE", 10**6)
    monkeypatch.setattr("accounts.link_pages.RECORDED_OF_ONE", 10**6)
    monkeypatch.setattr("accounts.link_pages.RECORDED", 10**6)
    monkeypatch.setattr("accounts.ring_views.CODES_A_MINUTE", 10**6)
    logging.disable(logging.ERROR)
    with serve(OurStory.ring):
        settings.RING_API_URL = OurStory.ring.url
        settings.RING_TOKEN_URL = f"{OurStory.ring.url}/oauth/token"
        settings.DEBUG = True  # plain http to loopback is for development only
        yield OurStory
    logging.disable(logging.NOTSET)


@pytest.mark.django_db(transaction=True)
def test_no_story_of_linking_loses_a_customer(story: type[Story]) -> None:
    reached: Counter[str] = Counter()
    for seed in range(SEED, SEED + STORIES):
        habits, steps = make_up(seed)
        error = play(story, habits, steps)
        if error is not None:
            steps = shorten(story, habits, steps)
            lines = "\n".join(f"  {name}({arguments})" for name, arguments in steps)
            raise AssertionError(f"Story {seed}, {habits}:\n{lines}") from (
                play(story, habits, steps) or error
            )
        reached.update(AuditEntry.objects.values_list("action", flat=True))
    # Stories in which nothing happens prove nothing.
    assert {
        "link.claimed",
        "link.confirmed",
        "link.linked",
        "link.unlinked",
        "link.relink_required",
        "link.refused",
    } <= reached.keys()
