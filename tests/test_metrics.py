"""`/metrics`: true numbers, for whoever shows the token."""

from datetime import timedelta

from django.conf import LazySettings
from django.test import Client
from django.utils import timezone

import pytest
from prometheus_client.parser import text_string_to_metric_families

from accounts.models import Erasure, RingAccount
from accounts.tasks import refresh_account
from events.models import Event, TenantPosition
from tests.support.cast import NOW, TenantCast, make_cast

pytestmark = pytest.mark.django_db

TOKEN = "metrics-canary"


@pytest.fixture
def acme(settings: LazySettings) -> TenantCast:
    settings.METRICS_TOKEN = TOKEN
    return make_cast("acme")


def read() -> dict[tuple[str, str], float]:
    """(name, value of its label) → number."""
    answer = Client().get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }


def test_links_events_and_tasks_are_counted(acme: TenantCast):
    now = timezone.now()
    RingAccount.objects.filter(pk=acme.ben_account.pk).update(
        state="unclaimed", user=None, received_at=now - timedelta(days=2)
    )
    RingAccount.objects.filter(pk=acme.ada_account.pk).update(tokens_obtained_at=now - timedelta(days=26))
    TenantPosition.objects.create(tenant=acme.tenant, last=7)
    of = {"tenant": acme.tenant, "event_type": "x", "occurred_at": NOW, "received_at": NOW}
    Event.objects.create(**of, request_id="a", position=1, last_error="KeyError")
    Event.objects.create(**of, request_id="b", position=2, last_error="KeyError", next_attempt_at=NOW)
    Erasure.objects.create(kind="account", last_error="OSError")
    Erasure.objects.create(kind="account", next_attempt_at=NOW)
    Erasure.objects.create(kind="account", finished_at=NOW, sha256="ab")
    refresh_account.enqueue(1)
    refresh_account.using(run_after=now + timedelta(hours=1)).enqueue(2)

    numbers = read()
    assert numbers["portal_ring_accounts", "linked"] == 1
    assert numbers["portal_ring_accounts", "unclaimed"] == 1
    assert numbers["portal_ring_accounts", "relink_required"] == 0
    assert numbers["portal_unclaimed_oldest_seconds", ""] == pytest.approx(2 * 86_400, abs=60)
    assert numbers["portal_tokens_ageing", ""] == 1
    assert numbers["portal_events_recorded_total", ""] == 7
    assert numbers["portal_events_failed", ""] == 1
    assert numbers["portal_erasures_given_up", ""] == 1
    assert numbers["portal_tasks_ready", "default"] == 1
    assert 0 <= numbers["portal_tasks_ready_oldest_seconds", "default"] < 60


def test_empty_installation_answers(settings: LazySettings, db: None):
    settings.METRICS_TOKEN = TOKEN
    assert read()["portal_ring_accounts", "linked"] == 0


@pytest.mark.parametrize("shown", ["", "Bearer wrong", "Bearer", f"Basic {TOKEN}"])
def test_without_the_token_nobody_reads(acme: TenantCast, shown: str):
    answer = Client().get("/metrics", headers={"Authorization": shown} if shown else {})
    assert answer.status_code == 401
    assert b"portal_" not in answer.content


def test_without_a_token_set_there_is_no_such_page(settings: LazySettings):
    settings.METRICS_TOKEN = ""
    settings.DEBUG = False
    assert Client().get("/metrics").status_code == 404


def test_nobody_is_named(acme: TenantCast):
    text = Client().get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).content.decode()
    for word in ("acme", "ada", "Front Door", "ava1"):
        assert word not in text.lower()
