"""An ASGI application that sends 64 MiB as fast as it may, and tells at /sent how much it has got rid of."""

from media.pacing import Message, Receive, Send, paced

PIECE = bytes(64 * 1024)
PIECES = 1024
sent_bytes = 0


@paced
async def application(scope: Message, receive: Receive, send: Send) -> None:
    global sent_bytes
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/sent":
        await send({"type": "http.response.body", "body": str(sent_bytes).encode()})
        return
    for _ in range(PIECES):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        sent_bytes += len(PIECE)
    await send({"type": "http.response.body"})
