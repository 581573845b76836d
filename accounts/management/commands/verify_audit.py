"""`manage.py verify_audit [TENANT]`: is the audit trail as it was written?"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.audit import reseal, verify
from accounts.models import Tenant
from portal.walls import tenant_scope


class Command(BaseCommand):
    help = (
        "Check the audit trail of one tenant, or of all: every entry that was changed, moved, added or removed past "
        "the portal is named, and the command fails. Prints the end of each chain: keep it elsewhere, and give it "
        "back with --since to be sure that history was not written anew."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant", nargs="?", help="The tenant's slug (default: all tenants).")
        parser.add_argument(
            "--since",
            metavar="NUMBER:HASH",
            help="An end of the chain noted earlier; the entry with that number must still have that hash.",
        )
        parser.add_argument(
            "--reseal",
            action="store_true",
            help="After a change of SECRET_KEY, or once you have looked at what was found: seal the chain's end anew.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        tenants = Tenant.objects.order_by("slug")
        if options["tenant"]:
            tenants = tenants.filter(slug=options["tenant"])
            if not tenants:
                raise CommandError(f"There is no tenant {options['tenant']!r}.")
        elif options["since"] or options["reseal"]:
            raise CommandError("Name the tenant.")
        broken = 0
        for tenant in tenants:
            with tenant_scope(tenant):
                broken += self._check(tenant, options)
        if broken and not options["reseal"]:
            raise CommandError(f"The audit trail of {broken} tenant(s) is not as it was written.")

    def _check(self, tenant: Tenant, options: dict[str, Any]) -> bool:
        """Say how one tenant's trail is; True when it is not as it was written."""
        verdict = verify(tenant)
        problems = verdict.problems
        if options["since"]:
            problems += self._problems_since(tenant, options["since"])
        for problem in problems:
            self.stderr.write(f"{tenant.slug}: {problem}")
        state = f"{len(problems)} problems" if problems else "whole"
        self.stdout.write(
            f"{tenant.slug}: {verdict.entries} entries, {state}. End {verdict.last}:{verdict.hash}"
        )
        if options["reseal"]:
            reseal(tenant)
            self.stdout.write(f"{tenant.slug}: sealed anew.")
        return bool(problems)

    def _problems_since(self, tenant: Tenant, noted: str) -> list[str]:
        from accounts.models import AuditEntry

        number, _, digest = noted.partition(":")
        if not number.isdecimal():
            raise CommandError("Give --since as NUMBER:HASH, as this command prints it.")
        entry = AuditEntry.objects.for_tenant(tenant).filter(sequence=int(number)).first()
        if entry is not None and entry.hash == digest:
            return []
        return [f"Entry {number} is not the one noted: history was written anew."]
