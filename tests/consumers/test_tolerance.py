"""The threshold of movement is the largest one whose loss, measured on a sample, is small."""

import numpy as np
import pytest
from numpy.typing import NDArray

from consumers.tolerance import RUNGS, Tolerance

ITEMS, DIM, K = 400, 6, 20
NUMBERS = np.arange(ITEMS, dtype=np.int32)


def unit(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    rows = rng.normal(size=(n, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class World:
    """Items whose last coordinates rise, a few at a time, and what is written of them."""

    def __init__(self, budget: float, seed: int = 3) -> None:
        self.rng = np.random.default_rng(seed)
        self.z = unit(self.rng, ITEMS)
        self.last = self.rng.normal(size=ITEMS).astype(np.float32)
        self.seen = self.last.copy()
        self.tolerance = Tolerance(budget, K, np.random.default_rng(seed))
        self.touches = self.writes = 0

    def users(self, n: int) -> NDArray[np.float32]:
        return np.c_[unit(self.rng, n), np.ones(n, np.float32)]

    def step(self, step: float) -> None:
        some = self.rng.choice(ITEMS, 20, replace=False).astype(np.int32)
        self.last[some] += step * self.rng.random(20).astype(np.float32)
        self.tolerance.moved(some, self.last[some])
        due = some[np.abs(self.last[some] - self.seen[some]) > self.tolerance.threshold]
        self.seen[due] = self.last[due]
        self.touches, self.writes = self.touches + 20, self.writes + len(due)
        self.tolerance.sample(self.users(8))

    def look(self) -> None:
        self.tolerance.look(NUMBERS, np.c_[self.z, self.last], self.seen)

    def run(self, steps: int, step: float = 0.002) -> None:
        for n in range(steps):
            self.step(step)
            if n % 20 == 0:
                self.look()

    def lost(self, queries: int) -> float:
        """1 - overlap@k by brute force, of users that nobody has sampled."""
        base = self.users(queries)[:, :-1] @ self.z.T
        exact, shown = (np.argsort(-(base + c), axis=1)[:, :K] for c in (self.last, self.seen))
        both = [len(set(a) & set(b)) for a, b in zip(exact.tolist(), shown.tolist(), strict=True)]
        return 1 - sum(both) / (queries * K)


@pytest.mark.parametrize("budget", [0.005, 0.02])
def test_writes_are_saved_within_the_budget_for_users_outside_the_sample(budget: float) -> None:
    world = World(budget)
    world.run(2_000)
    before = world.writes
    world.run(1_000)
    assert world.writes - before < 0.6 * 20_000
    assert world.lost(500) < 1.5 * budget
    assert world.tolerance.loss is not None and world.tolerance.loss < 2 * budget


def test_more_may_be_lost_for_fewer_writes() -> None:
    strict, lax = World(0.002), World(0.03)
    for world in (strict, lax):
        world.run(2_000)
    assert strict.tolerance.threshold < lax.tolerance.threshold
    assert strict.writes > lax.writes


def test_without_a_budget_everything_that_moves_is_written() -> None:
    world = World(0.0)
    world.run(500)
    assert world.tolerance.threshold == 0.0
    assert np.array_equal(world.seen, world.last)


def test_before_a_sample_nothing_is_learned() -> None:
    tolerance = Tolerance(0.1, K, np.random.default_rng(0))
    items = np.zeros((ITEMS, DIM + 1), np.float32)
    tolerance.look(NUMBERS, items, items[:, -1])
    assert (tolerance.threshold, tolerance.loss) == (0.0, None)


def test_what_readers_see_is_measured() -> None:
    world = World(0.01)
    world.tolerance.sample(world.users(60))
    for _ in range(20):
        world.tolerance.sample(world.users(60))
    world.look()
    assert world.tolerance.loss == 0.0
    world.seen[:200] -= 3.0
    world.look()
    assert world.tolerance.loss is not None and world.tolerance.loss > 0.3
    world.seen[:] = np.nan  # as of now
    world.look()
    assert world.tolerance.loss == 0.0


def test_another_version_begins_with_nothing_held_back_and_a_gap_of_its_own() -> None:
    world = World(0.02)
    world.run(2_000)
    before = world.tolerance.threshold
    assert before > 0
    world.tolerance.begin()
    assert (world.tolerance.threshold, world.tolerance.loss) == (0.0, None)
    world.z *= 10.0  # scores lie ten times as far apart
    world.last *= 10.0
    world.seen = world.last.copy()
    for _ in range(20):
        world.tolerance.sample(world.users(8))
    world.look()
    assert world.tolerance.threshold == pytest.approx(10 * before, rel=0.3)


def test_it_climbs_a_rung_a_look() -> None:
    """Items that have hardly moved yet say nothing of what a high threshold loses."""
    world = World(0.5)
    world.run(60)
    assert world.tolerance.threshold > 0
    climbed = world.tolerance.threshold
    world.run(20)
    assert world.tolerance.threshold == pytest.approx(2 * climbed)
    assert len(RUNGS) == 12


def test_what_a_rung_would_lose_is_known_before_readers_lose_it() -> None:
    world = World(0.005)
    for n in range(1_200):
        world.step(0.002)
        world.seen[:] = world.last  # readers see everything as it is
        if n % 20 == 0:
            world.look()
    assert world.tolerance.loss == 0.0
    assert 0 < world.tolerance.threshold < world.tolerance._steps[-1] / 4
