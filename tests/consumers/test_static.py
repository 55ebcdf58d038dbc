"""The protocol of a fixed split, on splits small enough to rank by hand."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from numpy.typing import NDArray
from typer.testing import CliRunner

from consumers.cli import app
from consumers.dataset import Dataset
from consumers.methods import Floats, Goat, Question, Setting
from consumers.static_comparison import embedded, result
from consumers.static_contenders import contenders
from consumers.static_methods import Counted
from consumers.static_protocol import (
    Contender,
    answer,
    by_user,
    choose,
    learn,
    questions,
)
from model.config import ModelConfig
from stream.splits import TEST, TRAIN, VALID, Split


def split_of(*rows: tuple[int, int, int], items: int) -> Split:
    user, item, part = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return Split(user, item, part, int(user.max()) + 1, items)


class Fixed:
    """Scores items by a list; remembers what it learned from."""

    def __init__(self, setting: Setting, seed: int) -> None:
        self.first = int(setting.get("first", 0))
        self.learned: list[tuple[int, int]] = []
        self.items = 0

    def learn(self, data: Dataset, upto: int) -> None:
        self.items = data.items
        self.learned = list(zip(data.user[:upto].tolist(), data.item[:upto].tolist(), strict=True))

    def scores(self, question: Question) -> Floats:
        order = (np.arange(self.items) - self.first) % self.items
        return np.tile(-order.astype(np.float32), (len(question.event), 1))


def test_figures_are_those_computed_by_hand() -> None:
    # Three of the user's items at ranks 1, 3 and 30: two are found.
    one = by_user(np.array([1.0, 3.0, 30.0, 21.0, 20.0]), np.array([0, 3, 4, 5]))
    np.testing.assert_allclose(one.recall, [2 / 3, 0.0, 1.0])
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    np.testing.assert_allclose(one.ndcg, [(1 + 0.5) / ideal, 0.0, 1 / np.log2(21)])


def test_whoever_has_more_items_than_are_shown_can_still_reach_the_best_ndcg() -> None:
    one = by_user(np.arange(1.0, 26.0), np.array([0, 25]))
    np.testing.assert_allclose([one.recall[0], one.ndcg[0]], [20 / 25, 1.0])


def test_train_is_left_out_of_the_ranking_and_valid_is_not() -> None:
    # Scores fall with the number of the item. User 0: items 0-4 in train, 5 in valid, 25 in test.
    train = [(0, i, TRAIN) for i in range(5)]
    split = split_of(*train, (0, 5, VALID), (0, 25, TEST), (1, 0, TRAIN), items=40)
    contender = Contender("fixed", Fixed)
    asked = {part: questions(split, part) for part in (VALID, TEST)}
    learned = learn(contender, {}, {}, asked[VALID], 0)
    (chunk,) = asked[TEST].chunks()
    # Before item 25 stand 5 .. 24: twenty of them, the item of valid included.
    assert chunk.ranks(learned.method.scores(chunk.question)).tolist() == [21.0]
    (chunk,) = asked[VALID].chunks()
    assert chunk.ranks(learned.method.scores(chunk.question)).tolist() == [1.0]
    assert isinstance(learned.method, Fixed)
    assert learned.method.learned == [*((0, i) for i in range(5)), (1, 0)]


def test_ties_count_at_their_middle() -> None:
    split = split_of((0, 0, TRAIN), (0, 1, TEST), (0, 2, TEST), items=4)
    (chunk,) = questions(split, TEST).chunks()
    assert chunk.ranks(np.zeros((1, 4), np.float32)).tolist() == [2.0, 2.0]


def test_only_users_with_items_in_the_part_are_asked_and_none_for_what_train_has() -> None:
    split = split_of(
        (0, 0, TRAIN), (0, 1, VALID), (1, 1, TRAIN), (1, 1, TEST), (2, 2, TEST), items=3
    )
    asked = questions(split, TEST)
    (chunk,) = asked.chunks()
    assert chunk.question.user.tolist() == [2]
    assert asked.target.tolist() == [2]


def contest_of(test_item: int) -> Split:
    """Valid is won by whoever ranks item 30 first; test by whoever ranks ``test_item`` first."""
    rows = [(u, u, TRAIN) for u in range(3)]
    rows += [(u, 30, VALID) for u in range(3)]
    rows += [(u, test_item, TEST) for u in range(3)]
    return split_of(*rows, items=60)


def test_what_is_chosen_does_not_depend_on_test() -> None:
    settings = [{"first": 55.0}, {"first": 25.0}, {"first": 5.0}]
    contender = Contender("fixed", Fixed, settings, seeded=False)
    for test_item in (5, 55, 31):
        split = contest_of(test_item)
        choice = choose(contender, questions(split, VALID), 0)
        assert choice.setting == {"first": 25.0}
        assert choice.recall == 1.0
        (found,) = answer(choice.learned, [choice.weights], questions(split, TEST))
        assert found.recall.mean() == (1.0 if test_item == 31 else 0.0)


def test_test_is_asked_of_what_was_chosen_once_and_after_all_choices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from consumers import static_comparison

    said: list[str] = []

    def watched(split: Split, part: int, features: Any = None) -> Any:
        said.append(f"questions {part}")
        return questions(split, part, features)

    monkeypatch.setattr(static_comparison, "questions", watched)
    given: dict[str, Any] = {"names": ["popularity", "ease"], "seeds": [0]}
    every: list[Any] = [
        result(contest_of(item), {}, ModelConfig(), **given, said=said.append)["methods"]
        for item in (5, 31)
    ]
    assert said[: len(said) // 2][3] == f"questions {TEST}"  # behind valid and both choices
    for name in given["names"]:
        one, two = (methods[name] for methods in every)
        for key in ("setting", "weights", "valid_recall@20"):
            assert one[key] == two[key]


def test_a_term_is_chosen_by_its_weight() -> None:
    split = split_of(
        *((u, 50, TRAIN) for u in range(5)), (5, 1, TRAIN), (5, 50, VALID), (5, 50, TEST), items=60
    )
    weights = [{"popularity": 0.0}, {"popularity": 100.0}]
    contender = Contender("fixed", Fixed, ({},), {"popularity": Counted}, weights)
    assert choose(contender, questions(split, VALID), 0).weights == {"popularity": 100.0}


def groups(seed: int = 0) -> Split:
    """Users have 9 of the 40 items of their group, and one of any: 7 to learn, 1 and 2 to find."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[int, int, int]] = []
    for user in range(240):
        own = rng.choice(40, 9, replace=False) + 40 * (user % 6)
        had = rng.permutation(np.unique([*own, rng.integers(240)]))
        rows += [(user, int(i), part) for i, part in zip(had, [0] * 7 + [1, 2, 2], strict=False)]
    return split_of(*rows, items=240)


# So steep that gradients which are not reset overshoot.
CONFIG = ModelConfig(dim=16, first_epochs=6, negatives=128, batch=128, rate=0.1)


def test_what_is_learned_finds_the_group_that_popularity_does_not_know() -> None:
    (ours,) = contenders(["goat"], CONFIG)
    asked = {part: questions(groups(), part) for part in (VALID, TEST)}
    learned = learn(ours, {}, {}, asked[VALID], 0)
    (alone,) = answer(learned, [{}], asked[TEST])
    # 20 of the 33 left of the group would be .57. Without zero_grad it is .32, with the item itself
    # in its context .48.
    assert alone.recall.mean() > 0.52


def test_ours_beats_popularity_on_every_seed() -> None:
    values: Any = result(
        groups(), {}, CONFIG, names=["goat", "popularity"], seeds=[0, 1], said=lambda _: None
    )
    ours, popular = values["methods"]["goat"], values["methods"]["popularity"]
    assert popular["recall@20"] < 0.2  # 20 of 240
    assert min(ours["seeds"]) > 0.45
    assert len(ours["seeds"]) == 2
    assert (ours["ci95_over"], popular["ci95_over"]) == ("seeds", "users")


def test_a_catalogue_too_large_for_all_pairs_goes_without_them() -> None:
    said: list[str] = []
    split = split_of((0, 0, TRAIN), (1, 1, TRAIN), (0, 1, VALID), (0, 2, TEST), items=20_001)
    names = ["ease", "popularity"]
    values: Any = result(split, {}, ModelConfig(), names=names, seeds=[0], said=said.append)
    assert list(values["methods"]) == ["popularity"]
    assert "ease is left out" in said[0]
    small, large = (contenders(["goat"], ModelConfig(), items)[0] for items in (20_000, 20_001))
    assert set(small.terms) == {"companions", "popularity"}
    assert set(large.terms) == {"popularity"}


def test_what_a_person_names_is_not_overruled_by_the_recipe() -> None:
    (ours,) = contenders(["goat"], ModelConfig(dim=8))
    made = ours.make({}, 0)
    assert isinstance(made, Goat)
    assert (made.config.dim, made.config.order_free, made.config.temperature) == (8, True, 0.2)


def test_texts_become_features_of_the_items_that_have_one() -> None:
    class Lengths:
        name, dim = "lengths", 2

        def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
            return np.array([[len(text), 1] for text in texts], np.float32)

    one = np.zeros(1, np.int64)
    split = Split(one, one, one, 1, 3, ["abc", "", "a"])
    features = embedded(split, Lengths())["text"]
    assert features.present.tolist() == [True, False, True]
    assert features.vectors.tolist() == [[3, 1], [0, 0], [1, 1]]
    assert embedded(split, None) == embedded(replace(split, texts=()), Lengths()) == {}


def evaluated(*more: str) -> Result:
    return CliRunner().invoke(app, ["evaluate", "--static", *more])


def test_a_split_is_compared_from_file_to_page(tmp_path: Path) -> None:
    split = groups()
    file, wanted, html = tmp_path / "<six>.parquet", tmp_path / "f.json", tmp_path / "f.html"
    columns = {"userID": split.user, "itemID": split.item, "split": split.part}
    pq.write_table(pa.table(columns), file)
    done = evaluated(
        *("--events", str(file), "--methods", "popularity,itemknn,ease"),
        *("--json", str(wanted), "--html", str(html)),
    )
    assert done.exit_code == 0, done.output
    values = json.loads(wanted.read_text())
    assert set(values["methods"]) == {"popularity", "itemknn", "ease"}
    assert values["asked_users"]["test"] == 240
    for one in values["methods"].values():
        assert {"recall@20", "ndcg@20", "cpu_s", "ci95", "setting", "weights"} <= set(one)
        low, high = one["ci95"]
        assert low < one["recall@20"] < high
    assert values["methods"]["ease"]["recall@20"] > 2 * values["methods"]["popularity"]["recall@20"]
    said = html.read_text()
    assert "&lt;six&gt;.parquet" in said
    assert "<six>" not in said
    assert "http" not in said.replace("http://www.w3.org/2000/svg", "")


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    for more in ([], ["--events", str(tmp_path)]):
        assert "--static wants --events FILE" in evaluated(*more).output
    file = tmp_path / "a.inter"
    file.write_text("userID\titemID\tx_label\n1\t1\t0\n1\t2\t1\n")
    done = evaluated("--events", str(file), "--methods", "popularity")
    assert done.exit_code == 1
    assert "[1, 1, 0]" in done.output
    done = evaluated("--events", str(file), "--methods", "goat-retrained")
    assert "with --static give each once of goat, popularity" in " ".join(done.output.split())
