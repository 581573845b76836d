"""The media pages of a tenant, below `/t/<tenant>/`."""

from django.urls import path

from media import rule_views, screen_views, settings_views, views, whep

app_name = "media"
urlpatterns = [
    path("live/", views.wall, name="wall"),
    path("live/watching", views.watching, name="watching"),
    path("live/screens/", screen_views.screen_list, name="screens"),
    path("live/screens/<uuid:screen>/revoke", screen_views.revoke_screen, name="revoke_screen"),
    path("screen/", screen_views.screen, name="screen"),
    path("screen/<uuid:device>/whep", screen_views.screen_whep, name="screen_whep"),
    path("screen/<uuid:device>/whep/<uuid:session>", screen_views.screen_session, name="screen_session"),
    path("screen/<uuid:device>/whep/<uuid:session>/more", screen_views.screen_more, name="screen_more"),
    path("live/<uuid:device>/", views.watch, name="watch"),
    path("live/<uuid:device>/whep", whep.endpoint, name="whep"),
    path("live/<uuid:device>/whep/<uuid:session>", whep.session_resource, name="whep_session"),
    path("live/<uuid:device>/whep/<uuid:session>/more", whep.keep_watching, name="whep_more"),
    path("settings/live/", settings_views.live_settings, name="live_settings"),
    path("settings/clips/", rule_views.rule_list, name="clip_rules"),
    path("settings/clips/add", rule_views.add_rule, name="add_clip_rule"),
    path("settings/clips/<uuid:rule>/", rule_views.rule, name="clip_rule"),
    path("settings/clips/<uuid:rule>/remove", rule_views.remove_rule, name="remove_clip_rule"),
    path("clips/", views.library, name="clips"),
    path("clips/<uuid:clip>/", views.clip, name="clip"),
    path("clips/<uuid:clip>/video", views.clip_video, name="clip_video"),
    path("clips/<uuid:clip>/poster", views.clip_poster, name="clip_poster"),
    path("clips/<uuid:clip>/again", views.ask_again, name="ask_again"),
    path("clips/<uuid:clip>/delete", views.delete_clip, name="delete_clip"),
    path("devices/<uuid:device>/clip", views.request_device_clip, name="request_device_clip"),
    path("devices/<uuid:device>/picture", views.latest, name="latest_picture"),
    path("devices/<uuid:device>/viewings/", views.viewings, name="viewings"),
    path("events/<uuid:event>/clip", views.request_event_clip, name="request_event_clip"),
    path("pictures/<uuid:picture>/", views.picture, name="picture"),
]
