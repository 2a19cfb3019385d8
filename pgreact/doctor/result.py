"""The result of a check."""

import dataclasses
import enum


class Verdict(enum.StrEnum):
    """The verdict of a check, from good to bad; ``unknown`` counts as ``warn``, never as a pass."""

    OK = "ok"
    UNKNOWN = "unknown"
    WARN = "warn"
    FAIL = "fail"


@dataclasses.dataclass(frozen=True)
class Result:
    """One finding of a check, or its pass."""

    id: str  # of the check, AREA.NAME; several results may have it
    area: str
    looked_at: str
    verdict: Verdict
    finding: str  # what is wrong; empty: nothing is
    remedy: str  # a command or an SQL statement, or what to do; empty: nothing to do


def exit_code(results: list[Result]) -> int:
    """Return the command's exit code: 0 if all is well, 1 for a warning or an unknown, 2 for a failure."""
    verdicts = {result.verdict for result in results}
    return 2 if Verdict.FAIL in verdicts else 1 if verdicts - {Verdict.OK} else 0
