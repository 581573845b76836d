"""Plain Channels, as its tutorial has it: a consumer for each socket, in a group, on channels-redis pub/sub."""

import os
from typing import Any

from django.core.asgi import get_asgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "bench.peers.ordinary_settings"
django_application = get_asgi_application()

from django.urls import path  # noqa: E402

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402


class EventConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """One browser."""

    async def connect(self) -> None:
        await self.channel_layer.group_add("bench", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("bench", self.channel_name)

    async def event_recorded(self, message: dict[str, Any]) -> None:
        """The frame comes ready made: the same text for everybody."""
        await self.send(text_data=message["text"])


application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": URLRouter([path("ws/t/bench/events/", EventConsumer.as_asgi())]),
    }
)
