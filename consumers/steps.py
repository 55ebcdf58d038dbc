"""The steps of a version to readers, and of readers back to one; reported as they are done."""

from enum import IntEnum


class Going(IntEnum):
    """A version goes live; see `consumers.publisher`."""

    BEGUN = 1
    FILLED = 2
    CHECKED = 3
    CAUGHT_UP = 4
    FLIPPED = 5
    RECORDED = 6
    DROPPED = 7


class Back(IntEnum):
    """Readers return to the version before; see `consumers.returning`."""

    WRITTEN = 1
    CAUGHT_UP = 2
    FLIPPED = 3
    RECORDED = 4


def unwatched(_: Going | Back) -> None:
    """Tell nobody."""
