"""Settings: what is read comes back, and what is refused says where, what and instead of what."""

import dataclasses
import inspect
from pathlib import Path

import pytest

from geodesic import LBFGS, GradientDescent, NewtonKrylov, load_settings, solve
from geodesic.errors import SettingsError
from geodesic.experiment import Settings
from geodesic.experiment.geometries import DensityGeometry
from geodesic.experiment.settings.load import settings_to_yaml
from geodesic.experiment.settings.model import ImportedModelSettings, VAESettings
from geodesic.likelihoods import Gaussian
from geodesic.models import ConvNetwork, MLPNetwork
from geodesic.models.likelihoods import LIKELIHOODS
from geodesic.models.uncertainty import BlendUncertainty

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "c.yaml"


def load(file: Path, text: str, *overrides: str) -> Settings:
    file.write_text("name: x\n" + text)
    return load_settings(file, overrides)


def refusal(file: Path, text: str, *overrides: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(file, text, *overrides)
    return str(caught.value)


# --- what is accepted --------------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_the_shipped_configs_load_under_their_own_names(config: Path) -> None:
    assert load_settings(config).name == config.stem


def test_there_are_shipped_configs() -> None:
    assert {"demo", "mnist"} <= {config.stem for config in CONFIGS}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_yaml_written_from_the_shipped_configs_reads_back_the_same(config: Path, file: Path) -> None:
    settings = load_settings(config)
    file.write_text(settings_to_yaml(settings))
    assert load_settings(file) == settings


@pytest.mark.parametrize(
    "text",
    [
        "",
        "training: {learning_rate: 1.0e-07, patience: 3, devices: 2}",
        "data: {kind: array, path: a.npy, limit: 7}\npairs: {kind: index, indices: [[0, 1], [2, 3]]}",
        "data: {kind: fashion_mnist, download: false}\npairs: {kind: label, from: 3, to: 8}",
        "model: {import: 'own.models:decoder', latent_size: 3, output: logits}\npairs: {kind: file, path: $A/p.npz}",
        "model: {likelihood: poisson}",
        "model: {likelihood: {kind: gaussian, scale: per_pixel, min_scale: 1.0e-7}}",
        "model: {likelihood: {kind: gaussian, scale: 3}}",
        "model: {likelihood: {kind: negative_binomial, total_count: 3}}",
        "geodesic: {geometry: {kind: fisher_rao_negative_binomial, total_count: 3}}",
        "geodesic: {geometry: {kind: fisher_rao_negative_binomial, total_count: [1, 2.5]}}",
        "model: {likelihood: discretized}",
        "model: {uncertainty: blend, decoders: 1}",
        "model: {uncertainty: {kind: rbf, centers: 9, away: 2}, likelihood: gaussian}",
        "model: {decoders: 3}\ngeodesic: {members: independent, geometry: fisher_rao}",
        "model: {import: 'own.models:decoder', latent_size: 3, likelihood: {kind: categorical, classes: 3}}",
        "model: {import: 'own.models:decoder', latent_size: 3, period: [6.25, null, 2]}",
        "geodesic: {geometry: {kind: features, network: 'own.models:features', weights: w.safetensors}}",
        "geodesic: {geometry: {kind: density, bandwidth: 0.3}}\ncov: {seeds: 3, decoders: [1, 4]}",
        "geodesic: {geometry: local_variance}",
        "model: {network: conv}\ndata: {kind: image_folder, path: $A, size: 32, mode: gray, corrupt: skip}",
        "model: {network: {kind: conv, channels: [7]}}\ndata: {kind: image_folder, path: a, size: [32, 48]}",
        "model: {network: {hidden_sizes: []}}\ndata: {kind: image_folder, path: a}",
        "model: {network: {kind: mlp, hidden_sizes: [7, 5], activation: tanh}}",
        "geodesic: {init: best, length_rtol: 1.0e-4, memory: 2 GiB}",
        "geodesic: {solvers: [{name: a, kind: newton}, {name: b, kind: newton_krylov, history: 3}]}",
        "geodesic: {solvers: [{name: a, kind: newton, warm_up: false}]}",
        "geodesic: {solvers: [{name: a, kind: lbfgs, history: 5}, {name: b, kind: gradient_descent, epsilon: 1.0e-9}]}",
    ],
)
def test_yaml_written_from_settings_reads_back_the_same(file: Path, text: str) -> None:
    settings = load(file, text)
    file.write_text(settings_to_yaml(settings))
    assert load_settings(file) == settings


def test_keys_that_are_not_given_take_their_defaults(file: Path) -> None:
    settings = load(file, "training: {epochs: 3}")
    assert (settings.training.epochs, settings.training.batch_size) == (3, 128)
    assert settings.data is None
    assert [(solver.name, solver.kind) for solver in settings.geodesic.solvers] == [("auto", "auto")]


def test_the_defaults_of_a_search_are_those_of_solve(file: Path) -> None:
    search = load(file, "").geodesic
    parameters = inspect.signature(solve).parameters
    for name in ("segments", "init", "length_rtol", "tol", "max_steps", "memory"):
        assert getattr(search, name) == parameters[name].default, name


@pytest.mark.parametrize(
    ("kind", "solver"),
    [("lbfgs", LBFGS), ("newton_krylov", NewtonKrylov), ("gradient_descent", GradientDescent)],
)
def test_the_defaults_of_an_entry_are_those_of_its_solver(file: Path, kind: str, solver: type) -> None:
    (entry,) = load(file, f"geodesic: {{solvers: [{{name: a, kind: {kind}}}]}}").geodesic.solvers
    fields = {field.name: field.default for field in dataclasses.fields(solver)}
    own = {name: value for name, value in entry.model_dump().items() if name not in ("name", "kind")}
    assert own == {name: True if name == "warm_up" else fields[name] for name in own}
    assert own.keys() == fields.keys() - {"encoder"}  # an encoder is the model's, not the settings'


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1.0e8", 1e8), ("300", 300), ("1e8", 1e8), ("2 GB", 2e9), ("500MB", 5e8), ("1.5 GiB", 1.5 * 2**30)],
)
def test_memory_is_bytes_or_has_a_unit(file: Path, text: str, expected: float) -> None:
    assert load(file, f"geodesic: {{memory: {text}}}").geodesic.memory == expected


def test_the_key_import_tells_a_model_of_ones_own_from_a_vae(file: Path) -> None:
    own = load(file, "model: {import: 'a.b:c', weights: w.safetensors, latent_size: 5}").model
    assert isinstance(own, ImportedModelSettings)
    assert (own.import_, own.weights, own.latent_size, own.encoder, own.output) == (
        "a.b:c",
        ("w.safetensors",),
        5,
        None,
        None,
    )
    assert isinstance(load(file, "model: {latent_size: 5}").model, VAESettings)


@pytest.mark.parametrize("kind", ["bernoulli", "continuous_bernoulli", "gaussian", "discretized", "poisson"])
def test_the_kind_alone_is_a_likelihood(file: Path, kind: str) -> None:
    alone = load(file, f"model: {{likelihood: {kind}}}")
    assert alone == load(file, f"model: {{likelihood: {{kind: {kind}}}}}")
    assert LIKELIHOODS.kind_of(alone.model.likelihood) == kind


@pytest.mark.parametrize(
    ("first", "then", "section", "value"),
    [
        ("model.likelihood=gaussian", "model.likelihood.scale=0.5", "likelihood", 0.5),
        ("model.uncertainty=blend", "model.uncertainty.centers=9", "uncertainty", 9),
        ("geodesic.geometry=density", "geodesic.geometry.floor=0.5", "geometry", 0.5),
        ("model.network=mlp", "model.network.activation=relu", "network", "relu"),
        ("model.network=conv", "model.network.channels=[8]", "network", (8,)),
        ("seed=1", "model.network.hidden_sizes=[8]", "network", (8,)),  # of the kind that networks are by default
    ],
)
def test_a_setting_of_a_kind_that_was_given_in_one_word(
    file: Path, first: str, then: str, section: str, value: object
) -> None:
    file.write_text("name: a")
    settings = load_settings(file, [first, then])
    found = getattr(settings.geodesic if section == "geometry" else settings.model, section)
    assert value in dataclasses.astuple(found)
    assert (
        type(found)
        is {
            "gaussian": Gaussian,
            "blend": BlendUncertainty,
            "density": DensityGeometry,
            "mlp": MLPNetwork,
            "conv": ConvNetwork,
            "1": MLPNetwork,
        }[first.partition("=")[2]]
    )


def test_the_likelihood_is_written_as_short_as_it_can_be_without_hiding_a_default(file: Path) -> None:
    for kind, written in (("bernoulli", "likelihood: bernoulli\n"), ("gaussian", "scale: learned\n")):
        assert written in settings_to_yaml(load(file, f"model: {{likelihood: {kind}}}"))


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("", MLPNetwork()),
        ("model: {network: mlp}", MLPNetwork()),
        ("model: {network: {hidden_sizes: []}}", MLPNetwork(())),
        ("model: {network: {kind: mlp, activation: relu}}", MLPNetwork(activation="relu")),
        ("model: {network: conv}", ConvNetwork()),
        ("model: {network: {channels: [8], kind: conv}}", ConvNetwork((8,))),
    ],
)
def test_a_network_is_a_kind_with_settings_of_its_own(file: Path, text: str, network: object) -> None:
    assert load(file, text).model.network == network


def test_settings_are_frozen_and_hashable(file: Path) -> None:
    settings = load(file, "data: {kind: digits}")
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 1  # type: ignore[misc]
    assert hash(settings) == hash(load(file, "data: {kind: digits}"))


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "value", "hint", "allowed"),
    [
        ("sed: 1", "sed", 1, "seed", "training"),
        ("training: {epoch: 1}", "training.epoch", 1, "epochs", "batch_size"),
        ("training: {random: 1}", "training.random", 1, None, "batch_size"),
        (
            "geodesic: {solvers: [{name: a, kind: auto}, {name: b, kind: gradient_descent, stepsize: x}]}",
            "geodesic.solvers.1.stepsize",
            "x",
            "step_size",
            "preconditioned",
        ),
        ("geodesic: {solvers: [{name: a, kind: lbfgs, histry: 3}]}", "geodesic.solvers.0.histry", 3, "history", "kind"),
        (
            "geodesic: {solvers: [{name: a, kind: newton, history: 3}]}",
            "geodesic.solvers.0.history",
            3,
            None,
            "warm_up",
        ),
        ("geodesic: {solvers: [{name: a, kind: auto, tol: 3}]}", "geodesic.solvers.0.tol", 3, None, "kind"),
        ("geodesic: {intt: best}", "geodesic.intt", "best", "init", "length_rtol"),
        ("data: {kind: digits, test_fractio: 1}", "data.test_fractio", 1, "test_fraction", "limit"),
        ("data: {kind: idx, path: a, test_fraction: 0.1}", "data.test_fraction", 0.1, None, "train"),
        ("pairs: {kind: label, from: 1, to: 2, cont: 3}", "pairs.cont", 3, "count", "from"),
        ("model: {latent: 1}", "model.latent", 1, "latent_size", "network"),
        ("model: {import: 'a:b', latent_size: 2, weight: w}", "model.weight", "w", "weights", "import"),
        ("model: {likelihood: {kind: gaussian, scal: 1}}", "model.likelihood.scal", 1, "scale", "min_scale"),
        ("model: {likelihood: {kind: poisson, scale: 1}}", "model.likelihood.scale", 1, None, "kind"),
        ("model: {network: {kind: mlp, channels: [8]}}", "model.network.channels", [8], None, "hidden_sizes"),
        ("model: {network: {kind: conv, hidden_sizes: [8]}}", "model.network.hidden_sizes", [8], None, "channels"),
        ("model: {hidden_sizes: [8]}", "model.hidden_sizes", [8], "latent_size", "network"),
    ],
)
def test_an_unknown_key_is_refused_with_path_value_hint_and_the_keys_allowed(
    file: Path, text: str, key: str, value: object, hint: str | None, allowed: str
) -> None:
    message = refusal(file, text)
    assert message.startswith(f"{file}: {key}: unknown key (value {value!r}); ")
    assert (f"did you mean {hint!r}?" in message) if hint else ("did you mean" not in message)
    assert allowed in message.partition("allowed: ")[2].split(", ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("training: {epochs: '3'}", "training.epochs: got '3'; expected an integer (without quotes)"),
        ("training: {epochs: 3.0}", "training.epochs: got 3.0; expected an integer"),
        ("training: {epochs: true}", "training.epochs: got True; expected an integer"),
        ("training: {epochs: some}", "training.epochs: got 'some'; expected an integer"),
        (
            "training: {learning_rate: 1e-3}",
            "training.learning_rate: got '1e-3'; expected a number (YAML reads 1e-3 as a string: write 1.0e-3)",
        ),
        ("training: {learning_rate: -1}", "training.learning_rate: got -1; expected a number greater than 0"),
        ("training: {learning_rate: .nan}", "training.learning_rate: got nan; expected a finite number"),
        ("training: {learning_rate: .inf}", "training.learning_rate: got inf; expected a finite number"),
        ("training: {devices: some}", "training.devices: got 'some'; expected an integer, or 'auto'"),
        ("training:", "training: got None; expected a mapping of settings"),
        ("seed: -1", "seed: got -1; expected a number greater than or equal to 0"),
        ("device: gpu", "device: got 'gpu'; expected auto, cpu, cuda or cuda:N"),
        ("dtype: float16", "dtype: got 'float16'; expected 'float32' or 'float64'"),
        ("model: 3", "model: got 3; expected a mapping of settings"),
        ("model: {network: {hidden_sizes: 16}}", "model.network.hidden_sizes: got 16; expected a list"),
        (
            "model: {network: {hidden_sizes: [16, 0]}}",
            "model.network.hidden_sizes: expected positive integers, got (16",
        ),
        ("model: {network: {hidden_sizes: [16, a]}}", "model.network.hidden_sizes.1: got 'a'; expected an integer"),
        ("model: {network: {activation: swish}}", "model.network.activation: got 'swish'; expected 'elu', 'gelu', "),
        ("model: {network: {kind: conv, channels: []}}", "model.network.channels: "),
        ("model: {network: cnn}", "model.network.kind: got 'cnn'; expected one of 'conv', 'mlp'"),
        ("model: {network: conf}", "expected one of 'conv', 'mlp'; did you mean 'conv'?"),
        (
            "model: {import: decoder, latent_size: 2}",
            "model.import: got 'decoder'; expected package.module:function",
        ),
        ("model: {weights: a.pt}", "expected `import`, which says what to load weights into, or .pt2 files alone"),
        ("model: {import: 'a:b', weights: a.pt2}", "a.pt2 is a program, which needs no class; leave out `import`"),
        ("model: {import: 'a:b', weights: 3}", "model.weights: got 3; expected a file, or a list of files, one for"),
        ("model: {import: 'a:b', image_shape: [1]}", "model.image_shape: "),
        (
            "model: {likelihood: bernouli}",
            "model.likelihood.kind: got 'bernouli'; expected one of 'bernoulli', 'categorical', "
            "'continuous_bernoulli', 'discretized', 'gaussian', 'negative_binomial', 'poisson'; did you mean "
            "'bernoulli'?",
        ),
        (
            "model: {likelihood: {scale: 1}}",
            "model.likelihood.kind: this key is required and was not given; expected one of 'bernoulli', ",
        ),
        ("model: {likelihood: 3}", "model.likelihood: got 3; expected a kind in one word, or a mapping of"),
        ("model: {likelihood:}", "model.likelihood: got None; expected a kind in one word, or a mapping of"),
        ("model: {likelihood: categorical}", "model.likelihood.classes: this key is required and was not given"),
        (
            "model: {likelihood: {kind: categorical, classes: 1}}",
            "model.likelihood.classes: got 1; expected a number greater than or equal to 2",
        ),
        (
            "model: {likelihood: {kind: gaussian, scale: some}}",
            "model.likelihood.scale: got 'some'; expected a number, or 'learned' or 'per_pixel'",
        ),
        (
            "model: {likelihood: {kind: gaussian, scale: 0}}",
            "model.likelihood.scale: expected a positive number, 'learned' or 'per_pixel', got 0",
        ),
        (
            "model: {likelihood: {kind: negative_binomial, total_count: 0}}",
            "model.likelihood.total_count: expected a positive number, got 0.0",
        ),
        (
            "geodesic: {geometry: {kind: fisher_rao_negative_binomial, total_count: [1, 0]}}",
            "geodesic.geometry.total_count: expected positive, finite numbers, got 0 at [1]",
        ),
        (
            "geodesic: {geometry: {kind: fisher_rao_negative_binomial, total_count: few}}",
            "geodesic.geometry.total_count: got 'few'; expected r: a positive number, or a list of one for each",
        ),
        ("data: [digits]", "data: got ['digits']; expected a kind in one word, or a mapping of settings"),
        (
            "data: {kind: digit}",
            "data.kind: got 'digit'; expected one of 'array', 'csv', 'digits', 'fashion_mnist', 'h5ad', 'idx', "
            "'image_folder', 'mnist', 'parquet'; did you mean 'digits'?",
        ),
        ("data: {kind: image_folder, path: a, size: 0}", "data.size: expected the side of a square in pixels, or "),
        (
            "data: {kind: image_folder, path: a, size: [3]}",
            "data.size: got [3]; expected a number: the shorter side is",
        ),
        ("data: {kind: image_folder, path: a, size: [3, 4.0]}", "data.size: got [3, 4.0]; expected a number: the"),
        ("data: {kind: image_folder, path: a, mode: mono}", "data.mode: got 'mono'; expected 'rgb' or 'gray'"),
        ("data: {kind: array}", "data.path: this key is required and was not given"),
        (
            "pairs: {count: 3}",
            "pairs.kind: this key is required and was not given; expected one of 'file', 'index', 'label', 'prior', "
            "'random'",
        ),
        ("pairs: {kind: index, indices: [[1, -2]]}", "pairs.indices.0.1: got -2; expected a number greater than or"),
        ("pairs: {kind: index, indices: [[1, 2, 3]]}", "pairs.indices.0: got [1, 2, 3]; expected a list of at most 2"),
        ("geodesic: {segments: 1}", "geodesic.segments: got 1; expected a number greater than or equal to 2"),
        ("geodesic: {solvers: []}", "geodesic.solvers: got []; expected a list of at least 1"),
        ("geodesic: {solvers: [{kind: auto}]}", "geodesic.solvers.0.name: this key is required and was not given"),
        (
            "geodesic: {solvers: [{name: a}]}",
            "geodesic.solvers.0.kind: this key is required and was not given; expected one of 'auto', "
            "'gradient_descent', 'lbfgs', 'newton', 'newton_krylov'",
        ),
        ("geodesic: {solvers: [{name: a, kind: adam}]}", "geodesic.solvers.0.kind: got 'adam'; expected one of 'auto'"),
        ("geodesic: {solvers: [auto]}", "geodesic.solvers.0: got 'auto'; expected a mapping of settings with"),
        (
            "geodesic: {solvers: [{name: a, kind: lbfgs, history: 0}]}",
            "geodesic.solvers.0.history: got 0; expected a number greater than 0",
        ),
        (
            "geodesic: {solvers: [{name: a, kind: newton, warm_up: lbfgs}]}",
            "geodesic.solvers.0.warm_up: got 'lbfgs'; expected true or false",
        ),
        (
            "geodesic: {solvers: [{name: a, kind: auto}, {name: a, kind: auto}]}",
            "solver names must differ, got ['a', 'a']",
        ),
        (
            "model: {uncertainty: rbf}",
            "model.uncertainty: got 'rbf'; rbf is a scale, and the likelihood Bernoulli has none; use blend, or",
        ),
        (
            "model: {likelihood: {kind: gaussian, scale: per_pixel}, uncertainty: rbf}",
            "rbf would replace the scales that per_pixel learns; use the scale learned, or a number",
        ),
        ("model: {decoders: 2, uncertainty: blend}", "an ensemble shows its uncertainty by its members; use one"),
        ("model: {decoders: 0}", "model.decoders: got 0; expected a number greater than 0"),
        ("model: {uncertainty: dropout}", "model.uncertainty.kind: got 'dropout'; expected one of 'blend', 'rbf'"),
        (
            "model: {uncertainty: {kind: blend, centers: 1}}",
            "model.uncertainty.centers: got 1; expected a number great",
        ),
        (
            "model: {import: 'a:b', latent_size: 2, output: logits, likelihood: bernoulli}",
            "the likelihood says what outputs are; leave out `output`, or name a part in it",
        ),
        (
            "model: {import: 'a:b', latent_size: 3, period: [6.25, null]}",
            "model.period: got [6.25, None]; expected 3 entries, one for each latent coordinate, null for one that has",
        ),
        ("model: {import: 'a:b', latent_size: 1, period: [0]}", "model.period.0: got 0; expected a number greater"),
        (
            "geodesic: {geometry: riemann}",
            "geodesic.geometry.kind: got 'riemann'; expected one of 'density', 'euclidean', 'expected', 'features', ",
        ),
        ("geodesic: {geometry: features}", "geodesic.geometry.network: this key is required and was not given"),
        ("geodesic: {members: all}", "geodesic.members: got 'all'; expected 'same' or 'independent'"),
        ("cov: {seeds: 1}", "cov.seeds: got 1; expected a number greater than or equal to 2"),
        ("geodesic: {init: random}", "geodesic.init: got 'random'; expected 'straight', 'graph' or 'best'"),
        ("geodesic: {length_rtol: 0}", "geodesic.length_rtol: got 0; expected a number greater than 0"),
        ("geodesic: {memory: 0}", "geodesic.memory: got 0; expected a number greater than 0"),
        (
            "geodesic: {memory: 2 gigabytes}",
            "geodesic.memory: got '2 gigabytes'; expected a number of bytes, or one with a unit such as 500 MB or",
        ),
    ],
)
def test_a_refused_value_is_named_with_its_path_and_what_was_expected(file: Path, text: str, complaint: str) -> None:
    message = refusal(file, text)
    assert complaint in message
    assert message.startswith(f"{file}: ")
    assert len(message.splitlines()) == 1  # one complaint, no echoes of it


@pytest.mark.parametrize("name", ["a/b", "../up", ".hidden", "''", "'a b'"])
def test_a_name_that_leaves_the_folder_of_runs_is_refused(file: Path, name: str) -> None:
    file.write_text(f"name: {name}")
    with pytest.raises(SettingsError, match="name: got"):
        load_settings(file)


def test_several_refusals_are_told_at_once_each_on_its_line(file: Path) -> None:
    lines = refusal(file, "sed: 1\ntraining: {epochs: 0}").splitlines()
    assert lines[0] == f"{file}:"
    assert sorted(line.split(":")[0] for line in lines[1:]) == ["  sed", "  training.epochs"]


def test_a_file_without_a_name_is_refused(file: Path) -> None:
    file.write_text("seed: 1\n")
    with pytest.raises(SettingsError, match="name: this key is required"):
        load_settings(file)


def test_a_missing_file_is_named(file: Path) -> None:
    with pytest.raises(SettingsError, match="no such settings file") as caught:
        load_settings(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"a: [", "not valid YAML"),
        (b"name: !!python/object:os.x {}", "not valid YAML"),
        (b"\xff\xfe", "cannot read"),
        (b"", "expected a YAML mapping of settings, got NoneType"),
        (b"- name: x", "expected a YAML mapping of settings, got list"),
        (b"name", "expected a YAML mapping of settings, got str"),
        (b"name: &a [*a]", "no anchor inside itself"),
    ],
)
def test_what_is_no_yaml_mapping_is_refused_with_the_file(file: Path, content: bytes, complaint: str) -> None:
    file.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        ("seed: 1\ndevice: cpu\nseed: 2", "seed", (2, 4)),
        ("seed: 1\n'seed': 1", "seed", (2, 3)),
        ("name: y", "name", (1, 2)),
        ("training:\n  epochs: 3\n  patience: 2\n  epochs: 3", "epochs", (3, 5)),
        ("geodesic: {solvers: [{name: a, kind: auto,\n name: b}]}", "name", (2, 3)),
        ("training: {<<: {epochs: 3}, patience: 1,\n patience: 2}", "patience", (2, 3)),
    ],
)
def test_a_key_given_twice_is_refused_with_both_lines(file: Path, text: str, key: str, lines: tuple[int, int]) -> None:
    message = refusal(file, text)
    assert message.startswith(f"{file}: ")
    assert f"the key {key!r} is given in line {lines[0]} and again in line {lines[1]}; remove one" in message


def test_the_same_key_in_different_mappings_is_no_repetition(file: Path) -> None:
    assert load(file, "seed: 3\ndata: {kind: digits, seed: 4}\npairs: {kind: random, seed: 5}").seed == 3


def test_what_a_merge_key_brings_in_can_be_overridden(file: Path) -> None:
    settings = load(
        file,
        "geodesic:\n  solvers:\n"
        "  - &first {name: a, kind: gradient_descent, step_size: 0.1, epsilon: 0.5}\n"
        "  - &second {<<: *first, name: b, step_size: 0.2}\n"
        "  - {<<: *second, name: c}\n"
        "  - {<<: [*second, *first], name: d, epsilon: 0.3}\n",
    )
    found = [(solver.name, solver.step_size, solver.epsilon) for solver in settings.geodesic.solvers]
    assert found == [("a", 0.1, 0.5), ("b", 0.2, 0.5), ("c", 0.2, 0.5), ("d", 0.2, 0.3)]


# --- overrides ---------------------------------------------------------------------------------


def test_overrides_change_what_they_name_and_nothing_else(file: Path) -> None:
    text = "data: {kind: digits}\ngeodesic: {segments: 8}"
    changed = load(file, text, "geodesic.tol=0.5", "data.limit=7")
    before = load(file, text)
    assert (changed.geodesic.tol, changed.geodesic.segments) == (0.5, 8)
    assert changed.data is not None
    assert changed.data.limit == 7
    assert before.model_copy(update={"data": changed.data, "geodesic": changed.geodesic}) == changed


def test_an_override_reads_a_number_without_a_point_as_a_number(file: Path) -> None:
    assert load(file, "", "training.learning_rate=1e-3").training.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("text", "read"), [("1e3", "a number"), ("2024", "a number"), ("1_0", "a number"), ("yes", "true or false")]
)
def test_a_name_that_yaml_reads_as_something_else_is_refused_with_the_quotes_that_help(
    file: Path, text: str, read: str
) -> None:
    message = refusal(file, "", f"name={text}")
    assert "name: got " in message
    assert f"without quotes YAML reads this as {read}: quote it, on the command line as 'name=\"...\"'" in message
    assert load(file, "", f'name="{text}"').name == text


def test_an_override_reads_yaml(file: Path) -> None:
    settings = load(file, "", "model.network.hidden_sizes=[3, 4]", "data={kind: digits}", "training.patience=null")
    assert settings.model == VAESettings(network=MLPNetwork((3, 4)))
    assert settings.data is not None
    assert settings.training.patience is None


@pytest.mark.parametrize("text", ["", "model: {likelihood: poisson}", "model: {likelihood: {kind: poisson}}"])
@pytest.mark.parametrize("override", ["likelihood=gaussian", "likelihood.kind=gaussian", "likelihood={kind: gaussian}"])
def test_an_override_changes_the_likelihood_whichever_way_it_is_written(file: Path, text: str, override: str) -> None:
    assert load(file, text, f"model.{override}").model == load(file, "model: {likelihood: gaussian}").model


def test_an_override_sets_what_belongs_to_a_kind_that_stands_alone(file: Path) -> None:
    for text, overrides in (
        ("model: {likelihood: gaussian}", ["model.likelihood.scale=0.5"]),
        ("", ["model.likelihood=gaussian", "model.likelihood.scale=0.5"]),
    ):
        assert load(file, text, *overrides).model.likelihood.scale == 0.5


def test_an_override_reaches_into_a_list(file: Path) -> None:
    text = "geodesic: {solvers: [{name: a, kind: lbfgs}, {name: b, kind: lbfgs}]}"
    settings = load(file, text, "geodesic.solvers.1.history=3")
    assert [solver.history for solver in settings.geodesic.solvers] == [20, 3]


def test_the_last_of_two_overrides_wins(file: Path) -> None:
    assert load(file, "", "seed=1", "seed=2").seed == 2


@pytest.mark.parametrize("override", ["seed", "=3", "training..epochs=3", ".seed=3", ""])
def test_an_override_that_is_no_key_and_value_is_refused_with_an_example(file: Path, override: str) -> None:
    message = refusal(file, "", override)
    assert message == f"override {override!r}: expected key.path=value, such as training.epochs=5"


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("seed=[", "not valid YAML"),
        ("data={kind: digits, limit: 3, kind: mnist}", "the key 'kind' is given in line 1 and again in line 1"),
        ("geodesic.solvers.3.name=b", "geodesic.solvers is a list of 1; expected an index below that, got '3'"),
        ("geodesic.solvers.first.name=b", "got 'first'"),
        ("training.epoch=3", "did you mean 'epochs'?"),
        ("training.epochs=", "training.epochs: got None"),
        ("model.network.hidden_sizes.0.a=1", "model.network.hidden_sizes.0 is a value, not a section"),
    ],
)
def test_an_override_that_cannot_be_applied_is_refused(file: Path, override: str, complaint: str) -> None:
    text = "geodesic: {solvers: [{name: a, kind: auto}]}\nmodel: {network: {hidden_sizes: [4]}}"
    assert complaint in refusal(file, text, override)
