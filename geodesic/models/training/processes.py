"""A process for each device."""

from __future__ import annotations

import logging
import sys
import warnings

from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

__all__ = ["LOGGERS", "Processes"]

LOGGERS = ("lightning.pytorch", "lightning.fabric")


class Processes(DDPStrategy):
    """A process for each device, equal steps in all of them, started from here.

    Lightning's default would run the user's whole script once more for each device.
    """

    def __init__(self) -> None:
        # Forked from an interactive session, which has no file that another process could import. Processes
        # that start afresh are the rule: threads and CUDA do not survive a fork.
        interactive = hasattr(sys, "ps1")
        super().__init__(start_method="fork" if interactive else "spawn", cluster_environment=LightningEnvironment())

    def end(self) -> None:
        """End the processes that an interruption or an error has left; their files are whole at any time."""
        assert isinstance(self.launcher, _MultiProcessingLauncher)
        for process in self.launcher.procs:
            process.kill()

    def setup_environment(self) -> None:
        # The levels and filters of the process that starts training do not reach the ones it starts.
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=r"lightning\.")
        super().setup_environment()
