"""The drift monitor: every watched series judged on each new snapshot, and alerts of what moved.

A series is a watch (`consumers.scene.Watch`) of a segment. Each has windows, a reference and a
null of its own (`consumers.series`); a detector proposes changes, and what stands beside all the
other series, at the false discovery rate asked for, becomes one alert a watch. A change that a
later model version has learned from is over: its series begins anew where the change began.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from consumers.alerts import MOVERS, Alert, Moved, Mover, Place
from consumers.detectors import DetectorKind
from consumers.rounds import Rounds
from consumers.scene import ALL, Fitted, Ints, Population, Scene, Watch
from consumers.series import Change, Cut, Series
from model.change import discoveries
from model.errors import InvalidInput
from model.ranking import mid_ranks, recall_at
from model.shift import NAMES

K = 20
ASKED = 500
"""Events before a change, and after it, on which its cost is measured, at most."""
CURVE = 300
"""Windows of a series that are shown."""
MARKS = 2_000
"""Snapshots whose offsets are remembered."""

Answer = Literal["quiet", "drift", "not enough data"]
Key = tuple[Watch, str]


@dataclass(frozen=True, slots=True)
class DriftConfig:
    """How drift is looked for.

    Attributes
    ----------
    cut : Cut
    detector : which of river's
    chance : float
        Of a false alarm in all series together, as the detector understands it.
    rate : float
        Of alerts that are false among those given, at most.
    segments : int
        Segments of a watch, the largest first, beside the whole.
    cooldown_us : int
        Event time for which a watch says nothing more after an alert.
    seed : int
    """

    cut: Cut = field(default_factory=Cut)
    detector: DetectorKind = "adwin"
    chance: float = 0.01
    rate: float = 0.05
    segments: int = 12
    cooldown_us: int = 3_600_000_000
    seed: int = 0


@dataclass(slots=True)
class Watched:
    """A series, where it begins, and what was last said of it.

    Attributes
    ----------
    begins : int
        Number of the first edge that counts.
    told : int
        Edge up to which a change has been told; -1 for none.
    since : int
        Edge at which that change began.
    fitted
        What its rows are seen through (`Scene.fit`).
    """

    series: Series
    begins: int = 0
    told: int = -1
    since: int = -1
    fitted: Fitted = None


@dataclass(slots=True)
class Monitor:
    """What is watched and what was found.

    Attributes
    ----------
    version : int
        Model version under which all is measured; 0 before the first look.
    marks : list of (edge, offsets)
        The next edge and the positions of the snapshots looked at.
    texts : item -> float32[t]
        Texts of the items of the alignment's reference, as they were then.
    """

    config: DriftConfig
    version: int = 0
    watched: dict[Key, Watched] = field(default_factory=dict[Key, Watched])
    marks: list[tuple[int, dict[str, int]]] = field(
        default_factory=list[tuple[int, dict[str, int]]]
    )
    texts: dict[int, NDArray[np.float32]] = field(default_factory=dict[int, NDArray[np.float32]])
    last_us: dict[Watch, int] = field(default_factory=dict[Watch, int])
    rounds: Rounds = field(default_factory=Rounds)

    def look(self, scene: Scene) -> list[Alert]:
        """Measure what is new, and say what has drifted.

        Looked at again without new edges, the same scene says nothing more.
        """
        if scene.version.number != self.version:
            self._move_to(scene)
        positions = {str(p): offset for p, offset in scene.snapshot.info.positions.items()}
        if not self.marks or self.marks[-1][0] < scene.edges:
            self.marks = [*self.marks[-MARKS + 1 :], (scene.edges, positions)]
        populations = scene.populations()
        parts = dict(self._measured(scene, populations))
        found = self._found()
        alerts = [
            self._alert(scene, watch, [one for one in found if one[0][0] is watch], parts)
            for watch in Watch
            if any(key[0] is watch for key, _ in found) and self._may_speak(watch, scene)
        ]
        here = Place(scene.edges, scene.snapshot.view.now_us, positions)
        moved = self.rounds.note(scene, here)
        if moved is not None and self._may_speak(Watch.ALIGNMENT, scene):
            alerts.append(moved)
        return alerts

    def answers(self) -> dict[Key, Answer]:
        """What each series says now."""
        out: dict[Key, Answer] = {}
        for key, one in self.watched.items():
            if not one.series.enough or not one.series.begun:
                out[key] = "not enough data"
            else:
                out[key] = "drift" if one.told >= 0 else "quiet"
        return out

    def curves(self) -> list[dict[str, object]]:
        """Each watch as a whole, for people: its windows in deviations of its null.

        ``deviations`` has a list for each of `model.shift.NAMES`, ``ends`` the last edge of each
        window; the null was learned from the first ``null`` of them.
        """
        answers, out = self.answers(), list[dict[str, object]]()
        for (watch, segment), one in self.watched.items():
            if segment != ALL:
                continue
            rows, cut = one.series.standardised(), one.series.cut
            left_out = max(len(rows) - CURVE, 0)
            z, first = rows[left_out:], cut.reference + left_out
            out.append(
                {
                    "watch": watch.value,
                    "answer": answers[watch, segment],
                    "deviations": {n: z[:, i].round(3).tolist() for i, n in enumerate(NAMES)},
                    "ends": one.series.ends[first : first + len(z)],
                    "null": max(min(cut.null, len(rows)) - left_out, 0),
                    "since": one.since,
                }
            )
        return out

    def _move_to(self, scene: Scene) -> None:
        """All anew under another version; what it has learned from is drift no more."""
        self.version = scene.version.number
        for one in self.watched.values():
            one.series.forget()
            one.fitted = None
            if 0 <= one.told < scene.state.trained_upto:
                one.begins, one.told, one.since = one.since, -1, -1
                one.series = Series(self.config.cut)

    def _measured(
        self, scene: Scene, populations: dict[Watch, Population]
    ) -> Iterator[tuple[Key, tuple[Population, Ints]]]:
        """Each series' edges and the bounds of its windows, once they are measured."""
        for watch, population in populations.items():
            for segment, mask in self._chosen(watch, scene.segments(population)).items():
                key = (watch, segment)
                one = self.watched.setdefault(key, Watched(Series(self.config.cut)))
                part = population.where(mask & (population.edge >= one.begins))
                bounds = one.series.cut_off(part.edge)
                if len(bounds) > 1 and np.diff(bounds).min() < self.config.cut.window // 2:
                    # Its first edges have left the graph.
                    one.begins = int(part.edge[0]) if len(part) else one.begins
                    one.series, one.told = Series(self.config.cut), -1
                    bounds = one.series.cut_off(part.edge)
                if one.series.enough and self._measure(scene, key, one, part, bounds):
                    yield key, (part, bounds)

    def _chosen(
        self, watch: Watch, masks: dict[str, NDArray[np.bool_]]
    ) -> dict[str, NDArray[np.bool_]]:
        """The whole, what is watched already, and the largest of the others."""
        held = [name for other, name in self.watched if other is watch and name in masks]
        by_size = sorted(masks, key=lambda name: -int(masks[name].sum()))
        names = dict.fromkeys([ALL, *held, *by_size])
        return {name: masks[name] for name in list(names)[: self.config.segments + 1]}

    def _measure(
        self, scene: Scene, key: Key, one: Watched, part: Population, bounds: Ints
    ) -> bool:
        """Measure the windows not yet measured; whether the series can be."""
        cut, watch = self.config.cut, key[0]
        if not one.series.measured(cut.begun - 1):
            known = part.where(slice(int(bounds[cut.begun])))
            texts = self._kept_texts(scene, key, known)
            one.fitted = scene.fit(watch, known.where(slice(int(bounds[cut.reference]))), texts)
            if watch is Watch.ALIGNMENT and one.fitted is None:
                return False
            rows = scene.vectors(watch, known, texts, one.fitted)
            rng = np.random.default_rng([self.config.seed, zlib.crc32("/".join(key).encode())])
            try:
                one.series.begin(rows, bounds, rng)
            except InvalidInput:
                return False  # the edges of too many windows have left the graph
        for window in range(cut.begun, len(bounds) - 1):
            if not one.series.measured(window):
                live = part.where(slice(int(bounds[window]), int(bounds[window + 1])))
                one.series.add(scene.vectors(watch, live, {}, one.fitted))
        return True

    def _kept_texts(
        self, scene: Scene, key: Key, known: Population
    ) -> dict[int, NDArray[np.float32]]:
        """Texts of a reference as they were when it began."""
        if key[0] is not Watch.ALIGNMENT or scene.texts is None:
            return {}
        for item in np.unique(known.item).tolist():
            self.texts.setdefault(item, scene.texts.vectors[item].copy())
        return self.texts

    def _found(self) -> list[tuple[Key, Change]]:
        """Changes not told before, that stand beside all the series watched."""
        active = {key: one for key, one in self.watched.items() if one.series.begun}
        best: dict[Key, Change] = {}
        for key, one in active.items():
            chance = self.config.chance / len(active)
            fresh = [
                change
                for change in one.series.changes(self.config.detector, chance)
                if one.series.ends[change.since] > one.told
            ]
            one.series.judged = len(one.series.ends)
            if fresh:
                best[key] = min(fresh, key=lambda change: change.chance)
        chances = [best[key].chance if key in best else 1.0 for key in active]
        stands = discoveries(chances, self.config.rate)
        found = [
            (key, best[key]) for key, so in zip(active, stands, strict=True) if so and key in best
        ]
        for key, change in found:
            one = active[key]
            one.told = one.series.ends[change.found]
            one.since = one.series.ends[change.since - 1] + 1
        return sorted(found, key=lambda pair: -abs(pair[1].deviations))

    def _may_speak(self, watch: Watch, scene: Scene) -> bool:
        now, last = scene.snapshot.view.now_us, self.last_us.get(watch)
        if last is not None and now - last < self.config.cooldown_us:
            return False
        self.last_us[watch] = now
        return True

    def _alert(
        self,
        scene: Scene,
        watch: Watch,
        found: list[tuple[Key, Change]],
        parts: dict[Key, tuple[Population, Ints]],
    ) -> Alert:
        key, change = found[0]
        part, bounds = parts[key]
        at, until = int(bounds[change.since]), int(bounds[change.found + 1])
        before, after = part.where(slice(at)), part.where(slice(at, None))
        return Alert(
            name=f"{watch.name.lower()}-{int(part.edge[at])}",
            watch=watch,
            version=self.version,
            since=self._place(part, at),
            found=self._place(part, until - 1),
            moved=tuple(_moved(one[1], change) for one, change in found),
            movers=self._movers(scene, watch, before, after),
            recall_before=recall(scene, before),
            recall_after=recall(scene, after),
        )

    def _place(self, part: Population, row: int) -> Place:
        edge = int(part.edge[row])
        # The snapshot before it: the edge came at one of these offsets or later.
        offsets = next((p for upto, p in reversed(self.marks) if upto <= edge), {})
        return Place(edge, int(part.time_us[row]), offsets)

    def _movers(
        self, scene: Scene, watch: Watch, before: Population, after: Population
    ) -> tuple[Mover, ...]:
        """Items, or users where these are watched, whose share has changed most."""
        if watch is Watch.ALIGNMENT:
            return self._retold(scene, after)
        of_users = watch is Watch.USERS
        names = scene.snapshot.users if of_users else scene.snapshot.items
        share = [
            np.bincount(p.owner if of_users else p.item, minlength=len(names)) / max(len(p), 1)
            for p in (before, after)
        ]
        order = np.argsort(-np.abs(share[1] - share[0]), kind="stable")[:MOVERS]
        return tuple(
            Mover(names.name(n), float(share[0][n]), float(share[1][n])) for n in order.tolist()
        )

    def _retold(self, scene: Scene, after: Population) -> tuple[Mover, ...]:
        """Items whose text stands elsewhere than in the reference; cosines of then (1) and now."""
        if scene.texts is None:
            return ()
        cosines: dict[int, float] = {}
        for item in np.unique(after.item).tolist():
            if (old := self.texts.get(item)) is not None:
                new = scene.texts.vectors[item]
                length = float(np.linalg.norm(old) * np.linalg.norm(new))
                cosines[item] = float(old @ new) / max(length, 1e-12)
        worst = sorted(cosines, key=lambda item: cosines[item])[:MOVERS]
        return tuple(Mover(scene.snapshot.items.name(n), 1.0, cosines[n]) for n in worst)


def recall(scene: Scene, part: Population) -> float | None:
    """Recall@20 of the scene's version on the last events of a part that it has not learned from.

    Returns
    -------
    float, or None without any
    """
    asked = part.where(part.answered & (part.edge >= scene.state.trained_upto))
    asked = asked.where(slice(max(len(asked) - ASKED, 0), None))
    if not len(asked):
        return None
    nothing = (np.zeros(len(asked) + 1, np.int64), np.zeros(0, np.int64))
    ranks = mid_ranks(scene.users(asked), scene.state.items, asked.item, nothing)
    return recall_at(ranks, K)


def _moved(segment: str, change: Change) -> Moved:
    return Moved(
        segment=segment,
        statistic=change.statistic,
        deviations=change.deviations,
        distance=change.distance,
        before=change.before,
        chance=change.chance,
    )
