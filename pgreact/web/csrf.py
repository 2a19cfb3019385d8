"""Protection against cross-site requests that act: a token in cookie and form, and the browser's own word.

A form carries the token of the cookie (double submit). The browser also says where a request comes from:
``Sec-Fetch-Site``, or ``Origin`` where it does not send that.
"""

import secrets
from urllib.parse import urlsplit

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

_COOKIE = "pgreact_csrf"
_LARGEST = 2**20  # bytes of a form
FIELD = "csrf"  # the name of the form's field


def token_of(request: Request) -> str:
    """Return the token for the forms of a page: that of the cookie, else a new one."""
    found = request.cookies.get(_COOKIE, "")
    return found if len(found) == 43 else secrets.token_urlsafe(32)


def set_cookie(request: Request, response: Response, token: str) -> None:
    """Give the browser the cookie of a token, unless it has it."""
    if request.cookies.get(_COOKIE) != token:
        keep(request, response, _COOKIE, token)


def keep(request: Request, response: Response, name: str, value: str, max_age: int | None = None) -> None:
    """Set a cookie that scripts cannot read and other sites do not send."""
    response.set_cookie(
        name,
        value,
        max_age=max_age,
        path=request.scope.get("root_path", "") + "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def check(request: Request, form: FormData) -> None:
    """Refuse a request that does not come from a form of our own pages.

    Args:
        request: A request that acts.
        form: Its form.

    Raises:
        HTTPException: 403.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        ours = site == "same-origin"
    else:
        ours = origin is not None and urlsplit(origin).netloc == request.headers.get("host")
    if not ours:
        named = origin or site
        where = f"comes from another site ({named})" if named else "names no origin"
        raise HTTPException(403, f"the request {where}: use the form of the page")
    cookie, field = request.cookies.get(_COOKIE, ""), form.get(FIELD)
    if not (cookie and isinstance(field, str) and secrets.compare_digest(cookie.encode(), field.encode())):
        raise HTTPException(
            403,
            "the form has no valid token, or cookies are off: load the page again, then repeat the action",
        )


def check_size(request: Request) -> None:
    """Refuse a form that is too large, before it is read.

    Raises:
        HTTPException: 413.
    """
    size = request.headers.get("content-length", "")
    if not size.isdigit() or int(size) > _LARGEST or "transfer-encoding" in request.headers:
        raise HTTPException(413, f"the form has no length, or more than {_LARGEST} bytes")


def drop(request: Request, response: Response, name: str) -> None:
    """Delete a cookie that :func:`keep` set."""
    response.delete_cookie(name, path=request.scope.get("root_path", "") + "/")
