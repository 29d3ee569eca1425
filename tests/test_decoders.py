"""Decoders as other people write them: what cannot be one is refused, with the line that mends it."""

import collections
import dataclasses
import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import geodesic
from geodesic.errors import DecoderError

START, END = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)


def linear(dtype: torch.dtype = torch.float64) -> nn.Linear:
    return nn.Linear(2, 20, dtype=dtype).requires_grad_(False)


@dataclasses.dataclass
class Output:
    """As diffusers' `DecoderOutput`."""

    sample: Tensor


class OutputOfBoth(collections.OrderedDict):
    """As a `ModelOutput` of transformers before it was a dataclass."""


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = linear()

    def encode(self, x: Tensor) -> Tensor:
        return x[:, :2]

    def decode(self, z: Tensor) -> Tensor:
        return self.layer(z)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


NET = linear()

Named = collections.namedtuple("Named", ["mean", "scale"])

REFUSED = {
    "a tuple": (lambda z: (NET(z), z), r"got a tuple .*; give the part that is meant, lambda z: decoder\(z\)\[0\]"),
    "a named tuple": (lambda z: Named(NET(z), z), r"got a Named .*lambda z: decoder\(z\).mean"),
    "a dict": (lambda z: {"n": 3, "loc": NET(z)}, r"got a dict .*lambda z: decoder\(z\)\['loc'\]"),
    "an ordered dict": (lambda z: OutputOfBoth(logits=NET(z)), r"lambda z: decoder\(z\)\['logits'\]"),
    "a dataclass": (lambda z: Output(NET(z)), r"got a Output .*lambda z: decoder\(z\).sample"),
    "a Bernoulli": (lambda z: torch.distributions.Bernoulli(logits=NET(z)), r"lambda z: decoder\(z\).logits"),
    "a normal": (lambda z: torch.distributions.Normal(NET(z), 1.0), r"Normal; give lambda z: decoder\(z\).mean"),
    "nothing": (lambda z: None, "got NoneType; give a function that returns one"),
    "an array": (lambda z: NET(z).numpy(force=True), "got a NumPy ndarray; .* write it with functions of torch"),
    "integers": (lambda z: NET(z).round().long(), "torch.int64, and integers have no derivatives; give the numbers"),
    "booleans": (lambda z: NET(z) > 0, "torch.bool, and integers have no derivatives"),
    "classes": (lambda z: NET(z).argmax(1), "torch.int64, and integers have no derivatives"),
    "complex numbers": (lambda z: torch.complex(NET(z), NET(z)), r"complex .*torch.view_as_real\(decoder\(z\)\)"),
    "an empty output": (lambda z: NET(z)[:, :0], r"empty, of shape \(\d, 0\); it must return at least one number"),
    "one number for all": (lambda z: NET(z).sum(), r"\d points gave an output of shape \(\); .* one row for each"),
    "a detour through NumPy": (
        lambda z: torch.from_numpy(np.tanh(NET(z).detach().numpy())),
        ".*as far as autograd can see; .*NumPy",
    ),
    "a detour that autograd refuses": (
        lambda z: torch.from_numpy(np.tanh(NET(z).numpy())),
        "derivatives do not pass through NumPy; write it with functions of torch",
    ),
    "two arguments": (lambda z, c: NET(z) + c, r"takes other arguments than points alone: give lambda z: decoder\(z, "),
    "a keyword": (lambda z, *, c: NET(z) + c, r"takes other arguments than points alone: give lambda z: decoder\(z, "),
    "another size": (nn.Linear(3, 5).double(), "its latent size is 2"),
    "latent images": (nn.Conv2d(4, 3, 1).double(), r"give the manifold latent_shape=\(C, H, W\)"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_decoder_is_refused_with_the_way_out(what: str) -> None:
    decoder, message = REFUSED[what]
    with pytest.raises(DecoderError, match=f"^decoder: .*{message}") as refused:
        geodesic.solve(geodesic.PullbackManifold(decoder), START, END)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("large", [torch.randn(1000, 2), torch.randn(1, 2)])
def test_no_message_prints_a_long_tensor(large: Tensor) -> None:
    def decoder(z: Tensor) -> Tensor:
        raise ValueError(f"first line {z.tolist()}\nsecond line")

    with pytest.raises(DecoderError, match="first line") as refused:
        geodesic.solve(geodesic.PullbackManifold(decoder), large, large + 1)
    assert len(str(refused.value)) < 700


def test_members_of_ensembles_are_named() -> None:
    with pytest.raises(DecoderError, match=r"decoders\[1\]: .*lambda z: decoders\[1\]\(z\)\[0\]"):
        geodesic.solve(geodesic.EnsembleManifold([NET, lambda z: (NET(z), z)]), START, END)


def test_a_whole_vae_is_refused_and_its_decode_is_taken() -> None:
    vae = Autoencoder()
    with pytest.raises(DecoderError, match=r"whole Autoencoder.*PullbackManifold\(decoder.decode\)"):
        geodesic.PullbackManifold(vae)
    solution = geodesic.solve(geodesic.PullbackManifold(vae.decode), START, END)
    assert float(solution.length) == pytest.approx(float(vae.layer.weight.sum(1).norm()), rel=1e-6)


@pytest.mark.parametrize("shape", [(4, 3, 3), (4, 3)])
def test_points_without_a_latent_shape_are_given_theirs(shape: tuple[int, ...]) -> None:
    decoder = nn.Conv2d(4, 3, 1) if len(shape) == 3 else nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    decoder = decoder.double().requires_grad_(False)
    start, end = torch.randn(2, 5, *shape)
    with pytest.raises(DecoderError, match=re.escape(f"give it latent_shape={shape}")):
        geodesic.solve(geodesic.PullbackManifold(decoder), start, end)
    manifold = geodesic.PullbackManifold(decoder, latent_shape=shape)
    assert geodesic.solve(manifold, start, end).converged.all()


@pytest.mark.parametrize(
    ("weights", "points", "message"),
    [
        (torch.float32, torch.float64, r"call .double\(\) on (the module|its modules), or .float\(\) on the points"),
        (torch.float64, torch.float32, r"call .float\(\) on (the module|its modules), or .double\(\) on the points"),
        (torch.float16, torch.float64, r"call .double\(\) on (the|its) module"),
    ],
)
def test_points_of_another_precision_are_told_the_word(weights, points, message: str) -> None:
    for decoder in (linear(weights), linear(weights).forward):
        with pytest.raises(DecoderError, match=message):
            geodesic.solve(geodesic.PullbackManifold(decoder), START.to(points), END.to(points))
    net = linear(weights)
    with pytest.raises(DecoderError, match=r"one dtype: call .(double|float)\(\) on its modules, or "):
        geodesic.solve(geodesic.PullbackManifold(lambda z: net(z)), START.to(points), END.to(points))


def test_a_method_may_leave_weights_of_another_precision_alone() -> None:
    vae = Autoencoder()
    vae.encoder = linear(torch.float32)
    assert geodesic.solve(geodesic.PullbackManifold(vae.decode), START, END).converged


def test_a_decoder_that_raises_at_some_points_only_is_told_where() -> None:
    def within(z: Tensor) -> Tensor:
        if bool(((z[:, 0] > 0.4) & (z[:, 0] < 0.6)).any()):
            raise ValueError("lost here")
        return NET(z)

    with pytest.raises(DecoderError, match=r"it failed at \(0\.[45]\d*, .*lost here.*, and not at other points"):
        geodesic.solve(geodesic.PullbackManifold(within), START, END)


@pytest.mark.slow
def test_a_decoder_that_raises_on_the_way_is_told_where_by_other_tools_too() -> None:
    def near(z: Tensor) -> Tensor:
        if bool((z[:, 0] > 0.4).any()):
            raise ValueError("lost here")
        return NET(z)

    manifold = geodesic.PullbackManifold(near)
    with pytest.raises(DecoderError, match=r"it failed at \(1, 1\) \(lost here\), and not at other points"):
        manifold.metric_tensor(torch.stack([START, END]))
    with pytest.raises(DecoderError, match=r"it failed at \(.*lost here.*, and not at other points"):
        geodesic.exp_map(manifold, START, END)


@pytest.mark.slow
def test_a_failure_of_derivatives_alone_is_left_to_those_who_take_them() -> None:
    net = nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, 20)).double().requires_grad_(False)
    manifold = geodesic.PullbackManifold(net)  # forward mode knows no second derivative of it
    assert geodesic.log_map(manifold, START, END).converged


# --- one start for many ends ------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("a", "b"), [((2,), (5, 2)), ((5, 2), (2,)), ((3, 1, 2), (2, 2))])
def test_leading_axes_are_broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    manifold = geodesic.PullbackManifold(lambda z: torch.cat([z, z.square()], dim=1))
    start, end = torch.randn(a), torch.randn(b) + 2
    whole = tuple(z.contiguous() for z in torch.broadcast_tensors(start, end))
    assert torch.equal(geodesic.solve(manifold, start, end).path, geodesic.solve(manifold, *whole).path)
    ratio = geodesic.riemannian.length_ratio
    assert torch.equal(ratio(manifold, start, end), ratio(manifold, *whole))
    vectors = (
        geodesic.log_map(manifold, *ends, follow=geodesic.Follow(method="discrete")).vector
        for ends in ((start, end), whole)
    )
    assert torch.equal(*vectors)
    minimality = geodesic.is_minimizing(manifold, geodesic.solve(manifold, start, end), starts=0)
    assert minimality.minimizing.shape == whole[0].shape[:-1]


@pytest.mark.slow
def test_the_gradient_of_one_start_is_the_sum_over_its_ends() -> None:
    manifold = geodesic.PullbackManifold(lambda z: torch.cat([z, z.square()], dim=1))
    start, ends = torch.randn(2, requires_grad=True), torch.randn(3, 2)
    (together,) = torch.autograd.grad(geodesic.distance(manifold, start, ends).sum(), start)
    alone = [torch.autograd.grad(geodesic.distance(manifold, start, end), start)[0] for end in ends]
    torch.testing.assert_close(together, torch.stack(alone).sum(0), rtol=1e-8, atol=1e-10)


# --- what the outputs are ---------------------------------------------------------------------


@pytest.mark.slow
def test_a_decoder_of_probabilities_has_the_distance_of_one_of_logits() -> None:
    p, q = 0.1, 0.9
    exact = 2 * abs(math.asin(p**0.5) - math.asin(q**0.5))
    a, b = (torch.logit(torch.tensor([x])) for x in (p, q))
    outputs = geodesic.outputs.FisherRaoBernoulli
    logits = geodesic.PullbackManifold(nn.Identity(), outputs())
    probabilities = geodesic.PullbackManifold(nn.Sigmoid(), outputs("probabilities"))
    for manifold in (logits, probabilities):
        assert float(geodesic.solve(manifold, a, b).length) == pytest.approx(exact, rel=1e-6)
    with pytest.raises(DecoderError, match=r'from a sigmoid.*FisherRaoBernoulli\(parameters="probabilities"\)'):
        geodesic.solve(geodesic.PullbackManifold(nn.Sigmoid(), outputs()), a, b)
    short = geodesic.solve(geodesic.PullbackManifold(nn.Sigmoid(), outputs("logits")), a, b)  # as the user insists
    assert float(short.length) < exact / 4


SOFTMAX = nn.Sequential(linear(), nn.Softmax(dim=1))

MISTAKEN = {
    "a sigmoid at the end": (nn.Sequential(nn.Linear(2, 3).double(), nn.Sigmoid()), "Bernoulli", "from a sigmoid"),
    "a function with one": (lambda z: NET(z)[:, :3].sigmoid().reshape(-1, 3, 1), "Bernoulli", "from a sigmoid"),
    "gray values": (lambda z: (NET(z).sin() + 1) / 2, "Bernoulli", r"all 20 lie in \[0, 1\] at \d points"),
    "a softmax": (SOFTMAX, "Categorical", "from a softmax"),
    "shares": (lambda z: NET(z).exp() / NET(z).exp().sum(1, True), "Categorical", "sum to 1 over 20 classes"),
    "a softplus": (lambda z: nn.functional.softplus(NET(z)), "Poisson", "from a softplus"),
    "an exponential": (lambda z: NET(z).exp(), "Poisson", "from an exponential"),
    "a clamped sigmoid": (lambda z: NET(z)[:, :3].sigmoid().clamp(1e-6, 1 - 1e-6), "Bernoulli", "from a sigmoid"),
    "one minus a sigmoid": (lambda z: 1 - NET(z)[:, :3].sigmoid(), "Bernoulli", "from a sigmoid"),
    "a narrowed sigmoid": (lambda z: NET(z)[:, :3].sigmoid() * 0.999 + 0.0005, "Bernoulli", "from a sigmoid"),
    "a softplus and a little": (lambda z: nn.functional.softplus(NET(z)[:, :3]) + 1e-6, "Poisson", "from a softplus"),
    "a clamped exponential": (lambda z: NET(z)[:, :3].exp().clamp(1e-4, 1e4), "Poisson", "from an exponential"),
    "squares": (lambda z: NET(z)[:, :3].square() + 0.1, "Poisson", "from a power"),
    "shares of a size": (lambda z: NET(z)[:, :3].softmax(1) * 1e3, "Poisson", "from a softmax"),
    "positive numbers": (lambda z: 2 + NET(z).sin(), "Poisson", r"all 20 are at least 0 at \d points"),
    "a softplus as scale": (
        lambda z: torch.stack([NET(z)[:, :3], nn.functional.softplus(NET(z)[:, :3]) + 1e-3], 1),
        "Gaussian",
        "look like scales .*from a softplus",
    ),
    "half an exponential as scale": (
        lambda z: torch.cat([NET(z)[:, :3], (NET(z)[:, :3] / 2).exp()], 1).unflatten(1, (2, 3)),
        "Gaussian",
        "look like scales .*from an exponential",
    ),
}


@pytest.mark.parametrize("what", MISTAKEN)
def test_what_looks_like_other_parameters_is_refused_until_the_user_says_what_it_is(what: str) -> None:
    decoder, family, why = MISTAKEN[what]
    geometry = getattr(geodesic.outputs, f"FisherRao{family}")
    default, other = geometry.words()
    with pytest.raises(DecoderError, match=f'{why}.* takes {default}; .*parameters="{other}".*parameters="{default}"'):
        geodesic.path_energy(geodesic.PullbackManifold(decoder, geometry()), torch.stack([START, END]))
    for word in (default, other):
        geodesic.PullbackManifold(decoder, geometry(word)).examine(torch.stack([START, END]))


def test_what_does_not_look_like_them_is_taken_for_the_default() -> None:
    small = lambda z: NET(z)[:, :3].square() / 100  # few of them within [0, 1] are no evidence  # noqa: E731
    path = torch.stack([START, END])
    for decoder in (NET, small, lambda z: z.new_zeros(len(z), 20) + 0 * z[:, :1]):
        unsaid, said = (
            geodesic.path_energy(geodesic.PullbackManifold(decoder, geometry), path)
            for geometry in (geodesic.outputs.FisherRaoBernoulli(), geodesic.outputs.FisherRaoBernoulli("logits"))
        )
        assert torch.equal(unsaid, said)


def test_outputs_that_no_word_settles_are_refused_with_what_the_geometry_takes() -> None:
    ends = torch.stack([START, END])
    counts = geodesic.PullbackManifold(
        lambda z: nn.functional.softplus(NET(z)), geodesic.outputs.FisherRaoNegativeBinomial(2.0)
    )
    with pytest.raises(
        DecoderError, match=r"like means \(they come from a softplus\).* takes logits, log\(mean / total_"
    ):
        geodesic.path_energy(counts, ends)
    one_by_one = geodesic.PullbackManifold(lambda z: NET(z)[:, :3].sigmoid(), geodesic.outputs.FisherRaoCategorical())
    with pytest.raises(DecoderError, match=r"from a sigmoid, .* as for FisherRaoBernoulli"):
        geodesic.path_energy(one_by_one, ends)


@pytest.mark.parametrize(
    ("decoder", "family"),
    [
        (lambda z: 10 * NET(z).sigmoid() - 5, "Bernoulli"),
        (lambda z: NET(z).log_softmax(1) + z[:, :1], "Poisson"),
        (lambda z: torch.stack([NET(z).exp(), NET(z)], 1), "Gaussian"),
        (lambda z: torch.stack([NET(z).sigmoid(), 0 * NET(z)], 1), "Gaussian"),
    ],
)
def test_what_is_made_from_such_operations_and_cannot_be_them_is_taken(decoder, family: str) -> None:
    geometry = getattr(geodesic.outputs, f"FisherRao{family}")()
    geodesic.PullbackManifold(decoder, geometry).examine(torch.randn(8, 2))


def test_a_sigmoid_of_a_sigmoid_is_refused() -> None:
    decoder = nn.Sequential(linear(), nn.Sigmoid())
    for outputs in (
        geodesic.outputs.Euclidean(mean=torch.sigmoid),
        geodesic.outputs.Features(torch.flatten, mean=nn.Sigmoid()),
    ):
        with pytest.raises(DecoderError, match="mean= takes their sigmoid once more; leave mean= out"):
            geodesic.solve(geodesic.PullbackManifold(decoder, outputs), START, END)
    assert geodesic.solve(geodesic.PullbackManifold(decoder), START, END).converged


@pytest.mark.parametrize(
    ("outputs", "wanted"),
    [
        (geodesic.outputs.FisherRaoBernoulli("probabilities"), r"numbers in \[0, 1\]"),
        (geodesic.outputs.FisherRaoCategorical("probabilities"), "numbers from 0 on that sum to 1"),
        (geodesic.outputs.FisherRaoPoisson("rates"), "numbers from 0 on"),
        (geodesic.outputs.FisherRaoGaussian("scales"), "positive scales"),
        (geodesic.outputs.ExpectedGaussian("scales"), "positive scales"),
    ],
)
def test_what_cannot_be_what_the_user_says_is_refused(outputs, wanted: str) -> None:
    manifold = geodesic.PullbackManifold(lambda z: NET(z).reshape(-1, 2, 10), outputs)
    with pytest.raises(DecoderError, match=f'takes {wanted}, and its outputs go from -.*say parameters="lo'):
        geodesic.solve(manifold, START, END)
