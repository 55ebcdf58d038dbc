"""What the transport says of drift for nothing: how far each fine-tune had to go from the last.

A fine-tune's coupling of ids and texts starts from the potentials of the one before. Where both
spaces move as they always do it needs as many iterations as it always does; more of them, against
the history of that space, say that mass has moved, and the potentials say where.
"""

from dataclasses import dataclass, field

import numpy as np

from consumers.alerts import MOVERS, Alert, Moved, Mover, Place
from consumers.scene import Scene, Watch

LEAST = 8
"""Warm rounds of a space before one is judged."""
KEPT = 64
FAR = 4.0
"""Deviations (of the median, by the median absolute one) that are an alarm."""
_NARROWEST = 0.25  # deviation of the logarithm, at least: counts are whole, and often equal
_NORMAL = 1.4826  # median absolute deviations in a deviation of the normal distribution


@dataclass(slots=True)
class Rounds:
    """Iterations of the warm rounds of each space.

    Attributes
    ----------
    history : space -> iterations of its last warm rounds, the oldest first
    version : int
        The last one noted.
    """

    history: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    version: int = 0

    def note(self, scene: Scene, place: Place) -> Alert | None:
        """Note a version's rounds, once; an alert of those that went far beyond their history.

        Parameters
        ----------
        place : Place
            Where the stream is.
        """
        if scene.version.number <= self.version:
            return None
        self.version = scene.version.number
        far: list[tuple[str, Moved]] = []
        for space, said in sorted(scene.version.alignment.items()):
            if not said["warm"]:
                continue  # there was nothing to go on from, or the ids are others
            iterations, past = int(said["iterations"]), self.history.setdefault(space, [])
            moved = _judged(space, iterations, past)
            if moved is not None:
                far.append((space, moved))
            past.append(iterations)
            del past[:-KEPT]
        if not far:
            return None
        far.sort(key=lambda pair: -pair[1].deviations)
        return Alert(
            name=f"transport-{self.version}",
            watch=Watch.ALIGNMENT,
            version=self.version,
            since=place,
            found=place,
            moved=tuple(moved for _, moved in far),
            movers=_movers(scene, far[0][0]),
            recall_before=None,
            recall_after=None,
        )


def _judged(space: str, iterations: int, past: list[int]) -> Moved | None:
    """A round that needed far more iterations than those before it."""
    if len(past) < LEAST:
        return None
    logs = np.log1p(past)
    middle = float(np.median(logs))
    wide = max(_NORMAL * float(np.median(np.abs(logs - middle))), _NARROWEST)
    deviations = (float(np.log1p(iterations)) - middle) / wide
    if deviations < FAR:
        return None
    beyond = sum(one >= iterations for one in past)
    return Moved(
        segment=f"transport of {space}",
        statistic="iterations",
        deviations=deviations,
        distance=float(iterations),
        before=float(np.expm1(middle)),
        chance=(beyond + 1) / (len(past) + 1),
    )


def _movers(scene: Scene, space: str) -> tuple[Mover, ...]:
    """Items whose potentials have moved most, and those, in units of ε, before and now."""
    kept = scene.state.potentials.get(space)
    if kept is None:
        return ()
    moved = np.nan_to_num(kept.moved()[0], nan=-1.0)
    order = [n for n in np.argsort(-moved, kind="stable")[:MOVERS].tolist() if moved[n] >= 0]
    return tuple(
        Mover(
            scene.snapshot.items.name(int(kept.source_ids[n])),
            float(kept.source_before[n] / kept.epsilon),
            float(kept.source[n] / kept.epsilon),
        )
        for n in order
    )
