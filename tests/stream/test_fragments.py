import json
from datetime import UTC, datetime

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from stream.fragments import assemble, digests, literals, quoted, row_objects, text, to_bytes

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(st.none() | words, max_size=8))
def test_strings_survive_as_json(values: list[str | None]) -> None:
    fragments = quoted(pa.array(values, pa.string())).to_pylist()
    assert [None if f is None else json.loads(f) for f in fragments] == values


def test_ids_read_as_a_person_writes_them() -> None:
    assert text(pa.array([1, None])).to_pylist() == ["1", None]
    assert text(pa.array([1.0, 2.5, None, float("nan")])).to_pylist() == ["1", "2.5", None, None]
    assert text(pa.array(["", "a"], pa.large_string())).to_pylist() == [None, "a"]
    assert text(pa.array(["7"]).dictionary_encode()).to_pylist() == ["7"]
    assert text(pa.array([[1, 2], None])).to_pylist() == ["[1, 2]", None]


def test_values_of_every_type_are_written() -> None:
    table = pa.record_batch(
        {
            "i": [1, None],
            "b": [True, None],
            "f": [0.5, float("inf")],
            "s": ['"', None],
            "t": pa.array([datetime(2026, 1, 1, tzinfo=UTC), None], pa.timestamp("ns", tz="UTC")),
            "l": [[1.5, 2.0], None],
            "d": pa.array(["x", None]).dictionary_encode(),
        }
    )
    assert [json.loads(row) for row in row_objects(table)] == [
        {
            "i": 1,
            "b": True,
            "f": 0.5,
            "s": '"',
            "t": "2026-01-01T00:00:00.000000Z",
            "l": [1.5, 2.0],
            "d": "x",
        },
        {"f": "infinite"},
    ]
    assert literals(pa.array([float("nan")])).to_pylist() == [None]


def test_a_null_fragment_leaves_its_field_out() -> None:
    fields = {"type": '"click"', "a": pa.array([None, "1"]), "b": pa.array(["2", None])}
    assert to_bytes(assemble(fields, 2)) == [
        b'{"type":"click","b":2}',
        b'{"type":"click","a":1}',
    ]
    assert to_bytes(assemble({"type": '"click"'}, 2)) == [b'{"type":"click"}'] * 2
    assert to_bytes(assemble({"type": '"click"'}, 0)) == []


def test_the_same_content_has_the_same_id_within_a_kind_only() -> None:
    first, again, other = digests([b"row", b"row", b"other"]).to_pylist()
    assert first == again != other
    assert digests([b"row"], b"item").to_pylist() != [first]
