"""
SQLite has no row-level security. There, the suite itself refuses statements on tenants' tables in nobody's scope.

So whoever forgets to enter a tenant hears of it in `make test`, and not first on PostgreSQL.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from django.apps import apps
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from portal.postgresql.policies import walls
from portal.walls import NOBODY, current_scope


class NobodysScope(AssertionError):
    """The code under test touches a tenant's table before it entered a tenant."""


@cache
def _walled_tables() -> re.Pattern[str]:
    return re.compile("|".join(re.escape(f'"{table}"') for table in walls()))


def _refuse_in_nobodys_scope(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    if current_scope() == NOBODY and apps.ready and (found := _walled_tables().search(sql)):
        raise NobodysScope(
            f"{found[0]} is a tenant's, and no tenant was entered: on PostgreSQL this statement finds nothing. Say whose "
            "rows are meant: enter_tenant, tenant_scope or across_tenants (portal/walls.py, docs/tenancy.md)."
        )
    return execute(sql, params, many, context)


def _watch(connection: BaseDatabaseWrapper, **_: Any) -> None:
    if connection.vendor == "sqlite" and _refuse_in_nobodys_scope not in connection.execute_wrappers:
        # First: a test may be inside `execute_wrapper`, which takes the last one off again.
        connection.execute_wrappers.insert(0, _refuse_in_nobodys_scope)


connection_created.connect(_watch)
