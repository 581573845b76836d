"""The portal's models and services, with the ordinary view instead of our intake, and Django's own PostgreSQL backend."""

from portal.settings import *  # noqa: F403 - a settings module that differs in a few lines
from portal.settings import DATABASES

ROOT_URLCONF = "bench.peers.ordinary_urls"
ASGI_APPLICATION = "bench.peers.ordinary_asgi.application"
# allauth insists on its own; it costs next to nothing.
MIDDLEWARE = ["django.middleware.common.CommonMiddleware", "allauth.account.middleware.AccountMiddleware"]
if DATABASES["default"]["ENGINE"] == "portal.postgresql":
    DATABASES["default"]["ENGINE"] = "django.db.backends.postgresql"
