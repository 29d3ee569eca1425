"""The energy of a path and its gradient."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.checks import require_floating
from geodesic.errors import InputError
from geodesic.geometry.checks import admit_path, guarded
from geodesic.geometry.history import with_right_history
from geodesic.geometry.manifold import Manifold

__all__ = ["constant", "energy_and_gradient", "energy_gradient", "path_energy", "require_path"]


@guarded(differentiable=True)
def path_energy(manifold: Manifold, path: Tensor) -> Float[Tensor, "*batch"]:
    """Energy E = (T/2) sum_i |x_{i+1} - x_i|^2 of discrete paths.

    2 E is at least the square of the sum of the chords, with equality where all chords are equally long.

    Reference:
        H. Shao, A. Kumar, P. T. Fletcher, The Riemannian Geometry of Deep Generative Models, 2017.

    Args:
        manifold: Gives the squared chords.
        path: Nodes, (*batch, T + 1, d).

    Returns:
        The energies, (*batch,), in squared units of the output space.

    Raises:
        InputError: The path has no segment.
        DecoderError: A gradient is asked for that reverse mode cannot give: at once where the path requires it, from
            `backward` where parameters of the decoder do.

    Example:
        >>> import torch, geodesic
        >>> plane = geodesic.PullbackManifold(lambda z: z)
        >>> geodesic.path_energy(plane, geodesic.straight_path(torch.zeros(2), torch.tensor([3.0, 4.0]), 2))
        tensor(12.5000)
    """
    require_path(path)
    admit_path(manifold, path)
    T = path.shape[-2] - 1
    energy = T / 2 * manifold.squared_chords(path).sum(-1)
    return with_right_history(manifold, path, energy, "path_energy", twice=False)


@guarded
def energy_gradient(manifold: Manifold, path: Tensor) -> Float[Tensor, "*batch interior d"]:
    """Gradient of the energy in the interior nodes: a sum of vector-Jacobian products.

    dE/dz_i = -T J_i^T (x_{i+1} - 2 x_i + x_{i-1})

    One backward call serves all nodes of all paths: each output has its own second difference as cotangent, and
    because the embedding is row-wise nothing else arrives at z_i.

    Args:
        manifold: Gives the squared chords.
        path: Nodes, (*batch, T + 1, d).

    Returns:
        The gradients, (*batch, T - 1, d). The ends are fixed and have none. Without history.

    Raises:
        InputError: The path has no interior node.

    Example:
        >>> import torch, geodesic
        >>> plane = geodesic.PullbackManifold(lambda z: z)
        >>> geodesic.energy_gradient(plane, torch.tensor([[0.0], [0.0], [1.0]]))
        tensor([[-2.]])
    """
    require_path(path, interior=True)
    admit_path(manifold, path)
    return energy_and_gradient(manifold, path)[1]


def energy_and_gradient(
    manifold: Manifold, path: Tensor, weights: Float[Tensor, "*batch T"] | None = None
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch interior d"]]:
    """`path_energy` and `energy_gradient` for the price of the latter; with weights, for nodes at any times.

    E = (T/2) sum_i w_i |x_{i+1} - x_i|^2   with w_i = 1 / (T h_i) for a segment that takes a time h_i of 1
    """
    require_path(path, interior=True)
    T = path.shape[-2] - 1
    squared_chords, pull = manifold.chords_and_pullback(path, weights)
    return T / 2 * squared_chords.sum(-1), T * pull()


def constant(path: Float[Tensor, "*batch nodes d"]) -> Bool[Tensor, "*batch"]:
    """Which paths stay where they are."""
    return (path == path[..., :1, :]).flatten(-2).all(-1)


def require_path(path: Tensor, interior: bool = False) -> None:
    """Refuse what is no path of at least one segment, or no path with an interior node."""
    require_floating("path", path)
    least = 3 if interior else 2
    if path.dim() < 2 or path.shape[-2] < least:
        raise InputError(
            f"path: expected nodes of shape (*batch, T + 1, d) with T >= {least - 1}, got {tuple(path.shape)}"
        )
