"""A bare service: Starlette and asyncpg, one insert a request, HMAC; no look-up of the tenant, no broadcast."""

import hashlib
import hmac
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

KEY = os.environ["RING_SIGNING_KEY"].encode()

# The portal's own tables are there already, and this service has one of its own: its event, under the portal's name.
_TABLE = """
    CREATE SCHEMA IF NOT EXISTS bare;
    CREATE TABLE IF NOT EXISTS bare.event (
        position bigserial PRIMARY KEY, request_id text UNIQUE, event_type text, received_at timestamptz, body bytea
    )
"""
_INSERT = """
    INSERT INTO bare.event (request_id, event_type, received_at, body) VALUES ($1, $2, $3, $4)
    ON CONFLICT (request_id) DO NOTHING
"""


@asynccontextmanager
async def lifespan(application: Starlette) -> AsyncIterator[None]:
    """A pool, and the table."""
    address = os.environ["DATABASE_URL"]
    async with asyncpg.create_pool(address, min_size=4, max_size=16) as pool:
        await pool.execute(_TABLE)
        application.state.pool = pool
        yield


async def webhook(request: Request) -> JSONResponse:
    """Verify, insert."""
    body = await request.body()
    expected = "sha256=" + hmac.new(KEY, body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, request.headers.get("x-signature", "")):
        return JSONResponse({"error": "bad_signature"}, status_code=401)
    document = json.loads(body)
    await request.app.state.pool.execute(
        _INSERT, document["meta"]["request_id"], document["data"]["type"], datetime.now(UTC), body
    )
    return JSONResponse({"status": "ok"})


application = Starlette(
    routes=[Route("/ring/{tenant}/webhook", webhook, methods=["POST"])], lifespan=lifespan
)
