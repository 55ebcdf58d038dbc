from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.errors import ProfilesCorrupt
from consumers.profiles import Profile, Profiles
from consumers.prompts import Attributes, Preferences

WORDS = dict.fromkeys(Attributes.model_fields, ("a",))
ATTRIBUTES = Attributes.model_validate({**WORDS, "style": ("modern",)})
PREFERENCES = Preferences.model_validate(
    {"style": ("modern",), "function": ("run",), "context": (), "other": ("b",)}
)


def profile(user: str, until_us: int, sequence: int, **more: object) -> Profile:
    return Profile.model_validate(
        {
            "user": user, "events": 3, "until_us": until_us, "next_sequence": sequence,
            "made_us": 1, "model": "m", "prompt": 1, "attributes": ATTRIBUTES,
            "preferences": PREFERENCES, **more,
        }
    )  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "language" / "profiles.jsonl"


def test_what_is_added_is_there_after_a_restart(path: Path) -> None:
    profiles = Profiles(path)
    assert len(profiles) == 0
    profiles.add(profile("ü\n", 10, 5))
    profiles.add(profile("b", 11, 6, skipped="not-json", preferences=None, attributes=None))
    again = Profiles(path)
    assert len(again) == 2
    assert again.last("ü\n") == profile("ü\n", 10, 5)
    assert again.last("nobody") is None
    assert again.newest() == {"ü\n": profile("ü\n", 10, 5)}


def test_the_text_is_the_preferences_then_the_rest_once_each() -> None:
    assert profile("a", 1, 1).text == "modern, run, b, a"
    assert profile("a", 1, 1, preferences=None, attributes=None, skipped="x").text == ""


@given(
    made=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.booleans()), max_size=8),
    time_us=st.integers(0, 21),
    sequence=st.integers(0, 21),
)
def test_no_prediction_sees_a_later_profile(
    made: list[tuple[int, int, bool]], time_us: int, sequence: int
) -> None:
    profiles = Profiles(Path("/nonexistent/profiles.jsonl"))
    some = [profile("a", t, s, skipped="x" if bad else "") for t, s, bad in sorted(made)]
    profiles._by_user["a"] = some
    fit = [
        p for p in some if p.until_us < time_us and p.next_sequence <= sequence and not p.skipped
    ]
    assert profiles.at("a", time_us, sequence) == (fit[-1] if fit else None)


def test_an_event_at_the_profiles_own_time_or_place_does_not_use_it() -> None:
    made = profile("a", 10, 5)
    assert made.usable(11, 5)
    assert not made.usable(10, 5)
    assert not made.usable(11, 4)


def test_a_torn_last_line_is_dropped_and_the_file_goes_on(path: Path) -> None:
    profiles = Profiles(path)
    profiles.add(profile("a", 1, 1))
    with path.open("ab") as file:
        file.write(b'{"user": "b", "ev')
    profiles = Profiles(path)
    profiles.add(profile("c", 2, 2))
    assert sorted(Profiles(path).newest()) == ["a", "c"]
    path.write_bytes(b"torn")
    assert len(Profiles(path)) == 0
    assert path.read_bytes() == b""


def test_an_altered_line_is_named(path: Path) -> None:
    profiles = Profiles(path)
    profiles.add(profile("a", 1, 1))
    profiles.add(profile("b", 1, 1))
    path.write_text(path.read_text().replace('"modern"', '"http://evil"', 1))
    with pytest.raises(ProfilesCorrupt, match=r"profiles\.jsonl:1: .*move the file away"):
        Profiles(path)


def test_the_budget_counts_attempts_after_a_time(path: Path) -> None:
    profiles = Profiles(path)
    for made_us in (5, 6, 7):
        profiles.add(profile("a", 1, 1, made_us=made_us, skipped="x" * (made_us == 6)))
    assert [Profiles(path).tried_since(at) for at in (4, 5, 7)] == [3, 2, 0]


def test_who_is_forgotten_is_gone_from_the_disk(path: Path) -> None:
    profiles = Profiles(path)
    for user in ("a", "b", "a"):
        profiles.add(profile(user, 1, 1))
    assert profiles.keep(["a", "b", "c"]) == 0
    assert profiles.keep(["b"]) == 1
    assert '"a"' not in path.read_text().replace('["a"]', "")
    assert len(Profiles(path)) == len(profiles) == 1
