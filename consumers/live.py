"""The model in use: what the slow path trained, applied to what the graph holds now.

A served item is ``[z, w·p + b]`` and a served user ``[u, 1]`` under the dot product: ``z`` the
item's learned vector, ``u`` the fold-in of the user's last events, ``p`` the log of the item's
decayed count, ``w`` the weight of that popularity prior and ``b`` what novelty is worth, for items
that were placed beside their like. See docs/decisions/0002 and 0005.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumers.features import features_of
from consumers.gone import Departed, Gone
from consumers.preferences import Preferences
from consumers.versions import Version
from model.cold import place
from model.config import ModelConfig
from model.coordinate import Coordinate
from model.data import TEXT
from model.fold_in import fold_in
from model.recency import plain
from model.state import ModelState
from model.text_map import TextMap, fit_map
from model.user_graph import UserGraph
from stream.batch import Kind
from stream.graph import Applied, Graph
from stream.growing import Growing
from stream.histories import Recent


@dataclass(frozen=True, slots=True)
class Touched:
    """Numbers of users and items whose vectors have changed: int32[*] each, ascending."""

    users: NDArray[np.int32]
    items: NDArray[np.int32]


class LiveModel:
    """Vectors of users and items as of the last event applied.

    Parameters
    ----------
    graph : Graph
    config : ModelConfig
    preferences : Preferences, optional
        Of users, asked for when a version is adopted and the user graph is on.
    """

    def __init__(
        self, graph: Graph, config: ModelConfig, preferences: Preferences | None = None
    ) -> None:
        self.graph = graph
        self.config = config
        self._preferences = preferences if config.user_neighbours else None
        self._alike: UserGraph | None = None
        self.version = 0
        self.alignment: Mapping[str, Mapping[str, Any]] = {}
        self.last = Coordinate(config)
        self._z = np.zeros((0, config.dim), np.float32)
        self._recency = plain(np.zeros(config.context, np.float32))
        self._learned = np.zeros(0, np.bool_)
        self._rows: Mapping[str, NDArray[np.float32]] = {}
        self._maps: dict[str, TextMap | None] = {}
        self._placed: set[int] = set()
        self.trained_upto = 0
        self._users: set[int] = set()
        self._items: set[int] = set()
        self._told = False  # what was touched is handed out as it comes
        self._since: Growing[np.bool_] | None = None  # users touched, where that is known
        self.departed = Departed()

    @property
    def ready(self) -> bool:
        """Whether a version has been adopted."""
        return self.version > 0

    @property
    def learned(self) -> NDArray[np.bool_]:
        """Which items the version has learned from their events: bool[at most I]."""
        return self._learned

    @property
    def context(self) -> int:
        """Events that a user's vector is made of."""
        return self._recency.length

    @property
    def dim(self) -> int:
        """Dimensions of a served vector."""
        return self.config.dim + 1

    def successor(self, version: Version) -> "LiveModel":
        """The same graph and counts under a new model version; both may learn side by side."""
        coming = LiveModel(self.graph, self.config, self._preferences)
        if self._told and not self._users:
            coming._since = Growing(np.bool_)
        coming.last = self.last.copy()
        coming.last.adopt(coming._load(version))
        known = np.arange(len(self.graph.items), dtype=np.int32)
        coming._place(known[len(coming._learned) :])
        return coming

    def as_of(self, version: Version, arrays: Mapping[str, NDArray[np.float64]]) -> "LiveModel":
        """The same graph under another version that was in use when `to_arrays` gave these."""
        other = LiveModel(self.graph, self.config, self._preferences)
        other.use(version)
        other.restore(arrays)
        return other

    def use(self, version: Version) -> None:
        """Go on under a version that is live already: the counts keep their landmark."""
        self.last.use(self._load(version))

    def _load(self, version: Version) -> ModelState:
        state = version.load()
        self.version, self.trained_upto = version.number, state.trained_upto
        self.alignment = version.alignment
        self._z, self._recency, self._learned = state.items.copy(), state.recency, state.learned
        features = features_of(self.graph.catalog.items, len(self.graph.items))
        self._rows = {name: given.normalised() for name, given in features.items()}
        self._alike = self._look_around()
        self._maps.clear()
        return state

    def learn(self, applied: Applied) -> None:
        """Count a batch's positive events, place its new items, remember what it touched."""
        positive = applied.kind != Kind.IMPRESSION
        age = self.last.age
        self.last.update(applied.item[positive], len(self.graph.items))
        if applied.erased_users:
            self._forget(applied)
        if self.ready:
            self._place(applied.announced_items)
            self._users.update(applied.touched_users.tolist())
            if self._since is not None:
                self._since.reserve(len(self.graph.users))[applied.touched_users] = True
            self._items.update(applied.touched_items.tolist())
            self._items.update(applied.announced_items.tolist())
            removed = (self.graph.items.name(i) for i in applied.removed_items.tolist())
            self.departed.note(Gone(tuple(applied.erased_users), tuple(removed)))
        if self.last.age < age:  # the landmark moved, and with it every item's score
            self._items.update(range(len(self.graph.items)))

    def _forget(self, applied: Applied) -> None:
        """Count what erased users did no more, and let nobody begin beside them."""
        lost = applied.lost
        self.last.take_back(lost.item[lost.counted], lost.age[lost.counted])
        if self._alike is not None:
            self._users.update(self._alike.profiled.user.tolist())
            self._alike = self._look_around()

    def touch_all(self, left: "LiveModel | None" = None) -> None:
        """Whatever is published of this version is out of date.

        Whoever has still to be buried under ``left``, the one in use so far, has to be under this.
        """
        if left is not None:
            self.departed.note(left.departed.gone)
        self._users.update(range(len(self.graph.users)))
        self._items.update(range(len(self.graph.items)))

    @property
    def pending(self) -> int:
        """Users that `take_touched` would give, and those gone."""
        return len(self._users) + len(self.departed)

    def since_made(self, known: int) -> NDArray[np.int32]:
        """Users touched since it was made, when the version before had been told of all others.

        All users, where that is not known (after a restart), or where some change by what is known
        of others (neighbours).

        Returns
        -------
        int32[*], ascending
        """
        if self._since is None or self._alike is not None:
            return np.arange(known, dtype=np.int32)
        return np.flatnonzero(self._since.reserve(known)[:known]).astype(np.int32)

    def take_touched(self) -> tuple[Touched, Gone]:
        """What has changed since the last call, and what is no more."""
        self._told = True
        users, items = (np.array(sorted(s), np.int32) for s in (self._users, self._items))
        self._users.clear()
        self._items.clear()
        return Touched(users, items), self.departed.take()

    def refreshed(
        self, *, users: NDArray[np.int32] | None = None, items: NDArray[np.int32] | None = None
    ) -> None:
        """These are written as they are now: what touched them before need not be.

        But for who is gone and came back: the tombstone follows, and then they must again.
        """
        gone, graph = self.departed.gone, self.graph
        for written, touched, told, names in (
            (users, self._users, gone.users, graph.users),
            (items, self._items, gone.items, graph.items),
        ):
            if written is not None:
                back = names.find(list(told)).tolist() if told else []
                touched.difference_update(set(written.tolist()).difference(back))

    # -- vectors

    def item_vectors(self, items: NDArray[np.int32] | None = None) -> NDArray[np.float32]:
        """Served vectors of these items, or of all: float32[n, d + 1]."""
        n = len(self.graph.items)
        self._reserve(n)
        z = self._z[:n] if items is None else self._z[items]
        return np.concatenate([z, self.last.of(n, items)[:, None]], axis=1, dtype=np.float32)

    def learned_vectors(self, items: NDArray[np.int32]) -> NDArray[np.float32]:
        """What of these items' vectors goes into users': float32[n, d]."""
        self._reserve(len(self.graph.items))
        return self._z[items]

    def given(self, items: NDArray[np.int32], vectors: NDArray[np.float32]) -> None:
        """Take over where another model of this version has placed items that it has not learned.

        Parameters
        ----------
        items, vectors : int32[n], float32[n, d]
        """
        self._reserve(len(self.graph.items))
        self._z[items] = vectors
        self._placed.update(items.tolist())

    def warm_texts(
        self,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]] | None:
        """Learned items with a text, those with most events first.

        Returns
        -------
        items, vectors and texts : int64[n], float32[n, d], float32[n, t], or None without any
        """
        rows = self._rows.get(TEXT)
        known = np.zeros(0, np.int64) if rows is None else self._warm(rows)
        if rows is None or not len(known):
            return None
        known = known[np.argsort(-self.last.counts()[known], kind="stable")]
        return known, self._z[known], rows[known]

    def user_vectors(
        self, users: NDArray[np.int32], history: Recent | None = None
    ) -> NDArray[np.float32]:
        """Served vectors of these users as of now: float32[n, d + 1].

        Parameters
        ----------
        history : their last ``context`` events, where they are at hand
        """
        if history is None:
            history = self.graph.recent(users, self.context)
        # What is asked next comes after all that has happened.
        now = np.full(len(users), self.graph.now_us + 1), np.full(len(users), self.graph.edges.next)
        return self._begun(self.fold(history), history, users, *now)

    def context_vectors(self, sequence: NDArray[np.int64]) -> NDArray[np.float32]:
        """Served vectors of these edges' users just before each edge: float32[n, d + 1]."""
        history, edges = self.graph.before(sequence, self.context), self.graph.edges
        asked = edges.user(sequence), edges.time_us(sequence), sequence
        return self._begun(self.fold(history), history, *asked)

    def known_by(self, item: int) -> str:
        """What an item's vector is of.

        Returns
        -------
        str
            ``events`` of its own; else the modality by which it was placed among its like,
            ``text`` or ``image``; or ``nothing``.
        """
        if item < len(self._learned) and self._learned[item]:
            return "events"
        if item >= len(self._z) or not self._z[item].any():
            return "nothing"
        record = self.graph.catalog.items.get(item)
        return next((n for n in self._rows if record and n in record.vectors), "nothing")

    def placed(self) -> NDArray[np.int64]:
        """Items that were placed among their like since the version was learned, ascending."""
        return np.array(sorted(self._placed), np.int64)

    def showable(self) -> NDArray[np.bool_]:
        """Which items may be shown at the graph's time: bool[I]."""
        return self.graph.catalog.showable(len(self.graph.items), self.graph.now_us)

    # -- state

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """What a snapshot needs beside the graph and the version's number."""
        arrays = {f"popularity.{name}": array for name, array in self.last.state().items()}
        placed = self.placed()
        arrays["placed.items"] = placed.astype(np.float64)
        arrays["placed.vectors"] = self._z[placed].astype(np.float64)
        return arrays

    def restore(self, arrays: Mapping[str, NDArray[np.float64]]) -> None:
        """Put back what `to_arrays` gave, after `use`."""
        mark = "popularity."
        own = {k.removeprefix(mark): v for k, v in arrays.items() if k.startswith(mark)}
        self.last.restore(own)
        placed = arrays["placed.items"].astype(np.int64)
        self._reserve(len(self.graph.items))
        self._z[placed] = arrays["placed.vectors"]
        self._placed = set(placed.tolist())

    def fold(self, history: Recent) -> NDArray[np.float32]:
        """Served vectors of users with these histories: float32[n, d + 1]."""
        folded = fold_in(self._z, self._recency, history.item, history.time_us)
        return np.concatenate([folded, np.ones((len(folded), 1), np.float32)], axis=1)

    def _look_around(self) -> UserGraph | None:
        """Neighbours of the described users under this version."""
        said = None if self._preferences is None else self._preferences.now(self.graph)
        if said is None:
            return None
        history = self.graph.recent(said.user.astype(np.int32), self.context)
        # Of a profile's events one is still there: else it may be of an erased user come back.
        old = (history.item >= 0) & (history.time_us <= said.until_us[:, None])
        kept = np.unique(np.nonzero(old)[0]).astype(np.int64)
        return UserGraph.of(
            said[kept],
            fold_in(self._z, self._recency, history.item[kept], history.time_us[kept]),
            neighbours=self.config.user_neighbours,
            temperature=self.config.user_temperature,
            half=self.config.user_half,
        )

    def _begun(
        self,
        folded: NDArray[np.float32],
        history: Recent,
        user: NDArray[np.int32],
        time_us: NDArray[np.int64],
        sequence: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Served vectors with what each user's neighbours say, where they are known."""
        if self._alike is not None:
            folded[:, :-1] = self._alike.begin(
                folded[:, :-1],
                user=user,
                events=(history.item >= 0).sum(axis=1),
                time_us=time_us,
                sequence=sequence,
            )
        return folded

    def _reserve(self, n: int) -> None:
        if n > len(self._z):
            grown = np.zeros((max(n, 2 * len(self._z)), self._z.shape[1]), np.float32)
            grown[: len(self._z)] = self._z
            self._z = grown

    def _place(self, items: NDArray[np.int32]) -> None:
        """Put items that came after the version among those it has learned, by text or image."""
        left = items[items >= len(self._learned)]
        for name, rows in self._rows.items():
            known = self._warm(rows)
            if len(left) and len(known):
                left = self._place_by(name, rows, left, known)

    def _warm(self, rows: NDArray[np.float32]) -> NDArray[np.int64]:
        """Items that were learned and have this modality."""
        return np.flatnonzero(self._learned & rows[: len(self._learned)].any(axis=1))

    def _place_by(
        self,
        name: str,
        rows: NDArray[np.float32],
        items: NDArray[np.int32],
        known: NDArray[np.int64],
    ) -> NDArray[np.int32]:
        """Put those of these items that have this modality; gives those that have not."""
        records = self.graph.catalog.items
        has = [n in records and name in records[n].vectors for n in items.tolist()]
        lacking = np.logical_not(has)
        new = items[~lacking].astype(np.int64)
        if len(new):
            self._reserve(len(self.graph.items))
            told = np.stack([records[n].vectors[name] for n in new.tolist()])
            warm = (rows[known], self._z[known], self.last.counts()[known])
            if name not in self._maps:
                self._maps[name] = fit_map(*warm[:2]) if self.config.cold_map else None
            by, epsilon = self._maps[name], self.config.cold_epsilon
            placed = place(told, *warm, epsilon=epsilon, by=by)
            self._z[new] = placed.vectors
            self.last.place(new, placed.counts)
            self._placed.update(new.tolist())
        left: NDArray[np.int32] = items[lacking]
        return left
