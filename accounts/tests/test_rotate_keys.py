"""`manage.py rotate_keys`: online, resumable, and it never overwrites what somebody else wrote meanwhile."""

import base64
import io
import os

from django.conf import LazySettings
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret

from accounts import mfa_adapter
from accounts.models import Membership, RingAccount, RingApp
from portal import rotation, sessions
from portal.fields import DecryptionError, keyring
from tests.support.cast import TenantCast, make_cast

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> TenantCast:
    return make_cast("acme")


@pytest.fixture
def two_keys(acme: TenantCast, settings: LazySettings) -> str:
    """The rows lie under the old key, a new one stands before it; gives the old key's id."""
    old_id = keyring().newest_id
    new_key = base64.urlsafe_b64encode(os.urandom(32)).decode()
    settings.FIELD_ENCRYPTION_KEYS = [new_key, *settings.FIELD_ENCRYPTION_KEYS]
    return old_id


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("rotate_keys", *arguments, stdout=out)
    return out.getvalue()


def stored_anywhere() -> str:
    """Every encrypted column of every table, as the database holds it."""
    found = []
    with connection.cursor() as cursor:
        for model in rotation.models_with_secrets():
            columns = ", ".join(str(field.column) for field in rotation.encrypted_fields(model))
            cursor.execute(f"SELECT {columns} FROM {model._meta.db_table}")  # noqa: S608 - ours
            found += [str(row) for row in cursor.fetchall()]
    return "\n".join(found)


def test_everything_is_under_the_newest_key_and_reads_the_same(two_keys: str, settings: LazySettings):
    with pytest.raises(CommandError, match="still need an older key"):
        run("--check")
    told = run()
    assert "accounts_ringaccount: 4 encrypted anew" in told
    assert "accounts_ringapp: 2 encrypted anew" in told
    assert two_keys not in stored_anywhere()
    assert "accounts_ringapp: 0 under an older key" in run("--check")

    settings.FIELD_ENCRYPTION_KEYS = settings.FIELD_ENCRYPTION_KEYS[:1]
    assert RingApp.objects.get().signing_key == "acme-key"
    account = RingAccount.objects.get(user__email="ada@acme.example")
    assert account.refresh_token == f"refresh-{account.ring_id}"


def test_a_second_run_changes_nothing(two_keys: str):
    run()
    before = stored_anywhere()
    assert "0 encrypted anew" in run()
    assert stored_anywhere() == before


def test_what_another_process_writes_meanwhile_wins(two_keys: str, monkeypatch: pytest.MonkeyPatch):
    """Between reading a value and writing it anew, a refresh stores the next token."""
    account = RingAccount.objects.get(user__email="ada@acme.example")
    real = rotation._old_values

    def interrupted(model):
        for row, field, stored in real(model):
            if model is RingAccount and row.pk == account.pk and field.attname == "refresh_token":
                fresh = RingAccount.objects.get(pk=account.pk)
                fresh.refresh_token = "the-next-one"
                fresh.save(update_fields=["refresh_token"])
            yield row, field, stored

    monkeypatch.setattr(rotation, "_old_values", interrupted)
    with pytest.raises(CommandError, match="1 values still need"):
        run()
    monkeypatch.undo()
    assert RingAccount.objects.get(pk=account.pk).refresh_token == "the-next-one"
    assert "No older key is needed" in run()


def test_value_whose_key_is_gone_is_told_and_left(two_keys: str, settings: LazySettings):
    before = stored_anywhere()
    settings.FIELD_ENCRYPTION_KEYS = settings.FIELD_ENCRYPTION_KEYS[:1]
    with pytest.raises(CommandError, match="Put its key back"):
        run()
    assert stored_anywhere() == before
    with pytest.raises(DecryptionError):
        _ = RingApp.objects.get().signing_key


def test_many_rows_are_done_page_by_page(two_keys: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rotation, "BATCH", 1)
    assert "accounts_ringaccount: 4 encrypted anew" in run()
    assert two_keys not in stored_anywhere()


# --- second factors ---------------------------------------------------------------------------------------------------


@pytest.fixture
def factors(acme: TenantCast) -> Membership:
    """Ada with an authenticator app and recovery codes, their secrets under the key that is old in a moment."""
    TOTP.activate(acme.ada.user, generate_totp_secret())
    RecoveryCodes.activate(acme.ada.user)
    return acme.ada


def test_second_factors_move_to_the_newest_key_too(
    factors: Membership, two_keys: str, settings: LazySettings
):
    codes = RecoveryCodes(Authenticator.objects.get(type="recovery_codes")).get_unused_codes()
    with pytest.raises(CommandError):
        run("--check")
    assert "mfa_authenticator: 2 encrypted anew" in run()
    assert "mfa_authenticator: 0 under an older key" in run("--check")
    assert two_keys not in str(list(Authenticator.objects.values_list("data", flat=True)))
    settings.FIELD_ENCRYPTION_KEYS = settings.FIELD_ENCRYPTION_KEYS[:1]
    assert RecoveryCodes(Authenticator.objects.get(type="recovery_codes")).get_unused_codes() == codes


def test_recovery_code_used_meanwhile_stays_used(
    factors: Membership, two_keys: str, monkeypatch: pytest.MonkeyPatch
):
    """It is used between the list of rows being read and its own row being written."""
    code = RecoveryCodes(Authenticator.objects.get(type="recovery_codes")).get_unused_codes()[0]
    used: list[bool] = []
    real = mfa_adapter._old_secrets

    def interrupted(row):
        if not used:
            used.append(RecoveryCodes(Authenticator.objects.get(type="recovery_codes")).validate_code(code))
        return real(row)

    monkeypatch.setattr(mfa_adapter, "_old_secrets", interrupted)
    run()
    assert used == [True]
    assert not RecoveryCodes(Authenticator.objects.get(type="recovery_codes")).validate_code(code)


# --- what a dump of the database holds --------------------------------------------------------------------------------


def test_a_dump_of_the_database_holds_no_secret(factors: Membership, acme: TenantCast):
    codes = RecoveryCodes(Authenticator.objects.get(type="recovery_codes")).get_unused_codes()
    seed = mfa_adapter.MFAAdapter().decrypt(Authenticator.objects.get(type="totp").data["secret"])
    account = acme.ada_account
    account.claim_nonce = "canary-nonce"
    account.email = "ada.lovelace@ring.example"
    account.save()
    dump = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")  # noqa: S608 - the database's own names
            dump += [repr(row) for row in cursor.fetchall()]
    everything = "\n".join(dump)
    assert account.ring_id in everything  # the dump is one
    for secret in (
        *codes,
        seed,
        "canary-nonce",
        "ada.lovelace@ring.example",
        f"access-{account.ring_id}",
        f"refresh-{account.ring_id}",
        "acme-secret",
        "acme-key",
    ):
        assert secret not in everything


def test_a_ciphertext_moved_to_another_row_or_column_is_refused(acme: TenantCast):
    ada, ben = acme.ada_account, acme.ben_account
    table = RingAccount._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET access_token = (SELECT access_token FROM {table} WHERE id = %s) WHERE id = %s",  # noqa: S608
            [ada.pk, ben.pk],
        )
        cursor.execute(f"UPDATE {table} SET refresh_token = access_token WHERE id = %s", [ada.pk])  # noqa: S608
    with pytest.raises(DecryptionError):
        _ = RingAccount.objects.get(pk=ben.pk).access_token
    with pytest.raises(DecryptionError):
        _ = RingAccount.objects.get(pk=ada.pk).refresh_token


def test_sessions_are_renewed_too_and_whoever_was_signed_in_stays(acme: TenantCast, settings: LazySettings):
    browser = Client()
    browser.force_login(acme.ada.user)
    old_key = settings.FIELD_ENCRYPTION_KEYS[0]
    new_key = base64.urlsafe_b64encode(os.urandom(32)).decode()
    settings.FIELD_ENCRYPTION_KEYS = [new_key, old_key]
    assert browser.get("/t/acme/").status_code == 200
    assert sessions.count_old() == 1

    assert "django_session: 1 encrypted anew" in run()

    settings.FIELD_ENCRYPTION_KEYS = [new_key]
    assert browser.get("/t/acme/").status_code == 200


def test_a_session_whose_key_is_gone_is_nobodys(acme: TenantCast, settings: LazySettings):
    browser = Client()
    browser.force_login(acme.ada.user)
    settings.FIELD_ENCRYPTION_KEYS = [base64.urlsafe_b64encode(os.urandom(32)).decode()]
    assert browser.get("/t/acme/").status_code == 302


def test_a_sessions_text_moved_to_another_session_is_worth_nothing(acme: TenantCast):
    ada, eve = Client(), Client()
    ada.force_login(acme.ada.user)
    eve.force_login(acme.ben.user)
    text = Session.objects.get(pk=ada.session.session_key).session_data
    Session.objects.filter(pk=eve.session.session_key).update(session_data=text)
    assert eve.get("/t/acme/").status_code == 302
