"""Second factors set up before their secrets were encrypted: encrypt them where they lie."""

from typing import Any

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

from portal.fields import keyring

PLACE = "mfa_authenticator"  # as in accounts/mfa_adapter.py
SECRETS = ("secret", "seed")


def _rewrite(apps: Apps, change: Any) -> None:
    for row in apps.get_model("mfa", "Authenticator").objects.exclude(type="webauthn").iterator():
        row.data = {name: change(value) if name in SECRETS else value for name, value in row.data.items()}
        row.save(update_fields=["data"])


def encrypt(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    ring = keyring()
    _rewrite(apps, lambda text: text if text.startswith("v1.") else ring.encrypt(text, place=PLACE))


def decrypt(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    ring = keyring()
    _rewrite(apps, lambda text: ring.decrypt(text, place=PLACE) if text.startswith("v1.") else text)


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0008_second_factor_and_partner_links"),
        ("mfa", "0003_authenticator_type_uniq"),
    ]
    operations = [migrations.RunPython(encrypt, decrypt)]
