"""`manage.py add_member`: give a person a role in a tenant."""

import os
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_email

from accounts.addresses import base_url
from accounts.models import Role, Tenant
from accounts.people import LastOwner, add_member, send_welcome
from portal.walls import tenant_scope


class Command(BaseCommand):
    """A new person's password comes from `MEMBER_PASSWORD`, else a mail invites them to choose one. Run again: new role."""

    help = "Give a person a role in a tenant. A new person's password is read from MEMBER_PASSWORD."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="The tenant's slug.")
        parser.add_argument("email")
        parser.add_argument("--role", required=True, choices=Role.values)

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = Tenant.objects.filter(slug=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"There is no tenant {options['tenant']!r}. Make it with create_tenant.")
        with tenant_scope(tenant):
            password = os.environ.get("MEMBER_PASSWORD") or None
            try:
                validate_email(options["email"])
                added = add_member(
                    tenant=tenant, email=options["email"], role=Role(options["role"]), password=password
                )
            except ValidationError as error:
                raise CommandError(" ".join(error.messages)) from None
            except LastOwner:
                raise CommandError("This is the only owner. Make somebody else an owner first.") from None
            what = "Added" if added.is_new_member else "Updated"
            self.stdout.write(
                f"{what} {added.membership.user.email}: {added.membership.role} of {tenant.slug}."
            )
            if added.needs_password:
                send_welcome(added.membership, needs_password=True, base_url=base_url())
                self.stdout.write("An invitation is on its way; it says how to choose a password.")
