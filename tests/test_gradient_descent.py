"""Gradient descent refuses an encoder whose products would be false."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from geodesic import DecoderError, GradientDescent


class Model(nn.Module):
    """A model whose encoder is a method, as a VAE's is."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), *layers, nn.Linear(4, 2))

    def encode(self, x: Tensor) -> Tensor:
        return self.net(x)


ENCODERS: dict[str, Callable[[Model], Callable[[Tensor], Tensor]]] = {
    "module": lambda model: model.net,
    "bound method": lambda model: model.encode,
}


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.Dropout(0.5)], ids=["batch norm", "dropout"])
@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_in_training_mode_is_refused_until_it_is_in_evaluation_mode(kind: str, layer: nn.Module) -> None:
    model = Model(layer)
    encoder = ENCODERS[kind](model.train())
    with pytest.raises(DecoderError, match=rf"^encoder: its layer '.*' \({type(layer).__name__}\) .*encoder\.eval"):
        GradientDescent("encoder", encoder)
    model.eval()
    assert GradientDescent("encoder", encoder).encoder == encoder


def test_an_encoder_without_layers_that_differ_in_training_may_be_in_training_mode() -> None:
    GradientDescent("encoder", Model().train().encode)
    GradientDescent("encoder", torch.sin)
