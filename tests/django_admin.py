"""Django's admin of the shop: a database of its own, users, a client, and a server for a browser."""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
from django.conf import settings as django_settings
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.test.testcases import LiveServerThread
from django.test.utils import setup_test_environment, teardown_test_environment

from pgreact import settings
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.django import conf
from tests import django_project
from tests.queue_steps import Queue

PASSWORD = "correct horse"  # noqa: S105
# as strict as a site can be: nothing inline, nothing from elsewhere
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'"
)
REDACT = {"shop.pay": ["card"]}


def strict(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware that sends a strict Content-Security-Policy, and has no icon for a browser."""

    def answer(request: HttpRequest) -> HttpResponse:
        if request.path == "/favicon.ico":
            return HttpResponse(status=204)
        response = get_response(request)
        response["Content-Security-Policy"] = POLICY
        return response

    return answer


@contextlib.contextmanager
def site(postgres: EmbeddedPostgres, migrated: str, alias: str = "default") -> Iterator[Queue]:
    """Let the project's database be a copy of the migrated one, and its configuration that of Django.

    Args:
        postgres: The server.
        migrated: The name of the migrated database.
        alias: Of the database with pgreact's schema; with another than ``default``, that one lacks it.
    """
    name = f"t_{uuid4().hex[:12]}"
    dsn = postgres.dsn(dbname=name)
    django_project.setup()
    given = {**django_settings.PGREACT, "DATABASE": alias, "WEB": {"redact": REDACT}}
    names = {alias: name} if alias == "default" else {"default": f"{name}_users", alias: name}
    entries = {each: django_project.entry(postgres.dsn(dbname=names[each])) for each in names}
    middleware = [*django_settings.MIDDLEWARE, "tests.django_admin.strict"]
    hashers = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        for each in names.values():
            admin.execute(f"create database {each} template {migrated}".encode())
        if alias != "default":
            Queue(postgres.dsn(dbname=names["default"])).run("drop schema pgreact cascade")
        settings.use(conf.given)
        setup_test_environment()  # responses have the context of their templates
        try:
            with (
                django_project.databases(entries),
                override_settings(PGREACT=given, MIDDLEWARE=middleware, PASSWORD_HASHERS=hashers),
            ):
                yield Queue(dsn)
        finally:
            teardown_test_environment()
            settings.use(None)
            for each in names.values():
                admin.execute(f"drop database {each} with (force)".encode())


def user(name: str, *permissions: str, superuser: bool = False) -> Any:
    """Return a user of the staff with permissions of the app, by codename; made once."""
    from django.contrib.auth.models import Permission, User

    found, made = User.objects.get_or_create(
        username=name, defaults={"is_staff": True, "is_superuser": superuser}
    )
    if made:
        found.set_password(PASSWORD)
        found.save()
    chosen = Permission.objects.filter(content_type__app_label="pgreact", codename__in=permissions)
    assert chosen.count() == len(permissions), permissions
    found.user_permissions.set(chosen)
    return found


def client(name: str = "ann", *permissions: str, superuser: bool = False) -> Client:
    """Return a client that is logged in; without permissions as a superuser."""
    opened = Client()
    opened.force_login(user(name, *permissions, superuser=superuser or not permissions))
    return opened


def text(response: Any) -> str:
    """Return the text of a page without tags, in one line."""
    assert response.status_code == 200, (response.status_code, response.headers)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", response.content.decode()))


def told(response: Any) -> list[str]:
    """Return the messages of a page after a redirect."""
    return [str(message) for message in response.context["messages"]]


def act(opened: Client, table: str, action: str, ids: list[Any], query: str = "", **more: str) -> Any:
    """Run an action on rows of a list; return the page after it."""
    data = {"action": action, "_selected_action": [str(each) for each in ids], "index": "0", **more}
    return opened.post(f"/admin/pgreact/{table}/{query}", data, follow=True)


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Serve the project in a thread; return the address."""
    thread = LiveServerThread("127.0.0.1", StaticFilesHandler)
    thread.daemon = True
    thread.start()
    thread.is_ready.wait(20)
    assert thread.error is None, thread.error
    try:
        yield f"http://127.0.0.1:{thread.port}"
    finally:
        thread.terminate()
