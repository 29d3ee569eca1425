"""What every section of settings has in common: frozen, strict, and refusing unknown keys."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict

__all__ = ["DEVICE", "FUNCTION", "LABEL", "NAME", "Section", "reads_as_number"]

NAME = r"^[A-Za-z0-9][\w.-]*$"
LABEL = r"^[\w-]+$"
DEVICE = r"^(auto|cpu|cuda(:\d+)?)$"
FUNCTION = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"


class Section(BaseModel):
    """A mapping of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def reads_as_number(text: str) -> bool:
    """Whether a text is a finite number, also where YAML 1.1 does not read it as one, such as 1e-3."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
