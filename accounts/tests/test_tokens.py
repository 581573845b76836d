"""Tokens stay fresh, and Ring sees each refresh token once (contract 4, feature A6)."""

from datetime import timedelta

from django.db import connection
from django.utils import timezone

import pytest

from accounts.models import AuditEntry, RingAccount
from accounts.services import NotLinked, client_for, find_ring_account
from accounts.tasks import sweep_refresh
from accounts.tests.threads import in_threads
from accounts.tokens import fresh_access_token
from accounts.unlinking import unlink_account
from ring.errors import ClientRejected, RingError, RingUnavailable

State = RingAccount.State

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def linked(make_unclaimed, ada):
    def make(*, age=timedelta(0), **fields):
        obtained = timezone.now() - age
        return make_unclaimed(
            state=State.LINKED,
            user=ada,
            linked_at=obtained,
            tokens_obtained_at=obtained,
            access_expires_at=obtained + timedelta(hours=4),
            **fields,
        )

    return make


def test_a_good_token_is_given_without_asking_ring(ring, linked):
    account = linked()
    assert fresh_access_token(account) == f"canary-access-{account.ring_id}"
    assert not ring.seen


def test_a_token_is_renewed_five_minutes_before_its_end_and_stored_before_it_is_used(ring, linked):
    account = linked(age=timedelta(hours=3, minutes=56))
    old = account.refresh_token

    assert fresh_access_token(account) == "canary-access-1"
    assert ring.seen[0][1]["refresh_token"] == old
    stored = RingAccount.objects.get()
    assert (stored.access_token, stored.refresh_token) == ("canary-access-1", "canary-refresh-1")
    assert stored.refreshing_until is None


def test_a_short_lived_token_is_not_renewed_at_every_call(ring, linked):
    obtained = timezone.now()
    account = linked()
    RingAccount.objects.update(
        tokens_obtained_at=obtained, access_expires_at=obtained + timedelta(seconds=60)
    )
    fresh_access_token(account)
    assert not ring.seen


def test_twenty_callers_at_once_make_one_refresh(ring, linked):
    account = linked(age=timedelta(hours=5))

    results = in_threads(20, lambda: fresh_access_token(RingAccount.objects.get(pk=account.pk)))
    assert set(results) == {"canary-access-1"}
    assert ring.counts["refresh"] == 1


def test_twenty_callers_whose_token_was_refused_make_one_refresh(ring, linked):
    linked()
    accounts = [RingAccount.objects.get() for _ in range(20)]

    results = in_threads(20, lambda: fresh_access_token(accounts.pop(), force=True))
    assert set(results) == {"canary-access-1"}
    assert ring.counts["refresh"] == 1


def test_a_lease_left_by_a_dead_process_lapses(ring, linked):
    account = linked(age=timedelta(hours=5), refreshing_until=timezone.now() - timedelta(seconds=1))
    assert fresh_access_token(account) == "canary-access-1"


def test_a_token_that_is_still_good_is_used_while_another_process_gets_the_next(ring, linked):
    account = linked(
        age=timedelta(hours=3, minutes=58), refreshing_until=timezone.now() + timedelta(seconds=30)
    )
    assert fresh_access_token(account) == f"canary-access-{account.ring_id}"
    assert not ring.seen


def test_who_waits_too_long_for_another_process_may_try_later(ring, linked, monkeypatch):
    monkeypatch.setattr("accounts.tokens.WAIT_FOR_WINNER_S", 0.0)
    monkeypatch.setattr("accounts.tokens._LOOK_AGAIN_S", 0.01)
    account = linked(age=timedelta(hours=5), refreshing_until=timezone.now() + timedelta(seconds=30))
    with pytest.raises(RingUnavailable):
        fresh_access_token(account)


def test_a_refused_refresh_token_means_link_again(ring, linked):
    account = linked(age=timedelta(hours=5))
    ring.script["refresh"] = [(400, {"error": "invalid_grant"})]
    with pytest.raises(NotLinked):
        fresh_access_token(account)
    stored = RingAccount.objects.get()
    assert (stored.state, stored.access_token, stored.refresh_token) == (State.RELINK_REQUIRED, "", "")
    with pytest.raises(NotLinked):
        client_for(account)
    assert ring.counts["refresh"] == 1, "Ring is not asked again"


@pytest.mark.parametrize("trouble", [(500, {}), (0, None), (403, "<html>")])
def test_an_uncertain_refresh_is_tried_again_with_the_same_token(ring, linked, trouble):
    account = linked(age=timedelta(hours=5))
    ring.script["refresh"] = [trouble]
    with pytest.raises(RingUnavailable):
        fresh_access_token(account)
    assert RingAccount.objects.get().state == State.LINKED
    assert fresh_access_token(account) == "canary-access-2"
    assert ring.seen[0] == ring.seen[1]


def test_wrong_credentials_are_the_tenants_fault_not_the_persons(ring, linked):
    account = linked(age=timedelta(hours=5))
    ring.script["refresh"] = [(401, {"error": "invalid_client"})]
    with pytest.raises(ClientRejected):
        fresh_access_token(account)
    assert RingAccount.objects.get().state == State.LINKED


def test_tokens_of_a_new_code_win_over_a_refresh_on_its_way(ring, linked):
    account = linked(age=timedelta(hours=5))

    def meanwhile(call: str) -> None:
        row = RingAccount.objects.get()
        row.access_token, row.refresh_token, row.tokens_obtained_at = (
            "newest",
            "newest-refresh",
            timezone.now(),
        )
        row.access_expires_at = timezone.now() + timedelta(hours=4)
        row.save()
        connection.close()

    ring.before = meanwhile
    assert fresh_access_token(account) == "newest"
    assert RingAccount.objects.get().refresh_token == "newest-refresh"


def test_a_client_refreshes_once_after_a_401_and_goes_on(ring, linked):
    account = linked()
    ring.script["me"] = [(401, {})]
    with client_for(account) as client:
        assert client.me().account_id == ring.account_id
    assert ring.calls == ["me", "refresh", "me"]
    assert ring.bearers[-1] == "canary-access-1"


@pytest.mark.parametrize("state", [State.UNCLAIMED, State.CLAIMING, State.UNLINKED, State.RELINK_REQUIRED])
def test_no_client_for_an_account_that_is_not_linked(ring, make_unclaimed, ada, state):
    with pytest.raises(NotLinked):
        client_for(make_unclaimed(state=state, user=ada))


def test_an_account_without_a_refresh_token_lasts_as_long_as_its_access_token(ring, linked):
    account = linked(age=timedelta(hours=3, minutes=58), refresh_token="")
    assert fresh_access_token(account) == f"canary-access-{account.ring_id}"
    RingAccount.objects.update(access_expires_at=timezone.now())
    with pytest.raises(NotLinked):
        fresh_access_token(account)
    assert RingAccount.objects.get().state == State.RELINK_REQUIRED
    assert not ring.seen


def test_every_token_is_refreshed_daily_also_one_that_waits_for_its_person(
    ring, make_unclaimed, ada, run_tasks
):
    old = timezone.now() - timedelta(hours=25)
    make_unclaimed("ava1.old", tokens_obtained_at=old)
    make_unclaimed("ava1.linked", tokens_obtained_at=old, state=State.LINKED, user=ada)
    make_unclaimed("ava1.young")
    make_unclaimed("ava1.gone", tokens_obtained_at=old, state=State.UNLINKED)
    sweep_refresh.func()
    sweep_refresh.func()
    run_tasks()
    assert sorted(body["refresh_token"] for _, body in ring.seen) == [
        "canary-refresh-ava1.linked",
        "canary-refresh-ava1.old",
    ]


def test_an_account_is_found_by_rings_id_within_its_tenant(make_unclaimed, tenant):
    account = make_unclaimed("ava1.a")
    make_unclaimed("", state=State.RECEIVED)
    assert find_ring_account(tenant=tenant, ring_id="ava1.a") == account
    assert find_ring_account(tenant=tenant, ring_id="ava1.b") is None
    assert find_ring_account(tenant=tenant, ring_id="") is None


# --- an answer that never came, a token that is refused (contract 4) ------------------------------------------------


def test_a_refused_refresh_token_leaves_the_access_token_to_its_end(ring, linked):
    account = linked(age=timedelta(hours=3, minutes=58))
    ring.script["refresh"] = [(400, {"error": "invalid_grant"})]
    assert fresh_access_token(account) == f"canary-access-{account.ring_id}"
    assert fresh_access_token(account) == f"canary-access-{account.ring_id}"
    stored = RingAccount.objects.get()
    assert (stored.state, stored.refresh_token) == (State.LINKED, "")
    assert ring.counts["refresh"] == 1, "a dead token is not sent again"
    assert reason_of("link.refresh_refused") == "refused"


def test_an_account_that_lived_on_its_access_token_is_found_when_that_ends(ring, linked, run_tasks):
    linked(age=timedelta(hours=5), refresh_token="")
    sweep_refresh.func()
    run_tasks()
    assert RingAccount.objects.get().state == State.RELINK_REQUIRED
    assert reason_of("link.relink_required") == "no_refresh_token"
    assert not ring.seen


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ((500, {}), "answer_lost"),
        ((0, None), "answer_lost"),
        ((429, {}), "refused"),
        ((403, "<html>"), "refused"),
        ((401, {"error": "invalid_client"}), "refused"),
    ],
)
def test_the_trail_says_whether_an_answer_of_rings_was_lost_before_it_refused(ring, linked, first, reason):
    account = linked(age=timedelta(hours=5))
    ring.script["refresh"] = [first, (400, {"error": "invalid_grant"})]
    with pytest.raises(RingError):
        fresh_access_token(account)
    with pytest.raises(NotLinked):
        fresh_access_token(account)
    assert reason_of("link.relink_required") == reason


def test_a_good_answer_ends_all_doubt(ring, linked):
    account = linked(age=timedelta(hours=5))
    ring.script["refresh"] = [(500, {})]
    with pytest.raises(RingUnavailable):
        fresh_access_token(account)
    assert RingAccount.objects.get().refresh_unanswered_at is not None
    fresh_access_token(account)
    assert RingAccount.objects.get().refresh_unanswered_at is None


@pytest.mark.parametrize(
    ("fields", "state"),
    [({}, State.LINKED), ({"state": State.UNCLAIMED, "linked_at": None}, State.UNCLAIMED)],
)
def test_a_process_that_was_stopped_too_long_still_brings_the_tokens_home(ring, linked, fields, state):
    account = linked(age=timedelta(hours=5))
    RingAccount.objects.update(**fields)

    def another_process_takes_over(call: str) -> None:
        ring.before = None
        RingAccount.objects.update(refreshing_until=timezone.now() - timedelta(seconds=1))
        ring.script["refresh"] = [(400, {"error": "invalid_grant"})]
        with pytest.raises(NotLinked):
            fresh_access_token(RingAccount.objects.get())
        assert RingAccount.objects.get().state == State.RELINK_REQUIRED
        connection.close()

    ring.before = another_process_takes_over
    assert fresh_access_token(account) == "canary-access-2"
    stored = RingAccount.objects.get()
    assert (stored.state, stored.refresh_token) == (state, "canary-refresh-2")
    assert reason_of("link.relink_required") == "answer_lost"


def test_a_late_answer_does_not_bring_an_unlinked_account_back(ring, linked):
    account = linked(age=timedelta(hours=5))

    def meanwhile(call: str) -> None:
        unlink_account(account=RingAccount.objects.get(), now=timezone.now(), reason="disconnected")
        connection.close()

    ring.before = meanwhile
    with pytest.raises(NotLinked):
        fresh_access_token(account)
    stored = RingAccount.objects.get()
    assert (stored.state, stored.access_token, stored.refresh_token) == (State.UNLINKED, "", "")


def reason_of(action: str) -> str:
    return str(AuditEntry.objects.get(action=action).detail["reason"])
