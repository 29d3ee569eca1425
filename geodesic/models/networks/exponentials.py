"""Activations made of exponentials, without what torch's own cost in single precision on some CPUs."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

__all__ = ["ELU", "Softplus"]

_MANY = 2**12  # entries from which on the detour pays


class ELU(nn.ELU):
    """max(x, 0) + min(exp(x) - 1, 0), as `torch.nn.ELU` has it.

    Where torch works with AVX-512 it takes exp(x) - 1 and log(1 + x) of single precision several times as slowly as of
    double. Of many entries they are taken in double there, outside of training: values differ by rounding alone.

    Example:
        >>> import torch
        >>> from geodesic.models.networks.exponentials import ELU
        >>> ELU()(torch.tensor([-1.0, 2.0]))
        tensor([-0.6321,  2.0000])
    """

    def forward(self, input: Tensor) -> Tensor:
        slow = not self.training and _is_slow(input)
        return super().forward(input.double()).to(input.dtype) if slow else super().forward(input)


class Softplus(nn.Softplus):
    """log(1 + exp(x)), as `torch.nn.Softplus` has it, and in double where `ELU` is.

    Example:
        >>> import torch
        >>> from geodesic.models.networks.exponentials import Softplus
        >>> Softplus()(torch.tensor([-1.0, 2.0]))
        tensor([0.3133, 2.1269])
    """

    def forward(self, input: Tensor) -> Tensor:
        slow = not self.training and _is_slow(input)
        return super().forward(input.double()).to(input.dtype) if slow else super().forward(input)


def _is_slow(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.is_cpu and x.numel() >= _MANY and _has_avx512()


@cache
def _has_avx512() -> bool:
    return torch.backends.cpu.get_cpu_capability() == "AVX512"
