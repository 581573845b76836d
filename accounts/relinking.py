"""
Tell people that Ring asks them to link again: by mail, seldom, and never once they have (feature A7).

The banner on their pages says it all the time (`accounts/context.py`); mails go out on the days SEND_ON_DAYS, and a
person gets at most one a day from a tenant, however many Ring accounts they have. A row is counted before its mail
leaves: a process killed between the two costs one mail, never sends one twice.
"""

import logging
from datetime import datetime, timedelta

from django.core.mail import send_mail
from django.db import transaction
from django.template.loader import render_to_string
from django.urls import reverse

from accounts.addresses import base_url
from accounts.models import RelinkNotice, RingAccount, User
from portal.walls import across_tenants

logger = logging.getLogger(__name__)

SEND_ON_DAYS = (0, 1, 3, 7, 14)
"""How long after the link broke; then the person has decided, and the banner is enough."""

A_DAY = timedelta(days=1)
LEASE = timedelta(minutes=2)
TRY_AGAIN = timedelta(minutes=10)

State = RingAccount.State


@across_tenants("the sweeps find what is due, whichever tenant's it is")
def plan_notices(*, now: datetime) -> int:
    """Begin to tell the person of each link that broke, and stop for those that did not stay so; return how many are new."""
    RelinkNotice.objects.exclude(ring_account__state=State.RELINK_REQUIRED).delete()
    broken = RingAccount.objects.filter(
        state=State.RELINK_REQUIRED, user__is_active=True, relink_notice__isnull=True
    )
    rows = [
        RelinkNotice(
            tenant_id=account.tenant_id, ring_account=account, required_since=now, next_attempt_at=now
        )
        for account in broken.order_by("pk")[:500]
    ]
    # Another worker may be planning the same ones.
    RelinkNotice.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)


def send_notice(notice: RelinkNotice, *, now: datetime) -> None:
    """
    Send the mail that is due, unless the person had one within a day or has linked again; the caller holds the lease.

    A mail server that does not answer is asked again later.
    """
    with transaction.atomic():
        row = (
            RelinkNotice.objects.select_for_update(of=("self",))
            .select_related("ring_account__user", "tenant")
            .get(pk=notice.pk)
        )
        account = row.ring_account
        if account.state != State.RELINK_REQUIRED or account.user is None:
            row.delete()
            return
        # Another worker may hold the mail about another account of the same person at this moment.
        User.objects.select_for_update().get(pk=account.user.pk)
        last = (
            RelinkNotice.objects.filter(
                tenant=row.tenant, ring_account__user=account.user, last_sent_at__gt=now - A_DAY
            )
            .order_by("-last_sent_at")
            .first()
        )
        if last is not None and last.last_sent_at is not None:
            row.next_attempt_at = last.last_sent_at + A_DAY
            row.save(update_fields=["next_attempt_at"])
            return
        before = (row.sent, row.last_sent_at)
        row.sent += 1
        row.last_sent_at = now
        row.next_attempt_at = (
            max(row.required_since + A_DAY * SEND_ON_DAYS[row.sent], now + A_DAY)
            if row.sent < len(SEND_ON_DAYS)
            else None
        )
        row.save(update_fields=["sent", "last_sent_at", "next_attempt_at"])
    body = render_to_string(
        "accounts/email/relink.txt",
        {
            "tenant": row.tenant,
            "account": account,
            "url": base_url() + reverse("accounts:settings", args=[row.tenant.slug]),
            "is_last": row.next_attempt_at is None,
        },
    )
    try:
        send_mail(f"{row.tenant.name}: please link your Ring account again", body, None, [account.user.email])
    except OSError as error:  # smtplib's errors are OSErrors too: nothing was accepted
        logger.warning(
            "A relink mail was not sent. account=%s error=%s", account.public_id, type(error).__name__
        )
        RelinkNotice.objects.filter(pk=row.pk, last_sent_at=now).update(
            sent=before[0], last_sent_at=before[1], next_attempt_at=now + TRY_AGAIN
        )
