"""How watching and keeping read in the activity, and how devices and clips are called there."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from accounts.activity import name_things, say, seconds
from accounts.models import LivePath, Tenant
from devices.models import Device
from media.models import Clip, ClipRule, LiveSession, Purpose, Screen


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


def _rules(tenant: Tenant, ids: Iterable[UUID]) -> dict[UUID, str]:
    rows = ClipRule.objects.for_tenant(tenant).filter(public_id__in=list(ids))
    return {public_id: f"the rule “{name}”" for public_id, name in rows.values_list("public_id", "name")}


def _rule(detail: Mapping[str, Any]) -> str:
    return f"“{detail['name']}”" if "name" in detail else ""


def _asked(detail: Mapping[str, Any]) -> str:
    by = f"by the rule “{detail['rule']}”" if "rule" in detail else ""
    return ", ".join(words for words in (by, _length(detail)) if words)


def _watched(detail: Mapping[str, Any]) -> str:
    reasons = dict(LiveSession.EndReason.choices)
    why = str(reasons.get(str(detail.get("reason", "")), "")).lower()
    length = f"for {seconds(detail.get('watched_s'))}"
    return ", ".join(part for part in (length, _purpose(detail), why) if part)


def _purpose(detail: Mapping[str, Any]) -> str:
    said = str(dict(Purpose.choices).get(str(detail.get("purpose", "")), ""))
    return f"what for: {said[:1].lower()}{said[1:]}" if said else ""


def _way(detail: Mapping[str, Any]) -> str:
    path = str(dict(LivePath.choices).get(str(detail.get("live_path")), "")).partition(":")[0].lower()
    most = f"at most {detail['live_most']} at once" if "live_most" in detail else ""
    on_wall = f"{detail['wall_most']} on a wall" if "wall_most" in detail else ""
    battery = f"{detail['battery_minutes']} minutes a day of a battery" if "battery_minutes" in detail else ""
    purpose = ""
    if "must_say_purpose" in detail:
        purpose = f"the team {'must' if detail['must_say_purpose'] else 'need not'} say what it watches for"
    return ", ".join(words for words in (path, most, on_wall, battery, purpose) if words)


def _length(detail: Mapping[str, Any]) -> str:
    length = detail.get("duration_ms")
    return f"{seconds(length / 1000)} long" if isinstance(length, int) else ""


def register() -> None:
    name_things("device", _devices)
    name_things("clip", _clips)
    name_things("screen", _screens)
    name_things("rule", _rules)
    say("clip_rule.added", "added {thing} for keeping clips")
    say("clip_rule.changed", "changed {thing} for keeping clips")
    say("clip_rule.removed", "removed a rule for keeping clips", detail=_rule)
    say("screen.made", "made a link for {thing}", detail=lambda detail: f"{detail.get('cameras')} cameras")
    say("screen.opened", "opened the link of {thing}")
    say("screen.revoked", "ended the link of {thing}")
    say("tenant.live_path", "changed how live pictures come", detail=_way)
    say("live.started", "began to watch {thing} live", detail=_purpose)
    say("live.ended", "watched {thing} live", detail=_watched)
    say("clip.requested", "asked for {thing}", detail=_asked)
    say("clip.seen", "played {thing}")
    say("clip.downloaded", "downloaded {thing}")
    say("clip.deleted", "deleted {thing}", detail=_length)
