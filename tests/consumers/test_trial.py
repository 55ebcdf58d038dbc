"""Versions that are planted: what does harm is kept from readers or taken back, the rest is not."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest

from consumers.index import Space, VectorIndex
from consumers.no_harm import Budgets
from consumers.versions import Version
from tests.consumers.publishing import NAMES, Crash, Open
from tests.consumers.trials import EACH, GENRES, Site, good, rotated, shuffled, version

FLIP = Budgets(skew=0.0)
COLD = np.concatenate([np.arange(g * EACH + 20, (g + 1) * EACH) for g in range(GENRES)])


def epochs(index: VectorIndex, collection: str, space: Space, ids: list[str]) -> set[object]:
    return {p.payload["epoch"] for p in index.fetch(collection, space, ids) if p is not None}


def opens(**of: Version) -> Callable[[int], Version]:
    return lambda number: of[f"v{number}"]


# -- before the flip


def test_a_version_that_loses_on_the_last_clicks_is_refused_unseen(opened: Open) -> None:
    site = Site(opened(), FLIP, held=False)
    site.clicks(300)
    site.adopt(shuffled(good()), 2)
    assert (site.publisher.live, site.live.version) == (1, 1)
    assert site.verdicts == ["publish", "refuse"]
    last = site.decided[-1]
    assert last.why == "it loses on the last clicks"
    assert last.skew is not None
    assert last.stability is not None
    assert last.skew.own.high < -0.02
    assert last.skew.new is not None
    assert last.skew.old is not None
    assert last.skew.old > 0.3, "of two clicks the first says nothing yet"
    assert last.skew.new < 0.1
    assert last.stability.overlap < 0.3
    assert last.stability.churned == 1.0
    assert site.publisher.published.turned_away == {2}


def test_the_first_version_has_nothing_to_be_held_against(opened: Open) -> None:
    site = Site(opened(), FLIP, held=True)
    assert site.verdicts == ["publish"]
    assert site.publisher.live == 1


def test_live_a_harmful_version_is_held_and_refused_before_readers_see_it(opened: Open) -> None:
    site = Site(opened(), FLIP, held=True)
    site.adopt(shuffled(good()), 2, lambda: site.clicks(20))
    assert site.publisher.live == 1
    assert site.verdicts == ["publish", "hold", "refuse"]
    last = site.decided[-1]
    assert last.why == "it loses too much of all clicks"
    assert last.every is not None
    assert last.every.high <= -0.02
    assert last.every.events < 500, "it was found early"
    assert site.publisher.index.collections() == ("t-items-1", "t-users-1"), "its fill was given up"


def test_live_a_harmless_version_is_held_until_that_is_shown(opened: Open) -> None:
    site = Site(opened(), FLIP, held=True)
    held: list[int | None] = []

    def meanwhile() -> None:
        held.append(site.publisher.live)
        site.clicks(100)

    site.adopt(rotated(good()), 2, meanwhile)
    assert set(held) == {1}
    assert (site.publisher.live, site.live.version) == (2, 2)
    assert site.verdicts == ["publish", "hold", "publish"]
    last = site.decided[-1].every
    assert last is not None
    assert last.low >= -0.02 - 1e-9


@pytest.mark.parametrize(("undecided", "live"), [("publish", 2), ("refuse", 1)])
def test_what_is_undecided_after_so_many_clicks_goes_as_stated(
    opened: Open, undecided: Literal["publish", "refuse"], live: int
) -> None:
    site = Site(opened(), Budgets(skew=0.0, window=30, undecided=undecided), held=True)
    site.adopt(rotated(good()), 2, lambda: site.clicks(10))
    assert site.decided[-1].verdict == undecided
    assert site.decided[-1].why.startswith("undecided after")
    assert site.publisher.live == live


def test_few_clicks_hold_no_version_for_ever(opened: Open) -> None:
    site = Site(opened(), Budgets(skew=0.0, wait_s=60.0), held=True)
    waited = 0

    def meanwhile() -> None:
        nonlocal waited
        waited += 1
        site.clock.advance(1_000_000)

    site.adopt(rotated(good()), 2, meanwhile)
    assert 60 <= waited <= 70
    assert site.decided[-1].why == "undecided after 60 s and 0 clicks"
    assert site.publisher.live == 2


def test_a_program_that_ends_publishes_nothing_that_is_held(opened: Open) -> None:
    site = Site(opened(), FLIP, held=True)
    site.trial.ending = True
    site.adopt(rotated(good()), 2)
    assert site.publisher.live == 1
    assert site.verdicts == ["publish", "hold"]
    site.trial.ending = False
    site.adopt(rotated(good()), 2, lambda: site.clicks(100))
    assert site.publisher.live == 2, "it is tried anew"


def test_other_lists_must_be_shown_to_do_no_harm(opened: Open) -> None:
    site = Site(opened(), Budgets(skew=0.0, overlap=1.0, margin=0.2), held=False)
    nudged = good(seed=5)
    site.clicks(20)
    site.adopt(nudged, 2)
    assert site.verdicts[-1] == "refuse"
    assert site.decided[-1].why == "its lists are others, and may be worse"
    site.clicks(500)
    site.adopt(nudged, 3)
    assert site.verdicts[-1] == "publish"


# -- after it


def test_harm_that_shows_after_the_flip_is_taken_back(opened: Open, index: VectorIndex) -> None:
    site = Site(opened(), FLIP, held=False)
    site.adopt(shuffled(good()), 2)  # not one click to look at
    assert site.publisher.live == 2
    seen = 0
    while not site.take_back():
        site.clicks(20)
        seen += 20
        assert seen < 500
    assert (site.publisher.live, site.live.version) == (1, 1)
    assert site.verdicts[-1] == "roll_back"
    assert index.aliases()[NAMES.items] == "t-items-1"
    assert site.publisher.published.turned_away == {2}
    assert site.trial.before is None


def test_a_harmless_version_is_kept_after_the_watch(opened: Open) -> None:
    site = Site(opened(), Budgets(skew=0.0, watch=200), held=False)
    site.adopt(rotated(good()), 2)
    for _ in range(5):
        site.clicks(50)
        assert not site.take_back()
    assert site.verdicts[-1] == "keep"
    assert site.trial.before is None
    assert site.publisher.live == 2


def test_harm_to_cold_items_alone_is_found(opened: Open) -> None:
    site = Site(opened(), Budgets(skew=0.0, margin=0.5), held=True)
    site.trial.budgets = Budgets(skew=0.0, margin=0.5, cold=9)
    # Some are known better than others: these are warm.
    for _ in range(12):
        site.clicks(100, slice(0, 20))
    site.adopt(shuffled(good(), COLD), 2, lambda: (site.clicks(20), site.clicks(5, slice(20, 30))))  # type: ignore[func-returns-value]
    last = site.decided[-1]
    assert (last.verdict, last.why) == ("refuse", "it loses too much of clicks on cold items")
    assert last.every is not None
    assert last.cold is not None
    assert last.every.high > -0.5
    assert last.cold.high <= -0.1
    assert site.publisher.live == 1


# -- what a crash leaves


def test_a_decision_holds_after_a_crash_before_the_flip(opened: Open) -> None:
    doomed = False

    def die(step: int) -> None:
        if step == 4 and doomed:
            raise Crash

    site = Site(opened(on_step=die), FLIP, held=True)
    doomed = True
    with pytest.raises(Crash):
        site.adopt(rotated(good()), 2, lambda: site.clicks(100))
    assert site.verdicts[-1] == "publish"
    site.reopened(opened(), opens())
    assert site.publisher.live == 1
    site.adopt(rotated(good()), 2)  # not one click is waited for
    assert site.publisher.live == 2
    assert site.verdicts == ["publish", "hold", "publish"], "nothing is decided twice"
    assert site.trial.before is not None, "and the way back is open"


def test_a_refusal_holds_after_a_crash(opened: Open) -> None:
    site = Site(opened(), FLIP, held=True)
    site.adopt(shuffled(good()), 2, lambda: site.clicks(20))
    site.reopened(opened(), opens())
    site.adopt(shuffled(good()), 2)
    assert site.publisher.live == 1
    assert site.verdicts == ["publish", "hold", "refuse"]


@pytest.mark.parametrize("at", ["before", "decided", "rolled back"])
def test_a_return_cut_short_is_finished(opened: Open, at: str) -> None:
    site = Site(opened(), FLIP, held=False)
    site.adopt(shuffled(good()), 2)
    while site.trial.wanted_back is None:
        site.clicks(20)
    snapshot, before = site.trial.to_arrays(), site.trial.before
    assert before is not None
    if at != "before":
        record = site.publisher.record.append

        def die(step: object) -> None:
            record(step)  # type: ignore[arg-type]
            if at == "decided" or site.publisher.live == 1:
                raise Crash

        site.publisher.record.append = die  # type: ignore[method-assign, assignment]
        with pytest.raises(Crash):
            site.take_back()
    site.publisher = opened()
    site.trial.restore(snapshot, site.live, opens(v1=version(good(), 1)))
    users = np.arange(20, dtype=np.int32)
    restored = site.trial.before
    assert restored is not None
    assert np.array_equal(restored.user_vectors(users), before.user_vectors(users))
    assert site.take_back()
    assert (site.publisher.live, site.live.version) == (1, 1)
    assert site.verdicts.count("roll_back") == 1


# -- across two versions


def test_a_turned_space_takes_a_flip(opened: Open) -> None:
    site = Site(opened(), Budgets(), held=False)
    site.clicks(300)
    site.adopt(rotated(good()), 2)
    last = site.decided[-1]
    assert (last.verdict, last.how) == ("publish", "flip")
    assert last.skew is not None
    assert last.skew.loss is not None
    assert last.skew.new == last.skew.old
    assert last.skew.loss > 0.3, "users of one on items of the other are lost"
    assert last.skew.residual < 1e-3
    assert last.skew.degrees > 50
    assert last.stability is not None
    assert last.stability.overlap == 1.0


def test_a_small_change_is_written_in_place(opened: Open, index: VectorIndex) -> None:
    site = Site(opened(), Budgets(), held=False)
    site.clicks(300)
    nudged = good() + np.random.default_rng(4).normal(0, 1e-3, good().shape).astype(np.float32)
    site.adopt(nudged, 2)
    last = site.decided[-1]
    assert (last.verdict, last.how) == ("publish", "delta")
    assert site.publisher.live == 2
    assert index.collections() == ("t-items-1", "t-users-1")
    assert epochs(index, "t-items-1", Space.ITEMS, ["i0", "i99"]) == {2}
    assert epochs(index, "t-users-1", Space.USERS, ["u1", "u7"]) == {2}
    again = opened()
    assert again.live == 2, "so the manifest says after a restart"


def test_a_change_in_place_is_taken_back_in_place(opened: Open, index: VectorIndex) -> None:
    site = Site(opened(), Budgets(skew=1.0, residual=2.0, chance=1e-9), held=False)
    site.clicks(300)
    site.adopt(shuffled(good(), np.arange(90)), 2)
    assert site.decided[-1].how == "delta"
    site.trial.budgets = Budgets()
    while not site.take_back():
        site.clicks(50)
    assert site.publisher.live == 1
    assert index.collections() == ("t-items-1", "t-users-1")
    assert site.publisher.published.withdrawn == 2


def test_few_clicks_are_not_enough_to_write_in_place(opened: Open) -> None:
    site = Site(opened(), Budgets(), held=False)
    site.clicks(50)
    site.adopt(good(), 2)
    assert site.decided[-1].how == "flip"
