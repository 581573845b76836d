"""The installation's front door and its health."""

from django.conf import settings
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import redirect, render
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from prometheus_client import CONTENT_TYPE_LATEST

from accounts.access import memberships_of
from portal.metrics import exposition
from portal.walls import across_tenants


@require_safe
def home(request: HttpRequest) -> HttpResponse | HttpResponseRedirect:
    """The tenant the person was in last, or their only one; else a choice, and the front page for everybody else."""
    if request.user.is_authenticated:
        found = memberships_of(request.user)
        visited = [(row.used_at, row.pk, row) for row in found if row.used_at is not None]
        last = max(visited)[-1] if visited else None
        if len(found) == 1 or last is not None:
            return redirect("events:dashboard", (last or found[0]).tenant.slug)
    return render(request, "index.html")


@never_cache
@require_safe
def live(request: HttpRequest) -> HttpResponse:
    """The process answers. Anyone may ask."""
    return HttpResponse("ok\n", content_type="text/plain")


@never_cache
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """200 when the database answers and its migrations are applied, else 503 naming what is missing. Anyone may ask."""
    checks = {"database": "ok", "migrations": "ok"}
    try:
        with across_tenants("health is asked before anybody's tenant; only the list of migrations is read"):
            executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            checks["migrations"] = "not applied: run manage.py migrate"
    except Error:
        checks["database"] = "no answer"
    good = all(state == "ok" for state in checks.values())
    return JsonResponse(
        {"status": "ok" if good else "unavailable", "checks": checks}, status=200 if good else 503
    )


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """
    Numbers for Prometheus. For whoever shows `METRICS_TOKEN` as a bearer; without that setting, on a developer's machine only.

    404 where it is not set up; 401 for a wrong token.
    """
    expected: str = settings.METRICS_TOKEN
    if expected:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not constant_time_compare(given, expected):
            return HttpResponse(
                "Show the METRICS_TOKEN as a bearer token.\n",
                status=401,
                content_type="text/plain",
                headers={"WWW-Authenticate": 'Bearer realm="metrics"'},
            )
    elif not settings.DEBUG:
        raise Http404("METRICS_TOKEN is not set.")
    return HttpResponse(exposition(), content_type=CONTENT_TYPE_LATEST)
