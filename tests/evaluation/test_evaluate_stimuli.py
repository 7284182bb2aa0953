"""The textbook model and the nuisance floor, on a study whose stimuli are files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from evaluate_makers import pearson
from makers import write_sound
from tribrain.brain.spaces import mesh_space
from tribrain.brain.summaries import cortex_mask
from tribrain.encoder.textbook import TextbookModel
from tribrain.evaluation.evaluate import evaluate_model
from tribrain.stimuli.stimulus import Stimulus
from tribrain.studies.arrays import ArrayBold
from tribrain.studies.prepare import prepare
from tribrain.studies.prepared import open_prepared
from tribrain.studies.runs import Run, Shown, StimulusFile

pytestmark = pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")
SECONDS, LAG = 60, 5
SPACE = mesh_space("fsaverage5")


@dataclass(frozen=True)
class Sounds:
    """Two people who hear two sounds; what they share is what the textbook model says, and more."""

    folder: Path
    name = "sounds"
    licence = citation = tested_on = ""

    def sound(self, which: int) -> Path:
        return self.folder / f"sound{which}.wav"

    def write(self) -> Sounds:
        self.folder.mkdir()
        rng = np.random.default_rng(0)
        for which in (1, 2):
            steps = np.repeat(rng.uniform(0, 1, SECONDS // 3) > 0.5, 3 * 8000)
            write_sound(self.sound(which), 0.4 * steps * rng.normal(size=SECONDS * 8000), 8000)
            heard = self.predicted(which)
            for person in (1, 2):
                noise = rng.normal(size=(SECONDS + LAG, SPACE.size)).astype("f4")
                noise[LAG:] += 30 * heard
                np.save(self.folder / f"{person}-{which}.npy", noise)
        return self

    def predicted(self, which: int) -> np.ndarray:
        stimulus = Stimulus.open(self.sound(which), recogniser="none")
        return TextbookModel().predict(stimulus).data.values[:SECONDS]

    def runs(self):
        for person in ("1", "2"):
            for which in (1, 2):
                yield Run(
                    self.name,
                    person,
                    f"sound{which}",
                    ArrayBold(self.folder / f"{person}-{which}.npy", SPACE, 1.0),
                    1.0,
                    (Shown(StimulusFile(self.sound(which)), 0.0, float(SECONDS),
                           group=f"sound{which}"),),
                )  # fmt: skip


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    return Sounds(tmp_path_factory.mktemp("heard") / "files").write()


@pytest.fixture(scope="module")
def study(sounds):
    prepare(sounds, sounds.folder.parent / "store", detrend=False, dtype="float32")
    return open_prepared(sounds.folder.parent / "store")


@pytest.fixture(scope="module")
def found(study):
    return evaluate_model(
        TextbookModel(), study, baselines="plain,textbook", controls=False,
        permutations=20, draws=20,
    )  # fmt: skip


def test_the_textbook_model_is_scored_beside_its_floor_in_all_regions(found, sounds):
    mask = cortex_mask(SPACE)
    for which in (1, 2):
        expected = sounds.predicted(which)
        measured = np.load(sounds.folder / f"1-{which}.npy")[LAG:]
        varies = mask & (np.ptp(expected, axis=0) > 0)
        r = pearson(expected[:, varies], measured[:, varies])
        table = found.scores[
            (found.scores["way"] == "model, unseen") & (found.scores["subject"] == "1")
        ].set_index("group")
        # Where nothing is predicted r counts as 0, as it predicts nothing of what was measured.
        assert table.loc[f"sound{which}", "r"] == pytest.approx(r.sum() / mask.sum(), abs=1e-5)
        assert table.loc[f"sound{which}", "outputs"] == mask.sum()
    assert any("does not vary" in note for note in found.told["notes"])
    _check_floors(found)
    _check_regions(found)


def _check_floors(found):
    assert {"nuisance", "nuisance, unseen"} <= set(found.ways)
    assert found.told["floors"]["model, unseen"] == "nuisance, unseen"
    floor = found.scores[found.scores["way"] == "nuisance, unseen"].set_index(["subject", "group"])
    own = found.scores[found.scores["way"] == "model, unseen"].set_index(["subject", "group"])
    np.testing.assert_allclose(own["floor"], floor["r"].loc[own.index])
    # Loudness alone says most of what the textbook model says of these sounds.
    assert found.row("nuisance")["r"] > 0.02


def _check_regions(found):
    regions = found.regions[
        (found.regions["way"] == "model, unseen") & (found.regions["kind"] == "region")
    ].set_index("region")
    assert regions.loc["A1_L", "r"] > 3 * found.row("model, unseen")["r"]
    assert not [name for name in found.maps if len(found.maps[name]) != SPACE.size]
    assert np.isnan(found.maps["model, unseen/r"][~cortex_mask(SPACE)]).all()
