"""
The way from credentials to a clip, told by facts alone: nobody ticks anything here.

Each step looks at what the portal has seen by itself, so a step is done when its effect is there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import Min
from django.urls import reverse

from accounts.addresses import base_url
from accounts.models import RingAccount, RingApp, Tenant
from devices.models import Device
from events.models import Event
from media.models import Clip, FetchState, LiveSession
from onboarding.models import CheckRun
from ring.config import is_loopback


@dataclass(frozen=True)
class Step:
    """
    One step. `at`: since when it is done, where that is known. `said` speaks of how it stands now.

    `url` and `action` lead to where it is done; empty for what happens elsewhere. `is_bad`: it was tried and went wrong.
    """

    key: str
    title: str
    done: bool
    said: str
    at: datetime | None = None
    url: str = ""
    action: str = ""
    is_bad: bool = False


@dataclass(frozen=True)
class Progress:
    """All steps in order; `next` is the first that is not done."""

    steps: tuple[Step, ...]

    @property
    def done_count(self) -> int:
        return sum(step.done for step in self.steps)

    @property
    def next(self) -> Step | None:
        return next((step for step in self.steps if not step.done), None)

    @property
    def is_complete(self) -> bool:
        return self.next is None


def is_sandbox() -> bool:
    """Whether the Ring of this installation is a simulated one on this machine."""
    return is_loopback(urlsplit(settings.RING_API_URL).hostname or "")


def progress_of(tenant: Tenant) -> Progress:
    """Where the tenant stands."""
    app = RingApp.objects.filter(tenant=tenant).first()
    return Progress(tuple(make(tenant, app) for make in _STEPS))


def is_public_address_good() -> bool:
    """Https, or this machine where its Ring is on this machine too."""
    parts = urlsplit(base_url())
    return parts.scheme == "https" or (is_sandbox() and is_loopback(parts.hostname or ""))


def _address(tenant: Tenant, app: RingApp | None) -> Step:
    good = is_public_address_good()
    said = (
        f"This portal is at {base_url()}."
        if good
        else f"This portal believes to be at {base_url()}, where Ring cannot reach it. The people who run it must set PUBLIC_URL "
        "to its https address."
    )
    return Step("address", "The portal has a public address", good, said)


def _credentials(tenant: Tenant, app: RingApp | None) -> Step:
    url = reverse("accounts:setup", args=[tenant.slug])
    if app is None:
        return Step(
            "credentials",
            "Credentials from Ring are here",
            False,
            "Create the app in Ring’s developer console with the four addresses, and enter the three values it shows you once.",
            url=url,
            action="Enter credentials",
        )
    return Step(
        "credentials",
        "Credentials from Ring are here",
        True,
        "Client id, secret and signing key are stored, encrypted.",
        at=app.updated_at,
        url=url,
        action="Change",
    )


def _check(tenant: Tenant, app: RingApp | None, kind: CheckRun.Kind, key: str, title: str, what: str) -> Step:
    """A check counts when it passed with the credentials that are here now. `key` is the name of its page, too."""
    url = reverse(f"onboarding:{key}", args=[tenant.slug])
    rows = CheckRun.objects.for_tenant(tenant).filter(kind=kind)
    last = rows.exclude(state__in=CheckRun.OPEN).order_by("-created_at").first()
    if last is None:
        return Step(key, title, False, what, url=url, action="Run it")
    if last.state == CheckRun.State.FAILED:
        return Step(
            key,
            title,
            False,
            "It failed the last time; its page says where and what to do.",
            at=last.finished_at,
            url=url,
            action="See what failed",
            is_bad=True,
        )
    if app is not None and last.created_at < app.updated_at:
        return Step(
            key, title, False, "The credentials have changed since it passed.", url=url, action="Run it again"
        )
    return Step(key, title, True, "Passed.", at=last.finished_at, url=url, action="Run it again")


def _self_test(tenant: Tenant, app: RingApp | None) -> Step:
    return _check(
        tenant,
        app,
        CheckRun.Kind.WEBHOOK,
        "self_test",
        "A signed webhook comes through",
        "The self-test posts one to the portal’s own address, as Ring would. It takes a few seconds.",
    )


def _rehearsal(tenant: Tenant, app: RingApp | None) -> Step:
    return _check(
        tenant,
        app,
        CheckRun.Kind.LINK,
        "rehearsal",
        "The link is rehearsed",
        "Walk a customer’s way with made-up links, good and bad, before the first customer does.",
    )


def _claimed(tenant: Tenant, app: RingApp | None) -> Step:
    at = _first(tenant, "claimed_at")
    said = (
        "Somebody came from the Ring app, signed in and confirmed."
        if at
        else "Add your own Ring account as a test user in Ring’s console, open the app in the Ring Appstore, share a device and "
        "follow the link."
    )
    return Step("linked", "A first Ring account is linked", at is not None, said, at=at)


def _token(tenant: Tenant, app: RingApp | None) -> Step:
    title = "Ring took the credentials"
    if app is not None and app.refused_at is not None:
        return Step(
            "token",
            title,
            False,
            "Ring’s token endpoint refused the client id or the secret. Copy both again from Ring’s console.",
            at=app.refused_at,
            url=reverse("accounts:setup", args=[tenant.slug]),
            action="Enter credentials",
            is_bad=True,
        )
    if app is not None and app.accepted_at is not None:
        return Step("token", title, True, "Ring’s token endpoint knows this client.", at=app.accepted_at)
    return Step(
        "token",
        title,
        False,
        "The first link tells: Ring describes no request that only asks whether credentials are good, so the portal sends none.",
    )


def _completed(tenant: Tenant, app: RingApp | None) -> Step:
    at = _first(tenant, "linked_at")
    said = (
        "Ring counts the link as completed (PATCH)."
        if at
        else "The portal completes each link by itself, right after the customer has confirmed, and tries again until Ring answers."
    )
    return Step("completed", "Ring has completed the link", at is not None, said, at=at)


def _devices(tenant: Tenant, app: RingApp | None) -> Step:
    at = _first(tenant, "synced_at")
    count = Device.objects.for_tenant(tenant).present().count() if at else 0
    url = reverse("devices:list", args=[tenant.slug])
    if count:
        said = f"{count} device{'s' if count != 1 else ''} from Ring."
        return Step("devices", "Devices are here", True, said, at=at, url=url, action="Show them")
    said = (
        "Ring shares no device: the Ring plan of the home must be active, and devices chosen in the Ring app."
        if at
        else "They come within a minute after the link."
    )
    return Step(
        "devices", "Devices are here", False, said, url=url if at else "", action="Show devices" if at else ""
    )


def _webhook(tenant: Tenant, app: RingApp | None) -> Step:
    first = (
        Event.objects.for_tenant(tenant)
        .filter(provenance=Event.Provenance.WEBHOOK)
        .order_by("position")
        .values_list("received_at", flat=True)
        .first()
    )
    title = "Ring’s first own webhook"
    if first is None:
        said = "Press the doorbell, or walk past the camera. Ring sends it to the Webhook URL registered in its console."
        return Step("webhook", title, False, said)
    url = reverse("events:list", args=[tenant.slug])
    return Step(
        "webhook", title, True, "Ring reaches the Webhook URL.", at=first, url=url, action="Show events"
    )


def _live(tenant: Tenant, app: RingApp | None) -> Step:
    sessions = (
        LiveSession.objects.for_tenant(tenant).viewings().exclude(end_reason=LiveSession.EndReason.FAILED)
    )
    at = sessions.aggregate(first=Min("opened_at"))["first"]
    said = "Somebody watched a camera live." if at else "Open the camera and press Watch live."
    url = reverse("media:wall", args=[tenant.slug])
    return Step(
        "live",
        "A live view has played",
        at is not None,
        said,
        at=at,
        url=url,
        action="Watch live" if not at else "",
    )


def _clip(tenant: Tenant, app: RingApp | None) -> Step:
    at = (
        Clip.objects.for_tenant(tenant)
        .filter(state=FetchState.READY)
        .aggregate(first=Min("ready_at"))["first"]
    )
    is_kept = at is not None or Clip.objects.for_tenant(tenant).filter(state=FetchState.READY).exists()
    said = "Footage came from Ring and is kept." if is_kept else "Open an event and press Keep clip."
    url = reverse("events:list", args=[tenant.slug])
    return Step(
        "clip",
        "A clip is kept",
        is_kept,
        said,
        at=at,
        url=url,
        action="Choose an event" if not is_kept else "",
    )


def _contact(tenant: Tenant, app: RingApp | None) -> Step:
    missing = [
        words
        for words, value in (
            ("a support address", tenant.support_email),
            ("a privacy policy", tenant.privacy_url),
        )
        if not value
    ]
    said = (
        f"Customers are not told of {' or '.join(missing)} yet; Ring asks for both before it publishes an app."
        if missing
        else "They read it before they link, and wherever something goes wrong."
    )
    return Step(
        "contact",
        "Customers know whom to ask",
        not missing,
        said,
        url=reverse("accounts:setup", args=[tenant.slug]) + "#company",
        action="Fill in" if missing else "Change",
    )


def _first(tenant: Tenant, field: str) -> datetime | None:
    found: datetime | None = RingAccount.objects.for_tenant(tenant).aggregate(first=Min(field))["first"]
    return found


# In the order in which one after the other becomes possible.
_STEPS: tuple[Callable[[Tenant, RingApp | None], Step], ...] = (
    _address,
    _credentials,
    _self_test,
    _rehearsal,
    _token,
    _claimed,
    _completed,
    _devices,
    _webhook,
    _live,
    _clip,
    _contact,
)
