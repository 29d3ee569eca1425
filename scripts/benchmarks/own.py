"""From a module of the user's to the first certified solution: lines, seconds, and whether it is one.

Each recipe is what a user writes, beside imports, with default settings; its lines are counted in its source. Weights
are random, as their sizes are what costs. Seconds are those of the processor, of all threads together, from the module
to the solution, loading and looking at the decoder included, after one small solve, so that no import is timed.
"""

from __future__ import annotations

import ast
import inspect
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Independent

import geodesic
from scripts.benchmarks.heavy.networks import BatchNormConv
from scripts.benchmarks.options import make_parser, positive
from scripts.benchmarks.records import versions_line
from scripts.benchmarks.tables import counts, rows_table

SEED = 0  # of weights and pairs

# --- models of users --------------------------------------------------------------------------


class ExampleVAE(nn.Module):
    """The VAE of PyTorch's own examples, to the letter."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc21, self.fc22 = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.fc3, self.fc4 = nn.Linear(20, 400), nn.Linear(400, 784)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.relu(self.fc1(x))
        return self.fc21(h), self.fc22(h)

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.fc4(torch.relu(self.fc3(z))))


class Conditional(nn.Module):
    """A decoder of points and labels."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(20 + 10, 400), nn.ELU(), nn.Linear(400, 784), nn.Sigmoid())

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        x: Tensor = self.layers(torch.cat([z, nn.functional.one_hot(label, 10).to(z)], dim=1))
        return x


class Transformer(nn.Module):
    """A point as 16 tokens, two layers of torch's own attention, and the logits of 20 classes at each place."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.head = nn.Linear(8, 16 * 32), nn.Linear(32, 20)
        layer = nn.TransformerEncoderLayer(32, 4, 64, activation="gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2)

    def forward(self, z: Tensor) -> Tensor:
        x: Tensor = self.head(self.layers(self.tokens(z).reshape(-1, 16, 32)))
        return x


class Distributional(nn.Module):
    """A decoder that returns Bernoulli distributions of pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 400), nn.ELU(), nn.Linear(400, 784))

    def forward(self, z: Tensor) -> Independent:
        return Independent(Bernoulli(logits=self.layers(z).reshape(-1, 1, 28, 28)), 3)


def convolutional() -> nn.Module:
    """3 x 64 x 64 pictures of 32 coordinates, by transposed convolutions with batch normalization."""
    network = BatchNormConv().decoder(32, (3, 64, 64))
    network(torch.randn(256, 32))  # running statistics, as training leaves them
    return network


def exported(file: Path) -> None:
    """The decoder of a VAE as a program."""
    layers = nn.Sequential(nn.Linear(20, 400), nn.ELU(), nn.Linear(400, 784), nn.Sigmoid()).eval()
    rows = torch.export.Dim("rows", min=1, max=100_000)
    torch.export.save(torch.export.export(layers, (torch.zeros(3, 20),), dynamic_shapes=({0: rows},)), file)


# --- what users write -------------------------------------------------------------------------

Solution = geodesic.GeodesicSolution


def example_vae(folder: Path, start: Tensor, end: Tensor) -> Solution:
    vae = geodesic.load_weights(ExampleVAE(), folder / "vae0.pt")
    return geodesic.solve(geodesic.wrap(vae, output="probabilities").manifold(), start, end)


def conv_bn(folder: Path, start: Tensor, end: Tensor) -> Solution:
    decoder = geodesic.load_weights(convolutional(), folder / "conv.pt")
    return geodesic.solve(geodesic.wrap(decoder).manifold(), start, end)


def conditional(folder: Path, start: Tensor, end: Tensor) -> Solution:
    decoder = geodesic.load_weights(Conditional(), folder / "conditional.pt")
    return geodesic.solve(geodesic.wrap(decoder, latent_shape=20, condition=3).manifold(), start, end)


def transformer(folder: Path, start: Tensor, end: Tensor) -> Solution:
    decoder = geodesic.load_weights(Transformer(), folder / "transformer.pt")
    wrapped = geodesic.wrap(decoder, output=lambda logits: Categorical(logits=logits))
    return geodesic.solve(wrapped.manifold(), start, end)


def program(folder: Path, start: Tensor, end: Tensor) -> Solution:
    decoder = geodesic.wrap(torch.export.load(folder / "program.pt2"))
    return geodesic.solve(decoder.manifold(), start, end)


def distribution(folder: Path, start: Tensor, end: Tensor) -> Solution:
    decoder = geodesic.load_weights(Distributional(), folder / "distributional.pt")
    return geodesic.solve(geodesic.wrap(decoder).manifold(), start, end)


def ensemble(folder: Path, start: Tensor, end: Tensor) -> Solution:
    files = [folder / f"vae{k}.pt" for k in range(3)]
    members = [geodesic.wrap(geodesic.load_weights(ExampleVAE(), file)) for file in files]
    return geodesic.solve(geodesic.EnsembleManifold(members), start, end)


# --- what is measured -------------------------------------------------------------------------


@dataclass(frozen=True)
class Own:
    """A model that users have.

    Args:
        recipe: What they write: from a folder of files and end points, (P, d), to a solution.
        latent_size: d.
        files: Names, and what makes the module whose weights are saved there, or writes the file itself.
    """

    recipe: Callable[[Path, Tensor, Tensor], Solution]
    latent_size: int
    files: dict[str, Callable[..., nn.Module | None]]


MODELS = {
    "PyTorch's example VAE": Own(example_vae, 20, {"vae0.pt": ExampleVAE}),
    "convolutions, BatchNorm": Own(conv_bn, 32, {"conv.pt": convolutional}),
    "conditional VAE": Own(conditional, 20, {"conditional.pt": Conditional}),
    "transformer": Own(transformer, 8, {"transformer.pt": Transformer}),
    "exported program": Own(program, 20, {"program.pt2": exported}),
    "distributions": Own(distribution, 2, {"distributional.pt": Distributional}),
    "ensemble of 3 files": Own(ensemble, 20, {f"vae{k}.pt": ExampleVAE for k in range(3)}),
}


def lines_of(recipe: Callable[..., object]) -> int:
    """Lines of the body of a function."""
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(recipe))).body
    assert isinstance(function, ast.FunctionDef)
    return int(function.body[-1].end_lineno or 0) - function.body[0].lineno + 1


def measure(model: Own, pairs: int, dtype: torch.dtype = torch.float32) -> dict[str, str]:
    """One line of the table; of a model that is refused the reason."""
    row = {"d": str(model.latent_size), "lines": str(lines_of(model.recipe))}
    with tempfile.TemporaryDirectory() as name, torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        folder = Path(name)
        for file, make in model.files.items():
            if file.endswith(".pt2"):
                make(folder / file)
            else:
                module = make()
                assert module is not None
                torch.save(module.state_dict(), folder / file)
        start, end = torch.randn(2, pairs, model.latent_size).to(dtype)
        before = time.process_time()
        try:
            solution = model.recipe(folder, start, end)
        except geodesic.GeodesicError as error:
            none = dict.fromkeys(("processor seconds", "converged", "resolved"), "-")
            return row | none | {"ended": "refused", "in words": str(error)}
        seconds = time.process_time() - before
    return row | {
        "processor seconds": f"{seconds:.1f}",
        "converged": f"{int(solution.converged.sum())} of {pairs}",
        "resolved": f"{int(solution.resolved.sum())} of {pairs}",
        "ended": counts([geodesic.Status(int(s)).name.lower() for s in solution.status]),
        "in words": "; ".join(solution.summary().splitlines()[1:]),
    }


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, str]]:
    """Measure, print the table and return its rows."""
    parser = make_parser("own", __doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="MODEL")
    parser.add_argument("--pairs", nargs="+", type=positive, default=[1, 8], help="in one call")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="of the points")
    parser.add_argument("--threads", type=positive, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    console = Console()
    console.print(versions_line(options.threads), highlight=False)
    geodesic.solve(geodesic.PullbackManifold(nn.Linear(2, 3)), torch.zeros(2), torch.ones(2))
    rows = {}
    for name in options.models:
        for pairs in options.pairs:
            rows[f"{name}, {pairs} pairs"] = row = measure(MODELS[name], pairs, getattr(torch, options.dtype))
            console.print(rows_table("from a module to a solution", "model", {f"{name}, {pairs} pairs": row}))
    return rows
