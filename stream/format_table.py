"""Any table of interactions: CSV, Parquet or JSON lines, with its columns named by the user."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from stream.arrow import Column, pc
from stream.csv_rows import Layout, header_of, read_csv
from stream.errors import FormatError
from stream.event_time import parsed, written
from stream.fragments import assemble, digests, quoted, text
from stream.interactions import Fields, amounts, events_named, interactions, only_for
from stream.lines import suffix
from stream.locate import find, relative
from stream.parts import Part
from stream.rows import JSON_SUFFIXES, PARQUET_SUFFIXES, Rows, read_json, read_parquet
from stream.table_part import KEPT_BYTES, Announce, TablePart

ROLES: Final = ("user", "item", "time", "event", "value", "text")
_NEEDED: Final = ("user", "item", "time")
_TEXT_SUFFIXES: Final = (".csv", ".tsv", ".txt", ".tab", ".inter", ".data")
_SUFFIXES: Final = (*_TEXT_SUFFIXES, *PARQUET_SUFFIXES, *JSON_SUFFIXES)
_TITLE_CHARACTERS: Final = 1_000


class Table:
    """Format ``table``.

    Parameters
    ----------
    columns : role -> name of the column
        ``user``, ``item`` and ``time`` are needed; ``event``, ``value`` and ``text`` may be given.
        Numbers (the first column is 0) name the columns of a text file without a header.
    kept_bytes : int
        See `stream.table_part.TablePart`.

    Raises
    ------
    FormatError
        If a needed role is missing or one is unknown.
    """

    def __init__(self, columns: Mapping[str, str], *, kept_bytes: int = KEPT_BYTES) -> None:
        missing = [role for role in _NEEDED if role not in columns]
        unknown = [role for role in columns if role not in ROLES]
        if missing or unknown:
            raise FormatError(
                f"format table: columns {dict(columns)}: "
                + (f"{', '.join(missing)} missing" if missing else f"no role {unknown[0]!r}")
                + ". Give --columns user=…,item=…,time=…[,event=…,value=…,text=…]"
            )
        self._columns = dict(columns)
        self._kept_bytes = kept_bytes

    def parts(self, path: Path) -> Sequence[Part]:
        """One part a file, by name."""
        files = find(path, "table", lambda file: suffix(file) in _SUFFIXES, _SUFFIXES)
        return [self._part(file, relative(file, path)) for file in files]

    def _part(self, file: Path, name: str) -> Part:
        return TablePart(
            name,
            file,
            partial(self._read, file),
            lambda rows: parsed(rows.columns[self._columns["time"]]),
            self._encode,
            announce=Announce(self._said, self._items) if "text" in self._columns else None,
            kept_bytes=self._kept_bytes,
        )

    def _read(self, file: Path) -> Iterator[Rows]:
        wanted = list(dict.fromkeys(self._columns.values()))
        if suffix(file) in PARQUET_SUFFIXES:
            return read_parquet(file, wanted)
        if suffix(file) in JSON_SUFFIXES:
            return read_json(file, wanted)
        return read_csv(file, wanted, self._layout(file, wanted))

    def _layout(self, file: Path, wanted: Sequence[str]) -> Layout:
        if not all(name.isdecimal() for name in wanted):
            return Layout()
        found = header_of(file, Layout())
        if set(wanted) <= set(found):
            return Layout()
        return Layout(header=tuple(map(str, range(len(found)))))

    def _encode(self, rows: Rows) -> Column:
        column = self._column
        types: Column | str = "click"
        kinds: Column | str | None = None
        more: dict[str, Column | str] = {}
        if "event" in self._columns:
            types, kinds = events_named(column(rows, "event"))
        if "value" in self._columns:
            found = amounts(column(rows, "value"))
            more["value"] = found if isinstance(types, str) else only_for(types, ("click",), found)
        fields = Fields(
            user=column(rows, "user"),
            item=column(rows, "item"),
            time=column(rows, "time"),
            type=types,
            kind=kinds,
            more=more,
        )
        return interactions(rows, fields)

    def _said(self, rows: Rows) -> Column:
        """Item and text; null where either is missing or the row has no time."""
        known = pc.is_valid(parsed(self._column(rows, "time")))
        said = pc.binary_join_element_wise(
            quoted(text(self._column(rows, "item"))), quoted(text(self._column(rows, "text"))), ":"
        )
        return pc.if_else(known, said, None)

    def _items(self, rows: Rows) -> Column:
        said = self._said(rows)
        texts = text(self._column(rows, "text"))
        long = pc.greater(pc.utf8_length(texts), _TITLE_CHARACTERS)
        wire: dict[str, Column | str] = {
            "type": '"item"',
            "event_id": digests((key.encode() for key in said.to_pylist()), b"item"),
            "occurred_at": quoted(written(parsed(self._column(rows, "time")))),
            "item_id": quoted(text(self._column(rows, "item"))),
            "title": quoted(pc.utf8_slice_codeunits(texts, 0, _TITLE_CHARACTERS)),
            "description": pc.if_else(long, quoted(texts), None),
        }
        return assemble(wire, len(rows))

    def _column(self, rows: Rows, role: str) -> Column:
        return rows.columns[self._columns[role]]
