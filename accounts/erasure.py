"""
Deleting for good: a person's data at one company, a person's whole account, or a whole company.

The row says what is to be deleted; a task does it, in steps of which each is safe to repeat: whatever dies, the next
worker goes on, and the counts of the receipt are written in the transactions that delete. The order is that of
`work_on`: first nobody can do anything any more and Ring is told, then history and files, then who it was about.

**What stays**: the receipt, which counts and names nobody; the audit trail, whose entries call the person by a
reference that is deleted; a keyed hash of Ring's ids, so that late webhooks are recognised and not stored.
"""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.core import signing
from django.core.mail import send_mail
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import salted_hmac

from accounts import personal_data
from accounts.addresses import base_url
from accounts.audit import audit, content_hash
from accounts.models import (
    AuditPerson,
    DataExport,
    ErasedRingId,
    Erasure,
    Membership,
    RingAccount,
    Role,
    Tenant,
    User,
)
from accounts.own_data import end_sessions_of, erase_export, erase_sign_in
from accounts.personal_data import Scope, Tally
from accounts.unlinking import disconnect, unlink_account
from portal.walls import across_tenants, tenant_scope
from portal.work import backoff, enqueue_after

logger = logging.getLogger(__name__)

Kind = Erasure.Kind

LEASE: Final = timedelta(minutes=2)
"""Renewed with every batch that is deleted, so it must outlast one batch and one call to Ring."""

GRACE: Final = timedelta(days=3)
"""How long a company can be kept after all: it concerns many people, and one of them clicked."""

RECEIPT_KEPT: Final = timedelta(days=30)
MAX_ATTEMPTS: Final = 12
"""Over about eight hours, growing from half a minute; then staff have to look."""

MAIL_ATTEMPTS: Final = 12
_SALT: Final = "accounts.erasure"


class UnderWay(Exception):
    """It is being deleted already."""


class SoleOwner(Exception):
    """Somebody must own a company: they hand it over, or delete it, before they go. `tenants` names those companies."""

    def __init__(self, tenants: Iterable[Tenant]) -> None:
        super().__init__("sole owner")
        self.tenants = list(tenants)


# --- asking -------------------------------------------------------------------------------------------------------


def sole_ownerships(user: User, *, tenant: Tenant | None = None) -> list[Tenant]:
    """The companies nobody would own without this person."""
    owned = Tenant.objects.filter(
        pk__in=Membership.objects.filter(user=user, role=Role.OWNER).values("tenant")
    )
    if tenant is not None:
        owned = owned.filter(pk=tenant.pk)
    others = Membership.objects.filter(role=Role.OWNER, user__is_active=True).exclude(user=user)
    with across_tenants("a person may own several companies, and each needs an owner when they go"):
        return list(owned.exclude(pk__in=others.values("tenant")).order_by("name"))


def erase_person(*, tenant: Tenant, user: User, now: datetime) -> Erasure:
    """Begin to delete what is held about a person at one company. Raises SoleOwner, UnderWay."""
    with transaction.atomic():
        hold(user)
        _lay_down_ownership(user, tenant=tenant)
        return _begin(
            Erasure(kind=Kind.PERSON, user=user, company=tenant, company_ref=tenant.public_id),
            now=now,
            due_at=now,
            mail_to=[user.email],
            tenants=[tenant],
            actor=user,
        )


def hold(user: User) -> None:
    """
    Within a transaction: have the beginning of the person's deletion, and their claims of Ring accounts, wait for each other.

    So a claim is there before the deletion begins, which then takes it along, or it comes after and is refused.
    """
    User.objects.select_for_update(no_key=True).filter(pk=user.pk).first()


def is_being_erased(*, tenant: Tenant, user: User, now: datetime) -> bool:
    """Whether what a person links in a tenant would be deleted at once: they are being deleted, or the company is."""
    ongoing = Erasure.objects.filter(finished_at=None)
    theirs = Q(user=user, kind=Kind.ACCOUNT) | Q(user=user, kind=Kind.PERSON, company=tenant)
    waits_for_its_day = Q(attempts=0, next_attempt_at__gt=now)
    return ongoing.filter(theirs | (Q(kind=Kind.TENANT, company=tenant) & ~waits_for_its_day)).exists()


def _lay_down_ownership(user: User, *, tenant: Tenant | None = None) -> None:
    """
    Who is about to be deleted owns nothing any more, so that no other owner leaves in reliance on them. Raises SoleOwner.

    Within the transaction that begins the deletion. The tenants are locked as `accounts.people` locks them: of two
    owners who go at the same moment the second one waits, and stays.
    """
    owned = Membership.objects.filter(user=user, role=Role.OWNER)
    if tenant is not None:
        owned = owned.filter(tenant=tenant)
    with across_tenants("a person may own several companies, and each needs an owner when they go"):
        tenant_ids = list(owned.values_list("tenant", flat=True))
        list(Tenant.objects.select_for_update(no_key=True).filter(pk__in=tenant_ids).order_by("pk"))
    if sole := sole_ownerships(user, tenant=tenant):
        raise SoleOwner(sole)
    with across_tenants("a person may own several companies, and each needs an owner when they go"):
        owned.update(role=Role.ADMIN)


def erase_account(*, user: User, now: datetime) -> Erasure:
    """Begin to delete a person altogether. From this moment they are signed out everywhere. Raises SoleOwner, UnderWay."""
    with transaction.atomic():
        hold(user)
        _lay_down_ownership(user)
        begun = _begin(
            Erasure(kind=Kind.ACCOUNT, user=user),
            now=now,
            due_at=now,
            mail_to=[user.email],
            tenants=_tenants_of(user),
            actor=user,
        )
        User.objects.filter(pk=user.pk).update(is_active=False)
        end_sessions_of(user)
    return begun


def erase_tenant(
    *, tenant: Tenant, actor: User, now: datetime, by_staff: bool = False, reason: str = ""
) -> Erasure:
    """
    Plan to delete a company after GRACE; until then `keep_tenant` takes it back. Its owners are told by mail.

    Raises UnderWay.
    """
    owners = Membership.objects.for_tenant(tenant).filter(role=Role.OWNER).select_related("user")
    mail_to = {membership.user.email for membership in owners} | {actor.email}
    begun = _begin(
        Erasure(
            kind=Kind.TENANT,
            user=None,
            company=tenant,
            company_ref=tenant.public_id,
            by_staff=by_staff,
            reason=reason[:200],
        ),
        now=now,
        due_at=now + GRACE,
        mail_to=sorted(mail_to),
        tenants=[tenant],
        actor=actor,
    )
    body = render_to_string(
        "accounts/email/company_will_be_deleted.txt",
        {
            "tenant": tenant,
            "by_staff": by_staff,
            "due_at": begun.next_attempt_at,
            "url": base_url() + reverse("accounts:your_data", args=[tenant.slug]),
        },
    )
    send_mail(f"{tenant.name} will be deleted", body, None, sorted(mail_to), fail_silently=True)
    return begun


def keep_tenant(*, tenant: Tenant, actor: User) -> bool:
    """Take a planned deletion back; False when there is none, or it has begun."""
    with transaction.atomic():
        planned = Erasure.objects.filter(
            kind=Kind.TENANT, company=tenant, attempts=0, next_attempt_at__gt=timezone.now()
        )
        kept, _ = planned.delete()
        if kept:
            audit(
                tenant=tenant, actor=actor, action="erasure.taken_back", subject=f"tenant {tenant.public_id}"
            )
    return bool(kept)


def planned_deletion(tenant: Tenant) -> Erasure | None:
    """The deletion of a company that waits for its day, or is under way."""
    return Erasure.objects.filter(kind=Kind.TENANT, company=tenant, finished_at=None).first()


def _begin(
    erasure: Erasure,
    *,
    now: datetime,
    due_at: datetime,
    mail_to: Iterable[str],
    tenants: Iterable[Tenant],
    actor: User,
) -> Erasure:
    from accounts.data_tasks import run_erasure  # the task calls back here

    erasure.asked_at, erasure.next_attempt_at = now, due_at
    erasure.mail_to = "\n".join(mail_to)
    try:
        with transaction.atomic():
            erasure.save()
            for tenant in tenants:
                with tenant_scope(tenant):
                    audit(
                        tenant=tenant,
                        actor=actor,
                        action="erasure.requested",
                        subject=f"erasure {erasure.public_id}",
                        about_person=erasure.user,
                        kind=str(erasure.kind),
                        by_staff=erasure.by_staff,
                    )
            if due_at <= now:
                run_erasure.enqueue(erasure.pk)
    except IntegrityError:
        raise UnderWay from None
    return erasure


def _tenants_of(user: User) -> list[Tenant]:
    """Every company that holds anything about a person."""
    with across_tenants("a person who goes may be known at several companies"):
        return _tenants_that_know(user)


def _tenants_that_know(user: User) -> list[Tenant]:
    held = [
        *Membership.objects.filter(user=user).values_list("tenant", flat=True),
        *RingAccount.objects.filter(user=user).values_list("tenant", flat=True),
        *AuditPerson.objects.filter(user=user).values_list("tenant", flat=True),
        *DataExport.objects.filter(user=user).values_list("tenant", flat=True),
    ]
    return list(Tenant.objects.filter(pk__in=held).order_by("pk"))


# --- doing --------------------------------------------------------------------------------------------------------


def work_on(erasure: Erasure) -> None:
    """Take an erasure whose lease the caller holds to its end. Safe to repeat from any point."""
    if erasure.finished_at is not None:
        _send_receipt(erasure)
        return
    if erasure.attempts > MAX_ATTEMPTS:
        raise GaveUp  # every attempt so far ended with its process
    tally = _tally_of(erasure)
    if erasure.kind == Kind.TENANT:
        _erase_tenant(erasure, tally)
    elif erasure.user is not None:
        for tenant in _companies_of(erasure):
            with tenant_scope(tenant):
                _erase_in(Scope(tenant, erasure.user), tally)
        if erasure.kind == Kind.ACCOUNT:
            _erase_sign_in(erasure.user, tally)
    _finish(erasure)
    _send_receipt(erasure)


class LinkedMeanwhile(Exception):
    """Ring sent a code while a company was being deleted: the next attempt takes that along."""


class GaveUp(Exception):
    """There were MAX_ATTEMPTS."""


def put_off(erasure: Erasure, *, error: Exception) -> None:
    """After an attempt that failed: another one later, or none until staff start it again."""
    from accounts.data_tasks import run_erasure

    name, now = type(error).__name__, timezone.now()
    if erasure.attempts >= MAX_ATTEMPTS:
        erasure.finish_work(error=name)
        logger.error("A deletion was given up. erasure=%s", erasure.public_id, exc_info=error)
        return
    pause = backoff(erasure.attempts, base_s=30, cap_s=3600)
    erasure.retry_later(now=now, error=name, pause=pause)
    enqueue_after(run_erasure, erasure.pk, now + pause)
    logger.error("A deletion failed, and is tried again. erasure=%s", erasure.public_id, exc_info=error)


def start_again(*, erasure: Erasure, actor: User, now: datetime) -> bool:
    """Have staff take up a deletion that was given up, where it stopped; False when it was not."""
    from accounts.data_tasks import run_erasure

    with transaction.atomic():
        stopped = Erasure.objects.filter(pk=erasure.pk, finished_at=None, next_attempt_at=None)
        if not stopped.update(attempts=1, next_attempt_at=now, last_error=""):
            return False
        for tenant in _companies_of(erasure):
            with tenant_scope(tenant):
                audit(
                    tenant=tenant,
                    actor=actor,
                    action="erasure.restarted",
                    subject=f"erasure {erasure.public_id}",
                    about_person=erasure.user,
                    kind=str(erasure.kind),
                    by_staff=True,
                )
        run_erasure.enqueue(erasure.pk)
    return True


def _companies_of(erasure: Erasure) -> list[Tenant]:
    """Those whose data is deleted from: one, or for a whole account every one that knows the person."""
    if erasure.kind == Kind.ACCOUNT:
        return _tenants_of(erasure.user) if erasure.user is not None else []
    return [erasure.company] if erasure.company is not None else []


def cut_off(erasure: Erasure) -> None:
    """
    End at once whatever goes on: live sessions, and every link to Ring, which is told. The task does the same again.

    Called by the request too, so that it happens now however busy the workers are. Not inside a transaction.
    """
    if erasure.user is not None:
        for tenant in _companies_of(erasure):
            with tenant_scope(tenant):
                _cut_off(Scope(tenant, erasure.user), personal_data.nobody_counts)


def _cut_off(scope: Scope, tally: Tally) -> None:
    for part in personal_data.parts():
        part.cut_off(scope)
    for account in scope.ring_accounts().exclude(state=RingAccount.State.UNLINKED):
        tally("", 0)
        actor = scope.user or account.user
        if account.is_live and actor is not None:
            disconnect(account=account, actor=actor, now=timezone.now())
        else:
            unlink_account(account=account, now=timezone.now(), actor=actor, reason="erased")


def _erase_in(scope: Scope, tally: Tally) -> None:
    _cut_off(scope, tally)
    for account in scope.ring_accounts().order_by("pk"):
        _remember_erased(account)
        personal_data.erase_ring_account(account, tally)
        with transaction.atomic():
            tally(
                "Ring accounts", RingAccount.objects.filter(pk=account.pk).delete()[1].get(_RING_ACCOUNT, 0)
            )
    for part in reversed(personal_data.parts()):
        part.erase_person(scope, tally)


_RING_ACCOUNT: Final = RingAccount._meta.label


def _erase_tenant(erasure: Erasure, tally: Tally) -> None:
    tenant = erasure.company
    if tenant is None:
        return
    with tenant_scope(tenant):
        _erase_in(Scope(tenant, None), tally)
        for export in DataExport.objects.for_tenant(tenant):
            erase_export(export, tally)
    elsewhere = Membership.objects.exclude(tenant=tenant).values("user")
    members = User.objects.filter(memberships__tenant=tenant, is_staff=False).exclude(pk__in=elsewhere)
    with across_tenants("whoever is at another company keeps their sign-in"):
        only_here = list(members.order_by("pk"))
    for user in only_here:
        # Whoever came to the portal for this company alone has no reason to be kept.
        _erase_sign_in(user, tally)
    with tenant_scope(tenant), transaction.atomic():
        Tenant.objects.select_for_update().get(pk=tenant.pk)  # nothing that points at it is added any more
        if RingAccount.objects.for_tenant(tenant).exists():
            raise LinkedMeanwhile
        tally("memberships", Membership.objects.for_tenant(tenant).delete()[0])
        Erasure.objects.filter(company=tenant).exclude(pk=erasure.pk).update(company=None)
        tenant.delete()
        _finish(erasure)


def _erase_sign_in(user: User, tally: Tally) -> None:
    with across_tenants("rows of several companies may still point at a person who goes"):
        erase_sign_in(user, tally)


def _tally_of(erasure: Erasure) -> Tally:
    """Counts into the receipt, in the transaction that deletes, and renews the lease."""

    def tally(kind: str, count: int) -> None:
        with transaction.atomic():
            row = Erasure.objects.select_for_update().get(pk=erasure.pk)
            if count:
                row.counts[kind] = row.counts.get(kind, 0) + count
            row.next_attempt_at = timezone.now() + LEASE
            row.save(update_fields=["counts", "next_attempt_at"])

    return tally


def _finish(erasure: Erasure) -> None:
    with transaction.atomic():
        row = Erasure.objects.select_for_update().get(pk=erasure.pk)
        if row.finished_at is None:
            row.finished_at = timezone.now()
            row.sha256 = content_hash(row.receipt())
            if row.company is not None and row.kind == Kind.PERSON:
                with tenant_scope(row.company):
                    audit(
                        tenant=row.company,
                        actor=None,
                        action="erasure.finished",
                        subject=f"erasure {row.public_id}",
                        receipt_sha256=row.sha256,
                    )
            row.user = None
            row.company = None
            row.attempts = 0
            row.next_attempt_at = row.finished_at + timedelta(seconds=30)  # the receipt, should we die now
            row.save()
    erasure.refresh_from_db()


def _send_receipt(erasure: Erasure) -> None:
    """Mail the receipt, then forget the address; also when no mail server ever takes it."""
    from accounts.data_tasks import run_erasure

    if not erasure.mail_to:
        erasure.finish_work()
        return
    body = render_to_string(
        "accounts/email/receipt.txt",
        {"erasure": erasure, "days": RECEIPT_KEPT.days, "url": base_url() + receipt_path(erasure)},
    )
    try:
        for address in erasure.mail_to.splitlines():
            send_mail("Your data is deleted: the receipt", body, None, [address])
    except OSError as error:  # smtplib's errors are OSErrors too
        if erasure.attempts < MAIL_ATTEMPTS:
            pause = backoff(max(1, erasure.attempts), base_s=30, cap_s=3600)
            again_at = timezone.now() + pause
            erasure.retry_later(now=timezone.now(), error=type(error).__name__, pause=pause)
            enqueue_after(run_erasure, erasure.pk, again_at)
            return
        logger.error("A receipt could not be mailed. erasure=%s", erasure.public_id)
    erasure.mail_to = ""
    erasure.save(update_fields=["mail_to"])
    erasure.finish_work()


# --- the receipt --------------------------------------------------------------------------------------------------


def receipt_path(erasure: Erasure) -> str:
    """The address of a receipt: nobody can guess it, and nothing has to be stored to know it again."""
    return reverse("data:receipt", args=[signing.Signer(salt=_SALT).sign(str(erasure.public_id))])


def find_receipt(token: str, *, now: datetime) -> Erasure | None:
    """The erasure a receipt's address names; None for a made-up one, and RECEIPT_KEPT after the end."""
    try:
        public_id = signing.Signer(salt=_SALT).unsign(token)
    except signing.BadSignature:
        return None
    erasure = Erasure.objects.filter(public_id=public_id).first()
    if erasure is None or (erasure.finished_at and erasure.finished_at < now - RECEIPT_KEPT):
        return None
    return erasure


# --- what comes late ----------------------------------------------------------------------------------------------


def _digests(tenant_id: int, ring_id: str) -> list[str]:
    """The keyed hash of an id under every key that may have been the current one, that first."""
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    value = f"{tenant_id}:{ring_id}"
    return [salted_hmac(_SALT, value, secret=key, algorithm="sha256").hexdigest() for key in keys]


def _remember_erased(account: RingAccount) -> None:
    ring_ids = {ring_id for part in personal_data.parts() for ring_id in part.ring_ids(account)}
    rows = [
        ErasedRingId(tenant_id=account.tenant_id, digest=_digests(account.tenant_id, ring_id)[0])
        for ring_id in ring_ids
    ]
    ErasedRingId.objects.bulk_create(rows, ignore_conflicts=True)


def erased_ring_ids(named: Iterable[tuple[int, str]]) -> set[tuple[int, str]]:
    """Of (tenant, Ring's id of an account or device), those whose data was deleted here."""
    digests = {digest: name for name in named for digest in _digests(*name)}
    found = ErasedRingId.objects.filter(digest__in=digests).values_list("digest", flat=True)
    return {digests[digest] for digest in found}
