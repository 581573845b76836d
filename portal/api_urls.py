"""`/api/`: the JSON:API routes of every app, the OpenAPI schema and its reader."""

from django.urls import include, path, re_path

from rest_framework.routers import SimpleRouter

from accounts.api import AccountResource
from devices.api import DeviceResource
from events.api import EventResource
from media.api import ClipResource, LiveSessionResource
from onboarding.api import TestEventResource
from portal.api_pages import ApiRoot, Docs, Nothing, Schema

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("accounts", AccountResource, basename="accounts")
router.register("devices", DeviceResource, basename="devices")
router.register("events", EventResource, basename="events")
router.register("clips", ClipResource, basename="clips")
router.register("live-sessions", LiveSessionResource, basename="live-sessions")
router.register("test-events", TestEventResource, basename="test-events")

app_name = "api"
urlpatterns = [
    path("schema/", Schema.as_view(), name="schema"),
    path("docs/", Docs.as_view(), name="docs"),
    path("v1/", ApiRoot.as_view(), name="root"),
    path("v1/", include(router.urls)),
    re_path(r"^v1/.*$", Nothing.as_view(), name="nothing"),
]
