"""The steps of a version to readers, and of readers back to one; reported as they are done.

A crash between any two steps to readers leaves the version before live, as soon as a publisher is
opened again:

1. record in the manifest that two collections are begun
2. make and fill them
3. check them: counts, then searches against brute force
4. bury in them what was removed meanwhile, say what has become of campaigns, write what was
   touched
5. flip both aliases in one request, and read them back
6. record in the manifest that the version is published: from here on it is the live one
7. drop what is neither live nor the one before

The steps back: `consumers.returning`.
"""

from enum import IntEnum


class Going(IntEnum):
    """A version goes live."""

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
