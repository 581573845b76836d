"""OpenAPI for JSON:API documents: resource objects in an envelope, linkage, errors, and what a list may be asked."""

import re
from typing import Any, ClassVar, Final

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.serializers import HyperlinkedIdentityField

from portal.api import MEDIA_TYPE, Relation, ResourceSerializer

type Json = dict[str, Any]

_LINK: Final[Json] = {"type": ["string", "null"], "format": "uri"}
_ERRORS: Final[Json] = {
    "type": "object",
    "required": ["errors"],
    "properties": {
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["status", "code", "title", "detail"],
                "properties": {
                    "status": {"type": "string", "examples": ["422"]},
                    "code": {"type": "string", "description": "A stable word for programs."},
                    "title": {"type": "string"},
                    "detail": {"type": "string", "description": "A sentence for people: what to do."},
                    "source": {
                        "type": "object",
                        "properties": {"pointer": {"type": "string"}, "parameter": {"type": "string"}},
                    },
                },
            },
        }
    },
}
_REFUSALS: Final = {
    "400": "The query or the document is not understood.",
    "401": "No token, or one that is not valid any more.",
    "403": "The token lacks the scope.",
    "404": "There is nothing here for you.",
    "406": f"Only {MEDIA_TYPE} is spoken.",
}
_WRITE_REFUSALS: Final = {
    "409": "Another type than this route's, or the Ring account is not linked.",
    "415": f"Only {MEDIA_TYPE} is read.",
    "422": "Understood, and cannot be done.",
}


class BearerToken(OpenApiAuthenticationExtension):
    """A tenant's API token."""

    target_class = "accounts.api_authentication.ApiTokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> Json:
        words = "A token of one tenant: manage.py create_api_token."
        return {"type": "http", "scheme": "bearer", "description": words}


class DocumentSchema(AutoSchema):
    """Describes a viewset of `TenantResource` as the JSON:API documents it gives and takes."""

    MORE: ClassVar[Json] = {"included": {"type": "array", "items": {"type": "object"}}}

    def get_operation(self, *args: Any, **kwargs: Any) -> Json | None:
        operation: Json | None = super().get_operation(*args, **kwargs)
        if operation is None or not self._is_resource():
            return operation
        refusals = _REFUSALS | (_WRITE_REFUSALS if self.method == "POST" else {})
        for code, words in refusals.items():
            operation["responses"][code] = {
                "description": words,
                "content": {MEDIA_TYPE: {"schema": self._errors().ref}},
            }
        # A POST that may find what it asks for there already says so in the view.
        words = getattr(self.view, "there_already", "")
        if self.method == "POST" and words:
            operation["responses"]["200"] = {**operation["responses"]["201"], "description": words}
        operation["responses"] = dict(sorted(operation["responses"].items()))
        return operation

    def _is_resource(self) -> bool:
        return isinstance(self._get_serializer(), ResourceSerializer)

    def _errors(self) -> ResolvedComponent:
        component = ResolvedComponent("Errors", ResolvedComponent.SCHEMA, schema=_ERRORS, object="Errors")
        self.registry.register_on_missing(component)
        return component

    def get_override_parameters(self) -> list[Any]:
        serializer = self._get_serializer()
        if not isinstance(serializer, ResourceSerializer) or self.method == "DELETE":
            return []
        name = serializer.Meta.resource_name
        found = [_text(f"fields[{name}]", "Only these attributes and relationships, a comma between.")]
        includable = list(getattr(serializer, "included_serializers", {}))
        if includable:
            found.append(_text("include", f"Bring along: {', '.join(includable)}."))
        if self._is_list_view(serializer):
            found.append(_text("sort", f"By {', '.join(self.view.sorts)}; a minus before it turns it round."))
            found.append(_text("filter[tenant]", "One of your tenants, by its slug."))
            found += [_text(f"filter[{filtered}]", "") for filtered in self.view.filters]
        return found

    def _map_basic_serializer(self, serializer: Any, direction: str) -> Json:
        flat: Json = super()._map_basic_serializer(serializer, direction)
        if not isinstance(serializer, ResourceSerializer):
            return flat
        is_request = direction == "request"
        attributes: Json = {}
        relationships: Json = {}
        for name, field in serializer.fields.items():
            if isinstance(field, Relation):
                if not is_request or name == "device":
                    relationships[name] = _linkage(field.resource_type, is_required=is_request)
            elif name != "id" and not isinstance(field, HyperlinkedIdentityField):
                schema = {key: value for key, value in flat["properties"][name].items() if key != "readOnly"}
                if not (is_request and field.read_only):
                    attributes[name] = schema
        required = [name for name in attributes if not is_request or serializer.fields[name].required]
        resource: Json = {
            "type": "object",
            "description": flat.get("description", ""),
            "required": ["type", "attributes"] if is_request else ["type", "id", "attributes", "links"],
            "properties": {
                "type": {"type": "string", "enum": [serializer.Meta.resource_name]},
                "attributes": {"type": "object", "properties": attributes, "required": required},
            },
        }
        if relationships:
            resource["properties"]["relationships"] = {
                "type": "object",
                "properties": relationships,
            }
            optional = getattr(serializer.Meta, "optional_relationships", ())
            if is_request and (needed := [name for name in relationships if name not in optional]):
                resource["properties"]["relationships"]["required"] = needed
                resource["required"].append("relationships")
        if not is_request:
            resource["properties"]["id"] = {"type": "string", "format": "uuid"}
            resource["properties"]["links"] = {
                "type": "object",
                "properties": {"self": {"type": "string", "format": "uri"}},
            }
        return resource

    def _get_response_for_code(self, serializer: Any, status_code: str, *args: Any, **kwargs: Any) -> Json:
        response: Json = super()._get_response_for_code(serializer, status_code, *args, **kwargs)
        if self._is_resource() and not self._is_list_view(serializer):
            for media_type in response.get("content", {}).values():
                media_type["schema"] = {
                    "type": "object",
                    "required": ["data"],
                    "properties": {"data": media_type["schema"], **self.MORE},
                }
        return response

    def _get_request_for_media_type(self, serializer: Any, direction: str = "request") -> tuple[Any, bool]:
        schema, _ = super()._get_request_for_media_type(serializer, direction)
        document = {"type": "object", "required": ["data"], "properties": {"data": schema}}
        return document, True

    def get_operation_id(self) -> str:
        return re.sub(r"[^a-z_]", "_", str(super().get_operation_id()))


def _text(name: str, words: str) -> OpenApiParameter:
    return OpenApiParameter(name, OpenApiTypes.STR, OpenApiParameter.QUERY, description=words)


def _linkage(resource_type: str, *, is_required: bool) -> Json:
    identifier: Json = {
        "type": "object" if is_required else ["object", "null"],
        "required": ["type", "id"],
        "properties": {
            "type": {"type": "string", "enum": [resource_type]},
            "id": {"type": "string", "format": "uuid"},
        },
    }
    return {"type": "object", "required": ["data"], "properties": {"data": identifier}}
