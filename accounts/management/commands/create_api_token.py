"""`manage.py create_api_token`: a program's key to one tenant."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from accounts.audit import audit
from accounts.models import ApiToken, Tenant
from portal.walls import tenant_scope


class Command(BaseCommand):
    """The token alone goes to standard output, once; everything said about it goes to standard error."""

    help = "Make an API token for a tenant and print it. It cannot be shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="The tenant's slug.")
        parser.add_argument("--name", required=True, help="What it is for.")
        parser.add_argument(
            "--scope",
            required=True,
            action="extend",
            nargs="+",
            choices=ApiToken.Scope.values,
            help="read, write, or both.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = Tenant.objects.filter(slug=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"There is no tenant {options['tenant']!r}. Make it with create_tenant.")
        with tenant_scope(tenant), transaction.atomic():
            row, token = ApiToken.issue(
                tenant=tenant, name=options["name"], scopes=sorted(set(options["scope"]))
            )
            audit(
                tenant=tenant,
                actor=None,
                action="api_token.created",
                subject=f"api_token {row.public_id}",
                scopes=row.scopes,
            )
        self.stdout.write(token)
        self.stderr.write(f"{row.name} ({', '.join(row.scopes)}) for {tenant.slug}. It is not shown again.")
