"""Whether a server is fit to be asked, and if not, every reason why."""

from collections.abc import Iterable
from dataclasses import dataclass

from consumers.breaker import Breaker
from consumers.errors import ConsumerError
from consumers.finder import Finder
from consumers.follower import Follower
from consumers.lifecycle import Background
from stream.clock import Clock
from stream.deadline import Deadline

LAG_AGE_S = 30.0


@dataclass(frozen=True, slots=True)
class Readiness:
    """Asks all that must hold.

    Parameters
    ----------
    follower : Follower
    finder : Finder
    clock : Clock
    most_lag : int
        Messages that may not have been applied yet.
    live : bool
        Whether a topic is followed.
    loops : threads that must not have ended
    breaker : Breaker
        Of the index, which is not looked at while an operator holds it.
    """

    follower: Follower
    finder: Finder
    clock: Clock
    most_lag: int
    live: bool
    loops: tuple[Background, ...]
    breaker: Breaker

    def reasons(self, deadline: Deadline) -> list[str]:
        """Why it is not ready; empty when it is."""
        found: list[str] = [loop.fault for loop in self.loops if loop.fault is not None]
        if self.follower.trouble is not None:
            found.append(self.follower.trouble)
        with self.follower.reading() as world:
            restored = world is not None
            pair, version = (world.pair, world.live.version) if world is not None else (None, 0)
        if not restored:
            return found
        if self.live:
            found += self._lagging()
        published = self.follower.published
        if published is None or pair is None:
            return [*found, "no version has been published: run `goat publish` or `goat run`"]
        if published != pair:
            found.append(f"version {published.version} is published, {version} is served")
        return [*found, *self._index(pair.items, deadline)]

    def _lagging(self) -> Iterable[str]:
        lag, age_s = self.follower.lag, (self.clock.now_us() - self.follower.lag_us) / 1e6
        if lag is None or age_s > LAG_AGE_S:
            yield f"how far behind the topic it is has not been known for {LAG_AGE_S:.0f} s"
        elif lag > self.most_lag:
            yield f"{lag} messages behind the topic, at most {self.most_lag}"

    def _index(self, collection: str, deadline: Deadline) -> Iterable[str]:
        if self.breaker.held:
            return
        if self.breaker.open:
            yield "the index has failed several times in a row and is not asked for a moment"
            return
        try:
            if not self.finder.holds(collection, deadline):
                yield f"the index has no collection {collection}, which the manifest names"
        except ConsumerError as error:
            yield f"the index does not answer: {type(error).__name__}"
