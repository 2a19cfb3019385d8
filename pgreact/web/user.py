"""The user of a request."""

from typing import NamedTuple

from starlette.requests import HTTPConnection

from pgreact.web.passwords import Role


class User(NamedTuple):
    """The user of a request. A monitor reads; an operator also acts."""

    name: str
    role: Role

    @property
    def acts(self) -> bool:
        """Whether the user may change something."""
        return self.role == "operator"


def user_of(connection: HTTPConnection) -> User:
    """Return the user that the authentication found for a request."""
    user = connection.scope["pgreact.user"]
    assert isinstance(user, User)
    return user
