"""Functions as Celery runs them: which ones it cannot run, and the signature by which it checks a call."""

import inspect
import sys
from collections.abc import Callable
from typing import Any


def unrunnable(function: Callable[..., Any]) -> str | None:
    """Return why Celery does not run a function's body; ``None``: it does."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return "async def: Celery does not run coroutines; call asyncio.run() in a plain def"
    if inspect.isgeneratorfunction(function):
        return "a def with yield: Celery does not run generators; use them up in a plain def"
    return None


def checked_result(result: Any, task: str) -> Any:
    """Return the result of a task.

    Args:
        result: What its function returned.
        task: Its name.

    Raises:
        TypeError: The result is a coroutine, so the task's work is not done.
    """
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(
            f"{task} returned a coroutine: Celery does not run coroutines; call asyncio.run() in it"
        )
    return result


def call_signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return a function's signature; an annotation that cannot be resolved does not matter."""
    if sys.version_info >= (3, 14):
        import annotationlib

        # a name imported for type checkers only must not fail the import of the task
        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(function)
