"""What can go wrong in a way a person can mend."""

import difflib
import json
import re
from collections.abc import Iterator, Sequence

_SHOWN = 12  # names in a message


class PgreactError(Exception):
    """Something failed; the message names it and what to do next. The command line exits with 1."""


class ConfigError(PgreactError):
    """The configuration or a command was written wrongly. The command line exits with 2."""


class NotGuarded(PgreactError):
    """A worker cannot take the locks of a flight or the attempt of a job, so the task does not run."""


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


def nearest(word: str, known: Sequence[str]) -> str:
    """Return ``; did you mean "…"?``, or the names there are, or nothing where there are none."""
    close = difflib.get_close_matches(word, known, 1)
    if close:
        return f'; did you mean "{close[0]}"?'
    more = ", …" if len(known) > _SHOWN else ""
    return f"; there are: {', '.join(sorted(known)[:_SHOWN])}{more}" if known else ""


def quoted(key: str) -> str:
    """Return a key or a name as it stands in a message: as it is, unless it would not be one word."""
    return key if re.fullmatch(r"[A-Za-z0-9_.-]+", key) else json.dumps(key, ensure_ascii=False)
