"""Secrets at rest: encrypted, bound to their place, rotated by adding a key (feature A5)."""

import base64
import os

from django.core.exceptions import FieldError
from django.core.serializers import serialize
from django.db import connection, transaction

import pytest

from accounts.models import RingApp
from portal.fields import DecryptionError, Keyring, keyring
from tests.support.cast import make_tenant

pytestmark = pytest.mark.django_db


def new_key() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


@pytest.fixture
def app() -> RingApp:
    return make_tenant("acme", signing_key="canary-key").ring_app


def raw(app: RingApp, column: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM accounts_ringapp WHERE id = %s", [app.pk])  # noqa: S608 - ours
        return str(cursor.fetchone()[0])


def put_raw(app: RingApp, column: str, value: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE accounts_ringapp SET {column} = %s WHERE id = %s", [value, app.pk])  # noqa: S608


def test_python_sees_the_text_and_the_database_does_not(app):
    stored = raw(app, "signing_key")
    assert stored.startswith(f"v1.{keyring().newest_id}.")
    assert "canary-key" not in stored
    assert RingApp.objects.get().signing_key == "canary-key"


def test_an_empty_text_stays_empty(app):
    assert raw(app, "previous_signing_key") == ""
    assert RingApp.objects.get().previous_signing_key == ""


def test_the_same_text_is_never_stored_twice_the_same(app):
    before = raw(app, "signing_key")
    app.signing_key = "canary-key"
    app.save()
    assert raw(app, "signing_key") != before


def test_saving_what_nobody_read_keeps_the_ciphertext(app):
    before = raw(app, "signing_key")
    loaded = RingApp.objects.get()
    loaded.client_id = "another"
    loaded.save()
    assert raw(app, "signing_key") == before
    assert RingApp.objects.get().signing_key == "canary-key"


def test_a_deferred_field_is_read_when_it_is_asked_for(app):
    assert RingApp.objects.defer("signing_key").get().signing_key == "canary-key"


def test_ciphertext_moved_to_another_row_or_column_is_not_read(app):
    other = make_tenant("birch").ring_app
    put_raw(other, "signing_key", raw(app, "signing_key"))
    with pytest.raises(DecryptionError, match="changed or belongs elsewhere"):
        _ = RingApp.objects.get(pk=other.pk).signing_key

    put_raw(app, "client_secret", raw(app, "signing_key"))
    with pytest.raises(DecryptionError):
        _ = RingApp.objects.get(pk=app.pk).client_secret


def test_a_changed_byte_is_noticed(app):
    stored = raw(app, "signing_key")
    sealed = bytearray(base64.urlsafe_b64decode(stored.split(".")[2]))
    sealed[-1] ^= 1
    put_raw(app, "signing_key", stored.rsplit(".", 1)[0] + "." + base64.urlsafe_b64encode(sealed).decode())
    with pytest.raises(DecryptionError):
        _ = RingApp.objects.get().signing_key


@pytest.mark.parametrize("value", ["clear text", "v1.00000000.AAAA", "v2.x.y", "v1.a.b.c"])
def test_what_is_not_ours_is_not_read_and_not_shown(app, value):
    put_raw(app, "signing_key", value)
    with pytest.raises(DecryptionError) as error:
        _ = RingApp.objects.get().signing_key
    assert value not in str(error.value)


def test_update_and_filter_are_refused(app):
    with pytest.raises(FieldError), transaction.atomic():
        RingApp.objects.update(signing_key="in clear")
    with pytest.raises(FieldError), transaction.atomic():
        RingApp.objects.filter(signing_key="canary-key").exists()
    assert RingApp.objects.get().signing_key == "canary-key"


def test_serializers_see_the_ciphertext(app):
    text = serialize("json", RingApp.objects.all())
    assert "canary-key" not in text
    assert "acme-secret" not in text


def test_a_new_key_writes_and_the_old_one_still_reads(app, settings):
    old = raw(app, "signing_key")
    settings.FIELD_ENCRYPTION_KEYS = (new_key(), *settings.FIELD_ENCRYPTION_KEYS)
    loaded = RingApp.objects.get()
    assert loaded.signing_key == "canary-key"
    loaded.signing_key = "canary-key"
    loaded.save()
    assert raw(app, "signing_key").split(".")[1] == keyring().newest_id != old.split(".")[1]


def test_without_its_key_a_value_is_lost_and_says_so(app, settings):
    settings.FIELD_ENCRYPTION_KEYS = (new_key(),)
    with pytest.raises(DecryptionError, match="No key"):
        _ = RingApp.objects.get().signing_key


def test_a_keyring_reads_only_at_the_place_it_wrote_for():
    ring = Keyring((new_key(),))
    stored = ring.encrypt("Grüße", place="table:row:column")
    assert ring.decrypt(stored, place="table:row:column") == "Grüße"
    with pytest.raises(DecryptionError):
        ring.decrypt(stored, place="table:row:other")
