"""The settings of a Django project that has django-celery-beat and nothing else."""

import os

from psycopg.conninfo import conninfo_to_dict

_target = conninfo_to_dict(os.environ["BENCH_DSN"])

SECRET_KEY = "bench"  # noqa: S105  guards nothing
INSTALLED_APPS = ["django.contrib.contenttypes", "django_celery_beat"]
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _target["dbname"],
        "USER": _target["user"],
        "PASSWORD": _target["password"],
        "HOST": _target["host"],
        "PORT": _target["port"],
        "CONN_MAX_AGE": None,
    }
}
