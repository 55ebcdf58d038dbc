"""What the lines of a manifest add up to: what is live, what is kept, what is left over."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from consumers.decisions import Decided
from consumers.manifest import Line
from consumers.manifest_steps import (
    Begun,
    Collections,
    Dropped,
    Excised,
    Filled,
    Opened,
    Published,
    Rewritten,
    RolledBack,
    Trained,
)


@dataclass(slots=True)
class Publications:
    """The state of publishing, advanced one line at a time.

    Attributes
    ----------
    generation : int
        Of the newest publisher, whatever its lane; 0 before the first.
    holders : lane -> generation
        Who may write what.
    live, previous : Collections or None
        What the aliases should point at, and what a rollback would return to.
    owned : names of collections that were begun and not dropped
    withdrawn : int
        Newest version that was rolled back from; 0 for none.
    fills : version -> how often filling it was begun
    coming : Collections or None
        Those that were begun last and are neither published nor given up.
    begun : int
        Number of the line that says so.
    filled : lane -> what it said of ``coming``
    decisions : version -> what was decided last about it
    """

    generation: int = 0
    holders: dict[str, int] = field(default_factory=dict[str, int])
    live: Collections | None = None
    previous: Collections | None = None
    owned: set[str] = field(default_factory=set[str])
    fills: dict[int, int] = field(default_factory=dict[int, int])
    lines: int = 0
    withdrawn: int = 0
    coming: Collections | None = None
    begun: int = 0
    filled: dict[str, Filled] = field(default_factory=dict[str, Filled])
    decisions: dict[int, Decided] = field(default_factory=dict[int, Decided])

    def advance(self, lines: Iterable[Line]) -> None:
        """Take in further lines, in order."""
        for line in lines:
            self.lines += 1
            match line.body:
                case Opened(generation=generation, lane=lane):
                    self.generation = max(self.generation, generation)
                    self.holders[lane] = generation
                case Begun(collections=begun):
                    self._expect(begun, line.number)
                    self.owned.update((begun.items, begun.users))
                    self.fills[begun.version] = self.fills.get(begun.version, 0) + 1
                case Filled(collections=pair, lane=lane) as filled:
                    if pair == self.coming:
                        self.filled[lane] = filled
                case Published(collections=pair):
                    self._expect(None)
                    self._go_live(pair)
                case RolledBack(collections=pair):
                    self._expect(None)
                    if self.live is not None and self.live.version > pair.version:
                        self.withdrawn = max(self.withdrawn, self.live.version)
                    self._go_live(pair)
                case Dropped(names=names):
                    self._drop(set(names))
                case Decided(version=version):
                    self.decisions[version] = line.body
                case Trained() | Excised() | Rewritten():
                    pass  # of the model and of the state: nothing of what is published

    @property
    def turned_away(self) -> set[int]:
        """Versions that were refused or taken back because they do harm."""
        return {version for version, last in self.decisions.items() if last.turned_away}

    @property
    def kept(self) -> tuple[Collections, ...]:
        """The live pair and the one before it, as far as there are."""
        return tuple(pair for pair in (self.live, self.previous) if pair is not None)

    @property
    def leftover(self) -> set[str]:
        """Collections of ours that nobody reads or would return to."""
        return self.owned - {name for pair in self.kept for name in (pair.items, pair.users)}

    def holds(self, lane: str, generation: int) -> bool:
        """Whether a lane's publisher of this generation has not been taken over from."""
        return self.holders.get(lane, 0) <= generation

    def missing(self, lanes: Iterable[str]) -> list[str]:
        """Those of these lanes whose users are not in the pair that is coming."""
        return [
            lane
            for lane in lanes
            if lane not in self.filled or self.filled[lane].generation != self.holders.get(lane)
        ]

    def _expect(self, pair: Collections | None, begun: int = 0) -> None:
        self.coming, self.begun = pair, begun
        self.filled.clear()

    def _go_live(self, pair: Collections) -> None:
        # A version filled anew, or written into what is there, replaces that: a rollback still
        # returns to the collections before.
        if (
            self.live is not None
            and self.live.version != pair.version
            and self.live.items != pair.items
        ):
            self.previous = self.live
        self.live = pair

    def _drop(self, names: set[str]) -> None:
        self.owned -= names
        if self.coming is not None and not names.isdisjoint((self.coming.items, self.coming.users)):
            self._expect(None)
        if self.live is not None and not names.isdisjoint((self.live.items, self.live.users)):
            self.live = None
        if self.previous is not None and not names.isdisjoint(
            (self.previous.items, self.previous.users)
        ):
            self.previous = None
