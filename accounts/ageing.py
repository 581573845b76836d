"""Links whose tokens were not renewed for too long: somebody must look before they die of disuse (contract 4)."""

import logging
from datetime import datetime, timedelta

from django.db.models import Count, Min

from accounts.models import RingAccount, RingAccountQuerySet
from portal.walls import across_tenants

logger = logging.getLogger(__name__)

State = RingAccount.State

# A row that waits for its person is kept alive too (contract 2.4).
KEPT_FRESH = (State.UNCLAIMED, State.CLAIMING, State.AWAITING, State.LINKED)

REFRESH_LIFETIME = timedelta(days=30)
"""About how long Ring keeps a refresh token that nobody uses; it does not say exactly."""

NOT_RENEWED = timedelta(days=3)
"""Every token is renewed daily. After this long something is wrong, and there are weeks left to put it right."""

AGEING = timedelta(days=25)
"""Five days before a refresh token dies of disuse: by then somebody must have looked."""


def not_renewed(now: datetime, *, for_long: timedelta = NOT_RENEWED) -> RingAccountQuerySet:
    """The links whose tokens should have been renewed long ago and were not, oldest first."""
    rows = RingAccount.objects.filter(state__in=KEPT_FRESH, tokens_obtained_at__lt=now - for_long)
    return rows.exclude(refresh_token="").order_by("tokens_obtained_at")


def report_ageing(*, now: datetime) -> int:
    """Say in the log, one line a tenant, which tenants have such links; return how many links those are."""
    with across_tenants("the sweeps find what is due, whichever tenant's it is"):
        by_tenant = not_renewed(now).order_by("tenant__slug").values_list("tenant__slug")
        tenants = list(by_tenant.annotate(links=Count("pk"), oldest=Min("tokens_obtained_at")))
    total = 0
    for slug, links, oldest in tenants:
        total += links
        level = logging.ERROR if oldest < now - AGEING else logging.WARNING
        logger.log(
            level,
            "Tokens were not renewed for long. tenant=%s links=%s oldest_days=%s",
            slug,
            links,
            (now - oldest).days,
        )
    return total
