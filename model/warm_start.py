"""From one version to the next: tables that grow, moments that are kept, vectors to serve."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray

from model.alignment import Alignment, align
from model.config import ModelConfig
from model.data import TEXT, Features, Interactions
from model.encoder import Encoder
from model.errors import InvalidInput
from model.neighbours import Neighbours, nearest
from model.propagation import propagate
from model.recency import GAPS, Recency
from model.rotation import Turn, measure, rotation, turned
from model.sides import Carried, Head, Side
from model.state import Arrays, ModelState

if TYPE_CHECKING:
    from model.item_graph import ItemGraph

GRAPH = "graph"
"""Name of the side that is the item-item graph."""


def begin(
    data: Interactions,
    features: Mapping[str, Features],
    previous: ModelState | None,
    config: ModelConfig,
    rng: np.random.Generator,
    *,
    near: Neighbours | None = None,
) -> Encoder:
    """Build the encoder to train: the previous version's parameters, grown to the vocabulary.

    ``near`` are the neighbours by text as they were found last, of the first items.
    """
    old: Arrays = {} if previous is None else previous.parameters
    table = (rng.standard_normal((data.items, config.dim)) * config.start_norm).astype(np.float32)
    table /= np.float32(np.sqrt(config.dim))
    if previous is not None:
        table[: len(previous.items)] = old["embedding"]
    ages = np.arange(config.context, dtype=np.float32)
    rates = np.log(2.0) / np.array(config.half_lives, np.float32)
    if config.order_free:
        rates = np.zeros_like(rates)
    encoder = Encoder(
        torch.from_numpy(table),
        torch.from_numpy(-rates[:, None].astype(np.float32) * ages),
        torch.zeros(len(rates), GAPS),
        torch.tensor(np.log(config.temperature), dtype=torch.float32),
        sides=_sides(features, near, config, rng),
        scale=config.side_scale,
        contrast=config.contrastive_temperature,
        fusion=config.fusion,
    )
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name in old and name != "embedding":
                _copy(parameter, old[name], name)
    encoder.couple()
    return encoder


def _sides(
    features: Mapping[str, Features],
    near: Neighbours | None,
    config: ModelConfig,
    rng: np.random.Generator,
) -> dict[str, Side]:
    sides: dict[str, Side] = {}
    for name, given in features.items():
        width = given.vectors.shape[1]
        weight = (rng.standard_normal((width, config.dim)) / np.sqrt(width)).astype(np.float32)
        held = torch.from_numpy(weight), torch.from_numpy(given.normalised())
        carried = config.transport_weight and config.transport_level == "dimension"
        sides[name] = Carried(*held, torch.eye(config.dim)) if carried else Head(*held)
    if config.item_neighbours and TEXT in features:
        from model.item_graph import ItemGraph  # PyG takes a second, and only this needs it

        rows = features[TEXT].normalised()
        table = nearest(rows, config.item_neighbours, near)
        sides[GRAPH] = ItemGraph(rows, table, config.dim, config.item_heads, rng)
    return sides


def _copy(parameter: torch.Tensor, old: NDArray[np.float32], name: str) -> None:
    if tuple(parameter.shape) != old.shape:
        raise InvalidInput(
            f"{name} has shape {old.shape} in the previous version, {tuple(parameter.shape)} now:"
            " start anew to change the embedder or the configuration"
        )
    parameter.copy_(torch.from_numpy(old))


def carry_moments(
    optimiser: torch.optim.Adam, encoder: Encoder, previous: ModelState | None
) -> None:
    """Give Adam the moments of the previous version; a new row's are zero."""
    if previous is None or not previous.moments:
        return
    for name, parameter in encoder.named_parameters():
        if f"{name}.first" not in previous.moments:
            continue
        first, second = (
            _grown(previous.moments[f"{name}.{which}"], tuple(parameter.shape))
            for which in ("first", "second")
        )
        optimiser.state[parameter] = {
            "step": torch.tensor(float(previous.steps)),
            "exp_avg": torch.from_numpy(first),
            "exp_avg_sq": torch.from_numpy(second),
        }


def turn_back(
    encoder: Encoder,
    optimiser: torch.optim.Adam,
    known: NDArray[np.int64],
    previous: ModelState,
) -> None:
    """Rotate what was learned anew, and its moments, to where the previous version's items were.

    No score changes. Adam's second moments do not turn; each group of a row gets their mean, the
    estimate that no rotation would change. ``known`` are the items that were learned, int64[*]:
    one that the previous version had learned and that is gone since says nothing of the turn.
    """
    groups = len(encoder.log_weights)
    with torch.no_grad():
        items = encoder.items().numpy()
        both = np.intersect1d(known, np.flatnonzero(previous.learned))
        by = rotation(items[both], previous.items[both], groups)
        for table in encoder.into_items():
            table.copy_(torch.from_numpy(turned(table.numpy(), by)))
            held = optimiser.state.get(table)
            if held:
                held["exp_avg"] = torch.from_numpy(turned(held["exp_avg"].numpy(), by))
                split = held["exp_avg_sq"].unflatten(1, (groups, -1))
                held["exp_avg_sq"] = split.mean(2, keepdim=True).expand_as(split).flatten(1)


def since(previous: ModelState, state: ModelState) -> Turn:
    """How the items that both versions have learned moved."""
    both = np.flatnonzero(previous.learned & state.learned[: len(previous.learned)])
    return measure(state.items[both], previous.items[both], state.recency.groups)


def finish(
    encoder: Encoder,
    optimiser: torch.optim.Adam,
    data: Interactions,
    features: Mapping[str, Features],
    previous: ModelState | None,
    *,
    base: ModelState | None,
    config: ModelConfig,
    rng: np.random.Generator,
) -> tuple[ModelState, dict[str, Alignment]]:
    """Take the arrays of a trained encoder; what has no events is not placed yet.

    The ID space and each modality's are coupled on the way, from the previous version's
    potentials. What ``base`` had learned of a side that is not there now is kept as it was.
    """
    moments, steps = _moments(encoder, optimiser)
    parameters = {name: p.detach().numpy().copy() for name, p in encoder.named_parameters()}
    if base is not None:
        parameters, moments = base.parameters | parameters, base.moments | moments
    learned = np.zeros(data.items, np.bool_)
    learned[data.item[data.positive]] = True
    upto = int(data.sequence.max()) + 1 if len(data) else 0
    with torch.no_grad():
        beside = encoder.beside()
        z = encoder.items(beside).numpy().copy()
    spaces = {name: beside[name].numpy() for name in features}
    potentials = {} if previous is None else dict(previous.potentials)
    evidence: dict[str, Alignment] = {}
    for name, space in spaces.items():
        found = align(
            parameters["embedding"],
            space,
            learned & space.any(axis=1),
            potentials.get(name),
            config.alignment_sample,
            temperature=float(np.exp(parameters["log_contrast"])),
            rng=rng,
        )
        if found is not None:
            evidence[name], potentials[name] = found
    z[~learned] = 0.0
    if config.layers:
        z = propagate(data, z, mix=config.layer_weight, hops=config.layers)
    state = ModelState(
        items=z,
        recency=_recency(parameters),
        learned=learned,
        parameters=parameters,
        moments=moments,
        steps=max(steps, 0 if previous is None else previous.steps),
        trained_upto=max(upto, 0 if previous is None else previous.trained_upto),
        potentials=potentials,
        late=None if data.late is None else np.sort(data.sequence[data.late]),
        neighbours=_neighbours(encoder, previous),
    )
    return state, evidence


def _neighbours(encoder: Encoder, previous: ModelState | None) -> Neighbours | None:
    """Those that were used, else those of the previous version: a graph may be turned on again."""
    if GRAPH in encoder.sides:
        return cast("ItemGraph", encoder.sides[GRAPH]).table
    return None if previous is None else previous.neighbours


def _recency(parameters: Arrays) -> Recency:
    """The weights themselves: of no user does the direction change with a common factor."""
    position = np.exp(parameters["log_weights"] - parameters["log_weights"].max())
    gap = np.exp(parameters["log_gaps"] - parameters["log_gaps"].max())
    return Recency(position / position.sum(), gap)


def _moments(encoder: Encoder, optimiser: torch.optim.Adam) -> tuple[Arrays, int]:
    """Adam's moments, and how many steps it has taken."""
    moments: Arrays = {}
    steps = 0
    for name, parameter in encoder.named_parameters():
        held = optimiser.state.get(parameter, {})
        if held:
            moments[f"{name}.first"] = held["exp_avg"].numpy().copy()
            moments[f"{name}.second"] = held["exp_avg_sq"].numpy().copy()
            steps = max(steps, int(held["step"]))
    return moments, steps


def _grown(array: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    if array.shape == shape:
        return array.copy()
    grown = np.zeros(shape, np.float32)
    grown[: len(array)] = array
    return grown
