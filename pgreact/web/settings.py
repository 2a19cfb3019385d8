"""The section ``[web]`` of the configuration."""

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field

from pgreact.queue.redaction import Redaction
from pgreact.section import Between, Duration, Section

PREFIX_RULE = "write a path like /pgreact, without a slash at its end"


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text))


def _redaction(rules: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    Redaction(rules)
    return rules


class WebSettings(Section):
    """Section ``[web]``: how ``pgreact web`` serves its pages."""

    bind: str = Field(
        default="127.0.0.1:8080", description="address and port; port 0 takes a free one, which the log names"
    )
    auth: str | None = Field(
        default=None, description="how users log in; by default no login, on a loopback address alone"
    )
    prefix: str = Field(
        default="",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="path under which the pages are served, like /pgreact",
    )
    proxies: tuple[Annotated[str, AfterValidator(_network)], ...] = Field(
        default=("127.0.0.1", "::1"), description="addresses or networks of the proxies whose header counts"
    )
    redact: Annotated[dict[str, tuple[str, ...]], AfterValidator(_redaction)] = Field(
        default={}, description="arguments that the pages hide, by task"
    )
    refresh: Annotated[Duration, Between("1s", "1h")] = Field(
        default=15.0, description="update of open pages without a change of the database: ages grow"
    )
