"""The app's configuration: what Django runs when it starts."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate as migrated

from pgreact import settings
from pgreact.django import conf, transactions
from pgreact.django.tasks import startup


class PgreactConfig(AppConfig):
    """Takes pgreact's configuration from Django's settings, and registers the system checks."""

    name = "pgreact.django"
    label = "pgreact"
    verbose_name = "pgreact"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Let commands, daemon, Beat and workers read the setting ``PGREACT`` instead of a file."""
        from pgreact.django import checks, post_migrate, trigger_checks  # noqa: F401 - register checks

        settings.use(conf.given)
        migrated.connect(post_migrate.bring_up_to_date, sender=self)
        post_migrate.watch_tenants()
        transactions.register()
        startup.start()
