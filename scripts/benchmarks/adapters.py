"""From a trained model of another library to certified geodesics: lines, seconds, and whether they are certified.

Models are trained here, on one thread: scVI at its defaults on cells along two branches, a VAE of pythae and a small
`AutoencoderKL` of diffusers on the digits of scikit-learn. Run it where these are installed, by
`.venv-adapters/bin/python -m scripts.benchmarks adapters`, which `make adapters` makes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

import geodesic
from geodesic.installation import require
from scripts.benchmarks.options import make_parser, positive
from scripts.benchmarks.own import lines_of
from scripts.benchmarks.records import versions_line
from scripts.benchmarks.tables import counts, rows_table
from tests.adapters.cells import branching

SEED = 0  # of weights and data
BLOCKS = {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}

# --- what a user writes, beside imports: from the first rows of data to the next ---------------


def scvi(model: Any, pairs: int) -> Any:
    z = model.get_latent_representation()
    manifold = geodesic.adapters.from_scvi(model, batch="anna").manifold()
    return geodesic.solve(manifold, z[:pairs], z[pairs : 2 * pairs])


def pythae(model: Any, x: Tensor, pairs: int) -> Any:
    z = model.encoder(x[: 2 * pairs]).embedding.detach()
    manifold = geodesic.adapters.from_pythae(model).manifold()
    return geodesic.solve(manifold, z[:pairs], z[pairs:])


def diffusers(model: Any, x: Tensor, pairs: int) -> Any:
    z = model.encode(x[: 2 * pairs]).latent_dist.mode().detach()
    manifold = geodesic.adapters.from_diffusers(model).manifold()
    return geodesic.solve(manifold, z[:pairs], z[pairs:])


# --- models, trained ----------------------------------------------------------------------------


def trained_scvi(steps: int) -> tuple[Any, ...]:
    """A model of scvi-tools at its defaults, on 500 cells with 200 genes."""
    require("scvi", "scvi")
    from scvi.model import SCVI

    adata = branching(500, 200)
    SCVI.setup_anndata(adata, batch_key="donor")
    model = SCVI(adata)
    model.train(max_epochs=steps, accelerator="cpu", enable_progress_bar=False, logger=False)
    return (model,)


def trained_pythae(steps: int) -> tuple[Any, ...]:
    """A VAE of pythae at its defaults, 10 latent coordinates, on digits of 8 x 8 pixels."""
    require("pythae", "pythae")
    from pythae.models import VAE, VAEConfig

    x = digits()
    model = VAE(VAEConfig(input_dim=(1, 8, 8), latent_dim=10, reconstruction_loss="bce"))
    trained(model, steps, lambda rows: model({"data": x[rows]}).loss, len(x))
    return model, x


def trained_diffusers(steps: int) -> tuple[Any, ...]:
    """An `AutoencoderKL` with latent images (4, 8, 8), on digits of 32 x 32 pixels."""
    require("diffusers", "diffusers")
    from diffusers import AutoencoderKL

    x = torch.nn.functional.interpolate(digits(), 32, mode="bilinear").expand(-1, 3, -1, -1) * 2 - 1
    model = AutoencoderKL(**BLOCKS, block_out_channels=[8, 16, 16], norm_num_groups=4, sample_size=32)

    def loss(rows: Tensor) -> Tensor:
        posterior = model.encode(x[rows]).latent_dist
        error = (model.decode(posterior.sample()).sample - x[rows]).square().mean()
        total: Tensor = error + 1e-6 * posterior.kl().mean()
        return total

    trained(model, steps, loss, len(x), batch=16)
    return model, x


def digits() -> Tensor:
    """The digits of scikit-learn, (1797, 1, 8, 8), in [0, 1], in random order."""
    from sklearn.datasets import load_digits

    images = load_digits().images[np.random.default_rng(SEED).permutation(1797)]
    return torch.tensor(images / 16, dtype=torch.float32)[:, None]


def trained(model: torch.nn.Module, steps: int, loss: Callable[[Tensor], Tensor], count: int, batch: int = 64) -> None:
    """Steps of Adam on a loss of rows drawn at random."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(torch.randint(count, (batch,))).backward()
        optimizer.step()


MODELS: dict[str, tuple[Callable[..., Any], Callable[[int], tuple[Any, ...]], int]] = {
    "scvi": (scvi, trained_scvi, 400),
    "pythae": (pythae, trained_pythae, 1000),
    "diffusers": (diffusers, trained_diffusers, 300),
}


def made(name: str, steps: int | None = None) -> tuple[Any, ...]:
    """What the recipe of a model takes: the model, trained, and data where it needs some."""
    _, train, usual = MODELS[name]
    torch.manual_seed(SEED)
    return train(usual if steps is None else steps)


def measure(recipe: Callable[..., Any], given: tuple[Any, ...], pairs: int) -> dict[str, str]:
    """One line of the table."""
    before = time.process_time()
    solution = recipe(*given, pairs)
    seconds = time.process_time() - before
    ratio = np.asarray(solution.length) / np.asarray(solution.straight_length)
    return {
        "latent": "x".join(map(str, solution.path.shape[2:])),
        "lines": str(lines_of(recipe)),
        "processor seconds": f"{seconds:.1f}",
        "converged": f"{int(solution.converged.sum())} of {pairs}",
        "resolved": f"{int(solution.resolved.sum())} of {pairs}",
        "length over straight": f"{np.median(ratio):.3f}",
        "ended": counts([geodesic.Status(int(s)).name.lower() for s in solution.status]),
        "in words": "; ".join(solution.summary().splitlines()[1:]),
    }


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, str]]:
    """Measure, print the table and return its rows."""
    parser = make_parser("adapters", __doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="MODEL")
    parser.add_argument("--pairs", nargs="+", type=positive, default=[1, 16], help="in one call")
    parser.add_argument("--steps", type=positive, help="of training, or epochs of scVI")
    parser.add_argument("--threads", type=positive, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    console = Console()
    console.print(versions_line(options.threads), highlight=False)
    geodesic.solve(geodesic.PullbackManifold(torch.nn.Linear(2, 3)), torch.zeros(2), torch.ones(2))
    rows = {}
    for name in options.models:
        given = made(name, options.steps)
        for pairs in options.pairs:
            rows[f"{name}, {pairs} pairs"] = row = measure(MODELS[name][0], given, pairs)
            console.print(rows_table("from a trained model to geodesics", "model", {f"{name}, {pairs} pairs": row}))
    return rows
