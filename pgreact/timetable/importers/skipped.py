"""What stays behind."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Uncarried:
    """An entry that cannot become a row.

    Attributes:
        name: What it is called where it comes from.
        reason: Why, as the end of a sentence; and what to do, if anything can be done.
    """

    name: str
    reason: str
