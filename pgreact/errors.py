"""What can go wrong in a way a person can mend."""


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
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, Exception):
        raise error
    return error
