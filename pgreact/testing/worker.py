"""The fixture ``pgreact_worker``: a worker that runs the jobs of a test's transaction."""

from typing import TYPE_CHECKING, Any

from pgreact.testing.draining import DrainedTask, drain
from pgreact.testing.settings import app_or_default

if TYPE_CHECKING:
    from celery import Celery


class TestWorker:
    """Runs jobs on a connection, by one application.

    Attributes:
        connection: The test's.
        app: The Celery application.
    """

    __test__ = False  # no class of tests

    def __init__(self, connection: object, app: "Celery | str | None" = None) -> None:
        """Run nothing yet.

        Args:
            connection: The test's.
            app: The application, or its name; by default as :func:`pgreact.testing.drain` finds it.

        Raises:
            ConfigError: There is no application, or it did not call :func:`pgreact.setup`.
        """
        self.connection = connection
        self.app = app_or_default(app)

    def drain(self, **options: Any) -> list[DrainedTask]:
        """Run what is due; the options are those of :func:`pgreact.testing.drain`."""
        return drain(connection=self.connection, app=self.app, **options)
