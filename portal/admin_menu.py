"""The staff's menu, in the words of the house. Icons are names of Material Symbols, which the theme brings along."""

from collections.abc import Callable
from typing import Any, Final

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy

type Item = tuple[str, str, str]

_GROUPS: Final[dict[str, tuple[Item, ...]]] = {
    "Companies": (
        ("Tenants", "apartment", "accounts_tenant"),
        ("Ring apps", "key", "accounts_ringapp"),
        ("API tokens", "api", "accounts_apitoken"),
    ),
    "Set-up": (
        ("Checks", "fact_check", "onboarding_checkrun"),
        ("Ticked demands", "task_alt", "onboarding_attestation"),
        ("Reminders hidden", "notifications_off", "onboarding_dismissal"),
    ),
    "People": (
        ("People", "person", "accounts_user"),
        ("Memberships", "groups", "accounts_membership"),
        ("Invitations", "outgoing_mail", "accounts_invitation"),
        ("Grants", "lock_open", "devices_grant"),
        ("E-mail addresses", "mail", "account_emailaddress"),
        ("Passkeys and factors", "fingerprint", "mfa_authenticator"),
        ("Signed in", "devices", "usersessions_usersession"),
    ),
    "Homes": (
        ("Ring accounts", "link", "accounts_ringaccount"),
        ("Relink mails", "outgoing_mail", "accounts_relinknotice"),
        ("Devices", "videocam", "devices_device"),
        ("Device groups", "apartment", "devices_devicegroup"),
        ("Grouped devices", "rule", "devices_groupeddevice"),
        ("Syncs", "sync", "devices_accountsync"),
    ),
    "What happens": (
        ("Events", "notifications", "events_event"),
        ("Deliveries", "webhook", "events_delivery"),
        ("Positions", "format_list_numbered", "events_tenantposition"),
        ("Histories", "manage_history", "events_historyreading"),
        ("Reviews", "done_all", "events_eventreview"),
        ("Notices chosen", "tune", "events_notificationsettings"),
        ("Browsers that get notices", "send_to_mobile", "events_pushsubscription"),
        ("Last notices", "schedule", "events_lastnotice"),
    ),
    "Footage": (
        ("Live sessions", "live_tv", "media_livesession"),
        ("Screens", "tv", "media_screen"),
        ("Clip rules", "rule", "media_cliprule"),
        ("Clips", "movie", "media_clip"),
        ("Pictures", "image", "media_picture"),
    ),
    "Installation": (
        ("Audit trail", "history", "accounts_auditentry"),
        ("People in the trail", "badge", "accounts_auditperson"),
        ("Ends of the trails", "verified", "accounts_audithead"),
        ("Copies of data", "archive", "accounts_dataexport"),
        ("Deletions", "delete_forever", "accounts_erasure"),
        ("Not stored any more", "block", "accounts_erasedringid"),
        ("Key of push messages", "vpn_key", "events_pushkey"),
        ("Tasks", "task", "django_tasks_database_dbtaskresult"),
        ("Workers", "memory", "portal_workerheartbeat"),
        ("Relay nodes", "cell_tower", "media_relaynode"),
    ),
}


def menu() -> list[dict[str, Any]]:
    """For `UNFOLD["SIDEBAR"]["navigation"]`."""
    return [
        {
            "title": title,
            "separator": True,
            "items": [
                {
                    "title": words,
                    "icon": icon,
                    "link": reverse_lazy(f"admin:{model}_changelist"),
                    "permission": _may_look_at(model),
                }
                for words, icon, model in items
            ],
        }
        for title, items in _GROUPS.items()
    ]


def _may_look_at(name: str) -> Callable[[HttpRequest], bool]:
    """Whether whoever asks is let in where the entry leads; `name` is as in the names of the admin's addresses."""
    app_label, _, model_name = name.rpartition("_")

    def may_look(request: HttpRequest) -> bool:
        model = apps.get_model(app_label, model_name)
        return admin.site.get_model_admin(model).has_view_permission(request)

    return may_look


def favicon(_: object) -> str:
    """For `UNFOLD["SITE_FAVICONS"]`."""
    return static("img/mark.svg")
