"""What a person decides about their whole account, and the receipts of deletions: below `/accounts/`, of no tenant."""

from django.urls import path

from accounts import data_views

app_name = "data"
urlpatterns = [
    path("data/profile.json", data_views.profile, name="profile"),
    path("data/delete/", data_views.erase_account, name="erase_account"),
    path("receipt/<str:token>/", data_views.receipt, name="receipt"),
]
