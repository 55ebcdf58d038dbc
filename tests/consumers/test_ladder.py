"""Every rung, why each is left, and that no rung shows what the rules forbid."""

import numpy as np
import pytest

from consumers.asking import Answer, Fell, Rung, Wish
from consumers.errors import PublishError, ServerUnavailable
from consumers.index import Conditions, VectorIndex
from consumers.serving_rules import Boost
from stream.deadline import Deadline
from tests.consumers.serving_parts import ITEMS, NOW, PAIR, Parts, Still, make_parts

DOWN = ServerUnavailable("nobody answers")


@pytest.fixture
def parts(index: VectorIndex) -> Parts:
    return make_parts(index)


def ids(answer: Answer) -> list[str]:
    return [slot.shown.id for slot in answer.slots]


def brute(parts: Parts, vector: np.ndarray) -> list[str]:
    """All items by their dot product with a vector."""
    order = np.argsort(-parts.world.live.item_vectors() @ vector, kind="stable")
    return [f"i{n}" for n in order]


# -- rungs


def test_a_known_user_is_searched_for_by_the_live_vector(parts: Parts) -> None:
    answer = parts.answer(Wish(5, user="u1"))
    known = parts.world.user("u1")
    assert known is not None
    expected = [i for i in brute(parts, known.vector) if i not in ("i2", "i3", "i5")][:5]
    assert (answer.rung, answer.version, answer.fell) == (Rung.USER, 1, ())
    assert ids(answer) == expected
    assert len(parts.finder.asked) == 1 and parts.finder.asked[0][0] == PAIR.items
    again = parts.answer(Wish(40, user="u1", seen=True))
    assert {"i2", "i3"} < set(ids(again)) and len(ids(again)) == ITEMS - 1


def test_what_a_user_just_did_counts_at_once(parts: Parts) -> None:
    before = parts.answer(Wish(30, user="u1"))
    parts.tell("click", user_id="u1", item_id="i20")
    after = parts.answer(Wish(30, user="u1"))
    assert "i20" in ids(before) and "i20" not in ids(after)
    assert ids(after) != [i for i in ids(before) if i != "i20"]


def test_somebody_unknown_is_known_by_recent_items(parts: Parts) -> None:
    answer = parts.answer(Wish(4, user="nobody", recent=("i7", "never"), explain=True))
    vector = parts.world.fold(("i7",), NOW)
    assert vector is not None
    assert (answer.rung, answer.fell) == (Rung.RECENT, (Fell.USER_UNKNOWN,))
    assert ids(answer) == [i for i in brute(parts, vector) if i not in ("i7", "i5")][:4]
    assert {item for why in answer.why for item, _ in why.because} <= {"i7"}


def test_below_that_there_is_popularity_in_the_segment_then_of_all(parts: Parts) -> None:
    for user in ("x", "y", "z"):
        parts.tell("click", user_id=user, item_id="i19")
    parts.tell("click", user_id="x", item_id="i21")
    answer = parts.answer(Wish(3, user="nobody", recent=("never",), context=("c1",)))
    assert answer.rung is Rung.SEGMENT
    assert answer.fell == (Fell.USER_UNKNOWN, Fell.RECENT_UNKNOWN)
    assert ids(answer)[0] == "i19" and set(ids(answer)) <= {f"i{n}" for n in range(1, 24, 3)}
    nothing = parts.answer(Wish(3, context=("no-such",)))
    assert (nothing.rung, nothing.fell) == (Rung.POPULAR, (Fell.SEGMENT_EMPTY,))
    assert ids(nothing)[0] == "i19"
    assert parts.finder.asked == []


def test_a_segment_follows_what_is_told_of_its_items(parts: Parts) -> None:
    wish = Wish(30, context=("c1",))
    assert "i4" in ids(parts.answer(wish))
    parts.tell("item", item_id="i4", categories=["c9", "c2"])
    assert "i4" not in ids(parts.answer(wish))
    answer = parts.answer(Wish(30, context=("c9",)))
    assert (answer.rung, ids(answer)) == (Rung.SEGMENT, ["i4"])
    assert answer.slots[0].shown.facts.categories == ("c9", "c2")
    both = parts.answer(Wish(30, context=("c9", "c2")))
    assert len(ids(both)) == len(set(ids(both))) == 8  # i4 once; i5 has expired
    parts.tell("item_removed", item_id="i4")
    assert parts.answer(Wish(30, context=("c9",))).rung is Rung.POPULAR


def test_a_user_of_more_events_than_count_has_the_vector_that_is_published(parts: Parts) -> None:
    for item in ("i20", "i21", "i22", "i1"):
        parts.tell("click", user_id="u1", item_id=item)
    known = parts.world.user("u1")
    number = parts.world.graph.users.find(["u1"])
    assert known is not None and len(known.history) == 6
    assert np.array_equal(known.vector, parts.world.live.user_vectors(number)[0])


def test_similar_items_are_by_direction_and_popularity_does_not_count(parts: Parts) -> None:
    answer = parts.answer(Wish(5, similar_to="i3"))
    z = parts.world.vectors([f"i{n}" for n in range(ITEMS)])[:, :-1]
    order = [f"i{n}" for n in np.argsort(-z @ z[3])]
    assert answer.rung is Rung.SIMILAR
    assert ids(answer) == [i for i in order if i not in ("i3", "i5")][:5]
    parts.finder.fault = DOWN
    parts.ladder.last_good.forget([None])  # type: ignore[list-item]
    assert parts.answer(Wish(5, similar_to="i3")).rung is Rung.SEGMENT


@pytest.mark.parametrize(
    ("fault", "why"),
    [(DOWN, Fell.INDEX_UNAVAILABLE), (PublishError("no collection"), Fell.INDEX_REFUSED)],
)
def test_without_an_index_the_last_good_list_is_served_with_its_age(
    parts: Parts, fault: Exception, why: Fell
) -> None:
    good = parts.answer(Wish(5, user="u1"))
    parts.finder.fault = fault
    parts.clock.advance(3_500_000)
    stale = parts.answer(Wish(5, user="u1"))
    assert (stale.rung, stale.fell, stale.age_s, stale.version) == (Rung.STALE, (why,), 3.5, 1)
    assert ids(stale) == ids(good)
    never = parts.answer(Wish(5, user="u2"))
    assert (never.rung, never.age_s) == (Rung.POPULAR, None) and len(ids(never)) == 5


def test_a_deadline_that_has_passed_asks_nobody(parts: Parts) -> None:
    [answer] = parts.ladder.answer([Wish(3, user="u1")], Deadline.after(0.0))
    assert (answer.rung, answer.fell) == (Rung.POPULAR, (Fell.INDEX_UNAVAILABLE,))
    assert parts.finder.asked == []


def test_an_empty_index_and_a_version_that_is_not_published_are_named(parts: Parts) -> None:
    parts.finder.instead = [[]]
    answer = parts.answer(Wish(3, user="u1"))
    assert (answer.rung, answer.fell) == (Rung.POPULAR, (Fell.INDEX_EMPTY,))
    parts.world.pair = None
    assert parts.answer(Wish(3, user="u1")).fell == (Fell.NOTHING_PUBLISHED,)
    parts.world.pair = PAIR.model_copy(update={"version": 2})
    assert parts.answer(Wish(3, user="u1")).fell == (Fell.NOTHING_PUBLISHED,)
    parts.ladder.follower = Still(None, parts.clock)
    empty = parts.answer(Wish(3, user="u1"))
    assert (empty.fell, ids(empty)) == ((Fell.NOT_RESTORED,), [])


def test_an_index_that_fails_is_left_alone_for_a_while(parts: Parts) -> None:
    parts.finder.fault = DOWN
    for _ in range(8):
        answer = parts.answer(Wish(3, user="u1"))
    assert len(parts.finder.asked) == 5
    assert answer.fell == (Fell.INDEX_RESTING,)
    parts.clock.advance(1_000_000)
    parts.finder.fault = None
    assert parts.answer(Wish(3, user="u1")).rung is Rung.USER  # one goes ahead, to see
    assert parts.answer(Wish(3, user="u1")).rung is Rung.USER
    parts.ladder.breaker.held = True
    assert parts.answer(Wish(3, user="u2")).fell == (Fell.INDEX_RESTING,)


def test_a_batch_is_one_call(parts: Parts) -> None:
    users = [Wish(3, user=f"u{n}") for n in range(4)]
    together = parts.answer(*users, Wish(3))
    assert len(parts.finder.asked) == 1 and len(parts.finder.asked[0][1]) == 4
    alone = [parts.answer(wish) for wish in users]
    assert [ids(a) for a in together[:4]] == [ids(a) for a in alone]
    assert together[4].rung is Rung.POPULAR


# -- rules, on every rung


def on_every_rung(parts: Parts, wish: Wish) -> dict[Rung, list[str]]:
    """What a wish of u1 gets from the index, from memory, and from popularity."""
    found: dict[Rung, list[str]] = {}
    parts.finder.fault = None
    for fault in (None, DOWN):
        parts.finder.fault = fault
        answer = parts.answer(wish)
        found[answer.rung] = ids(answer)
    parts.ladder.last_good.forget(["u1"])
    answer = parts.answer(wish)
    found[answer.rung] = ids(answer)
    assert set(found) == {Rung.USER, Rung.STALE, Rung.POPULAR}
    assert all(found.values())
    return found


def test_the_same_rules_hold_on_every_rung(parts: Parts) -> None:
    everything = {f"i{n}" for n in range(ITEMS)}
    for ids_ in on_every_rung(parts, Wish(40, user="u1")).values():
        assert set(ids_) == everything - {"i2", "i3", "i5"}  # seen twice, expired this instant
    wish = Wish(40, user="u1", conditions=Conditions(not_items=("i9",), not_campaigns=("k1",)))
    for ids_ in on_every_rung(parts, wish).values():
        assert not {"i9", "i4", "i12", "i20"} & set(ids_)
    wish = Wish(40, user="u1", conditions=Conditions(price_from=10.0, price_to=14.0))
    for ids_ in on_every_rung(parts, wish).values():
        assert set(ids_) == {"i10", "i11", "i12", "i13", "i14"}


def test_what_is_stopped_after_a_list_was_remembered_is_not_in_it_any_more(parts: Parts) -> None:
    first = parts.answer(Wish(40, user="u1"))
    assert {"i0", "i4", "i9"} < set(ids(first))
    parts.tell("campaign", campaign_id="k0", paused=True)
    parts.tell("campaign", campaign_id="k1", budget_left=0.0)
    parts.tell("item_removed", item_id="i9")
    parts.tell("click", user_id="u1", item_id="i10")
    gone = {f"i{n}" for n in range(0, ITEMS, 4)} | {"i9", "i10"}
    for ids_ in on_every_rung(parts, Wish(40, user="u1")).values():
        assert not gone & set(ids_)
    parts.tell("campaign", campaign_id="k0", paused=False)
    assert "i0" in ids(parts.answer(Wish(40, user="u1")))


def test_a_campaign_that_reached_its_cap_is_not_shown_to_that_user(parts: Parts) -> None:
    parts.tell("campaign", campaign_id="k0", cap=2, cap_window_s=86_400)
    parts.tell("impression", user_id="u1", item_id="i8")
    assert "i0" in ids(parts.answer(Wish(40, user="u1")))
    parts.tell("impression", user_id="u1", item_id="i8")
    for ids_ in on_every_rung(parts, Wish(40, user="u1")).values():
        assert not {"i0", "i8", "i16"} & set(ids_)
    assert "i0" in ids(parts.answer(Wish(40, user="u2")))
    parts.clock.advance(86_400_000_000)  # the impressions are out of the window
    assert "i0" in ids(parts.answer(Wish(40, user="u1")))


def test_a_campaign_is_shown_to_requests_that_it_targets_within_its_schedule(parts: Parts) -> None:
    parts.tell("campaign", campaign_id="k0", targeting=["mobile", "berlin"])
    for ids_ in on_every_rung(parts, Wish(40, user="u1", keywords=("desktop",))).values():
        assert "i0" not in ids_ and "i4" in ids_
    for ids_ in on_every_rung(parts, Wish(40, user="u1", keywords=("berlin", "x"))).values():
        assert "i0" in ids_
    parts.tell("campaign", campaign_id="k0", ends_at="2026-01-02T00:00:00.000001Z")
    assert "i0" in ids(parts.answer(Wish(40, user="u1")))
    parts.clock.advance(1)
    for ids_ in on_every_rung(parts, Wish(40, user="u1")).values():
        assert "i0" not in ids_ and "i4" in ids_


def test_a_paced_campaign_takes_part_in_its_share_of_requests(parts: Parts) -> None:
    parts.tell("campaign", campaign_id="k0", pacing=0.25)
    parts.index_campaigns()
    for user, rung in (("u1", Rung.USER), ("nobody", Rung.POPULAR)):
        answers = [parts.answer(Wish(40, user=user)) for _ in range(400)]
        assert {answer.rung for answer in answers} == {rung}
        shown = sum("i0" in ids(answer) for answer in answers)
        # Five standard deviations of a binomial of 400 draws at 0.25.
        assert abs(shown - 100) < 5 * (400 * 0.25 * 0.75) ** 0.5


def test_an_erased_user_is_forgotten_everywhere(parts: Parts) -> None:
    parts.answer(Wish(5, user="u1"))
    assert len(parts.ladder.last_good) == 1
    parts.tell("erase_user", user_id="u1")
    parts.ladder.last_good.forget(["u1"])
    assert len(parts.ladder.last_good) == 0
    assert parts.answer(Wish(5, user="u1")).fell == (Fell.USER_UNKNOWN,)


# -- choosing


def test_boosts_diversity_and_exploration_choose_from_a_pool(parts: Parts) -> None:
    plain = parts.answer(Wish(6, user="u1"))
    boosted = parts.answer(
        Wish(6, user="u1", boosts=(Boost(category="c2", add=100.0),), explain=True)
    )
    assert all("c2" in slot.shown.facts.categories for slot in boosted.slots)
    assert all(why.boost == pytest.approx(100.0) for why in boosted.why)
    capped = parts.answer(Wish(6, user="u1", cap=2))
    assert [len([s for s in capped.slots if f"c{n}" in s.shown.facts.categories]) for n in range(3)]
    assert (
        max(sum(f"c{n}" in s.shown.facts.categories for s in capped.slots) for n in range(3)) == 2
    )
    spread = parts.answer(Wish(6, user="u1", relevance=0.1))
    assert ids(spread)[0] == ids(plain)[0] and ids(spread) != ids(plain)
    both = parts.answer(Wish(6, user="u1", relevance=0.1, cap=2, epsilon=0.5))
    assert len(set(ids(both))) == 6
    explored = [s for _ in range(20) for s in parts.answer(Wish(6, user="u1", epsilon=0.5)).slots]
    assert {s.propensity for s in explored} == {0.5, 0.5 / (ITEMS - 3 - 6)}


def test_an_explanation_adds_up(parts: Parts) -> None:
    answer = parts.answer(Wish(6, user="u1", explain=True))
    for slot, why in zip(answer.slots, answer.why, strict=True):
        assert why.personal is not None and why.popularity is not None
        assert why.personal + why.popularity == pytest.approx(slot.shown.base)
        assert {item for item, _ in why.because} <= {"i2", "i3"}
