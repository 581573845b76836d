"""What every HTTP request gets: an id that follows it through the logs, and nobody's rows until it says whose."""

import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from portal.logs import ACCEPTABLE_ID, REQUEST_ID_KEY, request_id
from portal.walls import unit_of_work


class RequestIdMiddleware:
    """Take the proxy's `X-Request-ID` when it is a plain token, else make one; answer with it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        current = given if ACCEPTABLE_ID.fullmatch(given) else uuid.uuid4().hex
        request.META[REQUEST_ID_KEY] = current
        reset = request_id.set(current)
        try:
            response = self.get_response(request)
        finally:
            request_id.reset(reset)
        response["X-Request-ID"] = current
        return response


class TenantScopeMiddleware:
    """A request begins with nobody's rows; who finds out which tenant it is about enters it (`portal.walls`)."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with unit_of_work():
            return self.get_response(request)
