from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def name_by_reference(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Entries from before the chain call their actor by reference too, and wait for the sweep to chain them."""
    from accounts.audit import seal_waiting

    entries = apps.get_model("accounts", "AuditEntry").objects.select_related("tenant").order_by("pk")
    persons = apps.get_model("accounts", "AuditPerson").objects
    for entry in entries.iterator():
        if entry.actor_id is not None:
            person, _ = persons.get_or_create(tenant_id=entry.tenant_id, user_id=entry.actor_id)
            entry.actor_ref = person.public_id
        entry.hash = seal_waiting(entry, entry.tenant)
        entry.save(update_fields=["actor_ref", "hash"])


class Migration(migrations.Migration):
    dependencies = [("accounts", "0005_audit_chain")]

    # Backwards nothing is to be done: the column with the name is still there.
    operations = [migrations.RunPython(name_by_reference, migrations.RunPython.noop)]
