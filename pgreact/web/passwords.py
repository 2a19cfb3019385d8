"""Users and their passwords: lines NAME:HASH:ROLE of a file. Needs no package of the extra ``web``."""

import hashlib
import re
import secrets
from pathlib import Path
from typing import Literal, NamedTuple, cast, get_args

from pgreact.errors import ConfigError, nearest

Role = Literal["monitor", "operator"]
ROLES: tuple[Role, ...] = get_args(Role)
NAME = re.compile(r"[^\x00-\x20\x7f:]{1,63}")  # of a user


class Account(NamedTuple):
    """A user of the file."""

    name: str
    role: Role
    salt: bytes
    digest: bytes

    def accepts(self, password: str) -> bool:
        """Return whether a password is right. Takes 16 MB and 50 ms."""
        return secrets.compare_digest(_scrypt(password, self.salt), self.digest)


# for names that the file does not have: a wrong name takes as long as a wrong password
NOBODY = Account("", "monitor", b"", b"")


def password_line(name: str, password: str, role: Role) -> str:
    """Return the line of a user.

    Args:
        name: The user's name.
        password: The user's password, of which the line has a salted scrypt hash.
        role: The user's role.

    Raises:
        ConfigError: A line cannot have the name.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"user {name!r}: a name has 1 to 63 characters, no blank, colon or control character"
        )
    salt = secrets.token_bytes(16)
    return f"{name}:scrypt${salt.hex()}${_scrypt(password, salt).hex()}:{role}"


def read_accounts(file: Path) -> dict[str, Account]:
    """Return the users of a file, by name.

    Args:
        file: Its path; empty lines and those that begin with ``#`` do not count.

    Raises:
        ConfigError: The file cannot be read, has no user, or a line is wrong.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {error}; it has the users of --auth basic:FILE") from None
    lines = [line.rstrip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = {account.name: account for account in (_read_account(line, file) for line in lines)}
    if not found:
        raise ConfigError(f'{file} has no user: add a line that "pgreact web passwd NAME" prints')
    return found


def _read_account(line: str, file: Path) -> Account:
    found = re.fullmatch(r"([^:]*):scrypt\$([0-9a-f]{32})\$([0-9a-f]{64}):(.*)", line)
    if not found or not NAME.fullmatch(found[1]):
        raise ConfigError(
            f'{file}: the line of "{line.partition(":")[0][:63]}" is not NAME:HASH:ROLE, as '
            '"pgreact web passwd NAME" prints it'
        )
    if found[4] not in ROLES:
        raise ConfigError(f'{file}: the role of user "{found[1]}" is "{found[4]}"{nearest(found[4], ROLES)}')
    return Account(found[1], cast("Role", found[4]), bytes.fromhex(found[2]), bytes.fromhex(found[3]))


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1, dklen=32)
