"""RFC 3339 times of a whole column at once, as microseconds since the Unix epoch.

Only the spellings that encoders really write are read here (upper case, UTC, no, three or six
digits after the point); everything else is left to the contract.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

_DATE: Final = "0000-00-00T00:00:00"
_FRACTIONS: Final = ("", ".000", ".000000")
_ZONES: Final = ("Z", "+00:00")


class _Template(NamedTuple):
    """One spelling: where its digits and its fixed characters stand."""

    digits: NDArray[np.intp]
    fixed: NDArray[np.intp]
    characters: NDArray[np.uint8]


def _template(fraction: str, zone: str) -> _Template:
    moment = _DATE + fraction
    spelled = np.frombuffer((moment + zone).encode(), dtype=np.uint8)
    place = np.arange(len(spelled))
    is_digit = (place < len(moment)) & (spelled == ord("0"))
    fixed = np.flatnonzero(~is_digit)
    return _Template(np.flatnonzero(is_digit), fixed, spelled[fixed])


# By length: no two of the six spellings are equally long.
_TEMPLATES: Final = {
    len(_DATE + fraction + zone): _template(fraction, zone)
    for fraction in _FRACTIONS
    for zone in _ZONES
}


def parse_times(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Read times; what is not certain is left undecided.

    Parameters
    ----------
    texts : n strings

    Returns
    -------
    time_us : int64[n]
        Microseconds since the Unix epoch; 0 where undecided.
    certain : bool[n]
        Whether the text is a valid time since 1970 in one of the common spellings.
    """
    count = len(texts)
    time_us = np.zeros(count, dtype=np.int64)
    certain = np.zeros(count, dtype=np.bool_)
    lengths = set(map(len, texts))
    for length in lengths & _TEMPLATES.keys():
        rows, chosen = np.arange(count), list(texts)
        if len(lengths) > 1:
            alike = [(row, text) for row, text in enumerate(texts) if len(text) == length]
            rows, chosen = np.array([row for row, _ in alike]), [text for _, text in alike]
        # Characters outside ASCII become "?", so that one character stays one byte.
        raw = np.frombuffer("".join(chosen).encode("ascii", "replace"), dtype=np.uint8)
        time_us[rows], certain[rows] = _parse(raw.reshape(-1, length), _TEMPLATES[length])
    return time_us, certain


def _parse(
    text: NDArray[np.uint8], template: _Template
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Times of equally long texts, uint8[n, length]."""
    column = np.ascontiguousarray(text.T)
    certain = (column[template.fixed] == template.characters[:, None]).all(axis=0)
    digit = column[template.digits] - np.uint8(ord("0"))  # below "0" wraps to above 9
    certain &= (digit <= 9).all(axis=0)
    century, year, month, day, hour, minute, second = digit[0:14:2] * 10 + digit[1:14:2]
    year = century.astype(np.int64) * 100 + year
    certain &= (year >= 1970) & (month >= 1) & (month <= 12)
    certain &= (hour <= 23) & (minute <= 59) & (second <= 59)
    months = np.where(certain, (year - 1970) * 12 + month - 1, 0)
    first = _first_days(months)
    certain &= (day >= 1) & (day <= _first_days(months + 1) - first)
    moment = first + day - 1
    for step, number in ((24, hour), (60, minute), (60, second)):
        moment = moment * step + number
    for place in digit[14:]:
        moment = moment * 10 + place
    moment *= 10 ** (6 - len(digit[14:]))
    return np.where(certain, moment, 0), certain


def _first_days(months: NDArray[np.int64]) -> NDArray[np.int64]:
    """Days since the epoch of the first of each month, counted from January 1970."""
    return months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
