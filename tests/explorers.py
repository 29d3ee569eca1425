"""A small scene for the tests of the explorer: a hill that geodesics go around, with pictures, in two coordinates."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

import geodesic
from geodesic.explorer.explore import scene_of
from geodesic.explorer.scene import Scene
from geodesic.explorer.serve import listen, make_server
from geodesic.explorer.server import make_app
from geodesic.explorer.session import Session

PATTERN = torch.linspace(0, 1, 12).reshape(1, 12)


def hill(z: torch.Tensor) -> torch.Tensor:
    """A surface over the plane, and nothing where z_1 is above 2.3."""
    if bool((z[:, 0] > 2.3).any()):
        raise ValueError("this place is out of bounds")
    return torch.cat([z, 2 * (-z.square().sum(1, True)).exp()], dim=1)


def pictures(z: torch.Tensor) -> torch.Tensor:
    """An image (1, 3, 4) for each point."""
    return torch.sigmoid(z.sum(1, keepdim=True) + PATTERN).reshape(-1, 1, 3, 4)


def grid(d: int = 2) -> torch.Tensor:
    """Points all over [-2, 2]^d."""
    return 4 * torch.rand(60, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 2


def scene(d: int = 2, **more: Any) -> Scene:
    """What the tests explore."""
    manifold = geodesic.PullbackManifold(hill if d == 2 else lambda z: torch.cat([z, z.sin()], dim=1))
    return scene_of(manifold, grid(d), np.arange(60) % 3, decoder=pictures, **more)


def asked(kind: str, **fields: Any) -> dict[str, Any]:
    """A request of one tab, from the scene's usual choices."""
    usual = {"tab": "one", "plane": None, "geometry": "PullbackManifold", "solver": "auto", "start": "straight"}
    return {"kind": kind, "number": 1, **usual, **fields}


@contextlib.contextmanager
def served(shown: Scene, token: str = "secret") -> Iterator[int]:
    """The port of a server in this process that shows a scene."""
    up = threading.Event()
    with listen("127.0.0.1", 0) as found:
        server = make_server(make_app(Session(shown), token), up.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [found]})
        thread.start()
        try:
            assert up.wait(20)
            yield found.getsockname()[1]
        finally:
            server.should_exit = server.force_exit = True
            thread.join(20)
