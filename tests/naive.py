"""The energy gradient by the plainest means, as an oracle for the tests."""

from collections.abc import Callable

import torch
from torch import Tensor


def naive_energy_gradient(decoder: Callable[[Tensor], Tensor], path: Tensor) -> Tensor:
    """dE/dz_i of one path, point by point: three backward calls each through the one graph of the path.

    dE/dz_i = T (J_i^T 2 x_i - J_i^T x_{i-1} - J_i^T x_{i+1}),   x = g(z)

    Args:
        decoder: Row-wise function g, (N, d) to (N, ...).
        path: Nodes, (T + 1, d).

    Returns:
        The gradients at the interior nodes, (T - 1, d).
    """
    T = len(path) - 1
    z = path.detach().requires_grad_()
    x = decoder(z)
    fixed = x.detach()
    gradient = torch.zeros_like(path[1:-1])
    for i in range(1, T):
        for cotangent in (2 * fixed[i], -fixed[i - 1], -fixed[i + 1]):
            (product,) = torch.autograd.grad(x[i], z, T * cotangent, retain_graph=True)
            gradient[i - 1] += product[i]
    return gradient
