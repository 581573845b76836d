"""
What an operator watches, as Prometheus reads it (feature K2): numbers of the whole installation, no tenant and no person.

All of it is counted in the database at the moment of asking, so it is true whichever process answers.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db.models import Case, Count, Min, Q, Sum, When
from django.utils import timezone

from django_tasks_db.models import DBTaskResult
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from accounts.ageing import AGEING, NOT_RENEWED, not_renewed
from accounts.models import Erasure, RingAccount
from events.models import Event, TenantPosition
from media import nodes
from media.models import Clip, FetchState, LiveSession
from portal.models import WorkerHeartbeat
from portal.walls import across_tenants


def exposition() -> bytes:
    """The metrics in Prometheus' text format 0.0.4."""
    registry = CollectorRegistry()
    registry.register(_Installation())
    with across_tenants("metrics count over the whole installation and name no tenant"):
        return generate_latest(registry)


class _Installation(Collector):
    def describe(self) -> list[Metric]:
        return []  # known only once asked: nothing is counted when the registry is made

    def collect(self) -> Iterator[Metric]:
        now = timezone.now()
        yield from _links(now)
        yield from _tasks(now)
        yield from _erasures()
        yield from _events()
        yield from _media(now)


def _links(now: datetime) -> Iterator[Metric]:
    states = dict(RingAccount.objects.order_by().values_list("state").annotate(Count("pk")))
    links = GaugeMetricFamily(
        "portal_ring_accounts",
        "Ring accounts by state. `received` and `unclaimed` are the pool that waits for its people; "
        "`relink_required` wait for a person to link again.",
        labels=["state"],
    )
    for state in RingAccount.State.values:
        links.add_metric([state], states.get(state, 0))
    yield links
    waiting = RingAccount.objects.filter(
        state__in=[RingAccount.State.RECEIVED, RingAccount.State.UNCLAIMED]
    ).aggregate(oldest=Min("received_at"))
    yield GaugeMetricFamily(
        "portal_unclaimed_oldest_seconds",
        "How long the oldest tokens have waited for their person.",
        value=_age_s(waiting["oldest"], now),
    )
    linked = RingAccount.objects.filter(state=RingAccount.State.LINKED)
    tokens = linked.aggregate(
        oldest=Min("tokens_obtained_at"), ageing=Count("pk", filter=Q(tokens_obtained_at__lt=now - AGEING))
    )
    yield GaugeMetricFamily(
        "portal_tokens_oldest_seconds",
        "Age of the oldest tokens of a linked account; they are renewed daily and die after about 30 days.",
        value=_age_s(tokens["oldest"], now),
    )
    yield GaugeMetricFamily(
        "portal_tokens_ageing",
        f"Linked accounts whose tokens are older than {AGEING.days} days: somebody must look.",
        value=tokens["ageing"],
    )
    yield GaugeMetricFamily(
        "portal_tokens_not_renewed",
        f"Links, also those that wait for their person, whose tokens were not renewed for {NOT_RENEWED.days} days.",
        value=not_renewed(now).count(),
    )


def _tasks(now: datetime) -> Iterator[Metric]:
    # django-tasks-db writes its largest date for "at once"; a task for later waits since then, not since it was enqueued.
    ready = DBTaskResult.objects.ready()
    depth = GaugeMetricFamily("portal_tasks_ready", "Tasks that could run now.", labels=["queue"])
    oldest = GaugeMetricFamily(
        "portal_tasks_ready_oldest_seconds", "How long the oldest of them has been waiting.", labels=["queue"]
    )
    queues = {
        row["queue_name"]: row
        for row in ready.order_by()
        .values("queue_name")
        .annotate(
            count=Count("pk"),
            since=Min(Case(When(run_after__lte=now, then="run_after"), default="enqueued_at")),
        )
    }
    for queue in ("default", "events", "media"):
        row = queues.get(queue, {"count": 0, "since": None})
        depth.add_metric([queue], row["count"])
        oldest.add_metric([queue], _age_s(row["since"], now))
    yield depth
    yield oldest
    yield GaugeMetricFamily(
        "portal_workers", "Workers with a sign of life.", value=WorkerHeartbeat.objects.count()
    )


def _erasures() -> Iterator[Metric]:
    stopped = Erasure.objects.filter(finished_at=None, next_attempt_at=None)
    yield GaugeMetricFamily(
        "portal_erasures_given_up",
        "Deletions that failed too often: staff look why, and start them again in the admin.",
        value=stopped.count(),
    )


def _events() -> Iterator[Metric]:
    recorded = TenantPosition.objects.aggregate(total=Sum("last"))["total"] or 0
    yield CounterMetricFamily(
        "portal_events_recorded", "Events recorded since the beginning.", value=recorded
    )
    failed = Event.objects.filter(next_attempt_at__isnull=True).exclude(last_error="")
    yield GaugeMetricFamily(
        "portal_events_failed",
        "Events whose effects were given up: look at the delivery.",
        value=failed.count(),
    )


def _media(now: datetime) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "portal_live_sessions_open",
        "Live sessions that are open at Ring.",
        value=LiveSession.objects.open().exclude(kind=LiveSession.Kind.RELAYED).count(),
    )
    yield GaugeMetricFamily(
        "portal_relay_nodes", "Relay nodes with a sign of life.", value=len(nodes.living(now=now))
    )
    under_way = Clip.objects.filter(state__in=[FetchState.QUEUED, FetchState.FETCHING])
    yield GaugeMetricFamily(
        "portal_clips_under_way", "Clips asked for and not here yet.", value=under_way.count()
    )


def _age_s(since: datetime | None, now: datetime) -> float:
    return max(timedelta(), now - since).total_seconds() if since is not None else 0.0
