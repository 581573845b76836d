"""Two people, or two clicks, at the same moment (feature A3)."""

from collections.abc import Callable

from django.utils import timezone

import pytest

from accounts import erasure
from accounts import linking as steps
from accounts.data_tasks import run_erasure
from accounts.models import AuditEntry, Erasure, Membership, RingAccount, Role
from accounts.refusals import LinkRefused, Refusal
from accounts.tests.conftest import make_query
from accounts.tests.threads import in_threads
from portal.walls import unit_of_work
from tests.support.cast import make_user

pytestmark = pytest.mark.django_db(transaction=True)


def test_of_eight_people_with_one_link_exactly_one_wins(tenant, make_unclaimed):
    account = make_unclaimed()
    people = [make_user(f"person{number}@customer.example") for number in range(8)]
    query = make_query(tenant, account.ring_id)
    now = timezone.now()

    def claim() -> int:
        user = people.pop()
        return steps.claim(tenant=tenant, user=user, query=query, now=now).user_id or 0

    results = in_threads(8, claim)
    winners = [result for result in results if isinstance(result, int)]
    assert len(winners) == 1
    assert all(isinstance(result, LinkRefused) for result in results if result not in winners)
    assert RingAccount.objects.get().user_id == winners[0]
    assert [member.user_id for member in Membership.objects.all()] == winners
    assert AuditEntry.objects.filter(action="link.claimed").count() == 1


def test_people_with_different_links_do_not_stand_in_each_others_way(tenant, make_unclaimed):
    links = [
        (make_user(f"person{number}@customer.example"), make_unclaimed(f"ava1.ring.account.{number}"))
        for number in range(6)
    ]

    def claim() -> bool:
        user, account = links.pop()
        query = make_query(tenant, account.ring_id)
        return steps.claim(tenant=tenant, user=user, query=query, now=timezone.now()).user_id == user.pk

    assert in_threads(6, claim) == [True] * 6


def test_a_claim_and_the_persons_deletion_at_the_same_moment_leave_no_half_of_a_link(
    tenant, ada, make_unclaimed
):
    Membership.objects.create(tenant=tenant, user=ada, role=Role.CUSTOMER)
    account = make_unclaimed(access_token="", refresh_token="")
    query, now = make_query(tenant, account.ring_id), timezone.now()
    to_do: list[Callable[[], object]] = [
        lambda: steps.claim(tenant=tenant, user=ada, query=query, now=now),
        lambda: erasure.erase_person(tenant=tenant, user=ada, now=now),
    ]

    results = in_threads(2, lambda: to_do.pop()())
    unexpected = [result for result in results if isinstance(result, Exception)]
    assert [str(error) for error in unexpected] in ([], [Refusal.BEING_DELETED])
    with unit_of_work():
        run_erasure.func(Erasure.objects.get().pk)

    assert Erasure.objects.get().finished_at is not None
    if unexpected:
        left = RingAccount.objects.get()
        assert (left.state, left.user) == (RingAccount.State.UNCLAIMED, None)
    else:
        assert not RingAccount.objects.exists()
    assert not Membership.objects.filter(user=ada).exists()
