"""Notices leave from here: one task finds who is told, one task for each browser hands the message over."""

import json
import logging
from email.utils import parseaddr
from typing import Any, Final

from django.conf import settings
from django.tasks import task
from django.utils import timezone

from accounts.addresses import base_url
from events import notifications, push
from events.models import Event, PushSubscription
from portal.logs import following
from portal.walls import enter_tenant_of
from portal.work import backoff

logger = logging.getLogger(__name__)

MAX_ATTEMPTS: Final = 4
SOON: Final = 10
"""Before pictures and clips, which have the default 0."""


@task(priority=SOON)
def notify(event_id: int) -> None:
    """Tell the browsers of everybody who wants to know of an event and may see it."""
    enter_tenant_of(Event, event_id)
    event = Event.objects.select_related("tenant", "device", "ring_account").filter(pk=event_id).first()
    now = timezone.now()
    if event is None or not notifications.is_news(event, now=now):
        return
    notice = notifications.notice_of(event)
    urgent = notifications.is_press(event)
    with following(event.request_id):
        for browser in notifications.browsers_to_tell(event, now=now):
            message = notice.as_message(browser.membership)
            hand_over.enqueue(browser.pk, message, urgent, 1, event.request_id)


@task(priority=SOON)
def hand_over(
    subscription_id: int, message: dict[str, Any], urgent: bool, attempt: int, request_id: str = "-"
) -> None:
    """
    Give one browser's push service one message; come back later where it asks for that, a few times.

    `request_id`: of the webhook it began with, for the log.

    A notice is worth a few minutes: one that a killed worker loses, or that no service takes, is not sought again.
    """
    enter_tenant_of(PushSubscription, subscription_id)
    row = PushSubscription.objects.filter(pk=subscription_id).first()
    if row is None:
        return
    now = timezone.now()
    try:
        push.send(
            push.Subscription.read(json.loads(row.subscription)),
            message,
            key=notifications.signing_key(),
            contact=_contact(),
            topic=message["tag"].replace("-", "")[:32] or "notice",
            urgent=urgent,
        )
    except push.NoSubscription:
        row.delete()
    except push.PushFailed as failure:
        if failure.gone:
            # The person has withdrawn it in the browser, or the browser is no more.
            row.delete()
            return
        PushSubscription.objects.filter(pk=row.pk).update(last_error=str(failure)[:255])
        if failure.again and attempt < MAX_ATTEMPTS:
            pause = max(backoff(attempt, base_s=5), failure.retry_after)
            later = hand_over.using(run_after=now + pause)
            later.enqueue(subscription_id, message, urgent, attempt + 1, request_id)
        else:
            with following(request_id):
                logger.warning(
                    "A push service took no notice. subscription=%s error=%s", row.public_id, failure
                )
    else:
        PushSubscription.objects.filter(pk=row.pk).update(delivered_at=now, last_error="")


def _contact() -> str:
    """Where a push service's operator finds ours (RFC 8292 2.1): an https address or one for mail."""
    address = base_url()
    return address if address.startswith("https:") else f"mailto:{parseaddr(settings.DEFAULT_FROM_EMAIL)[1]}"
