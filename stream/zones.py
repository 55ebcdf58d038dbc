"""Days and hours as people live them: in a time zone of the IANA database."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

DAY_US: Final = 86_400_000_000
HOUR_US: Final = 3_600_000_000
_LAST_S: Final = 253_370_764_800  # the year 9999 begins: the clocks of some zones are ahead of it
_QUARTER_US: Final = 900_000_000  # clocks are set forward and back on whole quarters of an hour


@lru_cache(maxsize=1)
def names() -> frozenset[str]:
    """Every zone that this machine knows; looked up once, since that reads a folder tree."""
    return frozenset(available_timezones())


def local_us(zone: str, time_us: int) -> int:
    """What the clocks of a zone show, as microseconds since 1970 began there."""
    return time_us + (0 if zone == "UTC" else _offset_us(zone, time_us // _QUARTER_US))


def day_of(zone: str, time_us: int) -> int:
    """Number of the calendar day in a zone, counted from 1970-01-01."""
    return local_us(zone, time_us) // DAY_US


@lru_cache(maxsize=65_536)
def _offset_us(zone: str, quarter: int) -> int:
    moment = datetime.fromtimestamp(min(quarter * 900, _LAST_S), UTC)
    offset = moment.astimezone(ZoneInfo(zone)).utcoffset()
    return 0 if offset is None else int(offset.total_seconds() * 1_000_000)
