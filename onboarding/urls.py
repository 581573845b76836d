"""The set-up pages of a tenant, below `/t/<tenant>/settings/setup/`."""

from django.urls import path

from onboarding import views

app_name = "onboarding"
urlpatterns = [
    path("", views.checklist, name="checklist"),
    path("remind/", views.remind, name="remind"),
    path("ask-sandbox/", views.ask_sandbox, name="ask_sandbox"),
    path("self-test/", views.self_test, name="self_test"),
    path("test-event/", views.test_event, name="test_event"),
    path("rehearsal/", views.rehearsal, name="rehearsal"),
    path("rehearsal/open/", views.open_scene, name="open_scene"),
    path("certification/", views.certification, name="certification"),
]
