"""Registered classes: found by their word, described in plain values, restored as they were."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from geodesic import VAE
from geodesic.data.source import DATA_SETS
from geodesic.errors import InputError
from geodesic.models.likelihoods import LIKELIHOODS
from geodesic.models.networks.network import NETWORKS, Network
from geodesic.models.training.plan import Training
from geodesic.models.uncertainty import UNCERTAINTIES
from geodesic.registry import Registry, setting
from tests import parts

EXAMPLES: list[tuple[Registry[Any], dict[str, Any]]] = [
    (LIKELIHOODS, parts.LIKELIHOODS),
    (NETWORKS, parts.NETWORKS),
    (UNCERTAINTIES, parts.UNCERTAINTIES),
    (DATA_SETS, parts.DATA_SETS),
]
every_part = pytest.mark.parametrize(
    ("registry", "part"), [(registry, part) for registry, examples in EXAMPLES for part in examples.values()], ids=repr
)


def test_every_kind_has_an_example() -> None:
    for registry, examples in EXAMPLES:
        assert {type(part) for part in examples.values()} == set(registry.values())


@every_part
def test_a_part_is_restored_from_its_description_in_json(registry: Registry[Any], part: Any) -> None:
    described = registry.describe(part)
    assert registry[described["kind"]] is type(part)
    restored = registry.restore(json.loads(json.dumps(described)))
    assert restored == part
    assert hash(restored) == hash(part)


@every_part
def test_a_part_is_frozen_and_says_what_each_of_its_settings_is(registry: Registry[Any], part: Any) -> None:
    for field in dataclasses.fields(part):
        assert field.metadata["description"]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, field.name, None)


def test_training_says_what_each_of_its_settings_is() -> None:
    assert all(field.metadata["description"] for field in dataclasses.fields(Training) if field.metadata)


def test_what_cannot_be_made_is_refused_with_what_can() -> None:
    with pytest.raises(InputError, match="network: expected one of 'mlp', 'conv', got 'transformer'"):
        NETWORKS.make("transformer")
    with pytest.raises(InputError, match=r"network 'mlp': .*'sizes'; its arguments: hidden_sizes, activation"):
        NETWORKS.make("mlp", sizes=(3,))
    with pytest.raises(InputError, match=r"data set 'idx': .*'path'; its arguments: limit, seed, path, train, test"):
        DATA_SETS.make("idx")
    with pytest.raises(InputError, match="network: ReLU has no kind; register the class under a word"):
        NETWORKS.describe(nn.ReLU())


def test_a_word_is_given_once_and_to_dataclasses_only() -> None:
    shapes: Registry[Any] = Registry("shape")

    @dataclass(frozen=True)
    class Disc:
        radius: float = 1.0

    shapes.register("disc")(Disc)
    with pytest.raises(InputError, match="shape: the kind 'disc' is taken by Disc"):
        shapes.register("disc")(Disc)
    with pytest.raises(InputError, match="shape: expected a dataclass for the kind 'square', got int"):
        shapes.register("square")(int)
    assert list(shapes) == ["disc"]


@dataclass(frozen=True)
class Straight(Network):
    """One affine layer each way."""

    bias: bool = dataclasses.field(default=True, metadata=setting("whether there is an offset"))

    def encoder(self, event_shape: tuple[int, ...], latent_size: int) -> nn.Module:
        return HalvesOf(nn.Linear(*event_shape, 2 * latent_size, bias=self.bias))

    def decoder(self, latent_size: int, shape: tuple[int, ...]) -> nn.Module:
        return nn.Linear(latent_size, *shape, bias=self.bias)


class HalvesOf(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.layer(x).chunk(2, dim=1)


@pytest.fixture
def straight_is_a_network() -> Iterator[None]:
    NETWORKS.register("straight")(Straight)
    yield
    del NETWORKS._classes["straight"]


def test_a_network_of_ones_own_is_one_class(tmp_path: Path, straight_is_a_network: None) -> None:
    vae = VAE((6,), network=Straight(bias=False))
    vae.save(tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["network"] == {"kind": "straight", "bias": False}
    loaded, x = VAE.load(tmp_path), torch.rand(4, 6)
    assert loaded.network == Straight(bias=False)
    assert torch.equal(
        loaded.elbo(x, generator=torch.Generator()).value, vae.elbo(x, generator=torch.Generator()).value
    )


def test_a_network_that_is_not_registered_works_but_is_not_saved(tmp_path: Path) -> None:
    vae = VAE((6,), network=Straight())
    assert vae.decode(torch.zeros(1, 2)).shape == (1, 6)
    with pytest.raises(InputError, match="network: Straight has no kind"):
        vae.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
