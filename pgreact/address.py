"""An address to listen on: host and port."""

import re
from typing import NamedTuple


class Address(NamedTuple):
    """A host and a TCP port; 0: one that the system chooses."""

    host: str
    port: int

    @classmethod
    def parse(cls, value: object) -> "Address":
        """Read ``HOST:PORT``; brackets enclose an IPv6 address.

        Raises:
            ValueError: It is something else.
        """
        found = isinstance(value, str) and re.fullmatch(
            r"(?:\[([0-9A-Za-z:.%]+)\]|([^\s:\[\]/@]+)):([0-9]{1,5})", value
        )
        if not found or int(found[3]) > 65535:
            raise ValueError(
                f'{value!r} is not an address: write HOST:PORT, like "127.0.0.1:9187", or "0.0.0.0:9187" '
                "for all IPv4 interfaces"
            )
        return cls(found[1] or found[2], int(found[3]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
