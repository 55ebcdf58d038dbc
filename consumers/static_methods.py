"""What a fixed split adds to the methods of the comparison on streams."""

import numpy as np

from consumers.dataset import Dataset
from consumers.methods import Floats, Question, Setting
from model.ridge import ridge_scores, ridge_weights

PENALTY = 100.0
"""λ of the companions, where a setting names none."""


class Counted:
    """Log of how many users had each item, the same for everybody."""

    def __init__(self, setting: Setting, seed: int) -> None:
        self._scores: Floats = np.zeros(0, np.float32)

    def learn(self, data: Dataset, upto: int) -> None:
        count = np.bincount(data.item[:upto], minlength=data.items)
        self._scores = np.log1p(count).astype(np.float32)

    def scores(self, question: Question) -> Floats:
        return np.broadcast_to(self._scores, (len(question.event), len(self._scores)))


class Companions:
    """Closed-form weights of items for items (`model.ridge`), a user by all that it had."""

    def __init__(self, setting: Setting, seed: int) -> None:
        self._penalty = setting.get("penalty", PENALTY)
        self._weights: Floats = np.zeros((0, 0), np.float32)

    def learn(self, data: Dataset, upto: int) -> None:
        self._weights = ridge_weights(data.upto(upto), penalty=self._penalty)

    def scores(self, question: Question) -> Floats:
        indptr, had = question.past.before(question.event, question.held_back)
        return ridge_scores(self._weights, indptr, had)
