"""A version on trial: held against the live one before readers see it, and for a while after.

1. A first look: the last clicks are asked again of both (`consumers.skew`). It refuses a version
   that loses on them, and says whether one may be written in place.
2. Live, the version is held: every click that comes is asked of both before either learns from it,
   until it is shown to do no harm (published) or harm (refused). After so many clicks, or so long,
   what is stated for the undecided happens. A replay has no clicks between a version and its flip,
   and does not wait.
3. After the flip the version before learns on beside it, and the same comparison goes on. Harm
   takes readers back.

Every verdict is a line of the manifest before anything follows from it. After a crash the line
holds: what was published or refused is not tried again.
"""

from collections import Counter
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from consumers.campaigns import Campaigns
from consumers.decisions import Decided, How, Skew, Stability, Verdict
from consumers.errors import VersionMissing
from consumers.evaluator import Question
from consumers.filling import Filling
from consumers.in_place import renew, spread
from consumers.live import LiveModel
from consumers.logs import log
from consumers.no_harm import Budgets, Comparison, harmful, harmless, told
from consumers.points import all_points
from consumers.publisher import Publisher
from consumers.scores import K
from consumers.shaping import Shaper
from consumers.skew import in_place, look
from consumers.versions import Version
from model.ranking import hits
from stream.clock import Clock
from stream.edges import positive

_HOWS: tuple[How, How] = ("flip", "delta")


@dataclass(frozen=True, slots=True)
class Way:
    """How a version gets to readers: who writes it, what of it, and who is told."""

    publisher: Publisher
    campaigns: Campaigns
    shaper: Shaper
    serve: Callable[[LiveModel], None]


@dataclass(slots=True)
class Trial:
    """The versions beside the live one, and what is known of the difference.

    Parameters
    ----------
    budgets : Budgets
    clock : Clock, optional
        Live: versions are held for clicks to come, for so long by it.

    Attributes
    ----------
    excused : str or None
        Why the next versions need not be tried; for a person who wants one whatever it costs.
    ending : bool
        Whether no more clicks come: a version that is held then stays unpublished.
    coming, before : LiveModel or None
        Held back, and kept beside; not both.
    holding : bool
        Whether the one that comes waits for clicks.
    verdicts : verdict -> how often it was given since the start
    """

    budgets: Budgets = field(default_factory=Budgets)
    clock: Clock | None = None
    excused: str | None = None
    ending: bool = False
    coming: LiveModel | None = None
    before: LiveModel | None = None
    holding: bool = False
    verdicts: Counter[Verdict] = field(default_factory=Counter[Verdict])
    _how: How = "flip"
    _numbers: tuple[int, int] = (0, 0)
    _shown: tuple[Skew, Stability] | None = None
    _seen: Comparison | None = None
    _asked: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def beside(self) -> tuple[LiveModel, ...]:
        """The models that learn beside the live one."""
        return tuple(dict.fromkeys(one for one in (self.coming, self.before) if one is not None))

    @property
    def seen(self) -> Comparison | None:
        """What the clicks have shown so far; None while nothing is compared."""
        return self._seen

    @property
    def numbers(self) -> tuple[int, int]:
        """The version that was tried last, and the one that it was held against; 0 for none."""
        return self._numbers

    def see(self, question: Question, ranks: NDArray[np.float64]) -> None:
        """Ask the other version too; ``ranks`` are the live one's."""
        self._asked = np.append(self._asked, question.sequence)[-self.budgets.asked :]
        other = self.coming or self.before
        if other is None or self._seen is None or self.coming is self.before:
            return
        theirs = question.ranks(other.context_vectors(question.sequence), other.item_vectors())
        new, old = (theirs, ranks) if other is self.coming else (ranks, theirs)
        self._seen.add(hits(new, K), hits(old, K), question.target)

    # -- to readers

    def bring(self, version: Version, live: LiveModel, way: Way) -> Generator[None]:
        """Have readers see a version, unless it does harm. Yields after each step, and to wait.

        Parameters
        ----------
        live : LiveModel
            In use.
        way : Way

        Raises
        ------
        PublishError
            Its collections fail their checks.
        Superseded
            If a newer publisher has taken over.
        """
        self._end_watch(way.publisher, f"version {version.number} comes")
        self._numbers = version.number, live.version
        coming = live.successor(version)
        last = self._first(way.publisher, live, coming)
        if last.turned_away:
            return
        self.coming = coming
        try:
            last = yield from self._prepared(version, coming, way, last)
            if last.verdict != "publish":
                return
            self._watch(way.publisher, live, last.how)
        finally:
            self.coming, self.holding = None, False
            if self.before is None:
                self._seen = None
        way.serve(coming)
        if last.how == "delta":
            yield from spread(way.publisher, coming, way.campaigns)

    def _prepared(
        self, version: Version, coming: LiveModel, way: Way, last: Decided
    ) -> Generator[None, None, Decided]:
        """Fill, hold and flip; what was decided in the end."""
        publisher, filling = way.publisher, None
        if last.how == "flip":
            filling = publisher.begin(version.number, coming.dim, version.origin)
            yield from _fill(filling, coming, way.campaigns)
        if last.verdict == "hold" and self.clock is not None and self._seen is not None:
            last = yield from self._held(publisher, last, self.clock, self._seen)
        if last.verdict != "publish":
            publisher.give_up()
        elif filling is not None:
            yield from filling.go_live(lambda own: way.shaper.filled(coming, way.campaigns, own))
        else:
            renew(publisher, version.number, version.origin)
        return last

    def _first(self, publisher: Publisher, live: LiveModel, coming: LiveModel) -> Decided:
        """What is decided before a click has come."""
        self._shown = self._seen = None
        number, against = self._numbers
        if number == against:  # filled anew: readers know it, or should
            return self._decided("publish", "it is the one in use")
        known = publisher.published.decisions.get(number)
        if known is not None and known.verdict != "hold":
            log.info("decided before", version=number, verdict=known.verdict)
            if not known.turned_away and live.ready:
                self._seen = Comparison(self.budgets, _warm(coming, self.budgets))
            return known
        if not live.ready or publisher.live is None:
            return self._record(publisher, "publish", "nothing is live to hold it against")
        if self.excused is not None:
            return self._record(publisher, "publish", self.excused)
        return self._looked(publisher, live, coming)

    def _looked(self, publisher: Publisher, live: LiveModel, coming: LiveModel) -> Decided:
        found = look(self._asked, coming, live, self.budgets)
        self._shown = found.skew, found.stability
        # Members know of collections, and fill a version into its own.
        alone = publisher.members is None and publisher.live == live.version
        delta = alone and in_place(found.skew, self.budgets)
        how: How = "delta" if delta else "flip"
        if harmful(found.own, self.budgets.margin):
            return self._record(publisher, "refuse", "it loses on the last clicks")
        self._seen = Comparison(self.budgets, _warm(coming, self.budgets))
        if self.clock is not None:
            return self._record(publisher, "hold", "until clicks have shown what it does", how)
        if found.stability.overlap < self.budgets.overlap and not harmless(
            found.own, self.budgets.margin
        ):
            return self._record(publisher, "refuse", "its lists are others, and may be worse")
        return self._record(publisher, "publish", "no click comes between it and its flip", how)

    def _held(
        self, publisher: Publisher, last: Decided, clock: Clock, seen: Comparison
    ) -> Generator[None, None, Decided]:
        """Wait for clicks to decide."""
        self.holding, until_us = True, clock.now_us() + int(self.budgets.wait_s * 1e6)
        while last.verdict == "hold" and not self.ending:
            if (harm := seen.harm) is not None:
                return self._record(publisher, "refuse", f"it loses too much {harm}", last.how)
            if seen.harmless:
                return self._record(publisher, "publish", "it loses no more than that", last.how)
            clicks = seen.every.events
            if clicks >= self.budgets.window:
                return self._undecided(publisher, f"undecided after {clicks} clicks", last.how)
            if clock.now_us() >= until_us:
                why = f"undecided after {self.budgets.wait_s:g} s and {clicks} clicks"
                return self._undecided(publisher, why, last.how)
            yield
        return last

    def _undecided(self, publisher: Publisher, why: str, how: How) -> Decided:
        shown = self._shown
        if shown is not None and shown[1].overlap < self.budgets.overlap:
            return self._record(publisher, "refuse", f"{why}, and its lists are others", how)
        verdict: Verdict = self.budgets.undecided
        return self._record(publisher, verdict, why, how)

    # -- after the flip

    def _watch(self, publisher: Publisher, live: LiveModel, how: How) -> None:
        """Keep the version before beside the new one, if readers could be taken back to it."""
        previous = publisher.published.previous
        kept = how == "delta" or (previous is not None and previous.version == live.version)
        if self._seen is not None and kept:
            self.before, self._how = live, how

    @property
    def wanted_back(self) -> LiveModel | None:
        """The version before, if readers are to be taken back to it."""
        return None if self._seen is None or self._seen.harm is None else self.before

    def note(self, publisher: Publisher) -> None:
        """End the watch when it has gone on long enough."""
        if self._seen is not None and self._seen.every.events >= self.budgets.watch:
            self._end_watch(publisher, "no harm was shown")

    def take_back(self, publisher: Publisher, before: LiveModel) -> None:
        """Decide that readers see the version before again; one written in place is renamed.

        Whatever of it was done before a crash is not done again.
        """
        known = publisher.published.decisions.get(self._numbers[0])
        if known is None or known.verdict != "roll_back":
            where = None if self._seen is None else self._seen.harm
            why = f"it loses too much {where}"
            self._record(publisher, "roll_back", why, self._how)
        if self._how == "delta" and publisher.live != before.version:
            renew(publisher, before.version, None)

    def forget(self) -> None:
        """Watch no more, without a verdict: a person has decided."""
        self.before = self._seen = None

    def _end_watch(self, publisher: Publisher, why: str) -> None:
        if self.before is not None:
            known = publisher.published.decisions.get(self._numbers[0])
            if known is None or known.verdict != "keep":  # before a crash
                self._record(publisher, "keep", why, self._how)
            self.forget()

    # -- the record

    def _record(
        self, publisher: Publisher, verdict: Verdict, why: str, how: How = "flip"
    ) -> Decided:
        found = self._decided(verdict, why, how)
        publisher.record.append(found)
        self.verdicts[verdict] += 1
        told_of = found.model_dump(mode="json", exclude={"step", "verdict"}, exclude_none=True)
        log.info(f"version: {verdict}", **told_of)
        return found

    def _decided(self, verdict: Verdict, why: str, how: How = "flip") -> Decided:
        skew, stability = self._shown or (None, None)
        return Decided(
            version=self._numbers[0],
            against=self._numbers[1],
            verdict=verdict,
            how=how,
            why=why,
            margin=self.budgets.margin,
            cold_margin=self.budgets.cold_margin,
            chance=self.budgets.chance,
            skew=skew,
            stability=stability,
            every=None if self._seen is None else told(self._seen.every),
            cold=None if self._seen is None else told(self._seen.cold),
        )

    # -- state

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """What a snapshot needs to go on watching; a version that is held begins anew."""
        arrays = {"trial.asked": self._asked.astype(np.float64)}
        if self.before is not None and self._seen is not None:
            head = (*self._numbers, _HOWS.index(self._how))
            arrays["trial.watch"] = np.array(head, np.float64)
            arrays |= {f"trial.before.{k}": v for k, v in self.before.to_arrays().items()}
            arrays |= {f"trial.seen.{k}": v for k, v in self._seen.to_arrays().items()}
        return arrays

    def restore(
        self,
        arrays: Mapping[str, NDArray[np.float64]],
        live: LiveModel,
        opened: Callable[[int], Version],
    ) -> None:
        """Put back what `to_arrays` gave; a state from before trials has nothing of it."""
        if "trial.asked" in arrays:
            self._asked = arrays["trial.asked"].astype(np.int64)
        if "trial.watch" not in arrays:
            return
        number, against, how = arrays["trial.watch"].astype(int).tolist()
        try:
            version = opened(against)
        except VersionMissing as error:
            log.warning("not watched any more", version=number, error=str(error))
            return
        self._numbers, self._how = (number, against), _HOWS[how]
        self.before = live.as_of(version, _under("trial.before.", arrays))
        self._seen = Comparison.restore(self.budgets, _under("trial.seen.", arrays))


def _fill(filling: Filling, coming: LiveModel, campaigns: Campaigns) -> Generator[None]:
    yield
    for space, points in all_points(coming, campaigns, filling.spaces):
        filling.add(space, points)
        yield


def _warm(coming: LiveModel, budgets: Budgets) -> NDArray[np.bool_]:
    """Items that a version has learned from events, and from enough of them."""
    learned = coming.learned
    events = np.zeros(len(learned), np.int64)
    for piece in coming.graph.edges.slices():
        item = piece.item[positive(piece.kind)]
        events += np.bincount(item[item < len(learned)], minlength=len(learned))
    warm: NDArray[np.bool_] = learned & (events >= budgets.cold)
    return warm


def _under(mark: str, arrays: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    return {k.removeprefix(mark): v for k, v in arrays.items() if k.startswith(mark)}
