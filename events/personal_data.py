"""The events' part in exporting and erasing people's data."""

from collections.abc import Iterable, Iterator
from typing import Any

from django.db import transaction
from django.db.models import BinaryField, F, Func, IntegerField, Q, QuerySet, Value

from accounts.models import RingAccount
from accounts.personal_data import PersonalData, Scope, Tally, parts, row_of
from events import broadcast
from events.models import Delivery, Event, EventReview, LastNotice, NotificationSettings, PushSubscription

BATCH = 500


class _PositionIn(Func):
    """Where bytes lie within bytes, from 1; 0 for nowhere. Every database spells it in its own way."""

    arity = 2
    output_field = IntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, template="INSTR(%(expressions)s)", **extra)

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        swapped = self.copy()
        swapped.set_source_expressions(list(reversed(self.get_source_expressions())))
        return swapped.as_sql(
            compiler, connection, template="POSITION(%(expressions)s)", arg_joiner=" IN ", **extra
        )


def events_of(account: RingAccount) -> "QuerySet[Event]":
    """Everything Ring told of an account, also what could not be attached to it."""
    is_theirs = Q(ring_account=account) | Q(device__ring_account=account)
    if account.ring_id:
        is_theirs |= Q(account_ring_id=account.ring_id)
    rows: QuerySet[Event] = Event.objects.for_tenant(account.tenant_id).filter(is_theirs)
    return rows


class Events(PersonalData):
    """Events, the webhook requests that told of them, and who has reviewed which."""

    def tables(self, scope: Scope) -> Iterator[tuple[str, Iterable[dict[str, Any]]]]:
        yield "events", self._rows(scope)
        yield "event_reviews", self._reviewed(scope)
        yield "notifications", self._notifications(scope)

    def counts(self, scope: Scope) -> dict[str, int]:
        return {"events": self._events(scope).count(), "event reviews": self._reviews(scope).count()}

    def ring_ids(self, account: RingAccount) -> Iterable[str]:
        named = events_of(account).exclude(device_ring_id="").order_by()
        return named.values_list("device_ring_id", flat=True).distinct()

    def erase_ring_account(self, account: RingAccount, tally: Tally) -> None:
        ring_ids = {ring_id for part in parts() for ring_id in part.ring_ids(account)}
        rows = events_of(account).order_by("pk")
        while batch := list(rows.values_list("pk", "delivery", "request_id")[:BATCH]):
            pks, deliveries, requests = zip(*batch, strict=True)
            with transaction.atomic():
                # The same request may have come more than once.
                told = Delivery.objects.for_tenant(account.tenant_id).filter(
                    Q(pk__in=[pk for pk in deliveries if pk]) | Q(request_id__in=requests)
                )
                tally("webhooks", told.delete()[0])
                _, erased = Event.objects.filter(pk__in=pks).delete()
                tally("events", erased.get("events.Event", 0))
        for ring_id in sorted(ring_ids):
            self._erase_deliveries_that_name(ring_id, account, tally)
        broadcast.announce_change_on_commit(account.tenant_id)

    def erase_person(self, scope: Scope, tally: Tally) -> None:
        """Of a whole tenant: also what belonged to nobody we know."""
        tally("event reviews", self._reviews(scope).delete()[0])
        if scope.user is not None:
            return
        for words, rows in (
            ("events", Event.objects.for_tenant(scope.tenant)),
            ("webhooks", Delivery.objects.for_tenant(scope.tenant)),
        ):
            while pks := list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH]):
                with transaction.atomic():
                    _, erased = rows.model._default_manager.filter(pk__in=pks).delete()
                    tally(words, erased.get(rows.model._meta.label, 0))

    def _erase_deliveries_that_name(self, ring_id: str, account: RingAccount, tally: Tally) -> None:
        """Also repeats, and bodies that became no event. Reads every body of the tenant once."""
        needle = Value(ring_id.encode(), output_field=BinaryField())
        with transaction.atomic():
            naming = Delivery.objects.for_tenant(account.tenant_id).alias(at=_PositionIn(F("body"), needle))
            tally("webhooks", naming.filter(at__gt=0).delete()[0])

    def _events(self, scope: Scope) -> "QuerySet[Event]":
        rows: QuerySet[Event] = Event.objects.for_tenant(scope.tenant)
        if scope.user is None:
            return rows
        theirs = scope.ring_accounts()
        return rows.filter(Q(ring_account__in=theirs) | Q(device__ring_account__in=theirs))

    def _reviews(self, scope: Scope) -> "QuerySet[EventReview]":
        rows = EventReview.objects.for_tenant(scope.tenant)
        return rows if scope.user is None else rows.filter(membership__user=scope.user)

    def _reviewed(self, scope: Scope) -> Iterator[dict[str, Any]]:
        rows = self._reviews(scope).select_related("event", "membership").order_by("pk")
        for review in rows.iterator(chunk_size=500):
            yield row_of(review, leave_out=["batch"], you=scope.user)

    def _notifications(self, scope: Scope) -> Iterator[dict[str, Any]]:
        """What people chose, and their browsers, without the keys to them."""
        for model in (NotificationSettings, PushSubscription, LastNotice):
            rows = model._default_manager.filter(tenant=scope.tenant).select_related("membership__user")
            if scope.user is not None:
                rows = rows.filter(membership__user=scope.user)
            for row in rows.order_by("pk"):
                shown = row_of(row, leave_out=["endpoint_digest"], you=scope.user)
                yield {"kind": model._meta.verbose_name, **shown}

    def _rows(self, scope: Scope) -> Iterator[dict[str, Any]]:
        rows = self._events(scope).select_related("delivery", "device", "ring_account").order_by("position")
        for event in rows.iterator(chunk_size=500):
            shown = row_of(
                event,
                leave_out=["delivery", "attempts", "next_attempt_at", "last_error", "attempt_log"],
                you=scope.user,
            )
            if event.delivery is not None:
                shown["as_received"] = bytes(event.delivery.body).decode(errors="replace")
            yield shown
