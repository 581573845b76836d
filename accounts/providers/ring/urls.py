"""Partner-initiated linking (contract 3.2), below `/accounts/`. The callback is registered at Ring, one for each tenant."""

from django.urls import path

from accounts.providers.ring import views

urlpatterns = [
    path("ring/<slug:tenant>/login/", views.login, name="ring_login"),
    path("ring/<slug:tenant>/login/callback/", views.callback, name="ring_callback"),
]
