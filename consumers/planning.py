"""From a wish to what the index is asked: which rung holds, and what may not be shown."""

from dataclasses import replace

import numpy as np

from consumers.asking import Fell, Plan, Rung, Wish
from consumers.world import World

EXPLAINED = 100  # events of a history that explanations look at


def planned(world: World | None, wish: Wish, now_us: int, draw: float) -> Plan:
    """Choose the best rung that holds, as far as that can be said without asking the index.

    Parameters
    ----------
    draw : float
        From [0, 1): what this request's pacing goes by.
    """
    conditions = replace(wish.conditions, now_us=now_us, draw=draw, context=wish.keywords)
    plan = Plan(wish, conditions, seen=wish.recent)
    if world is None:
        plan.fell.append(Fell.NOT_RESTORED)
        return plan
    plan.version = world.live.version
    if wish.user is not None:
        plan.barred = world.campaigns.capped(wish.user)
    if wish.similar_to is not None:
        _by_item(world, plan, wish.similar_to)
    else:
        _by_user(world, plan)
        if plan.vector is None and wish.recent:
            _by_recent(world, plan, now_us)
    if plan.vector is not None:
        _in_collection(world, plan)
    return plan


def _in_collection(world: World, plan: Plan) -> None:
    if world.pair is None or world.pair.version != plan.version:
        plan.fell.append(Fell.NOTHING_PUBLISHED)
        plan.vector = None
    else:
        plan.collection = world.pair.items


def _by_user(world: World, plan: Plan) -> None:
    if plan.wish.user is None:
        return
    known = world.user(plan.wish.user)
    if known is None:
        plan.fell.append(Fell.USER_UNKNOWN)
        return
    if not plan.wish.seen:
        plan.seen = (*plan.wish.recent, *known.seen)
    if known.folded:
        plan.rung, plan.vector = Rung.USER, known.vector
        plan.history = known.history[:EXPLAINED]
    else:
        plan.fell.append(Fell.USER_WITHOUT_HISTORY)


def _by_recent(world: World, plan: Plan, now_us: int) -> None:
    vector = world.fold(plan.wish.recent, now_us)
    if vector is None:
        plan.fell.append(Fell.RECENT_UNKNOWN)
        return
    plan.rung, plan.vector = Rung.RECENT, vector
    numbers = world.graph.items.find(plan.wish.recent)
    plan.history = numbers[numbers >= 0]


def _by_item(world: World, plan: Plan, item: str) -> None:
    """By the item's own direction: popularity does not count."""
    plan.seen = (item,)
    vector = world.vectors([item])[0].copy()
    vector[-1] = 0.0
    if vector.any():
        plan.rung, plan.vector = Rung.SIMILAR, vector.astype(np.float32)
    else:
        plan.fell.append(Fell.ITEM_UNKNOWN)
