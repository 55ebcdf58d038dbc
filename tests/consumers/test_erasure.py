"""`goat erase`: a user with history in every store, the receipt, and the search after it."""

import gzip
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from consumers import chronicle, finding, inventory, wiring
from consumers.cli import app
from consumers.erasing import Erasure, erase
from consumers.errors import SettingsError
from consumers.finding import find
from consumers.finetuner import record
from consumers.heads import on_record, tell_rewriting
from consumers.index import Space
from consumers.manifest import Manifest
from consumers.manifest_steps import Excised, Rewritten
from consumers.needle import Needle
from consumers.profiles import Profiles
from consumers.receipt import digest
from consumers.scrubbing import scrub
from consumers.settings import Settings
from stream.clock import SystemClock
from stream.errors import StateError, StoreInUse
from stream.features import FeatureStore, read, text_key
from stream.segments import replace_file
from stream.snapshot import SnapshotStore
from stream.state import State
from tests.consumers.erasing_parts import (
    HERS,
    HIS,
    describe,
    event,
    everywhere,
    files_with,
    history,
    ingest,
    leave_traces,
    write_version,
)

USER, OTHER = "user-1", "user-12"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path / "state")


def loaded(settings: Settings) -> State:
    state = SnapshotStore(settings.graph_dir, SystemClock()).load()
    assert state is not None
    return state


def test_a_user_with_history_in_every_store_is_found_in_none_after_it(
    settings: Settings, tmp_path: Path
) -> None:
    everywhere(settings, USER, OTHER)
    held = find(settings.state, OTHER).rows()
    file = tmp_path / "receipt.json"
    assert erase(settings, USER, file=file, retrain=True) == 0

    told = json.loads(file.read_text())
    assert told["clean"] and told["search"]["found"] == []
    rows = {row["place"]: row for row in told["rows"]}
    nothing_before = {place for place, row in rows.items() if not row["before"]}
    assert nothing_before == {finding.SNAPSHOTS, finding.OTHER, inventory.FILLING}
    assert {row["after"] for row in rows.values()} == {0}
    assert rows[inventory.EDGES]["before"] == 8
    assert rows[inventory.CAPPED]["before"] == 4
    assert told["who"] == digest(told["salt"], USER)
    assert USER not in file.read_text()
    assert told["refolded"]["items"] == 7

    # By our search, and by the plainest one: nothing of her is left, and all of the other is.
    assert find(settings.state, USER).hits == []
    plain = [name for name in files_with(settings.state, USER) if "user-12" not in name]
    assert {p for p in plain if not only_of(settings.state / p, OTHER)} == set()
    after = find(settings.state, OTHER).rows()
    assert {p: after[p] for p in held if p != finding.INDEX} == {
        p: held[p] for p in held if p != finding.INDEX
    }
    assert after[finding.INDEX] > 0
    snapshots = [p.stem for p in (settings.graph_dir / "snapshots").glob("*.json")]
    assert len(snapshots) == 3
    reasons = (settings.state / "retrain").glob("erase-*.json")
    assert [json.loads(p.read_text()) for p in reasons] == [{"reason": "a user was erased"}]


def only_of(path: Path, other: str) -> bool:
    """Whether every place where the user's letters stand in a file is of another's id."""
    content = path.read_bytes()
    return content.count(USER.encode()) == content.count(other.encode())


def test_vectors_are_swept_in_both_versions_and_touched_items_published_anew(
    settings: Settings,
) -> None:
    everywhere(settings, USER, OTHER)
    with inventory.vectors(settings) as index:
        assert index is not None
        live = next(name for name in index.aliases().values() if "items" in name)
        [before] = index.fetch(live, Space.ITEMS, ["item-5"])
    assert erase(settings, USER, quiet=True) == 0
    with inventory.vectors(settings) as index:
        assert index is not None
        for collection in (name for name in index.collections() if "users" in name):
            assert list(index.ids(collection)) == [OTHER]
            assert index.fetch(collection, Space.USERS, [USER]) == [None]
        [after] = index.fetch(live, Space.ITEMS, ["item-5"])
        [calm] = index.fetch(live, Space.ITEMS, ["item-4"])
    assert before is not None and after is not None and calm is not None
    assert before.vector is not None and after.vector is not None
    # Her click counts no more, and what was learned stays.
    assert after.vector[-1] < before.vector[-1]
    assert np.array_equal(after.vector[:-1], before.vector[:-1])
    assert after.payload["seq"] > before.payload["seq"]


def test_what_is_delivered_again_does_not_bring_the_user_back(settings: Settings) -> None:
    ingest(settings, history([USER, OTHER]))
    assert erase(settings, USER, quiet=True) == 0
    edges = loaded(settings).graph.edges_by_name()
    ingest(settings, [m for m in history([USER, OTHER]) if not m.endswith(b":")], "again.jsonl")
    state = loaded(settings)
    assert USER not in state.graph.users
    assert state.graph.edges_by_name() == edges
    assert {user for user, *_ in edges} == {OTHER}
    assert find(settings.state, USER).hits == []


@pytest.mark.parametrize(
    "user",
    [
        "../../etc/passwd",
        "a/b\\c \"quoted\" 'and' $(so on)",
        "x" * 230,
        "жанна-д'арк",
        "用户",
        "🦖" * 64,
        "user-1.*",
        "--state",
        "7",
        "click",
        "user",
    ],
)
def test_a_hostile_id_is_erased_like_any_other(settings: Settings, user: str) -> None:
    longer = f"{user}0"
    ingest(settings, history([user, longer]))
    leave_traces(settings, user)
    describe(settings, user, longer)
    assert find(settings.state, user).hits
    before = loaded(settings).graph.edges_by_name()
    assert erase(settings, user, quiet=True) == 0
    assert find(settings.state, user).hits == []
    state = loaded(settings)
    assert state.graph.edges_by_name() == [edge for edge in before if edge[0] != user]
    assert longer in state.graph.users
    [file] = (settings.state / "receipts").iterdir()
    assert re.fullmatch(r"[0-9a-f]{32}\.json", file.name)


def test_one_who_is_the_begin_of_another_is_not_the_other(settings: Settings) -> None:
    ingest(settings, history([OTHER]))
    assert find(settings.state, USER).hits == []
    assert {hit.place for hit in find(settings.state, OTHER).hits} >= {
        finding.NAMES,
        finding.SEEN,
        finding.JOINS,
        finding.LETTERS,
    }
    assert erase(settings, USER, quiet=True) == 0
    assert OTHER in loaded(settings).graph.users


def test_nothing_is_done_for_an_id_that_no_event_has(settings: Settings) -> None:
    ingest(settings, history([OTHER]))
    for user in ("", "x" * 257, "a\nb"):
        with pytest.raises(SettingsError, match="no event can have"):
            Erasure(settings, user, SystemClock()).run()


def test_without_a_snapshot_there_is_nothing_to_erase(settings: Settings) -> None:
    with pytest.raises(StateError, match="no snapshot"):
        Erasure(settings, USER, SystemClock()).run()


def test_a_program_that_reads_files_is_let_end_first(settings: Settings) -> None:
    ingest(settings, history([USER]))
    store = SnapshotStore(settings.graph_dir, SystemClock())
    store.acquire()
    with pytest.raises(StoreInUse, match="let it end"):
        Erasure(settings, USER, SystemClock()).run()
    store.close()
    assert erase(settings, USER, quiet=True) == 0


def test_an_index_that_another_process_holds_is_not_called_clean(settings: Settings) -> None:
    ingest(settings, history([USER]))
    with closing(wiring.open_index(settings)):
        given = Erasure(settings, USER, SystemClock()).run()
    assert not given.clean
    [live] = [row for row in given.rows if row.place == inventory.LIVE]
    assert (live.before, live.after) == (None, None)
    assert "end it" in live.left


def test_the_command_prints_the_receipt_and_says_what_is_still_found(settings: Settings) -> None:
    ingest(settings, history([USER]))
    (settings.state / "note.txt").write_text(f"call {USER} back")
    words = ["erase", USER, "--state", str(settings.state)]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 1, result.output
    assert "note.txt: 1 (other files)" in result.output
    assert "NOT CLEAN" in result.output
    (settings.state / "note.txt").unlink()
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "nothing found" in result.output
    assert USER not in result.output


# -- the search


def test_the_search_decodes_what_it_reads(tmp_path: Path) -> None:
    (tmp_path / "utf16.txt").write_bytes(f"of {USER}, ".encode("utf-16"))
    (tmp_path / "packed.gz").write_bytes(gzip.compress(f"of {USER}.".encode()))
    (tmp_path / "escaped.json").write_text(json.dumps({"deep": [{"who": "\u0436-" + USER}]}))
    with closing(sqlite3.connect(tmp_path / "base.sqlite")) as base:
        base.execute('CREATE TABLE "odd""name" (who TEXT, n INT)')
        base.execute('INSERT INTO "odd""name" VALUES (?, 3)', (USER,))
        base.commit()
    (tmp_path / "cbor").write_bytes(b"\xa1bidf" + USER.encode() + b"eepoch")
    (tmp_path / "torn.jsonl").write_text('{"user_id": "' + USER)
    (tmp_path / "empty").touch()
    (tmp_path / "other.bin").write_bytes(f"{USER}2 x{USER}".encode())
    (tmp_path / "broken.arrow").write_bytes(f"no table, but {USER} ".encode())
    found = find(tmp_path, USER)
    assert {hit.where for hit in found.hits} == {
        "utf16.txt", "packed.gz", "escaped.json", "base.sqlite", "cbor", "torn.jsonl",
        "broken.arrow",
    }  # fmt: skip
    assert found.files == 8


def test_a_short_id_is_compared_with_fields_only(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\x017\x02 7 ")
    (tmp_path / "a.jsonl").write_text('{"version": "7", "text": "of 7 things"}\n{"user_id": "7"}\n')
    assert [(hit.where, hit.rows) for hit in find(tmp_path, "7").hits] == [("a.jsonl", 1)]


def test_a_key_that_is_the_user_is_found_and_taken_out() -> None:
    needle, value = Needle("a-user"), {"a-user": 1, "x": ["by a-user", {"user": "a-user-2"}]}
    assert needle.count(value) == 2
    assert needle.without(value) == {"(erased)": 1, "x": ["by (erased)", {"user": "a-user-2"}]}


# -- what is taken out of files


def test_a_dead_letter_keeps_where_it_came_from(settings: Settings) -> None:
    ingest(settings, history([USER, OTHER]))
    leave_traces(settings, USER)
    lines = (settings.state / "dead_letters.jsonl").read_text().splitlines()
    scrub(settings.state, USER)
    mine, others, last = map(
        json.loads, (settings.state / "dead_letters.jsonl").read_text().splitlines()
    )
    assert json.loads(lines[1]) == others
    assert mine == {k: json.loads(lines[0])[k] for k in mine if k != "erased"} | {"erased": True}
    assert set(mine) == {"topic", "partition", "offset", "reason", "bytes", "erased"}
    assert (last["partition"], last["offset"], last["reason"]) == (3, 17, "invalid_utf8")


def test_a_file_that_a_server_appends_to_keeps_its_length(tmp_path: Path) -> None:
    state = tmp_path
    leave_traces(Settings(state=state), USER)
    path = state / "served.jsonl"
    with path.open("ab") as held:
        before = path.read_bytes()
        scrub(state, USER)
        held.write(b'{"user_id":"later"}\n')
    lines = path.read_bytes().splitlines()
    assert [json.loads(line).get("user_id") for line in lines] == [None, "somebody else", "later"]
    assert path.read_bytes()[: len(before)].splitlines()[1] == before.splitlines()[1]
    assert json.loads((state / "drift" / "state.json").read_text())["posted"][0]["alert"][
        "movers"
    ] == [{"name": "", "after": 0.5}]
    assert json.loads((state / "frozen.json").read_text())["reason"].endswith("of it: (erased)")


def test_profiles_go_with_vectors_that_nobody_needs(settings: Settings) -> None:
    describe(settings, USER, OTHER)
    scrub(settings.state, USER)
    profiles = Profiles(settings.state / "language" / "profiles.jsonl")
    assert list(profiles.newest()) == [OTHER]
    _, there = read(settings.state / "features" / "profiles-m-4", [text_key(HERS), text_key(HIS)])
    assert there.tolist() == [False, True]
    assert scrub(settings.state, USER) == []
    store = FeatureStore(settings.state / "features" / "profiles-m-4", "m", 4)
    [left] = scrub(settings.state, USER)
    assert "end `goat enrich`" in left
    store.close()


def test_what_a_crash_left_behind_goes_too(tmp_path: Path) -> None:
    (tmp_path / "alerts.jsonl.tmp").write_text(f'{{"movers": [{{"name": "{USER}"')
    (tmp_path / "other.json.tmp").write_text("{")
    scrub(tmp_path, USER)
    assert [p.name for p in tmp_path.iterdir()] == ["other.json.tmp"]


def test_a_version_that_was_learned_for_an_alert_still_opens(settings: Settings) -> None:
    ingest(settings, history([USER]))
    write_version(settings, f"drift-1: most of it: {USER}")
    scrub(settings.state, USER)
    version = wiring.Versions(settings.models_dir).open(1)
    assert version.meta["anew"] == "drift-1: most of it: (erased)"
    version.load()


def heads(settings: Settings) -> list[str]:
    return [line.body.head for line in chronicle.read(settings.manifest, SystemClock())
            if isinstance(line.body, Rewritten)]  # fmt: skip


def test_a_version_that_an_erasure_rewrote_is_told_from_an_altered_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    everywhere(settings, USER, OTHER)
    clock, versions = SystemClock(), wiring.Versions(settings.models_dir)
    record(versions, settings.manifest, clock)
    before = chronicle.shown(settings, 1, clock)
    assert before["checks"]["model"] == "as recorded: 3 files"  # type: ignore[index]

    def cut_off(path: Path, content: bytes) -> None:
        if path.name == "version.json":
            raise KeyboardInterrupt
        replace_file(path, content)

    with monkeypatch.context() as patch:
        patch.setattr("consumers.scrubbing.replace_file", cut_off)
        with pytest.raises(KeyboardInterrupt):
            erase(settings, USER, quiet=True)
    found = chronicle.shown(settings, 1, clock)
    assert (found["ok"], len(heads(settings))) == (False, 1)
    assert "an erasure that rewrites" in found["checks"]["model"]  # type: ignore[index]

    assert erase(settings, USER, quiet=True) == 0
    record(versions, settings.manifest, clock)
    assert len(heads(settings)) == len(set(heads(settings))) == 1
    after = chronicle.shown(settings, 1, clock)
    said = "rewritten by an erasure, since then as recorded: 3 files"
    assert (after["ok"], after["checks"]["model"]) == (True, said)  # type: ignore[index]
    assert (after["status"], after["line"]) == (before["status"], before["line"])
    assert USER not in settings.manifest.read_text()
    with (versions.open(1).path / "state.safetensors").open("ab") as file:
        file.write(b" ")
    altered = chronicle.shown(settings, 1, clock)
    assert not altered["ok"]
    assert "state.safetensors has SHA-256" in altered["checks"]["model"]  # type: ignore[index]


def test_a_head_of_no_version_on_record_makes_none_known(tmp_path: Path) -> None:
    path, clock = tmp_path / "manifest.jsonl", SystemClock()
    tell_rewriting(path, clock, 1, "ab")
    assert not path.exists()
    with closing(Manifest(path, clock)) as manifest:
        manifest.append(Rewritten(model="1", head="cd"))
        assert on_record(manifest.lines) == set()
        assert chronicle.entries(manifest.lines) == []


def test_the_chain_of_the_manifest_holds_where_a_glob_is_the_user(settings: Settings) -> None:
    ingest(settings, history([USER]))
    with closing(Manifest(settings.manifest, SystemClock())) as manifest:
        manifest.append(
            Excised(
                users=USER, from_us=0, to_us=1, events=0, matched=1, how="replayed", numbering=1
            )
        )
    scrub(settings.state, USER)
    assert len(chronicle.read(settings.manifest, SystemClock())) == 1


def test_an_event_of_the_same_time_erases(settings: Settings) -> None:
    ingest(settings, [event(5, "click", USER, item_id="a")])
    given = Erasure(settings, USER, SystemClock()).run()
    assert given.clean and given.through == "applied here" and given.topics == {}
    assert loaded(settings).graph.now_us == 1_767_225_605_000_000
