"""`manage.py migrate`, as the owner of the tables it makes."""

from typing import Any

from django.core.management.commands import migrate

from portal.walls import across_tenants


class Command(migrate.Command):
    """Django's own; on PostgreSQL the signals around it build the wall between tenants (`portal/postgresql`)."""

    def execute(self, *args: Any, **options: Any) -> Any:
        with across_tenants("migrations make, change and fill the tables of all tenants"):
            return super().execute(*args, **options)
