"""How watching and keeping read in the activity, and how devices and clips are called there."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from accounts.activity import name_things, say, seconds
from accounts.models import LivePath, Tenant
from devices.models import Device
from media.models import Clip, LiveSession, Screen


def _devices(tenant: Tenant, ids: Iterable[UUID]) -> dict[UUID, str]:
    return dict(
        Device.objects.for_tenant(tenant).filter(public_id__in=list(ids)).values_list("public_id", "name")
    )


def _clips(tenant: Tenant, ids: Iterable[UUID]) -> dict[UUID, str]:
    rows = Clip.objects.for_tenant(tenant).filter(public_id__in=list(ids))
    return {
        public_id: f"a clip of {name}" for public_id, name in rows.values_list("public_id", "device__name")
    }


def _screens(tenant: Tenant, ids: Iterable[UUID]) -> dict[UUID, str]:
    rows = Screen.objects.for_tenant(tenant).filter(public_id__in=list(ids))
    return {public_id: f"the screen “{name}”" for public_id, name in rows.values_list("public_id", "name")}


def _watched(detail: Mapping[str, Any]) -> str:
    reasons = dict(LiveSession.EndReason.choices)
    why = str(reasons.get(str(detail.get("reason", "")), "")).lower()
    return ", ".join(part for part in (f"for {seconds(detail.get('watched_s'))}", why) if part)


def _way(detail: Mapping[str, Any]) -> str:
    path = str(dict(LivePath.choices).get(str(detail.get("live_path")), "")).partition(":")[0].lower()
    most = f"at most {detail['live_most']} at once" if "live_most" in detail else ""
    on_wall = f"{detail['wall_most']} on a wall" if "wall_most" in detail else ""
    return ", ".join(words for words in (path, most, on_wall) if words)


def _length(detail: Mapping[str, Any]) -> str:
    length = detail.get("duration_ms")
    return f"{seconds(length / 1000)} long" if isinstance(length, int) else ""


def register() -> None:
    name_things("device", _devices)
    name_things("clip", _clips)
    name_things("screen", _screens)
    say("screen.made", "made a link for {thing}", detail=lambda detail: f"{detail.get('cameras')} cameras")
    say("screen.opened", "opened the link of {thing}")
    say("screen.revoked", "ended the link of {thing}")
    say("tenant.live_path", "changed how live pictures come", detail=_way)
    say("live.started", "began to watch {thing} live")
    say("live.ended", "watched {thing} live", detail=_watched)
    say("clip.requested", "asked for {thing}", detail=_length)
    say("clip.seen", "played {thing}")
    say("clip.downloaded", "downloaded {thing}")
    say("clip.deleted", "deleted {thing}", detail=_length)
