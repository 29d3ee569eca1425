"""Models of other people as decoders: in three lines to a converged solution, with the geometry that suits them."""

import copy
import functools
import inspect
import math
import re
import warnings
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Beta, Distribution, Independent, NegativeBinomial, Normal

import geodesic
from geodesic import outputs
from geodesic.adapters.wrap import WrappedDecoder
from geodesic.autodiff import jacobian
from geodesic.errors import DecoderError, GeodesicError, InputError
from geodesic.geometry import ManifoldByRow
from tests.foreign import (
    AutoencoderKL,
    Conditional,
    Convolutional,
    DecoderOutput,
    ExampleVAE,
    Pythae,
    Transformer,
    distribution_valued,
    exported,
    net,
    seeded,
)

wrap = geodesic.wrap
START, END = torch.tensor([[[0.0, 0.0], [1.0, -1.0]], [[1.0, 1.0], [-1.0, 0.5]]], dtype=torch.float64)
Pair = namedtuple("Pair", ["mean", "log_var"])


class Closed:
    """A decoder that is no module and keeps one."""

    def __init__(self) -> None:
        self.net = seeded(net).double().eval().requires_grad_(False)

    def generate(self, z: Tensor) -> Tensor:
        return self.net(z)


def scripted() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.jit is on its way out
        return torch.jit.script(seeded(net))


def two_heads(z: Tensor) -> tuple[Tensor, Tensor]:
    x = LAYERS(z)
    return x[:, :6], x[:, 6:]


LAYERS = seeded(net).double().requires_grad_(False)

# What a user writes, the geometry that comes of it, and what `repr` says.
FOREIGN: dict[str, tuple[Callable[[], WrappedDecoder], type, str]] = {
    "a module": (lambda: wrap(seeded(net)), outputs.Euclidean, r"Sequential, latent_shape=\(2,\): means; Euclidean"),
    "PyTorch's VAE": (lambda: wrap(seeded(ExampleVAE)), outputs.Euclidean, r"ExampleVAE.decode, latent_shape=\(2,\)"),
    "its method": (lambda: wrap(seeded(ExampleVAE).decode), outputs.Euclidean, "ExampleVAE.decode"),
    "its method by name": (
        lambda: wrap(seeded(ExampleVAE), method="decode", output="probabilities"),
        outputs.FisherRaoBernoulli,
        r"probabilities of Bernoulli distributions; FisherRaoBernoulli\('probabilities'\)",
    ),
    "pythae": (lambda: wrap(seeded(Pythae).decoder), outputs.Euclidean, r"\['reconstruction'\] of a ModelOutput"),
    "diffusers": (
        lambda: wrap(seeded(AutoencoderKL), latent_shape=(2, 2, 2)),
        outputs.Euclidean,
        ".sample of a DecoderOutput",
    ),
    "diffusers without classes": (
        lambda: wrap(functools.partial(seeded(AutoencoderKL).decode, return_dict=False), latent_shape=(2, 2, 2)),
        outputs.Euclidean,
        r"\[0\] of a tuple",
    ),
    "a conditional VAE": (lambda: wrap(seeded(Conditional), latent_shape=2, condition=1), outputs.Euclidean, "means"),
    "convolutions": (lambda: wrap(seeded(Convolutional)), outputs.Euclidean, "Convolutional"),
    "a transformer": (lambda: wrap(seeded(Transformer)), outputs.FisherRaoCategorical, "categorical .*by logits"),
    "a program": (lambda: wrap(exported()), outputs.Euclidean, "ExportedProgram"),
    "a program for four rows": (lambda: wrap(exported(4)), outputs.Euclidean, "ExportedProgram"),
    "a script": (lambda: wrap(scripted()), outputs.Euclidean, "means"),
    "a compiled module": (lambda: wrap(torch.compile(seeded(net))), outputs.Euclidean, "means"),
    "a function": (lambda: wrap(lambda z: LAYERS(z).sin(), latent_shape=2), outputs.Euclidean, "<lambda>"),
    "an object's method": (lambda: wrap(Closed(), method="generate", latent_shape=2), outputs.Euclidean, "generate"),
    "Bernoulli": (lambda: wrap(distribution_valued("Bernoulli")), outputs.FisherRaoBernoulli, "Bernoulli.*by logits"),
    "Bernoulli by probabilities": (
        lambda: wrap(distribution_valued("Bernoulli by probabilities")),
        outputs.FisherRaoBernoulli,
        "by probabilities",
    ),
    "Categorical": (lambda: wrap(distribution_valued("Categorical")), outputs.FisherRaoCategorical, "categorical"),
    "Poisson": (lambda: wrap(distribution_valued("Poisson")), outputs.FisherRaoPoisson, "Poisson.*by rates"),
    "NegativeBinomial": (
        lambda: wrap(distribution_valued("NegativeBinomial")),
        outputs.FisherRaoNegativeBinomial,
        "total_count 2.5",
    ),
    "NegativeBinomial of genes": (
        lambda: wrap(lambda z: NegativeBinomial(torch.arange(1.0, 13), logits=LAYERS(z)), latent_shape=2),
        outputs.FisherRaoNegativeBinomial,
        "total_count one for each output",
    ),
    "Normal": (lambda: wrap(distribution_valued("Normal")), outputs.Euclidean, "in units of their fixed scale"),
    "Normal, varying": (lambda: wrap(distribution_valued("Varying")), outputs.ExpectedGaussian, "whose scale varies"),
    "a Normal's mean": (lambda: wrap(distribution_valued("Normal"), output="mean"), outputs.Euclidean, ".mean of a N"),
    "a dict's key": (
        lambda: wrap(lambda z: {"x": LAYERS(z), "z": z}, latent_shape=2, output="x"),
        outputs.Euclidean,
        r"\['x'\] of a dict",
    ),
    "a dict's logits": (
        lambda: wrap(lambda z: {"n": 3, "logits": LAYERS(z)}, latent_shape=2),
        outputs.FisherRaoBernoulli,
        r"logits of Bernoulli distributions from \['logits'\]",
    ),
    "a dict's distribution": (
        lambda: wrap(lambda z: {"px": Normal(LAYERS(z), 2.0)}, latent_shape=2),
        outputs.Euclidean,
        r"fixed scale from \['px'\]",
    ),
    "a tuple": (
        lambda: wrap(lambda z: (None, z.long(), LAYERS(z), z), latent_shape=2),
        outputs.Euclidean,
        r"\[2\] of a tuple",
    ),
    "a number": (lambda: wrap(lambda z: (z, LAYERS(z)), latent_shape=2, output=1), outputs.Euclidean, r"\[1\] of a"),
    "a named tuple": (
        lambda: wrap(lambda z: Pair(*two_heads(z)), latent_shape=2),
        outputs.Euclidean,
        ".mean of a Pair",
    ),
    "mean and variance": (
        lambda: wrap(two_heads, latent_shape=2, output="mean_and_log_variance"),
        outputs.ExpectedGaussian,
        "log variances",
    ),
    "mean and deviation": (
        lambda: wrap(lambda z: (LAYERS(z), torch.ones(())), latent_shape=2, output="mean_and_std"),
        outputs.ExpectedGaussian,
        "standard deviations",
    ),
    "a function of it": (
        lambda: wrap(two_heads, latent_shape=2, output=lambda x: Normal(x[0], 1.0)),
        outputs.Euclidean,
        "of scale 1 from output=",
    ),
}


@pytest.mark.parametrize(
    "what", [pytest.param(x, marks=pytest.mark.slow if "program" in x or "compiled" in x else ()) for x in FOREIGN]
)
def test_what_a_model_returns_is_found_out_and_gives_the_geometry_that_suits(what: str) -> None:
    make, geometry, said = FOREIGN[what]
    decoder = make()
    assert type(decoder.outputs) is geometry
    assert re.search(said, repr(decoder)), decoder
    z = torch.randn(3, math.prod(decoder.latent_shape))
    assert torch.linalg.eigvalsh(decoder.manifold().metric_tensor(z)).min() > 0
    assert decoder.manifold().observe(z).dtype == torch.float64


@pytest.mark.slow
@pytest.mark.parametrize(
    "what",
    [
        "PyTorch's VAE",
        "pythae",
        "diffusers",
        "a conditional VAE",
        "convolutions",
        "a transformer",
        "a program",
        "Poisson",
    ],
)
def test_a_foreign_model_takes_three_lines_to_a_converged_solution(what: str) -> None:
    decoder = FOREIGN[what][0]()
    start, end = (START, END) if decoder.latent_shape == (2,) else 0.3 * torch.randn(2, 2, *decoder.latent_shape)
    solution = geodesic.solve(decoder.manifold(), start, end)
    assert solution.path.dtype == torch.float64
    assert solution.converged.all()
    assert solution.resolved.all()


@pytest.mark.slow
def test_files_of_weights_take_three_lines_to_an_ensemble(tmp_path: Path) -> None:
    files = [tmp_path / f"{k}.pt" for k in range(3)]
    for file in files:
        torch.save(ExampleVAE().state_dict(), file)
    members = [wrap(geodesic.load_weights(ExampleVAE(), file)) for file in files]
    solution = geodesic.solve(geodesic.EnsembleManifold(members, members[0].outputs), START, END)
    assert solution.converged.all()


# --- which geometry ----------------------------------------------------------------------------


def fisher(family: str, x: Tensor) -> Tensor:
    """The Fisher information of the parameters x that a layer gives, one row, (D, D)."""
    if family.startswith("Bernoulli"):
        return torch.diag(x.sigmoid() * (1 - x.sigmoid()))
    if family == "Categorical":
        p = x.reshape(4, 3).softmax(1)
        return torch.block_diag(*(torch.diag(row) - torch.outer(row, row) for row in p))
    if family == "Poisson":
        return torch.diag(x.exp())
    if family == "NegativeBinomial":
        mean = 2.5 * x.exp()
        return torch.diag(2.5 * mean / (2.5 + mean))
    return torch.diag((-2 * torch.linspace(-1, 1, 12).float().double()).exp())  # weights come in float32


@pytest.mark.parametrize(
    "family", ["Bernoulli", "Bernoulli by probabilities", "Categorical", "Poisson", "NegativeBinomial", "Normal"]
)
def test_a_distribution_chooses_its_fisher_information(family: str) -> None:
    model, z = distribution_valued(family), torch.randn(3, 2)
    G = wrap(model).manifold().metric_tensor(z)
    layers = copy.deepcopy(model.layers).double()
    J = jacobian(layers, z)
    expected = [j.T @ fisher(family, x) @ j for j, x in zip(J, layers(z).detach(), strict=True)]
    torch.testing.assert_close(G, torch.stack(expected).detach(), rtol=1e-9, atol=1e-12)


def test_what_a_distribution_says_of_its_parameters_is_not_doubted() -> None:
    """Logits of counts may all be positive, as means are."""
    decoder, z = wrap(lambda z: NegativeBinomial(2.0, logits=LAYERS(z).exp()), latent_shape=2), torch.randn(3, 2)
    assert torch.isfinite(geodesic.path_length(decoder.manifold(), z))
    with pytest.raises(DecoderError, match="look like means"):
        geodesic.path_length(geodesic.PullbackManifold(lambda z: decoder(z), decoder.outputs), z)


def test_a_normal_distribution_whose_scale_varies_has_the_expected_metric() -> None:
    model, z = distribution_valued("Varying"), torch.randn(3, 2)
    layers = copy.deepcopy(model.layers).double()

    def both(z: Tensor) -> Tensor:
        x = layers(z)
        return torch.cat([x[:, :6], nn.functional.softplus(x[:, 6:])], dim=1)

    J = jacobian(both, z).detach()
    torch.testing.assert_close(wrap(model).manifold().metric_tensor(z), J.mT @ J, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_the_words_say_what_numbers_mean() -> None:
    z = torch.randn(3, 2)
    for word, geometry in (
        ("logits", outputs.FisherRaoBernoulli()),
        ("mean", outputs.Euclidean()),
        (None, outputs.Euclidean()),
    ):
        G = wrap(LAYERS, output=word).manifold().metric_tensor(z)
        assert torch.equal(G, geodesic.PullbackManifold(LAYERS, geometry).metric_tensor(z))
    scales = geodesic.PullbackManifold(lambda z: torch.stack(two_heads(z), 1) / torch.tensor([[[1.0], [2.0]]]))
    G = wrap(two_heads, latent_shape=2, output="mean_and_log_variance").manifold(outputs.Euclidean()).metric_tensor(z)
    torch.testing.assert_close(G, scales.metric_tensor(z))


@pytest.mark.parametrize("family", ["Bernoulli", "Bernoulli by probabilities", "Categorical", "NegativeBinomial"])
def test_means_are_those_of_the_distributions(family: str) -> None:
    model, z = distribution_valued(family).double(), torch.randn(3, 2)
    decoder = wrap(model)
    mean = decoder.mean(z)
    expected = model(z).probs.movedim(-1, 1) if hasattr(model(z), "probs") else None
    if family == "Categorical":
        expected = model(z).base_dist.probs.movedim(-1, 1)
    elif family != "Bernoulli by probabilities":
        expected = model(z).mean
    torch.testing.assert_close(mean, expected.detach())


@pytest.mark.slow
def test_parameters_that_are_not_finite_somewhere_cost_the_pairs_there_alone() -> None:
    def with_a_hole(z: Tensor) -> Normal:
        return Normal(torch.where((z[:, :1] - 1.5).abs() < 0.2, math.nan, z), 1.0)

    before = Distribution._validate_args
    start, end = torch.zeros(2, 2), torch.tensor([[1.0, 0.5], [3.0, 0.5]])
    solution = geodesic.solve(wrap(with_a_hole, latent_shape=2).manifold(), start, end, segments=8)
    assert solution.converged.tolist() == [True, False]
    assert Distribution._validate_args is before


# --- weights, modes, types ---------------------------------------------------------------------


def test_the_model_is_left_as_it_is_and_the_decoder_keeps_its_weights() -> None:
    model = seeded(Convolutional).train()
    state = copy.deepcopy(model.state_dict())
    decoder = wrap(model)
    before = decoder(START)
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(x, state[name]) for name, x in model.state_dict().items())
    with torch.no_grad():
        model.first.weight.zero_()
    assert torch.equal(decoder(START), before)
    assert not before.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_take_on_the_dtype_of_the_points(dtype: torch.dtype) -> None:
    model, z = seeded(net), START.to(dtype)
    decoder = wrap(model)
    assert decoder(z).dtype == dtype
    assert torch.equal(decoder(z), copy.deepcopy(model).to(dtype)(z))
    assert next(model.parameters()).dtype == torch.float32


@pytest.mark.cuda
def test_weights_go_to_the_device_of_the_points() -> None:
    decoder = wrap(seeded(net), condition=None)
    assert decoder(START.cuda()).is_cuda
    torch.testing.assert_close(decoder(START.cuda()).cpu(), decoder(START))


def test_a_wrapped_decoder_is_looked_at_once() -> None:
    manifold = wrap(seeded(net), output=lambda x: x.sin()).manifold()
    manifold.way(START)
    known = dict(manifold.door._known if manifold.door else manifold._geometry.door._known)
    manifold.way(START)
    after = manifold.door._known if manifold.door else manifold._geometry.door._known
    assert all(after[key][1] is found[1] for key, found in known.items())


@pytest.mark.slow
def test_points_are_taken_flat_or_in_their_shape() -> None:
    decoder, z = wrap(seeded(AutoencoderKL), latent_shape=(2, 2, 2)), torch.randn(3, 2, 2, 2)
    assert torch.equal(decoder(z), decoder(z.flatten(1)))
    assert geodesic.solve(decoder.manifold(), z[0], z[1], segments=4).path.shape == (5, 2, 2, 2)


# --- conditions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "condition", [1, [1], torch.tensor(1), torch.tensor([1]), {"y": 1}, (1, None), {"y": [1], "size": 1.0}]
)
def test_a_shared_condition_is_handed_over_with_every_row(condition: Any) -> None:
    model, z = seeded(Conditional).double(), torch.randn(3, 2)
    decoder = wrap(model, latent_shape=2, condition=condition)
    assert torch.equal(decoder(z), model.decode(z, torch.ones(3, dtype=torch.long)).detach())
    assert isinstance(decoder.manifold(), geodesic.PullbackManifold)


LABELS = torch.tensor([2, 0, 2])
FROM, TO = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def under(label: int) -> geodesic.PullbackManifold:
    return wrap(seeded(Conditional), latent_shape=2, condition=label).manifold()


def each() -> ManifoldByRow:
    decoder = wrap(seeded(Conditional), latent_shape=2, condition=LABELS)
    assert "a condition for each of 3 pairs" in repr(decoder)
    return decoder.manifold()


@pytest.mark.slow
def test_every_pair_is_solved_under_its_own_condition() -> None:
    solution = geodesic.solve(each(), FROM, TO, solver=geodesic.Newton())  # not by what was measured
    assert solution.converged.all()
    for label in (0, 2):
        (rows,) = (label == LABELS).nonzero(as_tuple=True)
        alone = geodesic.solve(under(label), FROM[rows], TO[rows], solver=geodesic.Newton())
        for field in ("path", "length", "energy", "status", "segments"):
            assert torch.equal(getattr(solution[rows], field), getattr(alone, field)), field
        assert torch.equal(solution[rows](0.3), alone(0.3))  # on meshes of other numbers of nodes


DISCRETE = geodesic.Follow(method="discrete", segments=4)
SEVERAL: dict[str, Callable[[Any, Tensor, Tensor], Any]] = {
    "distance": lambda m, a, b: geodesic.distance(
        m, torch.zeros(2), b, search=geodesic.Search(init=geodesic.straight_path(torch.zeros_like(b), b, 4))
    ),
    "path_length": lambda m, a, b: geodesic.path_length(m, geodesic.straight_path(a, b, 8)),
    "exp_map": lambda m, a, b: geodesic.exp_map(m, a, 0.05 * b, 0.5, follow=DISCRETE).point,
    "parallel_transport": lambda m, a, b: (
        geodesic.parallel_transport(m, geodesic.straight_path(a, b, 8), b - a, transport="projection").vector
    ),
    "scalar_curvature": lambda m, a, b: geodesic.riemannian.scalar_curvature(m, a),
}


@pytest.mark.slow
@pytest.mark.parametrize("tool", SEVERAL)
def test_every_tool_that_works_row_by_row_takes_a_condition_for_each(tool: str) -> None:
    found = SEVERAL[tool](each(), FROM, TO)
    for k, label in enumerate(LABELS.tolist()):
        alone = SEVERAL[tool](under(label), FROM[k : k + 1], TO[k : k + 1])
        torch.testing.assert_close(found[k : k + 1], alone, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_distances_under_conditions_have_gradients_and_answers_keep_their_records() -> None:
    start = FROM.clone().requires_grad_()
    geodesic.distance(each(), start, TO, search=geodesic.Search(segments=8)).sum().backward()
    k, alone = 1, FROM[1].clone().requires_grad_()
    geodesic.distance(under(0), alone, TO[1], search=geodesic.Search(segments=8)).backward()
    torch.testing.assert_close(start.grad[k], alone.grad)
    solution = geodesic.solve(each(), FROM, TO, segments=4)
    carried = geodesic.parallel_transport(each(), solution, TO - FROM, transport="projection")
    assert carried.converged.shape == (3,)
    again = geodesic.solve(each(), FROM, TO, segments=4, plan=solution.plan)
    assert again.plan.made_for == solution.plan.made_for


@pytest.mark.slow
def test_tools_that_work_on_all_points_together_and_other_numbers_of_rows_are_refused() -> None:
    manifold = each()
    assert (len(manifold), len(manifold.manifolds)) == (3, 2)
    for tool in (
        lambda: geodesic.frechet_mean(manifold, FROM),
        lambda: geodesic.random_walk(manifold, FROM, 1.0, 2),
    ):
        with pytest.raises(InputError, match=r"works on all points together, .*; give one of them, manifold\[0\]"):
            tool()
    with pytest.raises(InputError, match=r"start: there are 3 rows, .* got shape \(2, 2\)"):
        geodesic.solve(manifold, FROM[:2], TO[:2])
    with pytest.raises(InputError, match=r"one for each of 3 pairs, and the decoder was called with 2 points"):
        wrap(seeded(Conditional), latent_shape=2, condition=LABELS)(FROM[:2])
    with pytest.raises(InputError, match=r"which: expected for each row a number from 0 to 0, got \[1\]"):
        ManifoldByRow([under(0)], [1])
    with pytest.raises(InputError, match=r"manifolds: expected manifolds such as PullbackManifold.*, got none"):
        ManifoldByRow([], [0])


# --- refusals ----------------------------------------------------------------------------------


def varying_count(z: Tensor) -> NegativeBinomial:
    return NegativeBinomial(LAYERS(z).exp(), logits=LAYERS(z))


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a number": (lambda: wrap(3), "model: expected a module, a method or a function, got int"),
    "a class": (lambda: wrap(nn.Linear), "model: expected a module, got the class Linear itself; make one first"),
    "a file": (lambda: wrap("vae.pt"), r"got str; weights alone are no model: give geodesic.load_weights\(Model\(\),"),
    "a file of a program": (lambda: wrap("vae.pt2"), r'torch.export.load\("vae.pt2"\)'),
    "weights": (lambda: wrap(LAYERS.state_dict()), "got OrderedDict; weights alone are no model"),
    "a label that is none": (
        lambda: wrap(seeded(Conditional), latent_shape=2, condition=7),
        "failed .*; check condition=, its dtype, values and shape",
    ),
    "points of another size": (
        lambda: geodesic.solve(wrap(LAYERS).manifold(), torch.zeros(2, 3), torch.ones(2, 3)),
        r"decoder: it takes points of shape \(2,\), got \(3,\); give such points",
    ),
    "no manifold": (
        lambda: geodesic.solve(wrap(LAYERS), START, END),
        r"got a WrappedDecoder; give its manifold, decoder.manifold\(\)",
    ),
    "almost a word": (
        lambda: wrap(LAYERS, output="logit"),
        "no part 'logit', .*; did you mean 'logits'",
    ),
    "integers by name": (
        lambda: wrap(lambda z: {"ids": z.long()}, latent_shape=2),
        "none of it could be the output; give output=lambda",
    ),
    "no sizes": (lambda: wrap(lambda z: z), "latent_shape: <lambda> has no linear layer.*; give it, latent_shape=2"),
    "a shape of nothing": (lambda: wrap(LAYERS, latent_shape=(0,)), "latent_shape: expected positive integers"),
    "another shape": (
        lambda: wrap(LAYERS, latent_shape=3),
        r"2 points of shape \(3,\) and failed \(.*give latent_shape=",
    ),
    "an autoencoder without decode": (
        lambda: wrap(seeded(Pythae)),
        "a whole Pythae, .*; give its decoder.*model.decoder",
    ),
    "another method": (
        lambda: wrap(seeded(ExampleVAE), method="decod"),
        "method: ExampleVAE has no method 'decod'; did you mean 'decode'",
    ),
    "more arguments": (
        lambda: wrap(seeded(Conditional).decode, latent_shape=2),
        "failed .*'y'.*; what else it takes goes to condition=",
    ),
    "unequal conditions": (
        lambda: wrap(seeded(Conditional), latent_shape=2, condition=([0, 1], [1.0, 2.0, 3.0])),
        "condition: expected one row for all pairs, or one for each, got [23] and [23] rows",
    ),
    "a condition of nothing": (
        lambda: wrap(seeded(Conditional), latent_shape=2, condition={"y": torch.zeros(0)}),
        r"condition\['y'\]: expected at least one row",
    ),
    "a condition that is none": (
        lambda: wrap(seeded(Conditional), latent_shape=2, condition=object()),
        "condition: expected a tensor with one row",
    ),
    "a dict without the part": (
        lambda: wrap(lambda z: {"x": LAYERS(z), "n": 3}, latent_shape=2, output="y"),
        r"output: the model returned no part 'y', but a dict \(x: a tensor \(2, 12\).*n: int\); give output='x', or",
    ),
    "a dict of several": (
        lambda: wrap(lambda z: {"x": LAYERS(z), "w": z}, latent_shape=2),
        "returned a dict .*, and several of it could be the output; give output='x' or output='w', or output=lambda",
    ),
    "an output class of nothing": (
        lambda: wrap(lambda z: DecoderOutput(None), latent_shape=2),
        r"returned a DecoderOutput \(sample: NoneType\), and none of it could be the output; give output=lambda",
    ),
    "a tuple of integers": (lambda: wrap(lambda z: (z.long(),), latent_shape=2), "none of it could be the output"),
    "None": (lambda: wrap(lambda z: None, latent_shape=2), "got NoneType; give a function that returns one"),
    "integers": (lambda: wrap(lambda z: z.long(), latent_shape=2), "integers have no derivatives"),
    "one number": (lambda: wrap(lambda z: z.sum(), latent_shape=2), r"2 points gave an output of shape \(\)"),
    "a Beta": (
        lambda: wrap(lambda z: Independent(Beta(LAYERS(z).exp(), 1.0), 1), latent_shape=2),
        'the distribution Beta, which has no geometry here; give output="mean"',
    ),
    "counts that vary": (
        lambda: wrap(varying_count, latent_shape=2),
        'total_count of .* differs between points, .*; give output="mean"',
    ),
    "a distribution's key": (
        lambda: wrap(distribution_valued("Poisson"), output="rate"),
        "returned the distribution Poisson, and got output='rate'; leave it out",
    ),
    "no pair": (
        lambda: wrap(LAYERS, output="mean_and_std"),
        r"'mean_and_std' is for a model that returns two tensors, \(mean, std\), and it returned a tensor \(2, 12\)",
    ),
    "a word that is none": (
        lambda: inspect.unwrap(wrap)(LAYERS, output=["x"]),  # without the checks of types that tests have
        r"output: expected a word, a key, a number or a function, got a list \(0: str\)",
    ),
    "a function of nothing": (
        lambda: wrap(LAYERS, output=lambda x: [x]),
        r"output: expected a tensor or a distribution, got a list \(0: a tensor .* from output=",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_wrapped_is_refused_with_what_was_found_and_what_to_pass(what: str) -> None:
    make, message = REFUSED[what]
    with pytest.raises((DecoderError, InputError), match=message) as refused:
        make()
    assert len(str(refused.value)) < 600


def test_a_module_that_cannot_be_copied_is_told_the_way_round() -> None:
    model = seeded(net)
    model.last = model[0].weight * 2  # no leaf
    with pytest.raises(DecoderError, match=r"cannot be copied .*give a function, lambda z: model\(z\)"):
        wrap(model)


def test_a_random_model_is_refused_when_it_is_used() -> None:
    decoder = wrap(lambda z: LAYERS(z) + torch.randn_like(LAYERS(z)), latent_shape=2)
    with pytest.raises(GeodesicError, match="so it is random"):
        geodesic.solve(decoder.manifold(), START, END)


def test_the_length_under_a_fixed_scale_is_that_of_the_means_over_it() -> None:
    line = wrap(lambda z: Normal(z, 0.5), latent_shape=2)
    assert float(geodesic.solve(line.manifold(), START[0], END[0]).length) == pytest.approx(2 * math.sqrt(2))


@pytest.mark.slow
def test_kinks_that_lie_closer_than_steps_in_single_precision_are_no_hidden_parts() -> None:
    torch.manual_seed(1)
    layers = (nn.Linear(8, 3000), nn.LeakyReLU(), nn.Linear(3000, 3000), nn.LeakyReLU(), nn.Linear(3000, 40))
    wide = nn.Sequential(*layers).float()
    z = torch.randn(2, 8, dtype=torch.float32)
    G = geodesic.wrap(wide).manifold().metric_tensor(z)
    J = torch.stack([torch.func.jacrev(wide)(row) for row in z])
    torch.testing.assert_close(G, J.mT @ J, rtol=1e-4, atol=1e-6)


class HiddenBeside(nn.Module):
    """A wide network in single precision, and another part: hidden from autograd, or not."""

    def __init__(self, width: int, hidden: bool) -> None:
        super().__init__()
        torch.manual_seed(1)
        layers = (nn.Linear(8, width), nn.LeakyReLU(), nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, 40))
        self.wide, self.beside, self.hidden = nn.Sequential(*layers).float(), nn.Linear(8, 40).float(), hidden

    def forward(self, z: Tensor) -> Tensor:
        beside = self.beside(z)
        return self.wide(z) + (beside.detach() if self.hidden else beside)


@pytest.mark.slow
def test_kinks_that_lie_close_are_told_from_hidden_parts_without_a_copy_of_the_weights_too() -> None:
    z = torch.randn(2, 8, dtype=torch.float32)
    decoder = HiddenBeside(3000, hidden=False).eval().requires_grad_(False)
    G = geodesic.PullbackManifold(decoder).metric_tensor(z)
    J = torch.stack([torch.func.jacrev(decoder)(row) for row in z])
    torch.testing.assert_close(G, J.mT @ J, rtol=1e-4, atol=1e-6)
    hidden = geodesic.PullbackManifold(HiddenBeside(300, hidden=True).eval())
    with pytest.raises(DecoderError, match="hidden from autograd"):
        hidden.metric_tensor(z)


def test_a_size_that_no_layer_takes_alone_is_found_where_there_is_only_one() -> None:
    model = Conditional()
    decoder = wrap(model, method="decode", condition=1)
    assert decoder.latent_shape == (2,)
    with pytest.raises(DecoderError, match="latent_shape=, the size of a point, which its layers do not tell"):
        wrap(model, method="decode", condition=99)


@pytest.mark.slow
def test_what_is_hidden_in_single_precision_is_hidden_in_double_too() -> None:
    class Hidden(nn.Linear):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return super().forward(z) + z.detach()

    hidden = geodesic.wrap(Hidden(2, 2).float()).manifold()
    with pytest.raises(geodesic.errors.DecoderError, match="hidden from autograd"):
        hidden.metric_tensor(torch.zeros(1, 2, dtype=torch.float32))
