"""
Many rows in few messages to the database: what Django's `bulk_create` and single statements do, at a fifth of the cost.

On PostgreSQL the rows travel as one JSON document, which the database takes apart (a parameter for every value of every
row costs Python more than the whole rest of the write), several statements share one message (each message costs two
changes of threads), and each is planned once for a connection (row-level security makes planning dearer than doing).
Elsewhere the same things are done one by one.
"""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from django.db import connection, models

import orjson

type Statement = tuple[str, Sequence[Any]]
type Row = dict[str, Any]
"""A new row: its values by the names of its columns."""

type Rows = list[tuple[Any, ...]]


def run_together(*statements: Statement) -> list[Rows]:
    """
    Run the statements in their order; return the rows of each. Raises django.db.Error.

    The texts must be few and always the same: each is prepared, and kept as long as its connection.
    """
    with connection.cursor() as cursor:
        if connection.vendor != "postgresql":
            return [cursor.execute(sql, parameters).fetchall() for sql, parameters in statements]
        message = "; ".join(_execution(_prepared(cursor, sql), len(given)) for sql, given in statements)
        cursor.execute(message, [value for _, given in statements for value in given])
        results: list[Rows] = []
        more: bool | None = True
        while more:
            results.append(cursor.fetchall() if cursor.description else [])
            more = cursor.nextset()
        return results


_names: WeakKeyDictionary[Any, dict[str, str]] = WeakKeyDictionary()
"""Of each connection to PostgreSQL, the names of the statements prepared there."""


def _prepared(cursor: Any, sql: str) -> str:
    names = _names.setdefault(connection.connection, {})
    if sql not in names:
        name = f"portal_{len(names)}"
        numbered = sql.replace("%s", "{}").format(*(f"${number + 1}" for number in range(sql.count("%s"))))
        cursor.execute(f"PREPARE {name} AS {numbered}")
        names[sql] = name
    return names[sql]


@cache
def _execution(name: str, parameters: int) -> str:
    given = f"({', '.join(['%s'] * parameters)})" if parameters else ""
    return f"EXECUTE {name}{given}"


def next_keys(model: type[models.Model], count: int) -> Statement:
    """
    The statement whose rows are the next `count` primary keys of the model, one a row.

    On SQLite they are only safe until the end of a transaction that has begun as a writer, as all of ours do.
    """
    table, key = model._meta.db_table, str(model._meta.pk.column)
    if connection.vendor == "postgresql":
        return (
            "SELECT nextval(name::regclass) FROM pg_get_serial_sequence(%s, %s) AS name, generate_series(1, %s)",
            [table, key, count],
        )
    return (
        "WITH RECURSIVE keys (key, number) AS ("
        "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = %s), 0) + 1, 1 "
        "UNION ALL SELECT key + 1, number + 1 FROM keys WHERE number < %s) SELECT key FROM keys",
        [table, count],
    )


def insert_all(*batches: tuple[type[models.Model], Sequence[Row]], last: Sequence[Statement] = ()) -> None:
    """
    Insert new rows, each batch of one model, in the order given; then run `last`. A row has its primary key.

    What a row does not name gets its field's default. No signals are sent. Raises django.db.Error.
    """
    wanted = [(model, rows) for model, rows in batches if rows]
    if connection.vendor == "postgresql":
        run_together(*(_insert(model, rows) for model, rows in wanted), *last)
        return
    for model, rows in wanted:
        model._default_manager.bulk_create([model(**row) for row in rows])
    run_together(*last)


def _insert(model: type[models.Model], rows: Sequence[Row]) -> Statement:
    plan = _plan(model)
    return plan.statement, [_dump([plan.complete(row) for row in rows])]


@dataclass(frozen=True)
class _Plan:
    statement: str
    defaults: Row
    made: dict[str, Callable[[], Any]]
    """What makes the default of a column whose rows differ in it."""
    binary: tuple[str, ...]

    def complete(self, row: Row) -> Row:
        """The row with all its columns, fit for JSON."""
        whole = {**self.defaults, **row}
        for column, make in self.made.items():
            if column not in row:
                whole[column] = make()
        for column in self.binary:
            whole[column] = base64.b64encode(whole[column]).decode()
        return whole


@cache
def _plan(model: type[models.Model]) -> _Plan:
    fields: list[Any] = list(model._meta.concrete_fields)
    if odd := [field.name for field in fields if field.column != field.attname]:
        raise TypeError(f"{model.__name__} keeps {', '.join(odd)} under another name.")
    binary = tuple(str(field.column) for field in fields if isinstance(field, models.BinaryField))
    made = [field for field in fields if field.has_default() and callable(field.default)]
    quote = connection.ops.quote_name
    into = ", ".join(quote(field.column) for field in fields)
    values = ", ".join(
        f"decode({quote(field.column)}, 'base64')" if field.column in binary else quote(field.column)
        for field in fields
    )
    types = ", ".join(
        f"{quote(field.column)} {'text' if field.column in binary else _type(field)}" for field in fields
    )
    statement = (
        f"INSERT INTO {quote(model._meta.db_table)} ({into}) "  # noqa: S608 - names of our own models
        f"SELECT {values} FROM jsonb_to_recordset(%s::jsonb) AS row ({types})"
    )
    return _Plan(
        statement=statement,
        defaults={field.column: field.get_default() for field in fields if field not in made},
        made={field.column: field.default for field in made},
        binary=binary,
    )


def _type(field: Any) -> str:
    # A key is a number that makes itself; here it is a number that is given.
    return str(field.rel_db_type(connection) if field.primary_key else field.db_type(connection))


def _dump(rows: list[Row]) -> str:
    try:
        return orjson.dumps(rows).decode()
    except TypeError:
        # Numbers of more than 64 bits; and half characters, which PostgreSQL then refuses by itself.
        return json.dumps(rows, default=str)
