"""What people type into the media pages."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone

from media.models import MAX_CLIP_MS

MS_PER_S = 1000


class ClipRangeForm(forms.Form):
    """
    A moment and a length. The moment is in `zone`, which the page's script sets to the browser's; else in UTC.

    After validation `start` is aware.
    """

    start = forms.DateTimeField(
        label="From",
        input_formats=["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"],
        widget=forms.DateTimeInput(attrs={"type": "datetime-local", "step": "1"}),
        help_text="In your own time.",
    )
    seconds = forms.IntegerField(
        label="Seconds",
        min_value=1,
        max_value=MAX_CLIP_MS // MS_PER_S,
        initial=30,
        help_text="At most 900 (15 min).",
    )
    component = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)
    zone = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput(attrs={"data-zone": ""}))

    def clean(self) -> dict[str, object]:
        data: dict[str, object] = self.cleaned_data
        start, zone = data.get("start"), data.get("zone")
        if isinstance(start, datetime):
            wall = start.replace(tzinfo=None) if timezone.is_aware(start) else start
            try:
                data["start"] = wall.replace(tzinfo=ZoneInfo(str(zone)) if zone else UTC)
            except (ZoneInfoNotFoundError, ValueError):
                raise ValidationError(
                    "The browser's time zone is not known here. Give the time in UTC."
                ) from None
        return data


class ClipFilterForm(forms.Form):
    """The filters of the clip library; each is in the address. What cannot be read filters nothing."""

    device = forms.UUIDField(required=False)
    day = forms.DateField(required=False)
