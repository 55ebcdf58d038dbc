"""An index that may not be there yet, or not any more: a server starts and serves without it."""

import threading
from collections.abc import Callable, Sequence

from consumers.errors import ServerUnavailable
from consumers.finder import Finder, Found, Query
from stream.deadline import Deadline

EVERY_S = 2.0


class Reconnecting:
    """A `Finder` that is opened by a thread, as often as it takes.

    Parameters
    ----------
    open_ : callable
        Opens it; raises `ServerUnavailable` as long as it cannot.
    """

    def __init__(self, open_: Callable[[], Finder]) -> None:
        self._open = open_
        self._finder: Finder | None = None
        self._why = "it has not been reached yet"

    def run(self, stop: threading.Event) -> None:
        """Open it; try again until told to stop."""
        while self._finder is None and not stop.is_set():
            if not self.try_open():
                stop.wait(EVERY_S)

    def try_open(self) -> bool:
        """Open it once; whether it is open."""
        try:
            self._finder = self._open()
        except ServerUnavailable as error:
            self._why = str(error)
        return self._finder is not None

    def find(self, collection: str, queries: Sequence[Query], deadline: Deadline) -> list[Found]:
        return self._there().find(collection, queries, deadline)

    def holds(self, collection: str, deadline: Deadline) -> bool:
        return self._there().holds(collection, deadline)

    def close(self) -> None:
        if self._finder is not None:
            self._finder.close()

    def _there(self) -> Finder:
        if self._finder is None:
            raise ServerUnavailable(self._why)
        return self._finder
