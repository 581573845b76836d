"""Staff look at runs of set-up checks and at what was ticked; nothing is typed in here."""

from django.contrib import admin

from onboarding.models import Attestation, CheckRun, Dismissal
from portal.admin_base import StaffAdmin


@admin.register(CheckRun)
class CheckRunAdmin(StaffAdmin):
    """Self-tests and link rehearsals, with what they found."""

    list_display = ("created_at", "tenant", "kind", "state", "started_by", "finished_at")
    list_select_related = ("tenant", "started_by")
    list_filter = ("kind", "state", "tenant")
    search_fields = ("tenant__slug", "=public_id")
    date_hierarchy = "created_at"


@admin.register(Attestation)
class AttestationAdmin(StaffAdmin):
    """Which demands of Ring's a company says it meets, and who says so."""

    list_display = ("tenant", "key", "by", "at")
    list_select_related = ("tenant", "by")
    list_filter = ("tenant",)
    search_fields = ("key", "tenant__slug")
    date_hierarchy = "at"


@admin.register(Dismissal)
class DismissalAdmin(StaffAdmin):
    """Who wants no reminder of the set-up."""

    list_display = ("membership", "tenant", "at")
    list_select_related = ("membership__user", "tenant")
    search_fields = ("tenant__slug",)
    date_hierarchy = "at"
