"""What webhooks, sockets and their hub may touch: the tenants they are about, and nobody's before they know."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from events import hub
from events.tests.conftest import OpenSocket, body_of, post_webhook
from events.threads import in_thread
from portal.postgresql import policies
from portal.walls import Scope, current_scope
from tests.support.cast import TenantCast, make_cast

ASKED_BEFORE = {
    "who somebody is in a tenant is asked before anybody enters it",
    "a token says which tenant it is for, and is looked up by its digest",
}


@contextmanager
def statements() -> Iterator[list[tuple[str, Scope]]]:
    """Every statement on a tenant's table that connections opened from now on run, with the scope it ran in."""
    seen: list[tuple[str, Scope]] = []
    tables = [f'"{table}"' for table in policies.walls()]

    def note(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if any(table in sql for table in tables):
            seen.append((sql, current_scope()))
        return execute(sql, params, many, context)

    def watch(connection: BaseDatabaseWrapper, **_: Any) -> None:
        connection.execute_wrappers.append(note)

    connection_created.connect(watch)
    try:
        yield seen
    finally:
        connection_created.disconnect(watch)


async def test_sockets_and_webhooks_touch_only_the_tenants_they_are_about(
    cast: TenantCast, open_socket: OpenSocket, monkeypatch
):
    monkeypatch.setattr(hub, "LOOK_EVERY_S", 0.05)
    other = await in_thread(make_cast, "other")
    with statements() as seen:
        ours, theirs = await open_socket(cast.ada), await open_socket(other.operator, tenant="other")
        for people in (cast, other):
            body = body_of("button_press", device=people.ada_camera, request="one")
            answer = await post_webhook(body, tenant=people.tenant.slug)
            assert answer.status == 200
        for socket in (ours, theirs):
            assert (await socket.receive_json_from(timeout=10))["position"] == 1

    scopes = {scope for _, scope in seen}
    assert {scope.why for scope in scopes if scope.tenants is None} <= ASKED_BEFORE
    entered = [scope.tenants for scope in scopes if scope.tenants is not None]
    assert all(tenants and tenants <= {cast.tenant.pk, other.tenant.pk} for tenants in entered)
    assert {frozenset({cast.tenant.pk}), frozenset({other.tenant.pk})} <= set(entered)
