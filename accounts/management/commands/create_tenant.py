"""`manage.py create_tenant`: a tenant and its Ring app, made or updated."""

import os
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from accounts.addresses import base_url, registered_urls
from accounts.audit import audit
from accounts.models import Tenant
from accounts.ring_app import ClientIdTaken, SecretsMissing, set_ring_app
from portal.walls import tenant_scope


class Command(BaseCommand):
    """
    Secrets come from the environment (`RING_CLIENT_SECRET`, `RING_SIGNING_KEY`), never from arguments: those are seen by
    every user of the machine. Run again it updates; secrets that are not given stay.
    """

    help = "Make or update a tenant. Reads RING_CLIENT_SECRET and RING_SIGNING_KEY from the environment."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="In every address of the tenant: letters, digits, - and _.")
        parser.add_argument("--name", required=True, help="What people call the company.")
        parser.add_argument("--client-id", required=True, help="Ring's client id of the company's app.")
        parser.add_argument("--accent", help="The company's colour, as #rrggbb.")

    def handle(self, *args: Any, **options: Any) -> None:
        with transaction.atomic():
            tenant = Tenant.objects.filter(slug=options["slug"]).first() or Tenant(slug=options["slug"])
            is_new = tenant.pk is None
            tenant.name = options["name"]
            if options["accent"]:
                tenant.accent = options["accent"]
            try:
                tenant.full_clean()
            except ValidationError as error:
                raise CommandError(" ".join(error.messages)) from None
            tenant.save()
            with tenant_scope(tenant):
                try:
                    set_ring_app(
                        tenant=tenant,
                        client_id=options["client_id"],
                        client_secret=os.environ.get("RING_CLIENT_SECRET", ""),
                        signing_key=os.environ.get("RING_SIGNING_KEY", ""),
                    )
                except SecretsMissing:
                    raise CommandError(
                        "A new Ring app needs RING_CLIENT_SECRET and RING_SIGNING_KEY in the environment."
                    ) from None
                except ClientIdTaken:
                    raise CommandError(
                        "Another tenant has this client id; a Ring app belongs to one."
                    ) from None
                action = "tenant.created" if is_new else "tenant.updated"
                audit(tenant=tenant, actor=None, action=action, subject=f"tenant {tenant.public_id}")
        self.stdout.write(f"{'Created' if is_new else 'Updated'} {tenant.slug}. Register these at Ring:")
        for entry in registered_urls(tenant, base=base_url()):
            self.stdout.write(f"  {entry.field + ':':20} {entry.url}")
