"""
The roof: HTTP, websockets, and what is answered before Django's own handler: Ring's webhooks and the event stream.

A webhook needs no session, no CSRF, no middleware: routing it here spares each one their cost. A stream stays open for
hours, and would hold one of Django's threads.
"""

import os
import re

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
django_application = get_asgi_application()  # sets Django up: whatever needs models is imported below

from django.urls import re_path  # noqa: E402

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from channels.sessions import SessionMiddlewareStack  # noqa: E402

from events.admission import bearer_of  # noqa: E402
from events.asgi import Receive, Scope, Send  # noqa: E402
from events.intake import webhook_application  # noqa: E402
from events.routing import websocket_urlpatterns  # noqa: E402
from events.serving import SERVER_SEND  # noqa: E402
from events.stream import event_stream  # noqa: E402
from media.pacing import paced  # noqa: E402
from portal.garbage import keep_what_is_loaded  # noqa: E402
from portal.open_files import raise_limit_of_open_files  # noqa: E402
from portal.walls import unit_of_work  # noqa: E402

sockets = SessionMiddlewareStack(URLRouter(websocket_urlpatterns))
streams = SessionMiddlewareStack(event_stream)
sockets_for_own_pages = AllowedHostsOriginValidator(sockets)


async def websocket_application(scope: Scope, receive: Receive, send: Send) -> None:
    """Browsers must come from a page of ours. A program shows a bearer token, which no page can make a browser send."""
    # Channels' session middleware looks at the session with every message that is sent. The feed changes none, and sends
    # thousands: it takes the server's own `send`.
    scope[SERVER_SEND] = send
    allowed = sockets_for_own_pages if bearer_of(scope) is None else sockets
    await allowed(scope, receive, send)


WEBHOOK = re.compile(r"/ring/([-a-zA-Z0-9_]+)/webhook")


async def stream_application(scope: Scope, receive: Receive, send: Send) -> None:
    """The websocket's events for those it does not reach; who may ask is looked at in `events.admission`."""
    scope[SERVER_SEND] = send
    await streams(scope, receive, send)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Every request, webhook and socket begins with nobody's rows."""
    with unit_of_work():
        if scope["type"] == "http" and (webhook := WEBHOOK.fullmatch(_path(scope))):
            # Before the routers, which cost a webhook a tenth of its way.
            await webhook_application(scope, receive, send, tenant=webhook[1])
        else:
            await entrances(scope, receive, send)


def _path(scope: Scope) -> str:
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


entrances = ProtocolTypeRouter(
    {
        "http": URLRouter(
            [
                re_path(r"^sse/t/(?P<tenant>[-a-zA-Z0-9_]+)/events/$", paced(stream_application)),  # type: ignore[arg-type]  # ASGI, no view
                re_path(r"", paced(django_application)),  # type: ignore[arg-type]  # ASGI, no view
            ]
        ),
        "websocket": websocket_application,
    }
)

keep_what_is_loaded()
raise_limit_of_open_files()
