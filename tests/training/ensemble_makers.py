"""A tiny prepared study and recipes for it, trained in about two seconds."""

from __future__ import annotations

from pathlib import Path

from tribrain.studies.prepare import prepare
from tribrain.studies.simulated import Simulated
from tribrain.training.settings import TrainingRecipe, read_recipe

SMALL = (
    "encoder.rank=16",
    "encoder.hidden=96",
    "training.rate=5e-3",
    "training.epochs=10",
    "data.length=15",
    "data.step=15",
    'data.validation_groups=["film2", "film3"]',
    'data.test_groups=["film4", "film5"]',
    "data.validation=0.0",
)
LOADING = {"device": "cpu", "cache": False}
"""How tests open models."""


def make_study(folder: Path, **changes) -> Path:
    """Two people, eight films of a minute, 20 parcels."""
    settings = {"n_subjects": 2, "films": 8, "minutes": 1.0, "space": 20, "snr": 4.0}
    prepare(Simulated(**{**settings, **changes}), folder)
    return folder


def make_recipe(store: Path, *changes: str) -> TrainingRecipe:
    return read_recipe("debug", [*SMALL, f"data.studies={[str(store)]}", *changes])
