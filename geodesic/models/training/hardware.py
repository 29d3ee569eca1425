"""Which hardware a training runs on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from geodesic.errors import InputError
from geodesic.models.training.plan import Training

__all__ = ["Hardware", "choose_hardware"]


@dataclass(frozen=True)
class Hardware:
    """Lightning's accelerator and devices: how many, or the number of one."""

    accelerator: str
    devices: int | list[int]

    @property
    def processes(self) -> int:
        """One for each device."""
        return 1 if isinstance(self.devices, list) else self.devices


def choose_hardware(training: Training) -> Hardware:
    """The hardware that is asked for, where this machine has it.

    Args:
        training: Its `accelerator`, `device`, `devices` and `precision` are looked at.

    Raises:
        InputError: The device does not exist or has no such precision.
    """
    accelerator, device = training.accelerator, training.device
    devices: int | list[int] = 1 if training.devices == "auto" else training.devices
    if accelerator == "auto":
        name, _, index = device.partition(":")
        if name not in ("auto", "cpu", "cuda") or (index and not (name == "cuda" and index.isdigit())):
            raise InputError(f"device: expected auto, cpu, cuda or cuda:N, got {device!r}")
        cuda = name == "cuda" or (name == "auto" and torch.cuda.is_available())
        accelerator = "cuda" if cuda else "cpu"
        if index:
            devices = [int(index)]
    if accelerator in ("cuda", "gpu"):
        asked = max(devices) + 1 if isinstance(devices, list) else devices
        available = torch.cuda.device_count() if torch.cuda.is_available() else 0
        # On a machine with Apple's GPU, "gpu" is that one.
        apple = accelerator == "gpu" and torch.backends.mps.is_available()
        if asked > available and not apple:
            raise InputError(
                f"device: {device!r} with accelerator {training.accelerator!r} asks for {asked} CUDA "
                f"device(s), and PyTorch finds {available} here; "
                "use device=cpu, or a build of PyTorch with CUDA"
            )
    if accelerator == "cpu" and training.precision == "16-mixed":
        raise InputError(
            "training.precision: got '16-mixed' on the CPU, which has no such arithmetic; use bf16-mixed or 32-true"
        )
    return Hardware(accelerator, devices)
