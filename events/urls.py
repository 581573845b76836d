"""The events pages of a tenant, below `/t/<tenant>/`."""

from django.urls import path

from events import inspector_views, retention_views, views

app_name = "events"
urlpatterns = [
    path("", views.dashboard, name="dashboard"),
    path("events/", views.event_list, name="list"),
    path("events/rows/", views.rows, name="rows"),
    path("events/<uuid:event>/", views.detail, name="detail"),
    path("settings/retention/", retention_views.retention_page, name="retention"),
    path("deliveries/", inspector_views.deliveries, name="deliveries"),
    path("deliveries/replay/", inspector_views.replay, name="replay"),
    path("deliveries/<uuid:delivery>/", inspector_views.delivery, name="delivery"),
]
