"""The base class of the configuration's sections, and the types of their keys."""

import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import ErrorDetails

from pgreact.quantities import (
    check_between,
    parse_duration,
    parse_limit,
    parse_rate,
    parse_retention,
    parse_start_within,
    parse_tasks,
    parse_time,
)


class Section(BaseModel):
    """A section: it refuses unknown keys, hides values in errors, and does not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Duration = Annotated[float, BeforeValidator(parse_duration)]
Limit = Annotated[int | None, BeforeValidator(parse_limit)]
Rate = Annotated[float | None, BeforeValidator(parse_rate)]
Retention = Annotated[float | None, BeforeValidator(parse_retention)]
StartWithin = Annotated[float | None, BeforeValidator(parse_start_within)]
Tasks = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=255)]] | None, BeforeValidator(parse_tasks)
]
Time = Annotated[datetime.datetime, BeforeValidator(parse_time)]


def between(least: str, most: str) -> AfterValidator:
    """Return the bounds of a :data:`Duration`, which is annotated with them.

    Args:
        least: The shortest duration, as text.
        most: The longest.
    """
    return AfterValidator(lambda seconds: check_between(seconds, least, most))


def explain(detail: ErrorDetails) -> str:
    """Return what is wrong with a value, as a phrase.

    Args:
        detail: One error of a ``pydantic.ValidationError``.
    """
    value, limits = detail["input"], detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            message = "is missing"
        case "too_short":
            message = "must not be empty"
        case "greater_than_equal":
            message = f"{value} is less than {limits['ge']}"
        case "less_than_equal":
            message = f"{value} is more than {limits['le']}"
        case "less_than":
            message = f"{value} is more than {limits['lt'] - 1}"  # all such keys are integers
        case _:
            message = detail["msg"].removeprefix("Value error, ")
            message = f"{message[:1].lower()}{message[1:]}"
    return message
