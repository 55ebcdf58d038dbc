"""What the graph looks like to those who learn from it: frozen, and grouped by user on demand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stream.batch import Kind
from stream.edges import EdgeSlice, codes, live, positive
from stream.exposure import factors

T = TypeVar("T", bound=np.generic)

_DAY_US = 86_400_000_000

KIND_WEIGHTS: Mapping[Kind, float] = MappingProxyType(
    {
        Kind.VIEW: 0.5,
        Kind.CLICK: 1.0,
        Kind.LIKE: 2.0,
        Kind.ADD_TO_CART: 2.0,
        Kind.PURCHASE: 3.0,
        Kind.AD_CLICK: 1.0,
        Kind.CONVERSION: 3.0,
        Kind.IMPRESSION: -0.1,
    }
)


@dataclass(frozen=True, slots=True)
class GraphConfig:
    """What stays in the graph, for how long, and what it weighs.

    Attributes
    ----------
    window_us : int, or None for no end
        Edges further than this behind the latest event are no longer in the graph.
    degree_cap : int
        Interactions a user may add in a calendar stretch of ``window_us`` (in all, without a
        window); further ones are counted, not added.
    half_life_us : int, or None for no decay
        Time in which an edge loses half its weight.
    weights : kind -> weight
        Negative for what was shown and not answered.
    join_rows : int
        Rows of its partition for which an impression or click surely waits for what refers to it.
    join_block : int
        Rows forgotten together.
    answer_us : int
        An impression is also answered by a positive event of the same user and item that follows
        it within this time, though it names no impression.
    attribution_us : int
        A click answers an impression, and a conversion comes of either, if it is no more than
        this later.
    slab_rows : int
        Edges that are allocated, and given back, together; a power of two.
    """

    window_us: int | None = None
    degree_cap: int = 100_000
    half_life_us: int | None = 30 * _DAY_US
    weights: Mapping[Kind, float] = field(default_factory=lambda: KIND_WEIGHTS)
    join_rows: int = 1_000_000
    join_block: int = 65_536
    answer_us: int = 3_600_000_000
    attribution_us: int = 30 * _DAY_US
    slab_rows: int = 1 << 22

    def __post_init__(self) -> None:
        for name in ("window_us", "half_life_us", "degree_cap"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"GraphConfig.{name} is at least 1: got {value}")


@dataclass(frozen=True, slots=True)
class Csr:
    """Edges grouped by user, each user's oldest first (by event time, then by arrival).

    Attributes
    ----------
    indptr : int64[U + 1]
    item : int32[E]
    time_us : int64[E]
    kind : uint8[E]
        A `Kind`.
    weight : float32[E]
        Weight of the kind times 2^(-age / half-life); negative for impressions, and times what
        their position and propensity say (`stream.exposure`).
    sequence : int64[E]
        Number of each edge by arrival.
    """

    indptr: NDArray[np.int64]
    item: NDArray[np.int32]
    time_us: NDArray[np.int64]
    kind: NDArray[np.uint8]
    weight: NDArray[np.float32]
    sequence: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.item)

    def where(self, keep: NDArray[np.bool_]) -> "Csr":
        """Only these edges; keep is bool[E]."""
        return Csr(
            np.append(0, np.cumsum(keep))[self.indptr],
            self.item[keep],
            self.time_us[keep],
            self.kind[keep],
            self.weight[keep],
            self.sequence[keep],
        )


@dataclass(frozen=True, slots=True)
class GraphView:
    """The graph at one moment; later events do not change it. Shares the graph's memory.

    Attributes
    ----------
    slices : columns of the edges, gone ones included, by arrival
    n_users, n_items : int
        Sizes of the vocabularies.
    next_sequence : int
        The number that the next edge will get.
    now_us : int
        Latest event time, microseconds since the epoch.
    removed : bool[n_items]
    """

    slices: tuple[EdgeSlice, ...]
    n_users: int
    n_items: int
    next_sequence: int
    now_us: int
    removed: NDArray[np.bool_]
    config: GraphConfig

    @property
    def horizon_us(self) -> int:
        """Edges before this time are not in the graph any more."""
        return horizon(self.now_us, self.config.window_us)

    @property
    def decided_us(self) -> int:
        """Whether an impression before this time is answered is known."""
        return self.now_us - self.config.answer_us

    def csr(self, *, impressions: bool = False, at_us: int | None = None) -> Csr:
        """Group the edges by user.

        Parameters
        ----------
        impressions : bool
            Whether unanswered impressions are wanted too.
        at_us : int, optional
            The time that weights are decayed to; the latest event's unless given.
        """
        user, rest = self._gather(impressions)
        order = _by_user(user, rest.time_us)
        user = user[order]
        item, time_us, kind = rest.item[order], rest.time_us[order], rest.kind[order]
        indptr = np.zeros(self.n_users + 1, np.int64)
        np.cumsum(np.bincount(user, minlength=self.n_users), out=indptr[1:])
        weight = self._weights(kind, time_us, self.now_us if at_us is None else at_us)
        csr = Csr(indptr, item, time_us, codes(kind), weight, rest.sequence[order])
        return self._without_answered(user, csr) if impressions else csr

    def _gather(self, impressions: bool) -> tuple[NDArray[np.int32], Csr]:
        """Columns of the edges wanted, in order of arrival, with their stored kinds."""
        of = live if impressions else positive
        parts: list[tuple[EdgeSlice, NDArray[np.int64]]] = []
        for piece in self.slices:
            wanted = of(piece.kind) & (piece.time_us >= self.horizon_us)
            if self.removed.any():
                wanted &= ~self.removed[np.where(wanted, piece.item, 0)]
            parts.append((piece, np.flatnonzero(wanted)))
        empty = np.empty(0, np.float32)
        rest = Csr(
            np.empty(0, np.int64),
            _joined([p.item[at] for p, at in parts], np.int32),
            _joined([p.time_us[at] for p, at in parts], np.int64),
            _joined([p.kind[at] for p, at in parts], np.uint8),
            empty,
            _joined([p.first + at for p, at in parts], np.int64),
        )
        return _joined([p.user[at] for p, at in parts], np.int32), rest

    def _weights(
        self, kind: NDArray[np.uint8], time_us: NDArray[np.int64], at_us: int
    ) -> NDArray[np.float32]:
        table = np.zeros(Kind.IMPRESSION + 1, np.float32)
        for code, value in self.config.weights.items():
            table[code] = value
        weight: NDArray[np.float32] = table[codes(kind)] * factors(kind)
        if self.config.half_life_us is not None:
            age = np.maximum(at_us - time_us, 0) / self.config.half_life_us
            weight = (weight * np.exp2(-age)).astype(np.float32)
        return weight

    def _without_answered(self, user: NDArray[np.int32], csr: Csr) -> Csr:
        """Leave out the impressions that a later event of the same pair has answered."""
        pair = user.astype(np.int64) << 32 | csr.item
        order = np.lexsort((np.arange(len(pair)), pair))
        liked = csr.kind[order] != Kind.IMPRESSION
        place = np.where(liked, np.arange(len(pair)), len(pair))
        following = np.minimum.accumulate(place[::-1])[::-1]
        found = np.minimum(following, max(len(pair) - 1, 0))
        same = (following < len(pair)) & (pair[order][found] == pair[order])
        wait = csr.time_us[order][found] - csr.time_us[order]
        keep = np.ones(len(pair), np.bool_)
        keep[order] = liked | ~(same & (wait <= self.config.answer_us))
        return csr.where(keep)


def horizon(now_us: int, window_us: int | None) -> int:
    """The time before which nothing is in the graph."""
    return now_us - window_us if window_us is not None else -(1 << 62)


def _by_user(user: NDArray[np.int32], time_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order by user, time, arrival; arrival is nearly the order of time, so try that first."""
    order = np.argsort(user, kind="stable")
    who, when = user[order], time_us[order]
    if ((who[1:] == who[:-1]) & (when[1:] < when[:-1])).any():
        return np.lexsort((time_us, user))
    return order


def _joined(parts: Sequence[NDArray[T]], dtype: type[T]) -> NDArray[T]:
    return np.concatenate([np.empty(0, dtype), *parts])
