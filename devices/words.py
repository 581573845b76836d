"""A device in the words of the house: its state, its power, what stands in the way of video, and what to do about it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from accounts.models import RingAccount
from devices.describe import has_privacy_zones, read
from devices.models import AccountSync, Device

LOW_BATTERY_PERCENT: Final = 20
PRIVACY_ZONES: Final = (
    "This camera has privacy zones. We cannot mask them yet, so its video stays in the Ring app."
)
PLAN_ENDED: Final = "The plan for this camera has ended; renew it in Ring My Apps."

_ICONS: Final = {
    Device.Kind.CAMERA: "cctv",
    Device.Kind.CHIME: "speaker",
    Device.Kind.SENSOR: "door-open",
    Device.Kind.OTHER: "radio-tower",
}


@dataclass(frozen=True)
class State:
    """`word` says it, `tone` draws its shape (docs/look.md)."""

    word: str
    tone: str


@dataclass(frozen=True)
class Advice:
    """Something is not as it could be: what, why it matters, where to put it right. `code` is stable."""

    code: str
    title: str
    words: str
    tone: str = "warn"


@dataclass(frozen=True)
class Settings:
    """The owner's settings at Ring, read only. None: Ring has not said."""

    motion_enabled: bool | None
    motion_zones: int | None
    privacy_zones: int | None


def icon_of(device: Device) -> str:
    """The icon that stands for a device without a picture."""
    return _ICONS[Device.Kind(device.kind)]


def state_of(device: Device) -> State:
    """The state a tile shows. A device that is not shared, or whose account is not linked, is neither on- nor offline."""
    if device.removed_at is not None:
        return State("Not shared", "idle")
    if device.ring_account.state == RingAccount.State.RELINK_REQUIRED:
        return State("Not linked", "warn")
    if device.is_plan_ended:
        return State("No active plan", "warn")
    if device.online is None:
        return State("Not known", "idle")
    return State("Online", "ok") if device.online else State("Offline", "idle")


def is_stale(device: Device) -> bool:
    """Whether its picture is of another time: pale it, and say so in words."""
    return state_of(device).tone != "ok"


def last_report_at(device: Device) -> datetime | None:
    """When it last reported to Ring, as of the latest sync; None when it never did, or Ring does not say."""
    document = read(device.documents)
    return document.status.reported_at if document is not None and document.status is not None else None


def is_battery_low(device: Device) -> bool:
    return device.battery_percent is not None and device.battery_percent <= LOW_BATTERY_PERCENT


def battery_icon(device: Device) -> str:
    """Full, half or low, by what is left."""
    percent = device.battery_percent
    if percent is None or percent > 70:
        return "battery-full"
    return "battery-low" if is_battery_low(device) else "battery-medium"


def power_of(device: Device) -> str:
    """How it is powered, and what that means for watching."""
    if device.is_battery_powered is False:
        return "Line power"
    if device.battery_percent is not None:
        return f"Battery, {device.battery_percent} % left"
    return "Battery" if device.is_battery_powered else "Ring does not say"


def settings_of(device: Device) -> Settings:
    """What its owner set in the Ring app."""
    document = read(device.documents)
    told = document.configurations if document is not None else None
    if told is None:
        return Settings(None, None, None)
    return Settings(
        motion_enabled=told.motion_enabled,
        motion_zones=None if told.motion_zones is None else len(told.motion_zones),
        privacy_zones=None if told.privacy_zones is None else len(told.privacy_zones),
    )


def readings_of(device: Device) -> list[tuple[str, str]]:
    """What a sensor says now, as (name, words); nothing for a device that senses nothing."""
    document = read(device.documents)
    status = document.status if document is not None else None
    if status is None:
        return []
    yes_no = [
        ("Contact", status.contact_open, "Open", "Closed"),
        ("Water", status.flood_detected, "Detected", "Dry"),
        ("Freezing", status.freeze_detected, "Detected", "No"),
        ("Tampering", status.tamper_detected, "Detected", "No"),
    ]
    readings = [(name, yes if said else no) for name, said, yes, no in yes_no if said is not None]
    for name, measured in (("Temperature", status.temperature), ("Humidity", status.humidity)):
        if measured is not None:
            readings.append((name, f"{measured.value:g} {measured.unit}".strip()))
    if status.signal_strength:
        readings.append(("Signal", status.signal_strength.replace("_", " ").capitalize()))
    return readings


_NO_PLAN: Final = Advice(
    "no_plan",
    "Ring gives nothing about this home at present",
    "Usually the Ring plan of the device has ended, or the permission was taken back. The owner can check "
    "both in the Ring app: Menu, Ring plan, and Menu, Apps.",
)
_RING_SILENT: Final = Advice(
    "ring_silent",
    "Ring has not sent the devices yet",
    "It did not answer in time. We ask again by ourselves, and they appear as soon as they are here; nothing is lost.",
    "",
)
# What keeps a device just linked from being watched; the rest can wait until its own page is opened.
_HINDERS: Final = frozenset({"plan_ended", "encrypted", "privacy_zones", "offline", "motion_off"})


def sync_trouble(account: RingAccount) -> Advice | None:
    """Why the account's devices could not be fetched the last time; None when they could, or were not asked for yet."""
    sync = AccountSync.objects.filter(ring_account=account).first()
    if sync is None or not sync.last_error:
        return None
    return _NO_PLAN if sync.last_error == "RingForbidden" else _RING_SILENT


def hindrances_of(device: Device) -> list[Advice]:
    """What keeps this device from being watched, or from telling anything, each with the way out."""
    return [advice for advice in advice_for(device, None, is_own=True) if advice.code in _HINDERS]


def advice_for(device: Device, sync: AccountSync | None, *, is_own: bool) -> list[Advice]:
    """
    What stands in the way of video and events, the weightiest first, each with the way out.

    `is_own`: told to the person whose home it is; whoever else sees the device cannot link it or share it.
    Source: contract 14 (encryption, plan and consent), 7.3, 7.5, 2.10.
    """
    account = device.ring_account
    if device.removed_at is not None:
        return [
            Advice(
                "not_shared",
                "Ring does not share this device any more",
                "What was kept stays here. To have it back, open the Ring app, go to Apps, choose this company "
                "and share the device again."
                if is_own
                else "What was kept stays here. Its owner can share it again in the Ring app.",
            )
        ]
    found: list[Advice] = []
    if account.state == RingAccount.State.RELINK_REQUIRED:
        found.append(
            Advice(
                "link_again",
                "Ring asks for the account to be linked again" if is_own else "Its link with Ring has ended",
                "New events, live view and clips stop until then; what was kept stays. In the Ring app, go to Apps, "
                "remove this company and add it again."
                if is_own
                else "New events, live view and clips stop until its owner has linked it once more; what was kept stays. There "
                "is nothing for you to do: the owner has been told.",
                "bad",
            )
        )
    if device.is_plan_ended:
        found.append(
            Advice(
                "plan_ended",
                "No active plan",
                "The plan with this company has ended for this device: no live view, no new clips or pictures. Events come "
                "all the same, and what was kept stays. "
                + ("Renew it in Ring My Apps" if is_own else "Its owner can renew it in Ring My Apps")
                + "; we learn of it at once.",
            )
        )
    document = read(device.documents)
    configurations = document.configurations if document is not None else None
    if configurations is not None and configurations.e2e_encrypted:
        found.append(
            Advice(
                "encrypted",
                "Its video is encrypted so that no app can read it",
                "The encryption chosen for this device keeps the key with its owner: live view and clips come, but cannot "
                "be played. The owner can pause the encryption in the Ring app, under Device Settings, Video Settings.",
            )
        )
    if sync is not None and sync.last_error == "RingForbidden":
        found.append(_NO_PLAN)
    elif account.synced_at is not None and device.seen_at < account.synced_at:
        found.append(
            Advice(
                "not_listed",
                "Ring did not name this device when last asked",
                "It is kept here until Ring says that it is gone. If it was given up or fully encrypted, it will go.",
            )
        )
    if device.online is False:
        found.append(
            Advice(
                "offline",
                "It is offline",
                "Live view will not start. Clips of earlier moments may still come. Check its power and its Wi-Fi, "
                "then Device Health in the Ring app.",
            )
        )
    settings = settings_of(device)
    if device.has_video and settings.motion_enabled is False:
        found.append(
            Advice(
                "motion_off",
                "Motion detection is off",
                "No motion events come from it. The owner can turn it on in the Ring app, under Motion Settings.",
                "",
            )
        )
    if device.has_video and has_privacy_zones(device):
        found.append(
            Advice(
                "privacy_zones",
                "Its video stays in the Ring app",
                "It has privacy zones, which we cannot mask yet: no live view, clips or pictures here. Events come all the "
                "same. The owner can change the zones in the Ring app; we learn of it within a quarter of an hour.",
                "",
            )
        )
    return found
