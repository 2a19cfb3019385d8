"""What Celery calls and does not run: an ``async def`` returns a coroutine, a ``yield`` a generator."""

import inspect
from collections.abc import Callable
from typing import Any


def unrunnable(function: Callable[..., Any]) -> str | None:
    """Return why Celery does not run a function's body; ``None``: it does."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return "async def: Celery does not run coroutines; call asyncio.run() in a plain def"
    if inspect.isgeneratorfunction(function):
        return "a def with yield: Celery does not run generators; use them up in a plain def"
    return None


def returned(result: Any, name: str) -> Any:
    """Return what a task returned.

    Args:
        result: That.
        name: The task's.

    Raises:
        TypeError: It is a coroutine, which nobody will run: its work is not done.
    """
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(
            f"{name} returned a coroutine: Celery does not run coroutines; call asyncio.run() in it"
        )
    return result
