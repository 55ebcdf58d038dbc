"""What beside data, configuration and seed decides the bits of what is learned."""

import platform

import numpy as np
import torch


def circumstances() -> dict[str, str]:
    """Device, threads, kinds of instruction and versions of what computes, as of this call.

    Equal circumstances, data, configuration and seed give a version that is equal to the bit; with
    other threads or other instructions sums are taken in another order, and the last bits may
    differ.
    """
    return {
        "device": "cpu",
        "threads": str(torch.get_num_threads()),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
