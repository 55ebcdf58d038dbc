"""The ladder: every wish is answered, from the best rung that holds, and the answer names it.

``user`` (the live vector) → ``recent`` (items of the request folded in on the spot) → popularity of
the ``segment`` → ``popular``. Where one of the first two holds and the index does not: ``stale``,
the last good list, and below it popularity, which needs no index. All of a request's searches are
one call. Rules are applied to what every rung gives.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from consumers.asking import Answer, Fell, Plan, Rung, Why, Wish
from consumers.breaker import Breaker
from consumers.diversity import capped, mmr, spare
from consumers.errors import PublishError, ServerUnavailable
from consumers.exploration import Slot, explore
from consumers.finder import Finder, Found, Query
from consumers.follower import Follower
from consumers.index import Conditions
from consumers.planning import planned
from consumers.remembered import LastGood, Remembered
from consumers.serving_rules import UNKNOWN, Entry, boosted, kept, takes_part
from consumers.tracing import span
from consumers.world import World
from stream.clock import Clock
from stream.deadline import Deadline

EXCLUDED = 500
"""Newest seen items that the index is told of; the rules know all."""
BECAUSE = 3
_WIDEN = 8


@dataclass(slots=True)
class Ladder:
    """Answers wishes; any number of threads at once.

    Parameters
    ----------
    follower : Follower
    finder : Finder
    breaker : Breaker
        Of the index.
    last_good : LastGood
    clock : Clock
    rng : numpy Generator
        Of exploration, and of the draws that pacing goes by.
    on_trouble : callable
        Told what the index said when it failed.
    """

    follower: Follower
    finder: Finder
    breaker: Breaker
    last_good: LastGood
    clock: Clock
    rng: np.random.Generator
    on_trouble: Callable[[Exception], None] = lambda _: None
    _dice: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, wishes: Sequence[Wish], deadline: Deadline) -> list[Answer]:
        """Fulfil wishes, in their order, with at most one call of the index."""
        now_us = self.clock.now_us()
        with self._dice:
            draws = self.rng.random(len(wishes)).tolist()
        with self.follower.reading() as world:
            plans = [planned(world, *one) for one in zip(wishes, repeat(now_us), draws)]
        pools = self._searched(plans, deadline)
        with self.follower.reading() as world:
            return [
                self._finished(world, plan, pool, now_us)
                for plan, pool in zip(plans, pools, strict=True)
            ]

    # -- the index

    def _searched(self, plans: Sequence[Plan], deadline: Deadline) -> list[Found | None]:
        """What the index has for each plan; None where it is not asked or has no answer.

        Plans made in one moment are all of one version, and so of one collection.
        """
        asking = [n for n, plan in enumerate(plans) if plan.vector is not None]
        pools: list[Found | None] = [None] * len(plans)
        if not asking:
            return pools
        found = self._asked([plans[n] for n in asking], deadline)
        for n, pool in zip(asking, found, strict=True):
            pools[n] = pool
        return pools

    def _asked(self, plans: Sequence[Plan], deadline: Deadline) -> Sequence[Found | None]:
        if deadline.passed:
            return _all_fell(plans, Fell.INDEX_UNAVAILABLE)
        if not self.breaker.allows():
            return _all_fell(plans, Fell.INDEX_RESTING)
        queries = [_query(p, p.vector) for p in plans if p.vector is not None]
        try:
            with span("search", collection=plans[0].collection, queries=len(queries)):
                found = self.finder.find(plans[0].collection, queries, deadline)
        except ServerUnavailable as error:
            self.breaker.failed()
            self.on_trouble(error)
            return _all_fell(plans, Fell.INDEX_UNAVAILABLE)
        except PublishError as error:
            self.on_trouble(error)
            return _all_fell(plans, Fell.INDEX_REFUSED)
        self.breaker.succeeded()
        return found

    # -- the list

    def _finished(self, world: World | None, plan: Plan, found: Found | None, now: int) -> Answer:
        pool: list[Entry] = []
        if found is not None:
            pool = _ruled(world, plan, found, _drawn(plan))
            if found:
                self.last_good.keep(plan.wish.key, Remembered(found, plan.version, now))
            elif not plan.conditions.not_items:
                plan.fell.append(Fell.INDEX_EMPTY)
        elif plan.vector is not None:
            pool = self._stale(world, plan, now)
        if not pool and world is not None:
            pool = _popular(world, plan)
        slots = self._chosen(world, plan, boosted(pool, plan.wish.boosts))
        why = [_why(world, plan, slot.shown) for slot in slots] if plan.wish.explain else ()
        fell = tuple(dict.fromkeys(plan.fell))
        return Answer(plan.wish, plan.rung, plan.version, fell, plan.age_s, now, slots, why)

    def _stale(self, world: World | None, plan: Plan, now_us: int) -> list[Entry]:
        last = self.last_good.get(plan.wish.key)
        pool = _ruled(world, plan, last.found, _drawn(plan)) if last is not None else []
        if last is not None and pool:
            plan.rung, plan.version = Rung.STALE, last.version
            plan.age_s = (now_us - last.at_us) / 1e6
        return pool

    def _chosen(self, world: World | None, plan: Plan, pool: list[Entry]) -> list[Slot[Entry]]:
        """Diversity, then exploration."""
        wish = plan.wish
        if wish.relevance is not None and world is not None and pool:
            vectors = world.vectors([entry.id for entry in pool])[:, :-1]
            scores = np.array([entry.score for entry in pool])
            length = len(pool) if wish.cap is not None else wish.k
            order = mmr(scores, vectors, length, wish.relevance)
            pool = [pool[n] for n in order] + [e for n, e in enumerate(pool) if n not in set(order)]
        own = (pool if wish.cap is None else capped(pool, wish.cap))[: wish.k]
        if not wish.epsilon:
            return [Slot(entry, 1.0, explored=False) for entry in own]
        shown = {entry.id for entry in own}
        further = [entry for entry in pool if entry.id not in shown]
        if wish.cap is not None:
            further = spare(own, further, wish.cap)
        with self._dice:
            return explore(own, further, wish.epsilon, self.rng)


def _query(plan: Plan, vector: NDArray[np.float32]) -> Query:
    conditions = plan.conditions
    excluded = tuple(dict.fromkeys((*conditions.not_items, *plan.seen[:EXCLUDED])))
    barred = tuple(dict.fromkeys((*conditions.not_campaigns, *sorted(plan.barred))))
    return Query(
        vector,
        plan.wish.pool,
        replace(conditions, not_items=excluded, not_campaigns=barred),
    )


def _drawn(plan: Plan) -> Conditions:
    """What is left to ask of a list that the index has held to a draw: not to draw again."""
    return replace(plan.conditions, draw=None)


def _all_fell(plans: Sequence[Plan], why: Fell) -> list[None]:
    for plan in plans:
        plan.fell.append(why)
    return [None] * len(plans)


def _ruled(
    world: World | None, plan: Plan, found: Sequence[tuple[str, float]], conditions: Conditions
) -> list[Entry]:
    """The pool of what was found, by the rules; what nothing is known of passes as it is."""
    pool: list[Entry] = []
    for item, score in found:
        facts = world.facts(item) if world is not None else None
        pool.append(Entry(item, score, score, facts or UNKNOWN))
    barred = plan.barred
    if world is not None:
        told = world.campaigns.fields
        named = {entry.facts.campaign for entry in pool if entry.facts.campaign is not None}
        barred |= {name for name in named if not takes_part(told(name), conditions)}
    return kept(pool, conditions, seen=frozenset(plan.seen), barred=barred)


def _popular(world: World, plan: Plan) -> list[Entry]:
    """Popularity in the segment, else of all."""
    plan.version, plan.age_s = world.live.version, None
    segment = plan.wish.segment
    if not segment and plan.wish.similar_to is not None:
        segment = (world.facts(plan.wish.similar_to) or UNKNOWN).categories
    if segment:
        plan.rung = Rung.SEGMENT
        if pool := _enough(world, plan, segment):
            return pool
        plan.fell.append(Fell.SEGMENT_EMPTY)
    plan.rung = Rung.POPULAR
    return _enough(world, plan, None)


def _enough(world: World, plan: Plan, categories: tuple[str, ...] | None) -> list[Entry]:
    """Look further down the ranking until the rules leave enough, or it ends."""
    n = 4 * plan.wish.pool
    while True:
        ranked = world.popular(n, categories)
        pool = _ruled(world, plan, ranked, plan.conditions)
        if len(pool) >= plan.wish.pool or len(ranked) < n:
            return pool[: plan.wish.pool]
        n *= _WIDEN


def _why(world: World | None, plan: Plan, entry: Entry) -> Why:
    boost = entry.score - entry.base
    if world is None or plan.vector is None or plan.rung not in (Rung.USER, Rung.RECENT):
        return Why(None, None, boost)
    vector = world.vectors([entry.id])[0]
    personal = float(plan.vector[:-1] @ vector[:-1])
    return Why(personal, entry.base - personal, boost, _because(world, plan, vector[:-1]))


def _because(
    world: World, plan: Plan, vector: NDArray[np.float32]
) -> tuple[tuple[str, float], ...]:
    if plan.history is None or not len(plan.history):
        return ()
    items = [world.graph.items.name(i) for i in dict.fromkeys(plan.history.tolist())]
    past = world.vectors(items)[:, :-1]
    lengths = np.linalg.norm(past, axis=1) * np.linalg.norm(vector)
    cosines = past @ vector / np.where(lengths > 0, lengths, 1.0)
    best = np.argsort(-cosines, kind="stable")[:BECAUSE]
    return tuple((items[int(n)], float(cosines[n])) for n in best if cosines[n] > 0)
