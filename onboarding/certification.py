"""
What Ring demands before it publishes an app (contract 16), demand by demand.

Where the portal can know, it says so; what only people know they tick, with name and day. A draft for the tenant's own
submission, not a promise of Ring's: the contract is second-hand knowledge.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from accounts.addresses import base_url
from accounts.ageing import KEPT_FRESH
from accounts.models import RingAccount, RingApp, Tenant
from onboarding import runs
from onboarding.findings import Finding, Verdict
from onboarding.models import Attestation, CheckRun
from portal.env import DEVELOPMENT_FIELD_KEY

# Every token is refreshed once a day; some hours of grace for a Ring that did not answer.
FRESH_WITHIN = timedelta(hours=36)


@dataclass(frozen=True)
class Demand:
    """A demand only people can vouch for. `section`: of the contract."""

    key: str
    group: str
    title: str
    words: str
    section: str


@dataclass(frozen=True)
class Vouched:
    """A demand, and who ticked it when (None: nobody yet)."""

    demand: Demand
    attestation: Attestation | None


@dataclass(frozen=True)
class Report:
    """Everything, as it stands at `at`."""

    at: datetime
    known: list[Finding]
    vouched: list[Vouched]

    @property
    def open_count(self) -> int:
        open_known = sum(
            finding.verdict in {Verdict.BAD, Verdict.WARN, Verdict.NOTE} for finding in self.known
        )
        return open_known + sum(item.attestation is None for item in self.vouched)

    @property
    def total(self) -> int:
        return len(self.known) + len(self.vouched)


DEMANDS = (
    Demand(
        "console_urls",
        "Console",
        "The four addresses are registered, for staging and for production",
        "The same addresses may stand in both; linking must pass with the production ones before you submit.",
        "1.4, 16.1",
    ),
    Demand(
        "identity",
        "Console",
        "The developer’s identity is verified and the agreement accepted",
        "A photo id, and the Ring Appstore schedule of the Amazon Developer Services Agreement.",
        "16.1",
    ),
    Demand(
        "listing",
        "Console",
        "The listing is complete",
        "Name of 7 to 30 characters, short text up to 125, long text up to 500, release notes up to 300, icon 1024 × 1024 below 2 MB, one to five "
        "pictures, category, compatible devices, and the addresses of website, support, privacy policy and terms.",
        "16.1",
    ),
    Demand(
        "questionnaire",
        "Console",
        "The privacy and security questionnaire is answered",
        "Five tabs: general, data processing, AI governance, data protection, third parties.",
        "16.2",
    ),
    Demand(
        "reviewer_notes",
        "Console",
        "The reviewer knows what to do without asking",
        "Three notes of 20 to 4,000 characters: creating an account, linking, a scenario from end to end. With a demo account whose "
        "subscription, if you need one, is already active.",
        "16.1, 16.3",
    ),
    Demand(
        "staging_tested",
        "Tests",
        "Linking was tested in staging, with staging and with production addresses",
        "With a US home whose Ring plan is active; without one no device and no event comes.",
        "1.5, 16.1",
    ),
    Demand(
        "relink_tested",
        "Tests",
        "Removing the app in Ring and adding it again was tried",
        "Access must stop at once, and linking again must bring the history back.",
        "2.10, 16.3",
    ),
    Demand(
        "phones_tested",
        "Tests",
        "Linking and watching were tried on a phone and on a desktop",
        "With the browsers your customers use; with a screen reader and by keyboard too (WCAG 2.2 AA).",
        "16.3",
    ),
    Demand(
        "scanned",
        "Security",
        "An automated security scan of your installation has passed",
        "And what it found was mended. Keep the report: the questionnaire asks for it.",
        "16.3",
    ),
    Demand(
        "secrets_kept",
        "Security",
        "Only the people who must have it can reach Ring’s client secret, keys and backups",
        "The portal encrypts them at rest and shows them to nobody; backups and the encryption keys are yours to guard.",
        "16.3",
    ),
    Demand(
        "backups_window",
        "Privacy",
        "Deleted data leaves backups within a time you have written down",
        "And the privacy policy names that time.",
        "16.3",
    ),
    Demand(
        "policy_content",
        "Privacy",
        "The privacy policy says what Ring data you collect, why, how long, who gets it, and whether AI is used",
        "Before the customer links. Third-party processors are named in it.",
        "16.3",
    ),
    Demand(
        "no_monitoring",
        "Conduct",
        "You sell no monitoring of Ring’s own availability",
        "A current online badge is fine; uptime histories and outage alerts of Ring devices need Ring’s written approval.",
        "16.3",
    ),
    Demand(
        "claims",
        "Conduct",
        "Texts are careful, and use Ring’s brand as its guidelines say",
        "No “identifies”, “tracks” or “prevents crime” without proof. Press releases go to Ring 10 to 12 business days ahead.",
        "16.3",
    ),
    Demand(
        "incident_contact",
        "Operations",
        "Somebody is on call during the review and after, and Ring knows the address",
        "The backend is live throughout; a refused endpoint can be disabled by Ring, who then writes to that address.",
        "9.3, 16.3",
    ),
)
BY_KEY = {demand.key: demand for demand in DEMANDS}


def report_for(tenant: Tenant, *, now: datetime | None = None) -> Report:
    """How the tenant stands with each demand."""
    moment = now or timezone.now()
    ticked = {
        row.key: row for row in Attestation.objects.for_tenant(tenant).select_related("by").order_by("pk")
    }
    return Report(
        at=moment,
        known=[look(tenant, moment) for look in _KNOWN],
        vouched=[Vouched(demand, ticked.get(demand.key)) for demand in DEMANDS],
    )


def _https(tenant: Tenant, now: datetime) -> Finding:
    good = base_url().startswith("https://")
    return Finding(
        "https",
        "All four addresses are public https",
        Verdict.OK if good else Verdict.BAD,
        f"They begin with {base_url()}.",
        "" if good else "The people who run the portal must set PUBLIC_URL to its https address.",
    )


def _from_self_test(tenant: Tenant, keys: tuple[str, ...], key: str, title: str, said: str) -> Finding:
    """A verdict that the latest self-test can give."""
    run = runs.latest(tenant, CheckRun.Kind.WEBHOOK)
    found = {finding.key: finding for finding in runs.findings_of(run)}
    seen = [found[name] for name in keys if name in found]
    if run is None or run.is_open or not seen:
        return Finding(key, title, Verdict.NOTE, "The self-test has not told yet.", "Run the self-test.")
    worst = next((one for one in seen if one.verdict != Verdict.OK), None)
    if worst is not None:
        return Finding(key, title, worst.verdict, f"{worst.title}: {worst.said}", worst.fix, worst.ms)
    return Finding(key, title, Verdict.OK, said, ms=seen[0].ms)


def _answering(tenant: Tenant, now: datetime) -> Finding:
    keys = ("url_token", "url_link", "url_webhook", "url_home")
    return _from_self_test(
        tenant, keys, "answering", "The four addresses answer", "All four did in the latest self-test."
    )


def _signature(tenant: Tenant, now: datetime) -> Finding:
    said = "Wrong signatures are refused with 401, right ones taken, over the bytes as they came."
    return _from_self_test(
        tenant,
        ("wrong_signature", "signature", "again"),
        "signature",
        "Webhooks are checked, and stored once",
        said,
    )


def _in_time(tenant: Tenant, now: datetime) -> Finding:
    title = "Webhooks are answered within 5 s"
    found = _from_self_test(tenant, ("signature",), "in_time", title, "The latest self-test was.")
    return found


def _patched(tenant: Tenant, now: datetime) -> Finding:
    title = "A link was completed with Ring (POST, then PATCH)"
    if RingAccount.objects.for_tenant(tenant).filter(linked_at__isnull=False).exists():
        return Finding("patched", title, Verdict.OK, "At least one was.")
    return Finding("patched", title, Verdict.BAD, "None yet.", "Link a test account from the Ring Appstore.")


def _tokens(tenant: Tenant, now: datetime) -> Finding:
    title = "Every token is refreshed daily"
    kept = RingAccount.objects.for_tenant(tenant).filter(state__in=KEPT_FRESH).exclude(refresh_token="")
    late = kept.filter(
        Q(tokens_obtained_at__isnull=True) | Q(tokens_obtained_at__lt=now - FRESH_WITHIN)
    ).count()
    if late:
        return Finding(
            "tokens",
            title,
            Verdict.BAD,
            f"{late} account{'s are' if late != 1 else ' is'} overdue.",
            "See whether a worker runs, and whether Ring takes the credentials.",
        )
    if not kept.exists():
        return Finding("tokens", title, Verdict.NOTE, "There is no account yet.", "Link a test account.")
    return Finding("tokens", title, Verdict.OK, "None is older than a day and a half.")


def _credentials(tenant: Tenant, now: datetime) -> Finding:
    title = "Ring takes the credentials"
    app = RingApp.objects.filter(tenant=tenant).first()
    if app is None:
        return Finding(
            "credentials", title, Verdict.BAD, "There are none.", "Enter them under Company and Ring."
        )
    if app.refused_at is not None:
        return Finding(
            "credentials",
            title,
            Verdict.BAD,
            "Ring refused them the last time.",
            "Copy client id and secret again from Ring’s console.",
        )
    if app.accepted_at is None:
        return Finding(
            "credentials", title, Verdict.NOTE, "They were not used yet.", "Link a test account: that tells."
        )
    return Finding("credentials", title, Verdict.OK, "They were used, and taken.")


def _encrypted(tenant: Tenant, now: datetime) -> Finding:
    title = "Tokens and secrets are encrypted at rest"
    if settings.DEBUG or DEVELOPMENT_FIELD_KEY in settings.FIELD_ENCRYPTION_KEYS:
        return Finding(
            "encrypted",
            title,
            Verdict.BAD,
            "This installation runs in development mode, where keys and cookies are not safe.",
            "The people who run the portal must unset DEBUG and set FIELD_ENCRYPTION_KEYS.",
        )
    return Finding(
        "encrypted",
        title,
        Verdict.OK,
        "AES-256-GCM, under keys of this installation; logs, pages and the API show none.",
    )


def _privacy(tenant: Tenant, now: datetime) -> Finding:
    return _contact_finding("privacy", "A privacy policy is shown before linking", tenant.privacy_url)


def _terms(tenant: Tenant, now: datetime) -> Finding:
    return _contact_finding("terms", "Terms of use are shown before linking", tenant.terms_url)


def _support(tenant: Tenant, now: datetime) -> Finding:
    return _contact_finding("support", "Customers are told whom to write to", tenant.support_email)


def _contact_finding(key: str, title: str, value: str) -> Finding:
    if value:
        return Finding(key, title, Verdict.OK, value)
    return Finding(key, title, Verdict.BAD, "Not given.", "Fill it in under Company and Ring.")


def _deletion(tenant: Tenant, now: datetime) -> Finding:
    title = "A customer can disconnect, and delete everything"
    try:
        page = reverse("accounts:your_data", args=[tenant.slug])
    except NoReverseMatch:
        return Finding(
            "deletion",
            title,
            Verdict.WARN,
            "A customer disconnects under Settings, which destroys the tokens; deleting the rest is not offered by this version.",
            "Name in your privacy policy how customers ask for deletion.",
        )
    return Finding("deletion", title, Verdict.OK, f"Both under Settings; deleting is at {page}.")


def _built_in(key: str, title: str, said: str) -> Callable[[Tenant, datetime], Finding]:
    """What the portal's own tests hold, on every installation."""

    def look(tenant: Tenant, now: datetime) -> Finding:
        return Finding(key, title, Verdict.OK, said)

    return look


_KNOWN: tuple[Callable[[Tenant, datetime], Finding], ...] = (
    _https,
    _answering,
    _signature,
    _in_time,
    _credentials,
    _patched,
    _tokens,
    _encrypted,
    _support,
    _privacy,
    _terms,
    _deletion,
    _built_in(
        "linking",
        "Linking as Ring wants it",
        "Create-account and sign-in are both offered, nothing is claimed by arriving, nonces are good for 600 s and compared in constant time, "
        "and each refusal has a page that says what to do.",
    ),
    _built_in(
        "unlink",
        "Removal in the Ring app ends access",
        "Tokens are destroyed, live views end, pages say so; linking again brings the history back.",
    ),
    _built_in(
        "watermark",
        "Ring’s watermark stays whole",
        "Pages show pictures and video uncropped, and files are kept as Ring sent them.",
    ),
    _built_in(
        "zones",
        "Privacy zones are respected",
        "A camera with zones is neither shown, fetched nor kept here.",
    ),
    _built_in(
        "read_only",
        "No fake controls",
        "Settings of the Ring app are shown read-only, with the way to them.",
    ),
)
