"""The steps of a version on its way to readers.

A crash between any two leaves the one before live, as soon as a publisher is opened again:

1. record in the manifest that two collections are begun
2. make and fill them
3. check them: counts, then searches against brute force
4. bury in them what was removed meanwhile, say what has become of campaigns, write what was
   touched
5. flip both aliases in one request, and read them back
6. record in the manifest that the version is published: from here on it is the live one
7. drop what is neither live nor the one before
"""

from enum import IntEnum


class Going(IntEnum):
    """A step is reported when it is done."""

    BEGUN = 1
    FILLED = 2
    CHECKED = 3
    CAUGHT_UP = 4
    FLIPPED = 5
    RECORDED = 6
    DROPPED = 7


def unwatched(_: Going) -> None:
    """Report to nobody."""
