"""What the kernel does when Django tells it something."""

from typing import Any

from django.db import connections

from portal import walls
from portal.postgresql import policies


def prepare_walls(*, using: str, **_: Any) -> None:
    """Before a migrate on PostgreSQL. Raises CommandError when an administrator of the database must help first."""
    if connections[using].vendor == "postgresql":
        policies.ensure_role(using=using)


def build_walls(*, using: str, **_: Any) -> None:
    """After a migrate on PostgreSQL: every table with a tenant is walled, whoever added it."""
    if connections[using].vendor == "postgresql":
        policies.build_walls(using=using)


def begin_unit_of_work(**_: Any) -> None:
    """A task begins with nobody's rows: `portal.work.take` or `enter_tenant_of` finds out whose they are."""
    walls.begin()


def end_unit_of_work(**_: Any) -> None:
    """A task ended, well or not."""
    walls.end()
