"""What the lines of a manifest add up to: what is live, what is kept, what is left over."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from consumers.decisions import Decided
from consumers.manifest import (
    Begun,
    Collections,
    Dropped,
    Excised,
    Line,
    Opened,
    Published,
    RolledBack,
    Trained,
)


@dataclass(slots=True)
class Publications:
    """The state of publishing, advanced one line at a time.

    Attributes
    ----------
    generation : int
        Of the newest publisher; 0 before the first.
    live, previous : Collections or None
        What the aliases should point at, and what a rollback would return to.
    owned : names of collections that were begun and not dropped
    withdrawn : int
        Newest version that was rolled back from; 0 for none.
    fills : version -> how often filling it was begun
    decisions : version -> what was decided last about it
    """

    generation: int = 0
    live: Collections | None = None
    previous: Collections | None = None
    owned: set[str] = field(default_factory=set[str])
    fills: dict[int, int] = field(default_factory=dict[int, int])
    lines: int = 0
    withdrawn: int = 0
    decisions: dict[int, Decided] = field(default_factory=dict[int, Decided])

    def advance(self, lines: Iterable[Line]) -> None:
        """Take in further lines, in order."""
        for line in lines:
            self.lines += 1
            match line.body:
                case Opened(generation=generation):
                    self.generation = max(self.generation, generation)
                case Begun(collections=begun):
                    self.owned.update((begun.items, begun.users))
                    self.fills[begun.version] = self.fills.get(begun.version, 0) + 1
                case Published(collections=pair):
                    self._go_live(pair)
                case RolledBack(collections=pair):
                    if self.live is not None and self.live.version > pair.version:
                        self.withdrawn = max(self.withdrawn, self.live.version)
                    self._go_live(pair)
                case Dropped(names=names):
                    self._drop(set(names))
                case Decided(version=version):
                    self.decisions[version] = line.body
                case Trained() | Excised():
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
        if self.live is not None and not names.isdisjoint((self.live.items, self.live.users)):
            self.live = None
        if self.previous is not None and not names.isdisjoint(
            (self.previous.items, self.previous.users)
        ):
            self.previous = None
