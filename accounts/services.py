"""What other apps may ask of accounts. Each subject has its module; these are the names that hold."""

from accounts.audit import audit
from accounts.linking import confirm_link_from_ring
from accounts.models import RingAccount, Tenant
from accounts.tokens import (
    NotLinked,
    NotSetUp,
    client_for,
    fresh_access_token,
    parting_client,
    ring_config,
)
from accounts.unlinking import unlink_account

__all__ = [
    "NotLinked",
    "NotSetUp",
    "audit",
    "client_for",
    "confirm_link_from_ring",
    "find_ring_account",
    "fresh_access_token",
    "parting_client",
    "ring_config",
    "unlink_account",
]


def find_ring_account(*, tenant: Tenant, ring_id: str) -> RingAccount | None:
    """The tenant's row for Ring's account id, in whatever state; None when Ring never gave us its code."""
    if not ring_id:
        return None
    return RingAccount.objects.for_tenant(tenant).filter(ring_id=ring_id).first()
