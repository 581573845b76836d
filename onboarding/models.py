"""What set-up leaves behind: test runs and their findings, what a person has ticked, who wants no reminder."""

from django.db import models
from django.db.models import Q

from portal.tenancy import TenantOwned, TenantQuerySet
from portal.work import Work


class CheckRun(TenantOwned, Work):
    """
    One run of the self-test or the link rehearsal, done by a worker. `lines` grows while it runs: see `onboarding.findings`.
    """

    class Kind(models.TextChoices):
        WEBHOOK = "webhook", "Self-test"
        LINK = "link", "Link rehearsal"

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting for a worker"
        RUNNING = "running", "Running"
        PASSED = "passed", "Passed"
        FAILED = "failed", "Failed"

    OPEN = (State.WAITING, State.RUNNING)

    kind = models.CharField(max_length=10, choices=Kind)
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    started_by = models.ForeignKey("accounts.User", models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    lines = models.JSONField(default=list)

    objects = TenantQuerySet["CheckRun"].as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "kind"],
                condition=Q(state__in=["waiting", "running"]),
                name="onboarding_check_run_one_at_a_time",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["waiting", "running"], finished_at__isnull=True)
                | Q(state__in=["passed", "failed"], finished_at__isnull=False),
                name="onboarding_check_run_finished_has_time",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.get_state_display()}"

    @property
    def is_open(self) -> bool:
        return self.state in self.OPEN


class Attestation(TenantOwned):
    """A demand of Ring's that only a person can vouch for, and who did."""

    key = models.CharField(max_length=50)
    by = models.ForeignKey("accounts.User", models.SET_NULL, null=True, blank=True, related_name="+")
    at = models.DateTimeField()

    objects = TenantQuerySet["Attestation"].as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "key"], name="onboarding_attestation_once"),
        ]

    def __str__(self) -> str:
        return self.key


class Dismissal(TenantOwned):
    """Somebody who wants no reminder of the set-up on their home page."""

    membership = models.OneToOneField("accounts.Membership", models.CASCADE, related_name="+")
    at = models.DateTimeField()

    objects = TenantQuerySet["Dismissal"].as_manager()

    def __str__(self) -> str:
        return f"{self.membership}"
