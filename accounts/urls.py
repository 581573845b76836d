"""The accounts pages of a tenant, below `/t/<tenant>/`."""

from django.urls import path

from accounts import data_views, links_views, people_views, security_views, tenant_views, views

app_name = "accounts"
urlpatterns = [
    path("link/", views.confirm_link, name="confirm_link"),
    path("link/switch/", views.switch_person, name="switch_person"),
    path("linked/<uuid:account>/", views.linked, name="linked"),
    path("linked/<uuid:account>/finish/", views.finish_link, name="finish_link"),
    path("settings/", views.settings, name="settings"),
    path("settings/accounts/<uuid:account>/unlink", views.unlink, name="unlink"),
    path("settings/people/", people_views.people_page, name="people"),
    path("settings/people/<uuid:member>/", people_views.member_page, name="member"),
    path("settings/people/<uuid:member>/remove", people_views.remove_member, name="remove_member"),
    path("settings/people/invitations/<uuid:invitation>/send", people_views.send_again, name="send_again"),
    path("settings/people/invitations/<uuid:invitation>/withdraw", people_views.withdraw, name="withdraw"),
    path("settings/ownership/", people_views.ownership, name="ownership"),
    path("settings/leave/", people_views.leave, name="leave"),
    path("join/", people_views.join, name="join"),
    path("join/switch/", people_views.join_as_another, name="join_as_another"),
    path("settings/links/", links_views.links, name="links"),
    path("settings/security/", security_views.security, name="security"),
    path("settings/ring/", tenant_views.setup, name="setup"),
    path("settings/ring/company/", tenant_views.company, name="company"),
    path("settings/ring/drop-key/", tenant_views.drop_key, name="drop_key"),
    path("settings/ring/partner-links/", tenant_views.partner_links, name="partner_links"),
    path("settings/activity/", data_views.activity_page, name="activity"),
    path("settings/activity.csv", data_views.activity_file, {"ending": "csv"}, name="activity_csv"),
    path("settings/activity.json", data_views.activity_file, {"ending": "json"}, name="activity_json"),
    path("settings/data/", data_views.your_data, name="your_data"),
    path("settings/data/export/", data_views.ask_for_export, name="ask_for_export"),
    path("settings/data/export/<uuid:export>/", data_views.download_export, name="download_export"),
    path("settings/data/delete/", data_views.erase_person, name="erase_person"),
    path("settings/data/delete-company/", data_views.erase_company, name="erase_company"),
    path("settings/data/keep-company/", data_views.keep_company, name="keep_company"),
    path("accent.css", tenant_views.accent, name="accent"),
]
