"""
What every JSON:API route shares: documents in, documents out, errors, and how a list is asked for.

Only the protocol is here (https://jsonapi.org/format/1.1/); who may see what is `accounts/api.py`'s.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

from django.db.models import QuerySet
from django.http import Http404

from rest_framework import exceptions, serializers, status
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.utils.mediatypes import _MediaType
from rest_framework.views import exception_handler as drf_exception_handler
from rest_framework_json_api.pagination import JsonApiPageNumberPagination
from rest_framework_json_api.parsers import JSONParser
from rest_framework_json_api.relations import ResourceRelatedField
from rest_framework_json_api.serializers import ModelSerializer

from portal.tenancy import TenantQuerySet, Viewer

MEDIA_TYPE: Final = "application/vnd.api+json"
# A profile may be named and is ignored; we know no extension (JSON:API 1.1, Content Negotiation).
_HARMLESS_PARAMETERS: Final = frozenset({"profile"})
LARGEST_POSITION: Final = 2**63 - 1

type Filter = Callable[[QuerySet[Any], str], QuerySet[Any]]


# --- errors ----------------------------------------------------------------------------------------------------------


class ApiError(exceptions.APIException):
    """One thing wrong with a request; `pointer` into the document or `parameter` of the query says where."""

    def __init__(
        self, status_code: int, code: str, detail: str, *, pointer: str = "", parameter: str = ""
    ) -> None:
        super().__init__(detail, code)
        self.status_code = status_code
        self.pointer = pointer
        self.parameter = parameter


def bad_parameter(name: str, detail: str) -> ApiError:
    """400: what the query asks for cannot be given."""
    return ApiError(status.HTTP_400_BAD_REQUEST, "bad_parameter", detail, parameter=name)


def _error(
    status_code: int, code: str, detail: str, source: Mapping[str, str] | None = None
) -> dict[str, Any]:
    error: dict[str, Any] = {
        "status": str(status_code),
        "code": code,
        "title": HTTPStatus(status_code).phrase,
        "detail": detail,
    }
    return error | ({"source": dict(source)} if source else {})


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Every refusal as a JSON:API errors document; whatever is not a refusal goes on as a fault of ours."""
    if isinstance(exc, exceptions.ValidationError):
        # What the document says is understood and cannot be done; a document that is not understood is a ParseError.
        exc.status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
    response = drf_exception_handler(exc, context)
    if response is None:
        return None
    code = response.status_code
    if isinstance(exc, exceptions.ValidationError):
        relationships = getattr(context["view"], "relationships", ())
        errors = list(_validation_errors(exc.detail, code, "/data", relationships))
    elif isinstance(exc, ApiError):
        source = (
            {"pointer": exc.pointer}
            if exc.pointer
            else {"parameter": exc.parameter}
            if exc.parameter
            else None
        )
        errors = [_error(code, str(exc.get_codes()), str(exc.detail), source)]
    elif isinstance(exc, Http404):
        errors = [_error(code, "not_found", "There is nothing here for you.")]
    elif isinstance(exc, exceptions.NotAuthenticated):
        errors = [_error(code, "not_authenticated", "Give a token as Authorization: Bearer, or sign in.")]
    else:
        detail = exc.detail if isinstance(exc, exceptions.APIException) else HTTPStatus(code).phrase
        name = str(exc.get_codes()) if isinstance(exc, exceptions.APIException) else "refused"
        errors = [_error(code, name, str(detail))]
    context["view"].resource_name = "errors"
    response.data = errors
    return response


def _validation_errors(
    detail: Any, code: int, pointer: str, relationships: Iterable[str]
) -> Iterable[dict[str, Any]]:
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            if name == "non_field_errors":
                below = pointer
            else:
                below = f"{pointer}/{'relationships' if name in relationships else 'attributes'}/{name}"
            yield from _validation_errors(inner, code, below, relationships)
    elif isinstance(detail, list):
        for inner in detail:
            yield from _validation_errors(inner, code, pointer, relationships)
    else:
        yield _error(code, str(getattr(detail, "code", "invalid")), str(detail), {"pointer": pointer})


# --- documents in and out --------------------------------------------------------------------------------------------


class JsonApiNegotiation(DefaultContentNegotiation):
    """JSON:API and nothing else: another `Accept` is answered 406, another `Content-Type` 415."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        sent = _MediaType(request.content_type)
        if set(sent.params) - _HARMLESS_PARAMETERS:
            return None
        plain = f"{sent.main_type}/{sent.sub_type}"
        return next((parser for parser in parsers if parser.media_type == plain), None)

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        wanted = [_MediaType(item) for item in self.get_accept_list(request)]
        if any(_accepts(item) for item in wanted):
            return renderer, MEDIA_TYPE
        raise exceptions.NotAcceptable(f"This API speaks {MEDIA_TYPE}.", available_renderers=[renderer])


def _accepts(item: _MediaType) -> bool:
    parameters = dict(item.params)
    quality = parameters.pop("q", "1").strip()
    if set(quality) <= {"0", "."}:
        return False
    name = f"{item.main_type}/{item.sub_type}"
    if name == MEDIA_TYPE:
        return not set(parameters) - _HARMLESS_PARAMETERS
    return name in {"*/*", "application/*"}


class DocumentParser(JSONParser):
    """A JSON:API document with one resource. Raises ParseError (400) for another shape, Conflict (409) for another type."""

    def parse_data(self, result: Any, parser_context: Any) -> Any:
        data = result.get("data") if isinstance(result, dict) else None
        if not isinstance(data, dict):
            raise exceptions.ParseError("The document holds no resource object as its primary data.")
        for member in ("attributes", "relationships"):
            if not isinstance(data.get(member, {}), dict):
                raise exceptions.ParseError(f"The member {member} is not an object.")
        for name, relationship in data.get("relationships", {}).items():
            if not isinstance(relationship, dict) or "data" not in relationship:
                raise exceptions.ParseError(f"The relationship {name} has no data.")
        if not isinstance(data.get("type"), str):
            raise exceptions.ParseError("The resource has no type.")
        if "id" in data:
            raise exceptions.PermissionDenied("Ids are given by the server; leave yours out.")
        return super().parse_data(result, parser_context)


class PublicIdField(serializers.UUIDField):
    """`id` of a resource: its public id, never its primary key."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"source": "public_id", "read_only": True, **kwargs})


class SelfLink(serializers.HyperlinkedIdentityField):
    """The `self` link of a resource, from its type: `SelfLink("devices")`."""

    def __init__(self, resource_type: str = "", **kwargs: Any) -> None:
        self.resource_type = resource_type
        super().__init__(view_name=f"api:{resource_type}-detail", lookup_field="public_id")


class Relation(ResourceRelatedField):
    """
    A to-one relationship by public id, with the link to what it leads to. The other row should be loaded with it.

    `shown` (of the serializer's context and the other row) tells whether who asks may see the other row, where that
    does not follow from seeing this one; else the relationship is null and nothing of the other is included.
    """

    def __init__(
        self,
        *,
        resource_type: str,
        shown: Callable[[dict[str, Any], Any], bool] | None = None,
        **kwargs: Any,
    ) -> None:
        self.resource_type = resource_type
        self.shown = shown
        super().__init__(read_only=True, **kwargs)

    def get_attribute(self, instance: Any) -> Any:
        other = super().get_attribute(instance)
        is_hidden = other is not None and self.shown is not None and not self.shown(self.context, other)
        return None if is_hidden else other

    def use_pk_only_optimization(self) -> bool:
        return False

    def to_representation(self, value: Any) -> dict[str, str]:
        return {"type": self.resource_type, "id": str(value.public_id)}

    def get_links(self, obj: Any = None, lookup_field: str = "pk") -> dict[str, str]:
        other = self.get_attribute(obj)
        if other is None:
            return {}
        view_name = f"api:{self.resource_type}-detail"
        url = reverse(view_name, args=[other.public_id], request=self.context.get("request"))
        return {"related": url}


class ResourceSerializer(ModelSerializer):
    """One resource; `Meta.resource_name` is its type."""

    id = PublicIdField()


class MomentField(serializers.DateTimeField):
    """A moment in ISO 8601 with its zone; a time without one is refused, for it would be a guess."""

    default_error_messages = {"naive": "Give the time with its zone, for example 2026-11-22T12:00:00Z."}

    def to_internal_value(self, value: Any) -> datetime:
        moment = super().to_internal_value(value)
        if not isinstance(value, str) or not _has_zone(value):
            self.fail("naive")
        assert isinstance(moment, datetime)  # noqa: S101 - DateTimeField's promise
        return moment


def _has_zone(text: str) -> bool:
    tail = text.strip()[10:]
    return tail.endswith(("Z", "z")) or "+" in tail or "-" in tail


# --- lists -----------------------------------------------------------------------------------------------------------


class PageNumberPagination(JsonApiPageNumberPagination):
    """`page[number]` and `page[size]` (at most 200; more is taken for 200)."""

    page_size = 50
    max_page_size = 200

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        for name in (self.page_query_param, self.page_size_query_param):
            whole_number(name, request.query_params.get(name, "1"), least=1)
        rows: list[Any] | None = super().paginate_queryset(queryset, request, view)
        return rows

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The document of a list, for OpenAPI."""
        link = {"type": ["string", "null"], "format": "uri"}
        names = ("first", "last", "prev", "next")
        count = {"type": "integer"}
        pagination = {"type": "object", "properties": {"page": count, "pages": count, "count": count}}
        return {
            "type": "object",
            "required": ["data", "links", "meta"],
            "properties": {
                "data": schema,
                "links": {"type": "object", "properties": dict.fromkeys(names, link)},
                "included": {"type": "array", "items": {"type": "object"}},
                "meta": {"type": "object", "properties": {"pagination": pagination}},
            },
        }


def whole_number(name: str, text: str, *, least: int = 0) -> int:
    """A whole number of a query parameter; ApiError (400) for anything else."""
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= LARGEST_POSITION):
        raise bad_parameter(name, f"Give a whole number from {least}.")
    return int(text)


def uuids(name: str, text: str) -> list[UUID]:
    """Ids from a query parameter, a comma between; ApiError (400) for anything that is none."""
    try:
        return [UUID(part) for part in text.split(",")]
    except ValueError:
        raise bad_parameter(name, "Give one id or several, a comma between.") from None


def choices(name: str, text: str, known: Iterable[str]) -> list[str]:
    """Known words from a query parameter, a comma between; ApiError (400) for an unknown one."""
    wanted, allowed = text.split(","), list(known)
    if not set(wanted) <= set(allowed):
        raise bad_parameter(name, f"Known are: {', '.join(allowed)}.")
    return wanted


def visible_to_any[Rows: TenantQuerySet[Any]](rows: Rows, viewers: Iterable[Viewer]) -> Rows:
    """What any of these viewers may see: a person's memberships, or the one token. Nobody sees nothing."""
    seen: Rows = rows.none()
    for viewer in viewers:
        seen = seen | rows.visible_to(viewer)
    return seen
