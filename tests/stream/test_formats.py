"""The formats of known data sets, on small files of their shapes."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream.batch import RecordBatch
from stream.clock import ManualClock
from stream.codec import Codec, Limits
from stream.errors import FormatError
from stream.file_source import FileSource
from stream.formats import open_format

NOW_US = 1_795_000_000_000_000
LOG_MS = 1_650_812_741_436


def drain(path: Path, name: str, most: int = 1_000) -> list[RecordBatch]:
    source = FileSource([path], open_format(name))
    batches: list[RecordBatch] = []
    while not source.exhausted:
        batches.extend(source.poll(most, 0.0))
    return batches


def messages(path: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(v) for batch in drain(path, name) for v in batch.values]


def reasons(path: Path, name: str) -> Counter[str]:
    codec = Codec(Limits(), ManualClock(NOW_US))
    return Counter(r.reason for b in drain(path, name) for r in codec.decode(b).rejects)


@pytest.fixture(params=["parquet", "csv"])
def kuairand(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    log = {
        "user_id": [1, 1, 2, 2, 1],
        "video_id": [10, 11, 10, 12, 10],
        "time_ms": [LOG_MS, LOG_MS + 1, LOG_MS + 2, LOG_MS + 3, LOG_MS],
        "is_click": [1, 0, 1, 1, 1],
        "is_like": [0, 0, 1, 0, 0],
    }
    videos = {
        "video_id": [10, 11, 12, None],
        "video_type": ["NORMAL", "NORMAL", "AD", "NORMAL"],
        "tag": ["1,7", None, "3", "4"],
    }
    for name, table in (("log_standard_a", log), ("video_features_basic_a", videos)):
        if request.param == "parquet":
            pq.write_table(pa.table(table), tmp_path / f"{name}.parquet")
        else:
            rows = zip(*table.values(), strict=True)
            lines = [",".join(f'"{v}"' if v is not None else "" for v in row) for row in rows]
            text = "\n".join([",".join(table), *lines])
            (tmp_path / f"{name}.csv").write_text(text)
    history = {
        "user_id": [1, 2, 3],
        "history_len": [3, 100, 0],
        "last_time_ms": [LOG_MS - 86_400_000, LOG_MS + 5_000, LOG_MS],
        "watch_seq": [[12, 12, 10], [11, 10], []],
    }
    pq.write_table(pa.table(history), tmp_path / "user_history_upto_0424.parquet")
    (tmp_path / "user_features.csv").write_text("user_id\n1\n")
    return tmp_path


def test_kuairand_tells_of_videos_then_histories_then_the_log(kuairand: Path) -> None:
    batches = drain(kuairand, "kuairand")
    names = [b.partition.topic.split(".")[0] for b in batches]
    assert names == ["video_features_basic_a", "user_history_upto_0424", "log_standard_a"]
    assert [b.history for b in batches] == [False, True, False]
    assert reasons(kuairand, "kuairand") == {"missing_field": 1}  # the video without an id
    items = [json.loads(v) for v in batches[0].values]
    assert [i.get("categories") for i in items] == [["1", "7"], None, ["3", "AD"], ["4"]]
    assert all(i["occurred_at"] < "2022-04-08" for i in items)


def test_kuairand_histories_keep_their_order_and_end_before_the_log(kuairand: Path) -> None:
    history, log = (
        [json.loads(v) for v in batch.values] for batch in drain(kuairand, "kuairand")[1:]
    )
    views = [(v["user_id"], v["item_id"]) for v in history]
    assert [item for user, item in views if user == "1"] == ["12", "12", "10"]
    assert [item for user, item in views if user == "2"] == ["11", "10"]
    assert {v["kind"] for v in history} == {"view"}
    assert len({v["event_id"] for v in history}) == 5  # seen twice is two views
    times = [v["occurred_at"] for v in history]
    assert times == sorted(times)
    assert times[-1] < min(v["occurred_at"] for v in log)


def test_kuairand_rows_are_clicks_likes_ad_clicks_and_impressions(kuairand: Path) -> None:
    log = [json.loads(v) for v in drain(kuairand, "kuairand")[2].values]
    assert [(m["user_id"], m["item_id"], m["type"], m.get("kind")) for m in log] == [
        ("1", "10", "click", "click"),
        ("1", "10", "click", "click"),
        ("1", "11", "impression", None),
        ("2", "10", "click", "like"),
        ("2", "12", "ad_click", None),
    ]
    assert log[0]["event_id"] == log[1]["event_id"]  # a row that stands there twice


def test_a_kuairand_log_alone_is_read_too(kuairand: Path) -> None:
    (log,) = kuairand.glob("log_*")
    kinds = [m["type"] for m in messages(log, "kuairand")]
    assert kinds == ["click", "click", "impression", "click", "click"]  # nobody names the AD
    (history,) = kuairand.glob("user_history*")
    assert len(messages(history, "kuairand")) == 5


def test_kuairand_histories_that_are_broken_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "user_history.parquet"
    table = {
        "user_id": [None, 2],
        "history_len": [1, None],
        "last_time_ms": [LOG_MS, None],
        "watch_seq": [[5], [6, 7]],
    }
    pq.write_table(pa.table(table), path)
    assert reasons(path, "kuairand") == {"missing_field": 1, "time_before_1970": 2}
    pq.write_table(pa.table({"user_id": [1]}), path)
    with pytest.raises(FormatError, match="no column 'history_len'"):
        drain(path, "kuairand")


@pytest.mark.parametrize("name", ["ratings.csv", "ml.inter"])
def test_lists_of_items_may_be_bad_or_empty(tmp_path: Path, name: str) -> None:
    about, header = {
        "ratings.csv": ("movies.csv", "movieId,title,genres\n"),
        "ml.inter": ("ml.item", "item_id\ttitle\tclass\n"),
    }[name]
    (tmp_path / name).write_text(next(iter(MOVIELENS["25m"].values())))
    if name == "ml.inter":
        (tmp_path / name).write_text(MOVIELENS["recbole"][name])
    (tmp_path / about).write_text(header)
    assert len(messages(tmp_path, "movielens")) == 2
    separator = "," if about.endswith("csv") else "\t"
    (tmp_path / about).write_text(header + f"1{separator}one\n2{separator}two{separator}x\n")
    assert reasons(tmp_path, "movielens") == {"unknown_type": 1}


MOVIELENS = {
    "100k": {
        "u.data": "1\t2\t3\t881250949\n1\t3\t5\t881250948\n",
        "u.item": "2|Léon (1994)|01-Jan-1994||http://x|0|1|0|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0\n"
        "3|Heat (1995)|01-Jan-1995||http://x|0|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0\n",
    },
    "1m": {
        "ratings.dat": "1::2::3::881250949\n1::3::5::881250948\n",
        "movies.dat": "2::Léon (1994)::Action|Drama\n3::Heat (1995)::Crime\n",
    },
    "25m": {
        "ratings.csv": "userId,movieId,rating,timestamp\n1,2,3.0,881250949\n1,3,5,881250948\n",
        "movies.csv": 'movieId,title,genres\n2,"Léon (1994)",Action|Drama\n3,Heat (1995),Crime\n',
    },
    "recbole": {
        "ml.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "1\t2\t3\t881250949\n1\t3\t5\t881250948\n",
        "ml.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "2\tLéon (1994)\t1994\tAction Drama\n3\tHeat (1995)\t1995\tCrime\n",
    },
}


@pytest.mark.parametrize("form", MOVIELENS)
def test_movielens_says_the_same_in_all_its_forms(tmp_path: Path, form: str) -> None:
    for name, text in MOVIELENS[form].items():
        latin = name in ("u.item", "movies.dat")
        (tmp_path / name).write_bytes(text.encode("latin-1" if latin else "utf-8"))
    leon, heat, first, second = messages(tmp_path, "movielens")
    assert (leon["title"], leon["categories"]) == ("Léon (1994)", ["Action", "Drama"])
    assert (heat["title"], heat["categories"]) == ("Heat (1995)", ["Crime"])
    assert heat["occurred_at"] < "1995-01-09"
    assert [(m["type"], m["kind"], m["item_id"], m["value"]) for m in (first, second)] == [
        ("click", "click", "3", 5),
        ("click", "click", "2", 3),
    ]
    assert not reasons(tmp_path, "movielens")
    (ratings,) = (n for n in MOVIELENS[form] if n.endswith((".data", ".inter")) or "ratings" in n)
    assert messages(tmp_path / ratings, "movielens") == [first, second]


def test_movielens_wants_one_data_set(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="found none"):
        drain(tmp_path, "movielens")
    for name in ("u.data", "ratings.csv"):
        (tmp_path / name).write_text("")
    with pytest.raises(FormatError, match=r"found ratings.csv, u.data\. Name the file"):
        drain(tmp_path, "movielens")


def test_mmrec_without_times_learns_the_training_split_first(tmp_path: Path) -> None:
    splits = ["test", "train", "valid", "train", "other"]
    table = {"userID": [1, 2, 3, 4, 5], "itemID": [6, 7, 8, 9, 9], "split": splits}
    pq.write_table(pa.table(table), tmp_path / "baby.parquet")
    about = {"itemID": [6, 7], "asin": ["a", "b"], "keywords": ["soft blanket", None]}
    pq.write_table(pa.table(about), tmp_path / "baby_items.parquet")
    items, trained, scored = drain(tmp_path, "mmrec")
    assert [json.loads(v).get("title") for v in items.values] == ["soft blanket", None]
    assert (trained.history, scored.history) == (True, False)
    assert [json.loads(v)["user_id"] for v in trained.values] == ["2", "4"]
    assert [json.loads(v)["user_id"] for v in scored.values] == ["3", "1", "5"]
    assert (trained.next_offset, scored.offsets.tolist()) == (2, [2, 3, 4])
    times = [json.loads(v)["occurred_at"] for b in (trained, scored) for v in b.values]
    assert times == sorted(times)
    source = FileSource([tmp_path], open_format("mmrec"), resume={trained.partition: 1})
    assert sum(source.lag().values()) == 2 + 4


def test_mmrec_with_times_is_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "baby.inter"
    path.write_text(
        "userID\titemID\trating\ttimestamp\tx_label\n1\t2\t5.0\t20\t0\n3\t4\t1\t10\t2\n"
    )
    (batch,) = drain(path, "mmrec")
    assert not batch.history
    assert [json.loads(v)["user_id"] for v in batch.values] == ["3", "1"]


def test_mmrec_without_times_and_splits_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.inter"
    path.write_text("user_id:token\titem_id:token\n3\t4\n1\t2\n")
    said = messages(path, "mmrec")
    assert [m["user_id"] for m in said] == ["3", "1"]
    assert not reasons(path, "mmrec")


def test_mmrec_refuses_what_it_would_mix_up(tmp_path: Path) -> None:
    for name in ("a.inter", "b.inter"):
        (tmp_path / name).write_text("user_id\titem_id\n")
    with pytest.raises(FormatError, match="more than one data set"):
        drain(tmp_path, "mmrec")
    (tmp_path / "c.inter").write_text("who\twhat\n")
    with pytest.raises(FormatError, match="no column called user_id or userID"):
        drain(tmp_path / "c.inter", "mmrec")


@pytest.fixture
def obd(tmp_path: Path) -> Path:
    header = (
        ",timestamp,item_id,position,click,propensity_score,"
        "user_feature_0,user_feature_1,user_feature_2,user_feature_3"
    )
    rows = [
        "0,2019-11-24 00:00:17.004101+00:00,5,3,0,0.25,a,b,c,d",
        "1,2019-11-24 00:00:16.000000+00:00,5,1,1,0.5,a,b,c,e",
        "2,2019-11-24 00:00:18.000000+00:00,6,0,0,0.5,a,b,c,d",
        "3,2019-11-24 00:00:19.000000+00:00,6,1,0,0.5,,b,c,d",
    ]
    context = ",item_id,item_feature_0,item_feature_1,item_feature_2,item_feature_3\n0,5,-0.6,x,y,x"
    for policy in ("bts", "random"):
        folder = tmp_path / policy / "men"
        folder.mkdir(parents=True)
        (folder / "men.csv").write_text("\n".join([header, *rows]))
        (folder / "item_context.csv").write_text(context)
    (tmp_path / "LICENSE").touch()
    return tmp_path


def test_obd_rows_are_impressions_and_clicks(obd: Path) -> None:
    item, click, impression, *_ = messages(obd, "obd")
    assert item["item_id"] == "men-5"
    assert item["categories"] == ["feature_1=x", "feature_2=y", "feature_3=x"]
    click_user, user = click.pop("user_id"), impression.pop("user_id")
    assert click_user != user
    click.pop("event_id")
    impression.pop("event_id")
    assert click == {
        "type": "click",
        "kind": "click",
        "occurred_at": "2019-11-24T00:00:16.000000Z",
        "item_id": "men-5",
        "position": 0,
        "campaign_id": "men",
    }
    assert impression == {
        "type": "impression",
        "occurred_at": "2019-11-24T00:00:17.004101Z",
        "item_id": "men-5",
        "position": 2,
        "propensity": 0.25,
        "campaign_id": "men",
    }


def test_obd_tells_of_a_campaigns_items_once(obd: Path) -> None:
    names = [b.partition.topic for b in drain(obd, "obd")]
    assert names == ["bts/men/item_context.csv", "bts/men/men.csv", "random/men/men.csv"]
    # A place of 0 and a missing user, in each of the two logs.
    assert reasons(obd, "obd") == {"invalid_field": 2, "missing_field": 2}
    assert len(messages(obd / "bts" / "men" / "men.csv", "obd")) == 4
