"""What the database knows of a batch of arrivals, asked in one message: every round trip counts on the way in."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db import connection

import orjson

from accounts.models import RingAccount
from devices.models import Device
from events.models import Delivery, Event, TenantPosition
from portal.bulk import Rows, Statement, next_keys, run_together


@dataclass(frozen=True)
class Asked:
    """One arrival, by what it names. "" where it names none; Ring's event is asked for with an account and a device."""

    tenant_id: int
    request_id: str
    account_ring_id: str
    ring_event_id: str
    device_ring_id: str


@dataclass(frozen=True)
class Found:
    """Of one arrival: whether an event of it is there, and the primary keys of the account and device it names."""

    is_known: bool
    account_pk: int | None
    device_pk: int | None


@dataclass(frozen=True)
class Locked:
    """Until the transaction ends: each tenant's last position, what was found, and keys for a new row of everything."""

    positions: dict[int, int]
    found: list[Found]
    delivery_pks: list[int]
    event_pks: list[int]


# A plan that was made while the table of events was small walks through all of it, and is kept while the table grows.
_BY_INDEX: dict[str, list[Statement]] = {
    "postgresql": [("SELECT set_config('enable_seqscan', 'off', true)", [])],
    "sqlite": [],
}


def look_up(asked: Sequence[Asked]) -> list[Found]:
    """What is known of each arrival, in the order given. Raises django.db.Error."""
    [rows] = run_together(_what_is_known(asked))
    return _found(rows)


def lock_and_look_up(asked: Sequence[Asked]) -> Locked:
    """
    Lock the position rows of the arrivals' tenants, and only then look. Raises django.db.Error.

    Rows are locked in one order everywhere, so that nobody deadlocks. Each statement of the message sees what was
    committed before it began, so the look sees all that was recorded before the lock was ours.
    """
    tenant_ids = {one.tenant_id for one in asked}
    while True:
        *_, locked, known, delivery_pks, event_pks = run_together(
            *_BY_INDEX[connection.vendor],
            _lock(tenant_ids),
            _what_is_known(asked),
            next_keys(Delivery, len(asked)),
            next_keys(Event, len(asked)),
        )
        positions: dict[int, int] = dict(locked)
        if positions.keys() == tenant_ids:
            return Locked(
                positions,
                _found(known),
                [key for (key,) in delivery_pks],
                [key for (key,) in event_pks],
            )
        # The first event of a tenant. Another process may be making the row too; whoever was first, we lock it now.
        new = [TenantPosition(tenant_id=pk) for pk in sorted(tenant_ids - positions.keys())]
        TenantPosition.objects.bulk_create(new, ignore_conflicts=True)


def move_positions(positions: dict[int, int]) -> Statement:
    """The statement that writes the last positions of tenants whose rows are locked."""
    table = TenantPosition._meta.db_table
    if connection.vendor == "postgresql":
        moved = "SELECT (value ->> 0)::bigint AS tenant_id, (value ->> 1)::bigint AS last FROM jsonb_array_elements(%s::jsonb)"
    else:
        moved = "SELECT value ->> 0 AS tenant_id, value ->> 1 AS last FROM json_each(%s)"
    return (
        f"UPDATE {table} SET last = moved.last FROM ({moved}) AS moved WHERE {table}.tenant_id = moved.tenant_id",  # noqa: S608 - a name of our own
        [orjson.dumps(list(positions.items())).decode()],
    )


def _lock(tenant_ids: Iterable[int]) -> Statement:
    table = TenantPosition._meta.db_table
    if connection.vendor == "postgresql":
        return (
            f"SELECT tenant_id, last FROM {table} WHERE tenant_id = ANY(%s) ORDER BY tenant_id FOR UPDATE",  # noqa: S608 - a name of our own
            [sorted(tenant_ids)],
        )
    # The whole database is ours: transactions begin as writers.
    return (
        f"SELECT tenant_id, last FROM {table} WHERE tenant_id IN (SELECT value FROM json_each(%s))",  # noqa: S608 - a name of our own
        [orjson.dumps(sorted(tenant_ids)).decode()],
    )


def _what_is_known(asked: Sequence[Asked]) -> Statement:
    """
    One row for each arrival. Each question goes to an index, one arrival at a time: a join by lists of ids, and EXISTS
    too, may be planned as a walk through all of a tenant's events.
    """
    names = {
        "event": Event._meta.db_table,
        "account": RingAccount._meta.db_table,
        "device": Device._meta.db_table,
    }
    if connection.vendor == "postgresql":
        given = """
            jsonb_to_recordset(%s::jsonb) AS asked
            (number int, tenant_id bigint, request_id text, account text, event text, device text)
        """
    else:
        given = """
            (SELECT value ->> 'number' AS number, value ->> 'tenant_id' AS tenant_id, value ->> 'request_id' AS request_id,
                    value ->> 'account' AS account, value ->> 'event' AS event, value ->> 'device' AS device
               FROM json_each(%s)) AS asked
        """
    rows = [
        {
            "number": number,
            "tenant_id": one.tenant_id,
            "request_id": one.request_id,
            "account": one.account_ring_id,
            "event": one.ring_event_id,
            "device": one.device_ring_id,
        }
        for number, one in enumerate(asked)
    ]
    statement = """
        WITH known AS MATERIALIZED (
            SELECT asked.number,
                   coalesce(
                     (SELECT 1 FROM {event} AS event
                       WHERE event.tenant_id = asked.tenant_id AND event.request_id = asked.request_id LIMIT 1),
                     (SELECT 1 FROM {event} AS event
                       WHERE event.tenant_id = asked.tenant_id AND event.account_ring_id = asked.account
                         AND event.ring_event_id = asked.event AND event.account_ring_id <> ''
                         AND event.device_ring_id <> '' AND event.ring_event_id <> '' AND asked.device <> '' LIMIT 1)
                   ) AS is_known,
                   (SELECT id FROM {account} AS account
                     WHERE account.tenant_id = asked.tenant_id AND account.ring_id = asked.account
                       AND account.ring_id <> '') AS account_pk,
                   -- Where no account is named: one that still shares the device with us, if any.
                   (SELECT device.id FROM {device} AS device JOIN {account} AS owner ON owner.id = device.ring_account_id
                     WHERE device.tenant_id = asked.tenant_id AND device.ring_id = asked.device AND asked.device <> ''
                       AND (asked.account = '' OR owner.ring_id = asked.account)
                     ORDER BY device.removed_at IS NOT NULL, device.removed_at, device.id DESC LIMIT 1) AS device_pk
              FROM {given}
        )
        SELECT known.is_known, coalesce(device.ring_account_id, known.account_pk), known.device_pk
          FROM known LEFT JOIN {device} AS device ON device.id = known.device_pk
         ORDER BY known.number
    """.format(given=given, **names)  # noqa: S608 - names of our own tables
    return statement, [orjson.dumps(rows).decode()]


def _found(rows: Rows) -> list[Found]:
    return [Found(bool(is_known), account_pk, device_pk) for is_known, account_pk, device_pk in rows]
