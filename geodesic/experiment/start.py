"""The first config of an experiment: written from what one has, with comments, and known to be valid."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import yaml

from geodesic.data.dataset import Dataset
from geodesic.data.load import load_data
from geodesic.errors import InputError, RunFolderError
from geodesic.experiment.settings.load import load_settings
from geodesic.files import write_text

__all__ = ["write_config"]

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_WORDS = ("digits", "mnist")  # kinds that need nothing of the user's


def write_config(
    config: str | Path,
    *,
    data: str | None = None,
    decoder: str | None = None,
    weights: Sequence[str] = (),
    latent_size: int = 2,
    overwrite: bool = False,
) -> list[str]:
    """Write a config that runs, each setting with a comment.

    Args:
        config: The file to write; its stem becomes the name of the run.
        data: "digits", "mnist", or what is to be trained on: a .npy or .npz file, a folder of images or of MNIST's
            IDX files. With a decoder it is what its encoder encodes, and may be left out.
        decoder: A class or function of the user's own that makes the decoder, `package.module:Name`; a VAE is trained
            if None.
        weights: Files of the decoder's weights.
        latent_size: Latent coordinates.
        overwrite: Replace the file.

    Returns:
        The commands to run next.

    Raises:
        InputError: Neither data nor a decoder are given, or weights without a decoder.
        DataError: The data cannot be used.
        RunFolderError: The file exists.
        SettingsError: A decoder is named in another way.

    Example:
        >>> import pathlib, tempfile
        >>> from geodesic.experiment.start import write_config
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "first.yaml"
        >>> [command.split()[1] for command in write_config(file, data="digits")]
        ['train', 'solve', 'plot']
    """
    config = Path(config)
    if data is None and decoder is None:
        raise InputError("--data or --decoder: one is needed; try --data digits, which are bundled")
    if weights and decoder is None:
        raise InputError(f"--weights: they are a decoder's, got {', '.join(weights)} without one; add --decoder")
    if config.exists() and not overwrite:
        raise RunFolderError(f"{config} exists already; choose another name, or replace it with --overwrite")
    sections = [_head(config.stem)]
    read = None
    if data is not None:
        section, read = _data(data)
        sections.append(section)
    sections.append(_vae(latent_size, read) if decoder is None else _own(decoder, weights, latent_size))
    sections += [_TRAINING] if decoder is None else []
    sections += [_PAIRS if read else _DRAWN_PAIRS, _GEODESIC]
    text = "\n".join(sections)
    write_text(config, text)
    try:
        settings = load_settings(config)
    except BaseException:
        config.unlink()
        raise
    train = [f"geodesic train {config}"] if decoder is None else []
    return [*train, f"geodesic solve {config}", f"geodesic plot runs/{settings.name}"]


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

_GEODESIC = """\
geodesic:
  geometry: euclidean  # how far apart two outputs are; see docs/geometries.md for the others
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
        f"--data: got {given!r}; {hint}expected {' or '.join(_WORDS)}, a .npy or .npz file, or a folder of "
        "images or of MNIST's IDX files"
    )


def _shape(event: tuple[int, ...]) -> str:
    return " x ".join(map(str, event))


def _vae(latent_size: int, data: Dataset | None) -> str:
    likelihood, why = _likelihood(data)
    return f"""\
model:
  latent_size: {latent_size}
  network:
    kind: mlp  # conv for images
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
        return "poisson", "the values are counts; negative_binomial where they vary more than their mean"
    return "gaussian", "the values are any numbers; scale them to about 1"


def _own(decoder: str, weights: Sequence[str], latent_size: int) -> str:
    said = f"  weights: {_said(weights[0] if len(weights) == 1 else list(weights))}\n" if weights else ""
    return f"""\
model:
  import: {_said(decoder)}  # called without arguments, it makes the decoder
{said}  latent_size: {latent_size}
"""


def _said(value: object) -> str:
    """A value as YAML says it, on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
