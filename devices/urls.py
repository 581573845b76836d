"""The devices pages of a tenant, below `/t/<tenant>/`."""

from django.urls import path

from devices import sharing_views, views

app_name = "devices"
urlpatterns = [
    path("devices/", views.device_list, name="list"),
    path("devices/sync", views.sync, name="sync"),
    path("devices/<uuid:device>/", views.device_detail, name="detail"),
    path("devices/<uuid:device>/share/", sharing_views.share_device, name="share"),
    path("settings/access/<uuid:grant>/end", sharing_views.end_grant, name="end_grant"),
    path("settings/groups/", sharing_views.group_list, name="groups"),
    path("settings/groups/<uuid:group>/", sharing_views.group_page, name="group"),
    path("settings/groups/<uuid:group>/delete", sharing_views.delete_group, name="delete_group"),
]
