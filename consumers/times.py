"""Times that a person gives."""

from datetime import datetime

from consumers.errors import SettingsError
from stream.excision import Rule


def time_us(text: str, flag: str) -> int:
    """Microseconds since the epoch of an RFC 3339 time.

    Raises
    ------
    SettingsError
        It is none, or has no zone; ``flag`` is named.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"{flag} {text!r}: RFC 3339, such as 2026-01-31T08:00:00Z") from None
    if at.tzinfo is None:
        raise SettingsError(f"{flag} {text!r}: say the zone, such as Z")
    return int(at.timestamp() * 1e6)


def span_of(users: str, since: str, until: str) -> Rule:
    """The rule that a person means.

    Raises
    ------
    SettingsError
        A time cannot be read, the glob is empty, or there is no time between the two.
    """
    first, last = time_us(since, "--from"), time_us(until, "--to")
    try:
        return Rule(users, first, last)
    except ValueError as error:
        raise SettingsError(f"--user-pattern, --from, --to: {error}") from None
