"""What lies around the resources of `/api/`: the way in, the schema, its reader, and a 404 that is a document too."""

from collections.abc import Collection, Mapping
from typing import Any

from django.http import Http404, HttpRequest, HttpResponseBase
from django.utils.csp import CSP
from django.views.decorators.csp import csp_override

from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

# Swagger UI writes style elements; its scripts are files of ours.
_DOCS_CSP: Mapping[str, Collection[str]] = {
    "default-src": [CSP.NONE],
    "script-src": [CSP.SELF],
    "style-src": [CSP.SELF, CSP.UNSAFE_INLINE],
    "img-src": [CSP.SELF, "data:"],
    "font-src": [CSP.SELF],
    "connect-src": [CSP.SELF],
    "form-action": [CSP.NONE],
    "frame-ancestors": [CSP.NONE],
    "base-uri": [CSP.NONE],
}
RESOURCES = ("accounts", "devices", "events", "clips", "live-sessions", "test-events")


class ApiRoot(APIView):
    """`/api/v1/`: where everything is. Anyone may ask."""

    schema = None
    authentication_classes = ()
    permission_classes = (AllowAny,)
    resource_name = None

    def get(self, request: Request) -> Response:
        links = {name: reverse(f"api:{name}-list", request=request) for name in RESOURCES}
        described = {"describedby": reverse("api:schema", request=request)}
        return Response({"meta": {"version": "v1"}, "links": links | described})


class Nothing(APIView):
    """Any other address below `/api/v1/`."""

    schema = None
    authentication_classes = ()
    permission_classes = (AllowAny,)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise Http404

    def get(self, request: Request) -> Response:
        raise Http404


class Schema(SpectacularAPIView):
    """The OpenAPI description: YAML, or JSON with `Accept: application/vnd.oai.openapi+json`. Anyone may ask."""

    content_negotiation_class = DefaultContentNegotiation
    authentication_classes = ()
    permission_classes = (AllowAny,)


class Docs(SpectacularSwaggerSplitView):
    """A page to read the description and try it out. Anyone may read; trying needs a token or a session."""

    content_negotiation_class = DefaultContentNegotiation
    authentication_classes = ()
    permission_classes = (AllowAny,)
    url_name = "api:schema"
    template_name = "api_docs.html"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response: HttpResponseBase = csp_override(_DOCS_CSP)(super().dispatch)(request, *args, **kwargs)
        return response
