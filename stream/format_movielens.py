"""MovieLens in any of the forms in which it is handed out; every rating is a click.

References
----------
Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from stream import atomic
from stream.arrow import Column
from stream.csv_rows import Layout, read_csv
from stream.errors import FormatError
from stream.event_time import parsed
from stream.interactions import Fields, amounts, interactions
from stream.items import Described, Slice, described
from stream.locate import is_file, listing, relative
from stream.parts import ColumnsPart, Part
from stream.rows import Rows, joined
from stream.table_part import TablePart

_SINCE: Final = datetime(1995, 1, 1, tzinfo=UTC)  # before the first rating of any MovieLens
_UCI: Final = ("user", "item", "rating", "time")
_GENRES_100K: Final = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Ratings:
    """A form of the ratings: how it is written and where its columns are."""

    layout: Layout
    user: str
    item: str
    rating: str
    time: str


@dataclass(frozen=True, slots=True)
class _Movies:
    """A form of the list of movies; ``genres`` None: a column of 0 or 1 for each genre."""

    layout: Layout
    item: str
    title: str
    genres: str | None


_LATIN: Final = "latin-1"
_COLONS: Final = "::"
_RATINGS: Final = {
    "u.data": _Ratings(Layout("\t", _UCI), *_UCI),
    "ratings.dat": _Ratings(Layout(_COLONS, _UCI, quoting=False), *_UCI),
    "ratings.csv": _Ratings(Layout(","), "userId", "movieId", "rating", "timestamp"),
    ".inter": _Ratings(Layout("\t"), "user_id", "item_id", "rating", "timestamp"),
}
_MOVIES: Final = {
    "u.item": _Movies(
        Layout("|", ("item", "title", "date", "video", "url", *_GENRES_100K), quoting=False,
               encoding=_LATIN),
        "item", "title", None,
    ),
    "movies.dat": _Movies(
        Layout(_COLONS, ("item", "title", "genres"), quoting=False, encoding=_LATIN),
        "item", "title", "genres",
    ),
    "movies.csv": _Movies(Layout(","), "movieId", "title", "genres"),
}  # fmt: skip


class MovieLens:
    """Format ``movielens``: the folder of the data set, or its file of ratings."""

    def parts(self, path: Path) -> Sequence[Part]:
        """Movies (before all ratings), then ratings in order of time."""
        files = [path] if is_file(path) else listing(path)
        ratings = [(file, form) for file in files if (form := _ratings(file))]
        if len(ratings) != 1:
            found = ", ".join(relative(file, path) for file, _ in ratings) or "none"
            raise FormatError(
                f"{path}: expected one file of MovieLens ratings ({', '.join(_RATINGS)}), "
                f"found {found}. Name the file of ratings, or the folder of one data set"
            )
        said: list[Part] = [
            ColumnsPart(relative(file, path), load)
            for file in files
            if (load := _movies_loader(file)) is not None
        ]
        file, form = ratings[0]
        return [*said, _ratings_part(file, relative(file, path), form)]


def _movies_loader(file: Path) -> Callable[[], tuple[int, Slice]] | None:
    if file.suffix == ".item" and file.name not in _MOVIES:
        return partial(atomic.load_items, file, _SINCE)
    form = _MOVIES.get(file.name)
    return None if form is None else partial(_load_movies, file, form)


def _ratings(file: Path) -> _Ratings | None:
    return _RATINGS.get(file.name, _RATINGS.get(file.suffix))


def _ratings_part(file: Path, name: str, form: _Ratings) -> Part:
    wanted = (form.user, form.item, form.rating, form.time)

    def encode(rows: Rows) -> Column:
        value = amounts(rows.columns[form.rating])
        user, item, _, time = (rows.columns[name] for name in wanted)
        return interactions(rows, Fields(user, item, time, kind="click", more={"value": value}))

    return TablePart(
        name,
        file,
        lambda: read_csv(file, wanted, form.layout),
        lambda rows: parsed(rows.columns[form.time]),
        encode,
    )


def _load_movies(file: Path, form: _Movies) -> tuple[int, Slice]:
    flags = _GENRES_100K if form.genres is None else (form.genres,)
    wanted = (form.item, form.title, *flags)
    rows = joined(list(read_csv(file, wanted, form.layout)), wanted)
    columns = {name: rows.columns[name].to_pylist() for name in flags}
    if form.genres is None:
        genres = [
            [genre for genre in flags if columns[genre][at] == "1"] for at in range(len(rows))
        ]
    else:
        said = columns[form.genres]
        genres = [[g for g in (line or "").split("|") if g] for line in said]
    what = Described(
        rows.columns[form.item], _SINCE, title=rows.columns[form.title], categories=genres
    )
    return described(rows, what)
