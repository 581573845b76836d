"""Ring accounts linked before they were connected accounts in allauth: a row for each (accounts/connections.py)."""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def connect(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    connections = apps.get_model("socialaccount", "SocialAccount").objects
    linked = apps.get_model("accounts", "RingAccount").objects.exclude(user=None)
    for account in linked.exclude(state__in=["received", "unlinked"]).select_related("tenant").iterator():
        connections.get_or_create(
            provider=f"ring-{account.tenant.slug}",
            uid=str(account.public_id),
            defaults={"user_id": account.user_id},
        )


def disconnect(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    apps.get_model("socialaccount", "SocialAccount").objects.filter(provider__startswith="ring-").delete()


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0011_on_unlink"),
        ("socialaccount", "0006_alter_socialaccount_extra_data"),
    ]
    operations = [migrations.RunPython(connect, disconnect)]
