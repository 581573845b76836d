"""`manage.py send_test_event`: a signed webhook through the real HTTP path, and what became of it."""

import time
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from accounts.models import Tenant
from devices.models import Device
from events.models import Event
from events.words import title_of
from onboarding.own_address import Unreachable, portal_address, unexpected
from onboarding.test_events import (
    EVENT_TYPE,
    STORED_WITHIN_S,
    Deaf,
    NoKey,
    find_event,
    key_of,
    listening,
    make_test_event,
    post,
    wait_for_frame,
)
from portal.walls import tenant_scope


class Command(BaseCommand):
    """
    Signs with the tenant's real key, posts to PUBLIC_URL, and ends with an error when the event did not arrive.

    Whatever type it wears, the event is a test: labelled, without effect, unseen by customers.
    """

    help = "Send a signed test webhook to the portal's own public address, and say what became of it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="The tenant's slug.")
        parser.add_argument(
            "--type",
            default=EVENT_TYPE,
            help=f"The event type it wears, as Ring spells it (default: {EVENT_TYPE}).",
        )
        parser.add_argument(
            "--device", help="A device of the tenant: its name, or its id in the portal's addresses."
        )
        parser.add_argument(
            "--wait",
            type=float,
            default=10.0,
            metavar="S",
            help="How long a worker may take, in seconds (default: 10; 0: do not wait).",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = Tenant.objects.filter(slug=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"There is no tenant {options['tenant']}.")
        with tenant_scope(tenant):
            self._send(tenant, options)

    def _send(self, tenant: Tenant, options: dict[str, Any]) -> None:
        event = make_test_event(
            event_type=options["type"], device=_find_device(tenant, options["device"]), now=timezone.now()
        )
        try:
            key = key_of(tenant)
        except NoKey:
            raise CommandError(f"{tenant.slug} has no signing key yet: enter its Ring credentials.") from None
        self.stdout.write(f"Posting {options['type']} to {portal_address()}/ring/{tenant.slug}/webhook")
        try:
            with listening(tenant) as socket:
                posted_at = time.monotonic()
                stored = self._post(tenant, event, key)
                try:
                    ms = wait_for_frame(socket, stored.position, since=posted_at)
                    self.stdout.write(f"  pages     told over the websocket, {ms} ms after sending")
                except Deaf as deaf:
                    raise CommandError(f"{deaf.said} {deaf.fix}") from None
        except Deaf as deaf:
            stored = self._post(tenant, event, key)
            self.stderr.write(f"  pages     not checked: {deaf.said} {deaf.fix}")
        if options["wait"] > 0:
            self._wait_for_worker(stored, options["wait"])

    def _post(self, tenant: Tenant, event: Any, key: str) -> Event:
        try:
            reply = post(tenant, event, key=key)
        except Unreachable as error:
            raise CommandError(f"{error.said} {error.fix}") from None
        if reply.status == 401:
            raise CommandError(
                "Refused with 401, although it was signed with the stored key: a proxy changes the body or X-Signature."
            )
        if reply.status != 200:
            raise CommandError(" ".join(unexpected(reply, {200})))
        self.stdout.write(f"  answered  200 after {reply.ms} ms (Ring waits 5 s)")
        stored = find_event(tenant, event, within_s=STORED_WITHIN_S)
        if stored is None:
            raise CommandError(
                "Answered 200, but the event is not in this database: compare DATABASE_URL of the web process."
            )
        self.stdout.write(
            f"  stored    position {stored.position}, “{title_of(stored)}”, request {event.request_id}"
        )
        return stored

    def _wait_for_worker(self, stored: Event, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            stored.refresh_from_db(fields=["next_attempt_at"])
            if stored.next_attempt_at is None:
                self.stdout.write("  worker    has done with it")
                return
            time.sleep(0.1)
        raise CommandError(f"No worker took it within {within_s:g} s: start `manage.py worker`.")


def _find_device(tenant: Tenant, given: str | None) -> Device | None:
    """The device of this tenant by id or by name. Raises CommandError when there is none, or more than one."""
    if not given:
        return None
    devices = Device.objects.for_tenant(tenant).present().select_related("ring_account")
    try:
        found = list(devices.filter(public_id=UUID(given)))
    except ValueError:
        found = list(devices.filter(name__iexact=given)[:2])
    if len(found) == 1:
        return found[0]
    if found:
        raise CommandError(
            f"{tenant.slug} has several devices called {given}: give the id from its page's address."
        )
    raise CommandError(f"{tenant.slug} has no device {given}.")
