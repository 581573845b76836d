"""
Screens: links that show a wall of chosen cameras, live and nothing else, where nobody signs in (feature D6).

The link is `…/t/<tenant>/screen/#<token>`. What follows the # stays in the browser: it is in no request, so in no log
of ours or of a proxy, and in no Referer. The page posts it once, gets a cookie for the screen's own addresses, and
takes it out of the address bar. A query parameter would have been simpler, and would have been logged on its way here.

A link gives away what its maker may give away (`devices.sharing`), for as long as they may.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Q

from accounts.audit import audit
from accounts.models import Membership, User
from devices.grants import Capability
from devices.models import Device
from devices.sharing import shareable
from media.live import end_sessions
from media.models import LiveSession, Screen
from portal.walls import across_tenants

MOST_CAMERAS: Final = 100
# How exact "last used" is: a screen asks every few seconds.
NOTE_USE_EVERY: Final = timedelta(minutes=1)


def showable_cameras(member: Membership, *, now: datetime) -> list[Device]:
    """The cameras this member may put on a screen: those whose live view they may give to others."""
    cameras = Device.objects.permitted_to(member, Capability.LIVE).present().cameras()
    return [
        camera
        for camera in cameras.select_related("ring_account", "tenant").order_by("name", "pk")
        if _may_show(member, camera, now=now)
    ]


def _may_show(member: Membership, camera: Device, *, now: datetime) -> bool:
    return Capability.LIVE in shareable(member, camera, now=now)


def make_screen(
    *, member: Membership, name: str, cameras: Collection[Device], good_for: timedelta, now: datetime
) -> tuple[Screen, str]:
    """Make a link; `cameras` are of `showable_cameras`. Return (row, token): the token cannot be had again."""
    token = Screen.new_token()
    with transaction.atomic():
        screen = Screen.objects.create(
            tenant=member.tenant,
            membership=member,
            name=name,
            sha256=Screen.digest(token),
            created_at=now,
            expires_at=now + good_for,
        )
        screen.devices.set(cameras)
        audit(
            tenant=member.tenant,
            actor=member.user,
            action="screen.made",
            subject=f"screen {screen.public_id}",
            cameras=len(cameras),
        )
    return screen, token


def revoke(*, screen: Screen, by: User, now: datetime) -> None:
    """End a link and every picture it shows; the sweep tells Ring, of all of them side by side. Twice does no harm."""
    with transaction.atomic():
        if not Screen.objects.filter(pk=screen.pk, revoked_at__isnull=True).update(revoked_at=now):
            return
        audit(tenant=screen.tenant, actor=by, action="screen.revoked", subject=f"screen {screen.public_id}")
        running = LiveSession.objects.for_tenant(screen.tenant_id).open().filter(screen=screen)
        end_sessions(running, reason=LiveSession.EndReason.ACCESS, now=now)


def find_screen(*, tenant_slug: str, token: str, now: datetime) -> Screen | None:
    """The screen whose link this token is, with tenant and maker loaded; None for what is no link, or none any more."""
    if not token.startswith(Screen.PREFIX):
        return None
    rows = Screen.objects.usable(now).select_related("tenant", "membership__user", "membership__tenant")
    with across_tenants("a token says which tenant it is for, and is looked up by its digest"):
        return rows.filter(sha256=Screen.digest(token), tenant__slug=tenant_slug).first()


def note_use(screen: Screen, *, now: datetime) -> None:
    """Write down that the link is in use; at most once a minute."""
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - NOTE_USE_EVERY)
    Screen.objects.filter(stale, pk=screen.pk).update(last_used_at=now)


def note_opened(screen: Screen) -> None:
    """Write down that somebody opened the link on a screen."""
    audit(
        tenant=screen.tenant,
        actor=None,
        action="screen.opened",
        subject=f"screen {screen.public_id}",
        about_person=screen.membership.user,
        screen=str(screen.public_id),
    )


def cameras_of(screen: Screen, *, now: datetime) -> list[Device]:
    """The cameras a screen shows now, by name: those chosen for it that its maker may still show to others."""
    maker = screen.membership
    if not maker.user.is_active:
        return []
    chosen = Device.objects.permitted_to(maker, Capability.LIVE).present().cameras()
    return [
        camera
        for camera in chosen.filter(pk__in=screen.devices.values("pk"))
        .select_related("ring_account", "tenant")
        .order_by("name", "pk")
        if _may_show(maker, camera, now=now)
    ]


def shown_on(screen_ids: Collection[int], *, now: datetime) -> dict[int | None, set[int]]:
    """By screen: the devices it shows now. What is not in the answer shows nothing any more."""
    if not screen_ids:
        return {}
    rows = Screen.objects.usable(now).filter(pk__in=screen_ids)
    return {
        screen.pk: {camera.pk for camera in cameras_of(screen, now=now)}
        for screen in rows.select_related("tenant", "membership__user", "membership__tenant")
    }
