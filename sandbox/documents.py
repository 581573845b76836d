"""The JSON:API documents of devices in the shape captured from Ring (contract 7), explicit nulls and all."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox.world import Device, Integration, World

INCLUDABLE = ("location", "status", "capabilities", "configurations")  # the order of `included` as captured
_TYPES = {
    "status": "device-status",
    "location": "locations",
    "capabilities": "device-capabilities",
    "configurations": "device-configurations",
}
_LENGTHS = {"status": 120, "capabilities": 126, "location": 141, "configurations": 154}


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class DeviceDocuments:
    """Documents of one device as one app sees it."""

    def __init__(self, world: World, integration: Integration, device: Device) -> None:
        self.world = world
        self.integration = integration
        self.device = device
        self.id = world.device_id(integration.client_id, integration.account, device.key)

    def resource_id(self, part: str) -> str:
        kind = "location" if part == "location" else f"device.{part}"
        name = (
            self.integration.account
            if part == "location"
            else f"{self.integration.account}/{self.device.key}"
        )
        return self.world.directed_id(kind, self.integration.client_id, name, _LENGTHS[part])

    def device_resource(self) -> dict[str, Any]:
        return {
            "type": "devices",
            "id": self.id,
            "attributes": {
                "name": self.device.name,
                "image_url": f"https://sandbox.invalid/devices/{self.device.kind}.png",
            },
            "relationships": {
                part: {
                    "data": {"type": _TYPES[part], "id": self.resource_id(part)},
                    "links": {"related": f"/v1/devices/{self.id}/{part}"},
                }
                for part in ("status", "location", "capabilities", "configurations")
            },
        }

    def part(self, part: str) -> dict[str, Any]:
        attributes = {
            "status": self._status,
            "location": lambda: {"country": "US", "state": "WA"},
            "capabilities": self._capabilities,
            "configurations": self._configurations,
        }[part]()
        return {"type": _TYPES[part], "id": self.resource_id(part), "attributes": attributes}

    def _status(self) -> dict[str, Any]:
        device = self.device
        snooze = (
            {"active": False, "until": None} if device.kind == "chime" else {"active": None, "until": None}
        )
        attributes: dict[str, Any] = {
            "online": device.online,
            "reported_at": iso(self.world.now_ms()),
            "audio": {"snooze": snooze},
            "state": None,
        }
        if device.power == "battery" or device.kind == "contact" or device.tells_line_power:
            attributes["battery_status"] = {"percentage": device.battery_percent}
        if device.kind == "contact":
            attributes |= {
                "contact_detection": {"faulted": device.faulted},
                "tamper_detection": {"detected": False},
                "sensor_reporting_state": {"value": "active"},
                "signal_strength": {"value": "good"},
            }
        return attributes

    def _capabilities(self) -> dict[str, Any]:
        device = self.device
        video: dict[str, Any] = {
            "configurations": ["resolution_mode"],
            "codecs": ["AVC"],
            "ratio": "16:9",
            "max_resolution": 1080,
            "supported_resolutions": [1080],
        }
        no_video = dict.fromkeys(video)
        attributes: dict[str, Any] = {
            "video": video if device.has_video else no_video,
            "audio": {"customizable_slots": None, "supported_actions": None},
            "motion_detection": {"configurations": ["enabled", "motion_zones"] if device.has_video else None},
            "image_enhancements": {
                "configurations": ["color_night_vision", "privacy_zones", "snapshot"]
                if device.has_video
                else None
            },
            "flood_detection": None,
            "tamper_detection": None,
            "glass_break_detection": None,
            "smoke_detection": None,
            "freeze_detection": None,
            "co_detection_listener": None,
            "battery_status": {"supported": True} if device.power == "battery" else None,
            "contact_detection": {"supported": True} if device.kind == "contact" else None,
        }
        if device.kind == "chime":
            attributes["audio"] = {"customizable_slots": 2, "supported_actions": ["chime.play"]}
        if device.components:
            attributes["components"] = {
                "items": [{"component_id": number, "video": video} for number in device.components]
            }
        return attributes

    def _configurations(self) -> dict[str, Any]:
        device = self.device
        slots: Any = None
        if device.kind == "chime":
            slots = [
                {
                    "event": f"ring-appstore-event-{number}",
                    "disabled": False,
                    "audio_ref": self.world.directed_id("audio", self.integration.client_id, str(number), 60),
                    "audio_url": "https://sandbox.invalid/tone.mp3",
                    "audio_name": f"Tone {number}",
                }
                for number in (1, 2)
            ]
        zone = [{"x": 0, "y": 0.2}, {"x": 1, "y": 0.2}, {"x": 1, "y": 1}, {"x": 0, "y": 1}]
        return {
            "motion_detection": {
                "enabled": "on" if device.has_video else None,
                "motion_zones": [{"id": "5f0c1d1e-0000-4000-8000-000000000001", "vertices": zone}]
                if device.has_video
                else [],
            },
            "audio": {"customizable_slots": slots, "volume": 8},
            "image_enhancements": {
                "color_night_vision": "off",
                "hdr": "off",
                "ir_led_night_vision": "off",
                "auto_zoom_track": "off",
                "privacy_zones": device.privacy_zones,
            },
            "e2e_encryption": {"enabled": False},
        }
