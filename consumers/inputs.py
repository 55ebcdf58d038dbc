"""Which events a program reads, and the source that reads them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from consumers.errors import SettingsError

COLUMN_ROLES = ("user", "item", "time", "event", "value", "text")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was asked for on the command line.

    Attributes
    ----------
    events : file or folder; None for the simulator or Kafka
    format : one of `stream.formats.FORMATS`
    columns : role -> column name, for the format ``table``
    history : file to learn from before scoring begins
    limit : stop after this many messages
    """

    events: Path | None = None
    format: str = "jsonl"
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    history: Path | None = None
    limit: int | None = None


def parse_columns(given: str | None) -> dict[str, str]:
    """Read ``user=…,item=…`` into roles.

    Raises
    ------
    SettingsError
        If a pair has no ``=``, a role is unknown or given twice.
    """
    columns: dict[str, str] = {}
    for pair in (given or "").split(",") if given else []:
        role, equals, column = pair.strip().partition("=")
        if not equals or not column or role not in COLUMN_ROLES or role in columns:
            raise SettingsError(
                f"--columns: got {pair.strip()!r}, expected ROLE=COLUMN once for each of "
                f"{', '.join(COLUMN_ROLES)}"
            )
        columns[role] = column
    return columns
