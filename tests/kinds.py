"""Kinds of decoder, and what is claimed of each: the table of the docs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from tests.zoo import (
    CENTERS,
    Attention,
    Decoder,
    MathAttention,
    MultiHead,
    NewCube,
    OldCube,
    OnceCube,
    activation,
    batch_limited,
    beside,
    checkpointed,
    compiled,
    encoder_layer,
    exported,
    gru,
    hidden_branch,
    images,
    in_float32,
    inside_half,
    lstm,
    norm_with_statistics,
    norms,
    one_coordinate,
    open_branch,
    radial,
    scripted,
    seeded,
    squares,
    tanh_net,
    tokens,
    training_norm,
    with_autocast,
    with_layer,
)

TOOLS = ("metric", "solve", "log", "curvature", "exp", "transport", "mean", "gradient")


@dataclass(frozen=True)
class Kind:
    """A kind of decoder, and what is claimed of it.

    Attributes:
        family: Under which heading it stands.
        make: The decoder.
        note: How derivatives are taken, as `repr(manifold)` says it; "" for forward and reverse mode.
        refused: Tools that refuse it, with a pattern of the message; "*" stands for all others.
        why: The reason for the table.
        values: The same function in float64, for references; the decoder itself where it is None.
        lost: Tools whose answers say that they have not converged.
        dtype: Of the points.
        kinked: Whether its second derivatives jump, so that geodesics are followed by the discrete energy.
        creased: Whether its first derivatives jump too.
        affine: Whether it is affine between its creases, so that geodesics are followed by refraction.
        seen: How many of the latent coordinates it depends on.
    """

    family: str
    make: Callable[[], Decoder]
    note: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    values: Callable[[], Decoder] | None = None
    dtype: torch.dtype = torch.float64
    lost: tuple[str, ...] = ()
    kinked: bool = False
    creased: bool = False
    affine: bool = False
    seen: int = 2

    def reason(self, tool: str) -> str | None:
        """The pattern of the refusal of a tool; None where it works."""
        return self.refused.get(tool, self.refused.get("*"))


ACROSS = ("solve", "log", "transport", "mean", "gradient")  # a path between points on both sides of a jump
PATHS = ("solve", "log", "exp", "transport", "mean", "gradient")
HIDDEN = {"*": "hidden from autograd"}
UNSEEN = "no derivative sees a part of it"

KINDS: dict[str, Kind] = {
    # Activations
    **{
        layer.__name__: Kind("Activations", activation(layer))
        for layer in (nn.Tanh, nn.Sigmoid, nn.SiLU, nn.GELU, nn.Softplus, nn.Mish)
    },
    **{
        layer.__name__: Kind("Activations", activation(layer), kinked=True) for layer in (nn.ELU, nn.CELU, nn.Hardswish)
    },
    **{
        layer.__name__: Kind("Activations", activation(layer), creased=True, affine=True)
        for layer in (nn.ReLU, nn.LeakyReLU, nn.PReLU)
    },
    "SELU": Kind("Activations", activation(nn.SELU), creased=True),
    "GLU": Kind("Activations", seeded(lambda: nn.Sequential(nn.Linear(2, 24), nn.GLU(), nn.Linear(12, 12)))),
    # Normalization
    "BatchNorm1d, evaluation": Kind("Normalization", with_layer(norm_with_statistics)),
    "BatchNorm1d, training": Kind(
        "Normalization",
        training_norm,
        refused={"*": "rows (of a batch )?are coupled"},
        why="rows are coupled; call eval()",
    ),
    "LayerNorm": Kind("Normalization", with_layer(lambda: nn.LayerNorm(8))),
    "RMSNorm": Kind("Normalization", with_layer(lambda: nn.RMSNorm(8))),
    "GroupNorm": Kind("Normalization", images(lambda: nn.GroupNorm(2, 4), lambda: nn.Conv2d(4, 3, 1), channels=4)),
    "InstanceNorm2d": Kind(
        "Normalization", images(lambda: nn.InstanceNorm2d(4), lambda: nn.Conv2d(4, 3, 1), channels=4)
    ),
    "weight norm": Kind(
        "Normalization", with_layer(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), nn.Tanh)
    ),
    "spectral norm": Kind(
        "Normalization", with_layer(lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)), nn.Tanh)
    ),
    # Images
    "ConvTranspose2d": Kind("Images", images(lambda: nn.ConvTranspose2d(2, 1, 4, 2, 1))),
    "PixelShuffle": Kind("Images", images(lambda: nn.Conv2d(2, 4, 1), lambda: nn.PixelShuffle(2))),
    "bicubic upsampling": Kind("Images", images(lambda: nn.Upsample(scale_factor=2, mode="bicubic"), nn.Tanh)),
    "bilinear upsampling": Kind("Images", images(lambda: nn.Upsample(scale_factor=2, mode="bilinear"), nn.Tanh)),
    "MaxPool2d": Kind(
        "Images",
        images(lambda: nn.Upsample(scale_factor=2), lambda: nn.Conv2d(2, 12, 3), lambda: nn.MaxPool2d(2)),
        creased=True,
        lost=("exp",),
    ),
    # Sequences
    "scaled_dot_product_attention": Kind("Sequences", tokens(Attention), values=tokens(MathAttention)),
    "MultiheadAttention": Kind("Sequences", tokens(MultiHead)),
    "TransformerEncoderLayer": Kind("Sequences", tokens(encoder_layer)),
    "GRU": Kind("Sequences", gru),
    "LSTM": Kind("Sequences", lstm),
    "LSTM, float32": Kind("Sequences", in_float32(lstm), values=lstm, dtype=torch.float32),
    # Radial basis functions
    "squared differences": Kind("Radial basis", radial(squares)),
    "cdist": Kind("Radial basis", radial(lambda z: torch.cdist(z, CENTERS.to(z)) ** 2), values=radial(squares)),
    "exp(-norm)": Kind("Radial basis", radial(norms)),
    # Gates
    "where, continuous": Kind("Gates", beside(lambda x: torch.where(x > 0, x, 0.3 * x)), creased=True),
    "a hard gate": Kind("Gates", beside(lambda x: (x[:, 1:2] > 0).to(x) / 2), lost=ACROSS, why="a jump is on the way"),
    "quantized": Kind("Gates", beside(lambda x: (4 * x).round() / 4), lost=PATHS, why="a jump is on the way"),
    "straight-through": Kind("Gates", beside(lambda x: x + (x.round() - x).detach()), refused=HIDDEN, why=UNSEEN),
    # How torch runs it
    "scripted": Kind("Ways to run", scripted, values=tanh_net),
    "compiled, inductor": Kind("Ways to run", compiled("inductor"), values=tanh_net),
    "compiled, eager": Kind("Ways to run", compiled("eager"), values=tanh_net),
    "checkpointed": Kind("Ways to run", checkpointed(False), values=tanh_net),
    "checkpointed, reentrant": Kind(
        "Ways to run",
        checkpointed(True),
        refused={"*": "give torch.utils.checkpoint use_reentrant=False"},
        why="give use_reentrant=False",
    ),
    "exported": Kind("Ways to run", exported, values=tanh_net),
    "at most 5 rows": Kind("Ways to run", batch_limited, values=tanh_net),
    # Precision
    "float32": Kind("Precision", in_float32(tanh_net), values=tanh_net, dtype=torch.float32),
    "autocast inside": Kind(
        "Precision",
        with_autocast,
        refused={"*": "computes in bfloat16"},
        why="bfloat16 falsifies derivatives",
        dtype=torch.float32,
    ),
    "half inside": Kind(
        "Precision", inside_half, refused={"*": "computes in float16"}, why="float16 falsifies derivatives"
    ),
    # Autograd
    "Function, old": Kind("Autograd", beside(OldCube.apply), values=beside(lambda x: x**3 / 8)),
    "Function, no forward mode": Kind("Autograd", beside(NewCube.apply), values=beside(lambda x: x**3 / 8)),
    "Function, once": Kind(
        "Autograd",
        beside(OnceCube.apply),
        values=beside(lambda x: x**3 / 8),
        refused=dict.fromkeys(("curvature", "transport", "gradient"), "differentiated once only"),
        why="no second derivatives",
    ),
    "no_grad branch": Kind(
        "Autograd",
        hidden_branch,
        values=open_branch,
        refused={"gradient": "as under torch.no_grad"},
        why="reverse mode would leave the branch out",
    ),
    "detached branch": Kind(
        "Autograd",
        beside(lambda x: x.square().detach()),
        values=beside(lambda x: x.square()),
        refused=HIDDEN,
        why=UNSEEN,
    ),
    # Rank
    "ignores a coordinate": Kind(
        "Rank",
        one_coordinate,
        seen=1,
        why="along that coordinate answers say nothing",
    ),
}


def table() -> list[str]:
    """The table of the docs, line by line: kinds of decoder times tools."""
    lines = ["| decoder | " + " | ".join(TOOLS) + " | |", "|---|" + "---|" * (len(TOOLS) + 1)]
    for family in dict.fromkeys(kind.family for kind in KINDS.values()):
        lines.append(f"| **{family}** |" + " |" * (len(TOOLS) + 1))
        for name, kind in KINDS.items():
            if kind.family == family:
                cells = [_cell(kind, tool) for tool in TOOLS]
                lines.append(f"| {name} | " + " | ".join(cells) + f" | {kind.why} |")
    return lines


def _cell(kind: Kind, tool: str) -> str:
    if tool in kind.lost:
        return "says no"
    if kind.reason(tool) is not None:
        return "refused"
    exact = ("metric", "curvature", *(("exp",) if kind.affine else ()))
    return "roughly" if kind.creased and tool not in exact else "yes"
