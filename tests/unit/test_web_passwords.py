"""The file of users of the pages."""

from pathlib import Path

import pytest

from pgreact.errors import ConfigError
from pgreact.web.passwords import NOBODY, password_line, read_accounts


def written(*lines: str) -> Path:
    file = Path("users")
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def test_line_accepts_its_password_alone_and_never_has_it() -> None:
    lines = [password_line("ann", "s:e c\u00e9", "operator"), password_line("bob", "s:e c\u00e9", "monitor")]
    found = read_accounts(written("# people", "", *lines))
    assert {name: account.role for name, account in found.items()} == {"ann": "operator", "bob": "monitor"}
    assert found["ann"].accepts("s:e c\u00e9")
    assert not found["ann"].accepts("s:e c")
    assert "s:e" not in "".join(lines)
    assert found["ann"].digest != found["bob"].digest, "each line has a salt of its own"


def test_unknown_user_has_no_password() -> None:
    assert not NOBODY.accepts("")


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\nb", "x" * 64])
def test_name_that_a_line_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="a name has 1 to 63 characters"):
        password_line(name, "p", "monitor")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line.replace("monitor", "monitr"), '"ann" is "monitr"; did you mean "monitor"'),
        (lambda line: line.replace("scrypt", "md5"), 'line of "ann" is not NAME:HASH:ROLE'),
        (lambda line: line.replace("ann", "a n"), 'line of "a n" is not NAME:HASH:ROLE'),
        (lambda line: line.rpartition(":")[0], "is not NAME:HASH:ROLE"),
    ],
)  # fmt: skip
def test_damaged_line_is_refused_with_the_users_name(change: object, message: str) -> None:
    assert callable(change)
    with pytest.raises(ConfigError, match=message):
        read_accounts(written(change(password_line("ann", "p", "monitor"))))
