"""Feature series of stimuli: what windows are cut from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tribrain.studies.prepared import PreparedSource, PreparedStudy
from tribrain.studies.runs import Shown


@dataclass(frozen=True, eq=False)
class Series:
    """Feature series of a stimulus: (layers, dim, time) by modality, `rate` samples a second."""

    values: Mapping[str, np.ndarray]
    rate: float


def stimulus_series(
    studies: Iterable[PreparedStudy], extract: Callable[[Any], Series]
) -> dict[str, Series]:
    """Features of every stimulus of studies, each worked out once.

    Parameters
    ----------
    studies : iterable of PreparedStudy
    extract : callable
        From a stimulus (`tribrain.stimuli.stimulus.Stimulus`) to its series; not called for
        stimuli that are feature series already.
    """
    found: dict[str, Series] = {}
    for study in studies:
        for run in study.runs:
            for shown in run.shown:
                content = shown.source.content()
                if content in found:
                    continue
                source = _source(shown)
                series = getattr(source, "series", None)
                found[content] = (
                    Series(series, source.rate) if series is not None else extract(source.open())
                )
    return found


def extracts(study: PreparedStudy) -> bool:
    """Whether features of any stimulus of a study have to be worked out."""
    shown = (_source(one) for run in study.runs for one in run.shown)
    return any(getattr(source, "series", None) is None for source in shown)


def _source(shown: Shown) -> Any:
    """What was shown, as its study knows it: feature series have ``series``."""
    kept: Any = shown.source
    return kept.source() if isinstance(kept, PreparedSource) else kept


def faded(series: Series, fading: float) -> Series:
    """Series whose dimension k (from 1) is multiplied by ``k ** -fading``."""
    if not fading:
        return series
    values = {}
    for name, array in series.values.items():
        factors = np.arange(1, array.shape[1] + 1) ** -float(fading)
        values[name] = (array * factors[None, :, None]).astype(np.float32)
    return Series(values, series.rate)
