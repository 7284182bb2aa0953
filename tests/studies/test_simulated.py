"""Simulated studies: the form, reproducibility, and scores against the known truth."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tribrain.brain.meshes import medial_wall
from tribrain.errors import InputError
from tribrain.studies.runs import FeatureArrays, sort_out
from tribrain.studies.simulated import Simulated
from tribrain.studies.simulated_brains import People
from tribrain.studies.simulated_signal import Noise
from tribrain.studies.simulated_stimuli import DRIVES, RATE

ALIKE = People(deformation=0, gain=0, delay=0, idiosyncrasy=0, unexplained=0)


def small(**settings) -> Simulated:
    return Simulated(**{"n_subjects": 2, "films": 2, "minutes": 2.0, "space": 30} | settings)


def film(seconds: float, label: str = "film", **events) -> FeatureArrays:
    """Textbook features that are 0 but for the named drives, 1 at their samples."""
    series = {
        modality: np.zeros((1, len(names), round(seconds * RATE)), np.float32)
        for modality, names in DRIVES.items()
    }
    for modality, names in DRIVES.items():
        for name in set(names) & set(events):
            series[modality][0, names.index(name), events[name]] = 1
    return FeatureArrays(series, RATE, Path(label))


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (part - part.mean(axis=0) for part in (a, b))
    return (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))


# --- the form of a study


def test_runs_have_the_one_form_of_studies():
    study = small(repeats=2, repetition_time=2.2, rest=9.0)
    runs, problems = sort_out(study.runs())
    assert not problems
    assert [run.name for run in runs[:3]] == [
        "sub-01_task-film1_run-1", "sub-01_task-film1_run-2", "sub-01_task-film2_run-1"
    ]  # fmt: skip
    assert len(runs) == 2 * 2 * 2
    for run in runs:
        (shown,) = run.shown
        assert (shown.onset, shown.duration, shown.group) == (9.0, 120.0, run.task)
        assert not run.bold.files
        assert not shown.source.files
        assert set(shown.source.series) == {"text", "audio", "video"}
        assert {array.shape for array in shown.source.series.values()} == {(2, 12, 240)}
        bold = run.bold.load()
        assert run.bold.header() == (len(bold.values), 2.2) == (int(138 / 2.2), 2.2)
        assert bold.values.dtype == np.float32
        assert bold.repetition_time == run.repetition_time == 2.2
        assert bold.start == 0
    contents = {run.task: run.shown[0].source.content() for run in runs}
    assert len(set(contents.values())) == 2
    assert all(run.shown[0].source.content() == contents[run.task] for run in runs)


def test_the_medial_wall_is_not_measured_and_all_else_is():
    study = small(space="fsaverage3", minutes=1.0)
    wall = medial_wall("fsaverage3")
    for values in (
        next(study.runs()).bold.load().values,
        study.truth("01", "film1"),
        study.group_truth("film1"),
        study.ceiling("01")[None],
    ):
        assert values.shape[1] == 1284
        assert np.isnan(values[:, wall]).all()
        assert np.isfinite(values[:, ~wall]).all()
    assert np.isfinite(next(small().runs()).bold.load().values).all()


def test_reading_twice_in_another_order_or_process_gives_the_same():
    runs = list(small().runs())
    first = [run.bold.load().values for run in runs]
    again = [pickle.loads(pickle.dumps(run)).bold.load().values for run in reversed(runs)]
    for one, other in zip(first, reversed(again), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in pairwise(first):
        assert not np.allclose(one, other)


def test_a_run_does_not_depend_on_who_or_what_else_is_in_the_study():
    study, larger = small(), small(n_subjects=4, films=5, repeats=3)
    runs = {run.name: run for run in larger.runs()}
    for run in study.runs():
        other = runs[run.name]
        np.testing.assert_array_equal(run.bold.load().values, other.bold.load().values)
        assert run.shown[0].source.content() == other.shown[0].source.content()


@pytest.mark.parametrize("space", ["fsaverage3", 30])
def test_the_space_of_a_run_is_known_without_making_it(space):
    bold = next(small(space=space).runs()).bold
    assert bold.space == bold.load().space


def test_seeds_and_repeats_differ_where_they_should():
    study = small(repeats=2)
    one, two = list(study.runs())[:2]
    truth = study.truth("01", "film1")
    noises = [run.bold.load().values - truth for run in (one, two)]
    assert np.abs(correlation(*noises)).mean() < 0.3
    other = small(seed=1, repeats=2)
    assert not np.allclose(other.truth("01", "film1"), truth)
    assert next(other.runs()).shown[0].source.content() != one.shown[0].source.content()


def test_meshes_agree_where_they_share_vertices():
    coarse, fine = (
        small(space=space, nonlinear=True, minutes=1.0) for space in ("fsaverage3", "fsaverage4")
    )
    truth, other = (study.truth("02", "film1") for study in (coarse, fine))
    shared = np.concatenate([other[:, :642], other[:, 2562 : 2562 + 642]], axis=1)
    ratio = np.nanstd(shared) / np.nanstd(truth)  # the regions' vertices set the amplitude
    assert 0.8 < ratio < 1.25
    np.testing.assert_allclose(shared / ratio, truth, rtol=1e-3, atol=1e-3)


# --- what drives what, and when


def test_the_left_half_of_a_picture_drives_the_right_visual_cortex():
    blinks = np.random.default_rng(0).integers(0, 240, 60)
    study = small(space="fsaverage3", people=ALIKE, stimuli=[film(120, contrast_left=blinks)])
    strength = study.truth("01", "film1").std(axis=0)
    for region in ("V1", "V2d", "V2v", "V3d"):
        left, right = (strength[study.regions[f"{region}_{side}"]].mean() for side in "LR")
        assert right > 5 * left
    mirrored = small(space="fsaverage3", people=ALIKE, stimuli=[film(120, contrast_right=blinks)])
    strength = mirrored.truth("01", "film1").std(axis=0)
    assert strength[study.regions["V1_L"]].mean() > 5 * strength[study.regions["V1_R"]].mean()


def test_silence_and_rest_have_no_signal():
    study = small(stimuli=[film(60)], nonlinear=True)
    assert (study.truth("01", "film1") == 0).all()
    assert (study.ceiling("01") == 0).all()
    assert all((part == 0).all() for part in study.features("film1").series.values())
    shown = small(rest=30.0, nonlinear=True)
    truth, times = shown.truth("01", "film1"), shown.times("film1")
    assert (truth[times < 28] == 0).all()
    assert np.abs(truth[(times > 40) & (times < 140)]).min(axis=0).max() > 0


@pytest.mark.parametrize("repetition_time", [0.7, 1.5, 2.0])
def test_a_click_is_followed_by_the_peak_of_the_haemodynamic_response(repetition_time):
    click = film(60, loudness=[40])  # from 20 to 20.5 s
    study = small(
        space="fsaverage3", people=replace(ALIKE, delay=1.0), stimuli=[click], n_subjects=6,
        repetition_time=repetition_time, rest=7.3,
    )  # fmt: skip
    where = study.regions["A1_L"]
    peaks = []
    for subject in study.subjects:
        series = study.truth(subject, "film1")[:, where].mean(axis=1)
        assert series.max() > 5 * np.abs(series[study.times("film1") < 27]).max()
        top = int(series.argmax())
        bend = np.polyfit(study.times("film1")[top - 1 : top + 2], series[top - 1 : top + 2], 2)
        peaks.append(-bend[1] / bend[0] / 2)
    delays = [study.known._brain(subject).delay for subject in study.subjects]
    np.testing.assert_allclose(peaks, 7.3 + 20.25 + 5.0 + np.array(delays), atol=0.3)
    assert np.ptp(delays) > 0.5


def test_films_of_the_users_own_drive_the_brain_in_place_of_synthetic_ones():
    rng = np.random.default_rng(3)
    series = {m: rng.gamma(1, 1, (1, len(names), 300)) for m, names in DRIVES.items()}
    mute = {"video": series["video"]}
    stimuli = [FeatureArrays(part, RATE, Path("own")) for part in (series, mute)]
    study = small(stimuli=stimuli, nonlinear=True, space="fsaverage3")
    assert [run.task for run in study.runs()] == ["film1", "film2"] * 2
    assert {run.shown[0].duration for run in study.runs()} == {150.0}
    truth = [study.truth("01", name) for name in study.film_names]
    seen, heard = (study.regions[region] for region in ("V8_L", "A1_R"))
    assert truth[1][:, seen].std() > 0.5 * truth[0][:, seen].std()
    assert truth[1][:, heard].std() < 0.5 * truth[0][:, heard].std()
    assert np.nanmin(study.ceiling("01")) > 0


def test_each_modality_drives_its_regions():
    study = small(space="fsaverage3", people=ALIKE, minutes=5.0)
    truth, drives = study.truth("01", "film1"), study.true_features("film1")
    for region, own in (("A1_R", "low_tones"), ("V8_L", "colour"), ("IFG_L", "word_rarity")):
        alike = np.abs(np.corrcoef(truth[:, study.regions[region]].mean(axis=1), drives.T)[0, 1:])
        names = [name for part in DRIVES.values() for name in part]
        modality = next(part for part in DRIVES.values() if own in part)
        assert names[int(alike.argmax())] in modality, region


# --- people


def test_people_who_do_not_differ_are_the_group():
    study = small(people=ALIKE, space="fsaverage3", nonlinear=True)
    group = study.group_truth("film1")
    for subject in study.subjects:
        np.testing.assert_allclose(study.truth(subject, "film1"), group, atol=1e-5)


@pytest.mark.parametrize(
    ("differing", "much"),
    [
        ("deformation", 12.0),
        ("gain", 0.8),
        ("delay", 1.5),
        ("idiosyncrasy", 1.5),
        ("unexplained", 1.5),
    ],
)
def test_each_difference_between_people_makes_them_differ(differing, much):
    distances = []
    for value in (0.0, much / 4, much):
        study = small(space="fsaverage3", people=replace(ALIKE, **{differing: value}), snr=1.0)
        parts = [study.truth(subject, "film1") for subject in study.subjects]
        distances.append(np.nanmean((parts[0] - parts[1]) ** 2))
    assert distances[0] == pytest.approx(0, abs=1e-10)
    assert 0.001 < distances[1] < distances[2]


def test_what_no_feature_explains_repeats_and_belongs_to_own_alone():
    study = small(repeats=2, people=replace(ALIKE, unexplained=0.7))
    own, features = (study.truth("01", "film1", knows) for knows in ("own", "features"))
    extra = own - features
    assert np.abs(correlation(extra, features)).mean() < 0.3
    assert extra.std() > 0.1 * features.std()
    assert (study.ceiling("01") > study.ceiling("01", "features")).mean() > 0.9


def test_snr_is_the_stated_ratio():
    for snr, nonlinear in ((0.5, False), (2.0, True)):
        study = Simulated(n_subjects=8, films=8, space="fsaverage3", snr=snr, nonlinear=nonlinear)
        core = np.unique(np.concatenate(list(study.regions.values())))
        shown = slice(14, -8)  # while a film is shown
        power = [
            study.truth(subject, name)[shown][:, core].var(axis=0).mean()
            for subject in study.subjects
            for name in study.film_names
        ]
        assert np.sqrt(np.mean(power)) == pytest.approx(snr, rel=0.08)
    noise = next(small(noise=Noise(drift=0, spikes=0), space=500).runs())
    left = noise.bold.load().values - small(space=500).truth("01", "film1")
    assert left.std() == pytest.approx(1, abs=0.03)


# --- what is refused


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"snr": 0}, r"snr is 0; 1e-06 to 1e\+06 fit"),
        ({"snr": -1.0}, r"snr is -1.0"),
        ({"minutes": 0}, r"minutes is 0; 0.2 to 600 fit"),
        ({"minutes": float("nan")}, "minutes is nan"),
        ({"minutes": "10"}, "minutes is '10'"),
        ({"n_subjects": 0}, "n_subjects is 0; a whole number from 1"),
        ({"films": 1.5}, "films is 1.5; a whole number"),
        ({"seed": -1}, "seed is -1"),
        ({"dims": 3}, "dims is 3; a whole number from 5"),
        ({"repetition_time": 0}, "repetition_time is 0"),
        ({"rest": -1}, "rest is -1"),
        ({"space": "fsaverage9"}, "'fsaverage9' is unknown; known: fsaverage3, .* 2 to 1000"),
        ({"space": 1}, "number of parcels from 2 to 1000"),
        ({"space": True}, "True is unknown"),
        ({"stimuli": [replace(film(9), rate=1.0)]}, "film: 1 samples a second; 2 fit"),
        ({"stimuli": [FeatureArrays({"audio": np.ones((1, 3, 9))}, 2.0, Path("x"))]}, "x: audio"),
        ({"stimuli": [FeatureArrays({"smell": np.ones((1, 3, 9))}, 2.0, Path("x"))]}, "'smell'"),
        ({"stimuli": [film(60), film(9, "short")]}, "short lasts 9 s; 10 s or more fit"),
        ({"stimuli": "x.mp4"}, "stimuli is of type str; a list of FeatureArrays fits"),
        ({"stimuli": film(60)}, "stimuli is of type FeatureArrays; a list of FeatureArrays fits"),
        ({"stimuli": [Path("x.mp4")]}, r"stimuli holds something of type \w+Path; a list"),
        ({"nonlinear": "x"}, "nonlinear is 'x'; True or False fits"),
        ({"nonlinear": 1}, "nonlinear is 1; True or False fits"),
        ({"stimuli": [film(60, "bad", loudness=[3])], "films": 0}, "films is 0"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(wrong, says):
    with pytest.raises(InputError, match=says) as caught:
        small(**wrong)
    assert "\n" not in str(caught.value)


def test_films_that_are_not_finite_are_refused():
    stimulus = film(60, "broken")
    stimulus.series["video"][0, 2, 7] = np.nan
    with pytest.raises(InputError, match="broken: video has values that are not finite"):
        small(stimuli=[stimulus])


def test_wrong_people_and_questions_are_refused():
    for wrong in ({"deformation": 40}, {"gain": -1}, {"delay": 3}, {"unexplained": float("inf")}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            People(**wrong)
    study = small()
    with pytest.raises(InputError, match="subject '3' is unknown; known: 01, 02"):
        study.truth("3", "film1")
    with pytest.raises(InputError, match="film 'x' is unknown; known: film1, film2"):
        study.group_truth("x")
    with pytest.raises(InputError, match="knows='all' is unknown; known: own, features, group"):
        study.ceiling("01", "all")
    with pytest.raises(InputError, match="a ceiling of no one"):
        study.ceiling([])
