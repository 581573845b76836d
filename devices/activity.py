"""How giving access reads in the activity, and how groups are called there."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from accounts.activity import name_things, say
from accounts.models import Tenant
from devices.grants import Capability, DeviceGroup


def _groups(tenant: Tenant, ids: Iterable[UUID]) -> dict[UUID, str]:
    rows = DeviceGroup.objects.for_tenant(tenant).filter(public_id__in=list(ids))
    return {public_id: f"“{name}”" for public_id, name in rows.values_list("public_id", "name")}


def _given(detail: Mapping[str, Any]) -> str:
    words = dict(Capability.choices)
    return ", ".join(str(words[held]) for held in detail.get("capabilities", []) if held in words)


def register() -> None:
    name_things("group", _groups)
    say("grant.given", "gave access", detail=_given)
    say("grant.ended", "ended an access")
    say("group.made", "made the group {thing}")
    say("group.changed", "changed the group {thing}")
    say("group.deleted", "deleted a group")
