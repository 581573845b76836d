"""What becomes of a link later: mails to link again, and Ring is told a new address."""

import smtplib
from datetime import datetime, timedelta
from itertools import pairwise

from django.core import mail
from django.test import Client
from django.utils import timezone

import pytest

from accounts import relinking
from accounts.linking import confirm_link_from_ring
from accounts.models import AuditEntry, Membership, RelinkNotice, RingAccount, Role, Tenant, User
from accounts.tasks import send_relink_notice, sweep_identifiers, sweep_relink_notices
from accounts.tasks import tell_identifier as tell_identifier_task
from accounts.tests.conftest import Linking
from accounts.tests.scripted_ring import ScriptedRing
from accounts.tokens import NotLinked, fresh_access_token
from tests.support.cast import make_linked_account, make_tenant, make_user

State = RingAccount.State
DAY = timedelta(days=1)

pytestmark = pytest.mark.django_db


def break_link(account: RingAccount) -> RingAccount:
    """As when Ring refuses the refresh token."""
    RingAccount.objects.filter(pk=account.pk).update(state=State.RELINK_REQUIRED)
    account.refresh_from_db()
    return account


def let_days_pass(days: float, *, start: datetime) -> datetime:
    """Every sweep and mail that is due at the given moment."""
    now = start + DAY * days
    relinking.plan_notices(now=now)
    for notice in RelinkNotice.objects.filter(next_attempt_at__lte=now):
        relinking.send_notice(notice, now=now)
    return now


@pytest.fixture
def broken(tenant: Tenant, ada: User) -> RingAccount:
    return break_link(make_linked_account(tenant, ada, ring_id="ava1.ring.account.ADA1"))


def test_person_is_told_why_and_what_to_do(broken: RingAccount):
    sweep_relink_notices.func()
    send_relink_notice.func(RelinkNotice.objects.get().pk)
    [message] = mail.outbox
    assert message.to == ["ada@customer.example"]
    assert "Ring has withdrawn Acme's permission" in message.body
    assert "choose Apps, then Acme, remove it and add it again" in message.body
    assert "/t/acme/settings/" in message.body


def test_mails_come_on_their_days_and_end(broken: RingAccount):
    start = timezone.now()
    sent_on = []
    for half_day in range(60):
        before = len(mail.outbox)
        let_days_pass(half_day / 2, start=start)
        sent_on += [half_day / 2] * (len(mail.outbox) - before)
    assert sent_on == [0, 1, 3, 7, 14]
    assert "last mail" in mail.outbox[-1].body
    assert "last mail" not in mail.outbox[-2].body


def test_two_accounts_of_one_person_bring_one_mail_a_day(tenant: Tenant, ada: User, broken: RingAccount):
    break_link(make_linked_account(tenant, ada, ring_id="ava1.ring.account.ADA2"))
    start = timezone.now()
    days: list[int] = []
    for hour in range(0, 24 * 20, 6):
        before = len(mail.outbox)
        let_days_pass(hour / 24, start=start)
        days += [hour] * (len(mail.outbox) - before)
    assert all(later - earlier >= 24 for earlier, later in pairwise(days))
    assert RelinkNotice.objects.filter(next_attempt_at__isnull=False).count() == 0


def test_linking_again_or_disconnecting_ends_it(broken: RingAccount):
    start = timezone.now()
    let_days_pass(0, start=start)
    RingAccount.objects.filter(pk=broken.pk).update(state=State.UNLINKED)
    let_days_pass(5, start=start)
    assert len(mail.outbox) == 1
    assert not RelinkNotice.objects.exists()


def test_link_that_was_mended_in_the_last_moment_brings_no_mail(broken: RingAccount):
    relinking.plan_notices(now=timezone.now())
    notice = RelinkNotice.objects.get()
    RingAccount.objects.filter(pk=broken.pk).update(state=State.LINKED)
    relinking.send_notice(notice, now=timezone.now())
    assert mail.outbox == []


def test_two_workers_send_it_once(broken: RingAccount):
    sweep_relink_notices.func()
    pk = RelinkNotice.objects.get().pk
    send_relink_notice.func(pk)
    send_relink_notice.func(pk)
    assert len(mail.outbox) == 1


def test_mail_server_that_is_away_is_asked_again(broken: RingAccount, monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise smtplib.SMTPServerDisconnected

    start = timezone.now()
    with monkeypatch.context() as patched:
        patched.setattr(relinking, "send_mail", refuse)
        let_days_pass(0, start=start)
    notice = RelinkNotice.objects.get()
    assert (notice.sent, notice.last_sent_at) == (0, None)
    let_days_pass(0.1, start=start)
    assert len(mail.outbox) == 1


def test_refused_refresh_token_leads_to_the_mail(tenant: Tenant, ada: User, ring: ScriptedRing):
    """From Ring's answer on, nothing by hand."""
    account = make_linked_account(tenant, ada, ring_id="ava1.ring.account.ADA1", now=timezone.now())
    ring.script["refresh"] = [(400, {"error": "invalid_grant"})]
    with pytest.raises(NotLinked):
        fresh_access_token(account, force=True)
    account.refresh_from_db()
    assert account.state == State.RELINK_REQUIRED
    let_days_pass(0, start=timezone.now())
    assert len(mail.outbox) == 1


def test_page_says_it_once(broken: RingAccount, ada: User, ada_client: Client):
    Membership.objects.create(tenant=broken.tenant, user=ada, role=Role.CUSTOMER)
    for path in ("/t/acme/", "/t/acme/devices/", "/t/acme/events/"):
        page = ada_client.get(path).content.decode()
        assert page.count("Ring asks you to link again") == 1
        assert "under Apps, remove Acme and add it again" in page


def test_admins_are_told_of_tokens_that_nobody_renews(tenant: Tenant, ada: User):
    account = make_linked_account(tenant, ada, ring_id="ava1.ring.account.ADA1", now=timezone.now())
    browsers = {}
    for role in (Role.ADMIN, Role.OPERATOR):
        member = make_user(f"{role}@acme.example")
        Membership.objects.create(tenant=tenant, user=member, role=role)
        browsers[role] = Client()
        browsers[role].force_login(member, backend="django.contrib.auth.backends.ModelBackend")
    words = "has not been renewed for 25 days"
    assert words not in browsers[Role.ADMIN].get("/t/acme/").content.decode()
    RingAccount.objects.filter(pk=account.pk).update(tokens_obtained_at=timezone.now() - 26 * DAY)
    assert words in browsers[Role.ADMIN].get("/t/acme/").content.decode()
    assert words not in browsers[Role.OPERATOR].get("/t/acme/").content.decode()


# --- the address Ring shows -------------------------------------------------------------------------------------


@pytest.fixture
def linked(
    tenant: Tenant, ada: User, ring: ScriptedRing, linking: Linking, ada_client: Client
) -> RingAccount:
    """Ada's account, linked through the scripted Ring."""
    linking.send_code()
    linking.arrive(ada_client)
    ada_client.post("/t/acme/link/")
    account = linking.account
    assert account.state == State.LINKED
    return account


def change_address(user: User, email: str) -> None:
    user.email = email
    user.save(update_fields=["email"])


def test_new_address_is_told_to_ring(linked: RingAccount, ada: User, ring: ScriptedRing):
    change_address(ada, "countess@elsewhere.example")
    tell_identifier_task.func(linked.pk)
    linked.refresh_from_db()
    assert linked.account_identifier == "c***s@elsewhere.example"
    assert ring.seen[-1] == (
        "PATCH app-integrations",
        {"account_identifier": "c***s@elsewhere.example"},
    )
    assert linked.next_attempt_at is None
    assert AuditEntry.objects.filter(action="link.identifier_changed").count() == 1


def test_ring_that_is_away_is_told_later(linked: RingAccount, ada: User, ring: ScriptedRing):
    change_address(ada, "countess@elsewhere.example")
    ring.script["PATCH app-integrations"] = [(503, {})] * 8
    tell_identifier_task.func(linked.pk)
    linked.refresh_from_db()
    assert linked.account_identifier == "a***a@customer.example"
    assert linked.next_attempt_at is not None
    ring.script.clear()
    RingAccount.objects.filter(pk=linked.pk).update(next_attempt_at=timezone.now())
    sweep_identifiers.func()
    tell_identifier_task.func(linked.pk)
    linked.refresh_from_db()
    assert linked.account_identifier == "c***s@elsewhere.example"


def test_address_changed_before_the_link_was_complete_is_told_then(
    ada: User, ring: ScriptedRing, linking: Linking, ada_client: Client
):
    linking.send_code()
    linking.arrive(ada_client)
    ring.script["PATCH app-integrations"] = [(503, {})] * 8
    ada_client.post("/t/acme/link/")
    account: RingAccount = linking.account
    assert account.state == State.AWAITING
    change_address(ada, "countess@elsewhere.example")
    ring.script.clear()
    confirm_link_from_ring(account, timezone.now())
    tell_identifier_task.func(account.pk)
    account.refresh_from_db()
    assert account.account_identifier == "c***s@elsewhere.example"


def test_signing_in_tells_nothing(linked: RingAccount, ada: User):
    ada.last_login = timezone.now()
    ada.save(update_fields=["last_login"])
    ada.first_name = "Ada"
    ada.save()
    linked.refresh_from_db()
    assert linked.next_attempt_at is None


def test_other_people_s_links_are_not_touched(linked: RingAccount, ada: User):
    other = make_tenant("other")
    theirs = make_linked_account(other, make_user("ben@customer.example"), ring_id="ava1.ring.account.BEN1")
    change_address(ada, "countess@elsewhere.example")
    theirs.refresh_from_db()
    assert theirs.next_attempt_at is None
