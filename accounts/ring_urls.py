"""The addresses a tenant registers at Ring, below `/ring/<tenant>/`. The webhook is in front of Django: portal/asgi.py."""

from django.urls import path

from accounts import ring_views

app_name = "ring"
urlpatterns = [
    path("token", ring_views.token_exchange, name="token_exchange"),
    path("link", ring_views.link, name="link"),
    path("home", ring_views.home, name="home"),
]
