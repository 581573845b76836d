"""People of a tenant: making them members, their roles, and their leaving. Inviting them: accounts/invitations.py."""

from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import PermissionDenied
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import QuerySet
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from allauth.account.forms import default_token_generator
from allauth.account.models import EmailAddress
from allauth.account.utils import user_pk_to_url_str
from allauth.mfa.models import Authenticator

from accounts.audit import audit
from accounts.models import Invitation, Membership, RingAccount, Role, Tenant, User
from accounts.unlinking import DISCONNECTED, telling_ring, unlink_account


@dataclass(frozen=True)
class Added:
    """What `add_member` did. `needs_password`: nobody can sign in as this person before `send_welcome`."""

    membership: Membership
    needs_password: bool
    is_new_member: bool


def find_person(email: str) -> tuple[User | None, bool]:
    """Whose address this is, and whether they have proved it; None when nobody has it."""
    address = EmailAddress.objects.select_related("user").filter(email=email, verified=True).first()
    if address is not None:
        return address.user, True
    return User.objects.filter(email=email).first(), False


def add_member(
    *, tenant: Tenant, email: str, role: Role, actor: User | None = None, password: str | None = None
) -> Added:
    """
    Give the person with this address a role in the tenant, replacing the one they had; make the person if need be.

    The address counts as verified: whoever adds a member vouches for it. That must not help somebody who signed up with
    an address that is not theirs: an account whose address was never proved loses its password and second factors, and
    whoever reads the mails of that address gets it. Raises ValidationError for a password nobody should have, and
    LastOwner.
    """
    email = User.objects.normalize_email(email).lower()
    with transaction.atomic():
        user, is_proved = find_person(email)
        if not is_proved:
            if password is not None:
                validate_password(password, User(email=email))
            if user is None:
                user = User.objects.create_user(email, password)
            else:
                user.set_password(password)  # ends every session too: Django binds them to the password
                user.save(update_fields=["password"])
                Authenticator.objects.filter(user=user).delete()
            EmailAddress.objects.filter(email=email).delete()
            is_primary = not EmailAddress.objects.filter(user=user, primary=True).exists()
            EmailAddress.objects.create(email=email, user=user, verified=True, primary=is_primary)
        assert user is not None  # noqa: S101 - a proved address has its person
        Tenant.objects.select_for_update().get(pk=tenant.pk)
        before = Membership.objects.filter(tenant=tenant, user=user).first()
        if before is not None and role != Role.OWNER:
            _keep_an_owner(before)
        membership, is_new_member = Membership.objects.update_or_create(
            tenant=tenant, user=user, defaults={"role": role, "is_limited": False}
        )
        audit(
            tenant=tenant,
            actor=actor,
            action="member.added",
            subject=f"membership {membership.public_id}",
            about_person=user,
            role=str(role),
        )
    return Added(membership, needs_password=not is_proved and password is None, is_new_member=is_new_member)


def send_welcome(membership: Membership, *, needs_password: bool, base_url: str) -> None:
    """Mail somebody who was added as a member how to get in. `base_url` is the portal's own address, without a slash at the end."""
    user = membership.user
    if needs_password:
        key = default_token_generator.make_token(user)
        path = reverse(
            "account_reset_password_from_key", kwargs={"uidb36": user_pk_to_url_str(user), "key": key}
        )
    else:
        path = reverse("events:dashboard", args=[membership.tenant.slug])
    body = render_to_string(
        "accounts/email/invitation.txt",
        {
            "tenant": membership.tenant,
            "role": membership.get_role_display().lower(),
            "url": base_url + path,
            "needs_password": needs_password,
            "days": settings.PASSWORD_RESET_TIMEOUT // 86_400,
        },
    )
    send_mail(f"You are invited to {membership.tenant.name}", body, None, [user.email])


def note_visit(member: Membership, *, now: datetime) -> None:
    """Remember that the person was here, so that the front door leads them back; to the minute is enough."""
    if member.used_at is None or now - member.used_at > timedelta(minutes=1):
        Membership.objects.filter(pk=member.pk).update(used_at=now)


# --- roles -----------------------------------------------------------------------------------------------------------


class LastOwner(Exception):
    """A company has at least one owner at any time."""

    def __init__(self) -> None:
        super().__init__("The company needs an owner. Hand the ownership over first.")


def may_change(actor: Membership, member: Membership) -> bool:
    """Admins look after everybody but owners; owners look after everybody."""
    if actor.tenant_id != member.tenant_id or not actor.is_tenant_admin:
        return False
    return actor.role == Role.OWNER or member.role != Role.OWNER


def _locked(tenant_id: int, *memberships: Membership) -> list[Membership]:
    """
    The memberships as they are now, while nobody else can change who owns the tenant; inside a transaction.

    Two owners who leave at the same moment so wait for each other, and the second one stays.
    """
    Tenant.objects.select_for_update(no_key=True).get(
        pk=tenant_id
    )  # rows that point at it are stored meanwhile
    rows = Membership.objects.select_related("user", "tenant")
    return [rows.get(pk=membership.pk, tenant=tenant_id) for membership in memberships]


def _keep_an_owner(member: Membership) -> None:
    """Raise LastOwner when without this one there would be none; the caller holds the lock."""
    owners = Membership.objects.filter(tenant=member.tenant_id, role=Role.OWNER, user__is_active=True)
    if member.role == Role.OWNER and not owners.exclude(pk=member.pk).exists():
        raise LastOwner


def change_role(*, member: Membership, role: Role, is_limited: bool = False, actor: Membership) -> None:
    """
    Give a member another role. Open sockets and live sessions follow within five seconds.

    Raises PermissionDenied where the actor may not, also for making owners (`transfer_ownership` does), and LastOwner.
    """
    with transaction.atomic():
        actor, member = _locked(actor.tenant_id, actor, member)
        if not may_change(actor, member) or role == Role.OWNER:
            raise PermissionDenied("You may not change this person's role.")
        _keep_an_owner(member)
        member.role = role
        member.is_limited = is_limited and role == Role.OPERATOR
        member.save(update_fields=["role", "is_limited"])
        audit(
            tenant=member.tenant,
            actor=actor.user,
            action="member.role",
            subject=f"membership {member.public_id}",
            about_person=member.user,
            role=str(role),
            is_limited=member.is_limited,
        )
        _withdraw_invitations(member, keeps=_MAY_INVITE[role])


_MAY_INVITE: dict[Role, tuple[Role, ...]] = {
    Role.OWNER: tuple(Role),
    Role.ADMIN: tuple(role for role in Role if role != Role.OWNER),
    Role.OPERATOR: (Role.GUEST,),
    Role.CUSTOMER: (Role.GUEST,),
    Role.GUEST: (Role.GUEST,),
}


def _withdraw_invitations(member: Membership, *, keeps: Collection[Role]) -> None:
    """What somebody may no longer send does not wait to be accepted either, by themselves under another address, say."""
    waiting = Invitation.objects.pending().filter(tenant=member.tenant_id, created_by=member.user_id)
    waiting.exclude(role__in=keeps).update(revoked_at=timezone.now())


def remove_member(*, member: Membership, actor: Membership, now: datetime) -> None:
    """
    End somebody's part in the tenant, one's own too; their grants, and what was given on under them, end with it.

    So do their links: who left shares nothing with the company any more, and Ring is told. Either all of it ends or, when
    one of the two has another role by now, nothing. Not to be called inside a transaction. Raises PermissionDenied and
    LastOwner.
    """
    _may_go(actor, member)
    with ExitStack() as told:
        for account in ring_accounts_of(member):
            told.enter_context(telling_ring(account))
        _remove(member, actor, now=now)


def _may_go(actor: Membership, member: Membership) -> None:
    if actor.pk != member.pk and not may_change(actor, member):
        raise PermissionDenied("You may not remove this person.")
    _keep_an_owner(member)


def _remove(member: Membership, actor: Membership, *, now: datetime) -> None:
    with transaction.atomic():
        actor, member = _locked(member.tenant_id, actor, member)
        _may_go(actor, member)
        for account in ring_accounts_of(member):
            unlink_account(account=account, now=now, actor=actor.user, reason=DISCONNECTED)
        audit(
            tenant=member.tenant,
            actor=actor.user,
            action="member.left" if actor.pk == member.pk else "member.removed",
            subject=f"membership {member.public_id}",
            about_person=member.user,
            role=str(member.role),
        )
        _withdraw_invitations(member, keeps=())
        member.delete()


def ring_accounts_of(member: Membership) -> QuerySet[RingAccount]:
    """The Ring accounts the member shares with the tenant."""
    shared = [*RingAccount.CLAIMED, RingAccount.State.RELINK_REQUIRED]
    accounts: QuerySet[RingAccount] = RingAccount.objects.for_tenant(member.tenant_id).filter(
        user=member.user_id, state__in=shared
    )
    return accounts.select_related("tenant")


def transfer_ownership(*, owner: Membership, to: Membership) -> None:
    """
    Make another member owner in one's own place; who was owner is an admin then.

    The caller has asked for the password again. Raises PermissionDenied where `owner` is none, or `to` is neither admin
    nor operator.
    """
    with transaction.atomic():
        owner, to = _locked(owner.tenant_id, owner, to)
        if owner.role != Role.OWNER or to.role not in (Role.ADMIN, Role.OPERATOR) or not to.user.is_active:
            raise PermissionDenied("Only an owner hands the company over, and only to an admin or operator.")
        to.role, to.is_limited = Role.OWNER, False
        to.save(update_fields=["role", "is_limited"])
        owner.role = Role.ADMIN
        owner.save(update_fields=["role"])
        _withdraw_invitations(owner, keeps=_MAY_INVITE[Role.ADMIN])
        audit(
            tenant=owner.tenant,
            actor=owner.user,
            action="owner.transferred",
            subject=f"membership {to.public_id}",
            about_person=to.user,
        )
