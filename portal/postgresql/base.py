"""
Django's PostgreSQL backend, with the walls of `portal.walls` held by the database itself.

The login role owns the tables; row-level security does not bind it. So statements run as another role, which may read
and write rows but owns nothing: `SET ROLE`. Its policies (`portal/postgresql/policies.py`) compare each row with the
setting `portal.tenants`. Role and setting belong to the session; they are brought in line with the current scope in
the same message as the next statement, so that a change of scope costs no round trip.
"""

import re
from typing import Any, Final

from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base

from psycopg.pq import TransactionStatus

from portal.walls import Scope, current_scope

# Statements that may share a message with another. Everything else (DDL, VACUUM, …) gets a message of its own.
_SHARES = re.compile(r"\s*\(*\s*(?:SELECT|INSERT|UPDATE|DELETE|WITH|EXECUTE)\b", re.IGNORECASE)
_SAVEPOINTS = ("SAVEPOINT ", "RELEASE SAVEPOINT ")
_BACK = "ROLLBACK TO SAVEPOINT "
_LONGEST_NAME: Final = 63


def tenant_role(login: str) -> str:
    """The role statements run as when `login` is the role the portal owns its tables with."""
    return f"{login[: _LONGEST_NAME - len('_tenant')]}_tenant"


class WalledCursor(base.Cursor):
    """A cursor whose statements see what the current scope may see."""

    wrapper: "DatabaseWrapper | None" = None  # None: the pool's and Django's own housekeeping

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        wrapper = self.wrapper
        if wrapper is None:
            return super().execute(query, params, **options)
        if isinstance(query, str) and query.startswith(_SAVEPOINTS):
            return super().execute(query, params, **options)
        if isinstance(query, str) and query.startswith(_BACK):
            wrapper.forget_scope()
            return super().execute(query, params, **options)
        scope = current_scope()
        change = wrapper.change_to(scope)
        if change is None:
            return super().execute(query, params, **options)
        if not isinstance(query, str) or not _SHARES.match(query):
            wrapper.apply_scope()
            return super().execute(query, params, **options)
        # Failing, the pair leaves nothing behind outside a transaction, and an unknown state within one.
        wrapper.forget_scope()
        super().execute(f"{change}; {query}", params, **options)
        self.nextset()
        wrapper.scope_is(scope)
        return self

    def executemany(self, *args: Any, **options: Any) -> Any:
        self._apply_first()
        return super().executemany(*args, **options)

    def stream(self, *args: Any, **options: Any) -> Any:
        self._apply_first()
        return super().stream(*args, **options)

    def copy(self, *args: Any, **options: Any) -> Any:
        self._apply_first()
        return super().copy(*args, **options)

    def _apply_first(self) -> None:
        if self.wrapper is not None:
            self.wrapper.apply_scope()


class DatabaseWrapper(base.DatabaseWrapper):
    """One thread's connection. It remembers which scope its session is in; None when it cannot know."""

    _applied: Scope | None = None

    def get_connection_params(self) -> dict[str, Any]:
        params = super().get_connection_params()
        params["cursor_factory"] = WalledCursor
        return params

    def get_new_connection(self, conn_params: Any) -> Any:
        # Out of the pool, in whatever state the last unit of work left it.
        self.forget_scope()
        return super().get_new_connection(conn_params)

    def create_cursor(self, name: str | None = None) -> Any:
        if name and self.alias != NO_DB_ALIAS:
            # A server-side cursor sees what its session may see when it is declared and first read, which follow at once.
            self.apply_scope()
        cursor = super().create_cursor(name)
        if self.alias != NO_DB_ALIAS and isinstance(cursor, WalledCursor):
            cursor.wrapper = self
        return cursor

    def _commit(self) -> None:
        if (
            self.connection is not None
            and self.connection.info.transaction_status == TransactionStatus.INERROR
        ):
            self.forget_scope()  # the COMMIT of a failed transaction is a ROLLBACK
        super()._commit()

    def _rollback(self) -> None:
        # SET within a transaction is undone with it.
        self.forget_scope()
        super()._rollback()

    def forget_scope(self) -> None:
        """The session's state is not known any more: say it again with the next statement."""
        self._applied = None

    def scope_is(self, scope: Scope) -> None:
        self._applied = scope

    def change_to(self, scope: Scope) -> str | None:
        """The statement that brings the session into `scope`; None when it is there."""
        applied = self._applied
        if applied is scope or (applied is not None and applied.tenants == scope.tenants):
            return None
        if scope.tenants is None:
            role, tenants = self.owner_role or "none", ""
        else:
            role, tenants = self.tenant_role, f"{{{','.join(map(str, sorted(scope.tenants)))}}}"
        quoted = role.replace("'", "''")
        return (
            f"SELECT set_config('role', '{quoted}', false), set_config('portal.tenants', '{tenants}', false)"
        )

    def apply_scope(self) -> None:
        """Bring the session into the current scope now, with a statement of its own."""
        scope = current_scope()
        change = self.change_to(scope)
        if change is not None and self.connection is not None:
            with self.wrap_database_errors, self.connection.cursor() as cursor:
                cursor.execute(change)
            self.scope_is(scope)

    @property
    def owner_role(self) -> str:
        """`OPTIONS["assume_role"]`: who owns the tables where that is not the role that signs in."""
        return str(self.settings_dict["OPTIONS"].get("assume_role") or "")

    @property
    def tenant_role(self) -> str:
        return tenant_role(self.owner_role or self.connection.info.user)
