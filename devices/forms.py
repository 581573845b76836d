"""The forms of giving access, and of groups."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Final

from django import forms
from django.db.models import QuerySet

from devices.grants import Capability
from devices.models import Device, DeviceGroup

# How long access is given for, as the form offers it.
LASTS: Final = {
    "2h": ("2 hours", timedelta(hours=2)),
    "24h": ("24 hours", timedelta(hours=24)),
    "7d": ("7 days", timedelta(days=7)),
    "open": ("Until I end it", None),
}


class ShareForm(forms.Form):
    """To whom, what, and for how long."""

    email = forms.EmailField(
        label="E-mail address",
        max_length=254,
        help_text="Somebody who is not here yet gets a mail with a link to join as a guest.",
    )
    capabilities = forms.MultipleChoiceField(label="They may", widget=forms.CheckboxSelectMultiple)
    lasts = forms.ChoiceField(
        label="For how long",
        choices=[(key, words) for key, (words, _) in LASTS.items()],
        initial="24h",
        widget=forms.RadioSelect,
    )

    def __init__(self, *args: Any, shareable: Collection[Capability], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["capabilities"]
        field.choices = [
            (capability.value, str(capability.label).capitalize())
            for capability in Capability
            if capability in shareable
        ]
        field.initial = [Capability.LIVE.value, Capability.EVENTS.value]

    @property
    def wanted(self) -> list[Capability]:
        return [Capability(value) for value in self.cleaned_data["capabilities"]]

    def until(self, now: datetime) -> datetime | None:
        """When the access ends; None where it stays until it is ended."""
        _, lasts = LASTS[self.cleaned_data["lasts"]]
        return None if lasts is None else now + lasts


class GroupForm(forms.Form):
    """What a group is called, and which devices are in it."""

    name = forms.CharField(
        label="Name", max_length=100, help_text="Say what belongs together: a building, a ward, a floor."
    )
    devices = forms.ModelMultipleChoiceField(
        Device.objects.none(),
        label="Devices",
        to_field_name="public_id",
        widget=forms.CheckboxSelectMultiple,
        required=False,
    )

    def __init__(
        self, *args: Any, choices: "QuerySet[Device]", group: DeviceGroup | None = None, **kwargs: Any
    ) -> None:
        if group is not None:
            chosen = [str(public_id) for public_id in group.devices.values_list("public_id", flat=True)]
            kwargs["initial"] = {"name": group.name, "devices": chosen}
        super().__init__(*args, **kwargs)
        field: Any = self.fields["devices"]
        field.queryset = choices
        field.label_from_instance = _called


def _called(device: Device) -> str:
    home = device.ring_account.first_name
    return f"{device.name} ({home}’s home)" if home else device.name
