"""A small simulated study, a model that was trained on it, and its numbers read another way."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tribrain.studies.prepare import prepare
from tribrain.studies.prepared import PreparedRun, PreparedStudy
from tribrain.studies.simulated import Simulated
from tribrain.training.run import train_recipe
from tribrain.training.settings import read_recipe

OPTIONS = {"n_subjects": 4, "films": 5, "minutes": 1.0, "space": 12, "snr": 3.0, "dims": 6}
HELD_OUT = "04"
TESTED = ("film4", "film5")
LAG = 5


def write_study(folder: Path, **changes) -> Simulated:
    study = Simulated(**{**OPTIONS, **changes})
    prepare(study, folder)
    return study


def train_model(store: Path, out: Path, *changes: str) -> Path:
    """A model of three people and two films; film3 is validated, two films are tested."""
    recipe = read_recipe(
        "debug",
        [
            f"data.studies={[str(store)]}",
            'data.validation_groups=["film3"]',
            'data.test_groups=["film4", "film5"]',
            "data.validation=0.0",
            f'data.held_out=["{HELD_OUT}"]',
            "data.length=15",
            "data.step=15",
            "encoder.rank=16",
            "encoder.hidden=96",
            "training.rate=5e-3",
            "training.epochs=3",
            *changes,
        ],
    )
    train_recipe(recipe, out, device="cpu")
    return out


def film_rows(study: PreparedStudy, subject: str, film: str) -> tuple[PreparedRun, int, int]:
    """Run, first row and number of rows of the BOLD that answers to a film."""
    (run,) = [r for r in study.runs if r.subject == subject and r.task == film]
    (shown,) = run.shown
    first = round(shown.onset + LAG - run.origin)
    return run, first, min(round(shown.duration), run.rows - first)


def scaled_bold(study: PreparedStudy, subject: str, film: str) -> np.ndarray:
    """z-scored rows (rows, outputs) of a person and film, in double precision."""
    run, first, n = film_rows(study, subject, film)
    values = np.fromfile(run.array, f"<{np.dtype(run.dtype).str[1:]}", offset=run.offset)
    values = values.reshape(run.rows, run.outputs)[first : first + n].astype(float)
    return (values - values.mean(0)) / values.std(0)


def film_features(truth: Simulated, film: str) -> np.ndarray:
    """Means of all features over each second of a film (seconds, columns)."""
    series = truth.features(film).series
    columns = np.concatenate([series[name].reshape(-1, series[name].shape[-1])
                              for name in sorted(series)])  # fmt: skip
    return columns.reshape(len(columns), -1, 2).mean(-1).T


def pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    from scipy.stats import pearsonr

    return np.array([pearsonr(x[:, k], y[:, k]).statistic for k in range(x.shape[1])])
