"""What the browser's session keeps of a link between Ring's redirect and the claim (contract 2.5: server side)."""

from typing import Any
from uuid import UUID

from django.contrib.sessions.backends.base import SessionBase

from accounts.models import RingAccount, Tenant
from ring.nonce import LinkQuery

_PENDING = "ring_links"
_CLAIMED = "ring_claims"
EMAIL = "ring_link_email"
"""The address to fill into the sign-up form: what Ring told of the person this link belongs to (contract 2.6)."""

_KEPT = 5  # tenants a browser may be linking with at the same time


def _put(session: SessionBase, name: str, tenant: Tenant, value: Any) -> None:
    entries = {slug: entry for slug, entry in session.get(name, {}).items() if slug != tenant.slug}
    session[name] = dict([*entries.items(), (tenant.slug, value)][-_KEPT:])


def _drop(session: SessionBase, name: str, tenant: Tenant) -> None:
    entries = session.get(name, {})
    if tenant.slug in entries:
        session[name] = {slug: entry for slug, entry in entries.items() if slug != tenant.slug}


def remember(session: SessionBase, tenant: Tenant, query: LinkQuery) -> None:
    """Keep the link until it is claimed; a newer one takes its place."""
    _put(session, _PENDING, tenant, [query.nonce, query.time_ms])
    _drop(session, _CLAIMED, tenant)


def pending(session: SessionBase, tenant: Tenant) -> LinkQuery | None:
    """The link this browser came with and has not used yet."""
    entry = session.get(_PENDING, {}).get(tenant.slug)
    return LinkQuery(nonce=entry[0], time_ms=entry[1]) if entry else None


def tenant_in_progress(session: SessionBase) -> Tenant | None:
    """The tenant this browser is on its way to link with, so that sign-in pages can say where they lead."""
    slug = next(reversed(session.get(_PENDING, {})), None)
    return Tenant.objects.filter(slug=slug).first() if slug else None


def forget(session: SessionBase, tenant: Tenant) -> None:
    """The link is used up, or good for nothing."""
    _drop(session, _PENDING, tenant)
    session.pop(EMAIL, None)


def remember_claim(session: SessionBase, tenant: Tenant, account: RingAccount) -> None:
    """Keep which account was claimed, so that a person who reloads finds the page that shows how it goes."""
    forget(session, tenant)
    _put(session, _CLAIMED, tenant, str(account.public_id))


def claimed(session: SessionBase, tenant: Tenant) -> UUID | None:
    """The account this browser claimed last in the tenant."""
    entry = session.get(_CLAIMED, {}).get(tenant.slug)
    return UUID(entry) if entry else None
