from consumers.tally import Tally


def test_the_sum_holds_or_says_so() -> None:
    tally = Tally(events_in=10, applied=6, duplicates=2, dead_letters=1, late=1)
    assert tally.balanced
    tally.events_in += 1
    assert not tally.balanced


def test_json_and_back() -> None:
    tally = Tally(events_in=3, applied=2, dead_letters=1)
    tally.reasons["too_large"] += 1
    tally.kinds["click"] += 2
    assert Tally.from_json(tally.to_json()) == tally
