"""What the contrastive loss proves about the distance of two spaces. Proofs: docs/theory.md."""

import math

from model.errors import InvalidInput


def gap_bound(loss: float, batch: int, temperature: float) -> float:
    """Upper bound on the mean of t_i = ‖a_i − b_i‖² over rows of length 1.

    t <= 4 + 2τ·log((e^L − 1)/(B − 1)), cut to [0, 4], where t cannot but lie.

    Parameters
    ----------
    loss : float
        L, `model.losses.contrastive_loss` of these rows, at least 0.
    batch : int
        B, rows that took part.
    temperature : float
        τ.

    Raises
    ------
    InvalidInput
        Fewer than two rows, or a temperature or loss that cannot be.
    """
    if batch < 2:
        raise InvalidInput(f"a bound needs at least 2 rows, got {batch}")
    if not temperature > 0:
        raise InvalidInput(f"the temperature is above 0, got {temperature}")
    if not loss >= 0:
        raise InvalidInput(f"the loss is at least 0, got {loss}")
    if loss == 0:
        return 0.0
    # log(e^L − 1) = L + log(1 − e^−L), which neither overflows nor cancels.
    excess = loss + math.log(-math.expm1(-loss)) - math.log(batch - 1)
    return min(max(4.0 + 2.0 * temperature * excess, 0.0), 4.0)
