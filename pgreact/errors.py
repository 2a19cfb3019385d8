"""pgreact's exceptions, and helpers for their messages."""

import difflib
import json
import re
import shlex
from collections.abc import Iterator, Sequence

_LISTED = 12  # names in a message


class PgreactError(Exception):
    """An operation failed. The message names it and the remedy. The command line exits with 1."""


class ConfigError(PgreactError):
    """The configuration or a command has a mistake. The command line exits with 2."""


class NotGuarded(PgreactError):
    """A worker cannot take the locks of a flight or the attempt of a job, so the task does not run."""


class SessionLost(PgreactError):
    """A session with PostgreSQL ended, or does not reply. Its user must open a new one."""


def first(error: BaseException) -> Exception:
    """Return the first error of an exception group, nested groups included; any other error as it is.

    Raises:
        BaseException: The first error is not an ``Exception``, but for example a cancellation.
    """
    found = next(leaves(error))
    if not isinstance(found, Exception):
        raise found
    return found


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Return the errors of an exception group, nested groups included; any other error alone."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def nearest(word: str, known: Sequence[str]) -> str:
    """Return ``; did you mean "…"?`` for a misspelt name, else the known names, else an empty text."""
    close = difflib.get_close_matches(word, known, 1)
    if close:
        return f'; did you mean "{close[0]}"?'
    more = ", …" if len(known) > _LISTED else ""
    return f"; there are: {', '.join(sorted(known)[:_LISTED])}{more}" if known else ""


def quoted(key: str) -> str:
    """Return a key or a name for a message: in quotes, unless it is one word."""
    return key if re.fullmatch(r"[A-Za-z0-9_.-]+", key) else json.dumps(key, ensure_ascii=False)


def argument(name: str) -> str:
    """Return a name as an argument of a command, for a shell."""
    return shlex.quote(name) if name.isprintable() else json.dumps(name)
