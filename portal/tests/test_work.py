"""Leases, retries and sweeps: what keeps work from being lost or done twice."""

import threading
from datetime import timedelta

from django.db import connection
from django.tasks import task

import pytest
from django_tasks_db.models import DBTaskResult

from accounts.models import RingAccount
from portal.work import backoff, enqueue_after, enqueue_due, take
from tests.support.cast import NOW, make_tenant

LEASE = timedelta(minutes=2)


@task
def touch(pk: int) -> None:
    """A task that does nothing: only that it is enqueued counts."""


@task
def touch_too(pk: int) -> None:
    """Another one."""


@pytest.fixture
def row(db) -> RingAccount:
    return RingAccount.objects.create(tenant=make_tenant("acme"), next_attempt_at=NOW)


def test_a_due_row_is_leased_once_and_again_when_the_lease_is_over(row):
    leased = take(RingAccount.objects.all(), row.pk, now=NOW, lease=LEASE)
    assert leased is not None
    assert (leased.attempts, leased.next_attempt_at) == (1, NOW + LEASE)
    assert take(RingAccount.objects.all(), row.pk, now=NOW + LEASE / 2, lease=LEASE) is None
    again = take(RingAccount.objects.all(), row.pk, now=NOW + LEASE, lease=LEASE)
    assert again is not None
    assert again.attempts == 2


def test_a_row_outside_the_given_rows_or_without_work_is_not_taken(row):
    assert take(RingAccount.objects.filter(state="linked"), row.pk, now=NOW, lease=LEASE) is None
    row.finish_work()
    assert take(RingAccount.objects.all(), row.pk, now=NOW + timedelta(days=9), lease=LEASE) is None


@pytest.mark.django_db(transaction=True)
def test_of_many_workers_one_gets_the_row(row):
    gate = threading.Barrier(8)
    taken: list[bool] = []

    def work() -> None:
        gate.wait()
        taken.append(take(RingAccount.objects.all(), row.pk, now=NOW, lease=LEASE) is not None)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False] * 7 + [True]


def test_a_failed_row_comes_back_after_its_pause(row):
    row.retry_later(now=NOW, error="x" * 300, pause=timedelta(seconds=30))
    row.refresh_from_db()
    assert (row.next_attempt_at, len(row.last_error)) == (NOW + timedelta(seconds=30), 255)
    assert not RingAccount.objects.filter(next_attempt_at__lte=NOW).exists()


def test_pauses_double_with_chance_up_to_the_cap():
    for attempt, centre in ((1, 1), (2, 2), (5, 16), (12, 600), (500, 600)):
        pauses = [backoff(attempt).total_seconds() for _ in range(50)]
        assert min(pauses) >= centre * 0.75
        assert max(pauses) <= centre * 1.25
        assert len(set(pauses)) > 1


def test_the_sweep_enqueues_what_is_due_and_nothing_else(row):
    tenant = row.tenant
    RingAccount.objects.create(tenant=tenant, next_attempt_at=NOW + timedelta(seconds=1))
    RingAccount.objects.create(tenant=tenant)
    older = RingAccount.objects.create(tenant=tenant, next_attempt_at=NOW - timedelta(hours=1))
    assert enqueue_due(RingAccount.objects.all(), touch, now=NOW) == 2
    enqueued = [result.args_kwargs["args"] for result in DBTaskResult.objects.order_by("enqueued_at")]
    assert enqueued == [[older.pk], [row.pk]]


@pytest.mark.django_db(transaction=True)
def test_while_a_backlog_waits_the_sweep_enqueues_each_row_once(row, run_tasks):
    rows = RingAccount.objects.all()
    assert [enqueue_due(rows, touch, now=NOW) for _ in range(3)] == [1, 0, 0]
    assert DBTaskResult.objects.count() == 1
    younger = RingAccount.objects.create(tenant=row.tenant, next_attempt_at=NOW)
    assert enqueue_due(rows, touch, now=NOW) == 1
    assert DBTaskResult.objects.get(args_kwargs__args__0=younger.pk).task_path == touch.module_path
    assert enqueue_due(rows, touch_too, now=NOW) == 2  # another task's are not this one's

    run_tasks()
    assert enqueue_due(rows, touch, now=NOW) == 2  # they ran, and the rows are still due


def test_a_task_for_later_is_none_for_a_row_that_is_due_now(row):
    enqueue_after(touch, row.pk, NOW + timedelta(days=36500))
    assert enqueue_due(RingAccount.objects.all(), touch, now=NOW) == 1


def test_many_rows_are_looked_up_at_once(row, django_assert_num_queries):
    RingAccount.objects.bulk_create(RingAccount(tenant=row.tenant, next_attempt_at=NOW) for _ in range(499))
    assert enqueue_due(RingAccount.objects.all(), touch, now=NOW) == 500
    with django_assert_num_queries(2):
        assert enqueue_due(RingAccount.objects.all(), touch, now=NOW) == 0


def test_what_was_lost_is_found_behind_a_backlog_that_waits(row):
    RingAccount.objects.filter(pk=row.pk).update(next_attempt_at=NOW - timedelta(hours=1))
    assert enqueue_due(RingAccount.objects.all(), touch, now=NOW, limit=3) == 1
    flood = [RingAccount(tenant=row.tenant, next_attempt_at=NOW - timedelta(minutes=1)) for _ in range(5)]
    RingAccount.objects.bulk_create(flood)
    assert [enqueue_due(RingAccount.objects.all(), touch, now=NOW, limit=3) for _ in range(2)] == [3, 2]
    lost = RingAccount.objects.create(tenant=make_tenant("other"), next_attempt_at=NOW)
    assert enqueue_due(RingAccount.objects.all(), touch, now=NOW, limit=3) == 1
    assert DBTaskResult.objects.filter(args_kwargs__args__0=lost.pk).exists()


def test_a_later_task_waits_for_its_time(row):
    enqueue_after(touch, row.pk, NOW + timedelta(days=36500))
    assert DBTaskResult.objects.get().run_after == NOW + timedelta(days=36500)
    assert not DBTaskResult.objects.ready().exists()
