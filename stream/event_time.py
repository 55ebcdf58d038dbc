"""Times of tables: epoch seconds to nanoseconds, ISO 8601 and typed columns, all to microseconds.

A number is read by its size, one by one, so that a row means the same wherever reading starts:
below 1e11 seconds (until the year 5138), below 1e14 milliseconds, below 1e17 microseconds, else
nanoseconds. A time without a zone is UTC.
"""

from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.arrow import Column, pa, pc

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_US: Final = 253_402_300_799_999_999  # the end of the year 9999
_NUMBER: Final = r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?\s*$"


def parsed(values: Column) -> Column:
    """Times as microseconds since the Unix epoch, UTC.

    Parameters
    ----------
    values : n numbers, strings, timestamps or dates

    Returns
    -------
    int64[n]
        Null where there is none or it cannot be understood.
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        return parsed(values.cast(kind.value_type))
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _in_range(values.cast(pa.timestamp("us"), safe=False).cast(pa.int64()))
    if pa.types.is_integer(kind):
        return _in_range(_from_integers(values.cast(pa.int64(), safe=False)))
    if pa.types.is_floating(kind):
        return _in_range(_from_floats(values.cast(pa.float64())))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _in_range(_from_text(values.cast(pa.string())))
    return pa.nulls(len(values), pa.int64())


def written(times_us: Column) -> Column:
    """Times as RFC 3339 in UTC with microseconds.

    Parameters
    ----------
    times_us : int64[n]
        Microseconds since the Unix epoch; null stays null.
    """
    stamped = times_us.cast(pa.timestamp("us", tz="UTC")).cast(pa.string())
    return pc.binary_replace_slice(stamped, 10, 11, "T")


def filled(times_us: Column) -> NDArray[np.int64]:
    """Times to sort by: a missing one takes its predecessor's, so that its row keeps its place."""
    times: NDArray[np.int64] = pc.fill_null(pc.fill_null_forward(times_us), 0).to_numpy()
    return times


def _in_range(times_us: Column) -> Column:
    known = pc.and_(pc.less_equal(times_us, _LAST_US), pc.greater(times_us, -_LAST_US // 8))
    return pc.if_else(known, times_us, None)


def _from_integers(values: Column) -> Column:
    given = pc.fill_null(values, 0).to_numpy(zero_copy_only=False)
    size = np.abs(given)
    times = np.select(
        [size < 10**11, size < 10**14, size < 10**17],
        [given * 1_000_000, given * 1_000, given],
        given // 1_000,
    )
    return pa.array(times, pa.int64(), mask=_missing(values))


def _from_floats(values: Column) -> Column:
    given = pc.fill_null(values, np.nan).to_numpy(zero_copy_only=False)
    size = np.abs(given)
    scaled = [given * 1e6, given * 1e3, given]
    times = np.select([size < 1e11, size < 1e14, size < 1e17], scaled, given / 1e3)
    understood = np.isfinite(times) & (np.abs(times) < 9e18)
    whole = np.rint(np.where(understood, times, 0)).astype(np.int64)
    return pa.array(whole, pa.int64(), mask=~understood)


def _from_text(values: Column) -> Column:
    numeric = pc.fill_null(pc.match_substring_regex(values, _NUMBER), fill_value=False)
    if pc.all(numeric).as_py():
        return _from_floats(pc.utf8_trim_whitespace(values).cast(pa.float64()))
    digits = pc.if_else(numeric, pc.utf8_trim_whitespace(values), None)
    words = pc.if_else(numeric, None, values).to_pylist()
    spelled = pa.array([_from_iso(word) for word in words], pa.int64())
    return pc.coalesce(_from_floats(digits.cast(pa.float64())), spelled)


def _from_iso(word: str | None) -> int | None:
    if word is None:
        return None
    try:
        moment = datetime.fromisoformat(word.strip())
    except ValueError:
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _missing(values: Column) -> NDArray[np.bool_]:
    missing: NDArray[np.bool_] = pc.is_null(values).to_numpy(zero_copy_only=False)
    return missing
