"""Patterns of names: ``*`` is any text, ``?`` one character."""

import re


def like_pattern(text: str, *, whole: bool = True) -> str:
    """Return the pattern for SQL's ``like``.

    Args:
        text: The pattern of a name.
        whole: ``False``: a plain text that the name contains.
    """
    for special in "\\%_":
        text = text.replace(special, f"\\{special}")
    return text.replace("*", "%").replace("?", "_") if whole else f"%{text}%"


def matches(glob: str, name: str) -> bool:
    """Return whether a name matches the whole pattern, as ``like`` decides it."""
    expression = re.escape(glob).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, name, re.DOTALL) is not None
