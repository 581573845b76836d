"""
The cache in Redis, with one pool of connections for the whole process.

Under ASGI Django makes a cache anew for each request that uses one, and each has a pool of its own, whose connection stays
open until the garbage collector comes by: hundreds of them, which any stranger could cause.
"""

from functools import cache, cached_property

from django.core.cache.backends.redis import RedisCache, RedisCacheClient


@cache
def _client_of(*servers: str) -> RedisCacheClient:
    return RedisCacheClient(list(servers))


class SharedRedisCache(RedisCache):
    """Django's own, but for the pool. Takes no OPTIONS."""

    _servers: list[str]

    @cached_property
    def _cache(self) -> RedisCacheClient:
        return _client_of(*self._servers)
