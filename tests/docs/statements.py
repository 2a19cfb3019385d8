"""SQL as psql runs and shows it."""

import re

import psycopg

_TOKEN = re.compile(r"""'(?:[^']|'')*'|"[^"]*"|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/|;|.""", re.DOTALL)


def execute(connection: "psycopg.Connection[tuple[object, ...]]", text: str) -> list[str]:
    """Execute statements one by one; return what psql would print of each."""
    return [_execute(connection, statement) for statement in statements(text)]


def read_again(dsn: str, text: str, printed: list[str]) -> list[str] | None:
    """Execute those of some statements once more that only read.

    Args:
        dsn: The database.
        text: The statements.
        printed: What each of them printed.

    Returns:
        What each prints now, or printed when it wrote; ``None``: all of them write.
    """
    found, read = [], False
    with psycopg.connect(dsn, autocommit=True, options="-c default_transaction_read_only=on") as reader:
        for statement, before in zip(statements(text), printed, strict=True):
            try:
                found.append(_execute(reader, statement))
                read = True
            except psycopg.Error:
                found.append(before)
    return found if read else None


def _execute(connection: "psycopg.Connection[tuple[object, ...]]", statement: str) -> str:
    cursor = connection.execute(statement.encode())
    result = cursor.pgresult
    if result is None or not result.nfields:
        return cursor.statusmessage or ""
    names = [(result.fname(at) or b"").decode() for at in range(result.nfields)]
    rows = [
        [(result.get_value(row, at) or b"").decode() for at in range(result.nfields)]
        for row in range(result.ntuples)
    ]
    lines = [" | ".join(names), "-+-".join("-" * len(name) for name in names)]
    lines += [" | ".join(row) for row in rows]
    return "\n".join([*lines, f"({len(rows)} row{'' if len(rows) == 1 else 's'})"])


def statements(text: str) -> list[str]:
    """Split SQL at its semicolons, not at those in quotes and comments."""
    found, statement = [], ""
    for token in _TOKEN.finditer(text):
        if token[0] == ";":
            found.append(statement)
            statement = ""
        elif not token[0].startswith(("--", "/*")):
            statement += token[0]
    return [each.strip() for each in (*found, statement) if each.strip()]


def error_text(error: psycopg.Error) -> str:
    """Return what psql would print of an error."""
    diagnosis = error.diag
    lines = [f"ERROR:  {diagnosis.message_primary}"]
    lines += [
        f"{name}:  {value}"
        for name, value in (("DETAIL", diagnosis.message_detail), ("HINT", diagnosis.message_hint))
        if value
    ]
    return "\n".join(lines)
