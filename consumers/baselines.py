"""Other people's recommenders, to compare with; never imported by what serves.

EASE is `model.ridge` with all users counting alike; item-kNN, iALS and BPR-MF are the library
`implicit`'s. LightGCN is in `baseline_graph`.

References
----------
Steck: Embarrassingly Shallow Autoencoders, WWW 2019. Hu, Koren, Volinsky: Collaborative
Filtering for Implicit Feedback, ICDM 2008. Rendle et al.: BPR, UAI 2009.
"""

import warnings
from typing import Any, cast

import numpy as np
from implicit.als import AlternatingLeastSquares
from implicit.bpr import BayesianPersonalizedRanking
from implicit.nearest_neighbours import CosineRecommender
from implicit.utils import ParameterWarning
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from consumers.dataset import Dataset, Ints
from consumers.methods import Floats, Question, Setting
from model.data import interactions
from model.ridge import ridge_weights

FACTORS = 128
"""As many as our vectors have."""


def counted(user: Ints, item: Ints, shape: tuple[int, int]) -> Any:
    """Who had what, once each, as scipy CSR float32[U, I]."""
    ones = np.ones(len(user), np.float32)
    matrix: Any = sparse.csr_matrix((ones, (user, item)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def learned_from(data: Dataset, upto: int) -> Any:
    """The first events as `counted`."""
    return counted(data.user[:upto], data.item[:upto], (data.users, data.items))


def tastes(question: Question, items: int) -> Any:
    """What each event's user had before it, as scipy CSR float32[n, I]."""
    indptr, had = question.past.before(question.event, question.held_back)
    row = np.repeat(np.arange(len(question.event)), np.diff(indptr))
    return counted(row, had, (len(question.event), items))


class Ease:
    """EASE, solved anew each time; users by all that they had."""

    def __init__(self, setting: Setting, seed: int) -> None:
        self._penalty = setting["penalty"]
        self._weights: Floats = np.zeros((0, 0), np.float32)

    def learn(self, data: Dataset, upto: int) -> None:
        had = interactions(data.user[:upto], data.item[:upto], items=data.items, users=data.users)
        self._weights = ridge_weights(had, penalty=self._penalty, damping=0.0)

    def scores(self, question: Question) -> Floats:
        return np.asarray(tastes(question, len(self._weights)) @ self._weights, np.float32)


class ItemKNN:
    """Cosines of items by who had both, the nearest kept; users by all that they had."""

    def __init__(self, setting: Setting, seed: int) -> None:
        self._near = int(setting["neighbours"])
        self._similar: Any = None

    def learn(self, data: Dataset, upto: int) -> None:
        model: Any = CosineRecommender(K=self._near, num_threads=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ParameterWarning)  # the library converts its own
            model.fit(learned_from(data, upto), show_progress=False)
        self._similar = model.similarity.tocsr()

    def scores(self, question: Question) -> Floats:
        taste = tastes(question, self._similar.shape[0])
        return np.asarray((taste @ self._similar).toarray(), np.float32)


class IALS:
    """Weighted matrix factorisation, fitted anew; users folded in from all that they had."""

    def __init__(self, setting: Setting, seed: int) -> None:
        with threadpool_limits(1, "blas"):  # it has threads of its own, and warns of others
            self._model: Any = AlternatingLeastSquares(
                factors=FACTORS,
                regularization=setting["regularization"],
                alpha=setting["alpha"],
                iterations=15,
                num_threads=1,
                random_state=seed,
                use_gpu=False,
            )

    def learn(self, data: Dataset, upto: int) -> None:
        self._model.user_factors = self._model.item_factors = None  # from the beginning
        with threadpool_limits(1, "blas"):
            self._model.fit(learned_from(data, upto), show_progress=False)

    def scores(self, question: Question) -> Floats:
        items = cast(NDArray[np.float32], self._model.item_factors)
        had = tastes(question, len(items))
        users = self._model.recalculate_user(np.arange(len(question.event)), had)
        return np.asarray(users @ items.T, np.float32)


class BPR:
    """Matrix factorisation by pairs, fitted anew; a user is as of then."""

    def __init__(self, setting: Setting, seed: int) -> None:
        self._model: Any = BayesianPersonalizedRanking(
            factors=FACTORS - 1,
            learning_rate=setting["rate"],
            regularization=setting["regularization"],
            iterations=int(setting["epochs"]),
            num_threads=1,
            random_state=seed,
            use_gpu=False,
        )

    def learn(self, data: Dataset, upto: int) -> None:
        self._model.user_factors = self._model.item_factors = None  # from the beginning
        self._model.fit(learned_from(data, upto), show_progress=False)

    def scores(self, question: Question) -> Floats:
        items = cast(NDArray[np.float32], self._model.item_factors)
        users = cast(NDArray[np.float32], self._model.user_factors)
        return np.asarray(users[question.user] @ items.T, np.float32)
