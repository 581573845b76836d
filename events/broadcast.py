"""
Tell every process that a tenant has news. A message is only a poke: whoever gets it reads the database.

So a lost, doubled or late message harms nothing, and a process that hears none at all notices by itself
(`events.hub` looks every two seconds).
"""

import asyncio
import logging
from collections.abc import Iterable

from django.db import transaction
from django.db.models import F

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from redis.exceptions import RedisError

from events.models import TenantPosition
from portal.walls import tenant_scope

logger = logging.getLogger(__name__)

GIVE_UP_AFTER_S = 1.0
RECORDED = "events.recorded"
PICTURED = "events.pictured"

# What a channel layer raises when its server is away.
LAYER_ERRORS = (RedisError, OSError, TimeoutError)


def group_of(tenant_id: int) -> str:
    """The channel layer group of the processes with open event sockets of this tenant."""
    return f"tenant.{tenant_id}.events"


async def announce(tenant_ids: Iterable[int], news: str = RECORDED) -> None:
    """Poke the listeners of these tenants. Never raises because nobody can be reached: they look by themselves."""
    layer = get_channel_layer()
    try:
        async with asyncio.timeout(GIVE_UP_AFTER_S):
            for tenant_id in tenant_ids:
                await layer.group_send(group_of(tenant_id), {"type": news, "tenant": tenant_id})
    except LAYER_ERRORS as error:
        logger.warning(
            "The channel layer took no message; browsers hear of events later. error=%s", type(error).__name__
        )


def announce_on_commit(tenant_id: int) -> None:
    """Poke once the transaction under way is through; outside of one, now."""
    transaction.on_commit(lambda: async_to_sync(announce)([tenant_id]), robust=True)


def announce_picture_on_commit(tenant_id: int) -> None:
    """The same when the picture of an event is there."""
    transaction.on_commit(lambda: async_to_sync(announce)([tenant_id], PICTURED), robust=True)


def announce_change_on_commit(tenant_id: int) -> None:
    """
    The same for older rows that changed in a way people see: pages that are open look again.

    The revision is raised after the commit: inside it would hold the lock that the intake waits for.
    """

    def after() -> None:
        with tenant_scope(tenant_id):
            TenantPosition.objects.filter(pk=tenant_id).update(revision=F("revision") + 1)
        async_to_sync(announce)([tenant_id])

    transaction.on_commit(after, robust=True)
