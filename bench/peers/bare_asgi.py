"""The ceiling of the server itself: verifies the signature and answers. Stores nothing, looks nothing up, tells nobody."""

import hashlib
import hmac
import os

from events.asgi import Receive, Scope, Send

KEY = os.environ["RING_SIGNING_KEY"].encode()


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """One request; the server's own start and stop are acknowledged."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    given = dict(scope["headers"]).get(b"x-signature", b"")
    expected = b"sha256=" + hmac.new(KEY, body, hashlib.sha256).hexdigest().encode()
    status = 200 if hmac.compare_digest(expected, given) else 401
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
