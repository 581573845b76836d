"""
Whose rows the code that runs now may touch: one tenant's (or a few tenants'), nobody's, or everybody's on purpose.

The scope is a context variable: it follows `await`, `asyncio.to_thread` and `sync_to_async`, and never another request.
On PostgreSQL the database holds it, whatever the query says (`portal/postgresql`); elsewhere it is only kept.

Every unit of work (a request, a websocket, a task) begins with `unit_of_work()`: nobody's rows. Whoever finds out which
tenant it is about says so: `enter_tenant` for the rest of the unit, `with tenant_scope(…)` for a part of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:
    from accounts.models import Tenant


@dataclass(frozen=True)
class Scope:
    """The tenants whose rows may be read and written: their primary keys, or None for all, and then why."""

    tenants: frozenset[int] | None
    why: str = ""


NOBODY = Scope(frozenset())

_scope: ContextVar[Scope] = ContextVar("portal_tenant_scope", default=NOBODY)
_before: ContextVar[tuple[Scope, ...]] = ContextVar("portal_tenant_scopes_before", default=())


def current_scope() -> Scope:
    """What holds for the next statement."""
    return _scope.get()


def enter_tenant(*tenants: "Tenant | int") -> None:
    """For the rest of this unit of work: these tenants' rows only."""
    _scope.set(_of(tenants))


def enter_all_tenants(why: str) -> None:
    """For the rest of this unit of work: every tenant's rows, because `why`."""
    _scope.set(_all(why))


@contextmanager
def tenant_scope(*tenants: "Tenant | int") -> Iterator[None]:
    """Within: these tenants' rows only. Querysets are lazy: what is fetched outside is fetched with the outer scope."""
    with _within(_of(tenants)):
        yield


@contextmanager
def across_tenants(why: str) -> Iterator[None]:
    """
    Within: every tenant's rows. For the few places that must, each with its reason; docs/tenancy.md lists them.

    Keep it around single queries, fetched inside (`list`, `first`), never around the work that follows.
    """
    with _within(_all(why)):
        yield


@contextmanager
def unit_of_work() -> Iterator[None]:
    """Within: nobody's rows until somebody enters a tenant, whatever held outside; afterwards as before."""
    with _within(NOBODY):
        yield


def begin() -> None:
    """`unit_of_work` for those who are told of its beginning and its end: tasks."""
    _before.set((*_before.get(), _scope.get()))
    _scope.set(NOBODY)


def end() -> None:
    """The end of what `begin` began; without a beginning, nobody's rows."""
    *outer, before = _before.get() or (NOBODY,)
    _before.set(tuple(outer))
    _scope.set(before)


def enter_tenant_of(model: type[models.Model], pk: int) -> None:
    """
    A task knows a row by its number alone: go on as that row's tenant, or as nobody when there is no such row.

    Who is within a tenant already, and calls the task's function, stays there.
    """
    if current_scope() != NOBODY:
        return
    with across_tenants("a task is told a row's number, and the row which tenant it belongs to"):
        tenant_id: int | None = (
            model._default_manager.filter(pk=pk).values_list("tenant_id", flat=True).first()
        )
    enter_tenant(*([] if tenant_id is None else [tenant_id]))


@contextmanager
def _within(scope: Scope) -> Iterator[None]:
    before = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(before)


def _of(tenants: "tuple[Tenant | int, ...]") -> Scope:
    return Scope(frozenset(tenant if isinstance(tenant, int) else _key(tenant) for tenant in tenants))


def _key(tenant: Any) -> int:
    if tenant.pk is None:
        raise ValueError("A tenant that is not saved yet has no rows to enter.")
    return int(tenant.pk)


def _all(why: str) -> Scope:
    if not why.strip():
        raise ValueError("Say why the rows of every tenant are needed here.")
    return Scope(None, why)
