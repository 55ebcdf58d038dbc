import hashlib
import json
import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from model.config import ModelConfig
from model.data import Features, interactions
from model.errors import InvalidInput, VersionCorrupt
from model.evidence import Calibration, nothing
from model.state import ModelState
from model.terms import Terms
from model.trainer import finetune
from model.version import load, read_meta, save, sealed

CONFIG = ModelConfig(dim=8, context=4, batch=32, item_neighbours=3)
IDS = (*(f"item {n}" for n in range(9)), "ü\n")


@pytest.fixture(scope="module")
def state() -> ModelState:
    rng = np.random.default_rng(0)
    data = interactions(rng.integers(0, 9, 99), rng.integers(0, 10, 99), items=10)
    data = replace(data, late=data.sequence % 7 == 0)
    text = Features(rng.standard_normal((10, 5)).astype(np.float32), np.ones(10, np.bool_))
    image = Features(rng.standard_normal((10, 3)).astype(np.float32), np.arange(10) > 3)
    both = {"text": text, "image": image}
    tuned = finetune(data, features=both, config=CONFIG, seed=1).state
    tried = nothing(np.array([[0.05, 5000.0], [0.2, 1000.0]])).more(np.array([[0.0, 1.0]]), 9.0)
    return replace(tuned, calibration=Calibration(Terms(0.2, 1000.0, -0.1), tried, tried, tried))


def test_a_version_comes_back_as_it_was(state: ModelState, tmp_path: Path) -> None:
    save(state, tmp_path / "7", item_ids=IDS, meta={"snapshot": 3})
    found = load(tmp_path / "7")
    assert (found.item_ids, found.meta) == (IDS, {"snapshot": 3})
    assert read_meta(tmp_path / "7") == {"snapshot": 3}
    assert (found.state.trained_upto, found.state.steps) == (state.trained_upto, state.steps)
    for part in ("parameters", "moments"):
        was, now = getattr(state, part), getattr(found.state, part)
        assert was.keys() == now.keys()
        for name in was:
            np.testing.assert_array_equal(was[name], now[name])
            assert was[name].dtype == now[name].dtype
    assert state.calibration is not None
    assert found.state.calibration is not None
    assert found.state.calibration.terms == Terms(0.2, 1000.0, -0.1)
    for name, array in state.calibration.arrays().items():
        np.testing.assert_array_equal(found.state.calibration.arrays()[name], array)
    for name in ("items", "learned", "expected", "late"):
        np.testing.assert_array_equal(getattr(found.state, name), getattr(state, name))
    np.testing.assert_array_equal(found.state.recency.position, state.recency.position)
    np.testing.assert_array_equal(found.state.recency.gap, state.recency.gap)
    assert list(found.state.potentials) == ["image", "text"]
    for name, kept in found.state.potentials.items():
        for field in fields(kept):
            was, now = (getattr(s[name], field.name) for s in (state.potentials, {name: kept}))
            np.testing.assert_array_equal(was, now)
    assert found.state.neighbours is not None
    assert state.neighbours is not None
    for field in fields(state.neighbours):
        was, now = (
            getattr(near, field.name) for near in (state.neighbours, found.state.neighbours)
        )
        np.testing.assert_array_equal(was, now)
    assert [p.name for p in tmp_path.iterdir()] == ["7"]


def test_learning_goes_on_from_disk_as_from_memory(state: ModelState, tmp_path: Path) -> None:
    save(state, tmp_path / "v", item_ids=IDS, meta={})
    rng = np.random.default_rng(5)
    data = interactions(rng.integers(0, 9, 150), rng.integers(0, 10, 150), items=10)
    kept, read = (
        finetune(data, previous=p, config=CONFIG, seed=2).state.items
        for p in (state, load(tmp_path / "v").state)
    )
    np.testing.assert_array_equal(kept, read)


def test_a_version_without_transport_has_none(state: ModelState, tmp_path: Path) -> None:
    save(replace(state, potentials={}), tmp_path / "v", item_ids=IDS, meta={})
    assert load(tmp_path / "v").state.potentials == {}


def test_a_version_without_a_graph_has_no_neighbours(state: ModelState, tmp_path: Path) -> None:
    save(replace(state, neighbours=None), tmp_path / "v", item_ids=IDS, meta={})
    assert load(tmp_path / "v").state.neighbours is None


def test_what_a_crash_left_is_written_over_and_a_version_never(
    state: ModelState, tmp_path: Path
) -> None:
    draft = tmp_path / ".v.draft"
    draft.mkdir()
    (draft / "half").write_bytes(b"?")
    save(state, tmp_path / "v", item_ids=IDS, meta={})
    assert not draft.exists()
    assert not (tmp_path / "v" / "half").exists()
    with pytest.raises(InvalidInput, match="never overwritten"):
        save(state, tmp_path / "v", item_ids=IDS, meta={})
    with pytest.raises(InvalidInput, match="2 item ids for 10"):
        save(state, tmp_path / "w", item_ids=IDS[:2], meta={})


@pytest.mark.parametrize("name", ["state.safetensors", "items.json", "version.json"])
@pytest.mark.parametrize("harm", ["gone", "cut", "flipped"])
def test_harm_to_any_file_is_noticed(
    name: str, harm: str, state: ModelState, tmp_path: Path
) -> None:
    save(state, tmp_path / "v", item_ids=IDS, meta={})
    path = tmp_path / "v" / name
    content = path.read_bytes()
    if harm == "gone":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(b"\x00" + content[1:])
    with pytest.raises(VersionCorrupt, match="v"):
        load(tmp_path / "v")


@pytest.mark.parametrize(
    ("name", "was", "now"),
    [("state.safetensors", b"", b""), ("items.json", b"item 3", b"item 4")],
)
def test_harm_that_still_reads_is_noticed(
    name: str, was: bytes, now: bytes, state: ModelState, tmp_path: Path
) -> None:
    save(state, tmp_path / "v", item_ids=IDS, meta={})
    path = tmp_path / "v" / name
    content = path.read_bytes()
    # The last byte of the tensors is one of a number's: no format can know that it is wrong.
    other = content.replace(was, now) if was else content[:-1] + bytes([content[-1] ^ 1])
    path.write_bytes(other)
    with pytest.raises(VersionCorrupt, match="checksum"):
        load(tmp_path / "v")


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "more.json"])
def test_a_version_reads_its_own_files_and_no_others(
    name: str, state: ModelState, tmp_path: Path
) -> None:
    save(state, tmp_path / "v", item_ids=IDS, meta={})
    path = tmp_path / "v" / "version.json"
    head = json.loads(path.read_bytes())
    path.write_bytes(sealed(head | {"files": {**head["files"], name: "0" * 64}}))
    with pytest.raises(VersionCorrupt, match="names other files"):
        load(tmp_path / "v")


@pytest.mark.parametrize("name", ["state.safetensors", "items.json", "version.json"])
def test_links_and_pipes_in_a_version_are_not_read(
    name: str, state: ModelState, tmp_path: Path
) -> None:
    save(state, tmp_path / "v", item_ids=IDS, meta={})
    path = tmp_path / "v" / name
    path.rename(tmp_path / name)
    path.symlink_to(tmp_path / name)
    with pytest.raises(VersionCorrupt, match="symbolic link"):
        load(tmp_path / "v")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(VersionCorrupt, match="no regular file"):
        load(tmp_path / "v")


@pytest.mark.parametrize(
    "change",
    [{"steps": 9}, {"meta": {}}, {"x": 1}, {"sha256": "0" * 64}, {"sha256": None}, {"format": 5}],
)
def test_a_changed_head_is_noticed_by_all_who_read_it(
    change: dict[str, object], state: ModelState, tmp_path: Path
) -> None:
    save(state, tmp_path / "v", item_ids=IDS, meta={"snapshot": 3})
    path = tmp_path / "v" / "version.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    for read in (load, read_meta):
        with pytest.raises(VersionCorrupt, match="checksum"):
            read(tmp_path / "v")


def test_a_version_from_before_heads_had_checksums_is_read(
    state: ModelState, tmp_path: Path
) -> None:
    save(state, tmp_path / "v", item_ids=IDS, meta={"snapshot": 3})
    path = tmp_path / "v" / "version.json"
    head = json.loads(path.read_bytes())
    del head["sha256"]
    path.write_text(json.dumps(head | {"format": 5}))
    assert read_meta(tmp_path / "v") == {"snapshot": 3}
    assert load(tmp_path / "v").item_ids == IDS


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "[1]", '"x"'])
def test_a_head_that_is_none_is_an_error_of_ours(content: str, tmp_path: Path) -> None:
    (tmp_path / "version.json").write_text(content)
    for read in (load, read_meta):
        with pytest.raises(VersionCorrupt, match="not a whole"):
            read(tmp_path)


def test_another_format_or_other_counts_are_refused(state: ModelState, tmp_path: Path) -> None:
    save(state, tmp_path / "v", item_ids=IDS, meta={})
    path = tmp_path / "v" / "version.json"
    head = json.loads(path.read_bytes())
    path.write_text(json.dumps(head | {"format": 99}))
    with pytest.raises(VersionCorrupt, match="99"):
        load(tmp_path / "v")
    path.write_text("{}")
    with pytest.raises(VersionCorrupt, match="not a whole"):
        read_meta(tmp_path / "v")


def test_a_state_of_other_shapes_cannot_be_made(state: ModelState) -> None:
    with pytest.raises(InvalidInput, match="embedding"):
        replace(state, items=state.items[:4], learned=state.learned[:4])
    with pytest.raises(InvalidInput, match="learned names 3"):
        replace(state, learned=state.learned[:3])
    with pytest.raises(InvalidInput, match="log_weights has shape None"):
        replace(state, parameters={"embedding": state.parameters["embedding"]})


def test_ids_that_do_not_fit_the_table_are_refused(state: ModelState, tmp_path: Path) -> None:
    save(state, tmp_path / "v", item_ids=IDS, meta={})
    fewer = json.dumps(IDS[1:]).encode()
    (tmp_path / "v" / "items.json").write_bytes(fewer)
    head = json.loads((tmp_path / "v" / "version.json").read_bytes())
    head["files"]["items.json"] = hashlib.sha256(fewer).hexdigest()
    del head["sha256"]  # as before format 6
    head["format"] = 5
    (tmp_path / "v" / "version.json").write_text(json.dumps(head))
    with pytest.raises(VersionCorrupt, match="9 ids for 10 items"):
        load(tmp_path / "v")
