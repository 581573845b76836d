"""A person comes from Ring, signs in or up, confirms, and sees how it went (contract 2.5 to 2.9, features A2, A9)."""

from datetime import timedelta

from django.test import Client
from django.utils import timezone

import pytest

from accounts import erasure, link_pages
from accounts.data_tasks import run_erasure
from accounts.models import AuditEntry, AuditPerson, Erasure, Membership, RingAccount, RingApp, Role, User
from accounts.refusals import TEXTS, Refusal
from accounts.tests.conftest import Linking, make_query
from accounts.tests.scripted_ring import LOST, error
from devices.models import Device
from events.models import Event
from events.tests.conftest import body_of, post_webhook
from events.threads import in_thread
from tests.support.cast import PASSWORD, make_camera, make_membership, make_tenant, make_user

State = RingAccount.State
POST, PATCH = "POST app-integrations", "PATCH app-integrations"
CONFIRM = "/t/acme/link/"

pytestmark = pytest.mark.django_db


def refused_as(answer, reason: Refusal) -> bool:
    text = TEXTS[reason]
    page = answer.content.decode().replace("&#x27;", "'")
    return answer.status_code == text.status and text.title in page and text.what_to_do in page


def reasons() -> list[str]:
    entries = AuditEntry.objects.filter(action="link.refused").order_by("pk")
    return [entry.detail["reason"] for entry in entries]


# --- arriving ------------------------------------------------------------------------------------------------------


def test_a_stranger_is_offered_to_create_an_account_first_and_to_sign_in(
    linking: Linking, make_unclaimed, client
):
    account = make_unclaimed()
    linking.arrive(client)

    page = linking.answer.content.decode()
    assert linking.answer.status_code == 200
    assert "Welcome, Ada." in page
    signup, login = (
        page.index("/accounts/signup/?next=%2Ft%2Facme%2Flink%2F"),
        page.index("/accounts/login/?next="),
    )
    assert signup < login
    account.refresh_from_db()
    assert (account.state, account.user) == (State.UNCLAIMED, None), "coming changes nothing"
    assert "no-store" in linking.answer.headers["Cache-Control"]


def test_somebody_signed_in_is_asked_to_confirm_and_nothing_is_claimed_by_asking(
    linking: Linking, make_unclaimed, ada_client
):
    make_unclaimed()
    query = linking.arrive(ada_client)
    assert linking.answer.status_code == 302
    assert linking.answer.headers["Location"] == CONFIRM

    page = ada_client.get(CONFIRM)
    text = page.content.decode()
    assert page.status_code == 200
    assert "Link Ada\N{RIGHT SINGLE QUOTATION MARK}s Ring account?" in text
    assert "ada@customer.example" in text
    assert "a***a@customer.example" in text
    assert query.nonce not in text
    assert linking.account.state == State.UNCLAIMED
    assert not Membership.objects.exists()
    assert not linking.ring.seen


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"nonce": "x" * 43},
        {"time": "1790000000000"},
        {"nonce": "x" * 42, "time": "1790000000000"},
        {"nonce": "x" * 42 + "=", "time": "1790000000000"},
        {"nonce": ["x" * 43] * 2, "time": "1790000000000"},
        {"nonce": "x" * 43, "time": "179000000000"},
        {"nonce": "x" * 43, "time": "\N{FULLWIDTH DIGIT ONE}790000000000"},
    ],
)
def test_an_incomplete_link_says_so(linking: Linking, client, parameters):
    assert refused_as(client.get("/ring/acme/link", parameters), Refusal.MALFORMED)
    assert reasons() == [Refusal.MALFORMED]
    assert not client.session.get("ring_links")


@pytest.mark.parametrize(
    ("age", "reason"),
    [(timedelta(seconds=602), Refusal.STALE), (timedelta(seconds=-9), Refusal.FUTURE)],
)
def test_a_stale_or_future_link_is_refused_on_arrival(linking: Linking, make_unclaimed, client, age, reason):
    make_unclaimed()
    linking.arrive(client, make_query(linking.tenant, linking.ring.account_id, at=timezone.now() - age))
    assert refused_as(linking.answer, reason)
    assert reasons() == [reason]


def test_a_tenant_without_credentials_says_that_it_is_not_ready(linking: Linking, client):
    query = make_query(linking.tenant, linking.ring.account_id)
    linking.tenant.ring_app.delete()
    linking.arrive(client, query)
    assert refused_as(linking.answer, Refusal.NOT_SET_UP)


def test_unknown_tenants_are_not_found_and_nobody_may_post_there(linking: Linking, client):
    assert client.get("/ring/nobody/link").status_code == 404
    assert client.get("/ring/nobody/home").status_code == 404
    assert client.post("/ring/acme/link").status_code == 405


BAD_LINK, BAD_ANSWER = "/ring/acme/link", "/accounts/ring/acme/login/callback/"


def test_bad_links_do_not_fill_the_trail_without_end(
    linking: Linking, ada: User, ada_client: Client, monkeypatch: pytest.MonkeyPatch
):
    RingApp.objects.update(partner_initiated=True)
    monkeypatch.setattr(link_pages, "RECORDED_OF_ONE", 3)
    monkeypatch.setattr(link_pages, "RECORDED_OF_STRANGERS", 5)
    for path in (BAD_LINK, BAD_ANSWER) * 4:
        assert Client(REMOTE_ADDR="192.0.2.1").get(path).status_code == 400
    assert len(reasons()) == 3, "of one address, whichever page it asks for"
    for number in range(2, 9):
        Client(REMOTE_ADDR=f"192.0.2.{number}").get(BAD_LINK)
    assert len(reasons()) == 5, "of all addresses together"

    make_tenant("globex")
    Client(REMOTE_ADDR="192.0.2.1").get("/ring/globex/link")
    assert len(reasons()) == 6, "one company's flood is not another's"
    for _ in range(4):
        assert ada_client.get(BAD_LINK).status_code == 400
    assert len(reasons()) == 9, "and keeps nobody's own refusals out, who is signed in"


def test_the_log_says_once_how_many_refusals_were_left_out(
    linking: Linking, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(link_pages, "RECORDED_OF_ONE", 3)
    clock = [1_800_000_000.0]
    monkeypatch.setattr("accounts.limits.time", lambda: clock[0])
    for _ in range(10):
        client.get(BAD_LINK)
    assert caplog.text.count("A link was refused") == 3, "a flood does not fill the log either"

    clock[0] += 3600
    for _ in range(5):
        client.get(BAD_LINK)
    [line] = [text for text in caplog.messages if "left out" in text]
    assert line.endswith("count=7")
    assert len(reasons()) == 6


# --- confirming ----------------------------------------------------------------------------------------------------


def confirm(client: Client):
    return client.post(CONFIRM)


def test_while_ones_data_is_deleted_linking_is_refused_with_the_reason(
    linking: Linking, make_unclaimed, ada, ada_client
):
    Membership.objects.create(tenant=linking.tenant, user=ada, role=Role.CUSTOMER)
    account = make_unclaimed()
    linking.arrive(ada_client)
    begun = erasure.erase_person(tenant=linking.tenant, user=ada, now=timezone.now())

    assert refused_as(confirm(ada_client), Refusal.BEING_DELETED)
    account.refresh_from_db()
    assert (account.state, account.user) == (State.UNCLAIMED, None)
    run_erasure.func(begun.pk)
    assert not AuditPerson.objects.filter(user=ada).exists(), "the refusal names nobody who is deleted"

    linking.arrive(ada_client)
    assert confirm(ada_client).status_code == 302, "afterwards one may come back"
    assert linking.account.state == State.LINKED


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_company_takes_links_until_its_deletion_begins(
    linking: Linking, make_unclaimed, ada, ada_client, has_begun: bool
):
    make_unclaimed()
    linking.arrive(ada_client)
    now = timezone.now()
    begun = erasure.erase_tenant(tenant=linking.tenant, actor=ada, now=now)
    if has_begun:
        Erasure.objects.filter(pk=begun.pk).update(next_attempt_at=now)

    answer = confirm(ada_client)
    assert refused_as(answer, Refusal.BEING_DELETED) if has_begun else answer.status_code == 302


def test_confirming_links_and_shows_the_devices(linking: Linking, make_unclaimed, ada, ada_client):
    make_unclaimed()
    linking.arrive(ada_client)
    answer = confirm(ada_client)

    account = linking.account
    assert account.state == State.LINKED
    linked_url = f"/t/acme/linked/{account.public_id}/"
    assert answer.headers["Location"] == linked_url
    assert Membership.objects.get(user=ada).role == Role.CUSTOMER

    page = ada_client.get(linked_url).content.decode()
    assert "Your Ring account is linked" in page
    assert "Fetching your devices" in page
    assert 'hx-trigger="every 2s"' in page

    RingAccount.objects.update(synced_at=timezone.now())
    page = ada_client.get(linked_url).content.decode()
    assert "Ring shares no device with us yet" in page
    assert 'hx-trigger="every 10s"' in page, "what is shared in the Ring app now appears by itself"

    make_camera(account, "Front Door", now=timezone.now())
    make_camera(account, "Garage", now=timezone.now())
    Device.objects.filter(name="Garage").update(online=False)
    part = ada_client.get(linked_url, headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in part
    assert "hx-trigger" not in part
    assert part.index("Front Door") < part.index("Online") < part.index("Garage") < part.index("Offline")
    assert "Finish" in part


def test_the_claim_needs_a_csrf_token(linking: Linking, make_unclaimed, ada):
    client = Client(enforce_csrf_checks=True)
    client.login(username=ada.email, password=PASSWORD)
    make_unclaimed()
    linking.arrive(client)
    assert confirm(client).status_code == 403
    assert linking.account.state == State.UNCLAIMED


def test_confirming_needs_somebody_signed_in(linking: Linking, make_unclaimed, client):
    make_unclaimed()
    linking.arrive(client)
    answer = confirm(client)
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"/accounts/login/?next={CONFIRM}"
    assert linking.account.state == State.UNCLAIMED


def test_a_second_click_and_the_back_button_lead_to_the_same_page(
    linking: Linking, make_unclaimed, ada_client
):
    make_unclaimed()
    query = linking.arrive(ada_client)
    first = confirm(ada_client)
    again = confirm(ada_client)  # the link is used up, but this browser knows what it claimed
    assert again.headers["Location"] == first.headers["Location"]

    linking.arrive(ada_client, query)  # the same address from Ring once more
    assert confirm(ada_client).headers["Location"] == first.headers["Location"]
    assert linking.ring.counts[POST] == 1


def test_without_a_link_from_ring_there_is_nothing_to_confirm(linking: Linking, ada_client):
    assert refused_as(ada_client.get(CONFIRM), Refusal.NO_PENDING)
    assert refused_as(confirm(ada_client), Refusal.NO_PENDING)


def test_a_link_of_one_tenant_confirms_nothing_at_another(linking: Linking, make_unclaimed, ada_client):
    make_tenant("birch")
    make_unclaimed()
    linking.arrive(ada_client)
    assert refused_as(ada_client.post("/t/birch/link/"), Refusal.NO_PENDING)
    assert linking.account.state == State.UNCLAIMED


def test_no_match_is_refused_and_the_dead_link_dropped(linking: Linking, ada_client):
    linking.arrive(ada_client)
    assert refused_as(confirm(ada_client), Refusal.NO_MATCH)
    assert refused_as(ada_client.get(CONFIRM), Refusal.NO_PENDING)
    assert reasons() == [Refusal.NO_MATCH, Refusal.NO_PENDING]


def test_a_link_that_grew_old_during_sign_up_is_refused_at_the_claim(
    linking, make_unclaimed, ada_client, monkeypatch
):
    make_unclaimed()
    linking.arrive(ada_client)
    later = timezone.now() + timedelta(minutes=11)
    monkeypatch.setattr("accounts.views.timezone.now", lambda: later)
    assert refused_as(confirm(ada_client), Refusal.STALE)


def test_somebody_elses_ring_account_is_refused(linking: Linking, make_unclaimed, ada_client):
    make_unclaimed(user=make_user("eve@elsewhere.example"), linked_at=timezone.now())
    linking.arrive(ada_client)
    page = ada_client.get(CONFIRM)
    assert refused_as(page, Refusal.SOMEONE_ELSE)
    assert b"eve@" not in page.content


def test_tokens_on_their_way_can_be_tried_again_with_the_same_link(linking, ada_client):
    linking.ring.script["me"] = [(500, {})]
    linking.send_code()
    linking.arrive(ada_client)
    answer = confirm(ada_client)
    assert refused_as(answer, Refusal.NOT_YET)
    assert b"Try again" in answer.content
    assert ada_client.get(CONFIRM).status_code == 200


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (error(404, "Not Found"), Refusal.NOT_INSTALLED),
        (error(400, "Invalid Nonce"), Refusal.RING_NONCE),
        (error(403, "Forbidden"), Refusal.RING_REFUSED),
    ],
)
def test_rings_no_is_explained_and_nothing_is_half_done(linking, make_unclaimed, ada_client, answer, reason):
    make_unclaimed()
    linking.arrive(ada_client)
    linking.ring.script[POST] = [answer]
    assert refused_as(confirm(ada_client), reason)
    assert (linking.account.state, linking.account.user) == (State.UNCLAIMED, None)
    assert reasons() == [reason], "recorded once"

    linking.arrive(ada_client)
    assert confirm(ada_client).status_code == 302
    assert linking.account.state == State.LINKED


@pytest.mark.parametrize("call", [POST, PATCH])
def test_an_unreachable_ring_shows_finishing_and_the_button_finishes(
    linking, make_unclaimed, ada_client, call
):
    make_unclaimed()
    linking.arrive(ada_client)
    linking.ring.script[call] = [(LOST, None)]
    url = confirm(ada_client).headers["Location"]

    page = ada_client.get(url).content.decode()
    assert "Finishing your link" in page
    assert 'hx-trigger="every 2s"' in page
    assert '<meta http-equiv="refresh"' in page, "it follows without scripts too"
    home = ada_client.get("/t/acme/settings/").content.decode()
    assert "Ring has not answered. We keep trying." in home

    answer = ada_client.post(f"{url}finish/")
    assert answer.headers["Location"] == url
    assert linking.account.state == State.LINKED
    assert linking.ring.counts[call] == 2


def test_a_no_that_comes_while_the_page_waits_is_shown_there(linking, make_unclaimed, ada_client):
    make_unclaimed()
    linking.arrive(ada_client)
    linking.ring.script[POST] = [(500, {}), error(404, "Not Found")]
    url = confirm(ada_client).headers["Location"]
    ada_client.post(f"{url}finish/")
    assert linking.account.user is None
    assert TEXTS[Refusal.NOT_INSTALLED].title in ada_client.get(url).content.decode()


def test_nobody_else_sees_or_finishes_a_persons_link(linking, make_unclaimed, ada_client, client):
    make_unclaimed()
    linking.arrive(ada_client)
    linking.ring.script[POST] = [(500, {})]
    url = confirm(ada_client).headers["Location"]
    for role in (Role.OWNER, Role.OPERATOR, Role.CUSTOMER):
        other = make_user(f"{role}@acme.example")
        Membership.objects.create(tenant=linking.tenant, user=other, role=role)
        client.force_login(other)
        assert client.get(url).status_code == 404
        assert client.post(f"{url}finish/").status_code == 404
    outsider = make_user("outsider@elsewhere.example")
    client.force_login(outsider)
    assert client.get(url).status_code == 404


# --- signing in and up on the way ------------------------------------------------------------------------------------


def test_the_link_survives_signing_in(linking: Linking, make_unclaimed, ada, client):
    make_unclaimed()
    linking.arrive(client)
    answer = client.post(f"/accounts/login/?next={CONFIRM}", {"login": ada.email, "password": PASSWORD})
    assert answer.headers["Location"] == CONFIRM
    assert client.get(CONFIRM).status_code == 200
    confirm(client)
    assert linking.account.user == ada


def test_the_link_survives_signing_up_with_rings_address_filled_in(linking: Linking, make_unclaimed, client):
    make_unclaimed()
    linking.arrive(client)
    form = client.get(f"/accounts/signup/?next={CONFIRM}").content.decode()
    assert 'value="ada.lovelace@ring.example"' in form

    answer = client.post(
        f"/accounts/signup/?next={CONFIRM}",
        {"email": "ada.lovelace@ring.example", "password1": "a long enough phrase"},
    )
    assert answer.status_code == 302
    assert answer.headers["Location"] == CONFIRM, "no mail has to arrive before one may go on"
    confirm(client)
    assert linking.account.state == State.LINKED
    assert str(linking.account.user) == "ada.lovelace@ring.example"


def test_who_has_an_account_already_is_told_so_and_keeps_the_link(
    linking: Linking, make_unclaimed, ada, client
):
    make_unclaimed()
    linking.arrive(client)
    answer = client.post("/accounts/signup/", {"email": ada.email, "password1": "a long enough phrase"})
    assert answer.status_code == 200
    assert b"your link is kept" in answer.content
    client.post(f"/accounts/login/?next={CONFIRM}", {"login": ada.email, "password": PASSWORD})
    confirm(client)
    assert linking.account.user == ada


def test_an_address_is_filled_in_for_nobody_who_did_not_come_with_a_good_link(
    linking, make_unclaimed, client
):
    make_unclaimed()
    linking.arrive(client, make_query(linking.tenant, "ava1.ring.account.EVE1"))
    assert b"ada.lovelace@ring.example" not in client.get("/accounts/signup/").content


def test_the_link_survives_changing_to_another_account(linking: Linking, make_unclaimed, ada, ada_client):
    make_unclaimed()
    linking.arrive(ada_client)
    answer = ada_client.post(f"{CONFIRM}switch/")
    assert answer.headers["Location"] == f"/accounts/login/?next={CONFIRM}"
    assert "_auth_user_id" not in ada_client.session

    ben = make_user("ben@customer.example")
    ada_client.post(f"/accounts/login/?next={CONFIRM}", {"login": ben.email, "password": PASSWORD})
    confirm(ada_client)
    assert linking.account.user == ben


@pytest.mark.django_db(transaction=True)
async def test_webhooks_that_came_before_the_claim_are_attached_by_it_and_shown(
    linking: Linking, make_unclaimed, ada_client
):
    linking.ring.account_id = "ava1.ring.account.AAAABBBBCCCC"  # the recorded webhooks' own
    document = body_of("button_press", request=1)

    def arrive_after_the_webhook() -> None:
        account = make_unclaimed(ring_id=linking.ring.account_id)
        assert Event.objects.get().ring_account is None, "it is nobody's yet"
        ben = make_membership(linking.tenant, "ben@customer.example", Role.CUSTOMER)
        bens.force_login(ben.user)
        assert str(Event.objects.get().public_id) not in listed(bens)
        assert ada_client.get("/t/acme/events/").status_code == 404
        linking.arrive(ada_client)
        assert confirm(ada_client).status_code == 302
        assert Event.objects.get().ring_account == account

    def listed(client: Client) -> str:
        return str(client.get("/t/acme/events/").content.decode())

    bens = Client()
    assert (await post_webhook(document)).status == 200
    await in_thread(arrive_after_the_webhook)
    event = await in_thread(Event.objects.get)
    assert f"/t/acme/events/{event.public_id}/" in await in_thread(listed, ada_client)
    assert str(event.public_id) not in await in_thread(listed, bens)
    page = await in_thread(ada_client.get, f"/t/acme/events/{event.public_id}/")
    assert page.status_code == 200

    # Ring sends it once more: still one event, still hers.
    assert (await post_webhook(document)).status == 200
    assert await in_thread(Event.objects.count) == 1


def test_the_home_page_shows_members_in_and_tells_others_what_this_is(linking, ada, ada_client, client):
    page = client.get("/ring/acme/home").content.decode()
    assert page.index("Create account") < page.index("Sign in")
    assert "No Ring account linked yet" in ada_client.get("/ring/acme/home").content.decode()
    Membership.objects.create(tenant=linking.tenant, user=ada, role=Role.CUSTOMER)
    assert ada_client.get("/ring/acme/home").headers["Location"] == "/t/acme/"


def by_code(user) -> str:
    """Give the person an authenticator app; the secret it shares."""
    from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret

    secret = generate_totp_secret()
    TOTP.activate(user, secret)
    return str(secret)


def test_the_link_survives_a_second_step_with_a_code(linking: Linking, make_unclaimed, ada, client):
    from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time

    secret = by_code(ada)
    make_unclaimed()
    linking.arrive(client)
    answer = client.post(f"/accounts/login/?next={CONFIRM}", {"login": ada.email, "password": PASSWORD})
    assert "/2fa/authenticate" in answer.headers["Location"]
    code = format_hotp_value(hotp_value(secret, next(yield_hotp_counters_from_time())))
    answer = client.post(answer.headers["Location"], {"code": code})
    assert answer.headers["Location"] == CONFIRM
    assert confirm(client).status_code == 302
    assert linking.account.user == ada
    assert linking.account.state == State.LINKED


def test_the_link_survives_verifying_the_address_meanwhile(
    linking: Linking, make_unclaimed, client, mailoutbox
):
    import re

    make_unclaimed()
    linking.arrive(client)
    signup = client.post(
        f"/accounts/signup/?next={CONFIRM}",
        {"email": "new@customer.example", "password1": "a long phrase here"},
    )
    assert signup.headers["Location"] == CONFIRM, "nobody waits for a mail"
    found = re.search(r"http://testserver(/accounts/confirm-email/\S+)", mailoutbox[-1].body)
    assert found
    page = client.get(found.group(1))
    assert page.status_code == 200
    assert client.post(found.group(1)).status_code == 302
    assert client.get(CONFIRM).status_code == 200
    confirm(client)
    assert linking.account.state == State.LINKED


def test_the_link_survives_an_installation_that_demands_a_verified_address(
    linking: Linking, make_unclaimed, client, mailoutbox, settings
):
    import re

    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    make_unclaimed()
    linking.arrive(client)
    signup = client.post(
        f"/accounts/signup/?next={CONFIRM}",
        {"email": "new@customer.example", "password1": "a long phrase here"},
    )
    assert signup.headers["Location"] == "/accounts/confirm-email/"
    found = re.search(r"http://testserver(/accounts/confirm-email/\S+)", mailoutbox[-1].body)
    assert found
    client.post(found.group(1))
    client.post(
        f"/accounts/login/?next={CONFIRM}",
        {"login": "new@customer.example", "password": "a long phrase here"},
    )
    assert client.get(CONFIRM).status_code == 200
    confirm(client)
    assert linking.account.state == State.LINKED


# --- each refusal's one next step --------------------------------------------------------------------------------------


def buttons(page: str) -> list[str]:
    import re

    return re.findall(r'class="button button-primary[^>]*>(?:<svg.*?</svg>)?([^<]+)<', page, re.DOTALL)


def test_signed_in_as_someone_else_one_changes_over_and_keeps_the_link(
    linking: Linking, make_unclaimed, ada, client
):
    make_unclaimed(user=ada, linked_at=timezone.now())
    eve = make_user("eve@elsewhere.example")
    client.force_login(eve, backend="django.contrib.auth.backends.ModelBackend")
    linking.arrive(client)
    page = client.get(CONFIRM)
    assert refused_as(page, Refusal.SOMEONE_ELSE)
    text = page.content.decode()
    assert buttons(text) == ["Sign in as someone else"]
    assert "eve@elsewhere.example" in text
    assert ada.email not in text

    answer = client.post(f"{CONFIRM}switch/")
    client.post(answer.headers["Location"], {"login": ada.email, "password": PASSWORD})
    assert confirm(client).status_code == 302
    assert (linking.account.user, linking.account.state) == (ada, State.LINKED)


def test_a_link_that_is_linked_already_leads_to_the_devices(
    linking: Linking, make_unclaimed, ada, ada_client
):
    Membership.objects.create(tenant=linking.tenant, user=ada, role=Role.CUSTOMER)
    make_unclaimed(user=ada, linked_at=timezone.now(), state=State.LINKED)
    linking.arrive(ada_client)
    page = ada_client.get(CONFIRM)
    assert refused_as(page, Refusal.ALREADY_LINKED)
    assert buttons(page.content.decode()) == ["To your devices"]
    assert not linking.ring.seen


def test_a_ring_account_of_another_tenant_is_refused_without_a_word_about_it(
    linking: Linking, make_unclaimed, ada_client
):
    birch = make_tenant("birch")
    eve = make_user("eve@elsewhere.example")
    make_unclaimed(tenant=birch, user=eve, linked_at=timezone.now(), state=State.LINKED)
    make_unclaimed()
    linking.arrive(ada_client)
    page = confirm(ada_client)
    assert refused_as(page, Refusal.ELSEWHERE)
    text = page.content.decode().lower()
    assert "birch" not in text
    assert "eve@" not in text


@pytest.mark.parametrize("role", [Role.OWNER, Role.OPERATOR])
def test_who_works_for_the_company_is_warned_before_a_customers_account_becomes_theirs(
    linking: Linking, make_unclaimed, ada, ada_client, role
):
    Membership.objects.create(tenant=linking.tenant, user=ada, role=role)
    make_unclaimed()
    linking.arrive(ada_client)
    page = ada_client.get(CONFIRM).content.decode()
    assert "You are signed in with an account for work." in page
    assert "Use another account" in page


def test_a_disconnected_account_that_signs_in_again_is_told_to_add_the_app_anew(
    linking: Linking, make_unclaimed, ada, ada_client
):
    make_unclaimed(
        user=ada, linked_at=timezone.now(), state=State.UNLINKED, access_token="", refresh_token=""
    )
    linking.arrive(ada_client)
    assert refused_as(ada_client.get(CONFIRM), Refusal.LINK_AGAIN)


@pytest.mark.parametrize("reason", list(Refusal))
def test_every_refusal_says_what_happened_how_things_are_and_one_next_step(reason):
    text = TEXTS[reason]
    assert all((text.title, text.what_happened, text.how_things_are, text.what_to_do))
    assert 400 <= text.status < 600
