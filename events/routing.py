"""Websocket addresses. Any other gets the same refusal as a stranger."""

from django.urls import re_path

from events.consumers import event_socket, refuse

websocket_urlpatterns = [
    re_path(r"^ws/t/(?P<tenant>[-a-zA-Z0-9_]+)/events/$", event_socket),  # type: ignore[arg-type]  # ASGI, no view
    re_path(r"", refuse),  # type: ignore[arg-type]
]
