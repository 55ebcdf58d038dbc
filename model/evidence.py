"""What is known of alternatives that were tried on one stream: gains over the first of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.terms import Terms

_OF = ("popularity", "novelty", "warm")


@dataclass(frozen=True, slots=True)
class Evidence:
    """Sums over questions that all alternatives answered, the older ones for less.

    Attributes
    ----------
    tried : float64[n, k]
        The alternatives; the first is the default.
    questions : float
    gain, square : float64[n]
        Sum of each alternative's gain over the default, and of its square.
    """

    tried: NDArray[np.float64]
    questions: float
    gain: NDArray[np.float64]
    square: NDArray[np.float64]

    def more(self, gains: NDArray[np.float64], memory: float) -> "Evidence":
        """Take in new questions, and let what was known fade.

        Parameters
        ----------
        gains : float64[q, n]
        memory : float
            Questions after which a question has halved.
        """
        kept = 0.5 ** (len(gains) / memory)
        return Evidence(
            self.tried,
            kept * self.questions + len(gains),
            kept * self.gain + gains.sum(0),
            kept * self.square + (gains**2).sum(0),
        )

    @property
    def surest(self) -> NDArray[np.float64]:
        """The alternative with the highest mean gain less one standard error, float64[k].

        That is 0 for the default; the first of equals, and so the default where nothing is surely
        better.
        """
        found: NDArray[np.float64] = self.tried[int(np.argmax(self.mean - self.error))]
        return found

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean gain over the default, float64[n]."""
        mean: NDArray[np.float64] = self.gain / max(self.questions, 1.0)
        return mean

    @property
    def error(self) -> NDArray[np.float64]:
        """Standard error of each mean, √((Σ gain² / q − mean²) / q), float64[n]."""
        q = max(self.questions, 1.0)
        error: NDArray[np.float64] = np.sqrt(np.maximum(self.square / q - self.mean**2, 0.0) / q)
        return error


def nothing(tried: NDArray[np.float64]) -> Evidence:
    """No evidence for any of these, float64[n, k]."""
    return Evidence(tried, 0.0, np.zeros(len(tried)), np.zeros(len(tried)))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Terms of the score and what they rest on.

    Attributes
    ----------
    terms : Terms
    popularity : Evidence
        On pairs of weight and half-life.
    novelty : Evidence
        On biases, under the popularity that was served at the time; the first hides what is new.
    warm : Evidence
        On the same biases, by the questions of learned items alone: parts of what they have under
        the first.
    """

    terms: Terms
    popularity: Evidence
    novelty: Evidence
    warm: Evidence

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """As named arrays, from which `from_arrays` builds an equal object."""
        terms = self.terms
        out = {"terms": np.array([terms.weight, terms.half_life, terms.bias])}
        for name, of in zip(_OF, (self.popularity, self.novelty, self.warm), strict=True):
            out[f"{name}/questions"] = np.array([of.questions])
            out |= {f"{name}/tried": of.tried, f"{name}/gain": of.gain, f"{name}/square": of.square}
        return out

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "Calibration":
        """Build the object whose `arrays` these are."""
        popularity, novelty, warm = (
            Evidence(
                arrays[f"{name}/tried"],
                float(arrays[f"{name}/questions"][0]),
                arrays[f"{name}/gain"],
                arrays[f"{name}/square"],
            )
            for name in _OF
        )
        return cls(Terms(*arrays["terms"].tolist()), popularity, novelty, warm)
