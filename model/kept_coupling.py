"""A transport coupling as it is kept between rounds: potentials, marginals, and how they were got.

Arrays alone: who serves a version reads it without the library that learns.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from model.errors import InvalidInput, VersionCorrupt

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

_ARRAYS = ("source_ids", "target_ids", "source", "target", "source_mass", "target_mass")
_BEFORE = ("source_before", "target_before")
_SCALARS = ("epsilon", "spread", "contraction", "error")


@dataclass(frozen=True, slots=True)
class WarmStart:
    """A coupling as it is kept.

    Attributes
    ----------
    source_ids, target_ids : int64[n], int64[m]
        What the rows and columns were.
    source, target : float64[n], float64[m]
        f and g against the product measure, in units of the cost; gauge: the mean of g is 0.
    source_mass, target_mass : float64[n], float64[m]
        The marginals a and b.
    source_before, target_before : float64[n], float64[m]
        f and g as they were started from; NaN where there was nothing.
    epsilon, spread : float
        Regularisation, and the cost's scale (deviation of the double-centred cost), in its units.
    contraction : float
        η of a plain pair of half-steps; 0 when not seen.
    error : float
        Marginal error reached, L1.
    """

    source_ids: Ids
    target_ids: Ids
    source: Floats
    target: Floats
    source_mass: Floats
    target_mass: Floats
    source_before: Floats
    target_before: Floats
    epsilon: float
    spread: float
    contraction: float
    error: float

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Everything, as arrays by name; `from_arrays` reads them."""
        held = {name: getattr(self, name) for name in (*_ARRAYS, *_BEFORE)}
        return held | {"scales": np.array([getattr(self, name) for name in _SCALARS])}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> "WarmStart":
        """Read what `arrays` gave.

        Raises
        ------
        InvalidInput
            An array is missing, or they do not fit each other.
        """
        missing = {*_ARRAYS, *_BEFORE, "scales"} - arrays.keys()
        if missing:
            raise InvalidInput(f"a kept coupling without {', '.join(sorted(missing))}")
        read = {name: np.asarray(arrays[name], np.float64) for name in (*_ARRAYS[2:], *_BEFORE)}
        ids = {name: np.asarray(arrays[name], np.int64) for name in _ARRAYS[:2]}
        for name, array in read.items():
            if len(array) != len(ids["source_ids" if name.startswith("source") else "target_ids"]):
                raise InvalidInput(f"a kept coupling's {name} has not one entry an id")
        epsilon, spread, contraction, error = (
            float(x) for x in np.asarray(arrays["scales"], float)
        )
        return cls(
            source_ids=ids["source_ids"],
            target_ids=ids["target_ids"],
            source=read["source"],
            target=read["target"],
            source_mass=read["source_mass"],
            target_mass=read["target_mass"],
            source_before=read["source_before"],
            target_before=read["target_before"],
            epsilon=epsilon,
            spread=spread,
            contraction=contraction,
            error=error,
        )

    def moved(self) -> tuple[Floats, Floats]:
        """|f − f before|/ε and |g − g before|/ε: where the spaces drifted; NaN for newcomers."""
        return (
            np.abs(self.source - self.source_before) / self.epsilon,
            np.abs(self.target - self.target_before) / self.epsilon,
        )

    def save(self, path: Path) -> None:
        """Write PATH.safetensors, and PATH.json for a reader without tensors."""
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays().items()}
        path.with_suffix(".safetensors").write_bytes(save_tensors(arrays))
        head = {name: getattr(self, name) for name in _SCALARS}
        head |= {"sources": len(self.source), "targets": len(self.target)}
        path.with_suffix(".json").write_text(json.dumps(head, indent=1))

    @classmethod
    def load(cls, path: Path) -> "WarmStart":
        """Read PATH.safetensors.

        Raises
        ------
        VersionCorrupt
            The file is missing or not a kept coupling.
        """
        try:
            return cls.from_arrays(load_tensors(path.with_suffix(".safetensors").read_bytes()))
        except (OSError, ValueError, SafetensorError, InvalidInput) as error:
            raise VersionCorrupt(f"{path} is not a kept coupling: {error}") from error
