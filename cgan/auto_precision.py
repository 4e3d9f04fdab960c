"""Chooses the precision for trainer.precision=auto by hardware, so that all processes and reruns agree."""

from typing import Literal

from cgan.machine import cpu_has_bfloat16

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def chosen_precision(precision: Literal["auto"] | Precision) -> Precision:
    """Returns what auto means: bf16-mixed if the GPU, or without one the CPU, supports bfloat16, otherwise 32-true.

    Anything but auto is returned as it is.
    """
    if precision != "auto":
        return precision
    import torch

    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)  # older GPUs emulate it, slowly
    else:
        fast = cpu_has_bfloat16()
    return "bf16-mixed" if fast else "32-true"
