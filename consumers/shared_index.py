"""An index that threads of one process take turns at."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from consumers.index import VectorIndex


class _Shared:
    def __init__(self, index: VectorIndex) -> None:
        self._index = index
        self._turn = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Any] = getattr(self._index, name)

        @wraps(method)
        def in_turn(*args: Any, **kwargs: Any) -> Any:
            with self._turn:
                return method(*args, **kwargs)

        return in_turn


def shared(index: VectorIndex) -> VectorIndex:
    """The same index, for several threads: one call of it at a time."""
    return cast(VectorIndex, _Shared(index))
