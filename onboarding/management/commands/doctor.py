"""`manage.py doctor`: what is wrong with this installation, and what to do about it."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import Tenant
from onboarding.doctor import examine
from onboarding.findings import Finding, Verdict

_MARKS = {Verdict.OK: "ok  ", Verdict.WARN: "WARN", Verdict.BAD: "BAD ", Verdict.NOTE: "-   "}


class Command(BaseCommand):
    """Ends with code 1 when anything is bad, with `--strict` when anything is worth a look; so it serves as a check in CI."""

    help = "Look at settings, keys, database, queue, storage, clock and addresses; say what to do."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "tenant", nargs="?", help="Look at this tenant in depth too, its four addresses included."
        )
        parser.add_argument("--strict", action="store_true", help="Warnings count as failures.")
        parser.add_argument("--json", action="store_true", help="One JSON object a line, for programs.")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = None
        if options["tenant"]:
            tenant = Tenant.objects.filter(slug=options["tenant"]).first()
            if tenant is None:
                raise CommandError(f"There is no tenant {options['tenant']}.")
        counts = dict.fromkeys(Verdict, 0)
        for finding in examine(tenant):
            counts[finding.verdict] += 1
            self._write(finding, as_json=options["json"])
        bad, warnings = counts[Verdict.BAD], counts[Verdict.WARN]
        if not options["json"]:
            self.stdout.write(f"\n{counts[Verdict.OK]} good, {warnings} to look at, {bad} bad.")
        if bad or (options["strict"] and warnings):
            raise CommandError("Something is wrong; the lines above say what to do.", returncode=1)

    def _write(self, finding: Finding, *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(finding.as_json(), ensure_ascii=False))
            return
        took = f" ({finding.ms} ms)" if finding.ms is not None else ""
        self.stdout.write(f"{_MARKS[finding.verdict]} {finding.title}: {finding.said}{took}")
        if finding.fix and finding.verdict != Verdict.OK:
            self.stdout.write(f"       {finding.fix}")
