"""
Asking people to join a tenant, by a mail with a link that works once and for a week.

The link's token proves two things: that somebody with the right invited, and that whoever holds it reads the mails of
the address. Only its SHA-256 is stored. Nobody becomes a member before they accept, signed in as the person invited.
"""

import hashlib
import logging
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from django.core.exceptions import PermissionDenied
from django.core.mail import send_mail
from django.db import IntegrityError, transaction
from django.template.loader import render_to_string
from django.urls import reverse

from allauth.account.models import EmailAddress

from accounts import signals
from accounts.audit import audit
from accounts.models import Invitation, Membership, Role, Tenant, User
from accounts.people import find_person

logger = logging.getLogger(__name__)

GOOD_FOR: Final = timedelta(days=7)
# A mail can be sent again this often: nobody's mailbox is ours to fill.
SEND_AGAIN_AFTER: Final = timedelta(minutes=1)
_RANK: Final = (Role.GUEST, Role.CUSTOMER, Role.OPERATOR, Role.ADMIN, Role.OWNER)


class AlreadyMember(Exception):
    """The person belongs to the tenant already; their role is not changed by inviting them."""


class AlreadyInvited(Exception):
    """There is an invitation of this address already, for another role."""


class InvitationOver(Exception):
    """The invitation was accepted, withdrawn, or has run out."""


class TooSoon(Exception):
    """The mail was sent a moment ago."""


@dataclass(frozen=True)
class Invited:
    """An invitation and its token, which cannot be had again."""

    invitation: Invitation
    token: str = field(repr=False)


def may_invite(by: Membership, role: Role) -> bool:
    """Admins invite staff, only owners invite owners; guests are invited by whoever may share (`devices.sharing`)."""
    if role == Role.GUEST:
        return True
    if role == Role.OWNER:
        return by.role == Role.OWNER
    return by.is_tenant_admin and role in (Role.ADMIN, Role.OPERATOR)


def invite(
    *,
    by: Membership,
    email: str,
    role: Role,
    is_limited: bool = False,
    good_until: datetime | None = None,
    now: datetime,
) -> Invited:
    """
    Make an invitation; the caller sends it (`send`) after the commit. One that ran out is replaced.

    `good_until`: no longer than this, however long invitations last. Raises PermissionDenied, AlreadyMember,
    AlreadyInvited.
    """
    if not may_invite(by, role):
        raise PermissionDenied("You may not invite anybody in this role.")
    tenant = by.tenant
    email = User.objects.normalize_email(email).lower()
    person, _ = find_person(email)
    # A member may be a guest besides: whoever invites guests need not learn who belongs to the company.
    if role != Role.GUEST and Membership.objects.filter(tenant=tenant, user=person).exists():
        raise AlreadyMember
    token = secrets.token_urlsafe(32)
    expires_at = now + GOOD_FOR if good_until is None else min(good_until, now + GOOD_FOR)
    try:
        with transaction.atomic():
            lapsed = Invitation.objects.for_tenant(tenant).pending().filter(email=email, expires_at__lte=now)
            lapsed.update(revoked_at=now)
            invitation = Invitation.objects.create(
                tenant=tenant,
                email=email,
                role=role,
                is_limited=is_limited and role == Role.OPERATOR,
                sha256=digest(token),
                created_by=by.user,
                created_at=now,
                sent_at=now,
                expires_at=expires_at,
            )
            audit(
                tenant=tenant,
                actor=by.user,
                action="invitation.sent",
                subject=f"invitation {invitation.public_id}",
                role=str(role),
            )
    except IntegrityError:
        raise AlreadyInvited from None
    return Invited(invitation, token)


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def send(invited: Invited, *, base_url: str, what: Iterable[str] = ()) -> bool:
    """
    Mail the link; False when it could not be sent. `what`: what the person may then do, a line each.

    `base_url` is the portal's own address, without a slash at the end.
    """
    invitation = invited.invitation
    path = reverse("accounts:join", args=[invitation.tenant.slug])
    body = render_to_string(
        "accounts/email/join.txt",
        {
            "tenant": invitation.tenant,
            "invitation": invitation,
            "inviter": invitation.created_by,
            "url": f"{base_url}{path}?token={invited.token}",
            "what": list(what),
        },
    )
    try:
        send_mail(f"You are invited to {invitation.tenant.name}", body, None, [invitation.email])
    except OSError as error:  # smtplib's errors are OSErrors too
        logger.warning(
            "An invitation could not be sent. invitation=%s error=%s",
            invitation.public_id,
            type(error).__name__,
        )
        return False
    return True


def send_again(*, invitation: Invitation, by: Membership, now: datetime) -> Invited:
    """
    Make a new link, good for a week again unless what is granted ends earlier; the old one stops working.

    Raises InvitationOver, TooSoon, PermissionDenied.
    """
    if not may_invite(by, Role(invitation.role)):
        raise PermissionDenied("You may not send this invitation.")
    if now - invitation.sent_at < SEND_AGAIN_AFTER:
        raise TooSoon
    token = secrets.token_urlsafe(32)
    lasts = invitation.expires_at - invitation.sent_at
    waiting = Invitation.objects.pending().filter(pk=invitation.pk)
    # One for a guest who may look until a time does not outlast that time.
    expires_at = invitation.expires_at if lasts < GOOD_FOR - timedelta(minutes=1) else now + GOOD_FOR
    if expires_at <= now or not waiting.update(sha256=digest(token), sent_at=now, expires_at=expires_at):
        raise InvitationOver
    invitation.refresh_from_db()
    return Invited(invitation, token)


def withdraw(*, invitation: Invitation, actor: User, now: datetime) -> None:
    """End an invitation that waits. Raises InvitationOver when it does not."""
    with transaction.atomic():
        if not Invitation.objects.pending().filter(pk=invitation.pk).update(revoked_at=now):
            raise InvitationOver
        audit(
            tenant=invitation.tenant,
            actor=actor,
            action="invitation.withdrawn",
            subject=f"invitation {invitation.public_id}",
        )


def find_by_token(tenant: Tenant, token: str) -> Invitation | None:
    """The invitation a link names, whatever became of it."""
    rows = Invitation.objects.for_tenant(tenant).select_related("tenant", "created_by")
    return rows.filter(sha256=digest(token)).first()


def is_for(invitation: Invitation, person: User) -> bool:
    """Whether the invited address is one of the person's, proved or not: the link has proved it."""
    return (
        person.email.lower() == invitation.email
        or EmailAddress.objects.filter(user=person, email=invitation.email).exists()
    )


def accept(*, invitation: Invitation, person: User, now: datetime) -> Membership:
    """
    Make the person a member; what was granted on the invitation is theirs. Somebody who is one already never loses by it.

    `invitation` is as its link named it. Raises InvitationOver, also when a newer link was sent meanwhile, and
    PermissionDenied for somebody else than the invited person.
    """
    if not is_for(invitation, person):
        raise PermissionDenied("This invitation is for somebody else.")
    with transaction.atomic():
        taken = Invitation.objects.open(now).filter(pk=invitation.pk, sha256=invitation.sha256)
        if not taken.update(accepted_at=now, accepted_by=person):
            raise InvitationOver
        membership, is_new = Membership.objects.get_or_create(
            tenant=invitation.tenant,
            user=person,
            defaults={"role": invitation.role, "is_limited": invitation.is_limited},
        )
        if not is_new and _RANK.index(Role(invitation.role)) > _RANK.index(Role(membership.role)):
            membership.role, membership.is_limited = invitation.role, invitation.is_limited
            membership.save(update_fields=["role", "is_limited"])
        _prove_address(person, invitation.email)
        signals.invitation_accepted.send(sender=Invitation, invitation=invitation, membership=membership)
        audit(
            tenant=invitation.tenant,
            actor=person,
            action="invitation.accepted",
            subject=f"invitation {invitation.public_id}",
            about_person=person,
            role=str(membership.role),
        )
    return membership


def _prove_address(person: User, email: str) -> None:
    """The link came by a mail to the address: who holds it reads its mails."""
    if not EmailAddress.objects.filter(email=email, verified=True).exists():
        is_primary = not EmailAddress.objects.filter(user=person, primary=True).exclude(email=email).exists()
        EmailAddress.objects.update_or_create(
            user=person, email=email, defaults={"verified": True, "primary": is_primary}
        )
