"""Keys, roles, rates, and who may be listened to without any."""

from pathlib import Path

import pytest

from consumers.errors import SettingsError
from consumers.keys import Buckets, Keyring, Role, check_exposure, parse_keys, read_keys
from stream.clock import ManualClock

SECRET = "0123456789abcdef"


def test_keys_are_read_from_lines_and_only_their_hash_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# who may what\n\nshop read,events {SECRET}\nops operate {SECRET}x\n")
    keys = read_keys(path)
    assert [(key.name, key.roles) for key in keys] == [
        ("shop", {Role.READ, Role.EVENTS}),
        ("ops", {Role.OPERATE}),
    ]
    assert SECRET not in repr(keys)
    ring = Keyring(keys)
    found = ring.find(SECRET)
    assert found is not None and found.name == "shop"
    assert (
        ring.find(f"{SECRET}y") is None and ring.find("") is None and ring.find("ü\ud800") is None
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("shop read", "2 words"),
        (f"shop write {SECRET}", "no role"),
        ("shop read short", "at least 16"),
        (f"a read {SECRET};a read {SECRET}", "is taken"),
    ],
)
def test_a_wrong_line_is_named_and_no_secret_is_shown(line: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as error:
        parse_keys(line, "GOAT_API_KEYS")
    assert SECRET not in str(error.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nowhere"):
        read_keys(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("host", "keys", "unguarded", "fine"),
    [
        ("127.0.0.1", 0, False, True),
        ("127.9.9.9", 0, False, True),
        ("::1", 0, False, True),
        ("localhost", 0, False, True),
        ("0.0.0.0", 0, False, False),
        ("::", 0, False, False),
        ("example.org", 0, False, False),
        ("0.0.0.0", 1, False, True),
        ("0.0.0.0", 0, True, True),
    ],
)
def test_others_are_not_listened_to_without_a_key(
    host: str, keys: int, unguarded: bool, fine: bool
) -> None:
    if fine:
        check_exposure(host, keys=keys, unguarded=unguarded)
    else:
        with pytest.raises(SettingsError, match="--unguarded"):
            check_exposure(host, keys=keys, unguarded=unguarded)


def test_a_bucket_fills_with_time_up_to_its_size() -> None:
    clock = ManualClock(1_000_000)
    buckets = Buckets(2.0, 3.0, clock)
    assert [buckets.take("a") for _ in range(3)] == [0.0] * 3
    assert buckets.take("a") == pytest.approx(0.5)
    assert buckets.take("b") == 0.0  # each has its own
    clock.advance(400_000)
    assert buckets.take("a") == pytest.approx(0.1)
    clock.advance(100_000)
    assert buckets.take("a") == 0.0
    clock.advance(60_000_000)
    assert [buckets.take("a") > 0 for _ in range(4)] == [False, False, False, True]
