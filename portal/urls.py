"""Every address of the installation. Ring-facing ones have no trailing slash and never redirect a POST."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path

from events.notification_views import manifest, service_worker
from portal import views

urlpatterns = [
    path("", views.home, name="home"),
    path("healthz/live", views.live, name="healthz-live"),
    path("service-worker.js", service_worker, name="service-worker"),
    path("manifest.webmanifest", manifest, name="manifest"),
    path("metrics", views.metrics, name="metrics"),
    path("healthz/ready", views.ready, name="healthz-ready"),
    path("accounts/", include("accounts.signin_urls")),
    path("accounts/", include("accounts.data_urls")),
    path("accounts/", include("allauth.urls")),
    path("ring/<slug:tenant>/", include("accounts.ring_urls")),
    path("t/<slug:tenant>/", include("accounts.urls")),
    path("t/<slug:tenant>/", include("devices.urls")),
    path("t/<slug:tenant>/", include("events.urls")),
    path("t/<slug:tenant>/", include("media.urls")),
    path("t/<slug:tenant>/settings/setup/", include("onboarding.urls")),
    path("api/", include("portal.api_urls")),
    path(f"{settings.ADMIN_PATH}/", admin.site.urls),
]
