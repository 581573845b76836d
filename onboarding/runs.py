"""Run a check once, and keep what it found. A worker that dies leaves a run that the sweep takes up again."""

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta

from django.utils import timezone

from accounts.models import Tenant
from onboarding.findings import Finding, Verdict, is_passed
from onboarding.models import CheckRun
from onboarding.rehearsal import run_rehearsal
from onboarding.self_test import run_self_test

logger = logging.getLogger(__name__)

LEASE = timedelta(minutes=2)
"""Longer than all timeouts of one run together."""

KEPT = 20
MAX_ATTEMPTS = 3

_CHECKS: dict[str, Callable[[Tenant], Iterator[Finding]]] = {
    CheckRun.Kind.WEBHOOK: run_self_test,
    CheckRun.Kind.LINK: run_rehearsal,
}


def perform(run: CheckRun) -> None:
    """Run it from the beginning, keeping each finding as it comes; the caller holds the lease."""
    run.state = CheckRun.State.RUNNING
    run.lines = []
    run.save(update_fields=["state", "lines"])
    findings: list[Finding] = []
    if run.attempts > MAX_ATTEMPTS:
        _end(run, [_broken("Its worker died each time.")])
        return
    try:
        for finding in _CHECKS[run.kind](run.tenant):
            findings.append(finding)
            run.lines = [kept.as_json() for kept in findings]
            run.save(update_fields=["lines"])
    except Exception:
        logger.exception("A set-up check broke off. run=%s", run.public_id)
        findings.append(_broken("The check itself broke off."))
    _end(run, findings)


def _broken(said: str) -> Finding:
    return Finding(
        "broken",
        "The check",
        Verdict.BAD,
        said,
        "Run it again; when it repeats, the worker’s log tells more.",
    )


def _end(run: CheckRun, findings: list[Finding]) -> None:
    run.lines = [finding.as_json() for finding in findings]
    run.state = CheckRun.State.PASSED if is_passed(findings) else CheckRun.State.FAILED
    run.finished_at = timezone.now()
    run.next_attempt_at = None
    run.save(update_fields=["lines", "state", "finished_at", "next_attempt_at"])
    of_kind = CheckRun.objects.for_tenant(run.tenant_id).filter(kind=run.kind)
    kept = of_kind.order_by("-created_at").values_list("pk", flat=True)[:KEPT]
    of_kind.exclude(pk__in=list(kept)).delete()


def latest(tenant: Tenant, kind: CheckRun.Kind) -> CheckRun | None:
    return CheckRun.objects.for_tenant(tenant).filter(kind=kind).order_by("-created_at").first()


def findings_of(run: CheckRun | None) -> list[Finding]:
    return [Finding.from_json(line) for line in run.lines] if run is not None else []
