"""``pgreact.testing`` in a ``TestCase`` of Django."""

import unittest

from django.db import connection
from django.test import TestCase

import pgreact
from pgreact import settings
from pgreact.django import conf
from pgreact.testing import assert_enqueued, drain, freeze
from tests.harness import Database


def test_helpers_use_the_connection_that_has_the_schema(shop: Database) -> None:
    from django.contrib.auth.models import User  # wants Django set up

    class Inside(TestCase):
        def test_drain(self) -> None:
            User.objects.create(username="anna")
            with freeze("2030-01-01T00:00+00:00"):
                job = pgreact.enqueue(connection, "pgreact.canary")
                assert_enqueued("pgreact.canary", id=job, lane="shop")
                assert [ran.outcome for ran in drain()] == ["done"]

    settings.use(conf.given)
    try:
        result = unittest.TextTestRunner(verbosity=0).run(
            unittest.defaultTestLoader.loadTestsFromTestCase(Inside)
        )
    finally:
        settings.use(None)
    assert result.wasSuccessful(), result
    assert shop.value("select count(*) from pgreact.queue") == 0
    assert shop.value("select count(*) from auth_user") == 0
