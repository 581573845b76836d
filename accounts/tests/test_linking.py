"""From the claim to a linked account, with every way Ring can answer (contract 2.7 to 2.9, features A3 and A4)."""

from datetime import timedelta

from django.db import connection
from django.utils import timezone

import pytest

from accounts import linking as steps
from accounts import unlinking
from accounts.models import AuditEntry, Membership, RingAccount, Role
from accounts.refusals import LinkRefused, Refusal
from accounts.signals import ring_account_claimed, ring_account_linked, ring_account_unlinked
from accounts.tests.conftest import Linking, make_query
from accounts.tests.scripted_ring import LOST, error
from accounts.tokens import fresh_access_token, impatient, ring_config
from ring.errors import RingUnavailable
from tests.support.cast import make_tenant, make_user

State = RingAccount.State
POST, PATCH = "POST app-integrations", "PATCH app-integrations"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def heard():
    """The names of our signals in the order they were sent."""
    names: list[str] = []
    signals = {
        "claimed": ring_account_claimed,
        "linked": ring_account_linked,
        "unlinked": ring_account_unlinked,
    }
    receivers = []
    for name, signal in signals.items():

        def receive(sender, account, name=name, **_):
            names.append(name)

        signal.connect(receive)
        receivers.append((signal, receive))
    yield names
    for signal, receive in receivers:
        signal.disconnect(receive)


def claim(linking: Linking, user, query=None) -> RingAccount:
    query = query or make_query(linking.tenant, linking.ring.account_id)
    return steps.claim(tenant=linking.tenant, user=user, query=query, now=timezone.now())


def drive(account: RingAccount) -> RingAccount:
    return steps.drive(account, config=impatient(ring_config()))


# --- the whole way ------------------------------------------------------------------------------------------------


def test_a_claim_goes_through_post_and_patch_to_linked(linking: Linking, make_unclaimed, ada, heard):
    received_at = timezone.now() - timedelta(minutes=8)
    make_unclaimed(received_at=received_at)
    query = make_query(linking.tenant, linking.ring.account_id)
    account = drive(claim(linking, ada, query))

    assert account.state == State.LINKED
    assert linking.ring.seen == [
        (POST, {"nonce": query.nonce, "account_identifier": "a***a@customer.example"}),
        (PATCH, {"status": "completed"}),
    ]
    account = linking.account
    assert account.user == ada
    assert account.linked_at is not None
    assert account.consent_at == received_at  # the person consents before Ring sends the code
    assert (account.claim_nonce, account.email, account.next_attempt_at) == ("", "", None)
    assert Membership.objects.get().role == Role.CUSTOMER
    assert heard == ["claimed", "linked"]
    assert list(AuditEntry.objects.order_by("pk").values_list("action", flat=True)) == [
        "link.claimed",
        "link.confirmed",
        "link.linked",
    ]


def test_an_operator_who_links_stays_an_operator(linking: Linking, make_unclaimed, ada):
    Membership.objects.create(tenant=linking.tenant, user=ada, role=Role.OPERATOR)
    make_unclaimed()
    drive(claim(linking, ada))
    assert Membership.objects.get().role == Role.OPERATOR


def test_an_access_token_that_ended_is_refreshed_before_the_post(linking: Linking, make_unclaimed, ada):
    past = timezone.now() - timedelta(hours=5)
    make_unclaimed(tokens_obtained_at=past, access_expires_at=past + timedelta(hours=4))

    assert drive(claim(linking, ada)).state == State.LINKED
    assert linking.ring.calls == ["refresh", POST, PATCH]
    assert set(linking.ring.bearers) == {"canary-access-1"}


# --- who may claim ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "reason"),
    [
        (timedelta(seconds=601), Refusal.STALE),
        (timedelta(seconds=-8), Refusal.FUTURE),
    ],
)
def test_the_age_is_checked_again_at_the_moment_of_claiming(linking, make_unclaimed, ada, age, reason):
    make_unclaimed()
    query = make_query(linking.tenant, linking.ring.account_id, at=timezone.now() - age)
    with pytest.raises(LinkRefused) as refused:
        claim(linking, ada, query)
    assert refused.value.reason == reason
    assert linking.account.state == State.UNCLAIMED


@pytest.mark.parametrize("age", [timedelta(seconds=590), timedelta(seconds=-3)])
def test_within_the_window_a_claim_is_good(linking, make_unclaimed, ada, age):
    make_unclaimed()
    query = make_query(linking.tenant, linking.ring.account_id, at=timezone.now() - age)
    assert claim(linking, ada, query).state == State.CLAIMING


def test_a_nonce_of_another_account_key_or_tenant_matches_nothing(linking, make_unclaimed, ada):
    make_unclaimed()
    make_tenant("birch")
    for query in (
        make_query(linking.tenant, "ava1.ring.account.BEN1"),
        make_query(linking.tenant, linking.ring.account_id, key="another-key"),
        make_query(linking.tenant, linking.ring.account_id, key="birch-key"),
    ):
        with pytest.raises(LinkRefused, match=Refusal.NO_MATCH):
            claim(linking, ada, query)


def test_the_previous_signing_key_still_counts_while_keys_rotate(linking, make_unclaimed, ada):
    app = linking.tenant.ring_app
    app.previous_signing_key, app.signing_key = app.signing_key, "new-key"
    app.save()
    make_unclaimed()
    assert (
        claim(linking, ada, make_query(linking.tenant, linking.ring.account_id, key="acme-key")).user == ada
    )


def test_a_used_nonce_matches_nothing_for_anybody_else(linking, make_unclaimed, ada):
    make_unclaimed()
    query = make_query(linking.tenant, linking.ring.account_id)
    drive(claim(linking, ada, query))
    with pytest.raises(LinkRefused, match=Refusal.SOMEONE_ELSE):
        claim(linking, make_user("eve@elsewhere.example"), query)
    assert linking.account.user == ada
    assert steps.find_own_claim(tenant=linking.tenant, user=ada, query=query) == linking.account


def test_an_account_with_a_history_goes_to_nobody_but_its_person(linking, make_unclaimed, ada):
    make_unclaimed(user=ada, linked_at=timezone.now())
    with pytest.raises(LinkRefused, match=Refusal.SOMEONE_ELSE):
        claim(linking, make_user("eve@elsewhere.example"))
    assert claim(linking, ada).user == ada


def test_an_account_claimed_at_another_tenant_is_refused_without_saying_where(linking, make_unclaimed, ada):
    birch = make_tenant("birch")
    now = timezone.now()
    make_unclaimed(tenant=birch, state=State.LINKED, user=make_user("eve@elsewhere.example"), linked_at=now)
    mine = make_unclaimed()
    with pytest.raises(LinkRefused, match=Refusal.ELSEWHERE):
        claim(linking, ada)
    mine.refresh_from_db()
    assert (mine.state, mine.user) == (State.UNCLAIMED, None)
    assert not Membership.objects.exists(), "nothing half done"


def test_tokens_that_wait_for_users_me_are_told_apart_from_no_match(linking, ada):
    linking.ring.script["me"] = [(500, {})]
    linking.send_code()
    with pytest.raises(LinkRefused, match=Refusal.NOT_YET):
        claim(linking, ada)


# --- a process dies between any two calls --------------------------------------------------------------------------


def test_a_crash_before_the_post_is_taken_up_by_the_sweep(linking, make_unclaimed, ada, make_due, run_tasks):
    make_unclaimed()
    account = claim(linking, ada)  # and no more: the process is gone

    make_due(account)
    run_tasks()
    assert linking.account.state == State.LINKED
    assert linking.ring.calls == [POST, PATCH]


def test_a_crash_between_post_and_patch_is_taken_up_by_the_sweep(
    linking, make_unclaimed, ada, make_due, run_tasks
):
    make_unclaimed()
    account = steps.confirm(claim(linking, ada), config=ring_config())
    assert account.state == State.AWAITING

    make_due(account)
    run_tasks()
    assert linking.account.state == State.LINKED
    assert linking.ring.calls == [POST, PATCH]


def test_a_crash_after_the_post_but_before_we_wrote_it_down_ends_linked(
    linking, make_unclaimed, ada, make_due, run_tasks
):
    make_unclaimed()
    account = claim(linking, ada)
    # The POST arrived, the process died; when we ask again Ring has used the nonce up.
    linking.ring.script[POST] = [error(400, "Invalid Nonce")]

    make_due(account)
    run_tasks()
    assert linking.account.state == State.LINKED
    assert linking.ring.calls == [POST, PATCH]


def test_a_crash_after_the_patch_but_before_we_wrote_it_down_ends_linked(
    linking, make_unclaimed, ada, make_due, run_tasks
):
    make_unclaimed()
    account = steps.confirm(claim(linking, ada), config=ring_config())
    linking.ring.script[PATCH] = [error(400, "Invalid Status Transition")]

    make_due(account)
    run_tasks()
    assert linking.account.state == State.LINKED


def test_a_living_process_is_not_disturbed_by_the_sweep(linking, make_unclaimed, ada, run_tasks):
    from accounts.tasks import sweep_linking

    make_unclaimed()
    claim(linking, ada)
    sweep_linking.func()
    run_tasks()
    assert linking.account.state == State.CLAIMING
    assert not linking.ring.seen


# --- Ring does not answer, or says no ------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [POST, PATCH])
@pytest.mark.parametrize("trouble", [(500, {}), (LOST, None), (429, {}), (503, {})])
def test_trouble_at_ring_is_retried_until_it_succeeds(
    linking, make_unclaimed, ada, make_due, run_tasks, call, trouble
):
    make_unclaimed()
    linking.ring.script[call] = [trouble] * 3
    account = claim(linking, ada)
    for _ in range(4):
        make_due(account)
        run_tasks()
    assert linking.account.state == State.LINKED
    assert linking.ring.counts[call] == 4
    nonces = {body["nonce"] for seen, body in linking.ring.seen if seen == POST}
    assert len(nonces) == 1, "an ambiguous POST is repeated with the same nonce"


def test_the_retry_waits_as_long_as_it_says(linking, make_unclaimed, ada, make_due, run_tasks):
    make_unclaimed()
    linking.ring.script[POST] = [(500, {})]
    make_due(claim(linking, ada))
    run_tasks()
    account = linking.account
    assert account.last_error == "RingUnavailable"
    assert account.next_attempt_at > timezone.now()
    run_tasks()
    assert linking.ring.counts[POST] == 1


def test_a_nonce_that_ran_out_while_ring_was_down_is_not_sent_again(
    linking, make_unclaimed, ada, make_due, run_tasks
):
    make_unclaimed()
    account = claim(linking, ada)
    RingAccount.objects.update(claimed_at=timezone.now() - timedelta(minutes=11))
    make_due(account)
    run_tasks()
    assert linking.ring.calls == [PATCH], "the PATCH tells whether the POST had arrived"
    assert linking.account.state == State.LINKED


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (error(404, "Not Found"), Refusal.NOT_INSTALLED),
        (error(400, "Invalid Nonce"), Refusal.RING_NONCE),
        (error(403, "Forbidden"), Refusal.RING_REFUSED),
        (error(400, "Missing Required Fields"), Refusal.RING_REFUSED),
    ],
)
def test_a_final_no_to_the_post_gives_the_row_back_whole(linking, make_unclaimed, ada, answer, reason, heard):
    before = make_unclaimed()
    linking.ring.script[POST] = [answer]
    with pytest.raises(LinkRefused) as refused:
        drive(claim(linking, ada))

    assert refused.value.reason == reason
    account = linking.account
    assert (account.state, account.user, account.claim_nonce) == (State.UNCLAIMED, None, "")
    assert account.next_attempt_at is None
    assert account.last_error == reason
    assert account.access_token == before.access_token
    assert "linked" not in heard
    entry = AuditEntry.objects.filter(action="link.refused").get()
    assert (entry.actor, entry.detail["reason"]) == (ada, reason)

    assert drive(claim(linking, ada)).state == State.LINKED, "Sign In again works"


def test_a_final_no_to_the_patch_gives_the_row_back_too(linking, make_unclaimed, ada):
    make_unclaimed()
    linking.ring.script[PATCH] = [error(404, "Not Found")]
    with pytest.raises(LinkRefused, match=Refusal.NOT_INSTALLED):
        drive(claim(linking, ada))
    assert linking.account.state == State.UNCLAIMED


def test_a_dead_token_is_tried_with_one_refresh_and_then_asks_to_link_again(linking, make_unclaimed, ada):
    make_unclaimed()
    linking.ring.script[POST] = [error(401, "Invalid Client")]
    linking.ring.script["refresh"] = [(400, {"error": "invalid_grant"})]
    with pytest.raises(LinkRefused, match=Refusal.LINK_AGAIN):
        drive(claim(linking, ada))
    account = linking.account
    assert account.state == State.RELINK_REQUIRED
    assert (account.access_token, account.refresh_token) == ("", "")


def test_wrong_credentials_of_the_tenant_cost_nobody_their_link(linking, make_unclaimed, ada):
    past = timezone.now() - timedelta(hours=5)
    make_unclaimed(tokens_obtained_at=past, access_expires_at=past + timedelta(hours=4))
    linking.ring.script["refresh"] = [(401, {"error": "invalid_client"})]
    from ring.errors import ClientRejected

    with pytest.raises(ClientRejected):
        drive(claim(linking, ada))
    assert linking.account.state == State.CLAIMING


def test_a_new_code_in_the_middle_of_a_claim_wins(linking, make_unclaimed, ada):
    make_unclaimed()
    account = claim(linking, ada)

    def new_code(call: str) -> None:
        if call == POST and linking.ring.counts["code"] == 0:
            assert linking.send_code() == 200

    linking.ring.before = new_code
    row = drive(account)
    assert row.state == State.UNCLAIMED, "our answer was about tokens that are gone"
    assert PATCH not in linking.ring.counts
    assert linking.account.access_token == "canary-access-1"


def test_ring_saying_that_the_link_is_complete_helps_an_unfinished_patch_only(
    linking, make_unclaimed, ada, heard
):
    make_unclaimed()
    account = claim(linking, ada)
    steps.confirm_link_from_ring(account, timezone.now())
    assert linking.account.state == State.CLAIMING

    account = steps.confirm(account, config=ring_config())
    steps.confirm_link_from_ring(account, timezone.now())
    assert linking.account.state == State.LINKED
    assert heard == ["claimed", "linked"]

    unlinking.unlink_account(account=account, now=timezone.now(), reason="removed_in_ring")
    steps.confirm_link_from_ring(account, timezone.now())
    assert linking.account.state == State.UNLINKED


# --- the end -------------------------------------------------------------------------------------------------------


def test_unlinking_destroys_the_tokens_keeps_the_row_and_may_run_twice(linking, make_unclaimed, ada, heard):
    make_unclaimed()
    account = drive(claim(linking, ada))
    for _ in range(2):
        unlinking.unlink_account(account=account, now=timezone.now(), reason="removed_in_ring")
    assert (account.state, account.user) == (State.UNLINKED, ada)
    assert (account.access_token, account.refresh_token, account.tokens_obtained_at) == ("", "", None)
    assert heard == ["claimed", "linked", "unlinked"]
    assert AuditEntry.objects.filter(action="link.unlinked").count() == 1


def test_a_late_removal_of_an_earlier_link_does_not_end_the_new_one(linking, make_unclaimed, ada):
    make_unclaimed()
    account = drive(claim(linking, ada))
    earlier = account.received_at - timedelta(minutes=20)
    unlinking.unlink_account(
        account=account, now=timezone.now(), reason="removed_in_ring", happened_at=earlier
    )
    assert account.state == State.LINKED


def test_a_removal_that_comes_after_the_person_linked_again_leaves_the_new_link(linking, make_unclaimed, ada):
    """The whole way round: linked, removed in Ring, linked anew by a new code; then the removal is delivered again."""
    make_unclaimed(received_at=timezone.now() - timedelta(days=1))
    drive(claim(linking, ada))
    removed_at = timezone.now()

    def hear_of_the_removal() -> None:
        unlinking.unlink_account(
            account=linking.account, now=timezone.now(), reason="removed_in_ring", happened_at=removed_at
        )

    hear_of_the_removal()
    assert linking.account.state == State.UNLINKED

    assert linking.send_code("canary-code-2") == 200
    assert drive(claim(linking, ada)).state == State.LINKED
    hear_of_the_removal()

    assert (linking.account.state, linking.account.access_token) == (State.LINKED, "canary-access-1")


@pytest.mark.parametrize("answer", [(200, {"status": "awaiting"}), (500, {}), (404, {})])
def test_disconnecting_tells_ring_and_ends_even_when_ring_does_not_answer(
    linking, make_unclaimed, ada, answer
):
    make_unclaimed()
    account = drive(claim(linking, ada))
    linking.ring.script[PATCH] = [answer]
    unlinking.disconnect(account=account, actor=ada, now=timezone.now())
    assert linking.account.state == State.UNLINKED
    assert linking.ring.seen[-1] == (PATCH, {"status": "awaiting"})


def test_deleting_a_person_destroys_the_tokens_of_their_links(linking, make_unclaimed, ada, heard):
    make_unclaimed()
    drive(claim(linking, ada))
    ada.delete()
    account = linking.account
    assert (account.state, account.user, account.access_token) == (State.UNLINKED, None, "")
    assert heard[-1] == "unlinked"


def test_what_nobody_claims_is_forgotten_after_thirty_days(linking, make_unclaimed, ada):
    from accounts.tasks import sweep_unclaimed

    old = timezone.now() - timedelta(days=31)
    forgotten = make_unclaimed("ava1.ring.account.OLD", received_at=old)
    young = make_unclaimed("ava1.ring.account.YOUNG", received_at=old + timedelta(days=2))
    linked = make_unclaimed("ava1.ring.account.LINKED", received_at=old, state=State.LINKED, user=ada)
    make_unclaimed("", state=State.RECEIVED, received_at=old)
    sweep_unclaimed.func()
    states = dict(RingAccount.objects.values_list("pk", "state"))
    assert states == {forgotten.pk: State.UNLINKED, young.pk: State.UNCLAIMED, linked.pk: State.LINKED}
    forgotten.refresh_from_db()
    assert (forgotten.access_token, forgotten.refresh_token, forgotten.email) == ("", "", "")


def test_nothing_is_lost_when_ring_is_not_there_at_all(linking, make_unclaimed, ada, settings):
    make_unclaimed()
    settings.RING_API_URL = "http://127.0.0.1:9"
    account = claim(linking, ada)
    with pytest.raises(RingUnavailable):
        drive(account)
    assert linking.account.state == State.CLAIMING


@pytest.mark.parametrize(
    ("email", "shown"),
    [
        ("ada@example.com", "a***a@example.com"),
        ("a@example.com", "a***@example.com"),
        ("ab@example.com", "a***@example.com"),
        ("élodie@exämple.com", "****e@xn--exmple-cua.com"),
        (f"ada@{'x' * 60}.{'y' * 60}.example", f"a***a@***{'y' * 47}.example"),
        ("ada@bad..example", "a***a@***"),
    ],
)
def test_ring_is_shown_a_masked_ascii_address_of_at_most_64_characters(email, shown):
    identifier = steps.masked(email)
    assert identifier == shown
    assert len(identifier) <= 64
    assert identifier.isascii()


# --- Sign In tapped again, answers lost twice, news of an earlier link -----------------------------------------------


def test_signing_in_again_while_the_post_is_open_gives_it_the_younger_nonce(
    linking, make_unclaimed, ada, make_due, run_tasks
):
    make_unclaimed()
    old = make_query(linking.tenant, linking.ring.account_id, at=timezone.now() - timedelta(minutes=5))
    account = claim(linking, ada, old)
    linking.ring.script[POST] = [(500, {})]
    make_due(account)
    run_tasks()

    young = make_query(linking.tenant, linking.ring.account_id)
    for _ in range(2):
        steps.renew_claim(account=linking.account, query=young, now=timezone.now())
    make_due(linking.account)
    run_tasks()
    assert [body["nonce"] for call, body in linking.ring.seen if call == POST] == [old.nonce, young.nonce]
    assert linking.account.state == State.LINKED
    assert AuditEntry.objects.filter(action="link.claim_renewed").count() == 1
    steps.renew_claim(account=linking.account, query=old, now=timezone.now())
    assert linking.account.state == State.LINKED
    assert linking.account.claim_nonce == ""


INVALID_TRANSITION = error(400, "Invalid Status Transition")


def test_a_link_completed_at_ring_whose_answers_were_all_lost_is_found_complete(
    linking, make_unclaimed, ada, make_due, run_tasks
):
    make_unclaimed()
    account = claim(linking, ada)
    linking.ring.script[POST] = [(LOST, None), error(400, "Invalid Nonce")]
    linking.ring.script[PATCH] = [INVALID_TRANSITION]  # then `awaiting` is taken: it was completed
    for _ in range(2):
        make_due(account)
        run_tasks()
    assert linking.account.state == State.LINKED
    assert [body["status"] for call, body in linking.ring.seen if call == PATCH] == [
        "completed",
        "awaiting",
        "completed",
    ]


def test_a_post_that_never_arrived_asks_for_sign_in_again_not_for_a_new_installation(
    linking, make_unclaimed, ada, make_due, run_tasks
):
    make_unclaimed()
    account = claim(linking, ada)
    RingAccount.objects.update(claimed_at=timezone.now() - timedelta(minutes=11))
    linking.ring.script[PATCH] = [INVALID_TRANSITION] * 2
    make_due(account)
    run_tasks()
    assert (linking.account.state, linking.account.last_error) == (State.UNCLAIMED, Refusal.RING_NONCE)


def test_a_no_to_one_process_does_not_undo_what_another_did_meanwhile(linking, make_unclaimed, ada):
    make_unclaimed()
    account = claim(linking, ada)

    def the_other_is_faster(call: str) -> None:
        if call == POST:
            linking.ring.before = None
            RingAccount.objects.update(attempts=2)
            steps.confirm(linking.account, config=ring_config())
            linking.ring.script[POST] = [error(400, "Invalid Nonce")]
            connection.close()

    linking.ring.before = the_other_is_faster
    assert drive(account).state == State.AWAITING, "the other one goes on"
    assert linking.account.user == ada


def test_news_of_an_earlier_links_completion_does_not_complete_this_one(linking, make_unclaimed, ada):
    make_unclaimed()
    account = steps.confirm(claim(linking, ada), config=ring_config())
    claimed_at = account.claimed_at
    assert claimed_at is not None
    steps.confirm_link_from_ring(account, timezone.now(), happened_at=claimed_at - timedelta(seconds=1))
    assert linking.account.state == State.AWAITING
    steps.confirm_link_from_ring(account, timezone.now(), happened_at=claimed_at + timedelta(seconds=1))
    assert linking.account.state == State.LINKED


def test_a_later_code_wins_although_the_earlier_links_tokens_were_refreshed_since(
    linking, make_unclaimed, ada, make_due, run_tasks
):
    make_unclaimed(received_at=timezone.now() - timedelta(days=3))
    drive(claim(linking, ada))
    linking.ring.script["me"] = [(500, {})]
    assert linking.send_code() == 200
    fresh_access_token(linking.account, force=True)  # the earlier link's, after the new code's were stored
    received = RingAccount.objects.get(state=State.RECEIVED)
    make_due(received)
    run_tasks()
    row = RingAccount.objects.get()
    assert (row.state, row.user, row.refresh_token) == (State.UNCLAIMED, ada, "canary-refresh-1")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"state": State.LINKED}, Refusal.ALREADY_LINKED),
        ({"state": State.UNLINKED, "access_token": "", "refresh_token": ""}, Refusal.LINK_AGAIN),
        ({"state": State.RELINK_REQUIRED, "access_token": "", "refresh_token": ""}, Refusal.LINK_AGAIN),
    ],
)
def test_whoever_brings_an_accounts_nonce_learns_how_it_stands_here(
    linking, make_unclaimed, ada, fields, reason
):
    make_unclaimed(user=ada, linked_at=timezone.now(), **fields)
    with pytest.raises(LinkRefused, match=f"^{reason}$"):
        claim(linking, ada)


def test_reasons_are_not_told_without_end(linking, make_unclaimed, ada, monkeypatch):
    monkeypatch.setattr("accounts.linking.REASONS_A_MINUTE", 2)
    make_unclaimed(user=ada, linked_at=timezone.now(), state=State.LINKED)
    told = []
    for _ in range(3):
        with pytest.raises(LinkRefused) as refused:
            claim(linking, ada)
        told.append(refused.value.reason)
    assert told == [Refusal.ALREADY_LINKED, Refusal.ALREADY_LINKED, Refusal.NO_MATCH]
