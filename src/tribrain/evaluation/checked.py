"""What an estimator is given to fit, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, check_consistent_length, validate_data

from tribrain.errors import InputError

Labels = Sequence[object] | np.ndarray | None
"""A label for each row, or none."""
_AT_ONCE = 2048  # outputs


def checked_rows(
    estimator: BaseEstimator, X: Any, y: Any, used: Sequence[bool] | np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a fit was given, as arrays.

    Returns
    -------
    x : ndarray (n, columns)
    y : ndarray (n,) or (n, outputs)
        float32 stays float32; all else becomes float64.
    used : ndarray (n,) of bool

    Raises
    ------
    InputError
        If a used row of an output is not finite, or `used` fits not the rows.
    ValueError
        As scikit-learn does, of what is no such array.
    """
    if y is None:
        name = type(estimator).__name__
        raise InputError(f"{name} requires y to be passed, but the target y is None")
    floats = (np.float64, np.float32)
    x = validate_data(estimator, X, dtype=floats, ensure_min_samples=2)
    y = check_array(
        y,
        dtype=floats,
        ensure_2d=False,
        ensure_all_finite=False,
        input_name="y",
        estimator=estimator,
    )
    check_consistent_length(x, y)
    counts = np.ones(len(x), bool) if used is None else np.asarray(used)
    if counts.shape != (len(x),) or counts.dtype != bool:
        raise InputError(
            f"used has shape {counts.shape}, {counts.dtype}; {len(x)} of true or false fit"
        )
    wide = y.reshape(len(y), -1)
    for first in range(0, wide.shape[1], _AT_ONCE):
        wrong = ~np.isfinite(wide[:, first : first + _AT_ONCE]) & counts[:, None]
        if wrong.any():
            output = int(wrong.any(axis=0).argmax())
            row = int(wrong[:, output].argmax())
            raise InputError(
                f"output {first + output} of y is {wide[row, first + output]} in row {row}; "
                "finite numbers in all used rows fit"
            )
    return x, y, counts
