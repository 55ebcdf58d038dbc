import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from consumers import baseline_graph, comparison, contest
from consumers.baselines import BPR, IALS, Ease, ItemKNN
from consumers.cli import app
from consumers.comparison import Protocol, result
from consumers.comparison_page import plot
from consumers.contest import Chosen, Entry, choose, compete, rounds
from consumers.contestants import MOST_ITEMS, NAMED, NAMES, OWN, entries
from consumers.dataset import Dataset, Past, dataset
from consumers.errors import SettingsError
from consumers.methods import Floats, Goat, Method, Nothing, Question, Setting
from consumers.standings import Slices, over_seeds, over_users
from model.config import ModelConfig
from model.ranking import recall_at
from model.trainer import finetune


def arrays(*rows: tuple[int, int, int]) -> Dataset:
    user, item, when = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return dataset(user, item, when)


def planted(users: int = 60, items: int = 40, steps: int = 12, seed: int = 0) -> Dataset:
    """A user walks a ring of items, one on each time: the last item tells the next."""
    rng = np.random.default_rng(seed)
    start = rng.integers(0, items, users)
    rows = [
        (u, int(start[u] + s) % items, s * users + u) for s in range(steps) for u in range(users)
    ]
    user, item, when = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return dataset(user, item, when, items=items, known=np.full(len(user), items, np.int64))


def test_the_past_of_an_event_with_and_without_its_instant_and_its_day() -> None:
    day = 86_400_000_000
    data = arrays((0, 5, 1), (1, 0, 1), (0, 6, day), (0, 7, day), (0, 8, day + 1), (0, 9, day + 1))
    past = Past(data)
    last = np.array([5])
    assert past.context(last, 3)[0].tolist() == [[8, 7, 6]]
    assert past.context(last, 3, "instant")[0].tolist() == [[7, 6, 5]]
    assert past.context(last, 3, "day")[0].tolist() == [[5, -1, -1]]
    assert past.context(last, 2)[1].tolist() == [[day + 1, day]]
    indptr, had = past.before(np.array([1, 3, 5]), "instant")
    assert (indptr.tolist(), had.tolist()) == ([0, 0, 1, 4], [5, 5, 6, 7])
    assert past.before(np.array([3]))[1].tolist() == [5, 6]
    assert past.asof(np.array([0, 1]), 3, 2)[0].tolist() == [[6, 5], [0, -1]]
    assert past.asof(np.array([0, 1]), 0, 1)[0].tolist() == [[-1], [-1]]


def test_only_the_first_of_its_item_is_asked_and_items_are_known_once_they_appear() -> None:
    data = arrays((0, 0, 0), (0, 1, 1), (0, 0, 2), (1, 0, 3))
    assert data.asked.tolist() == [True, True, False, True]
    assert data.known.tolist() == [0, 1, 2, 2]
    assert (data.vocabulary(1), data.vocabulary(4), data.upto(1).items) == (1, 2, 1)


def test_ours_follows_its_users_or_not_and_goes_on_or_begins_anew() -> None:
    data, upto = planted(users=100), 600
    config = ModelConfig(dim=8, half_lives=(2.0,), first_epochs=1, epochs=1)
    event = np.arange(800, 820)
    past = Past(data)
    question = Question(event, data.user[event], past)

    def learned(**how: bool) -> Goat:
        method = Goat(config, 3, **how)
        assert not method.scores(question).any()
        method.learn(data, upto)
        return method

    live, frozen, anew = learned(), learned(live=False), learned(anew=True)
    at = Question(np.arange(upto, upto + 100), data.user[upto : upto + 100], past)
    np.testing.assert_array_equal(live.scores(at), frozen.scores(at))  # nothing has happened
    assert (live.scores(question) != frozen.scores(question)).any()
    for method in (live, anew):
        method.learn(data, 1000)
    assert live.state is not None
    assert anew.state is not None
    alone = finetune(data.upto(1000), config=config, seed=1_003, threads=1).state
    gram = anew.state.items @ anew.state.items.T
    np.testing.assert_allclose(gram, alone.items @ alone.items.T, atol=1e-4)
    assert np.abs(live.state.items @ live.state.items.T - gram).max() > 0.01


class _Walks:
    """Shows the successor of the last item: the planted stream's best."""

    def __init__(self, items: int, right: float = 1.0) -> None:
        self._items = items
        self._right = right
        self.learned: list[int] = []

    def learn(self, data: Dataset, upto: int) -> None:
        self.learned.append(upto)

    def scores(self, question: Question) -> Floats:
        last = question.past.context(question.event, 1, question.held_back)[0][:, 0]
        scores = np.zeros((len(last), self._items), np.float32)
        known = np.flatnonzero(last >= 0)
        scores[known, (last[known] + 1) % self._items] = self._right
        return scores


def quiet(line: str) -> None:
    """Says nothing."""


def test_the_best_method_has_recall_one_and_learns_at_each_mark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(contest, "CHUNK", 7)
    data = planted()
    made: list[_Walks] = []

    def make(setting: Setting, seed: int) -> Method:
        made.append(_Walks(data.items))
        return made[-1]

    marks = rounds(data, base_share=0.5, slices=3, every=None)
    assert marks.tolist() == [360, 480, 600, 720]
    entry = Entry("best", make)
    outcome = compete(
        data, Past(data), entry, Chosen({}, (0.0, 1.0)), marks=marks, seed=0, said=quiet
    )
    assert (outcome.ranks == 1.0).all()
    assert outcome.event.tolist() == list(range(360, 720))
    assert made[0].learned == [360, 480, 600]
    assert np.bincount(outcome.round).tolist() == [120, 120, 120]
    assert (outcome.top == data.item[outcome.event][:, None]).any(1).all()
    nobody = Entry("none", lambda *_: Nothing())
    ignorant = compete(
        data, Past(data), nobody, Chosen({}, (0.0, 1.0)), marks=marks, seed=0, said=quiet
    )
    had = np.arange(360, 720) // 60  # all that is left ties
    assert ignorant.ranks.tolist() == (1 + (40 - had - 1) / 2).tolist()


def test_strict_knows_nothing_of_the_same_instant() -> None:
    rows = [(u, (u + s) % 8, 10 * u) for u in range(8) for s in range(4)]
    data = arrays(*rows)
    past = Past(data)
    entry = Entry("best", lambda *_: _Walks(8))
    outcome = compete(
        data,
        past,
        entry,
        Chosen({}, (0.0, 1.0)),
        marks=np.array([16, 32]),
        seed=0,
        said=quiet,
    )
    follows = (outcome.event % 4 > 0) & np.isfinite(outcome.ranks)
    assert follows.sum() == 11  # of 12: item 7 was not known yet
    assert (outcome.ranks[follows] == 1.0).all()
    assert (outcome.strict[follows] > 1.0).all()
    had = past.before(outcome.event[follows][:1])[1]
    freed = past.before(outcome.event[follows][:1], "instant")[1]
    assert (len(had), len(freed)) == (1, 0)  # nor is it left out of the ranking
    ties = 1 + (data.known[outcome.event[follows]] - 1) / 2
    np.testing.assert_array_equal(outcome.strict[follows], ties)


def test_a_setting_is_chosen_on_what_came_before_and_only_there() -> None:
    data = planted()
    seen: list[int] = []

    class Watched(_Walks):
        def learn(self, data: Dataset, upto: int) -> None:
            seen.append(upto)

        def scores(self, question: Question) -> Floats:
            seen.append(int(question.event.max()) + 1)
            return super().scores(question)

    def make(setting: Setting, seed: int) -> Method:
        return Watched(data.items, setting["right"])

    entry = Entry("w", make, [{"right": -1.0}, {"right": 1.0}], ((0.0, 1.0), (0.5, 100.0)))
    chosen = choose(data, Past(data), entry, 360)
    assert (chosen.setting, chosen.prior, chosen.recall) == ({"right": 1.0}, (0.0, 1.0), 1.0)
    assert max(seen) == 360
    assert seen.count(324) == 2


def test_rounds_from_the_first_event_or_the_history_on() -> None:
    data = planted(users=10, steps=10)
    assert rounds(data, base_share=None, slices=1, every=40).tolist() == [40, 80, 100]
    after = dataset(data.user, data.item, data.time_us, history=30)
    assert rounds(after, base_share=None, slices=1, every=40).tolist() == [30, 70, 100]
    assert rounds(after, base_share=0.1, slices=2, every=None).tolist() == [30, 65, 100]


@pytest.mark.parametrize(
    ("make", "setting"),
    [
        (Ease, {"penalty": 1.0}),
        (ItemKNN, {"neighbours": 20}),
        (IALS, {"regularization": 0.1, "alpha": 10.0}),
    ],
)
def test_a_baseline_that_folds_in_finds_the_neighbour_on_the_ring(
    make: Any, setting: Setting
) -> None:
    data = planted(users=200)
    method = make(setting, 0)
    method.learn(data, 2000)
    event = np.arange(2000, 2400)[data.asked[2000:2400]]
    scores = method.scores(Question(event, data.user[event], Past(data)))
    ranks = contest.ranks_of(
        scores, data.item[event], Past(data).before(event), known=data.known[event]
    )
    assert recall_at(ranks, 3) > 0.9  # 3 of some 30 left: a tenth by chance


@pytest.mark.parametrize(
    ("make", "setting"),
    [
        (BPR, {"rate": 0.1, "regularization": 0.01, "epochs": 200}),
        (baseline_graph.LightGCN, {"rate": 0.01, "epochs": 150}),
    ],
)
def test_a_baseline_with_a_vector_a_user_tells_two_groups_apart(
    make: Any, setting: Setting
) -> None:
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(60), 8)
    item = rng.integers(0, 15, 480) + 15 * (user % 2)
    data = dataset(user, item, np.arange(480), items=31)
    method = make(setting, 0)
    method.learn(data, 480)
    event = np.arange(0, 480, 8)
    scores = method.scores(Question(event, data.user[event], Past(data)))
    own = np.where((np.arange(60) % 2 == 0)[:, None], scores[:, :15], scores[:, 15:30])
    other = np.where((np.arange(60) % 2 == 1)[:, None], scores[:, :15], scores[:, 15:30])
    assert (own.mean(1) > other.mean(1)).mean() > 0.95
    again = make(setting, 0)
    again.learn(data, 480)
    np.testing.assert_allclose(again.scores(Question(event, user[event], Past(data))), scores)


def test_propagation_and_its_gradient_are_the_dense_ones() -> None:
    user, item = np.array([0, 0, 1]), np.array([0, 1, 1])
    graph = baseline_graph.adjacency(user, item, 2, 2)
    plain = torch.zeros(4, 4)
    plain[[0, 0, 1], [2, 3, 3]] = 1.0
    plain = plain + plain.T
    scale = torch.diag(plain.sum(1) ** -0.5)
    dense = scale @ plain @ scale
    np.testing.assert_allclose(graph.to_dense().numpy(), dense.numpy(), atol=1e-6)
    start = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    table, same = start.clone().requires_grad_(), start.clone().requires_grad_()
    (baseline_graph.propagated(graph, table) ** 2).sum().backward()
    (((same + dense @ same + dense @ dense @ same) / 3) ** 2).sum().backward()
    assert table.grad is not None
    assert same.grad is not None
    np.testing.assert_allclose(table.grad.numpy(), same.grad.numpy(), atol=1e-5)


def test_slices_are_cut_by_hand() -> None:
    data = arrays((0, 0, 0), (1, 0, 1), (0, 1, 2), (2, 0, 3), (2, 1, 4))
    slices = Slices(data, np.array([3, 4]), 3)
    assert {n: m.tolist() for n, m in slices.masks.items()} == {
        "known_users": [False, False],
        "new_users": [True, True],
        "new_items": [True, True],
        "head": [True, False],
        "tail": [False, True],
    }
    assert slices.recall(np.array([1.0, 30.0]))["head"] == 1.0
    assert slices.recall(np.array([1.0, 30.0]))["known_users"] is None


def test_intervals_are_their_formulas() -> None:
    assert over_seeds([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)
    values, user = np.array([1.0, 1.0, 0.0, 0.0]), np.array([0, 0, 1, 1])
    half = 1.96 * np.sqrt(1 + 1) / 4  # each user's sum is ±1
    assert over_users(values, user) == pytest.approx((0.5 - half, 0.5 + half))


def test_unknown_and_repeated_names_are_refused() -> None:
    assert [e.name for e in entries([*NAMES, "ease-static"], ModelConfig())][-1] == "ease-static"
    for wrong in (["svd"], ["goat", "goat"], []):
        with pytest.raises(SettingsError, match="--methods"):
            entries(wrong, ModelConfig())


def evaluated(file: Path, *more: str) -> Result:
    """`goat evaluate` on a table of users, items and times."""
    table = ["--events", str(file), "--format", "table", "--columns", "user=u,item=i,time=t"]
    return CliRunner().invoke(app, ["evaluate", *table, *more])


def test_a_table_is_compared_from_file_to_page(tmp_path: Path) -> None:
    data = planted(users=40, steps=15)
    file = tmp_path / "<ring>.csv"
    rows = zip(data.user.tolist(), data.item.tolist(), data.time_us.tolist(), strict=True)
    lines = "".join(f"u{u},i{i},{t + 1_000_000}\n" for u, i, t in rows)
    file.write_text("u,i,t\n" + lines + "u1,,1000001\n")
    wanted, html = tmp_path / "f.json", tmp_path / "f.html"
    done = evaluated(
        file,
        *("--base-share", "0.6", "--slices", "2", "--seeds", "2"),
        *("--methods", "goat,popularity,ease,ease-static"),
        *("--model", '{"dim": 8, "first_epochs": 1, "epochs": 1}'),
        *("--json", str(wanted), "--html", str(html)),
    )
    assert done.exit_code == 0, done.output
    values = json.loads(wanted.read_text())
    assert set(values["methods"]) == {"goat", "popularity", "ease", "ease-static"}
    assert values["scored_events"] == 240
    assert values["events_in"] == values["applied"] + 1 == 601
    assert sum(values["reasons"].values()) == values["dead_letters"] == 1
    for one in values["methods"].values():
        assert {"recall@20", "ndcg@20", "strict_recall@20", "cpu_s", "ci95"} <= set(one)
    assert len(values["methods"]["goat"]["seeds"]) == 2
    assert values["methods"]["ease"]["ci95_over"] == "users"
    # Times are all different: to hold back the same instant holds back nothing.
    for one in values["methods"].values():
        assert one["strict_recall@20"] == one["recall@20"]
    said = html.read_text()
    assert "&lt;ring&gt;.csv" in said
    assert "<ring>" not in said
    assert "http" not in said.replace("http://www.w3.org/2000/svg", "")
    again = evaluated(file, "--quiet", "--methods", "ease", "--finetune-every", "9000")
    assert again.exit_code == 1
    assert "leave nothing to score" in again.output


def test_without_names_all_that_is_installed_takes_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    assert comparison.chosen_names(None, said.append) == NAMED
    assert comparison.chosen_names(["ease"], said.append) == ["ease"]
    assert not said
    monkeypatch.setattr(comparison, "find_spec", lambda name: None)
    assert comparison.chosen_names(None, said.append) == OWN
    assert "goatstream[baselines]" in said[0]


def test_a_method_that_cannot_hold_the_catalogue_is_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(MOST_ITEMS, "ease", 5)
    said: list[str] = []
    protocol = Protocol(["ease", "popularity"], 0.5, 2)
    values = result(planted(users=20, steps=15), ModelConfig(), 0, protocol, said.append)
    assert list(cast(dict[str, object], values["methods"])) == ["popularity"]
    assert "items squared" in cast(dict[str, str], values["absent"])["ease"]
    assert said[0].startswith("ease left out")


def test_a_plot_has_a_gap_where_a_round_has_no_figure() -> None:
    assert plot({"a": [0.1, None, 0.2, 0.3]}).count("<polyline") == 2
