"""
A bare broadcast server: `websockets` on asyncio, no portal, no database, nobody asked who they are.

What comes on the Redis channel `bench` goes to every socket. `python -m bench.peers.bare_websockets PORT REDIS_URL`.
"""

import sys

from redis.asyncio import Redis
from websockets.asyncio.server import ServerConnection, broadcast, serve

connections: set[ServerConnection] = set()


async def _socket(connection: ServerConnection) -> None:
    connections.add(connection)
    try:
        await connection.wait_closed()
    finally:
        connections.discard(connection)


async def _main(port: int, redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis, redis.pubsub() as messages:
        await messages.subscribe("bench")
        async with serve(_socket, "127.0.0.1", port, compression=None):
            async for message in messages.listen():
                if message["type"] == "message":
                    broadcast(connections, message["data"].decode())


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main(int(sys.argv[1]), sys.argv[2]))
