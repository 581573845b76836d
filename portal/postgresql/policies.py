"""
Row-level security on every table with a tenant, made and kept right by `manage.py migrate`.

Nobody writes a migration for it: after each migrate, every model's table is compared with what it should have. A new
model with a `tenant` is walled by the migrate that makes its table.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import DatabaseError, connections, models, transaction
from django.db.migrations.recorder import MigrationRecorder

from psycopg import sql

from portal.postgresql.base import DatabaseWrapper
from portal.walls import across_tenants

POLICY: Final = "tenant_wall"
# A subquery: worked out once a statement, not once a row, and the planner does not take it for a second filter that
# narrows down as much as the query's own.
_TENANTS: Final = "(SELECT nullif(current_setting('portal.tenants', true), '')::bigint[])"

_GRANT_TABLE: Final = "GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.{table} TO {role}"
_GRANT_SEQUENCES: Final = "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role}"
_PREPARE: Final = (
    "GRANT USAGE ON SCHEMA {schema} TO {role}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} "
    "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT USAGE, SELECT ON SEQUENCES TO {role}",
)


def walls() -> dict[str, str]:
    """Each walled table, and the condition that its rows must meet, as SQL."""
    every = [
        model
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed and not model._meta.proxy
    ]
    conditions = {}
    for model in every:
        column = tenant_column(model)
        if column is not None:
            conditions[model._meta.db_table] = f'"{column}" = ANY ({_TENANTS}::bigint[])'
    for model in every:
        # What connects two models has no tenant of its own: it is seen by whoever sees both sides.
        sides = [side for side in _sides(model) if side.related_model._meta.db_table in conditions]
        if sides:
            conditions[model._meta.db_table] = " AND ".join(map(_side_is_seen, sides))
    return conditions


def tenant_column(model: type[models.Model]) -> str | None:
    """The column that says whose a row is; None when the model belongs to no tenant."""
    for field in model._meta.concrete_fields:
        if field.name == "tenant" and field.is_relation and _label(field) == "accounts.Tenant":
            return str(field.column)
    return None


def _label(field: Any) -> str:
    return str(field.related_model._meta.label) if field.is_relation else ""


def _sides(model: type[models.Model]) -> list[Any]:
    if not model._meta.auto_created:
        return []
    return [field for field in model._meta.concrete_fields if field.is_relation]


def _side_is_seen(side: Any) -> str:
    other = side.related_model._meta
    return f'"{side.column}" IN (SELECT "{other.pk.column}" FROM "{other.db_table}")'  # noqa: S608 - names of our models


@contextmanager
def _as_owner(using: str) -> Iterator[DatabaseWrapper]:
    connection = connections[using]
    if not isinstance(connection, DatabaseWrapper):
        raise ImproperlyConfigured("On PostgreSQL the portal needs ENGINE portal.postgresql.")
    with across_tenants("the walls themselves are built by the tables' owner"):
        yield connection


def ensure_role(*, using: str) -> None:
    """
    Before migrating: the role that statements run as exists, and may use whatever tables come.

    Raises CommandError, before anything was changed, when the login role may not make it.
    """
    with _as_owner(using) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT session_user, current_schema()")
        login, schema = cursor.fetchone()
        role, owner = connection.tenant_role, connection.owner_role or login
        if not _exists(cursor, role):
            _try(connection, "CREATE ROLE {role} NOLOGIN NOSUPERUSER NOBYPASSRLS", role, login)
        if not _may_become(connection, role):
            _try(connection, "GRANT {role} TO {login}", role, login)
        if not _may_become(connection, role):
            raise CommandError(
                f"The wall between tenants needs the role {role}, and {login} may not make it. Have an administrator of "
                f'the database run:  CREATE ROLE "{role}" NOLOGIN; GRANT "{role}" TO "{login}";  then migrate again '
                "(docs/tenancy.md)."
            )
        for statement in _PREPARE:
            cursor.execute(_sql(statement, role=role, owner=owner, schema=schema))


def build_walls(*, using: str) -> None:
    """After migrating (and after a flush): every table's grants and policy are what they should be. Safe to repeat."""
    with _as_owner(using) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT current_schema()")
        [schema] = cursor.fetchone()
        role = connection.tenant_role
        wanted = walls()
        models_tables = {model._meta.db_table for model in apps.get_models(include_auto_created=True)}
        for name, table in _tables(cursor, role).items():
            if name not in models_tables | {MigrationRecorder.Migration._meta.db_table}:
                continue
            names = {"table": name, "role": role, "schema": schema, "policy": POLICY}
            if not table.is_granted:  # older than the role
                cursor.execute(_sql(_GRANT_TABLE, **names))
                cursor.execute(_sql(_GRANT_SEQUENCES, **names))
            condition = wanted.get(name)
            if table.is_walled == (condition is not None) and table.comment == _comment(role, condition):
                continue
            with transaction.atomic(using=using):
                _build(cursor, condition, names)


def holes(*, using: str) -> list[str]:
    """The tables whose wall does not stand as it should, or whose rows not even their owner's portal would see."""
    with _as_owner(using) as connection, connection.cursor() as cursor:
        role, tables = connection.tenant_role, _tables(cursor, connection.tenant_role)
    return sorted(
        name
        for name, condition in walls().items()
        if name not in tables
        or not (tables[name].is_walled and tables[name].is_granted and tables[name].is_ours)
        or tables[name].comment != _comment(role, condition)
    )


def _build(cursor: Any, condition: str | None, names: dict[str, str]) -> None:
    cursor.execute(_sql("DROP POLICY IF EXISTS {policy} ON {schema}.{table}", **names))
    if condition is None:
        cursor.execute(_sql("ALTER TABLE {schema}.{table} DISABLE ROW LEVEL SECURITY", **names))
        return
    cursor.execute(_sql("ALTER TABLE {schema}.{table} ENABLE ROW LEVEL SECURITY", **names))
    create = _sql("CREATE POLICY {policy} ON {schema}.{table} TO {role} ", **names)
    cursor.execute(create + f"USING ({condition}) WITH CHECK ({condition})")
    comment = _sql("COMMENT ON POLICY {policy} ON {schema}.{table} IS ", **names)
    cursor.execute(comment + sql.Literal(_comment(names["role"], condition)).as_string())


def _comment(role: str, condition: str | None) -> str | None:
    """What the policy is, to compare with: PostgreSQL itself keeps it in words of its own."""
    return None if condition is None else f"{role}: {condition}"


@dataclass(frozen=True)
class _Table:
    is_walled: bool
    is_granted: bool
    is_ours: bool
    comment: str | None


def _tables(cursor: Any, role: str) -> dict[str, _Table]:
    """The tables of the schema as they are."""
    cursor.execute(
        """
        SELECT c.relname, c.relrowsecurity,
               has_table_privilege(%s, c.oid, 'SELECT') AND has_table_privilege(%s, c.oid, 'INSERT')
               AND has_table_privilege(%s, c.oid, 'UPDATE') AND has_table_privilege(%s, c.oid, 'DELETE'),
               pg_has_role(c.relowner, 'USAGE'),
               obj_description(p.oid, 'pg_policy')
        FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid AND p.polname = %s
        WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace
        """,
        [role] * 4 + [POLICY],
    )
    return {name: _Table(*facts) for name, *facts in cursor.fetchall()}


def _exists(cursor: Any, role: str) -> bool:
    cursor.execute("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s)", [role])
    return bool(cursor.fetchone()[0])


def _may_become(connection: DatabaseWrapper, role: str) -> bool:
    try:
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute(_sql("SET LOCAL ROLE {role}", role=role))
            transaction.set_rollback(True, using=connection.alias)
    except DatabaseError:
        return False
    return True


def _try(connection: DatabaseWrapper, statement: str, role: str, login: str) -> None:
    """Run it; whether it worked is looked at afterwards: another process may have been first."""
    try:
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute(_sql(statement, role=role, login=login))
    except DatabaseError:
        pass


def _sql(statement: str, **names: str) -> str:
    return sql.SQL(statement).format(**{key: sql.Identifier(name) for key, name in names.items()}).as_string()
