"""The portal's own settings, with the ordinary view instead of our intake."""

from portal.settings import *  # noqa: F403 - a settings module that differs in two lines

ROOT_URLCONF = "bench.peers.ordinary_urls"
ASGI_APPLICATION = "bench.peers.ordinary_asgi.application"
