"""How much an impression that was passed over says, in three bits beside its kind.

What was shown further down was looked at less often; what was shown by a rare draw speaks for many
that were not. With position k from 0 and propensity p an impression counts (1 / (1 + k)) / p times,
an absent one of the two left out, clipped to [1/8, 8] and rounded to a power of two. The clip keeps
one event of a tiny propensity from outweighing all others.

References
----------
Joachims, Swaminathan, Schnabel: Unbiased Learning-to-Rank with Biased Feedback, WSDM 2017.
"""

import numpy as np
from numpy.typing import NDArray

from stream.batch import Details, Kind
from stream.edges import EXPOSURE

_SHIFT = 3
_EVEN = 4
FACTORS: NDArray[np.float32] = np.array([1, *np.exp2(np.arange(1, 8) - _EVEN)], np.float32)
"""What each level counts, float32[8]; level 0 is one of which nothing is known."""


def levels(position: NDArray[np.int32], propensity: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Level of each impression, uint8[n], 0 to 7.

    Parameters
    ----------
    position : int32[n]
        -1 for none.
    propensity : float64[n]
        In (0, 1]; NaN for none.
    """
    placed, drawn = position >= 0, np.isfinite(propensity)
    doubled = -np.log2(np.where(drawn, propensity, 1.0)) - np.log2(1.0 + np.maximum(position, 0))
    level = np.clip(np.rint(doubled) + _EVEN, 1, len(FACTORS) - 1)
    return np.where(placed | drawn, level, 0).astype(np.uint8)


def exposed(
    kind: NDArray[np.uint8], details: Details | None, rows: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Stored kinds with the levels of the impressions among them, uint8[n].

    Parameters
    ----------
    kind : uint8[n]
        Stored kinds of events that are ``rows`` of the details.
    """
    shown = np.flatnonzero(kind == Kind.IMPRESSION)
    if details is None or not len(shown):
        return kind
    found = levels(details.position[rows[shown]], details.propensity[rows[shown]])
    if not found.any():
        return kind
    out = kind.copy()
    out[shown] |= found << np.uint8(_SHIFT)
    return out


def factors(kind: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What edges of these stored kinds count times for their exposure, float32[n]: 1 but for
    impressions."""
    level = (kind & np.uint8(EXPOSURE)) >> np.uint8(_SHIFT)
    shown = (kind & np.uint8(Kind.IMPRESSION)) == Kind.IMPRESSION
    counted: NDArray[np.float32] = FACTORS[np.where(shown, level, 0)]
    return counted
