"""Word rate, loudness and motion energy: what stimuli have of them, and what stands as 0."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from makers import write_film
from tribrain.brain.spaces import parcel_space
from tribrain.errors import InputError
from tribrain.evaluation import nuisance
from tribrain.features.motion_energy import FILTERS
from tribrain.features.store import Store
from tribrain.stimuli.stimulus import Stimulus
from tribrain.stimuli.words import Word
from tribrain.studies.arrays import ArrayBold
from tribrain.studies.runs import FeatureArrays, Run, Shown, Source

WORDS = tuple(Word(text, 1.0 + 0.4 * n, 0.4) for n, text in enumerate("one two three four".split()))
RATE, SECONDS = 16_000, 6


def sound() -> np.ndarray:
    """Noise from 3 s on, (1, samples)."""
    samples = 0.1 * np.random.default_rng(0).standard_normal((1, RATE * SECONDS))
    samples[:, : 3 * RATE] = 0
    return samples.astype(np.float32)


def frames() -> np.ndarray:
    """Bars 4.5 times in the picture's height that drift from 3 s on, 24 a second."""
    time = np.maximum(np.arange(24 * SECONDS) / 24 - 3, 0)
    x = np.arange(128) / 72
    waves = np.sin(2 * np.pi * (4 * x - 2 * time[:, None]))
    rows = np.repeat((127 + 100 * waves)[:, None, :], 72, axis=1)
    return np.repeat(rows[..., None], 3, axis=3).astype(np.uint8)


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Stimulus:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write_film(path, frames(), 24, sound(), RATE)
    found = Stimulus.open(path, recogniser="none")
    return Stimulus(found.name, found.duration, found.video, found.audio, WORDS, None, path)


def only(film: Stimulus, **kept: object) -> Stimulus:
    parts = {"video": None, "audio": None, "words": (), **kept}
    return Stimulus(film.name, film.duration, text=None, path=film.path, **parts)  # type: ignore[arg-type]


def test_each_series_rises_when_its_cause_does(film):
    found = nuisance.nuisance_series(film)
    assert found.rate == 2.0
    assert list(found.values) == ["word_rate", "loudness", "motion_energy"]
    for name, columns in (("word_rate", 1), ("loudness", 1), ("motion_energy", 12)):
        assert found.values[name].shape == (1, columns, 2 * SECONDS + 2)  # the sound ends later
        assert found.values[name].dtype == np.float32
    rate, loud, moving = (found.values[name][0] for name in found.values)
    # Four words in 1.6 s, as multiples of 2.5 a second: 2.5 words a second for 1.6 s.
    assert rate.sum() / 2.0 == pytest.approx(4 / 2.5)
    assert not rate[0, :2].any()
    assert not rate[0, 6:].any()
    assert loud[0, 7:11].min() > 0.5
    assert loud[0, :5].max() < 0.1
    column = nuisance.POOLS.index((4.0, 2.0))
    # Logarithms: the moving bars have at least twice the energy of the still ones.
    assert moving[column, 8:11].mean() > moving[column, 1:5].mean() + np.log(2)


def test_pooled_motion_energy_is_the_mean_over_places_and_directions(film):
    whole = nuisance.nuisance_series(film, places=True).values["motion_energy"]
    assert whole.shape == (1, len(FILTERS), 2 * SECONDS + 2)  # the sound ends later
    means = nuisance.nuisance_series(film).values["motion_energy"]
    for number, (spatial, temporal) in enumerate(nuisance.POOLS):
        same = [
            k
            for k, one in enumerate(FILTERS)
            if (one.spatial_frequency, one.temporal_frequency) == (spatial, temporal)
        ]
        np.testing.assert_allclose(means[0, number], whole[0, same].mean(0), rtol=1e-5)
    assert len(set(nuisance.POOLS)) == 12


def test_a_stimulus_gives_what_it_has(film):
    assert list(nuisance.nuisance_series(only(film, words=WORDS)).values) == ["word_rate"]
    assert list(nuisance.nuisance_series(only(film, audio=film.audio)).values) == ["loudness"]
    with pytest.raises(InputError, match="neither words nor sound nor film"):
        nuisance.nuisance_series(only(film))


def test_what_was_worked_out_is_kept(film, tmp_path):
    first = nuisance.nuisance_series(film, store=Store(tmp_path))
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    before = {path: path.stat().st_mtime_ns for path in kept if path.suffix == ".npy"}
    again = nuisance.nuisance_series(film, store=Store(tmp_path))
    for name, values in first.values.items():
        np.testing.assert_array_equal(values, again.values[name])
    assert before == {path: path.stat().st_mtime_ns for path in before}


@dataclass(frozen=True, eq=False)
class Given:
    """A stimulus as a study's source."""

    stimulus: Stimulus
    name: str

    files: tuple[Path, ...] = ()

    def content(self) -> str:
        return self.name

    def duration(self) -> float:
        return self.stimulus.duration

    def open(self) -> Stimulus:
        return self.stimulus


def run_of(*sources: Source) -> Run:
    bold = ArrayBold(Path("bold.npy"), parcel_space("two", ("a", "b")), 1.5)
    shown = tuple(
        Shown(source, 10.0 * number, source.duration(), f"film{number}")
        for number, source in enumerate(sources)
    )
    return Run("study", "01", "films", bold, 1.5, shown)


def test_a_study_has_the_same_columns_for_all_its_stimuli(film):
    heard = Given(only(film, audio=film.audio), "heard")
    read = Given(only(film, words=WORDS), "read")
    found, notes = nuisance.nuisance_of([run_of(heard, read), run_of(heard)])
    assert found is not None
    assert sorted(found) == ["heard", "read"]
    for series in found.values():
        assert {name: array.shape[:2] for name, array in series.values.items()} == {
            "word_rate": (1, 1),
            "loudness": (1, 1),
        }
    assert not found["heard"].values["word_rate"].any()
    assert found["heard"].values["loudness"].any()
    assert notes == [
        "word_rate is 0 in 1 of 2 stimuli, which have no text",
        "loudness is 0 in 1 of 2 stimuli, which have no audio",
    ]


def test_a_study_of_feature_series_alone_has_none_and_says_so():
    films = [
        FeatureArrays({"text": np.full((1, 3, 40), k, "f4")}, 2.0, Path("film")) for k in (1, 2)
    ]
    found, notes = nuisance.nuisance_of([run_of(*films)])
    assert found is None
    (note,) = notes
    assert "feature series alone" in note
    assert "film0, film1" in note


def test_feature_series_that_bear_the_names_are_taken():
    series = {"word_rate": np.ones((1, 1, 50), "f4"), "words": np.ones((2, 9, 50), "f4")}
    source = FeatureArrays(series, 1.0, Path("given.npz"))
    found, notes = nuisance.nuisance_of([run_of(source)])
    assert notes == []
    assert found is not None
    (one,) = found.values()
    assert one.rate == 1.0
    assert list(one.values) == ["word_rate"]


def test_series_of_different_rates_or_columns_are_refused():
    def arrays(columns: int, rate: float, name: str) -> FeatureArrays:
        return FeatureArrays({"loudness": np.ones((1, columns, 50), "f4")}, rate, Path(name))

    for other, said in ((arrays(1, 2.0, "b"), "Hz; one fits"), (arrays(2, 1.0, "b"), "columns")):
        with pytest.raises(InputError, match=said):
            nuisance.nuisance_of([run_of(arrays(1, 1.0, "a"), other)])


def test_nothing_shown_is_no_floor():
    assert nuisance.nuisance_of([run_of()]) == (None, ["no nuisance floor: nothing was shown"])
