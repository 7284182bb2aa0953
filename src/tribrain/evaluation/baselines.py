"""The baselines of the field by name, made for a setting: what `--baselines fir,hrf` asks for.

All are fitted to the features that a model reads, at the rows of the BOLD, on the same splits.
Features stand at the second at which they were seen or heard: what is later in the brain is the
business of the estimator, which delays them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tribrain.brain.haemodynamics import LAG
from tribrain.errors import InputError

DELAYS = tuple(float(second) for second in range(2, 9))
"""Seconds of a finite impulse response, about its peak, as in Huth et al. 2016 (Nature 532:453-458;
2, 4, 6 and 8 s). With 10, 30 and 60 minutes of a person of a simulated study, r of films left out
was 0.216, 0.282 and 0.316; with 1 to 10 s 0.196, 0.266 and 0.305; with 1 to 15 s 0.180, 0.238 and
0.289. Where responses differ more between regions than there, more may be worth their columns."""
GAP = 6.0
"""Seconds about what inner cross-validation leaves out that are not trained on."""


@dataclass(frozen=True)
class Setting:
    """What a baseline has to know of the data.

    Attributes
    ----------
    repetition_time : float
        Seconds from one row to the next.
    bands : tuple of int, optional
        Columns of each feature space (modality), in order; None: all are one.
    n_outputs : int, optional
        Outputs, where they are known: some searches are shorter for many.
    delays : tuple of float
        Seconds, of finite impulse responses.
    lag : float
        Seconds, of the baselines that have one delay: `plain`, and `scaled` about it. 0 where
        features are already as late as the BOLD.
    folds : int
        Of the inner cross-validation.
    seed : int
        Of those that draw at random.
    """

    repetition_time: float = 1.0
    bands: tuple[int, ...] | None = None
    n_outputs: int | None = None
    delays: tuple[float, ...] = DELAYS
    lag: float = LAG
    folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.repetition_time < 100:
            raise InputError(f"repetition time {self.repetition_time:g} s; 0 to 100 s fit")
        if not self.delays:
            raise InputError("no delays; one or more seconds fit")
        if self.bands is not None and (not self.bands or min(self.bands) < 1):
            raise InputError(f"bands {self.bands}; one or more columns for each fit")

    @property
    def delay_rows(self) -> tuple[int, ...]:
        """Delays in rows, each once."""
        return delays_in_rows(self.delays, self.repetition_time)

    @property
    def lag_rows(self) -> int:
        return round(self.lag / self.repetition_time)

    @property
    def gap_rows(self) -> int:
        return int(np.ceil(GAP / self.repetition_time))


def delays_in_rows(seconds: Sequence[float], repetition_time: float) -> tuple[int, ...]:
    """Delays in seconds as the nearest whole rows, each once, ascending.

    Examples
    --------
    >>> delays_in_rows((1, 2, 3, 4), 2.0)
    (0, 1, 2)
    """
    # Halves round to the even row, as everywhere on the clock of features.
    return tuple(sorted({round(second / repetition_time) for second in seconds}))


def _plain(setting: Setting) -> Any:
    from tribrain.evaluation.ridges import FIRRidge

    return FIRRidge(delays=(setting.lag_rows,), **_inner(setting))


def _fir(setting: Setting) -> Any:
    from tribrain.evaluation.ridges import FIRRidge

    return FIRRidge(delays=setting.delay_rows, **_inner(setting))


def _hrf(setting: Setting) -> Any:
    from tribrain.evaluation.ridges import HRFRidge

    return HRFRidge(repetition_time=setting.repetition_time, **_inner(setting))


def _scaled(setting: Setting) -> Any:
    from tribrain.evaluation.ridges import ScaledRidge

    about = max(1, round(1.0 / setting.repetition_time))
    lags = tuple(setting.lag_rows + step for step in (-about, 0, about))
    return ScaledRidge(lags=lags, **_inner(setting))


def _banded(setting: Setting) -> Any:
    from tribrain.evaluation.banded import BandedRidge

    return BandedRidge(bands=setting.bands, delays=setting.delay_rows, **_inner(setting))


def _group_kernel(setting: Setting) -> Any:
    from tribrain.evaluation.banded import GroupKernelRidge

    return GroupKernelRidge(
        bands=setting.bands, delays=setting.delay_rows, seed=setting.seed, **_inner(setting)
    )


def _rbf(setting: Setting) -> Any:
    from tribrain.evaluation.kernels import RBFKernelRidge

    return RBFKernelRidge(delays=setting.delay_rows, **_inner(setting))


def _stacked(setting: Setting) -> Any:
    from tribrain.evaluation.stacking import StackedRegression

    return StackedRegression(bands=setting.bands, delays=setting.delay_rows, **_inner(setting))


def _inner(setting: Setting) -> dict[str, Any]:
    return {"folds": setting.folds, "gap": setting.gap_rows}


BASELINES: Mapping[str, Callable[[Setting], Any]] = {
    "plain": _plain,
    "fir": _fir,
    "hrf": _hrf,
    "scaled": _scaled,
    "banded": _banded,
    "group-kernel": _group_kernel,
    "rbf": _rbf,
    "stacked": _stacked,
}
"""From a setting to an estimator of scikit-learn's kind, not yet fitted."""

TOLD: Mapping[str, str] = {
    "plain": "ridge on features at one lag",
    "fir": "ridge on delayed features (finite impulse response)",
    "hrf": "ridge on features convolved with the canonical haemodynamic response",
    "scaled": "ridge on columns scaled by a power of their number, at one lag; both chosen inside",
    "banded": "ridge on delayed features, a penalty for each modality",
    "group-kernel": "ridge on delayed features, weights of the modalities by random search",
    "rbf": "kernel ridge (radial basis function) on delayed features",
    "stacked": "ridges of each modality, averaged with weights learned on rows left out",
}
"""What each of them is, in a line."""


def baseline_names(names: str | Sequence[str]) -> tuple[str, ...]:
    """Names asked for, each once.

    Parameters
    ----------
    names : str or sequence of str
        With commas, or a list; "none" alone for none.

    Raises
    ------
    InputError
        A name that there is none of.

    Examples
    --------
    >>> baseline_names("fir, hrf")
    ('fir', 'hrf')
    """
    asked = names.split(",") if isinstance(names, str) else list(names)
    asked = [name.strip() for name in asked]
    if asked == ["none"]:
        return ()
    for name in asked:
        if name not in BASELINES:
            raise InputError(
                f"baseline {name!r} is unknown; known: {', '.join(BASELINES)}; none for none"
            )
    return tuple(dict.fromkeys(asked))


def make_baselines(names: str | Sequence[str], setting: Setting) -> dict[str, Any]:
    """Estimators by name, not yet fitted.

    Each has ``fit(X, y, *, runs=None, groups=None, used=None)`` and ``predict(X, *, runs=None)``.

    Raises
    ------
    InputError
        A name that there is none of.
    """
    return {name: BASELINES[name](setting) for name in baseline_names(names)}


def nuisance_floor(setting: Setting) -> Any:
    """The estimator of the nuisance floor: what `hrf` is, on nuisance series."""
    return _hrf(setting)
