"""Who takes part in a comparison, by name, and the settings that are tried for each."""

from collections.abc import Mapping, Sequence

from consumers.contest import WEIGHTS, Entry
from consumers.errors import SettingsError
from consumers.methods import Goat, Make, Nothing, Setting
from consumers.scores import BASELINE_HALF_LIVES
from model import ridge
from model.config import ModelConfig

OURS: Mapping[str, Mapping[str, bool]] = {
    "goat": {},
    "goat-retrained": {"anew": True},
    "goat-frozen-users": {"live": False},
}
"""Ours as it is served; learned from all events at each round; users as of the last round."""
OWN = ("goat", "popularity")
"""What needs no library but this one's."""
NAMED = (*OWN, "itemknn", "ease", "ials", "bpr", "lightgcn")
NAMES = (*OURS, *NAMED[1:])
MOST_ITEMS = {"ease": ridge.MOST_ITEMS}
"""Beyond so many items a method's dense matrix of all pairs is not to be had."""
STATIC = "-static"
"""Behind a name: learned once, before the first round, and never again."""
_PRIORS = tuple(
    (w, h) for w in WEIGHTS for h in BASELINE_HALF_LIVES if w or h == BASELINE_HALF_LIVES[0]
)


def entries(names: Sequence[str], config: ModelConfig) -> list[Entry]:
    """The methods of these names, each with ``-static`` behind it or not.

    Raises
    ------
    SettingsError
        A name is unknown or given twice, or the extra ``baselines`` is not installed.
    """
    wrong = [n for n in names if n.removesuffix(STATIC) not in NAMES or names.count(n) > 1]
    if wrong or not names:
        raise SettingsError(
            f"--methods: {wrong[0] if wrong else 'none'!r}: give each once of {', '.join(NAMES)},"
            f" or one with {STATIC} behind it"
        )
    return [_entry(name, name.removesuffix(STATIC), config) for name in names]


def _entry(name: str, base: str, config: ModelConfig) -> Entry:
    online = name == base
    if base in OURS:

        def ours(setting: Setting, seed: int) -> Goat:
            return Goat(config, seed, **OURS[base])

        return Entry(name, ours, online=online)
    if base == "popularity":
        alone = tuple((1.0, h) for h in BASELINE_HALF_LIVES)

        def nobody(setting: Setting, seed: int) -> Nothing:
            return Nothing()

        return Entry(name, nobody, priors=alone, seeded=False, online=online)
    make, settings, seeded = _baseline(base)
    return Entry(name, make, settings, _PRIORS, seeded, online, most_items=MOST_ITEMS.get(base))


def _baseline(name: str) -> tuple[Make, Sequence[Setting], bool]:
    try:
        from consumers import baselines
    except ImportError as error:
        raise SettingsError(
            f"--methods {name} needs the extra baselines: pip install 'goatstream[baselines]'"
            f" ({error})"
        ) from None
    from consumers.baseline_graph import LightGCN

    known: dict[str, tuple[Make, Sequence[Setting], bool]] = {
        "ease": (baselines.Ease, [{"penalty": p} for p in (30.0, 100.0, 300.0, 1000.0)], False),
        "itemknn": (baselines.ItemKNN, [{"neighbours": k} for k in (20, 50, 200, 1000)], False),
        "ials": (
            baselines.IALS,
            [
                {"regularization": r, "alpha": a}
                for r in (1.0, 10.0, 100.0, 300.0)
                for a in (1.0, 10.0, 100.0)
            ],
            True,
        ),
        "bpr": (
            baselines.BPR,
            [
                {"rate": rate, "regularization": 0.01, "epochs": epochs}
                for rate in (0.02, 0.1)
                for epochs in (30, 100)
            ],
            True,
        ),
        "lightgcn": (LightGCN, [{"rate": 0.005, "epochs": epochs} for epochs in (5, 20)], True),
    }
    return known[name]
