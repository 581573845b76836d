"""The portal's settings. Every variable it reads from the environment is in `portal/env.py` and `.env.example`."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from django.utils.csp import CSP

import environ

from portal import admin_menu
from portal import env as environment
from portal.logs import logging_config

BASE_DIR = Path(__file__).resolve().parent.parent
TESTING = "pytest" in sys.modules
# The suite brings its own secrets and never runs as production does.
ENV = environment.load(BASE_DIR, {**os.environ, "DEBUG": "1"} if TESTING else None)

DEBUG = ENV.debug
SECRET_KEY = ENV.secret_key
SECRET_KEY_FALLBACKS = ENV.secret_key_fallbacks
FIELD_ENCRYPTION_KEYS = ENV.field_encryption_keys
ALLOWED_HOSTS = ENV.allowed_hosts
CSRF_TRUSTED_ORIGINS = ENV.csrf_trusted_origins

# Ring
RING_API_URL = ENV.ring_api_url
RING_TOKEN_URL = ENV.ring_token_url
RING_AUTHORIZE_URL = ENV.ring_authorize_url
RING_MEDIA_HOSTS = ENV.ring_media_hosts
ICE_SERVERS = ENV.ice_servers
TURN_SECRET = ENV.turn_secret
# Which processes pass live pictures on: the web processes, or relay nodes.
LIVE_RELAY = ENV.live_relay
# Where people reach the portal; printed by create_tenant, used in mails sent outside a request.
PUBLIC_URL = ENV.public_url
# Who shows it may read /metrics; without one the page is there with DEBUG only.
METRICS_TOKEN = ENV.metrics_token
# Who may reach /admin/ at all; empty: everybody, up to its own doors.
ADMIN_ALLOWED_NETWORKS = ENV.admin_allowed_networks
ADMIN_PATH = ENV.admin_path

INSTALLED_APPS = [
    "daphne",
    "portal",
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "portal.admin_config.PortalAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.usersessions",
    "channels",
    "django_htmx",
    "rest_framework",
    "rest_framework_json_api",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_tasks_db",
    "crontask",
    "accounts",
    "accounts.providers.ring",
    "devices",
    "events",
    "media",
    "onboarding",
]

MIDDLEWARE = [
    "portal.middleware.RequestIdMiddleware",
    "portal.middleware.TenantScopeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "allauth.usersessions.middleware.UserSessionsMiddleware",
]

ROOT_URLCONF = "portal.urls"
ASGI_APPLICATION = "portal.asgi.application"
APPEND_SLASH = True

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "accounts.context.tenant",
            ],
            "builtins": ["portal.templatetags.look"],
        },
    }
]


def _databases(url: str) -> dict[str, Any]:
    database: dict[str, Any] = dict(environ.Env.db_url_config(url))
    if database["ENGINE"].endswith("sqlite3"):
        if database["NAME"] != ":memory:":
            Path(database["NAME"]).parent.mkdir(parents=True, exist_ok=True)
        database["OPTIONS"] = {
            # A transaction that begins as a reader and then writes fails at once under SQLite; begin as a writer.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            # FULL: a webhook answered 200 has been synced to the disk. A test's database need not survive the power.
            "init_command": f"PRAGMA journal_mode=WAL; PRAGMA synchronous={'OFF' if TESTING else 'FULL'};",
        }
        # A file, one per test process: SQLite's in-memory databases cannot be shared by threads that wait for each other.
        database["TEST"] = {"NAME": str(Path(tempfile.gettempdir()) / f"portal-test-{os.getpid()}.sqlite3")}
    else:
        database["ENGINE"] = "portal.postgresql"  # Django's, with the wall between tenants
        # Under ASGI every request runs in a new thread: kept connections run out, a pool does not.
        database["CONN_MAX_AGE"] = 0
        if not TESTING:
            database.setdefault("OPTIONS", {})["pool"] = {"min_size": 1, "max_size": 12, "timeout": 10}
    return {"default": database}


def _mailers(url: str) -> dict[str, Any]:
    given = environ.Env.email_url_config(url)
    names = {
        "EMAIL_HOST": "host",
        "EMAIL_PORT": "port",
        "EMAIL_HOST_USER": "username",
        "EMAIL_HOST_PASSWORD": "password",
        "EMAIL_USE_TLS": "use_tls",
        "EMAIL_USE_SSL": "use_ssl",
        "EMAIL_FILE_PATH": "file_path",
    }
    options = {names[key]: value for key, value in given.items() if key in names and value}
    if given["EMAIL_BACKEND"].endswith("smtp.EmailBackend"):
        # The path of an smtp:// address means nothing, and a server that hangs must not hang a page.
        options.pop("file_path", None)
        options["timeout"] = 10
    return {"default": {"BACKEND": given["EMAIL_BACKEND"], "OPTIONS": options}}


DATABASES = _databases(ENV.database_url)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

if ENV.redis_url:
    CHANNEL_LAYERS: dict[str, Any] = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [ENV.redis_url]},
        }
    }
    CACHES: dict[str, Any] = {
        "default": {"BACKEND": "portal.redis_cache.SharedRedisCache", "LOCATION": ENV.redis_url}
    }
else:
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

# Tasks live in the same database as the rows they serve, so enqueueing one is part of the row's transaction.
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": ["default", "events", "media"]}}

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "home"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
# Linking must never wait for a mail to arrive (contract 2.6): the address is verified afterwards.
ACCOUNT_EMAIL_VERIFICATION = "optional"
ACCOUNT_RATE_LIMITS = {
    # allauth's own for everything else. Five wrong passwords lock an account for five minutes ...
    "login_failed": "10/m/ip,5/5m/key",
    # ... and the fifth, and whatever comes after it, is reported by mail (accounts/lockout.py).
    "failures_before_lockout": "4/5m/key",
    "lockout_mail": "1/h/key",
    # Signing up tells whether an address is taken (docs/accounts.md): not to many who ask.
    "signup": "20/m/ip,60/h/ip",
}
ACCOUNT_ADAPTER = "accounts.adapters.AccountAdapter"
ACCOUNT_FORMS = {"signup": "accounts.forms.SignupForm"}
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_SESSION_REMEMBER = True
SOCIALACCOUNT_ADAPTER = "accounts.adapters.SocialAccountAdapter"
SOCIALACCOUNT_FORMS = {"disconnect": "accounts.forms.DisconnectForm"}
# Tokens of Ring lie in RingAccount's encrypted columns, nowhere else.
SOCIALACCOUNT_STORE_TOKENS = False
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = DEBUG
# A passkey signs in alone only because it also asks for fingerprint, face or PIN: without that it would be one factor.
MFA_WEBAUTHN_USER_VERIFICATION = "required"
MFA_FORMS = {"add_webauthn": "accounts.forms.AddPasskeyForm"}
MFA_ADAPTER = "accounts.mfa_adapter.MFAAdapter"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
MEDIA_ROOT = ENV.media_root
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG or TESTING
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
# Clips are private: readable by the portal's own user and, for nginx, its group.
FILE_UPLOAD_PERMISSIONS = 0o640
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o750
WHITENOISE_USE_FINDERS = DEBUG

MAILERS = _mailers(ENV.email_url)
DEFAULT_FROM_EMAIL = "Partner portal <portal@localhost>"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.api_authentication.ApiTokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.api_authentication.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework_json_api.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["portal.api.DocumentParser"],
    "DEFAULT_PAGINATION_CLASS": "portal.api.PageNumberPagination",
    "DEFAULT_FILTER_BACKENDS": [],
    "DEFAULT_METADATA_CLASS": None,
    "DEFAULT_SCHEMA_CLASS": "portal.api_schema.DocumentSchema",
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "portal.api.JsonApiNegotiation",
    "EXCEPTION_HANDLER": "portal.api.exception_handler",
    "TEST_REQUEST_RENDERER_CLASSES": ["rest_framework_json_api.renderers.JSONRenderer"],
    "TEST_REQUEST_DEFAULT_FORMAT": "vnd.api+json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Partner portal API",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "DESCRIPTION": "Devices, events and clips of one tenant as JSON:API documents. See docs/api.md.",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "defaultModelsExpandDepth": 0},
    "ENUM_NAME_OVERRIDES": {
        "FetchState": "media.models.FetchState",
        "DeviceKind": "devices.models.Device.Kind",
    },
}

UNFOLD = {
    "SITE_TITLE": "Partner portal",
    "SITE_HEADER": "Partner portal",
    "SITE_SUBHEADER": "Installation",
    "SITE_URL": "/",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": admin_menu.favicon}],
    "SIDEBAR": {"show_search": True, "navigation": admin_menu.menu()},
    "COLORS": {
        "primary": {
            "50": "#eef3fd",
            "100": "#dbe6fb",
            "200": "#bcd0f8",
            "300": "#93b3f3",
            "400": "#7aa2ff",
            "500": "#3f71e6",
            "600": "#2257d6",
            "700": "#1c47b0",
            "800": "#1b3c8f",
            "900": "#1a346f",
            "950": "#121f44",
        }
    },
}

# Security. One policy for every page; the admin's theme needs more and says so in portal/admin_site.py.
SECURE_CSP = {
    "default-src": [CSP.NONE],
    "script-src": [CSP.SELF],
    "style-src": [CSP.SELF],
    "img-src": [CSP.SELF, "data:", "blob:"],
    "font-src": [CSP.SELF],
    "media-src": [CSP.SELF, "blob:"],
    "connect-src": [CSP.SELF],
    "manifest-src": [CSP.SELF],
    "worker-src": [CSP.SELF],
    "form-action": [CSP.SELF],
    "frame-ancestors": [CSP.NONE],
    "base-uri": [CSP.NONE],
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
SESSION_ENGINE = "portal.sessions"  # Django's own in the database, encrypted
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
if not DEBUG:
    # The one proxy that ends TLS says in X-Forwarded-For who came: limits count browsers, not the proxy.
    ALLAUTH_TRUSTED_PROXY_COUNT = 1
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    # Ring never follows redirects, and health probes come over plain http from inside.
    SECURE_REDIRECT_EXEMPT = [r"^ring/", r"^healthz/"]
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    SESSION_COOKIE_NAME = "__Host-sessionid"
    CSRF_COOKIE_NAME = "__Host-csrftoken"
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024

LOGGING = logging_config(log_format=ENV.log_format)
SILENCED_SYSTEM_CHECKS: list[str] = []
