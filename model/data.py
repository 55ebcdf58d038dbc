"""What the model learns from: interactions by user, and vectors of items by modality."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import InvalidInput

TEXT = "text"
MODALITIES = (TEXT, "image")
"""Names of what an item may have beside its id, the one that new items are placed by first."""


@dataclass(frozen=True, slots=True)
class Interactions:
    """Events grouped by user, oldest first within a user (CSR).

    Attributes
    ----------
    indptr : int64[U + 1]
        User u owns the events ``indptr[u]:indptr[u + 1]``.
    item : int32[E]
        Item index, below `items`.
    time_us : int64[E]
        Event time, microseconds since the Unix epoch.
    weight : float32[E]
        What the event counts for as a target: its kind's weight, decayed. Not negative.
    sequence : int64[E]
        Order of arrival; tells new events from those a version has learned.
    positive : bool[E]
        False for what was shown and passed over: never a target nor part of a context.
    items : int
        Size I of the item vocabulary.
    late : bool[E], optional
        Events whose label may have come after them, such as a click that has led to a conversion:
        a version that has not learned one as such learns it as if it were new.

    Raises
    ------
    InvalidInput
        The arrays do not fit each other, or hold a value that cannot be learned from.
    """

    indptr: NDArray[np.int64]
    item: NDArray[np.int32]
    time_us: NDArray[np.int64]
    weight: NDArray[np.float32]
    sequence: NDArray[np.int64]
    positive: NDArray[np.bool_]
    items: int
    late: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        _check_pointers(self.indptr, len(self.item))
        lengths = {
            "time_us": len(self.time_us),
            "weight": len(self.weight),
            "sequence": len(self.sequence),
            "positive": len(self.positive),
            "late": len(self.item) if self.late is None else len(self.late),
        }
        for name, length in lengths.items():
            if length != len(self.item):
                raise InvalidInput(f"{name} has {length} entries for {len(self.item)} events")
        if len(self.item) and not 0 <= int(self.item.min()) <= int(self.item.max()) < self.items:
            raise InvalidInput(
                f"item indices span [{self.item.min()}, {self.item.max()}]"
                f" but the vocabulary has {self.items} items"
            )
        if not np.isfinite(self.weight).all() or (self.weight < 0).any():
            raise InvalidInput("event weights must be finite and not negative")

    def __len__(self) -> int:
        return len(self.item)

    @property
    def users(self) -> int:
        """Number of users U."""
        return len(self.indptr) - 1

    def owners(self) -> NDArray[np.int64]:
        """User of each event, int64[E]."""
        return np.repeat(np.arange(self.users), np.diff(self.indptr))

    def positives(self) -> "Interactions":
        """Return the same without the events that were passed over."""
        if self.positive.all():
            return self
        kept = np.concatenate([[0], np.cumsum(self.positive)])
        keep = self.positive
        return Interactions(
            indptr=kept[self.indptr],
            item=self.item[keep],
            time_us=self.time_us[keep],
            weight=self.weight[keep],
            sequence=self.sequence[keep],
            positive=self.positive[keep],
            items=self.items,
            late=None if self.late is None else self.late[keep],
        )


def interactions(
    user: NDArray[Any],
    item: NDArray[Any],
    *,
    items: int,
    users: int | None = None,
    time_us: NDArray[np.int64] | None = None,
    weight: NDArray[np.float32] | None = None,
    positive: NDArray[np.bool_] | None = None,
    sequence: NDArray[np.int64] | None = None,
) -> Interactions:
    """Group events given in order of arrival by user.

    Parameters
    ----------
    user, item : int[E]
        Indices, in order of arrival.
    items, users : int
        Vocabulary sizes; users default to the largest index + 1.
    time_us : int64[E], default the order of arrival
    weight : float32[E], default 1
    positive : bool[E], default True
    sequence : int64[E], default the order given
    """
    n = len(user)
    count = (int(user.max()) + 1 if n else 0) if users is None else users
    if n and not 0 <= int(user.min()) <= int(user.max()) < count:
        raise InvalidInput(f"user indices span [{user.min()}, {user.max()}], users are {count}")
    time = np.arange(n, dtype=np.int64) if time_us is None else time_us
    order = np.lexsort((time, user))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=count))])
    return Interactions(
        indptr=indptr.astype(np.int64),
        item=item[order].astype(np.int32),
        time_us=time[order],
        weight=(np.ones(n, np.float32) if weight is None else weight)[order],
        sequence=order.astype(np.int64) if sequence is None else sequence[order],
        positive=(np.ones(n, np.bool_) if positive is None else positive)[order],
        items=items,
    )


@dataclass(frozen=True, slots=True)
class Features:
    """Vectors of one modality, of the items that have it: language-model vectors of texts, say.

    Attributes
    ----------
    vectors : float32[I, t]
        A row per item; rows of items without are not read.
    present : bool[I]
    """

    vectors: NDArray[np.float32]
    present: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.present):
            raise InvalidInput(f"vectors {self.vectors.shape} do not fit {len(self.present)} items")
        if not np.isfinite(self.vectors[self.present]).all():
            raise InvalidInput("an item's vector holds NaN or infinity")

    def normalised(self) -> NDArray[np.float32]:
        """Rows at length 1, float32[I, t]; absent and all-zero rows are zero."""
        rows = np.where(self.present[:, None], self.vectors, np.float32(0.0))
        return unit_rows(rows)


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows at Euclidean length 1, float32[n, d]; a zero row stays zero."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (rows / np.maximum(length, 1e-12)).astype(np.float32)
    return unit


def _check_pointers(indptr: NDArray[np.int64], events: int) -> None:
    if len(indptr) < 1 or indptr[0] != 0 or indptr[-1] != events:
        raise InvalidInput(f"indptr must run from 0 to the {events} events, got {indptr[:1]}..")
    if (np.diff(indptr) < 0).any():
        raise InvalidInput("indptr must not decrease")
