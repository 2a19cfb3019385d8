"""Time zones by the names that PostgreSQL knows."""

import datetime

_HOUR = datetime.timedelta(hours=1)


def zone_name(zone: datetime.tzinfo) -> str | None:
    """Return the IANA name of a time zone.

    Args:
        zone: Of ``zoneinfo``, of ``pytz``, or one that keeps whole hours from UTC.

    Returns:
        ``None``: it has none.
    """
    # zoneinfo's attribute, and pytz's
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)
    if name:
        return str(name)
    if not isinstance(zone, datetime.timezone):
        return None
    hours, rest = divmod(zone.utcoffset(None), _HOUR)
    if rest or not -12 <= hours <= 14:
        return None
    # POSIX counts to the west
    return f"Etc/GMT{-hours:+d}" if hours else "UTC"
