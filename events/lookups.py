"""What the database knows of a batch of arrivals, asked in one statement: every round trip counts on the way in."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import itemgetter

from django.db import connection

from accounts.models import RingAccount
from devices.models import Device
from events.models import Event


@dataclass
class Known:
    """
    Of the things asked for, those that are there.

    `requests`: (tenant, request id); `things`: (tenant, Ring's account, Ring's event); `accounts`: (tenant, Ring's id) to
    its primary key; `devices`: (tenant, Ring's account, Ring's id) to (device, account), those still shared with us last.
    """

    requests: set[tuple[int, str]] = field(default_factory=set)
    things: set[tuple[int, str, str]] = field(default_factory=set)
    accounts: dict[tuple[int, str], int] = field(default_factory=dict)
    devices: dict[tuple[int, str, str], tuple[int, int]] = field(default_factory=dict)


def look_up(
    *,
    tenant_ids: Iterable[int],
    request_ids: Iterable[str],
    account_ring_ids: Iterable[str],
    ring_event_ids: Iterable[str],
    device_ring_ids: Iterable[str],
) -> Known:
    """
    Ask for all of it at once. Raises django.db.Error.
    """
    known = Known()
    asked = [sorted(set(ids)) for ids in (request_ids, account_ring_ids, ring_event_ids, device_ring_ids)]
    requests, accounts, things, devices = (json.dumps(ids) for ids in asked)
    tenants = json.dumps(sorted(set(tenant_ids)))
    with connection.cursor() as cursor:
        cursor.execute(
            _statement(), [tenants, requests, tenants, accounts, things, tenants, accounts, tenants, devices]
        )
        for what, tenant_id, ring_id, other, pk, account_pk, _ in sorted(
            cursor.fetchall(), key=itemgetter(6)
        ):
            if what == "request":
                known.requests.add((tenant_id, ring_id))
            elif what == "thing":
                known.things.add((tenant_id, ring_id, other))
            elif what == "account":
                known.accounts[tenant_id, ring_id] = pk
            else:
                known.devices[tenant_id, ring_id, other] = (pk, account_pk)
    return known


def _statement() -> str:
    names = {
        "event": Event._meta.db_table,
        "account": RingAccount._meta.db_table,
        "device": Device._meta.db_table,
    }
    if connection.vendor == "postgresql":
        numbers = "(SELECT value::bigint FROM jsonb_array_elements_text(%s::jsonb))"
        texts = "(SELECT value FROM jsonb_array_elements_text(%s::jsonb))"
    else:
        numbers = texts = "(SELECT value FROM json_each(%s))"
    return """
        SELECT 'request' AS what, tenant_id, request_id, '' AS other, 0 AS pk, 0 AS account_pk, 0 AS place
          FROM {event} WHERE tenant_id IN {numbers} AND request_id IN {texts}
        UNION ALL
        SELECT 'thing', tenant_id, account_ring_id, ring_event_id, 0, 0, 0
          FROM {event}
         WHERE tenant_id IN {numbers} AND account_ring_id IN {texts} AND ring_event_id IN {texts}
           AND account_ring_id <> '' AND device_ring_id <> '' AND ring_event_id <> ''
        UNION ALL
        SELECT 'account', tenant_id, ring_id, '', id, 0, 0
          FROM {account} WHERE tenant_id IN {numbers} AND ring_id IN {texts} AND ring_id <> ''
        UNION ALL
        SELECT 'device', device.tenant_id, owner.ring_id, device.ring_id, device.id, owner.id,
               row_number() OVER (ORDER BY device.removed_at DESC NULLS LAST, device.id)
          FROM {device} AS device JOIN {account} AS owner ON owner.id = device.ring_account_id
         WHERE device.tenant_id IN {numbers} AND device.ring_id IN {texts}
    """.format(numbers=numbers, texts=texts, **names)  # noqa: S608 - names of our own tables
