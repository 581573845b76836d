"""
Giving access to devices, and ending it: the only writer of grants and groups.

The tenant's admins give access to any device and group; a customer to the devices of their own Ring accounts; whoever
holds a grant with `manage` to what that grant reaches, and never more than it gives or longer than it lasts.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.db.models import Q

from accounts import invitations
from accounts.audit import audit
from accounts.models import Invitation, Membership, RingAccount, Role, User
from accounts.people import find_person
from devices.grants import (
    Capability,
    DeviceGroup,
    Grant,
    GrantQuerySet,
    GroupedDevice,
    grants_on_devices,
    holdings_of,
)
from devices.models import Device


class MayNotShare(PermissionDenied):
    """Who asks may not give this access; the message is for them."""


class NameTaken(Exception):
    """A group of the tenant is called so already."""


def is_at_home(member: Membership, device: Device) -> bool:
    """Whether the member decides about the device by themselves: as an admin, or because it is their own."""
    if member.tenant_id != device.tenant_id:
        return False
    return member.is_tenant_admin or holdings_of(member).owns(device)


def may_share(member: Membership, device: Device, *, now: datetime) -> bool:
    """Whether the member may give anybody access to the device."""
    return is_at_home(member, device) or bool(_powers(member, device, now))


def shareable(member: Membership, device: Device, *, now: datetime) -> frozenset[Capability]:
    """What the member may give of the device."""
    if is_at_home(member, device):
        return frozenset(Capability)
    powers = _powers(member, device, now)
    return frozenset().union(*(grant.capabilities for grant in powers))


def _powers(member: Membership, device: Device, now: datetime) -> list[Grant]:
    """The grants by which the member may give on access to the device."""
    own = Grant.objects.for_tenant(member.tenant_id).in_force(now).filter(membership=member, manage=True)
    return [grant for grant, _ in grants_on_devices(own, member.tenant_id, [device.pk])]


def _power_for(
    by: Membership,
    device: Device,
    capabilities: frozenset[Capability],
    until: datetime | None,
    now: datetime,
) -> Grant | None:
    """The grant under which this may be given; None for whoever needs none. Raises MayNotShare."""
    if is_at_home(by, device):
        return None
    powers = _powers(by, device, now)
    if not powers:
        raise MayNotShare("You may not give others access to this device.")
    enough = [grant for grant in powers if capabilities <= grant.capabilities]
    if not enough:
        raise MayNotShare("You cannot give others more than you hold yourself.")
    for grant in enough:
        if grant.until is None or (until is not None and until <= grant.until):
            return grant
    raise MayNotShare("You cannot give access for longer than you have it yourself.")


def give(
    *,
    by: Membership,
    to: Membership | Invitation,
    target: Device | DeviceGroup,
    capabilities: Collection[Capability],
    until: datetime | None,
    now: datetime,
) -> Grant:
    """Give a member, or whoever accepts the invitation, access to a device or group. Raises MayNotShare."""
    wanted = frozenset(capabilities)
    if Capability.EXPORT in wanted:
        wanted |= {Capability.CLIPS}
    if not wanted or (until is not None and until <= now):
        raise MayNotShare("Choose what the person may do, and until a moment to come.")
    if to.tenant_id != by.tenant_id or target.tenant_id != by.tenant_id:
        raise MayNotShare("There is no such person or device here.")
    if isinstance(target, DeviceGroup):
        if not by.is_tenant_admin:
            raise MayNotShare("Only admins give access to groups.")
        power = None
    else:
        power = _power_for(by, target, wanted, until, now)
    with transaction.atomic():
        if power is not None:
            # Held until the commit: who ends it at this moment ends what is given under it, too.
            standing = Grant.objects.select_for_update().standing(now).filter(pk=power.pk)
            if standing.first() is None:
                raise MayNotShare("You may not give others access to this device any more.")
        grant = Grant.objects.create(
            tenant=by.tenant,
            membership=to if isinstance(to, Membership) else None,
            invitation=to if isinstance(to, Invitation) else None,
            device=target if isinstance(target, Device) else None,
            group=target if isinstance(target, DeviceGroup) else None,
            until=until,
            created_at=now,
            created_by=by.user,
            given_under=power,
            **{capability.value: True for capability in wanted},
        )
        audit(
            tenant=by.tenant,
            actor=by.user,
            action="grant.given",
            subject=f"grant {grant.public_id}",
            about_person=to.user if isinstance(to, Membership) else None,
            target=_called(target),
            to=f"{'membership' if isinstance(to, Membership) else 'invitation'} {to.public_id}",
            capabilities=sorted(wanted),
            until=None if until is None else until.isoformat(),
        )
    return grant


def _called(target: Device | DeviceGroup) -> str:
    return f"{'device' if isinstance(target, Device) else 'group'} {target.public_id}"


@dataclass(frozen=True)
class Shared:
    """What `share` did. `invited` where a mail is to be sent; without one a grant that waits has its mail already."""

    grant: Grant
    invited: invitations.Invited | None = None


def share(
    *,
    by: Membership,
    email: str,
    target: Device | DeviceGroup,
    capabilities: Collection[Capability],
    until: datetime | None,
    now: datetime,
) -> Shared:
    """
    Give the person with this address access: with an invitation as a guest, which they accept.

    At once where the member is no news to who gives: to an admin, or because they accepted an invitation of theirs to
    this address before. For everybody else who belongs to the company is answered as who does not. The caller sends the mail of `Shared.invited` after the commit. Raises MayNotShare.
    """
    email = User.objects.normalize_email(email).lower()

    def give_to(somebody: Membership | Invitation) -> Grant:
        return give(by=by, to=somebody, target=target, capabilities=capabilities, until=until, now=now)

    person, is_proved = find_person(email)
    with transaction.atomic():
        member = Membership.objects.filter(tenant=by.tenant, user=person).select_related("user").first()
        if member is not None and is_proved and member.user_id == by.user_id:
            raise MayNotShare("That is you.")
        accepted = Invitation.objects.for_tenant(by.tenant).filter(
            created_by=by.user, email=email, accepted_by=person, accepted_at__isnull=False
        )
        if member is not None and is_proved and (by.is_tenant_admin or accepted.exists()):
            return Shared(give_to(member))
        # An address nobody has proved may be anybody's: whoever reads its mails gets the access.
        pending = Invitation.objects.for_tenant(by.tenant).open(now).filter(email=email).first()
        if pending is not None:
            return Shared(give_to(pending))
        invited = invitations.invite(by=by, email=email, role=Role.GUEST, good_until=until, now=now)
        return Shared(give_to(invited.invitation), invited)


def may_end(grant: Grant, by: Membership) -> bool:
    """Admins end any; a customer those on their own devices; everybody what they gave, and what they were given."""
    if by.tenant_id != grant.tenant_id:
        return False
    if by.is_tenant_admin or by.user_id == grant.created_by_id or by.pk == grant.membership_id:
        return True
    return grant.device is not None and holdings_of(by).owns(grant.device)


def end(*, grant: Grant, by: Membership, now: datetime) -> None:
    """End a grant and all that was given on under it. Safe to run twice. Raises MayNotShare."""
    if not may_end(grant, by):
        raise MayNotShare("You may not end this access.")
    end_all(Grant.objects.filter(pk=grant.pk), actor=by.user, now=now)


def end_all(grants: GrantQuerySet, *, actor: User | None, now: datetime) -> int:
    """End these grants and all that was given on under them; return how many those were."""
    count = 0
    with transaction.atomic():
        rows = list(grants.filter(ended_at__isnull=True).select_related("tenant", "membership__user"))
        while rows:
            for grant in rows:
                if Grant.objects.filter(pk=grant.pk, ended_at__isnull=True).update(ended_at=now):
                    count += 1
                    audit(
                        tenant=grant.tenant,
                        actor=actor,
                        action="grant.ended",
                        subject=f"grant {grant.public_id}",
                        about_person=grant.membership.user if grant.membership is not None else None,
                    )
            below = Grant.objects.filter(given_under__in=rows, ended_at__isnull=True)
            rows = list(below.select_related("tenant", "membership__user"))
    return count


def end_of_account(*, account: RingAccount, now: datetime) -> int:
    """The Ring account was unlinked: nobody but the tenant's staff has any business with its devices."""
    return end_all(Grant.objects.filter(device__ring_account=account), actor=None, now=now)


def grants_on(target: Device | DeviceGroup, *, now: datetime) -> GrantQuerySet:
    """Who was given access to it, those who wait included, and for a device also through its groups; newest last."""
    standing = Grant.objects.for_tenant(target.tenant_id).standing(now)
    if isinstance(target, DeviceGroup):
        found = standing.filter(group=target)
    else:
        groups = GroupedDevice.objects.filter(device=target).values("group")
        found = standing.filter(Q(device=target) | Q(group__in=groups))
    open_only = Q(invitation__isnull=True) | Q(
        invitation__accepted_at__isnull=True,
        invitation__revoked_at__isnull=True,
        invitation__expires_at__gt=now,
    )
    rows: GrantQuerySet = found.filter(open_only).select_related(
        "membership__user", "invitation", "device__ring_account", "group", "created_by"
    )
    return rows.order_by("created_at", "pk")


# --- groups ----------------------------------------------------------------------------------------------------------


def save_group(
    *, group: DeviceGroup | None, name: str, devices: Collection[Device], by: Membership, now: datetime
) -> DeviceGroup:
    """
    Make a group, or rename it and set which devices are in it. Raises MayNotShare and NameTaken.

    Who was given a device by somebody who had it through the group loses it when it leaves the group.
    """
    if not by.is_tenant_admin or any(device.tenant_id != by.tenant_id for device in devices):
        raise MayNotShare("Only admins make groups, of their own company's devices.")
    try:
        with transaction.atomic():
            is_new = group is None
            if group is None:
                group = DeviceGroup.objects.create(tenant=by.tenant, name=name)
            elif group.name != name:
                group.name = name
                group.save(update_fields=["name"])
            _end_given_on(group, staying=devices, by=by, now=now)
            GroupedDevice.objects.filter(group=group).exclude(device__in=devices).delete()
            GroupedDevice.objects.bulk_create(
                [GroupedDevice(tenant=by.tenant, group=group, device=device) for device in devices],
                ignore_conflicts=True,
            )
            audit(
                tenant=by.tenant,
                actor=by.user,
                action="group.made" if is_new else "group.changed",
                subject=f"group {group.public_id}",
                devices=[str(device.public_id) for device in devices],
            )
    except IntegrityError:
        raise NameTaken from None
    return group


def _end_given_on(group: DeviceGroup, *, staying: Collection[Device], by: Membership, now: datetime) -> None:
    """End what was given under a grant on the group, of devices that are no longer in it."""
    given_on = Grant.objects.filter(given_under__group=group, device__isnull=False)
    end_all(given_on.exclude(device__in=staying), actor=by.user, now=now)


def delete_group(*, group: DeviceGroup, by: Membership, now: datetime) -> None:
    """Delete a group, and with it every access that was given to it. Raises MayNotShare."""
    if not by.is_tenant_admin:
        raise MayNotShare("Only admins delete groups.")
    with transaction.atomic():
        end_all(Grant.objects.filter(group=group), actor=by.user, now=now)
        audit(tenant=by.tenant, actor=by.user, action="group.deleted", subject=f"group {group.public_id}")
        group.delete()


def people_with_access(viewer: Membership, device: Device, *, now: datetime) -> list[Grant]:
    """What the viewer may know of a device's grants: who decides about it all, everybody else what they gave."""
    rows = grants_on(device, now=now)
    if not is_at_home(viewer, device):
        rows = rows.filter(created_by=viewer.user_id)
    elif not viewer.is_tenant_admin:
        # A customer need not learn how the company groups its devices; that its people see them is on the page.
        rows = rows.filter(device__isnull=False)
    return list(rows)


def own_access(viewer: Membership, device: Device, *, now: datetime) -> list[Grant]:
    """By which grants the viewer sees the device; none for whoever needs none."""
    if viewer.sees_whole_tenant or holdings_of(viewer, now=now).owns(device):
        return []
    grants = Grant.objects.for_tenant(viewer.tenant_id).in_force(now).filter(membership=viewer)
    rows = grants.select_related("group", "created_by", "device")
    return [grant for grant, _ in grants_on_devices(rows, viewer.tenant_id, [device.pk])]
