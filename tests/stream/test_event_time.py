from datetime import UTC, date, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.event_time import filled, parsed, written

MOMENT = datetime(2022, 4, 24, 15, 5, 41, 436_000, tzinfo=UTC)
US = 1_650_812_741_436_000


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1_650_812_741]), US - 436_000),
        (pa.array([1_650_812_741_436]), US),
        (pa.array([US]), US),
        (pa.array([US * 1_000]), US),
        (pa.array([881_250_949], pa.int32()), 881_250_949_000_000),
        (pa.array([1_650_812_741.436]), US),
        (pa.array([1_650_812_741_436.0]), US),
        (pa.array([float(US)]), US),
        (pa.array([US * 1e3]), pytest.approx(US, abs=1)),
        (pa.array(["1650812741.436"]), US),
        (pa.array([" 1650812741436 "]), US),
        (pa.array(["8.81250949e8"]), 881_250_949_000_000),
        (pa.array(["2022-04-24T15:05:41.436Z"]), US),
        (pa.array(["2022-04-24 15:05:41.436"]), US),
        (pa.array(["2022-04-24T23:05:41.436+08:00"]), US),
        (pa.array(["2022-04-24"], pa.large_string()), US - 54_341_436_000),
        (pa.array([MOMENT]), US),
        (pa.array([MOMENT], pa.timestamp("ns", tz="Asia/Shanghai")), US),
        (pa.array([MOMENT.replace(tzinfo=None)], pa.timestamp("ms")), US),
        (pa.array([date(2022, 4, 24)]), US - 54_341_436_000),
        (pa.array(["1650812741"]).dictionary_encode(), US - 436_000),
    ],
)
def test_one_moment_in_all_its_spellings(column: pa.Array, expected: int) -> None:
    assert parsed(column).to_pylist() == [expected]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["yesterday", "2022-13-01", "", None, "1e99", "9" * 30, "nan", "0x10"]),
        pa.array([float("nan"), float("inf"), -1e300, None]),
        pa.array([9_223_372_036_854_775_807 // 1_000 + 10**17, None]).filter(
            pa.array([False, True])
        ),
        pa.array([[1], [2]]),
    ],
)
def test_what_is_no_time_is_null(column: pa.Array) -> None:
    assert parsed(column).null_count == len(column)


def test_a_mixed_column_is_read_value_by_value() -> None:
    column = pa.array(["881250949", "1997-12-04T15:55:49Z", "?", None])
    assert parsed(column).to_pylist() == [881_250_949_000_000, 881_250_949_000_000, None, None]


def test_times_are_written_with_microseconds_and_zone() -> None:
    column = pa.array([US, 0, None, -1])
    assert written(column).to_pylist() == [
        "2022-04-24T15:05:41.436000Z",
        "1970-01-01T00:00:00.000000Z",
        None,
        "1969-12-31T23:59:59.999999Z",
    ]


@given(st.integers(0, 253_402_300_799_999_999))
def test_what_is_written_is_read_back(us: int) -> None:
    assert parsed(written(pa.array([us]))).to_pylist() == [us]


def test_a_row_without_time_keeps_its_place() -> None:
    assert filled(pa.array([None, 5, None, None, 3, None])).tolist() == [0, 5, 5, 5, 3, 3]
