"""Code blocks of a page.

A block may have a comment directly above it: ``<!-- not run: REASON -->``, or ``<!-- fails -->`` if its
command must fail.
"""

import re
from dataclasses import dataclass
from pathlib import Path

RUN = {"sh", "sql", "python"}  # blocks of these languages are run, unless they have a title
SHOWN = {"text", "json", "toml", "yaml", "ini", "diff", "go", "ruby", "html", "dockerfile", "mermaid"}

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,}) *(?P<language>[\w+-]*) *(?P<options>.*)$")
_TITLE = re.compile(r'title="([^"]+)"')
_COMMENT = re.compile(r"<!-- (?:(?P<fails>fails)|not run: (?P<reason>.+)) -->")
_SANDBOX = re.compile(r"<!-- sandbox: (\S+) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    line: int  # of its opening fence, from 1
    language: str
    title: str | None  # the file that it is written to
    text: str
    not_run: str | None  # the reason why it is only shown
    fails: bool  # its command must fail
    expected: str | None  # what it must print: the text block that follows it directly


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page, without those that say what the one before prints.

    Args:
        page: Its Markdown.

    Raises:
        ValueError: A fence is not closed, or a language is not known; names the line.
    """
    found: list[Block] = []
    lines = page.splitlines()
    number, above, apart = (
        0,
        "",
        True,
    )  # above: the last line; apart: text stands between this block and the last
    while number < len(lines):
        line = lines[number]
        opening = _FENCE.match(line)
        if opening is None:
            if line.strip():
                above, apart = line, True
            number += 1
            continue
        indent, fence = len(opening["indent"]), opening["fence"]
        try:
            end = next(at for at in range(number + 1, len(lines)) if lines[at].strip() == fence)
        except StopIteration:
            raise ValueError(f"line {number + 1}: the block is not closed") from None
        text = "".join(f"{each[indent:]}\n" for each in lines[number + 1 : end])
        language, title = opening["language"], _TITLE.search(opening["options"])
        if language not in RUN | SHOWN and not title:
            raise ValueError(
                f'line {number + 1}: no language "{language}": one of {", ".join(sorted(RUN | SHOWN))}'
            )
        if language == "text" and not apart and not title:
            found[-1] = Block(**{**vars(found[-1]), "expected": text})
        else:
            comment = _COMMENT.search(above) if apart else None
            found.append(
                Block(
                    line=number + 1,
                    language=language,
                    title=title[1] if title else None,
                    text=text,
                    not_run=comment["reason"] if comment else None,
                    fails=bool(comment and comment["fails"]),
                    expected=None,
                )
            )
        above, apart = "", False
        number = end + 1
    return found


def sandbox_of(page: str) -> Path | None:
    """Return the folder of the repository that a page starts from, if any."""
    found = _SANDBOX.search(page)
    return Path(found[1]) if found else None
