"""KuaiRand: short videos, what was shown to whom, and what they did.

Three parts, in this order: videos (items), the users' histories (learned from, never scored), the
log. See docs/formats.md for the mapping.

References
----------
Gao et al., "KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed Videos",
CIKM 2022.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.arrow import Column, pa, pc
from stream.csv_rows import Layout, read_csv
from stream.event_time import parsed, written
from stream.fragments import assemble, digests, quoted, text
from stream.interactions import Fields, interactions
from stream.items import Described, Slice, described
from stream.locate import find, relative
from stream.parts import ColumnsPart, Part
from stream.rows import Rows, columns_of, joined, open_parquet, read_parquet
from stream.table_part import TablePart

_BEIJING: Final = timezone(timedelta(hours=8))
_START: Final = datetime(2022, 4, 8, tzinfo=_BEIJING)  # of the published log
_START_US: Final = int(_START.timestamp()) * 1_000_000
_BEFORE_ALL: Final = datetime(2022, 4, 1, tzinfo=UTC)
_LOG: Final = ("user_id", "video_id", "time_ms", "is_click", "is_like")
_VIDEOS: Final = ("video_id", "video_type", "tag")
_HISTORY: Final = ("user_id", "history_len", "last_time_ms", "watch_seq")
_PREFIXES: Final = ("video_features_basic", "user_history", "log_")


class KuaiRand:
    """Format ``kuairand``: the folder of the data set, or one of its files."""

    def parts(self, path: Path) -> Sequence[Part]:
        """Videos, histories, then logs by name."""
        files = find(
            path, "kuairand", lambda f: f.name.startswith(_PREFIXES), [f"{p}*" for p in _PREFIXES]
        )
        files.sort(key=lambda file: (self._rank(file), file))
        return [self._part(file, relative(file, path), files) for file in files]

    @staticmethod
    def _rank(file: Path) -> int:
        return next((at for at, p in enumerate(_PREFIXES[:2]) if file.name.startswith(p)), 2)

    def _part(self, file: Path, name: str, files: Sequence[Path]) -> Part:
        rank = self._rank(file)
        if rank == 0:
            return ColumnsPart(name, partial(_load_videos, file))
        if rank == 1:
            logs = [file for file in files if self._rank(file) == 2]
            return ColumnsPart(name, partial(_load_history, file, logs), history=True)
        ads = _Ads([file for file in files if self._rank(file) == 0])
        return TablePart(
            name,
            file,
            partial(_read, file, _LOG),
            lambda rows: parsed(rows.columns["time_ms"]),
            lambda rows: _encode_log(rows, ads),
        )


class _Ads:
    """Which videos are advertisements; read when first asked."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._found: Column | None = None

    def among(self, videos: Column) -> Column:
        if self._found is None:
            tables = [joined(list(_read(file, _VIDEOS)), _VIDEOS) for file in self._files]
            self._found = pa.concat_arrays(
                [pa.array([], pa.string())]
                + [
                    text(t.columns["video_id"]).filter(pc.equal(t.columns["video_type"], "AD"))
                    for t in tables
                ]
            )
        return pc.is_in(text(videos), value_set=self._found)


def _read(file: Path, wanted: Sequence[str]) -> Iterator[Rows]:
    if file.suffix == ".parquet":
        return read_parquet(file, wanted)
    return read_csv(file, wanted, Layout(separator=","))


def _encode_log(rows: Rows, ads: _Ads) -> Column:
    """Clicks (likes; on advertisements: ad clicks) and impressions without a click."""
    video = rows.columns["video_id"]
    clicked, liked = _is_one(rows.columns["is_click"]), _is_one(rows.columns["is_like"])
    positive = pc.or_(clicked, liked)
    paid = pc.and_(positive, ads.among(video))
    types = pc.if_else(paid, "ad_click", pc.if_else(positive, "click", "impression"))
    kinds = pc.if_else(pc.equal(types, "click"), pc.if_else(liked, "like", "click"), None)
    fields = Fields(rows.columns["user_id"], video, rows.columns["time_ms"], types, kinds)
    return interactions(rows, fields)


def _is_one(values: Column) -> Column:
    return pc.fill_null(pc.equal(text(values), "1"), fill_value=False)


def _load_videos(file: Path) -> tuple[int, Slice]:
    rows = joined(list(_read(file, _VIDEOS)), _VIDEOS)
    tags = pc.split_pattern(pc.fill_null(text(rows.columns["tag"]), ""), ",")
    kinds = rows.columns["video_type"].to_pylist()
    categories = [
        [tag.strip() for tag in found if tag.strip()] + (["AD"] if kind == "AD" else [])
        for found, kind in zip(tags.to_pylist(), kinds, strict=True)
    ]
    return described(rows, Described(rows.columns["video_id"], _BEFORE_ALL, categories=categories))


def _load_history(file: Path, logs: Sequence[Path]) -> tuple[int, Slice]:
    """Watched videos of all users in one order of time, as views.

    The data holds the last time of each user and the order of at most 50 videos before it. The
    k-th from the end is put at ``last - k (last - start) / history_len``: as far apart as they
    were on average. The last is put before the log: it is from a log that began earlier.
    """
    with open_parquet(file) as opened:
        columns_of(file, opened.schema_arrow.names, _HISTORY)
        table = opened.read(columns=list(_HISTORY))
    column = {name: table.column(name).combine_chunks() for name in table.column_names}
    length = _integers(pc.list_value_length(column["watch_seq"]))
    of = np.repeat(np.arange(len(length)), length)
    place = np.arange(len(of)) - np.repeat(np.cumsum(length) - length, length)
    # Without a last time all views fall before 1970, where the codec rejects them.
    last_us = _integers(column["last_time_ms"], missing=-1) * 1_000
    last_us = np.minimum(last_us, _first_us(logs) - 1_000)
    many = np.maximum(_integers(column["history_len"]), np.maximum(length, 1))
    gap_us = np.maximum((last_us - _START_US) // many, 1_000_000)
    time_us = last_us[of] - (length[of] - 1 - place) * gap_us[of]
    order = np.argsort(time_us, kind="stable")
    views = _Views(
        column["user_id"].take(pa.array(of[order])),
        column["watch_seq"].flatten().take(pa.array(order)),
        place[order],
        time_us[order],
    )
    return len(order), views.encode


def _integers(values: Column, missing: int = 0) -> NDArray[np.int64]:
    found: NDArray[np.int64] = pc.fill_null(values.cast(pa.int64()), missing).to_numpy()
    return found


def _first_us(logs: Sequence[Path]) -> int:
    """Time of the first row of the logs, or the end of time."""
    times = [parsed(rows.columns["time_ms"]) for log in logs for rows in _read(log, ("time_ms",))]
    first = [pc.min(found).as_py() for found in times]
    return min((us for us in first if us is not None), default=2**62)


class _Views:
    """Views in memory, written as messages a slice at a time."""

    def __init__(
        self, user: Column, video: Column, place: NDArray[np.int64], time_us: NDArray[np.int64]
    ) -> None:
        self._user = user
        self._video = video
        self._place = place
        self._time_us = time_us

    def encode(self, part: slice) -> Column:
        user, video = text(self._user[part]), text(self._video[part])
        place = pa.array(self._place[part]).cast(pa.string())
        # The place tells two views of the same video apart.
        content = pc.binary_join_element_wise(
            user, video, place, "/", null_handling="replace", null_replacement=""
        )
        wire: dict[str, Column | str] = {
            "type": '"click"',
            "event_id": digests((key.encode() for key in content.to_pylist()), b"history"),
            "occurred_at": quoted(written(pa.array(self._time_us[part]))),
            "user_id": quoted(user),
            "item_id": quoted(video),
            "kind": '"view"',
        }
        return assemble(wire, len(user))
