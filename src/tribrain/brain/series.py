"""Measured or predicted BOLD with its clock and its space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tribrain.brain.spaces import Space
from tribrain.errors import InputError


@dataclass(frozen=True, eq=False)
class BoldSeries:
    """BOLD of one run, as it was measured: any repetition time, any space.

    Attributes
    ----------
    values : ndarray (time, n), float32
        NaN where nothing was measured (a scrubbed volume, a vertex outside the field of view).
    space : Space
        Of n values.
    repetition_time : float
        Seconds from one volume to the next.
    start : float
        Time of the first volume, in seconds of the run.
    """

    values: np.ndarray
    space: Space
    repetition_time: float
    start: float = 0.0

    def __post_init__(self) -> None:
        if self.values.ndim != 2:
            raise InputError(f"the series has shape {self.values.shape}; (time, values) fits")
        self.space.check(self.values, "the series")
        if not 0 < self.repetition_time < 100:
            raise InputError(f"repetition time {self.repetition_time:g} s; 0 to 100 s fit")

    @property
    def time(self) -> np.ndarray:
        """Seconds of the run at which each volume was measured (time,)."""
        return self.start + self.repetition_time * np.arange(len(self.values))
