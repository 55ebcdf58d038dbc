"""Impressions, the clicks that answer them, and the conversions that come of either.

An impression is a negative until something answers it. Whichever arrives first, the outcome is the
same:

- an impression that was clicked is gone, the click stands for it;
- what a conversion refers to becomes a conversion (a clicked impression's click; an impression
  that was never clicked, itself);
- a conversion whose cause is not known stands for itself until that cause comes, if ever;
- nothing answers, or is the cause of, what comes more than ``attribution_us`` later.

Three windows of bounded size carry this: ``pending`` says which edge an event became, ``ahead``
which click came ahead of the impression that it answers, ``waiting`` which edge a conversion
stands for its cause with. Orderers must remember events for longer than these do: then an id that
is new is in none of them for an event of its own.

Every step on this way is counted, by `Transition`, and however the stream is cut the counts are
the same.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import numpy as np
from numpy.typing import NDArray

from stream.batch import EventBatch, Kind, Partition, pick
from stream.chains import Chains
from stream.edges import CLICKED, EXPOSURE, GONE, SHOWN, EdgeLog
from stream.window import IdTable, IdWindow

_WRAP = 1 << 32
_CONVERTED_IMPRESSION = Kind.CONVERSION | SHOWN


class Transition(StrEnum):
    """What an event does to another one, or finds nobody to do it to.

    Attributes
    ----------
    IMPRESSION_CLICKED : an impression got its first click, whichever of them came first
    IMPRESSION_CONVERTED : one without a click led to a conversion: a negative turned around
    CLICK_CONVERTED : a click led to a conversion, or took one over from its impression
    UNATTRIBUTED : a conversion whose cause is not known stands for itself
    ATTRIBUTED : the cause of one of those has come
    """

    IMPRESSION_CLICKED = "impression_clicked"
    IMPRESSION_CONVERTED = "impression_converted"
    CLICK_CONVERTED = "click_converted"
    UNATTRIBUTED = "conversion_unattributed"
    ATTRIBUTED = "conversion_attributed"


_BORN = {
    CLICKED: Transition.IMPRESSION_CLICKED,
    _CONVERTED_IMPRESSION: Transition.IMPRESSION_CONVERTED,
    int(Kind.CONVERSION): Transition.CLICK_CONVERTED,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a span of interactions does to the graph, before it is done.

    Attributes
    ----------
    appended : int64[m]
        Which of the span's interactions become edges, ascending.
    kind : uint8[m]
        The stored kind each is born with.
    ids, refers : m strings
    conversions : (event id whose edge becomes a conversion, time of the conversion)
    """

    appended: NDArray[np.int64]
    kind: NDArray[np.uint8]
    ids: Sequence[str]
    refers: Sequence[str]
    conversions: Sequence[tuple[str, int]] = ()


class Joins:
    """Finds what belongs together, within bounded memory.

    Attributes
    ----------
    transitions : how often each has happened; whoever reads it may clear it
    """

    def __init__(
        self, edges: EdgeLog, chains: Chains, *, rows: int, block: int, attribution_us: int
    ) -> None:
        self._edges = edges
        self._chains = chains
        self._attribution_us = attribution_us
        self.pending = IdTable(rows, block)
        self.ahead = IdWindow(rows, block)
        self.waiting = IdWindow(rows, block)
        self.transitions: Counter[Transition] = Counter()
        self.amended: set[int] = set()
        self.erased: set[int] = set()  # users forgotten whose edges are not blanked yet

    def passed(self, partition: Partition, n: int) -> None:
        """Count rows in all windows."""
        self.pending.passed(partition, n)
        self.ahead.passed(partition, n)
        self.waiting.passed(partition, n)

    def plan(
        self,
        kind: NDArray[np.uint8],
        time_us: NDArray[np.int64],
        ids: Sequence[str],
        refers: Sequence[str],
    ) -> Plan:
        """Say which interactions become edges, and of what kind."""
        every = np.arange(len(kind))
        if not any(refers):
            return Plan(every, self._born(kind, ids, refers), ids, refers)
        self.pending.recall(refers)
        caused = list(map(_is_caused, kind, refers))
        if not any(caused):
            return Plan(every, self._born(kind, ids, refers), ids, refers)
        appended, conversions = self._causes(caused, ids, refers)
        at = np.array(appended, np.int64)
        ids = [ids[i] for i in appended]
        refers = [refers[i] for i in appended]
        caused_at = [(cause, int(time_us[i])) for cause, i in conversions]
        return Plan(at, self._born(kind[at], ids, refers), ids, refers, caused_at)

    def _causes(
        self, caused: Sequence[bool], ids: Sequence[str], refers: Sequence[str]
    ) -> tuple[list[int], list[tuple[str, int]]]:
        """Tell conversions whose cause is known from those that must stand for themselves."""
        waiting = self.waiting.values
        here = {i for i, c in zip(ids, caused, strict=True) if not c}
        here |= {r for r, c in zip(refers, caused, strict=True) if r and not c}
        stand: set[str] = set()
        appended: list[int] = []
        conversions: list[tuple[str, int]] = []
        for i, (cause, is_conversion) in enumerate(zip(refers, caused, strict=True)):
            if not is_conversion:
                appended.append(i)
            elif cause in here or self._standing(cause) is not None:
                conversions.append((cause, i))
            elif cause not in waiting and cause not in stand:
                stand.add(cause)
                appended.append(i)
        return appended, conversions

    def _born(
        self, kind: NDArray[np.uint8], ids: Sequence[str], refers: Sequence[str]
    ) -> NDArray[np.uint8]:
        ahead, waiting = self.ahead.values, self.waiting.values
        if _apart(ahead, ids) and _apart(waiting, ids):
            return kind
        born = kind.copy()
        for i, name in enumerate(ids):
            shown = kind[i] == Kind.IMPRESSION
            if name in ahead:
                if shown:
                    born[i] = CLICKED
            elif name in waiting and not _is_caused(kind[i], refers[i]):
                born[i] = _CONVERTED_IMPRESSION if shown else Kind.CONVERSION
        return born

    def settle(
        self, partition: Partition, plan: Plan, first: int, kind: NDArray[np.uint8]
    ) -> list[int]:
        """Carry out the rest of a plan, once its edges have been appended.

        Parameters
        ----------
        first : int
            The number that the first of them got.
        kind : uint8[m]
            What each was when it arrived.

        Returns
        -------
        list of int
            Numbers of the edges that were there already and have changed.
        """
        self._remember(partition, plan, first, kind)
        for i in np.flatnonzero(plan.kind != kind).tolist():
            self.transitions[_BORN[int(plan.kind[i])]] += 1
        if not any(plan.refers) and not plan.conversions:
            return []
        touched: list[int] = []
        for i, cause in enumerate(plan.refers):
            if not cause:
                continue
            if _is_caused(kind[i], cause):
                self.waiting.add(partition, [cause], [first + i])
                self.transitions[Transition.UNATTRIBUTED] += 1
            else:
                touched += self._answer(partition, cause, first + i)
        for cause, time_us in plan.conversions:
            touched += self._convert(cause, time_us)
        return touched

    def _remember(
        self, partition: Partition, plan: Plan, first: int, kind: NDArray[np.uint8]
    ) -> None:
        """Let every new edge stand for its event, unless another does already."""
        numbers: Sequence[int] = range(first, first + len(plan.ids))
        ids = plan.ids
        ahead = self.ahead.values
        if not _apart(self.waiting.values, ids):
            for i, name in enumerate(ids):
                if not _is_caused(kind[i], plan.refers[i]):
                    self._relieve(name, first + i)
        if (kind == Kind.CONVERSION).any() or not _apart(ahead, ids):
            new = [
                i
                for i, name in enumerate(ids)
                if name not in ahead and not _is_caused(kind[i], plan.refers[i])
            ]
            ids, numbers = [ids[i] for i in new], [first + i for i in new]
        self.pending.add(partition, ids, numbers)

    def _answer(self, partition: Partition, shown: str, click: int) -> list[int]:
        """A click has answered the impression with this event id."""
        at = self._standing(shown)
        if at is None:
            if shown in self.waiting.values:
                self._click_converted(click, 0)
                self._relieve(shown, click)
            self.ahead.add(partition, [shown], [click])
            return []
        kind = self._kind(at, self._edges.time_us_at(click))
        if kind in (Kind.IMPRESSION, _CONVERTED_IMPRESSION):
            self.transitions[Transition.IMPRESSION_CLICKED] += 1
        if kind == Kind.IMPRESSION:
            self._set(at, CLICKED)
            self._edges.set_link(at, (click - at) % _WRAP)
            return [at]
        if kind == _CONVERTED_IMPRESSION:
            self._set(at, kind | GONE)
            self._click_converted(click, 0)
            return [at]
        return []

    def _convert(self, cause: str, time_us: int) -> list[int]:
        """What has this event id has led to a conversion."""
        at = cast(int, self._standing(cause))  # known when this was planned
        kind = self._kind(at, time_us)
        if kind == CLICKED:
            at += self._edges.link_at(at)
            kind = self._kind(at, time_us)
        if kind >= GONE:
            return []
        if kind == Kind.IMPRESSION:
            self.transitions[Transition.IMPRESSION_CONVERTED] += 1
            self._set(at, _CONVERTED_IMPRESSION)
            self.amended.update(self._chains.insert(at))
        else:
            self._click_converted(at, kind & SHOWN)
        return [at]

    def _click_converted(self, at: int, shown: int) -> None:
        if self._kind(at) & ~SHOWN != Kind.CONVERSION:
            self.transitions[Transition.CLICK_CONVERTED] += 1
        self._set(at, Kind.CONVERSION | shown)

    def _relieve(self, cause: str, by: int) -> None:
        """An event has come that a conversion stands for: it need do so no longer."""
        at = self.waiting.values.get(cause)
        if at is None or self._kind(at) >= GONE:
            return
        # What is older may have been dropped already, which depends on where the stream is cut.
        if self._kind(at, self._edges.time_us_at(by)) < GONE:
            self.transitions[Transition.ATTRIBUTED] += 1
        self._set(at, self._kind(at) | GONE)

    def _standing(self, name: str) -> int | None:
        """The edge that stands for an event."""
        at = self.ahead.values.get(name)
        return self.pending.get(name) if at is None else at

    def _kind(self, at: int, time_us: int | None = None) -> int:
        """Stored kind of an edge as an event at a time sees it.

        Gone if it was dropped, its user is to be forgotten, or it is too old for that event.
        """
        edges = self._edges
        if at < edges.first or (self.erased and edges.user_at(at) in self.erased):
            return GONE
        if time_us is not None and edges.time_us_at(at) < time_us - self._attribution_us:
            return GONE
        kind = self._edges.kind_at(at)
        return kind & ~EXPOSURE if kind & Kind.IMPRESSION == Kind.IMPRESSION else kind

    def _set(self, at: int, kind: int) -> None:
        self._edges.set_kind(at, kind)
        self.amended.add(at)


def _apart(known: Mapping[str, int], ids: Sequence[str]) -> bool:
    """Whether none of the ids is known."""
    return not known or known.keys().isdisjoint(ids)


def _is_caused(kind: np.uint8, refers: str) -> bool:
    """Whether an event is a conversion that names its cause."""
    return bool(refers) and kind == Kind.CONVERSION


def referred(batch: EventBatch, keep: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of the events that an earlier one refers to, or that name a conversion's cause."""
    refers = pick(batch.refers_to, keep)
    if not any(refers):
        return np.empty(0, np.int64)
    named: set[str] = set()
    caused: set[str] = set()
    late: list[int] = []
    ids, kinds = pick(batch.event_id, keep), batch.kind[keep].tolist()
    for i, (name, cause, kind) in enumerate(zip(ids, refers, kinds, strict=True)):
        if name in named or cause in caused:
            late.append(i)
        if cause:
            named.add(cause)
            if kind == Kind.CONVERSION:
                caused.add(cause)
    return np.array(late, np.int64)
