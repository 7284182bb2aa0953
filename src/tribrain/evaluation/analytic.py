"""What can be scored in a simulated study, from its truth: nothing is estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tribrain.studies.simulated import Simulated
from tribrain.studies.simulated_truth import Prepare


@dataclass(frozen=True, eq=False)
class Analytic:
    """Expected correlation of one who knows the truth, a value an output (V,).

    NaN in the medial wall, 0 where what is known does not vary.

    Attributes
    ----------
    own : ndarray
        All that repeats in these people: what `ceilings.split_half` estimates from repeats.
    features : ndarray
        What of it follows from the features: the most that a model with a row for these people
        reaches.
    linear : ndarray
        What of that the best linear model of the drives reaches.
    group : ndarray
        The mean of the population: the most that is reached for people never seen.
    group_linear : ndarray
        What of that the best linear model reaches.
    """

    own: np.ndarray
    features: np.ndarray
    linear: np.ndarray
    group: np.ndarray
    group_linear: np.ndarray


def analytic(
    study: Simulated,
    subjects: str | Sequence[str],
    *,
    films: Sequence[str] | None = None,
    prepare: Prepare | None = None,
    repeats: int = 1,
) -> Analytic:
    """Ceilings of an evaluation of a simulated study.

    Parameters
    ----------
    study : Simulated
    subjects : str or sequence of str
        A person; or people whose mean BOLD is predicted (R_group).
    films : sequence of str, optional
        Those that are scored; the mean is over them, weighted by their rows. By default all.
    prepare : callable, optional
        What is done to the BOLD of a run before it is scored, a linear function of
        (volumes, n) to (rows, n), such as `studies.simulated_truth.preparation` for a prepared
        study. By default the volumes are scored as they were measured.
    repeats : int
        How many repeats of each film the BOLD is the mean of.

    Returns
    -------
    Analytic

    Raises
    ------
    InputError
        If the study has no such person or film; says whom it has.
    """

    def ceiling(knows: str, *, linear: bool = False) -> np.ndarray:
        return study.ceiling(
            subjects, knows, linear=linear, films=films, prepare=prepare, repeats=repeats
        )

    return Analytic(
        own=ceiling("own"),
        features=ceiling("features"),
        linear=ceiling("features", linear=True),
        group=ceiling("group"),
        group_linear=ceiling("group", linear=True),
    )
