"""Settings of a Django project whose worker runs ``tests.django_tasks``; the environment has databases."""

import json
import os

SECRET_KEY = "the tests need none"  # noqa: S105
INSTALLED_APPS = ["pgreact.django"]
DATABASES = json.loads(os.environ["TASK_DATABASES"])
USE_TZ = True
TASKS = json.loads(os.environ["TASK_TASKS"])
PGREACT = {"APP": "tests.django_app"}
