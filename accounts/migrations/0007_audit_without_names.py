from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("accounts", "0006_audit_people")]

    operations = [migrations.RemoveField(model_name="auditentry", name="actor")]
