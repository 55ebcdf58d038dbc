"""Who takes part on a fixed split, by name, and the settings that are tried for each on valid."""

from collections.abc import Mapping, Sequence

from consumers.contest import WEIGHTS
from consumers.contestants import NAMED, entries
from consumers.errors import SettingsError
from consumers.methods import Goat, Make, Nothing, Setting
from consumers.static_methods import Companions, Counted
from consumers.static_protocol import Contender
from model.config import ModelConfig
from model.ridge import MOST_ITEMS

RECIPE: Mapping[str, object] = {
    "order_free": True,
    "context": 200,
    "half_lives": (1.0,),
    "temperature": 0.2,
    "temperature_learned": False,
    "dim": 128,
    "batch": 2048,
    "first_epochs": 12,
    "contrastive_weight": 0.1,
}
"""What differs from the defaults where events have no order, unless `--model` names it."""
_POPULARITY = [{"popularity": w} for w in WEIGHTS]
_TERMS: Mapping[str, Make] = {"companions": Companions, "popularity": Counted}
_OURS = [
    {"companions": c, "popularity": p}
    for c in (0.0, 2.0, 4.0, 8.0, 16.0)
    for p in (0.0, 0.02, 0.05)
]
_GRID: Mapping[str, Sequence[Setting]] = {
    "ease": [{"penalty": p} for p in (100.0, 200.0, 400.0, 800.0)],
    "bpr": [
        {"rate": rate, "regularization": 0.01, "epochs": epochs}
        for rate in (0.02, 0.1)
        for epochs in (100, 300)
    ],
    "lightgcn": [{"rate": 0.005, "epochs": epochs} for epochs in (20, 60)],
}
"""In place of what is tried on streams, for these methods."""


def contenders(names: Sequence[str], config: ModelConfig, items: int = 0) -> list[Contender]:
    """The methods of these names.

    Parameters
    ----------
    items : int
        Of the split. Beyond `MOST_ITEMS` ours goes without its companions.

    Raises
    ------
    SettingsError
        A name is unknown or given twice, or the extra ``baselines`` is not installed.
    """
    wrong = [name for name in names if name not in NAMED or names.count(name) > 1]
    if wrong or not names:
        raise SettingsError(
            f"--methods: {wrong[0] if wrong else 'none'!r}: with --static give each once of"
            f" {', '.join(NAMED)}"
        )
    return [_contender(name, config, items) for name in names]


def _contender(name: str, config: ModelConfig, items: int) -> Contender:
    if name == "goat":
        return _ours(config, items)
    if name == "popularity":

        def nobody(setting: Setting, seed: int) -> Nothing:
            return Nothing()

        alone = [{"popularity": 1.0}]
        return Contender(name, nobody, terms={"popularity": Counted}, weights=alone, seeded=False)
    (entry,) = entries([name], config)
    return Contender(
        name,
        entry.make,
        _GRID.get(name, entry.settings),
        {"popularity": Counted},
        _POPULARITY,
        entry.seeded,
        entry.most_items,
    )


def _ours(config: ModelConfig, items: int) -> Contender:
    given = config.model_fields_set

    def make(setting: Setting, seed: int) -> Goat:
        recipe = {**RECIPE, **setting}
        more = {name: value for name, value in recipe.items() if name not in given}
        return Goat(ModelConfig.model_validate(config.model_dump() | more), seed)

    if items > MOST_ITEMS:
        return Contender("goat", make, terms={"popularity": Counted}, weights=_POPULARITY)
    return Contender("goat", make, terms=_TERMS, weights=_OURS)
