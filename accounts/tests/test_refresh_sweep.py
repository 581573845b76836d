"""The daily refresh reaches everybody, whatever becomes of the others."""

from datetime import timedelta

from django.utils import timezone

import pytest

from accounts import tasks
from accounts.models import RingAccount
from accounts.tests.scripted_ring import ScriptedRing
from tests.support.cast import make_linked_account, make_tenant, make_user

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_tenant_whom_ring_refuses_does_not_keep_the_others_from_their_turn(
    ring: ScriptedRing, run_tasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tasks, "SWEPT_AT_ONCE", 3)
    now = timezone.now()
    refused, good = make_tenant("refused"), make_tenant("good")
    for number in range(3):
        person = make_user(f"r{number}@customer.example")
        make_linked_account(refused, person, ring_id=f"R{number}", now=now - timedelta(days=5))
    account = make_linked_account(
        good, make_user("g@customer.example"), ring_id="G", now=now - timedelta(days=2)
    )

    ring.script["refresh"] = [(401, {"error": "invalid_client"})] * 3
    for _ in range(2):
        tasks.sweep_refresh.func()
        run_tasks()

    assert RingAccount.objects.filter(pk=account.pk, tokens_obtained_at__gt=now).exists()
    assert ring.counts["refresh"] == 4  # the refused ones wait for their next try


def test_whoever_was_refused_is_tried_again_within_hours(ring: ScriptedRing, run_tasks):
    now = timezone.now()
    account = make_linked_account(
        make_tenant("acme"), make_user("g@customer.example"), ring_id="G", now=now - timedelta(days=2)
    )
    ring.script["refresh"] = [(503, {}), (503, {}), (503, {})]
    tasks.sweep_refresh.func()
    run_tasks()
    assert RingAccount.objects.get().tokens_obtained_at == account.tokens_obtained_at

    RingAccount.objects.update(refresh_tried_at=now - tasks.REFRESH_RETRY - timedelta(minutes=1))
    ring.script.clear()
    tasks.sweep_refresh.func()
    run_tasks()
    assert RingAccount.objects.filter(pk=account.pk, tokens_obtained_at__gt=now).exists()
