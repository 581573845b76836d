"""A small cast for every test: two tenants, their people, and outsiders."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from accounts.models import Membership, RingAccount, RingApp, Role, Tenant, User
from devices.models import Device

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
PASSWORD = "correct horse battery staple"


def make_user(email: str) -> User:
    return User.objects.create_user(email, PASSWORD)


def make_tenant(slug: str, *, signing_key: str = "") -> Tenant:
    """A tenant with Ring credentials: client `<slug>-client`, secret `<slug>-secret`, key `<slug>-key`."""
    tenant = Tenant.objects.create(slug=slug, name=slug.title())
    RingApp.objects.create(
        tenant=tenant,
        client_id=f"{slug}-client",
        client_secret=f"{slug}-secret",
        signing_key=signing_key or f"{slug}-key",
    )
    return tenant


def make_membership(tenant: Tenant, email: str, role: Role) -> Membership:
    return Membership.objects.create(tenant=tenant, user=make_user(email), role=role)


def make_linked_account(tenant: Tenant, user: User, *, ring_id: str, now: datetime = NOW) -> RingAccount:
    return RingAccount.objects.create(
        tenant=tenant,
        user=user,
        ring_id=ring_id,
        state=RingAccount.State.LINKED,
        first_name="Ada",
        access_token=f"access-{ring_id}",
        refresh_token=f"refresh-{ring_id}",
        access_expires_at=now + timedelta(hours=4),
        tokens_obtained_at=now,
        claimed_at=now,
        linked_at=now,
        consent_at=now - timedelta(days=1),
    )


def make_camera(account: RingAccount, name: str = "Front Door", *, now: datetime = NOW) -> Device:
    return Device.objects.create(
        tenant=account.tenant,
        ring_account=account,
        ring_id=f"ava1.ring.device.{account.ring_id[-4:]}.{name.replace(' ', '')}",
        name=name,
        kind=Device.Kind.CAMERA,
        has_video=True,
        online=True,
        is_battery_powered=False,
        seen_at=now,
    )


@dataclass
class TenantCast:
    """One tenant with its people; `ada` and `ben` are customers, each with a linked Ring account and a camera."""

    tenant: Tenant
    owner: Membership
    operator: Membership
    ada: Membership
    ben: Membership
    ada_account: RingAccount
    ben_account: RingAccount
    ada_camera: Device
    ben_camera: Device
    everyone: list[Membership] = field(default_factory=list)


def make_cast(slug: str = "acme") -> TenantCast:
    tenant = make_tenant(slug)
    owner = make_membership(tenant, f"owner@{slug}.example", Role.OWNER)
    operator = make_membership(tenant, f"operator@{slug}.example", Role.OPERATOR)
    ada = make_membership(tenant, f"ada@{slug}.example", Role.CUSTOMER)
    ben = make_membership(tenant, f"ben@{slug}.example", Role.CUSTOMER)
    ada_account = make_linked_account(tenant, ada.user, ring_id=f"ava1.ring.account.{slug}.ADA1")
    ben_account = make_linked_account(tenant, ben.user, ring_id=f"ava1.ring.account.{slug}.BEN1")
    return TenantCast(
        tenant=tenant,
        owner=owner,
        operator=operator,
        ada=ada,
        ben=ben,
        ada_account=ada_account,
        ben_account=ben_account,
        ada_camera=make_camera(ada_account),
        ben_camera=make_camera(ben_account, "Driveway"),
        everyone=[owner, operator, ada, ben],
    )
