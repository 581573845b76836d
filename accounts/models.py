"""Tenants, people, roles, Ring app credentials, linked Ring accounts and API tokens; the audit trail has its own module."""

import hashlib
import secrets
import uuid
from datetime import datetime
from typing import Any, ClassVar, Self

from django.contrib.auth.models import AbstractUser, UserManager
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator, URLValidator
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from portal.fields import EncryptedTextField
from portal.tenancy import TenantOwned, TenantQuerySet, Viewer
from portal.work import Work

https_only = URLValidator(
    schemes=["https"], message="Give an address that begins with https://.", code="no_https"
)

KEEP_LEAST_DAYS = 7
KEEP_MOST_DAYS = 3650
MINUTES_A_DAY = 24 * 60


class MfaPolicy(models.TextChoices):
    """Of whom a tenant demands a second factor: a passkey, or an authenticator app."""

    NONE = "none", "Nobody"
    TEAM = "team", "The team: owners, admins and operators"
    EVERYONE = "everyone", "Everyone, customers too"


class OnUnlink(models.TextChoices):
    """What becomes of a home's devices, events and clips when its link ends."""

    KEEP = "keep", "Keep what was stored, for when they come back"
    ERASE = "erase", "Erase it"


class LivePath(models.TextChoices):
    """Which way live pictures take, where neither a player nor the situation decides (docs/live-view.md)."""

    AUTOMATIC = "auto", "Automatic: whichever fits"
    DIRECT = "direct", "Direct: straight from Ring to each viewer"
    RELAY = "relay", "Relay: through the portal, one session at the camera"


class Tenant(models.Model):
    """A partner company whose data is walled off from every other's."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    slug = models.SlugField(unique=True, help_text="In every address of the tenant; cannot change later.")
    name = models.CharField(max_length=100)
    accent = models.CharField(
        max_length=7,
        default="#2257d6",
        validators=[RegexValidator(r"^#[0-9a-fA-F]{6}$", "Give the colour as # and six hex digits.")],
    )
    # Where customers turn to; Ring's certification asks for all three (contract 16.1, 16.3).
    support_email = models.EmailField("support address", blank=True, default="")
    privacy_url = models.URLField("privacy policy", blank=True, default="", validators=[https_only])
    terms_url = models.URLField("terms", blank=True, default="", validators=[https_only])
    require_mfa = models.CharField(
        "second factor demanded of", max_length=10, choices=MfaPolicy, default=MfaPolicy.NONE
    )
    created_at = models.DateTimeField(auto_now_add=True)

    on_unlink = models.CharField(
        "when somebody unlinks",
        max_length=5,
        choices=OnUnlink,
        default=OnUnlink.KEEP,
    )
    live_path = models.CharField(
        "way of live pictures", max_length=6, choices=LivePath, default=LivePath.AUTOMATIC
    )
    must_say_purpose = models.BooleanField(
        "team must say what it watches for",
        default=False,
    )
    # How many people and programs may watch at once, and how many pictures of one wall are live (docs/live-view.md).
    live_most = models.PositiveSmallIntegerField(
        "live pictures at once, whole company",
        default=50,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
    )
    wall_most = models.PositiveSmallIntegerField(
        "live pictures at once on one wall",
        default=4,
        validators=[MinValueValidator(1), MaxValueValidator(16)],
    )
    # What a battery gives for live video (docs/live-view.md).
    battery_minutes = models.PositiveSmallIntegerField(
        "live minutes a day, each battery camera",
        default=30,
        validators=[MinValueValidator(1), MaxValueValidator(MINUTES_A_DAY)],
    )
    # How long things are kept (events/retention.py). Seven days: longer than any retry of Ring's, or a weekend's outage.
    keep_events_days = models.PositiveSmallIntegerField(
        "days to keep events",
        default=365,
        validators=[MinValueValidator(KEEP_LEAST_DAYS), MaxValueValidator(KEEP_MOST_DAYS)],
    )
    keep_deliveries_days = models.PositiveSmallIntegerField(
        "days to keep webhook deliveries",
        default=90,
        validators=[MinValueValidator(KEEP_LEAST_DAYS), MaxValueValidator(KEEP_MOST_DAYS)],
    )

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    keep_deliveries_days__gte=KEEP_LEAST_DAYS,
                    keep_deliveries_days__lte=F("keep_events_days"),
                    keep_events_days__lte=KEEP_MOST_DAYS,
                ),
                name="accounts_tenant_keep_days",
                violation_error_message="Webhook deliveries cannot be kept longer than events.",
            ),
            models.CheckConstraint(
                condition=Q(live_path__in=LivePath.values), name="accounts_tenant_live_path_known"
            ),
            models.CheckConstraint(
                condition=Q(require_mfa__in=MfaPolicy.values), name="accounts_tenant_mfa_policy_known"
            ),
            models.CheckConstraint(
                condition=Q(battery_minutes__gte=1, battery_minutes__lte=MINUTES_A_DAY),
                name="accounts_tenant_battery_minutes",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class EmailUserManager(UserManager["User"]):
    """People are known by e-mail address; there is no user name."""

    def _create(self, email: str, password: str | None, **fields: Any) -> "User":
        if not email:
            raise ValueError("A person needs an e-mail address.")
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":  # type: ignore[override]
        return self._create(email, password, **fields)

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":  # type: ignore[override]
        return self._create(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email__iexact=username)


class User(AbstractUser):
    """A person. What they may do is in their memberships; portal staff (`is_staff`) use the admin."""

    username = None  # type: ignore[assignment]
    email = models.EmailField("e-mail address", unique=True)

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    objects: ClassVar[EmailUserManager] = EmailUserManager()

    def __str__(self) -> str:
        return self.get_full_name() or self.email

    def accepts_session(self, session_hash: str) -> bool:
        """
        Whether a session with this hash (HASH_SESSION_KEY) was made with the present password.

        Under SECRET_KEY or one of SECRET_KEY_FALLBACKS, as `django.contrib.auth.get_user` asks it.
        """
        hashes = (self.get_session_auth_hash(), *self.get_session_auth_fallback_hash())
        return any(constant_time_compare(each, session_hash) for each in hashes)


class Role(models.TextChoices):
    """What a person is in a tenant."""

    OWNER = "owner"
    ADMIN = "admin"
    OPERATOR = "operator"
    CUSTOMER = "customer"
    GUEST = "guest"


TENANT_STAFF = (Role.OWNER, Role.ADMIN, Role.OPERATOR)
TENANT_ADMINS = (Role.OWNER, Role.ADMIN)


class MembershipQuerySet(TenantQuerySet["Membership"]):
    def visible_to(self, viewer: Viewer) -> Self:
        """The whole tenant's people for those who see all of it; everybody else sees only their own membership."""
        rows = self.for_tenant(viewer.tenant_id)
        return rows if viewer.sees_whole_tenant else rows.filter(user_id=viewer.user_id)


class Membership(TenantOwned):
    """A person's part in a tenant. Only `accounts.people` writes it, and `accounts.linking`, which makes customers."""

    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role)
    is_limited = models.BooleanField(
        default=False, help_text="An operator who sees only what is granted to them: one building, say."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    # The switcher leads back to where the person was last.
    used_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = MembershipQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "user"], name="accounts_membership_once_per_tenant"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="accounts_membership_role_known"),
            models.CheckConstraint(
                condition=Q(is_limited=False) | Q(role="operator"),
                name="accounts_membership_limits_operators",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"

    @property
    def sees_whole_tenant(self) -> bool:
        return self.role in TENANT_STAFF and not self.is_limited

    @property
    def is_tenant_admin(self) -> bool:
        return self.role in TENANT_ADMINS

    @property
    def title(self) -> str:
        """What the person is called: "Operator, limited"."""
        return f"{self.get_role_display()}{', limited' if self.is_limited else ''}"


class InvitationQuerySet(TenantQuerySet["Invitation"]):
    """Invitations face the tenant's staff (the kernel's rule), and whoever holds the link."""

    def pending(self) -> Self:
        """Neither accepted nor withdrawn; it may have run out."""
        return self.filter(accepted_at__isnull=True, revoked_at__isnull=True)

    def open(self, now: datetime) -> Self:
        """Those whose link still works."""
        return self.pending().filter(expires_at__gt=now)


class Invitation(TenantOwned):
    """
    Somebody is asked to join, by a mail with a link that works once. Only `accounts.invitations` writes it.

    Of the link's token only the SHA-256 is kept; sending the mail again makes a new one. What is granted to the person
    beforehand waits here (`devices.Grant.invitation`).
    """

    email = models.EmailField("e-mail address")
    role = models.CharField(max_length=10, choices=Role)
    is_limited = models.BooleanField(default=False)
    sha256 = models.CharField(max_length=64, unique=True, editable=False)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    accepted_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "email"],
                condition=Q(accepted_at__isnull=True, revoked_at__isnull=True),
                name="accounts_invitation_pending_once",
            ),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="accounts_invitation_role_known"),
            models.CheckConstraint(
                condition=Q(is_limited=False) | Q(role="operator"),
                name="accounts_invitation_limits_operators",
            ),
            models.CheckConstraint(
                condition=Q(accepted_at__isnull=True) | Q(revoked_at__isnull=True),
                name="accounts_invitation_one_end",
            ),
        ]

    def __str__(self) -> str:
        return f"Invitation as {self.role}"

    @property
    def title(self) -> str:
        """What the person will be called."""
        return f"{self.get_role_display()}{', limited' if self.is_limited else ''}"

    def is_open(self, now: datetime) -> bool:
        return self.accepted_at is None and self.revoked_at is None and self.expires_at > now


class RingApp(TenantOwned):
    """The tenant's Ring Partner API credentials. `previous_signing_key` still verifies while keys rotate."""

    tenant = models.OneToOneField(Tenant, models.CASCADE, related_name="ring_app")
    client_id = models.CharField(max_length=255, unique=True)
    client_secret = EncryptedTextField()
    signing_key = EncryptedTextField()
    previous_signing_key = EncryptedTextField(blank=True, default="")
    # Ring allows it by invitation only (contract 3.2): people may begin a link here instead of in the Ring app.
    partner_initiated = models.BooleanField("linking may begin here", default=False)
    updated_at = models.DateTimeField(auto_now=True)
    # What Ring's token endpoint last said to this id and secret; both empty until it was asked with them.
    accepted_at = models.DateTimeField(null=True, blank=True, editable=False)
    refused_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = TenantQuerySet.as_manager()

    def __str__(self) -> str:
        return self.client_id

    @property
    def signing_keys(self) -> list[str]:
        """The keys a nonce or webhook signature may have been made with, current one first."""
        return [key for key in (self.signing_key, self.previous_signing_key) if key]


class RingAccountQuerySet(TenantQuerySet["RingAccount"]):
    def visible_to(self, viewer: Viewer) -> Self:
        """A customer's own Ring accounts; for the tenant's staff, all of the tenant's."""
        rows = self.for_tenant(viewer.tenant_id)
        return rows if viewer.sees_whole_tenant else rows.filter(user_id=viewer.user_id)

    def locked(self) -> Self:
        """
        Lock the rows for a change, inside a transaction. Two who change wait for each other.

        The keys stay as they are (`no_key`): webhooks and devices that point at a row are stored meanwhile.
        """
        return self.select_for_update(no_key=True)


class RingAccount(TenantOwned, Work):
    """
    A Ring account that shares with a tenant, and the tokens for it. Only `accounts.services` writes it.

    One row per (tenant, Ring account) for ever: unlinking keeps it, linking again brings it back with its history.
    `attempts`/`next_attempt_at` belong to the linking work that is under way (users/me, POST, PATCH); on a linked row to
    telling Ring the person's new address (`accounts/identifier.py`), on an unlinked one to erasing its history where the tenant
    wants that (`accounts/unlinking.py`).
    """

    class State(models.TextChoices):
        RECEIVED = "received"  # tokens stored, account id not yet known
        UNCLAIMED = "unclaimed"  # waits for its person to sign in
        CLAIMING = "claiming"  # a person proved it is theirs; Ring's POST comes next
        AWAITING = "awaiting"  # POST done; Ring's PATCH comes next
        LINKED = "linked"
        UNLINKED = "unlinked"
        RELINK_REQUIRED = "relink_required"  # Ring refused the refresh token

    CLAIMED = (State.CLAIMING, State.AWAITING, State.LINKED)

    user = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="ring_accounts")
    ring_id = models.CharField(max_length=255, blank=True, default="", help_text="Ring's account id.")
    state = models.CharField(max_length=20, choices=State, default=State.RECEIVED)
    first_name = models.CharField(max_length=100, blank=True, default="")
    email = EncryptedTextField(blank=True, default="")
    access_token = EncryptedTextField(blank=True, default="")
    access_expires_at = models.DateTimeField(null=True, blank=True)
    refresh_token = EncryptedTextField(blank=True, default="")
    # When the tokens at hand were issued; the refresh token's own end is not told by Ring (contract 4).
    tokens_obtained_at = models.DateTimeField(null=True, blank=True)
    # One process refreshes at a time; a process that dies leaves a lease that lapses (accounts/tokens.py).
    refreshing_until = models.DateTimeField(null=True, blank=True, editable=False)
    # Since when a refresh token is on its way to Ring, or was, without an answer: Ring may hold a newer pair than we do.
    refresh_unanswered_at = models.DateTimeField(null=True, blank=True, editable=False)
    # When the daily refresh was last tried: whom Ring refuses must not stand in the way of the others.
    refresh_tried_at = models.DateTimeField(null=True, blank=True, editable=False)
    # The nonce of the claim under way: Ring's POST needs it again after a crash. Emptied once POST succeeded.
    claim_nonce = EncryptedTextField(blank=True, default="")
    account_identifier = models.CharField(max_length=64, blank=True, default="")
    # The link at hand began here (contract 3.2), so there is no nonce, and ending it can be told to Ring.
    partner_initiated = models.BooleanField(default=False, editable=False)
    received_at = models.DateTimeField(default=timezone.now)
    claimed_at = models.DateTimeField(null=True, blank=True)
    linked_at = models.DateTimeField(null=True, blank=True)
    # Ring gives no history and no footage from before this moment (contract 8, 11). It is when the code came: the person
    # consents before Ring sends it (contract 2.1), and Ring itself refuses what it counts as earlier (contract 11.4).
    consent_at = models.DateTimeField(null=True, blank=True)
    synced_at = models.DateTimeField(null=True, blank=True)

    objects = RingAccountQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "ring_id"],
                condition=~Q(ring_id=""),
                name="accounts_ring_account_once_per_tenant",
            ),
            models.UniqueConstraint(
                fields=["ring_id"],
                condition=Q(state__in=["claiming", "awaiting", "linked"]),
                name="accounts_ring_account_claimed_once",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["claiming", "awaiting", "linked"])
                | (Q(user__isnull=False) & ~Q(ring_id="")),
                name="accounts_ring_account_claimed_has_user",
            ),
            models.CheckConstraint(
                condition=Q(state="received") | ~Q(ring_id="") | Q(state="unlinked"),
                name="accounts_ring_account_has_ring_id",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.first_name or 'Ring account'} ({self.state})"

    @property
    def is_live(self) -> bool:
        """True while Ring may be asked with this account's tokens for its devices."""
        return self.state in {self.State.AWAITING, self.State.LINKED}


class RelinkNotice(TenantOwned, Work):
    """That a person is being told to link again, and how often they were (`accounts/relinking.py`)."""

    ring_account = models.OneToOneField(RingAccount, models.CASCADE, related_name="relink_notice")
    required_since = models.DateTimeField()
    sent = models.PositiveSmallIntegerField(default=0)
    last_sent_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.sent} mails about {self.ring_account}"


class ApiTokenQuerySet(TenantQuerySet["ApiToken"]):
    def usable(self, now: datetime) -> Self:
        return self.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now), revoked_at__isnull=True)


class ApiToken(TenantOwned):
    """A program's key to one tenant. Only its SHA-256 is kept; the token itself is shown once."""

    PREFIX = "ppt_"  # scannable, so that a leaked one is found by secret scanners

    class Scope(models.TextChoices):
        READ = "read"
        WRITE = "write"

    name = models.CharField(max_length=100)
    sha256 = models.CharField(max_length=64, unique=True, editable=False)
    hint = models.CharField(max_length=16, editable=False)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = ApiTokenQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}…)"

    @classmethod
    def issue(cls, *, tenant: Tenant, name: str, scopes: list[str]) -> tuple["ApiToken", str]:
        """Store a new token and return (row, token). The token cannot be had again."""
        token = cls.PREFIX + secrets.token_urlsafe(32)
        row = cls.objects.create(
            tenant=tenant,
            name=name,
            scopes=scopes,
            sha256=cls.digest(token),
            hint=token[: len(cls.PREFIX) + 4],
        )
        return row, token

    @staticmethod
    def digest(token: str) -> str:
        return hashlib.sha256(token.encode()).hexdigest()

    # An API token looks at the tenant's rows as its staff do (portal.tenancy.Viewer).
    sees_whole_tenant = True
    user_id = None


from accounts.audit_models import AuditEntry as AuditEntry  # noqa: E402 - they point at what is above
from accounts.audit_models import AuditHead as AuditHead  # noqa: E402
from accounts.audit_models import AuditPerson as AuditPerson  # noqa: E402
from accounts.data_models import DataExport as DataExport  # noqa: E402
from accounts.data_models import ErasedRingId as ErasedRingId  # noqa: E402
from accounts.data_models import Erasure as Erasure  # noqa: E402
