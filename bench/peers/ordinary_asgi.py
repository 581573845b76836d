"""The ordinary peer under an ASGI server."""

import os

from django.core.asgi import get_asgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "bench.peers.ordinary_settings"
application = get_asgi_application()
