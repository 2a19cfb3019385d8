"""Redaction: which values of jobs and schedules no page shows, nor lets a search find.

The setting ``[web] redact`` maps patterns of task names to paths. A path is read as that of a search:
``user.email`` is in keyword argument ``user``, ``0`` the first positional argument, ``*`` is everything. As
names are not known for positional arguments, a name hides all of these. An error may quote an argument, so
of the errors of such a task only the exception's class is shown.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pgreact.postgres.glob import like_pattern, matches
from pgreact.queue.argument_path import Path, parse_path

HIDDEN = "•••"
# options of apply_async that repeat arguments, or have those of other tasks
_REPEATING = ("argsrepr", "kwargsrepr", "link", "link_error", "chain", "chord")
_EVERYTHING = ("*",)


class Redaction:
    """The rules of ``[web] redact``."""

    def __init__(self, rules: Mapping[str, Sequence[str]]) -> None:
        """Read the rules.

        Args:
            rules: Paths by pattern of task names.

        Raises:
            ValueError: A path is none.
        """
        self._rules = {glob: [_path(text) for text in paths] for glob, paths in rules.items()}

    @property
    def tasks(self) -> list[str]:
        """Patterns for SQL's ``like`` of the tasks that have a rule."""
        return [like_pattern(glob) for glob in self._rules]

    def hides(self, task: str) -> bool:
        """Return whether a task has a rule."""
        return any(matches(glob, task) for glob in self._rules)

    def hidden_tasks(self, path: Path | None) -> list[str]:
        """Return the tasks, as patterns for ``like``, of which a search by a path could find a hidden value.

        Args:
            path: ``None``: a search that may look anywhere.
        """
        return [
            like_pattern(glob)
            for glob, rules in self._rules.items()
            if path is None or any(_touches(rule, path) for rule in rules)
        ]

    def refuses(self, task: str, path: Path | None) -> bool:
        """Return whether a search by a path, in jobs of a task alone, could find a hidden value.

        Args:
            task: The name, or a pattern that is one of the rules'.
            path: ``None``: a search that may look anywhere.
        """
        return any(
            (glob == task or matches(glob, task))
            and (path is None or any(_touches(rule, path) for rule in rules))
            for glob, rules in self._rules.items()
        )

    def arguments(self, task: str, section: str, value: Any) -> Any:
        """Return arguments or options of a task without the hidden values.

        Args:
            task: The task's name.
            section: ``args``, ``kwargs`` or ``options``.
            value: The parsed JSON; a text: it could not be parsed, so a task with a rule shows none of it.
        """
        if section == "options" and self._rules and isinstance(value, dict):
            value = {name: HIDDEN if name in _REPEATING else inner for name, inner in value.items()}
        paths = [rule for glob, rules in self._rules.items() if matches(glob, task) for rule in rules]
        if not paths:
            return value
        if isinstance(value, str):
            return HIDDEN
        if section == "args" and any(path[0] == "kwargs" for path in paths):
            return [HIDDEN] * len(value)
        return _without(
            value, [path[1:] if path[0] == section else () for path in paths if _in(path, section)]
        )

    def error(self, task: str, text: str | None) -> str | None:
        """Return the error of a task, or of one with a rule the exception's class alone."""
        if text is None or not self.hides(task):
            return text
        found = re.match(r"[A-Za-z_][\w.]*(?=:|\n|$)", text)
        return f"{found[0]}: {HIDDEN}" if found else HIDDEN

    def hide_errors(self, found: Mapping[str, Any]) -> None:
        """Replace the texts that quote an error of a task with a rule.

        Args:
            found: The result of :func:`pgreact.queue.why.why`.
        """
        hidden = self.hides(found["job"].get("task") or "")
        for cause in found["causes"]:
            head = cause["facts"].get("head")  # the job ahead of its key, which may be of another task
            if (
                head
                and self.hides(head["job"].get("task") or "")
                and any(inner.get("error") for inner in head["causes"])
            ):
                cause["text"] = f"behind job {head['job']['id']} of its key, whose error is hidden"
            elif hidden and cause["facts"].get("error"):
                cause["text"] = f"{cause['code'].replace('_', ' ')}; its error is hidden"


def _path(text: str) -> Path:
    return _EVERYTHING if text == "*" else parse_path(text)


def _in(path: Path, section: str) -> bool:
    return path == _EVERYTHING or path[0] == section


def _without(value: Any, paths: Sequence[Path]) -> Any:
    if not paths:
        return value
    if () in paths:
        if isinstance(value, dict):
            return dict.fromkeys(value, HIDDEN)
        return [HIDDEN] * len(value) if isinstance(value, list) else HIDDEN
    if isinstance(value, dict):
        return {name: _without(inner, _below(paths, name)) for name, inner in value.items()}
    if isinstance(value, list):
        # as in a search, a name beneath a list means that of each element
        names = [path for path in paths if not path[0].isdigit() and path[0] != "*"]
        return [_without(inner, [*_below(paths, str(index)), *names]) for index, inner in enumerate(value)]
    return value


def _below(paths: Sequence[Path], name: str) -> list[Path]:
    return [path[1:] for path in paths if path[0] in {name, "*"}]


def _touches(rule: Path, path: Path) -> bool:
    """Return whether a path may lead to a hidden value, into one, or past one; in doubt it does."""
    if rule == _EVERYTHING or (rule[0] == "kwargs" and path[0] == "args"):
        return True
    pairs = zip(_names(rule), _names(path), strict=False)
    return all(here == there or "*" in {here, there} for here, there in pairs)


def _names(path: Path) -> Path:
    """Return a path without the indices of lists, which a search may leave out."""
    start = 2 if path[0] == "args" else 1
    return (*path[:start], *(name for name in path[start:] if not name.isdigit()))
