"""What can go wrong in a way a person can mend."""


class PgreactError(Exception):
    """Something failed; the message names it and what to do next. The command line exits with 1."""


class ConfigError(PgreactError):
    """The configuration or a command was written wrongly. The command line exits with 2."""


class SessionLost(PgreactError):
    """A session with PostgreSQL ended, or gives no sign of life; whoever used it must begin again."""
