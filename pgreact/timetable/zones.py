"""The IANA names of time zone objects."""

import datetime

_HOUR = datetime.timedelta(hours=1)
# zones that have kept an offset of part of an hour for years, by minutes from UTC
_UNEVEN = {
    -570: "Pacific/Marquesas",
    210: "Asia/Tehran",
    270: "Asia/Kabul",
    330: "Asia/Kolkata",
    345: "Asia/Kathmandu",
    390: "Asia/Yangon",
    525: "Australia/Eucla",
    570: "Australia/Darwin",
}


def zone_name(zone: datetime.tzinfo) -> str | None:
    """Return the IANA name of a time zone.

    Args:
        zone: Of ``zoneinfo``, of ``pytz``, or with a fixed offset; for that, a zone of the same offset is
            named.

    Returns:
        ``None``: it has no name.
    """
    # zoneinfo's attribute, and pytz's
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)
    if name:
        return str(name)
    offset = zone.utcoffset(None)
    if offset is None:
        return None
    hours, rest = divmod(offset, _HOUR)
    if rest:
        return _UNEVEN.get(int(offset.total_seconds() // 60)) if not offset.total_seconds() % 60 else None
    if not -12 <= hours <= 14:
        return None
    # POSIX counts west of Greenwich as positive
    return f"Etc/GMT{-hours:+d}" if hours else "UTC"
