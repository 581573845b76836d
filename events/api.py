"""`/api/v1/events`: in order of arrival, so that a list neither repeats nor skips one while more arrive."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db.models import Max, Model, QuerySet

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param

from accounts.api import AccountSerializer, account_shown
from accounts.api_authentication import viewers
from devices.api import DeviceSerializer, OfDeviceResource
from events.models import Event, TenantPosition
from events.words import title_of
from portal.api import (
    Filter,
    PageNumberPagination,
    Relation,
    ResourceSerializer,
    SelfLink,
    uuids,
    whole_number,
)

AFTER = "filter[after]"
BEFORE = "filter[before]"


class EventSerializer(ResourceSerializer):
    """
    One event. `event_type` and `sub_type` as Ring spells them, `title` for people, `position` in the tenant's order of arrival.
    `request_id` is that of Ring's webhook: one id through logs, frames and pages.

    `device` and `account` are null as long as we do not know them: events may come before their account is linked.
    """

    url = SelfLink("events")
    title = serializers.SerializerMethodField(help_text="One short sentence for people.")
    component_ids = serializers.ListField(child=serializers.CharField(), read_only=True)
    is_test = serializers.BooleanField(
        read_only=True, help_text="True for what the portal sent to itself to try the way in."
    )
    device = Relation(resource_type="devices")
    account = Relation(resource_type="accounts", source="ring_account", shown=account_shown)

    included_serializers: ClassVar[Mapping[str, Any]] = {
        "device": DeviceSerializer,
        "account": AccountSerializer,
    }

    class Meta:
        model: type[Model] = Event
        resource_name = "events"
        fields = (
            "id",
            "url",
            "event_type",
            "sub_type",
            "title",
            "occurred_at",
            "received_at",
            "position",
            "component_ids",
            "is_test",
            "request_id",
            "device",
            "account",
        )
        read_only_fields = fields

    def get_title(self, event: Event) -> str:
        return title_of(event)


class EventPagination(PageNumberPagination):
    """
    Pages that stay put while events arrive.

    Newest first, every link carries `filter[before]`: the position above which nothing belongs to this walk. With
    `filter[after]` it goes upwards, and `next` carries the last position seen; `meta.position` is where to go on
    later, also from the last page. `meta.expired`, where present: up to this position some were deleted for their age.
    """

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        self.goes_up = AFTER in request.query_params
        rows = super().paginate_queryset(queryset, request, view)
        self.ceiling: int | None = None
        if not self.goes_up and rows and not request.query_params.get("sort"):
            newest = rows[0] if self.page.number == 1 else queryset.first()
            self.ceiling = newest.position + 1
        self.last = rows[-1].position if rows else None
        return rows

    def build_link(self, index: Any) -> str | None:
        link: str | None = super().build_link(index)
        if link is None or self.ceiling is None or BEFORE in self.request.query_params:
            return link
        return str(replace_query_param(link, BEFORE, self.ceiling))

    def get_paginated_response(self, data: Any) -> Response:
        response: Response = super().get_paginated_response(data)
        if self.goes_up:
            asked = int(self.request.query_params[AFTER])
            position = asked if self.last is None else self.last
            following = None
            if self.page.has_next():
                url = remove_query_param(self.request.build_absolute_uri(), self.page_query_param)
                following = replace_query_param(url, AFTER, position)
            response.data["links"] = {
                "first": replace_query_param(self.request.build_absolute_uri(), AFTER, asked),
                "last": None,
                "prev": None,
                "next": following,
            }
            response.data["meta"]["position"] = position
            expired = TenantPosition.objects.filter(
                tenant__in={viewer.tenant_id for viewer in viewers(self.request)}, expired__gt=asked
            ).aggregate(Max("expired"))["expired__max"]
            if expired is not None:
                response.data["meta"]["expired"] = expired
        return response


def _after(rows: QuerySet[Any], text: str) -> QuerySet[Any]:
    return rows.filter(position__gt=whole_number(AFTER, text))


def _before(rows: QuerySet[Any], text: str) -> QuerySet[Any]:
    return rows.filter(position__lt=whole_number(BEFORE, text))


class EventResource(OfDeviceResource):
    """What happened, newest first; oldest first after a position with `filter[after]`."""

    rows = Event.objects.select_related("device__ring_account", "ring_account")
    serializer_class = EventSerializer
    pagination_class = EventPagination
    filters: ClassVar[Mapping[str, Filter]] = {
        "after": _after,
        "before": _before,
        "device": lambda rows, text: rows.filter(device__public_id__in=uuids("filter[device]", text)),
        "account": lambda rows, text: rows.filter(ring_account__public_id__in=uuids("filter[account]", text)),
        "event_type": lambda rows, text: rows.filter(event_type__in=text.split(",")),
    }
    sorts: ClassVar[Mapping[str, str]] = {"position": "position", "occurred_at": "occurred_at"}
    default_sort = "-position"
    relationships = ("device", "account")

    def _order(self) -> list[str]:
        if AFTER in self.request.query_params:
            return ["position", "pk"]
        return super()._order()
