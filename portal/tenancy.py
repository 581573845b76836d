"""What makes a row a tenant's own. Every model of the portal but a named few is TenantOwned."""

import uuid
from typing import TYPE_CHECKING, Any, Protocol, Self

from django.db import models

from typing_extensions import TypeVar

if TYPE_CHECKING:
    from accounts.models import Tenant

Row = TypeVar("Row", bound=models.Model, default=Any)


class Viewer(Protocol):
    """Whoever looks at a tenant's rows: a membership, or an API token acting for its tenant."""

    @property
    def tenant_id(self) -> int: ...

    @property
    def user_id(self) -> int | None:
        """The person behind it; None for a token."""

    @property
    def sees_whole_tenant(self) -> bool:
        """True for the tenant's staff; everybody else sees their own Ring accounts' devices and what is granted to them."""


class TenantQuerySet(models.QuerySet[Row]):
    """
    Querysets of tenant rows begin with `for_tenant` or `visible_to`; nothing else may face a person or a program.

    `class ThingQuerySet(TenantQuerySet["Thing"])` tells the type checker what is in it.
    """

    def for_tenant(self, tenant: "Tenant | int") -> Self:
        return self.filter(tenant=tenant)

    def visible_to(self, viewer: Viewer) -> Self:
        """The rows this viewer may see. The kernel's rule: the tenant's staff see all, everybody else nothing."""
        rows = self.filter(tenant_id=viewer.tenant_id)
        return rows if viewer.sees_whole_tenant else rows.none()


class TenantOwned(models.Model):
    """A row that belongs to exactly one tenant, known outside by its `public_id` and never by its primary key."""

    tenant = models.ForeignKey("accounts.Tenant", models.CASCADE, related_name="+")
    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)

    class Meta:
        abstract = True
