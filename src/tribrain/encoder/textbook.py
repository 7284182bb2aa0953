"""The textbook model: hand-set maps from simple features to regions, not trained on data.

What drives each region, how strongly and where it lies stand in one table with a source for each
row (``tribrain/brain/textbook.tsv``). A region's activity is the weighted sum of its features; it
is spread over the surface by the region's width, then delayed and blurred by the canonical
haemodynamic response.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np

from tribrain.brain.haemodynamics import LAG, convolve
from tribrain.brain.regions import region_maps, textbook_table
from tribrain.brain.response import Response
from tribrain.brain.spaces import Space, mesh_space
from tribrain.encoder.inputs import gather_inputs, shared_modalities
from tribrain.errors import InputError
from tribrain.features.extract import FeatureSeries, Progress, extract_features
from tribrain.features.grid import n_rows
from tribrain.features.lexical import LEXICAL_FEATURES
from tribrain.features.pieces import Extractors
from tribrain.features.recipe import FeatureRecipe
from tribrain.features.sound import SOUND_FEATURES
from tribrain.features.store import Store
from tribrain.features.visual import VISUAL_FEATURES
from tribrain.stimuli.stimulus import MODALITIES, Stimulus

FEATURES = {"text": LEXICAL_FEATURES, "audio": SOUND_FEATURES, "video": VISUAL_FEATURES}
FREQUENCY = 2.0
RECIPE = FeatureRecipe(
    simple={
        "text": LEXICAL_FEATURES,
        "audio": SOUND_FEATURES,
        "video": ("contrast", "motion", "colour"),
    },
    frequency=FREQUENCY,
)
SPACE = "fsaverage5"
LABEL = "textbook model, not trained on data"


@cache
def feature_maps() -> Mapping[str, np.ndarray]:
    """How strongly each feature drives each vertex of fsaverage5: (20484,) for each feature.

    Where regions that share a feature overlap, the stronger drive counts: two areas side by side
    do not make the border between them respond twice.
    """
    maps = region_maps(SPACE)
    result = {
        name: np.zeros(len(next(iter(maps.values())))) for n in FEATURES.values() for name in n
    }
    table = textbook_table()
    columns = (table["region"], table["hemisphere"], table["feature"], table["weight"])
    for region, letter, feature, weight in zip(*columns, strict=True):
        drive = float(weight) * maps[f"{region}_{letter}"]
        result[feature] = np.where(np.abs(drive) > np.abs(result[feature]), drive, result[feature])
    return result


class TextbookModel:
    """The built-in model that needs no download (`tribrain.load_model("textbook")`)."""

    name = "textbook"
    revision = "1"
    modalities = MODALITIES
    subjects: tuple[str, ...] = ()
    accuracy: None = None  # it is no checkpoint that a map could lie beside

    def __init__(self, store: Store | None = None) -> None:
        self.store = store

    @property
    def space(self) -> Space:
        """Space of the responses."""
        return mesh_space(SPACE)

    def check_extracts(self) -> None:
        """All it reads can be worked out of a stimulus."""

    def extract(
        self,
        stimulus: Stimulus,
        *,
        modalities: Iterable[str] | None = None,
        progress: Progress | None = None,
    ) -> FeatureSeries:
        """Extract the simple features of a stimulus.

        Returns
        -------
        FeatureSeries
            A dict of arrays (1, features, time), float32, at 2 Hz, two samples a row of the
            response; names in `FEATURES`. 1 is about what an ordinary film or running speech
            reaches.
        """
        wanted = shared_modalities(self.modalities, stimulus, modalities)
        return extract_features(
            stimulus,
            Extractors(RECIPE),
            wanted,
            window=float(n_rows(stimulus.duration)),
            store=self.store,
            progress=progress,
        )

    def predict(
        self,
        stimulus: Stimulus | None = None,
        *,
        features: Mapping[str, np.ndarray] | None = None,
        duration: float | None = None,
        subject: str | None = None,
        modalities: Iterable[str] | None = None,
        overlap: float = 0.0,
        progress: Progress | None = None,
    ) -> Response:
        """Predict the response; parameters as in `tribrain.encoder.predict.TrainedModel.predict`.

        The model has no windows, so `overlap` changes nothing; it knows no people, so `subject`
        must be None.
        """
        if subject is not None:
            raise InputError(f"subject {subject!r}: the textbook model knows no people")
        if not overlap >= 0:
            raise InputError(f"overlap {overlap:g} s: 0 or more fits")
        inputs = gather_inputs(
            stimulus,
            features,
            duration,
            modalities,
            FREQUENCY,
            {name: (1, len(features)) for name, features in FEATURES.items()},
            lambda given: self.extract(given, modalities=modalities, progress=progress),
        )
        return Response.from_rows(
            _bold(inputs.features, inputs.n_rows),
            lag=LAG,
            stimulus=inputs.covered,
            space=SPACE,
            attrs={
                "model": self.name,
                "revision": self.revision,
                "licence": "Apache-2.0",
                "label": LABEL,
                "subject": "unseen",
                "modalities": [name for name in self.modalities if name in inputs.features],
            },
            provenance={**inputs.source, "model": self.describe(), "settings": {}},
        )

    def describe(self) -> dict[str, Any]:
        """What the model is, as plain data."""
        return {
            "name": self.name,
            "revision": self.revision,
            "label": LABEL,
            "licence": "Apache-2.0",
            "lag": LAG,
            "space": SPACE,
            "features": {name: list(features) for name, features in FEATURES.items()},
            "table_rows": len(textbook_table()),
        }


def _bold(features: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
    """BOLD at t + lag for t = 0, 1, ...: (rows, vertices) float32."""
    per_row, delay = round(FREQUENCY), round(LAG * FREQUENCY)
    maps = feature_maps()
    result = np.zeros((rows, len(next(iter(maps.values())))), np.float32)
    for modality, series in features.items():
        names = FEATURES[modality]
        bold = convolve(series[0], FREQUENCY, rows * per_row + delay)
        sampled = bold[:, delay::per_row][:, :rows]  # (features, rows)
        weights = np.stack([maps[name] for name in names])
        result += (sampled.T @ weights).astype(np.float32)
    return result
