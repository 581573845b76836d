"""Tell the people who can do something about it that the effects of events were given up (feature C4)."""

import logging
from datetime import datetime, timedelta
from typing import Final

from django.core.mail import send_mail
from django.db.models import Q
from django.template.loader import render_to_string
from django.urls import reverse

from accounts.addresses import base_url
from accounts.models import Membership, Role, Tenant
from events.models import Event, TenantPosition

logger = logging.getLogger(__name__)

AT_MOST_EVERY: Final = timedelta(hours=1)


def mail_given_up(tenant: Tenant, *, now: datetime) -> bool:
    """
    Mail the tenant's owners and admins, unless they had such a mail within the hour; True when one was sent.

    The hour is taken before the mail leaves: a process killed between the two costs one mail, never sends one twice.
    What the mail server did not take is tried with the next event that is given up. Within the tenant's scope.
    """
    row = TenantPosition.objects.filter(tenant=tenant)
    before = row.values_list("alerted_at", flat=True).first()
    is_due = Q(alerted_at__isnull=True) | Q(alerted_at__lte=now - AT_MOST_EVERY)
    if not row.filter(is_due).update(alerted_at=now):
        return False
    people = Membership.objects.for_tenant(tenant).filter(
        role__in=[Role.OWNER, Role.ADMIN], user__is_active=True
    )
    failed = Event.objects.for_tenant(tenant).filter(next_attempt_at__isnull=True).exclude(last_error="")
    body = render_to_string(
        "events/email/given_up.txt",
        {
            "tenant": tenant,
            "count": failed.count(),
            "url": f"{base_url()}{reverse('events:deliveries', args=[tenant.slug])}?state=failed",
        },
    )
    try:
        # One to each: nobody learns the others' addresses.
        for address in people.order_by("pk").values_list("user__email", flat=True):
            send_mail(f"{tenant.name}: events were not processed", body, None, [address])
    except OSError as error:  # smtplib's errors are OSErrors too
        logger.warning("An alert was not mailed. tenant=%s error=%s", tenant.slug, type(error).__name__)
        row.filter(alerted_at=now).update(alerted_at=before)
        return False
    return True
