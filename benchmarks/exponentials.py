"""A Triton kernel of nothing but exponentials, for `gpu.py`: imported where there is Triton."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    given: TypeAlias = Any
    constexpr: TypeAlias = int
    triton: Any = None
    tl: Any = None
else:
    # `make bench` starts every file here; without Triton there is nothing in this one.
    try:
        triton, tl = import_module("triton"), import_module("triton.language")
        given, constexpr = tl.tensor, tl.constexpr
    except ImportError:
        triton = tl = given = constexpr = None


def chain(out: given, ROUNDS: constexpr, SIDE: constexpr) -> None:
    """``ROUNDS`` exponentials, each of the one before, for ``SIDE`` entries a program."""
    at = tl.program_id(0) * SIDE + tl.arange(0, SIDE)
    value = at.to(tl.float32) * -1e-9
    for _ in range(ROUNDS):
        value = tl.exp2(-value)
    tl.store(out + at, value)


compiled: Any = None if triton is None else triton.jit(chain)
