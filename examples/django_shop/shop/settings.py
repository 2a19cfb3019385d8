"""Django's settings; the environment names database and broker."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).parent.parent
SECRET_KEY = os.environ.get("SHOP_SECRET_KEY", "an example needs none")
DEBUG = bool(os.environ.get("SHOP_DEBUG"))
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "testserver"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "pgreact.django",
    "orders",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "shop.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("PGDATABASE", "shop"),
        "USER": os.environ.get("PGUSER", ""),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        "HOST": os.environ.get("PGHOST", ""),
        "PORT": os.environ.get("PGPORT", ""),
    }
}

CELERY_BROKER_URL = os.environ.get("SHOP_BROKER_URL") or os.environ.get("BROKER_URL", "redis://localhost")
CELERY_TASK_DEFAULT_QUEUE = "shop"

PGREACT = {
    # at most five receipts at a time
    "LANES": {"mail": {"max_in_progress": 5}},
    # a commit that makes an order paid calls the task that packs orders
    "ROUTES": {
        "packing": {
            "task": "orders.tasks.pack_orders",
            "tables": [
                {"table": "orders_order", "on": ["insert", "update"], "when": "new.status = 'paid'"},
            ],
        },
    },
    # each change of a product enqueues a job, which brings the search index up to date
    "OUTBOX": [
        {
            "table": "orders_product",
            "enqueue": "orders.tasks.index_product",
            "on": ["insert", "update"],
            "changed": ["name", "description"],
        },
    ],
    "SCHEDULES": {
        "cancel unpaid orders": {
            "task": "orders.tasks.cancel_unpaid",
            "kwargs": {"days": 7},
            "cron": "0 3 * * *",
            "timezone": "Europe/Paris",
        },
    },
}
