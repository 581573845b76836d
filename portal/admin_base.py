"""How staff look at rows: everything that is no secret and no media, and changes only where a class says so."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from django.contrib import admin
from django.db.models import BinaryField, Field, FileField, JSONField, Model
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from unfold.admin import ModelAdmin

from portal.fields import EncryptedTextField

NEVER_SHOWN: Final = (EncryptedTextField, BinaryField, FileField)


def is_set(row: Model, name: str) -> bool:
    """Whether an encrypted field holds anything; it is not decrypted for that."""
    return bool(row.__dict__.get(name))


class StaffAdmin(ModelAdmin):
    """
    Rows to look at. Services make, change and delete them: nothing is typed in here.

    Shows every column but encrypted ones, raw bytes, files, and those in `hidden`; `extra` adds methods to that.
    A class that lets something be changed names it in `changeable`.
    """

    hidden: ClassVar[Sequence[str]] = ()
    extra: ClassVar[Sequence[str]] = ()
    changeable: ClassVar[Sequence[str]] = ()
    list_per_page = 50
    list_fullwidth = True
    show_full_result_count = False
    actions: ClassVar[Sequence[Any]] = ()

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> list[Any]:
        return [self._shown_as(field) for field in self._columns()] + list(self.extra)

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[Any]:
        return [name for name in self.get_fields(request, obj) if name not in self.changeable]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Actions ask without a row whether they may run; a row itself is changed only where something is changeable."""
        if self.changeable or (self.actions and obj is None):
            return bool(super().has_change_permission(request, obj))
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def _columns(self) -> list[Field[Any, Any]]:
        return [
            field
            for field in self.model._meta.fields
            if not isinstance(field, NEVER_SHOWN) and not field.primary_key and field.name not in self.hidden
        ]

    def _shown_as(self, field: Field[Any, Any]) -> Any:
        """JSON is laid out; everything else as Django shows it."""
        if not isinstance(field, JSONField):
            return field.name

        @admin.display(description=field.verbose_name)
        def pretty(row: Model) -> SafeString:
            return preformatted(json.dumps(getattr(row, field.name), indent=2, ensure_ascii=False))

        return pretty


def preformatted(text: str) -> SafeString:
    """Text as it is, escaped, in lines."""
    return format_html('<pre class="whitespace-pre-wrap break-all">{}</pre>', text)
