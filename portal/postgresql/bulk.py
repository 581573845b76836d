"""Many rows in one statement with one parameter: what Django's `bulk_create` does, at a fifth of its cost on PostgreSQL."""

import base64
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from django.db import connection, models

import orjson

from portal.tenancy import TenantOwned

_Convert = Callable[[Any], Any]


def insert_many(model: type[TenantOwned], objects: Sequence[TenantOwned]) -> None:
    """
    Insert new objects and give them their primary keys, in the order given. Elsewhere than on PostgreSQL: `bulk_create`.

    No signals are sent. The rows travel as one JSON document, which PostgreSQL takes apart: a parameter for every value
    of every row costs Python more than the whole rest of the write. Raises django.db.Error.
    """
    if connection.vendor != "postgresql":
        model._default_manager.bulk_create(objects)
        return
    if not objects:
        return
    for given in objects:
        # As bulk_create does: what they refer to has perhaps been saved since they were made.
        given._prepare_related_fields_for_save(operation_name="insert_many")  # type: ignore[attr-defined]
    statement, columns = _plan(model)
    rows = [{column: convert(getattr(given, name)) for column, name, convert in columns} for given in objects]
    with connection.cursor() as cursor:
        cursor.execute(statement, [_dump(rows)])
        keys = {public_id: pk for pk, public_id in cursor.fetchall()}
    for given in objects:
        given.pk = keys[given.public_id]
        given._state.adding = False
        given._state.db = connection.alias


@cache
def _plan(model: type[TenantOwned]) -> tuple[str, list[tuple[str, str, _Convert]]]:
    """The statement, and of each column its name, its attribute's, and what makes its value fit for JSON."""
    fields: list[Any] = [field for field in model._meta.concrete_fields if not field.primary_key]
    quote = connection.ops.quote_name
    into = ", ".join(quote(field.column) for field in fields)
    values = ", ".join(
        f"decode({quote(field.column)}, 'base64')" if _is_binary(field) else quote(field.column)
        for field in fields
    )
    types = ", ".join(
        f"{quote(field.column)} {'text' if _is_binary(field) else field.db_type(connection)}"
        for field in fields
    )
    key, table = quote(str(model._meta.pk.column)), quote(model._meta.db_table)
    statement = (
        f"INSERT INTO {table} ({into}) SELECT {values} FROM jsonb_to_recordset(%s::jsonb) AS row ({types}) "  # noqa: S608 - names of our own models
        f"RETURNING {key}, public_id"
    )
    return statement, [(field.column, field.attname, _conversion(field)) for field in fields]


def _is_binary(field: "models.Field[Any, Any]") -> bool:
    return isinstance(field, models.BinaryField)


def _conversion(field: "models.Field[Any, Any]") -> _Convert:
    if _is_binary(field):
        return lambda value: None if value is None else base64.b64encode(value).decode()
    if isinstance(field, models.DateTimeField):
        return lambda value: value.isoformat() if isinstance(value, datetime) else value
    if isinstance(field, models.UUIDField):
        return lambda value: None if value is None else str(value)
    if isinstance(field, models.JSONField | models.BooleanField | models.IntegerField | models.ForeignKey):
        return lambda value: value
    return lambda value: None if value is None else str(value)  # choices are strings of a class of their own


def _dump(rows: list[dict[str, Any]]) -> str:
    try:
        return orjson.dumps(rows).decode()
    except TypeError:
        # Numbers of more than 64 bits; and half characters, which PostgreSQL then refuses by itself.
        return json.dumps(rows)
