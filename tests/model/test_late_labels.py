"""A conversion that comes late: its click is learned once more, under its new weight."""

from dataclasses import replace

import numpy as np
import pytest

from model.config import ModelConfig
from model.data import Interactions, interactions
from model.errors import InvalidInput
from model.trainer import finetune

CONFIG = ModelConfig(dim=4, context=4, half_lives=(4,), batch=16, first_epochs=1, replay=0)


def stream(events: int, converted: tuple[int, ...]) -> Interactions:
    data = interactions(np.arange(events) % 3, np.arange(events), items=60, users=3)
    late = np.isin(data.sequence, converted)
    return replace(data, late=late, weight=np.where(late, 3, 1).astype(np.float32))


def test_a_corrected_event_is_learned_again_once() -> None:
    first = finetune(stream(30, (6,)), config=CONFIG, seed=1)
    assert first.state.late is not None
    assert first.state.late.tolist() == [6]
    # Two clicks converted since; of a user's first event nothing can be learned.
    told = stream(30, (6, 9, 14, 1))
    second = finetune(told, previous=first.state, config=CONFIG, seed=1)
    assert second.report.fresh == 2
    assert second.report.steps > 0
    third = finetune(told, previous=second.state, config=CONFIG, seed=1)
    assert third.report.fresh == third.report.steps == 0
    more = finetune(stream(33, (6, 9, 14, 1, 31)), previous=third.state, config=CONFIG, seed=1)
    assert more.report.fresh == 3


def test_a_version_that_knows_of_no_labels_corrects_none() -> None:
    plain = interactions(np.arange(30) % 3, np.arange(30), items=60, users=3)
    first = finetune(plain, config=CONFIG, seed=1).state
    assert first.late is None
    assert finetune(stream(30, (6,)), previous=first, config=CONFIG, seed=1).report.fresh == 0


def test_there_is_a_label_for_each_event() -> None:
    with pytest.raises(InvalidInput, match="late has 1 entries for 30 events"):
        replace(stream(30, ()), late=np.ones(1, np.bool_))
