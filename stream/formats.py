"""The formats of files, by name. Each turns its rows into messages for the codec."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from stream.errors import FormatError
from stream.format_jsonl import JsonLines
from stream.format_kuairand import KuaiRand
from stream.format_mmrec import MMRec
from stream.format_movielens import MovieLens
from stream.format_obd import OpenBandit
from stream.format_parquet import ParquetEvents
from stream.format_table import Table
from stream.parts import Part


class Format(Protocol):
    """What is known about the files of one kind."""

    def parts(self, path: Path) -> Sequence[Part]:
        """The files at a path (a file or a folder), in the order in which they are read.

        Raises
        ------
        SourceError
            If there is nothing at the path, or it may not be read.
        FormatError
            If what is there is not of this format.
        """
        ...


FORMATS: Final[Mapping[str, str]] = {
    "jsonl": "events as on the wire, one JSON object a line",
    "table": "any CSV, Parquet or JSONL of interactions; needs --columns user=…,item=…,time=…",
    "parquet": "events as Parquet, a column a field",
    "kuairand": "KuaiRand folder: videos, then each user's history, then the log",
    "movielens": "MovieLens as GroupLens or RecBole hand it out: movies, then ratings as clicks",
    "mmrec": "MMRec or RecBole .inter, or as Parquet; without times the training split is history",
    "obd": "Open Bandit Dataset: impressions with places and propensities, clicks",
}
_OPEN: Final[Mapping[str, Callable[[], Format]]] = {
    "jsonl": JsonLines,
    "parquet": ParquetEvents,
    "kuairand": KuaiRand,
    "movielens": MovieLens,
    "mmrec": MMRec,
    "obd": OpenBandit,
}


def open_format(name: str, columns: Mapping[str, str] | None = None) -> Format:
    """A format by its name.

    Parameters
    ----------
    name : one of `FORMATS`
    columns : role -> name of the column
        For ``table`` only.

    Raises
    ------
    FormatError
        If the name is unknown, or the columns do not fit it.
    """
    if name == "table":
        return Table(columns or {})
    if name not in _OPEN:
        raise FormatError(f"no format {name!r}; there are {', '.join(FORMATS)}")
    if columns:
        raise FormatError(f"format {name} has its own columns: leave --columns out, or use table")
    return _OPEN[name]()
