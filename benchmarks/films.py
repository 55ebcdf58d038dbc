"""MovieLens as a stream: every rating is an event, the whole catalogue is known from the start."""

import numpy as np
from fetch import fetch
from numpy.typing import NDArray
from pyarrow import csv

from consumers.dataset import Dataset, dataset

Ints = NDArray[np.int64]


def films(name: str) -> tuple[Dataset, list[str]]:
    """``ml-100k`` or ``ml-1m`` in order of time, and each film's title, year and genres."""
    folder = fetch(name)
    tabs = csv.ParseOptions(delimiter="\t", quote_char=False)
    table = csv.read_csv(folder / f"{name}.inter", parse_options=tabs)
    user, item, _, when = (
        np.asarray(table.column(n).to_numpy(zero_copy_only=False)) for n in range(4)
    )
    order = np.argsort(when, kind="stable")
    catalogue = csv.read_csv(folder / f"{name}.item", parse_options=tabs)
    about = zip(*(column.to_pylist() for column in catalogue.columns[1:]), strict=True)
    said = dict(zip(catalogue.column(0).to_pylist(), about, strict=True))
    names, numbers = _numbered(item[order])
    texts = [
        " ".join(str("" if part is None else part) for part in said[name])
        for name in names.tolist()
    ]
    return dataset(
        _numbered(user[order])[1],
        numbers,
        when[order].astype(np.int64) * 1_000_000,
        known=np.full(len(order), len(names), np.int64),
    ), texts


def _numbered(names: NDArray[np.generic]) -> tuple[NDArray[np.generic], Ints]:
    """Names by first appearance, and each one's number."""
    distinct, first, inverse = np.unique(names, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    return distinct[order], number[inverse]
