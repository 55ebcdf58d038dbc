"""Pacing: which share of requests a campaign takes part in, so that its budget lasts the day.

A budget B is to be spent in proportion to the day's expected traffic. With F the expected share of
the day's traffic gone by and s the spend so far, what is left is spread over what is to come::

    wanted = (B - s) / (1 - F)                     spend per share of traffic, from here on
    p      = clip(wanted / v, 0, 1)                0 once s >= B

v is what a share of traffic would cost if the campaign took part in all of it, the ratio of what
was spent to what it took part in, both forgotten exponentially over `HORIZON` of a day's traffic::

    x <- x exp(-dF / HORIZON) + p dF      y <- y exp(-dF / HORIZON) + ds      v = y / x

Solved anew at each step, the plan forgets every shock: what was spent too much or too little is
spread over the rest of the day. Spend never outruns the budget by more than what was on its way
when p became 0: what the campaign costs between two steps, and until the second reaches readers.

References
----------
Agarwal, Ghosh, Wei, You: Budget Pacing for Targeted Online Advertisements at LinkedIn, KDD 2014:
spend in proportion to forecast traffic, by probabilistic participation, with a slow start.
Balseiro, Gur: Learning in Repeated Auctions with Budgets: Regret Minimization and Equilibrium,
Management Science 65(9), 2019: pacing as the multiplier of the budget constraint, p = 1 / (1 + mu).
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

HORIZON: Final = 0.05  # of a day's traffic: an hour and a bit of an even one
START: Final = 0.1  # participation until something has been spent
_TRUST: Final = 0.0001  # of a day's traffic: what the first guess weighs


@dataclass(frozen=True, slots=True)
class Pace:
    """A campaign's pacing between two steps.

    Attributes
    ----------
    multiplier : float
        p, the share of requests to take part in, 0 to 1.
    taken : float
        x, shares of a day's traffic taken part in, forgotten exponentially.
    cost : float
        y, what they cost, in the unit of the budget.
    progress : float
        F at the last step, 0 to 1.
    spent : float
        s at the last step, in the unit of the budget.
    """

    multiplier: float
    taken: float
    cost: float
    progress: float
    spent: float


def begin(budget: float, spent: float, progress: float) -> Pace:
    """A campaign of which nothing is known: it is taken to cost ten times what is left."""
    left = max(budget - spent, 0.0) / max(1.0 - progress, 1e-9)
    cost = _TRUST * left / START
    return Pace(START if spent < budget else 0.0, _TRUST, cost, progress, spent)


def new_day(pace: Pace) -> Pace:
    """The same campaign on the next day: what a share of traffic costs is remembered."""
    return Pace(pace.multiplier, pace.taken, pace.cost, 0.0, 0.0)


def step(pace: Pace, budget: float, spent: float, progress: float) -> Pace:
    """Pace from here on.

    Parameters
    ----------
    budget, spent : float
        Of the day, in one unit.
    progress : float
        F, the expected share of the day's traffic that has gone by, 0 to 1.
    """
    gone = max(progress - pace.progress, 0.0)
    kept = math.exp(-gone / HORIZON) if pace.multiplier > 0 else 1.0
    taken = pace.taken * kept + pace.multiplier * gone
    cost = pace.cost * kept + max(spent - pace.spent, 0.0)
    multiplier = _multiplier(budget - spent, 1.0 - progress, taken, cost)
    return Pace(multiplier, taken, cost, max(progress, pace.progress), spent)


def _multiplier(left: float, to_come: float, taken: float, cost: float) -> float:
    if left <= 0:
        return 0.0
    wanted = left * taken
    offered = cost * max(to_come, 0.0)
    return 1.0 if wanted >= offered else wanted / offered


def progress_of(shares: NDArray[np.float64], at: float) -> float:
    """Share of a day's traffic that is over at a time of day.

    Parameters
    ----------
    shares : float64[n]
        Traffic expected in each nth of the day, in any unit; 0 where the campaign rests.
    at : float
        Time of day, 0 to 1.

    Returns
    -------
    float
        0 to 1; the time of day itself where no traffic is expected at all.
    """
    total = float(shares.sum())
    if total <= 0:
        return min(max(at, 0.0), 1.0)
    place = min(max(at, 0.0), 1.0) * len(shares)
    whole = min(int(place), len(shares) - 1)
    over = float(shares[:whole].sum()) + float(shares[whole]) * (place - whole)
    return min(over / total, 1.0)
