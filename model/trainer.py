"""Fine-tuning: item vectors learned through the very user encoder that is served.

For each event, user = the encoder's vector of the events before it, and the loss is a softmax
of cosines over the event's item and negatives shared by the batch. No user is stored: a
user's vector is a function of its events, so nothing ages between fine-tunes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.lr_scheduler import LinearLR

from model.alignment import Alignment
from model.arrivals import with_arrivals
from model.calibration import calibrate
from model.config import ModelConfig
from model.data import MODALITIES, Features, Interactions
from model.encoder import Encoder
from model.errors import InvalidInput, TrainingFailed
from model.forgetting import Memory, anchor_loss, distillation_loss, remember
from model.losses import softmax_loss
from model.objective import Objective
from model.part import ALL, part_of
from model.passed_over import PassedOver, passed_over
from model.recency import buckets
from model.replay import Targets, choose, unlearned
from model.rotation import Turn
from model.sampling import contexts, others
from model.state import ModelState, terms_of
from model.terms import Terms
from model.trend import Trend, trend
from model.warm_start import begin, carry_moments, finish, since, turn_back


@dataclass(frozen=True, slots=True)
class Report:
    """Evidence of a fine-tune.

    Attributes
    ----------
    fresh, replayed : int
        Events of an epoch learned from for the first time, and again.
    steps : int
    first_loss, last_loss : float or None
        Mean loss of the first and of the last epoch; None when there was nothing to learn.
    alignment : name -> Alignment
        Coupling of the ID space and each modality's of which at least two items are in both.
    turn : Turn or None
        How the items served have moved since the previous version; None without one.
    terms : Terms
        What the score adds to the cosine.
    """

    fresh: int
    replayed: int
    steps: int
    first_loss: float | None
    last_loss: float | None
    alignment: Mapping[str, Alignment]
    turn: Turn | None
    terms: Terms


@dataclass(frozen=True, slots=True)
class FineTuned:
    """A new model state and the evidence of how it was made."""

    state: ModelState
    report: Report


@dataclass(frozen=True, slots=True)
class _Course:
    """What does not change while a fine-tune runs."""

    data: Interactions
    targets: Targets
    starts: NDArray[np.int64]
    known: NDArray[np.int64]
    config: ModelConfig
    epochs: int
    new: NDArray[np.bool_]
    memory: Memory | None
    passed: PassedOver | None
    trend: Trend | None
    objective: Objective


STEPS = 256
"""Steps an epoch beyond which batches grow,"""
MOST = 8
"""at most to so many times the configured size."""


def finetune(
    data: Interactions,
    *,
    features: Mapping[str, Features] | None = None,
    previous: ModelState | None = None,
    config: ModelConfig,
    seed: int,
    threads: int | None = None,
    anew: bool = False,
) -> FineTuned:
    """Learn from the new events and a replay of older ones, or from all of them anew.

    Parameters
    ----------
    data : Interactions
        All events still held; those from ``previous.trained_upto`` on are new.
    features : name -> Features
        Vectors by modality, a row per item; the first version that has one adds its head, and one
        that is absent costs nothing.
    previous : ModelState
        The version to go on from; without one everything is learned from the beginning.
    seed : int
        Same data, same seed, same threads: the same result to the bit on a CPU.
    threads : int
        Threads of torch in this process; left as they are by default.
    anew : bool
        Forget what the previous version learned; its space is kept, by a rotation.

    Raises
    ------
    InvalidInput
        The data, features and previous version do not fit each other.
    TrainingFailed
        The loss stopped being finite.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    given = {name: features[name] for name in MODALITIES if name in features} if features else {}
    _check(data, features or {}, previous, config)
    positives = data.positives()
    rng = np.random.default_rng(seed)
    base = None if anew else previous
    near = None if previous is None else previous.neighbours
    encoder = begin(positives, given, base, config, rng, near=near)
    known_upto, known_late = (0, None) if base is None else (base.trained_upto, base.late)
    new = unlearned(positives, known_upto, known_late)
    targets = choose(
        positives, new, config.replay, config.replay_kind, order_free=config.order_free
    )
    optimiser = torch.optim.Adam(encoder.parameters(), lr=config.rate * targets.share_new**0.5)
    carry_moments(optimiser, encoder, base)
    encoder.log_temperature.requires_grad_(config.temperature_learned)
    encoder.log_contrast.requires_grad_(config.contrastive_temperature_learned)
    for weights in (encoder.log_weights, encoder.log_gaps):
        weights.requires_grad_(not config.order_free)
    calibration = None if previous is None else calibrate(positives, previous, given, config, seed)
    course = _Course(
        data=positives,
        targets=targets,
        starts=positives.indptr[:-1].repeat(np.diff(positives.indptr)),
        known=np.unique(positives.item).astype(np.int64),
        config=config,
        epochs=config.first_epochs if base is None else config.epochs,
        new=new,
        memory=None if base is None else _memory(encoder, positives, new, config),
        passed=passed_over(data) if config.negative_weight else None,
        trend=_trend(positives, config),
        objective=Objective(encoder, config, rng),
    )
    losses = _learn(encoder, optimiser, course, rng)
    if anew and previous is not None:
        turn_back(encoder, optimiser, course.known, previous)
    state, alignment = finish(
        encoder, optimiser, data, given, previous, base=base, rng=rng, config=config
    )
    state = with_arrivals(state, positives, given, calibration, config)
    report = Report(
        fresh=len(targets.fresh),
        replayed=targets.replayed,
        steps=sum(len(epoch) for epoch in losses),
        first_loss=float(np.mean(losses[0])) if losses[0] else None,
        last_loss=float(np.mean(losses[-1])) if losses[-1] else None,
        alignment=alignment,
        turn=None if previous is None else since(previous, state),
        terms=terms_of(state.calibration, config),
    )
    return FineTuned(state, report)


def _learn(
    encoder: Encoder,
    optimiser: torch.optim.Adam,
    course: _Course,
    rng: np.random.Generator,
) -> list[list[float]]:
    """Run all epochs; losses by epoch and step."""
    losses: list[list[float]] = []
    size = _batch(len(course.targets), course.config.batch)
    steps = -(-len(course.targets) // size) * course.epochs
    final = course.config.final_rate
    schedule = LinearLR(optimiser, 1.0, final, total_iters=max(steps - 1, 1))
    for _ in range(course.epochs):
        losses.append([])
        for rows in _batches(course.targets.draw(rng), size, rng):
            optimiser.zero_grad(set_to_none=True)
            loss = _loss(encoder, course, rows, rng)
            if not torch.isfinite(loss):
                raise TrainingFailed(
                    f"loss is {loss.item()} after {sum(map(len, losses))} steps: lower the"
                    " learning rate or look for extreme weights in the events"
                )
            torch.autograd.backward([loss])
            optimiser.step()
            schedule.step()
            encoder.bound_temperature()
            losses[-1].append(loss.item())
    return losses


def _loss(
    encoder: Encoder, course: _Course, rows: NDArray[np.int64], rng: np.random.Generator
) -> Tensor:
    data, config = course.data, course.config
    if config.order_free:
        history = others(data, rows, config.context)
        gap = np.zeros(history.shape, np.int64)
    else:
        history, time_us = contexts(data, course.starts, rows, config.context)
        gap = buckets(time_us, history >= 0)
    history[rng.random(history.shape, np.float32) < config.context_dropout] = -1
    target, negatives = data.item[rows], _negatives(course.known, config.negatives, rng)
    passed, counts = _passed(course, rows)
    # What is remembered is held against all items.
    whole = course.memory is not None
    part = ALL if whole else part_of(data.items, history, target, negatives, passed)
    seen, ago = part.local(history), torch.from_numpy(gap)
    encoder.couple()
    items = encoder.items(ids=part.ids)
    users = encoder.users(items, seen, ago)
    loss = softmax_loss(
        users,
        items,
        target=part.local(target),
        negatives=part.local(negatives),
        weight=torch.from_numpy(data.weight[rows]),
        temperature=encoder.temperature,
        passed=(part.local(passed), torch.from_numpy(counts)) if passed.size else None,
        added=_added(course, rows, negatives, passed),
    )
    memory = course.memory
    if memory is not None and config.anchor_weight:
        loss = loss + config.anchor_weight * anchor_loss(items, memory)
    if memory is not None and config.distillation_weight:
        loss = loss + config.distillation_weight * distillation_loss(
            users,
            items,
            memory,
            history=seen,
            gap=ago,
            among=part.local(negatives),
            replayed=torch.from_numpy(~course.new[rows]),
            temperature=encoder.temperature,
        )
    return loss + course.objective.terms(torch.from_numpy(np.unique(target).astype(np.int64)))


def _added(
    course: _Course,
    rows: NDArray[np.int64],
    negatives: NDArray[np.int64],
    passed: NDArray[np.int32],
) -> Tensor | None:
    """What popularity added to the scores of all that is told apart, as the events came."""
    if course.trend is None:
        return None
    own = np.concatenate([course.data.item[rows][:, None], passed], axis=1)
    each, shared = course.trend.of(rows, own), course.trend.of(rows, negatives)
    return torch.from_numpy(np.concatenate([each[:, :1], shared, each[:, 1:]], axis=1))


def _trend(data: Interactions, config: ModelConfig) -> Trend | None:
    """The configured term, not what the stream made of it: what is learned leaves no mark there."""
    weight = config.popularity_weight
    if not (config.popularity_learned and weight) or config.order_free:
        return None
    return trend(
        data,
        weight=weight,
        half_life=config.popularity_half_life,
        floor=config.popularity_floor,
    )


def _passed(
    course: _Course, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Items passed over before each row, and how often each counts; empty where that is off."""
    if course.passed is None:
        return np.zeros((len(rows), 0), np.int32), np.zeros((len(rows), 0), np.float32)
    config = course.config
    item, weight = course.passed.before(rows, config.negative_count)
    return item, config.negative_weight * weight / course.data.weight[rows][:, None]


def _memory(
    encoder: Encoder, data: Interactions, new: NDArray[np.bool_], config: ModelConfig
) -> Memory | None:
    """What the last version knew, where something is to hold on to it."""
    if not (config.anchor_weight or config.distillation_weight):
        return None
    return remember(encoder, np.bincount(data.item[~new], minlength=data.items))


def _batch(rows: int, least: int) -> int:
    """Events a step: more where there are many, so that a long history is a matter of minutes."""
    return min(max(least, rows // STEPS), MOST * least)


def _batches(
    rows: NDArray[np.int64], size: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    order = rng.permutation(rows)
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _negatives(known: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    if len(known) <= count:
        return known
    return rng.choice(known, count, replace=False)


def _check(
    data: Interactions,
    features: Mapping[str, Features],
    previous: ModelState | None,
    config: ModelConfig,
) -> None:
    for name, given in features.items():
        if name not in MODALITIES:
            raise InvalidInput(f"modalities are {', '.join(MODALITIES)}, got {name}")
        if len(given.present) != data.items:
            raise InvalidInput(f"{name} names {len(given.present)} items, events {data.items}")
    if previous is None:
        return
    was = (previous.dim, previous.recency.length, previous.recency.groups)
    now = (config.dim, config.context, len(config.half_lives))
    if was != now:
        raise InvalidInput(
            f"the previous version has (d, L, H) = {was}, the configuration {now}: start anew to"
            " change them"
        )
    if len(previous.items) > data.items:
        raise InvalidInput(
            f"the previous version knows {len(previous.items)} items, the events {data.items}:"
            " a vocabulary only grows"
        )
