"""The events pages of a tenant, below `/t/<tenant>/`."""

from django.urls import path

from events import inspector_views, notification_views, retention_views, review_views, views

app_name = "events"
urlpatterns = [
    path("", views.dashboard, name="dashboard"),
    path("events/", views.event_list, name="list"),
    path("events/export.csv", views.export_file, {"ending": "csv"}, name="export_csv"),
    path("events/export.json", views.export_file, {"ending": "json"}, name="export_json"),
    path("events/rows/", views.rows, name="rows"),
    path("events/review/", review_views.review, name="review"),
    path("events/review/undo/", review_views.undo, name="undo_review"),
    path("events/<uuid:event>/", views.detail, name="detail"),
    path("settings/retention/", retention_views.retention_page, name="retention"),
    path("settings/notifications/", notification_views.notifications_page, name="notifications"),
    path("settings/notifications/own/", notification_views.own_notifications, name="own_notifications"),
    path("settings/notifications/subscribe/", notification_views.subscribe, name="subscribe"),
    path("settings/notifications/test/", notification_views.send_test, name="send_test_notice"),
    path("settings/notifications/snooze/", notification_views.snooze, name="snooze"),
    path(
        "settings/notifications/snooze-from-notice/",
        notification_views.snooze_from_notice,
        name="snooze_from_notice",
    ),
    path(
        "settings/notifications/<uuid:browser>/remove/",
        notification_views.remove_browser,
        name="remove_browser",
    ),
    path("deliveries/", inspector_views.deliveries, name="deliveries"),
    path("deliveries/replay/", inspector_views.replay, name="replay"),
    path("deliveries/<uuid:delivery>/", inspector_views.delivery, name="delivery"),
]
