"""Beside django-allauth's pages, below `/accounts/`."""

from django.urls import path

from accounts import signin_views

urlpatterns = [
    path("second-step/", signin_views.second_factor, name="second_factor"),
    path("sessions/<int:session>/end/", signin_views.end_session, name="end_session"),
]
