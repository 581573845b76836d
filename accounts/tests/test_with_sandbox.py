"""Linking against the sandbox: a Ring that was written from the contract without a look at our code."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import LazySettings
from django.test import Client

import pytest
from pytest_django.live_server_helper import LiveServer

from accounts.models import AuditEntry, RingAccount, Tenant, User
from accounts.services import client_for, fresh_access_token
from accounts.tests.threads import in_threads
from accounts.tokens import NotLinked
from ring.errors import RingUnauthorized
from tests.support.cast import PASSWORD, make_user
from tests.support.sandbox_process import SandboxProcess, app_for

State = RingAccount.State

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def sandbox_process() -> Iterator[SandboxProcess]:
    with SandboxProcess() as process:
        yield process


@pytest.fixture
def sandbox(
    sandbox_process: SandboxProcess, live_server: LiveServer, tenant: Tenant, settings: LazySettings
) -> SandboxProcess:
    """The sandbox with this test's tenant as its only installed app, calling this test's portal."""
    settings.DEBUG = True  # plain http to loopback is for development only
    settings.RING_API_URL = sandbox_process.url
    settings.RING_TOKEN_URL = f"{sandbox_process.url}/oauth/token"
    sandbox_process.control("POST", "/reset")
    sandbox_process.control("POST", "/apps", app_for(tenant.slug, live_server.url))
    return sandbox_process


def install(sandbox: SandboxProcess, **options: object) -> dict[str, Any]:
    """The person picks the app and the devices in the Ring app."""
    done: dict[str, Any] = sandbox.control("POST", "/link", {"client_id": "acme-client", **options})
    return done


def come_from_ring(client: Client, redirect_url: str) -> None:
    """Follow Ring's redirect to our Account Link URL."""
    parts = urlsplit(redirect_url)
    assert client.get(f"{parts.path}?{parts.query}").status_code in (200, 302)


def status_at_ring(sandbox: SandboxProcess) -> str:
    [integration] = sandbox.control("GET", "/state")["integrations"]
    return str(integration["status"])


# Without a content type: test_token_exchange.py, for the test server puts one in where Ring sends none.
@pytest.mark.parametrize("encoding", ["form", "json"])
def test_install_sign_up_confirm_linked(sandbox: SandboxProcess, client: Client, encoding: str):
    installed = install(sandbox, encoding=encoding, extra_fields=True)
    assert installed["token_exchange_status"] == 200
    assert RingAccount.objects.get().ring_id == installed["account_id"]

    come_from_ring(client, installed["redirect_url"])
    client.post("/accounts/signup/?next=/t/acme/link/", {"email": "ada@new.example", "password1": PASSWORD})
    assert client.post("/t/acme/link/").status_code == 302

    account = RingAccount.objects.get()
    assert account.state == State.LINKED
    assert status_at_ring(sandbox) == "completed"
    [integration] = sandbox.control("GET", "/state")["integrations"]
    assert integration["account_identifier"] == "a***a@new.example"
    with client_for(account) as ring:
        assert len(list(ring.iter_devices())) > 0


def test_a_duplicate_code_burns_nothing(sandbox: SandboxProcess, ada_client: Client):
    come_from_ring(ada_client, install(sandbox, duplicate=True)["redirect_url"])
    ada_client.post("/t/acme/link/")
    assert RingAccount.objects.get().state == State.LINKED


def test_sign_in_again_after_hours_finds_the_same_row_and_refreshes_it(
    sandbox: SandboxProcess, ada_client: Client
):
    install(sandbox)
    sandbox.control("POST", "/tokens", {"client_id": "acme-client", "action": "expire_access"})
    redirect_url = sandbox.control("POST", "/sign-in", {"client_id": "acme-client"})["redirect_url"]
    come_from_ring(ada_client, redirect_url)
    ada_client.post("/t/acme/link/")
    assert RingAccount.objects.get().state == State.LINKED
    assert status_at_ring(sandbox) == "completed"


@pytest.mark.parametrize("route", ["app-integrations.post", "app-integrations.patch"])
@pytest.mark.parametrize("kind", ["status", "html"])
def test_a_failure_at_ring_is_finished_by_a_task(
    sandbox: SandboxProcess, ada_client: Client, make_due, run_tasks, route: str, kind: str
):
    come_from_ring(ada_client, install(sandbox)["redirect_url"])
    sandbox.control("POST", "/faults", {"route": route, "kind": kind, "times": 2})
    ada_client.post("/t/acme/link/")
    assert RingAccount.objects.get().state in (State.CLAIMING, State.AWAITING)

    for _ in range(2):
        make_due(RingAccount.objects.get())
        run_tasks()
    assert RingAccount.objects.get().state == State.LINKED
    assert status_at_ring(sandbox) == "completed"


def test_an_app_that_was_removed_meanwhile_is_refused(sandbox: SandboxProcess, ada_client: Client):
    come_from_ring(ada_client, install(sandbox)["redirect_url"])
    sandbox.control("POST", "/unlink", {"client_id": "acme-client"})
    assert ada_client.post("/t/acme/link/").status_code == 409
    assert RingAccount.objects.get().state in (State.UNCLAIMED, State.RELINK_REQUIRED)


def test_removing_and_adding_the_app_links_the_same_row_again(
    sandbox: SandboxProcess, ada: User, ada_client: Client
):
    come_from_ring(ada_client, install(sandbox)["redirect_url"])
    ada_client.post("/t/acme/link/")
    first = RingAccount.objects.get()
    sandbox.control("POST", "/unlink", {"client_id": "acme-client"})
    with pytest.raises((NotLinked, RingUnauthorized)), client_for(first) as ring:
        ring.me()
    assert RingAccount.objects.get().state == State.RELINK_REQUIRED

    stranger = Client()
    stranger.force_login(make_user("eve@elsewhere.example"))
    redirect_url = install(sandbox)["redirect_url"]
    come_from_ring(stranger, redirect_url)
    assert stranger.post("/t/acme/link/").status_code == 409
    come_from_ring(ada_client, redirect_url)
    ada_client.post("/t/acme/link/")
    again = RingAccount.objects.get()
    assert (again.pk, again.state, again.user) == (first.pk, State.LINKED, ada)


def test_ring_takes_each_refresh_token_once(sandbox: SandboxProcess, ada_client: Client):
    come_from_ring(ada_client, install(sandbox)["redirect_url"])
    ada_client.post("/t/acme/link/")
    account = RingAccount.objects.get()
    seen = {account.access_token}
    for _ in range(3):
        seen.add(fresh_access_token(account, force=True))
    assert len(seen) == 4
    with client_for(account) as ring:
        assert ring.me().account_id == account.ring_id


# --- the ways linking goes in practice (contract 17.3), each as the sandbox plays it ------------------------------------


def play(sandbox: SandboxProcess, name: str, **options: object) -> dict[str, Any]:
    done: dict[str, Any] = sandbox.control(
        "POST", "/scenarios", {"name": name, "client_id": "acme-client", **options}
    )
    return done


def confirm_from(client: Client, redirect_url: str) -> int:
    come_from_ring(client, redirect_url)
    return client.post("/t/acme/link/").status_code


def finish(make_due: Any, run_tasks: Any) -> None:
    """The pauses are over, as often as it takes."""
    for account in RingAccount.objects.exclude(next_attempt_at=None):
        make_due(account)
    run_tasks()


def refreshes_at_ring(sandbox: SandboxProcess) -> list[int]:
    seen = sandbox.control("GET", "/requests")
    return [request["status"] for request in seen if request["path"] == "/oauth/token"]


def test_sign_up_slower_than_ten_minutes_then_sign_in_again(sandbox: SandboxProcess, ada_client: Client):
    played = play(sandbox, "slow-sign-up")
    parts = urlsplit(played["stale_redirect_url"])
    assert ada_client.get(f"{parts.path}?{parts.query}").status_code == 410
    assert confirm_from(ada_client, played["redirect_url"]) == 302
    assert RingAccount.objects.get().state == State.LINKED
    assert status_at_ring(sandbox) == "completed"


@pytest.mark.parametrize(
    "knobs", [{}, {"users_me_403": True, "token_answer": "loose", "oauth_errors": "jsonapi"}]
)
def test_second_sign_in_five_hours_later_refreshes_once(
    sandbox: SandboxProcess, ada_client: Client, knobs: dict[str, object]
):
    sandbox.control("POST", "/knobs", knobs)
    played = play(sandbox, "five-hours-later")
    sandbox.control("DELETE", "/requests")
    assert confirm_from(ada_client, played["redirect_url"]) == 302
    assert RingAccount.objects.get().state == State.LINKED
    assert refreshes_at_ring(sandbox) == [200]


def test_a_code_sent_again_leaves_one_account_with_the_newer_tokens(
    sandbox: SandboxProcess, ada_client: Client
):
    played = play(sandbox, "code-sent-again")
    assert played["token_exchange_status"] == 200
    assert confirm_from(ada_client, played["redirect_url"]) == 302
    assert RingAccount.objects.get().state == State.LINKED
    assert status_at_ring(sandbox) == "completed"


@pytest.mark.parametrize("scenario", ["patch-fails", "answers-lost"])
@pytest.mark.parametrize(
    "knobs", [{}, {"post_repeat": "invalid_nonce", "patch_repeat": "invalid_transition"}]
)
def test_trouble_at_the_last_steps_ends_in_one_completed_link(
    sandbox: SandboxProcess, ada_client: Client, make_due, run_tasks, scenario: str, knobs: dict[str, object]
):
    sandbox.control("POST", "/knobs", knobs)
    played = play(sandbox, scenario)
    assert confirm_from(ada_client, played["redirect_url"]) == 302
    assert RingAccount.objects.get().state in (State.CLAIMING, State.AWAITING)
    for _ in range(4):
        finish(make_due, run_tasks)
    assert RingAccount.objects.get().state == State.LINKED
    assert status_at_ring(sandbox) == "completed"


def test_a_lost_answer_of_users_me_costs_nothing(
    sandbox: SandboxProcess, ada_client: Client, make_due, run_tasks
):
    sandbox.control("POST", "/faults", {"route": "users.me", "kind": "lost"})
    played = play(sandbox, "happy-link")
    assert played["token_exchange_status"] == 200
    assert RingAccount.objects.get().state == State.RECEIVED
    assert confirm_from(ada_client, played["redirect_url"]) == 503, "not yet"
    finish(make_due, run_tasks)
    assert ada_client.post("/t/acme/link/").status_code == 302
    assert RingAccount.objects.get().state == State.LINKED


def test_two_users_link_at_once(sandbox: SandboxProcess, ada: User, ada_client: Client):
    played = play(sandbox, "two-at-once")
    ben, ben_client = make_user("ben@customer.example"), Client()
    ben_client.force_login(ben, backend="django.contrib.auth.backends.ModelBackend")
    come_from_ring(ada_client, played["redirect_url"])
    come_from_ring(ben_client, played["second_redirect_url"])
    for browser in (ben_client, ada_client):
        assert browser.post("/t/acme/link/").status_code == 302
    linked = {row.ring_id: (row.user, row.state) for row in RingAccount.objects.all()}
    first, second = played["account_ids"]
    assert linked == {first: (ada, State.LINKED), second: (ben, State.LINKED)}


@pytest.mark.parametrize("route", ["token"])
def test_wrong_and_old_codes_leave_nothing_behind(sandbox: SandboxProcess, route: str):
    for options in ({"wrong_code": True}, {"code_age_s": 61}):
        assert install(sandbox, **options)["token_exchange_status"] == 400
    sandbox.control("POST", "/faults", {"route": route, "kind": "lost"})
    assert install(sandbox)["token_exchange_status"] == 503
    assert not RingAccount.objects.exists()


def test_a_code_that_comes_after_the_browser_links_all_the_same(sandbox: SandboxProcess, ada_client: Client):
    held = install(sandbox, hold_code=True)
    come_from_ring(ada_client, held["redirect_url"])
    assert ada_client.post("/t/acme/link/").status_code == 409
    form = "application/x-www-form-urlencoded"
    assert Client().post("/ring/acme/token", f"code={held['code']}", content_type=form).status_code == 200
    assert confirm_from(ada_client, held["redirect_url"]) == 302
    assert RingAccount.objects.get().state == State.LINKED


def test_an_account_with_new_ids_after_linking_anew_is_another_account(
    sandbox: SandboxProcess, ada_client: Client
):
    assert confirm_from(ada_client, install(sandbox)["redirect_url"]) == 302
    assert confirm_from(ada_client, install(sandbox, new_ids=True)["redirect_url"]) == 302
    states = sorted(RingAccount.objects.values_list("state", flat=True))
    assert states == [State.LINKED, State.LINKED], (
        "the earlier one ends when Ring refuses its tokens, or says so"
    )
    assert len(set(RingAccount.objects.values_list("ring_id", flat=True))) == 2


def link_ada(sandbox: SandboxProcess, ada_client: Client) -> RingAccount:
    assert confirm_from(ada_client, install(sandbox)["redirect_url"]) == 302
    sandbox.control("DELETE", "/requests")
    return RingAccount.objects.get()


def test_a_race_for_the_next_token_is_one_refresh(sandbox: SandboxProcess, ada_client: Client):
    account = link_ada(sandbox, ada_client)
    play(sandbox, "refresh-race")

    def ask() -> str:
        with client_for(RingAccount.objects.get()) as ring:
            return ring.me().account_id

    assert in_threads(6, ask) == [account.ring_id] * 6
    assert refreshes_at_ring(sandbox) == [200]


@pytest.mark.parametrize("has_grace", [False, True])
def test_a_refresh_whose_answer_is_lost(sandbox: SandboxProcess, ada_client: Client, has_grace: bool):
    account = link_ada(sandbox, ada_client)
    sandbox.control("POST", "/knobs", {"refresh_grace": has_grace})
    play(sandbox, "refresh-answer-lost")
    if has_grace:
        with client_for(account) as ring:  # the read is repeated, and the refresh with it
            assert ring.me().account_id == account.ring_id
    else:
        with pytest.raises(NotLinked), client_for(account) as ring:
            ring.me()
        entry = AuditEntry.objects.get(action="link.relink_required")
        assert entry.detail["reason"] == "answer_lost"
    expected = State.LINKED if has_grace else State.RELINK_REQUIRED
    assert RingAccount.objects.get().state == expected


@pytest.mark.parametrize("order", ["thirty-days", "refuse_refresh"])
def test_a_refresh_token_that_is_refused_is_sent_once(
    sandbox: SandboxProcess, ada_client: Client, order: str
):
    account = link_ada(sandbox, ada_client)
    if order == "thirty-days":
        play(sandbox, order)
    else:
        sandbox.control("POST", "/knobs", {"refuse_refresh": True})
        sandbox.control("POST", "/tokens", {"client_id": "acme-client", "action": "expire_access"})
    for _ in range(2):
        with pytest.raises(NotLinked), client_for(account) as ring:
            ring.me()
    assert RingAccount.objects.get().state == State.RELINK_REQUIRED
    assert refreshes_at_ring(sandbox) == [400]
