"""Refusal of foreign host names: another site may let its own name resolve to a loopback address."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class Hosts:
    """Middleware that answers only requests for these hosts.

    Args:
        app: The application.
        hosts: Names without port; none: any.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app = app
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "http" and self._hosts:
            name = Headers(scope=scope).get("host", "")
            bare = name if name.endswith("]") else name.rpartition(":")[0] or name
            if bare not in self._hosts:
                known = ", ".join(sorted(self._hosts))
                text = f"These pages answer as {known}. Other names need authentication.\n"
                await PlainTextResponse(text, 421)(scope, receive, send)
                return
        await self._app(scope, receive, send)
