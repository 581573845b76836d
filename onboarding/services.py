"""What people do during set-up: start a check, vouch for something, ask for no more reminders."""

from datetime import datetime

from django.db import IntegrityError, transaction

from accounts.audit import audit
from accounts.models import Membership, Tenant, User
from onboarding import runs
from onboarding.models import Attestation, CheckRun, Dismissal
from onboarding.tasks import run_check


def start_check(*, tenant: Tenant, kind: CheckRun.Kind, actor: User, now: datetime) -> CheckRun:
    """Have a worker run the check; one that is waiting or under way already counts."""
    try:
        with transaction.atomic():
            run = CheckRun.objects.create(
                tenant=tenant, kind=kind, started_by=actor, created_at=now, next_attempt_at=now
            )
            subject = f"check_run {run.public_id}"
            audit(tenant=tenant, actor=actor, action="setup.check_started", subject=subject, kind=kind)
            run_check.enqueue(run.pk)
    except IntegrityError:
        known = runs.latest(tenant, kind)
        assert known is not None  # noqa: S101 - it is what the constraint refused us for
        return known
    return run


def attest(*, tenant: Tenant, key: str, is_met: bool, actor: User, now: datetime) -> None:
    """This person says that the demand is met, or no longer is. Saying it again changes nothing."""
    with transaction.atomic():
        rows = Attestation.objects.for_tenant(tenant).filter(key=key)
        if is_met:
            _, changed = Attestation.objects.get_or_create(
                tenant=tenant, key=key, defaults={"by": actor, "at": now}
            )
        else:
            changed = bool(rows.delete()[0])
        if changed:
            action = "certification.ticked" if is_met else "certification.unticked"
            audit(tenant=tenant, actor=actor, action=action, subject=f"demand {key}")


def dismiss(*, membership: Membership, now: datetime) -> None:
    """Show this person no reminder of the set-up any more."""
    Dismissal.objects.get_or_create(membership=membership, defaults={"tenant": membership.tenant, "at": now})


def show_again(*, membership: Membership) -> None:
    """Remind this person again."""
    Dismissal.objects.for_tenant(membership.tenant_id).filter(membership=membership).delete()
