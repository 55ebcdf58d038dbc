"""Two real streams as plain arrays, and what each event's user had before it."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fetch import fetch
from numpy.typing import NDArray
from pyarrow import csv

from model.data import Interactions, interactions

Ints = NDArray[np.int64]
Histories = tuple[NDArray[np.int32], Ints]
"""Items [n, L], the most recent first, -1 past the end, and their times in microseconds."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Events in order of time; the first ``history`` of them are never scored."""

    user: Ints
    item: Ints
    time_us: Ints
    history: int
    texts: list[str] = field(default_factory=list[str])

    @property
    def items(self) -> int:
        """Items in all."""
        return int(self.item.max()) + 1

    def upto(self, end: int) -> Interactions:
        """The first ``end`` events."""
        users = int(self.user.max()) + 1
        user, item, when = self.user[:end], self.item[:end], self.time_us[:end]
        return interactions(user, item, items=self.items, users=users, time_us=when)


class Past:
    """What each event's user had before it, in order of arrival."""

    def __init__(self, stream: Stream) -> None:
        order = np.argsort(stream.user, kind="stable")
        self._user = stream.user
        self._items = stream.item[order]
        self._times = stream.time_us[order]
        self._place = np.empty(len(order), np.int64)
        self._place[order] = np.arange(len(order))
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(stream.user))])[:-1]
        key = stream.user * stream.items + stream.item
        self.first = np.zeros(len(key), np.bool_)
        self.first[np.unique(key, return_index=True)[1]] = True

    def live(self, event: Ints, length: int) -> Histories:
        """What came last before each event."""
        return self._back(event, self._place[event], length)

    def static(self, event: Ints, length: int, upto: int) -> Histories:
        """What came last for each event's user among the first ``upto`` events."""
        known = np.bincount(self._user[:upto], minlength=len(self._starts))
        user = self._user[event]
        return self._back(event, self._starts[user] + known[user], length)

    def seen(self, event: Ints) -> tuple[Ints, Ints]:
        """All items before each event, as CSR."""
        start = self._starts[self._user[event]]
        count = self._place[event] - start
        indptr = np.concatenate([[0], np.cumsum(count)])
        at = np.arange(indptr[-1]) + np.repeat(start - indptr[:-1], count)
        return indptr, self._items[at]

    def _back(self, event: Ints, end: Ints, length: int) -> Histories:
        at = end[:, None] - np.arange(1, length + 1)
        inside = at >= self._starts[self._user[event]][:, None]
        at = np.where(inside, at, 0)
        items = np.where(inside, self._items[at], -1).astype(np.int32)
        return items, np.where(inside, self._times[at], 0)


def movielens() -> Stream:
    """MovieLens-100K: every rating is an event."""
    folder = fetch("ml-100k")
    tabs = csv.ParseOptions(delimiter="\t", quote_char=False)
    table = csv.read_csv(folder / "ml-100k.inter", parse_options=tabs)
    user, item, _, when = (table.column(n).to_numpy() for n in range(4))
    order = np.argsort(when, kind="stable")
    films = csv.read_csv(folder / "ml-100k.item", parse_options=tabs)
    said = dict(zip(films.column(0).to_pylist(), zip(*films.columns[1:], strict=True), strict=True))
    names, numbers = _numbered(item[order])
    texts = [" ".join(str(part.as_py() or "") for part in said[name]) for name in names.tolist()]
    time_us = when[order].astype(np.int64) * 1_000_000
    return Stream(_numbered(user[order])[1], numbers, time_us, 0, texts)


def kuairand() -> Stream:
    """KuaiRand: watch histories, the users interleaved from the end; then the log's clicks."""
    folder = Path(os.environ.get("GOAT_DATA", "../shared/data")) / "kuairand_pure_part"
    table = pq.read_table(folder / "user_history_upto_0424.parquet")
    watched = table.column("watch_seq").combine_chunks()
    length = np.diff(watched.offsets.to_numpy())
    owner = np.repeat(np.arange(len(length)), length)
    from_end = np.cumsum(length)[owner] - np.arange(len(owner))
    then = table.column("last_time_ms").to_numpy()[owner] - 1000 * from_end
    early = np.argsort(then, kind="stable")
    log = pq.read_table(folder / "log_standard_0425_0508.parquet").filter(pc.field("is_click") == 1)
    columns = ("time_ms", "user_id", "video_id")
    clicks = np.unique(np.stack([log.column(c).to_numpy() for c in columns]), axis=1)
    user = np.concatenate([table.column("user_id").to_numpy()[owner][early], clicks[1]])
    item = np.concatenate([watched.flatten().to_numpy()[early], clicks[2]])
    when = np.concatenate([then[early], clicks[0]]) * 1000
    return Stream(_numbered(user)[1], _numbered(item)[1], when, len(owner))


def _numbered(names: Ints) -> tuple[Ints, Ints]:
    """Names by first appearance, and each one's number."""
    distinct, first, inverse = np.unique(names, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    return distinct[order], number[inverse]
