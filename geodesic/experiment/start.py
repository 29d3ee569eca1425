"""The first config of an experiment: written from what one has, with comments, and known to be valid."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml

from geodesic.adapters.imported import PROGRAM
from geodesic.data.dataset import Dataset
from geodesic.data.load import load_data
from geodesic.door.door import visit
from geodesic.errors import InputError, RunFolderError
from geodesic.experiment.build import load_model, make_manifold
from geodesic.experiment.geometries import Context
from geodesic.experiment.settings.load import settings_from_text
from geodesic.experiment.settings.whole import Settings
from geodesic.files import write_text
from geodesic.geometry.checks import admit

__all__ = ["write_config"]

_PROBES = 8  # points from the prior at which a decoder is looked at
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_WORDS = ("digits", "mnist")  # kinds that need nothing of the user's


def write_config(
    config: str | Path,
    *,
    data: str | None = None,
    decoder: str | None = None,
    weights: Sequence[str] = (),
    prefix: str | None = None,
    latent_size: int | None = None,
    condition: str | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Write a config that runs, each setting with a comment.

    Args:
        config: The file to write; its stem becomes the name of the run.
        data: "digits", "mnist", or what is to be trained on: a .npy or .npz file, a folder of images or of MNIST's
            IDX files. With a decoder it is what its encoder encodes, and may be left out.
        decoder: A class or function of the user's own that makes the decoder, `package.module:Name`; a VAE is trained
            if None.
        weights: Files of the decoder's weights, several for an ensemble; programs of torch.export (`.pt2`) need no
            decoder beside them.
        prefix: What the names of the decoder's weights begin with in the files; by default it is found.
        latent_size: Latent coordinates; by default 2 for a VAE that is trained, and those that the decoder takes.
        condition: What else the decoder takes, as YAML says it: `3`, `{label: 3}`.
        overwrite: Replace the file.

    Returns:
        The commands to run next.

    Raises:
        InputError: Neither data nor a decoder are given, or weights without a decoder.
        DataError: The data cannot be used.
        RunFolderError: The file exists.
        SettingsError: A decoder is named in another way, cannot be imported or made, or decodes nothing.
        DecoderError: No geodesics can be found in the decoder's latent space: it is random, couples rows, or hides a
            part from autograd.
        CheckpointError: Weights are missing, damaged or made for another model.

    Example:
        >>> import pathlib, tempfile
        >>> from geodesic.experiment.start import write_config
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "first.yaml"
        >>> [command.split()[1] for command in write_config(file, data="digits")]
        ['train', 'solve', 'plot', 'report']
    """
    config = Path(config)
    own = decoder is not None or (bool(weights) and all(file.endswith(PROGRAM) for file in weights))
    if data is None and not own and not weights:
        raise InputError("--data or --decoder: one is needed; try --data digits, which are bundled")
    if weights and not own:
        raise InputError(f"--weights: they are a decoder's, got {', '.join(weights)} without one; add --decoder")
    if config.exists() and not overwrite:
        raise RunFolderError(f"{config} exists already; choose another name, or replace it with --overwrite")
    first = [_head(config.stem)]
    read = None
    if data is not None:
        section, read = _data(data)
        first.append(section)
    if own:
        model = _own(decoder, weights, prefix, latent_size, condition)
        rest = [_DRAWN_PAIRS, _geodesic("natural")]
        outputs = _admitted(settings_from_text("\n".join([*first, model, *rest]), config))
        text = "\n".join([*first, model + _flat(outputs), *rest])
    else:
        text = "\n".join([*first, _vae(latent_size or 2, read), _TRAINING, _PAIRS, _geodesic("euclidean")])
    settings = settings_from_text(text, config)
    write_text(config, text)
    train = [] if own else [f"geodesic train {config}"]
    run = f"runs/{settings.name}"
    return [*train, f"geodesic solve {config}", f"geodesic plot {run}", f"geodesic report {run}"]


def _admitted(settings: Settings) -> tuple[int, ...]:
    """The shape of the means of a decoder of the user's, which is looked at as `solve` looks at it: what cannot be made
    or used is refused now.
    """
    device, dtype = torch.device("cpu"), getattr(torch, settings.dtype)
    model = load_model(settings.model, Path(), device, dtype)
    generator = torch.Generator("cpu").manual_seed(settings.seed)
    z = torch.randn(_PROBES, model.latent_size, generator=generator, dtype=dtype, device=device)
    with visit():
        admit(make_manifold(settings.geodesic, Context(model, device, dtype, lambda: None, False)), z, finite=True)
    with torch.no_grad():
        return tuple(model.mean(z).shape[1:])


def _flat(outputs: tuple[int, ...]) -> str:
    """The line about pictures, where outputs are flat."""
    if len(outputs) != 1:
        return ""
    side = math.isqrt(outputs[0])
    shape = f"[1, {side}, {side}]" if side**2 == outputs[0] else "[1, 28, 28]"
    return f"  image_shape: null  # {shape}, say, if the {outputs[0]:,} outputs are an image; null: columns of colors\n"


def _head(name: str) -> str:
    return f"""\
# An experiment of geodesic: every setting can also be changed on the command line, as in training.epochs=5.
name: {_said(name)}  # the run folder is runs/{name}
seed: 0
device: auto  # cuda where there is one
dtype: float64  # precision of geodesics; float32 is faster on a GPU
"""


_TRAINING = """\
training:
  epochs: 60
  batch_size: 64
  learning_rate: 1.0e-3
  kl_warmup_epochs: 10  # epochs over which the weight of the KL term grows to 1: against collapsed dimensions
"""

_PAIRS = """\
pairs:
  kind: random  # pairs of held-out rows; also label (from, to), index, file
  count: 8
"""

_DRAWN_PAIRS = """\
pairs:
  kind: prior  # latent points drawn from a standard normal distribution; with your own: {kind: file, path: points.npz}
  count: 8
"""

_GEOMETRIES = {
    "euclidean": "how far apart two outputs are; see docs/geometries.md for the others",
    "natural": "the one that suits what the decoder returns; see docs/geometries.md for the others",
}


def _geodesic(geometry: str) -> str:
    return f"""\
geodesic:
  geometry: {geometry}  # {_GEOMETRIES[geometry]}
  init: straight  # best also starts from a graph of the data and keeps the shorter path
  length_rtol: 1.0e-3  # largest estimated relative error of a length
"""


def _data(given: str) -> tuple[str, Dataset]:
    """The section for data, and the data themselves, which must be readable."""
    section = {"kind": given} if given in _WORDS else _found(given)
    read = load_data(**section)
    lines = [f"  {key}: {_said(value)}" for key, value in section.items()]
    rows = f"{len(read.train):,} rows train, {len(read.test):,} are held out; a row is {_shape(read.event_shape)}"
    return "\n".join([f"data:  # {rows}", *lines, ""]), read


def _found(given: str) -> dict[str, str]:
    """Which kind of data lies at a path."""
    path = Path(given).expanduser()
    if path.is_file() and path.suffix in (".npy", ".npz"):
        return {"kind": "array", "path": given}
    if path.is_file() and path.suffix in (".csv", ".parquet", ".h5ad"):
        return {"kind": path.suffix[1:], "path": given}
    if path.is_dir():
        names = [file.name for file in path.rglob("*") if file.is_file()]
        if any("idx" in name and "ubyte" in name for name in names):
            return {"kind": "idx", "path": given}
        if any(name.lower().endswith(_IMAGES) for name in names):
            return {"kind": "image_folder", "path": given}
        raise InputError(
            f"--data: {path} holds neither images nor MNIST's IDX files; give a folder that does, or a .npz"
        )
    close = difflib.get_close_matches(given, _WORDS, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise InputError(
        f"--data: got {given!r}; {hint}expected {' or '.join(_WORDS)}, a .npy, .npz, .csv, .parquet or .h5ad file, or "
        "a folder of images or of MNIST's IDX files"
    )


def _shape(event: tuple[int, ...]) -> str:
    return " x ".join(map(str, event))


def _vae(latent_size: int, data: Dataset | None) -> str:
    likelihood, why = _likelihood(data)
    return f"""\
model:
  latent_size: {latent_size}
  network:
    kind: mlp  # conv for images, with channels: [32, 64], say, in place of hidden_sizes
    hidden_sizes: [256, 256]
    activation: elu  # smooth activations give smooth geodesics
  likelihood: {likelihood}  # {why}
"""


def _likelihood(data: Dataset | None) -> tuple[str, str]:
    """What the values look like, and why."""
    assert data is not None
    values = data.train.values
    if float(values.min()) >= 0 and float(values.max()) <= 1:
        return "bernoulli", "the values lie between 0 and 1"
    if bool((values >= 0).all()) and bool((values == values.round()).all()):
        return "negative_binomial", "the values are counts; poisson where they vary no more than their mean"
    return "gaussian", "the values are any numbers"


def _own(
    decoder: str | None, weights: Sequence[str], prefix: str | None, latent_size: int | None, condition: str | None
) -> str:
    lines = ["model:"]
    if decoder is not None:
        lines.append(f"  import: {_said(decoder)}  # makes the decoder; what it takes: arguments: {{hidden: 400}}, say")
    if weights:
        why = "" if len(weights) == 1 else "  # an ensemble"
        lines.append(f"  weights: {_said(weights[0] if len(weights) == 1 else list(weights))}{why}")
    if prefix is not None:
        lines.append(f"  prefix: {_said(prefix)}  # of the names of its weights in the files")
    lines += [f"  latent_size: {_said(latent_size)}  # null: found from its layers"]
    if condition is not None:
        lines.append(f"  condition: {condition}  # what else it takes, one for all pairs")
    lines.append("")
    return "\n".join(lines)


def _said(value: object) -> str:
    """A value as YAML says it, on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
