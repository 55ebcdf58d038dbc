"""How often a harmless version is turned away, and how soon a harmful one, against a t-test.

    python benchmarks/no_harm.py [--versions 400] [--clicks 2000] [--seed 0]

Paired differences of Recall@20 (-1, 0 or 1) of planted versions: harmless ones, of which those that
lose exactly the margin are the hardest, and harmful ones that lose more. Ours is one of the looks
of `goat run`, with its defaults: each has a third of the chance. The peer is a one-sided t-test of
the whole chance, looked at after every click from the thirtieth on, and once at the end, as it is
meant.
"""

import argparse
import json
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from consumers.no_harm import Budgets, harmful

LEAST = 30
CUT = 20  # clicks between two looks of ours
ACTIVE = 0.3  # share of clicks on which the versions differ
LOSSES = (0.05, 0.1, 0.2)
# Quantiles of the normal distribution: with 30 clicks and more the t distribution is close to it.
QUANTILE = {0.05: 1.6449}


@dataclass(frozen=True, slots=True)
class Found:
    """When a version was turned away: a click's number, or None."""

    ours: int | None
    peeked: int | None
    once: int | None


def stream(rng: np.random.Generator, clicks: int, loss: float) -> NDArray[np.float64]:
    """Differences with mean -loss."""
    chances = [(ACTIVE + loss) / 2, 1 - ACTIVE, (ACTIVE - loss) / 2]
    return rng.choice([-1.0, 0.0, 1.0], size=clicks, p=chances)


def ours(values: NDArray[np.float64], budgets: Budgets) -> int | None:
    """The click after which it is turned away."""
    seen = budgets.sequence()
    for start in range(0, len(values), CUT):
        seen.update(values[start : start + CUT])
        if harmful(seen, budgets.margin):
            return min(start + CUT, len(values))
    return None


def t_test(values: NDArray[np.float64], budgets: Budgets) -> tuple[int | None, int | None]:
    """The same, looked at after every click, and at the last one alone."""
    n = np.arange(1, len(values) + 1)
    means = np.cumsum(values) / n
    spread = np.sqrt(np.maximum(np.cumsum(values**2) / n - means**2, 1e-12) / (n - 1).clip(1))
    away = means + QUANTILE[budgets.chance] * spread < -budgets.margin
    at = np.flatnonzero(away[LEAST - 1 :])
    return (int(at[0]) + LEAST if len(at) else None), (len(values) if away[-1] else None)


def measured(rng: np.random.Generator, versions: int, clicks: int, loss: float) -> list[Found]:
    """All versions of one loss."""
    budgets, found = Budgets(), list[Found]()
    for number in range(versions):
        values = stream(rng, clicks, loss)
        found.append(Found(ours(values, budgets), *t_test(values, budgets)))
        if (number + 1) % 100 == 0:
            sys.stderr.write(f"loss {loss}: {number + 1} of {versions} versions\n")
    return found


def summary(found: list[Found]) -> dict[str, dict[str, float | None]]:
    """Share turned away and median click, by method."""
    out: dict[str, dict[str, float | None]] = {}
    for method in ("ours", "peeked", "once"):
        at = [when for one in found if (when := getattr(one, method)) is not None]
        median = float(np.median(at)) if at else None
        out[method] = {"share": round(len(at) / len(found), 4), "median_clicks": median}
    return out


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--versions", type=int, default=400)
    parser.add_argument("--clicks", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, budgets = np.random.default_rng(args.seed), Budgets()
    losses = (0.0, budgets.margin, *LOSSES)
    by_loss = {f"{x:g}": measured(rng, args.versions, args.clicks, x) for x in losses}
    print(
        json.dumps(
            {
                "versions": args.versions,
                "clicks": args.clicks,
                "seed": args.seed,
                "margin": budgets.margin,
                "chance": budgets.chance,
                "clicks_that_differ": ACTIVE,
                "turned_away_by_loss": {loss: summary(f) for loss, f in by_loss.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
