"""What the address of the delivery inspector asks for: `state`, `q`, `device`, `from`, `to`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from django.db.models import Q
from django.http import QueryDict

from devices.models import Device
from events.filters import input_text, moment_of, notes_on_times
from events.inspector import State
from events.models import DeliveryQuerySet


@dataclass(frozen=True)
class DeliveryFilters:
    """
    Which deliveries are asked for; what is asked for in vain is left out, and for times `notes` say so.

    `text` is a request id or an event type as Ring spells it. `start` and `end` are aware; `end` itself is not within.
    """

    state: State | None = None
    text: str = ""
    device: Device | None = None
    start: datetime | None = None
    end: datetime | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, query: QueryDict, devices: Iterable[Device]) -> "DeliveryFilters":
        """Read an address or a form; `devices` are those that may be asked for."""
        state, wanted = query.get("state", ""), query.get("device", "")
        start, end = moment_of(query.get("from", "")), moment_of(query.get("to", ""))
        return cls(
            state=State(state) if state in set(State) else None,
            text=query.get("q", "").replace("\0", "").strip()[:255],
            device=next((device for device in devices if str(device.public_id) == wanted), None),
            start=start,
            end=end,
            notes=tuple(notes_on_times(query, start, end)),
        )

    def apply(self, deliveries: DeliveryQuerySet) -> DeliveryQuerySet:
        """Those that match. A type or device is looked for in the event too: older deliveries do not say it themselves."""
        if self.state is not None:
            deliveries = deliveries.filter(self.state.condition)
        if self.text:
            deliveries = deliveries.filter(
                Q(request_id=self.text) | Q(event_type=self.text) | Q(event__event_type=self.text)
            )
        if self.device is not None:
            deliveries = deliveries.filter(
                Q(event__device=self.device) | Q(device_ring_id=self.device.ring_id)
            )
        if self.start is not None:
            deliveries = deliveries.filter(received_at__gte=self.start)
        if self.end is not None:
            deliveries = deliveries.filter(received_at__lt=self.end)
        return deliveries

    @property
    def narrows(self) -> bool:
        """Whether anything is asked for at all."""
        return any(True for _ in self.items())

    @property
    def start_text(self) -> str:
        """`start` as `<input type="datetime-local">` shows it."""
        return input_text(self.start)

    @property
    def end_text(self) -> str:
        return input_text(self.end)

    def items(self) -> Iterator[tuple[str, str]]:
        """What is asked for, by the names of the address, for a form that asks the same."""
        for name, value in (
            ("state", str(self.state or "")),
            ("q", self.text),
            ("device", str(self.device.public_id) if self.device else ""),
            ("from", self.start.isoformat() if self.start else ""),
            ("to", self.end.isoformat() if self.end else ""),
        ):
            if value:
                yield name, value

    def query(self, **changes: str) -> str:
        """The query string for the same filters, changed; "" takes one away."""
        values = {**dict(self.items()), **changes}
        return "?" + urlencode({name: value for name, value in values.items() if value})
