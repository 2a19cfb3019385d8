"""An entry that an importer skips."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Skipped:
    """An entry that cannot become a row.

    Attributes:
        name: In its source.
        reason: Why, and the remedy if there is one.
    """

    name: str
    reason: str
