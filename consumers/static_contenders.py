"""Who takes part on a fixed split, by name, and the settings that are tried for each on valid."""

from collections.abc import Mapping, Sequence

from consumers.contest import WEIGHTS
from consumers.contestants import NAMED, entries
from consumers.errors import SettingsError
from consumers.methods import Goat, Nothing, Setting
from consumers.static_methods import Counted
from consumers.static_protocol import Contender
from model.config import ModelConfig

RECIPE: Mapping[str, object] = {
    "order_free": True,
    "temperature": 0.2,
    "temperature_learned": False,
    "context": 200,
    "half_lives": (1.0,),
}
"""What differs from the defaults where events have no order, unless `--model` names it."""
_POPULARITY = [{"popularity": w} for w in WEIGHTS]
_GRID: Mapping[str, Sequence[Setting]] = {
    "ease": [{"penalty": p} for p in (100.0, 200.0, 400.0, 800.0)],
    "itemknn": [{"neighbours": k} for k in (20, 50, 200, 1000)],
}
"""In place of what is tried on streams, for these methods."""


def contenders(names: Sequence[str], config: ModelConfig) -> list[Contender]:
    """The methods of these names.

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
    return [_contender(name, config) for name in names]


def _contender(name: str, config: ModelConfig) -> Contender:
    if name == "goat":
        return _ours(config)
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
    )


def _ours(config: ModelConfig) -> Contender:
    given = config.model_fields_set

    def make(setting: Setting, seed: int) -> Goat:
        recipe = {**RECIPE, **setting}
        more = {name: value for name, value in recipe.items() if name not in given}
        return Goat(ModelConfig.model_validate(config.model_dump() | more), seed)

    return Contender("goat", make)
