"""The public API, from signatures and docstrings."""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from alembic.operations import Operations

from tests.docs.reference.markdown import finished, head

MODULES = (
    "pgreact",
    "pgreact.django",
    "pgreact.django.operations",
    "pgreact.django.tasks",
    "pgreact.alembic",
    "pgreact.testing",
)


def page() -> str:
    """Return ``docs/reference/python.md``."""
    lines = head("Python", "signatures and docstrings", "Every name that is not listed here is private.")
    for name in MODULES:
        module = _module(name)
        if module is None:
            continue
        members = {each: getattr(module, each) for each in _public(module)}
        if members:
            lines += [f"## {name}", "", *_prose(module.__doc__ or "")]
            lines += [
                line
                for each in sorted(members, key=str.lower)
                for line in _member(f"{name}.{each}", members[each])
            ]
        if name == "pgreact.alembic":
            lines += [
                line for each, value in sorted(_operations().items()) for line in _member(f"op.{each}", value)
            ]
    return finished(lines)


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None


def _public(module: ModuleType) -> list[str]:
    """Return a module's list of public names, or else the public classes that it defines."""
    if (names := getattr(module, "__all__", None)) is not None:
        return [*names]
    return [
        name
        for name, value in vars(module).items()
        if name[0] != "_" and inspect.isclass(value) and value.__module__ == module.__name__
    ]


def _operations() -> dict[str, Any]:
    """Return the operations that pgreact adds to Alembic's ``op``."""
    operations = _module("pgreact.alembic.operations")
    return {
        name: value.__func__
        for each in vars(operations or object).values()
        if inspect.isclass(each) and each.__module__ == "pgreact.alembic.operations"
        for name, value in vars(each).items()
        if isinstance(value, classmethod) and hasattr(Operations, name)
    }


def _member(title: str, value: Any) -> Iterator[str]:
    yield from (f"### {title}", "")
    shown = _class(value) if inspect.isclass(value) else _signature(value)
    yield from ("```python", shown, "```", "", *_prose(inspect.getdoc(value) or ""))
    if inspect.isclass(value):
        methods = [
            (name, member)
            for name, member in sorted(vars(value).items())
            if name[0] != "_" and (inspect.isfunction(member) or isinstance(member, property))
        ]
        for name, member in methods:
            text = " ".join((inspect.getdoc(member) or "").split("\n\n")[0].split())
            signature = name if isinstance(member, property) else _signature(member, name)
            yield f"- `{signature}`: {_plain(text)}".removesuffix(": ")
        if methods:
            yield ""


def _class(value: type) -> str:
    """Return a class with its public fields, and how it is made, as its source has them."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(value))).body
    assert isinstance(node, ast.ClassDef)
    bases = ", ".join(
        base.__name__ for base in value.__bases__ if base is not object and base.__name__[0] != "_"
    )
    lines = [f"class {node.name}({bases}):" if bases else f"class {node.name}:"]
    lines += [
        f"    {ast.unparse(each)}"
        for each in node.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name) and each.target.id[0] != "_"
    ]
    maker = value.__init__  # type: ignore[misc]
    if (
        inspect.isfunction(maker)
        and maker.__module__.startswith("pgreact")
        and not hasattr(value, "__dataclass_fields__")
    ):
        lines += [f"    {line}" for line in _signature(maker).splitlines()]
    return "\n".join(lines).removesuffix(":").replace("'", '"')


def _signature(value: Any, name: str | None = None) -> str:
    """Return a function's signature as its source has it; a long one with a line for each parameter."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(value)))).body
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    if node.decorator_list and ast.unparse(node.decorator_list[-1]) == "classmethod":
        del node.args.args[:2]  # an operation of Alembic: the class and the context
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    parameters = _parameters(ast.unparse(node.args))
    text = f"{name or node.name}({', '.join(parameters)}){result}"
    if name is None:
        inside = "".join(f"    {parameter},\n" for parameter in parameters)
        keyword = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
        long = f"{node.name}(\n{inside}){result}"
        text = f"{keyword} {text if len(text) <= 90 else long}"
    return text.replace("'", '"')


def _parameters(text: str) -> list[str]:
    """Split parameters at their commas, not at those in brackets; put blanks around the defaults."""
    found, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            found.append("")
        elif character == "=" and depth == 0 and ":" in found[-1]:
            found[-1] += " = "
        else:
            found[-1] += character
    return [parameter.strip() for parameter in found if parameter]


def _prose(text: str) -> Iterator[str]:
    """Return a docstring as Markdown: its sections as lists."""
    section = False
    for line in inspect.cleandoc(text).splitlines():
        if heading := re.fullmatch(r"(Args|Attributes|Returns|Raises|Yields):", line):
            section = True
            yield from ({"Args": "Arguments"}.get(heading[1], heading[1]) + ":", "")
        elif section and (entry := re.fullmatch(r"    (\**\w+): (.*)", line)):
            yield f"- `{entry[1]}`: {_plain(entry[2])}"
        elif section and line.startswith("        "):
            yield f"    {_plain(line.strip())}"
        elif section and line.startswith("    "):
            yield _plain(line.strip())
        else:
            section = section and not line
            yield _plain(line)
    yield ""


def _plain(line: str) -> str:
    """Return a line without the roles and quotes of reStructuredText."""
    line = re.sub(r":\w+:`~?\.?([^`]+)`", r"`\1`", line).replace("``", "`")
    return re.sub(r"::$", ":", line)
