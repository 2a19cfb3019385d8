"""What can go wrong in a way a person can mend."""

from collections.abc import Iterator


class PgreactError(Exception):
    """Something failed; the message names it and what to do next. The command line exits with 1."""


class ConfigError(PgreactError):
    """The configuration or a command was written wrongly. The command line exits with 2."""


class SessionLost(PgreactError):
    """A session with PostgreSQL ended, or gives no sign of life; whoever used it must begin again."""


def first(error: BaseException) -> Exception:
    """Return the first error of a group, and of groups in it; any other error as it is.

    Raises:
        BaseException: It is none that a program handles, such as a cancellation.
    """
    found = next(leaves(error))
    if not isinstance(found, Exception):
        raise found
    return found


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Return the errors of a group, and of groups in it; any other error alone."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
