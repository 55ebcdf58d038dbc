"""From one version to the next: tables that grow, moments that are kept, vectors to serve."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.alignment import Alignment, align
from model.cold import place
from model.config import ModelConfig
from model.couplings import WarmStart
from model.data import Interactions, TextFeatures
from model.encoder import Encoder
from model.propagation import propagate
from model.recency import GAPS, Recency
from model.rotation import Turn, measure, rotation, turned
from model.state import Arrays, ModelState


def begin(
    data: Interactions,
    features: TextFeatures | None,
    previous: ModelState | None,
    config: ModelConfig,
    rng: np.random.Generator,
) -> Encoder:
    """Build the encoder to train: the previous version's parameters, grown to the vocabulary."""
    old: Arrays = {} if previous is None else previous.parameters
    table = (rng.standard_normal((data.items, config.dim)) * config.start_norm).astype(np.float32)
    table /= np.float32(np.sqrt(config.dim))
    if previous is not None:
        table[: len(previous.items)] = old["embedding"]
    log_weights, log_gaps = old.get("log_weights"), old.get("log_gaps")
    if log_weights is None or log_gaps is None:
        ages = np.arange(config.context, dtype=np.float32)
        rates = np.log(2.0) / np.array(config.half_lives, np.float32)
        log_weights = -rates[:, None].astype(np.float32) * ages
        log_gaps = np.zeros((len(rates), GAPS), np.float32)
    head, scale = old.get("head"), old.get("scale")
    if head is None and features is not None:
        width = features.vectors.shape[1]
        head = (rng.standard_normal((width, config.dim)) / np.sqrt(width)).astype(np.float32)
        scale = np.array(config.text_scale, np.float32)
    return Encoder(
        torch.from_numpy(table),
        torch.from_numpy(log_weights.copy()),
        torch.from_numpy(log_gaps.copy()),
        torch.from_numpy(np.array(old.get("log_temperature", np.log(config.temperature)), "f4")),
        head=None if head is None else torch.from_numpy(head.copy()),
        scale=None if scale is None else torch.from_numpy(np.array(scale)),
    )


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
    text: Tensor | None,
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
        items = encoder.items(text).numpy()
        both = np.intersect1d(known, np.flatnonzero(previous.learned))
        by = rotation(items[both], previous.items[both], groups)
        for table in (encoder.embedding, encoder.head):
            if table is None:
                continue
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
    features: TextFeatures | None,
    previous: ModelState | None,
    *,
    config: ModelConfig,
) -> tuple[ModelState, Alignment | None]:
    """Take the arrays of a trained encoder; place what has text but no events beside its like.

    The ID and the text space are coupled on the way, from the previous version's potentials.
    """
    parameters = {name: p.detach().numpy().copy() for name, p in encoder.named_parameters()}
    moments, steps = _moments(encoder, optimiser)
    learned = np.zeros(data.items, np.bool_)
    learned[data.item[data.positive]] = True
    upto = int(data.sequence.max()) + 1 if len(data) else 0
    evidence, potentials = _coupled(parameters, features, learned, previous, config)
    state = ModelState(
        items=_served(encoder, features, learned, data, config),
        recency=_recency(parameters),
        learned=learned,
        parameters=parameters,
        moments=moments,
        steps=max(steps, 0 if previous is None else previous.steps),
        trained_upto=max(upto, 0 if previous is None else previous.trained_upto),
        potentials=potentials,
    )
    return state, evidence


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


def _coupled(
    parameters: Arrays,
    features: TextFeatures | None,
    learned: NDArray[np.bool_],
    previous: ModelState | None,
    config: ModelConfig,
) -> tuple[Alignment | None, WarmStart | None]:
    start = None if previous is None else previous.potentials
    if features is None:
        return None, start
    image = features.normalised() @ parameters["head"]
    usable = learned & image.any(axis=1)
    found = align(parameters["embedding"], image, usable, start, config.alignment_sample)
    return (None, start) if found is None else found


def _served(
    encoder: Encoder,
    features: TextFeatures | None,
    learned: NDArray[np.bool_],
    data: Interactions,
    config: ModelConfig,
) -> NDArray[np.float32]:
    text = None if features is None else features.normalised()
    with torch.no_grad():
        z = encoder.items(None if text is None else torch.from_numpy(text)).numpy().copy()
    z[~learned] = 0.0
    if config.layers:
        z = propagate(data, z, mix=config.layer_weight, hops=config.layers)
    if features is None or text is None:
        return z
    known, new = features.present & learned, features.present & ~learned
    if known.any() and new.any():
        counts = recent_counts(data, config)[known]
        placed = place(text[new], text[known], z[known], counts, epsilon=config.cold_epsilon)
        z[new] = placed.vectors
    return z


def recent_counts(data: Interactions, config: ModelConfig) -> NDArray[np.float64]:
    """Decayed counts of the items' positive events as of the last one, float64[I]."""
    order = np.argsort(data.sequence[data.positive], kind="stable")
    items = data.item[data.positive][order]
    age = np.arange(len(items))[::-1] / config.popularity_half_life
    return np.bincount(items, np.exp2(-age), minlength=data.items).astype(np.float64)


def _grown(array: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    if array.shape == shape:
        return array.copy()
    grown = np.zeros(shape, np.float32)
    grown[: len(array)] = array
    return grown
