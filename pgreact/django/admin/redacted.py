"""``[web] redact`` of the configuration, which holds for the admin, too."""

from pgreact import settings
from pgreact.errors import ConfigError
from pgreact.queue.redaction import Redaction


def redaction() -> Redaction:
    """Return the rules; if the configuration cannot be read, rules that hide everything."""
    try:
        return Redaction(settings.load(None).web.redact)
    except ConfigError:
        return Redaction({"*": ("*",)})
