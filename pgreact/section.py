"""The base class of the configuration's sections, and the types of their keys."""

import datetime
import json
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, ErrorDetails
from pydantic_core.core_schema import no_info_after_validator_function

from pgreact.address import Address
from pgreact.quantities import (
    check_between,
    parse_canary,
    parse_duration,
    parse_limit,
    parse_optional,
    parse_rate,
    parse_retention,
    parse_start_within,
    parse_time,
)


class Section(BaseModel):
    """A section: it refuses unknown keys, hides values in errors, and does not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _task_name(value: object) -> object:
    """Return the name of a Celery task, which a program's settings may have instead; others as they are."""
    name = getattr(value, "name", None)
    if isinstance(name, str) and getattr(value, "app", None) is not None:
        return name
    if callable(value):
        raise ValueError(  # noqa: TRY004 - the kind of error that pydantic explains
            f'{value!r} is no Celery task: write the name of one, like "proj.tasks.send_email"'
        )
    return value


def _as_json(value: Any) -> Any:
    """Return a value as JSON holds it, times as text."""

    def as_text(leaf: object) -> str:
        if isinstance(leaf, datetime.date | datetime.time):
            return leaf.isoformat()
        raise ValueError(f"{leaf!r} is of type {type(leaf).__name__}, which JSON cannot hold")

    try:
        return json.loads(json.dumps(value, default=as_text, allow_nan=False))
    except TypeError as error:  # a key
        raise ValueError(str(error)) from None


Canary = Annotated[float | None, BeforeValidator(parse_canary)]
Duration = Annotated[float, BeforeValidator(parse_duration)]
HttpAddress = Annotated[Address, BeforeValidator(Address.parse)]
JsonDict = Annotated[dict[str, Any], AfterValidator(_as_json)]
JsonList = Annotated[list[Any], AfterValidator(_as_json)]
Limit = Annotated[int | None, BeforeValidator(parse_limit)]
Rate = Annotated[float | None, BeforeValidator(parse_rate)]
Retention = Annotated[float | None, BeforeValidator(parse_retention)]
StartWithin = Annotated[float | None, BeforeValidator(parse_start_within)]
TaskName = Annotated[str, Field(min_length=1, max_length=255), BeforeValidator(_task_name)]
Tasks = Annotated[list[TaskName] | None, BeforeValidator(parse_optional)]
Time = Annotated[datetime.datetime, BeforeValidator(parse_time)]


@dataclass(frozen=True)
class Between:
    """The bounds of a :data:`Duration`, which is annotated with them."""

    least: str  # the shortest duration, as text
    most: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self._check, handler(source))

    def _check(self, seconds: float) -> float:
        return check_between(seconds, self.least, self.most)


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
