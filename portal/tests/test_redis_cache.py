"""The cache in Redis: however many requests use it, a process has few connections."""

from contextvars import Context
from typing import Any

from django.core.cache import cache, caches

import pytest


@pytest.mark.services
def test_requests_share_their_connections_to_redis():
    def as_a_request_of_its_own(number: int) -> int:
        """In a context of its own, as under ASGI; how many connections this test's corner of Redis has then."""
        cache.set("number", number)
        assert cache.get("number") == number
        made: Any = caches["default"]
        redis = made._cache.get_client()
        corner = str(redis.connection_pool.connection_kwargs["db"])
        return sum(connection["db"] == corner for connection in redis.client_list())

    # Kept, so that no garbage collector closes what they opened.
    contexts = [Context() for _ in range(20)]
    open_then = [context.run(as_a_request_of_its_own, number) for number, context in enumerate(contexts)]

    assert open_then[-1] == open_then[0]
