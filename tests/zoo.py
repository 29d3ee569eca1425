"""Small decoders of every kind that people build: two latent coordinates, a dozen outputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Decoder = Callable[[Tensor], Tensor]


def head(width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Linear(2, width), nn.Tanh())


def frozen(net: nn.Module) -> nn.Module:
    return net.double().eval().requires_grad_(False)


def seeded(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """The same network at each call."""

    def made() -> nn.Module:
        with torch.random.fork_rng([]):
            torch.manual_seed(3)
            return frozen(make())

    return made


def with_layer(*layers: Callable[[], nn.Module], width: int = 8) -> Callable[[], nn.Module]:
    """Two latent coordinates, eight hidden ones, the layers, twelve outputs."""
    return seeded(lambda: nn.Sequential(head(width), *(layer() for layer in layers), nn.Linear(width, 12)))


def activation(layer: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return seeded(lambda: nn.Sequential(nn.Linear(2, 12), layer(), nn.Linear(12, 12)))


def tanh_net() -> nn.Module:
    return activation(nn.Tanh)()


class Images(nn.Module):
    """Latent coordinates as an image of 2 x 2, then layers."""

    def __init__(self, *layers: nn.Module, channels: int = 2) -> None:
        super().__init__()
        self.first, self.layers = nn.Linear(2, channels * 4), nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(self.first(z).tanh().reshape(len(z), -1, 2, 2))


def images(*layers: Callable[[], nn.Module], channels: int = 2) -> Callable[[], nn.Module]:
    return seeded(lambda: Images(*(layer() for layer in layers), channels=channels))


def norm_with_statistics() -> nn.Module:
    norm = nn.BatchNorm1d(8)
    norm.running_mean.uniform_(-0.5, 0.5)
    norm.running_var.uniform_(0.5, 1.5)
    return norm


def training_norm() -> Decoder:
    net = with_layer(norm_with_statistics)().train()
    return lambda z: net(z)  # a module itself is refused by its layer


class Tokens(nn.Module):
    """Latent coordinates as four tokens of four numbers, then a layer that mixes them."""

    def __init__(self, mix: nn.Module) -> None:
        super().__init__()
        self.first, self.mix, self.last = nn.Linear(2, 16), mix, nn.Linear(4, 3)

    def forward(self, z: Tensor) -> Tensor:
        tokens = self.first(z).reshape(len(z), 4, 4)
        return self.last(self.mix(tokens)).flatten(1)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 12)

    def forward(self, x: Tensor) -> Tensor:
        return x + nn.functional.scaled_dot_product_attention(*self.inner(x).chunk(3, -1))


class MathAttention(Attention):
    """The same, from products and a softmax."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.inner(x).chunk(3, -1)
        return x + (q @ k.mT / 2).softmax(-1) @ v


class MultiHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x, x, x, need_weights=False)[0]


class First(nn.Module):
    """The first of several answers of a layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


def tokens(mix: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return seeded(lambda: Tokens(mix()))


def encoder_layer() -> nn.Module:
    return nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, activation="gelu", batch_first=True)


CENTERS = torch.tensor([[-1.0, -1.0], [-0.7, 0.9], [0.9, -0.8], [1.1, 0.9], [0.0, 1.6]], dtype=torch.float64)


def radial(squared_distances: Decoder) -> Callable[[], Decoder]:
    def made() -> Decoder:
        W = tanh_net()[2].weight[:, :5]
        return lambda z: (-squared_distances(z) / 2).exp() @ W.T

    return made


def squares(z: Tensor) -> Tensor:
    return (z[:, None, :] - CENTERS.to(z)).square().sum(-1)


def norms(z: Tensor) -> Tensor:
    return 2 * (z[:, None, :] - CENTERS.to(z)).norm(dim=-1)


def beside(other: Decoder) -> Callable[[], Decoder]:
    """A smooth network, and something of its outputs added."""

    def made() -> Decoder:
        net = tanh_net()
        return lambda z: net(z) + other(net(z))

    return made


class OldCube(torch.autograd.Function):
    """Without `setup_context`."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3 / 8

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x**2 / 8 * grad


class OnceCube(OldCube):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x**2 / 8 * grad


class NewCube(torch.autograd.Function):
    """With `setup_context`, and without forward mode."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x**3 / 8

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x**2 / 8 * grad


def in_training() -> nn.Module:
    """A network whose layers all do the same in training mode."""
    return tanh_net().train()


def scripted() -> Decoder:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.jit is on its way out
        return torch.jit.script(tanh_net())


def compiled(backend: str) -> Callable[[], Decoder]:
    return lambda: torch.compile(tanh_net(), backend=backend)


def exported() -> Decoder:
    batch = torch.export.Dim("batch", min=1, max=100_000)
    points = torch.zeros(3, 2, dtype=torch.float64)
    return torch.export.export(tanh_net(), (points,), dynamic_shapes=({0: batch},)).module()


def checkpointed(reentrant: bool) -> Callable[[], Decoder]:
    def made() -> Decoder:
        net = tanh_net()
        return lambda z: checkpoint(net, z, use_reentrant=reentrant)

    return made


def two_networks() -> list[nn.Module]:
    single = torch.float32  # drawn with its digits, then widened
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        layers = [(nn.Linear(2, 16, dtype=single), nn.Tanh(), nn.Linear(16, 20, dtype=single)) for _ in range(2)]
    return [frozen(nn.Sequential(*net)) for net in layers]


def hidden_branch() -> Decoder:
    net, side = two_networks()

    def decoder(z: Tensor) -> Tensor:
        with torch.no_grad():
            hidden = side(z)
        return net(z) + hidden

    return decoder


def open_branch() -> Decoder:
    net, side = two_networks()
    return lambda z: net(z) + side(z)


def with_autocast() -> Decoder:
    net = tanh_net().float()

    def decoder(z: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return net(z).float()

    return decoder


def in_float32(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: make().float()


def inside_half() -> Decoder:
    net = tanh_net().half()
    return lambda z: net(z.half()).to(z)


def batch_limited() -> Decoder:
    net = tanh_net()

    def decoder(z: Tensor) -> Tensor:
        if len(z) > 5:
            raise ValueError("at most 5 rows")
        return net(z)

    return decoder


def one_coordinate() -> Decoder:
    net = tanh_net()
    return lambda z: net(z * z.new_tensor([1.0, 0.0]))


lstm, gru = (tokens(lambda layer=layer: First(layer(4, 4, batch_first=True))) for layer in (nn.LSTM, nn.GRU))
