"""The kernel for GPUs, run by Triton's interpreter, compiled without a GPU, and its host's side."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from model import fused, kernels
from model.costs import Bilinear, cosine, l2, squared_l2

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="this torch has no CUDA, and so brings no Triton"
)

INTERPRETED = """
import json
import torch
from model import fused, kernels
from model.costs import Bilinear, cosine, squared_l2
from model.transport import by_stream, pose, solve

made = torch.Generator().manual_seed(0)
off = []
for n, m, k, make, epsilon in ((70, 130, 8, squared_l2, 0.5), (65, 64, 70, cosine, 0.05)):
    x, y = (torch.randn(size, k, generator=made) for size in (n, m))
    weights = 30.0 + 3.0 * torch.randn(m, generator=made).double()
    exact = kernels.soft_rows(make(x.double(), y.double()), weights, epsilon)
    found = fused.soft_rows(make(x, y), weights, epsilon)
    off.append(float((found - exact).abs().max() / exact.abs().max()))
reference = solve(pose(cosine(x.double(), y.double())), solver=by_stream)
fused.serves = lambda cost: isinstance(cost, Bilinear)
coupling = solve(pose(cosine(x, y)), solver=by_stream)
off.append(abs(coupling.dual / reference.dual - 1))
print(json.dumps({"off": off, "converged": coupling.converged}))
"""


@needs_triton
def test_interpreted_it_is_float64_to_float32s_precision() -> None:
    # The flag has to be there before Triton is imported: a process of its own.
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", INTERPRETED],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        cwd=Path(__file__).resolve().parents[2],
        check=True,
        capture_output=True,
        text=True,
    )
    said = json.loads(found.stdout.splitlines()[-1])
    assert said["converged"]
    assert max(said["off"]) < 2e-6, said


@needs_triton
def test_it_compiles_for_the_tensor_cores_of_two_generations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from triton import compile as compiled
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from model import fused_kernel

    names = ["left", "right", "weights", "top", "total", "n", "m", "k"]
    kinds = ["*fp32"] * 4 + ["*fp64"] + ["i32"] * 3
    fixed = {"ROWS": 64, "COLUMNS": 64, "DEPTH": 64, "PRECISION": fused.PRECISION}
    signature = dict(zip(names, kinds, strict=True)) | dict.fromkeys(fixed, "constexpr")
    source: Any = ASTSource(fused_kernel.compiled, signature, fixed)
    for generation, products in ((80, "mma.sync"), (90, "wgmma.mma_async")):
        made = compiled(
            source, GPUTarget("cuda", generation, 32), options={"enable_fp_fusion": True}
        )
        assert products in made.asm["ptx"]
        assert "ex2.approx" in made.asm["ptx"]
        assert made.asm["cubin"]


def rehearsed(grid: tuple[int]) -> Any:
    """What the kernel computes, in torch."""

    def run(*given: Any, **rest: Any) -> None:
        left, right, weights, top, total = given[:5]
        assert grid[0] * rest["ROWS"] >= len(left)
        assert rest["DEPTH"] >= 16
        exponent = left @ right.T + weights
        top[:] = exponent.max(1).values
        total[:] = (exponent - top[:, None]).double().exp2().sum(1)

    return run


class Rehearsal:
    def __getitem__(self, grid: tuple[int]) -> Any:
        return rehearsed(grid)


def test_units_and_levels_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model.fused_kernel", SimpleNamespace(compiled=Rehearsal()))
    made = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, 5, generator=made) for n in (70, 50))
    weights = 1e4 + torch.randn(50, generator=made).double()
    expected = kernels.soft_rows(squared_l2(x.double(), y.double()), weights, 0.5)
    found = fused.soft_rows(squared_l2(x, y), weights, 0.5)
    torch.testing.assert_close(found - 1e4, expected - 1e4, rtol=1e-5, atol=1e-5)


def test_only_points_in_float32_on_cuda_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    assert not fused.serves(cosine(x, x))
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    assert fused.serves(cosine(x, x)) == (find_spec("triton") is not None)
    assert not fused.serves(l2(x, x))
    assert not fused.serves(cosine(x.double(), x.double()))


def test_the_on_the_fly_path_takes_it_where_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    taken: list[Bilinear] = []

    def answer(cost: Bilinear, log_weights: Tensor, epsilon: float) -> Tensor:
        taken.append(cost)
        return log_weights * epsilon

    monkeypatch.setattr(fused, "serves", lambda _: True)
    monkeypatch.setattr(fused, "soft_rows", answer)
    weights = torch.ones(9, dtype=torch.float64)
    cost = cosine(x, x)
    torch.testing.assert_close(kernels.soft_rows(cost, weights, 0.5), weights / 2)
    assert taken == [cost]
