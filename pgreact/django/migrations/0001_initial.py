"""The schema. A later file of ``sql/migrations`` is named by a later migration."""

from django.db import migrations

from pgreact.django.schema import UpgradeSchema


class Migration(migrations.Migration):
    """Makes the schema, or records one that ``pgreact apply`` made."""

    initial = True
    dependencies = ()
    operations = (UpgradeSchema(("0001_wakeups", "0002_queue", "0003_timetable", "0004_operate")),)
