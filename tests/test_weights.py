"""Weights as users have them: every format fills a module exactly, and what does not fit changes nothing."""

import inspect
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import geodesic
from geodesic.errors import CheckpointError, InputError
from tests.foreign import ExampleVAE, net, seeded


def under(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": x for name, x in weights.items()}


WEIGHTS = seeded(net).state_dict()
OTHERS = under("encoder.", seeded(net, 12, 2).state_dict())
LIGHTNING = {
    "epoch": 3,
    "pytorch-lightning_version": "2.6.6",
    "state_dict": under("vae.decoder.", WEIGHTS) | OTHERS,
    "optimizer_states": [{"state": {0: {"step": torch.tensor(5.0)}}, "param_groups": [{"lr": 1e-3}]}],
    "hyper_parameters": {"latent": 2},
}

SAVED: dict[str, tuple[str, Callable[[Path], Any], str | None]] = {
    "safetensors": ("a.safetensors", lambda file: save_file(WEIGHTS, file), None),
    "safetensors by another name": ("weights", lambda file: save_file(WEIGHTS, file), None),
    "a state_dict": ("a.pt", lambda file: torch.save(WEIGHTS, file), None),
    "of old versions of torch": (
        "a.pth",
        lambda file: torch.save(WEIGHTS, file, _use_new_zipfile_serialization=False),
        None,
    ),
    "under state_dict": ("a.pt", lambda file: torch.save({"state_dict": WEIGHTS, "epoch": 3}, file), None),
    "under model": ("a.pt", lambda file: torch.save({"model": WEIGHTS, "step": torch.tensor(3)}, file), None),
    "of DataParallel": ("a.pt", lambda file: torch.save(under("module.", WEIGHTS), file), None),
    "of Lightning": ("a.ckpt", lambda file: torch.save(LIGHTNING, file), None),
    "of Lightning, named": ("a.ckpt", lambda file: torch.save(LIGHTNING, file), "vae.decoder."),
    "named without its dot": ("a.pt", lambda file: torch.save(under("decoder.", WEIGHTS) | OTHERS, file), "decoder"),
    "beside a copy": (
        "a.pt",
        lambda file: torch.save(under("decoder.", WEIGHTS) | under("ema.", seeded(net).double().state_dict()), file),
        "decoder.",
    ),
}


@pytest.mark.parametrize("what", SAVED)
def test_every_format_fills_a_module_with_the_same_numbers(what: str, tmp_path: Path) -> None:
    name, save, prefix = SAVED[what]
    save(tmp_path / name)
    module = net().float()
    assert geodesic.load_weights(module, tmp_path / name, prefix) is module
    for key, weight in module.state_dict().items():
        assert torch.equal(weight, WEIGHTS[key])


@pytest.mark.parametrize(
    ("module", "file", "expected"),
    [
        (torch.float32, torch.float64, torch.float64),  # no digit is lost
        (torch.float32, torch.float16, torch.float32),
        (torch.float64, torch.float32, torch.float64),
    ],
)
def test_a_module_keeps_its_precision_unless_the_file_has_more_digits(module, file, expected, tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 3).to(file).state_dict(), tmp_path / "a.pt")
    assert geodesic.load_weights(nn.Linear(2, 3).to(module), tmp_path / "a.pt").weight.dtype == expected


def pickled(file: Path) -> None:
    torch.save(ExampleVAE(), file)


def scripted(file: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is on its way out
        torch.jit.save(torch.jit.script(net()), file)


def program(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:  # as `torch.export.save` writes, which takes seconds
        archive.writestr("archive/archive_format", "pt2")
        archive.writestr("archive/models/model.json", "{}")


def truncated(file: Path) -> None:
    torch.save(WEIGHTS, file)
    file.write_bytes(file.read_bytes()[:-200])


REFUSED: dict[str, tuple[Callable[[Path], Any], str | None, str]] = {
    "nothing": (lambda file: None, None, "no such file; check the path"),
    "a pickled module": (
        pickled,
        None,
        r"pickled objects \(.*ExampleVAE\), .*torch.save\(model.state_dict\(\), path\)",
    ),
    "a script": (scripted, None, r"a program with its weights; give geodesic.wrap\(torch.jit.load\("),
    "a program": (
        program,
        None,
        r"a program with its weights; give geodesic.wrap\(torch.export.load\(",
    ),
    "a part of a file": (truncated, None, "truncated, or no file of torch.save"),
    "text": (lambda file: file.write_text("weights"), None, "truncated, or no file of torch.save"),
    "a tensor": (
        lambda file: torch.save(torch.zeros(3), file),
        None,
        "expected a state_dict, got Tensor; where it was",
    ),
    "settings": (lambda file: torch.save({"lr": 0.1, "seed": 3}, file), None, "got entries 'lr', 'seed'; where it was"),
    "other layers": (
        lambda file: torch.save(seeded(net, 3).state_dict() | {"4.bias": torch.zeros(2)}, file),
        None,
        r"another model \(4.bias is unknown; 0.weight is \(8, 3\) instead of \(8, 2\)\); build Sequential as it was",
    ),
    "too few": (
        lambda file: torch.save({"0.weight": torch.zeros(8, 2)}, file),
        None,
        "0.bias is missing; 2.weight is missing; 2.bias is missing",
    ),
    "two that fit": (
        lambda file: torch.save(under("decoder.", WEIGHTS) | under("ema.decoder.", WEIGHTS), file),
        None,
        "prefix: several parts of .* fit: 'decoder.', 'ema.decoder.'; say which, prefix='decoder.'",
    ),
    "another prefix": (
        lambda file: torch.save(under("decoder.", WEIGHTS) | OTHERS, file),
        "dec.",
        "prefix: no weight of .* begins with 'dec.'; its names begin with 'decoder.', 'encoder.'",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_fill_a_module_is_refused_with_the_way_out_and_changes_nothing(what: str, tmp_path: Path) -> None:
    save, prefix, message = REFUSED[what]
    file, module = tmp_path / "file.pt", net()
    save(file)
    before = {name: x.clone() for name, x in module.state_dict().items()}
    with pytest.raises(CheckpointError, match=message) as caught:
        geodesic.load_weights(module, file, prefix)
    assert str(file) in str(caught.value)
    assert len(str(caught.value)) < 700
    assert all(torch.equal(x, before[name]) for name, x in module.state_dict().items())


def test_a_pickled_module_runs_no_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"state_dict": WEIGHTS, "trap": Trap()}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="pickled objects"):
        geodesic.load_weights(net(), tmp_path / "a.pt")
    assert not (tmp_path / "sprung").exists()


def test_what_is_no_module_is_refused(tmp_path: Path) -> None:
    unchecked = inspect.unwrap(geodesic.load_weights)  # without the checks of types that tests have
    with pytest.raises(InputError, match=r"module: expected a torch.nn.Module, got the class ExampleVAE itself; make"):
        unchecked(ExampleVAE, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"module: expected a torch.nn.Module, got function"):
        unchecked(lambda z: z, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"path: expected a file, got OrderedDict; .* module.load_state_dict"):
        unchecked(net(), WEIGHTS)
