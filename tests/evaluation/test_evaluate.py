"""Models on a simulated study: every number worked out again from the raw arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from evaluate_makers import (
    HELD_OUT,
    TESTED,
    film_features,
    film_rows,
    pearson,
    scaled_bold,
    train_model,
    write_study,
)
from tribrain.encoder.models import load_model
from tribrain.errors import InputError
from tribrain.evaluation import fits
from tribrain.evaluation.baselines import DELAYS
from tribrain.evaluation.ceilings import split_half
from tribrain.evaluation.evaluate import evaluate_model
from tribrain.evaluation.evaluation import GROUP
from tribrain.evaluation.evaluation_files import load, save
from tribrain.evaluation.fits import Fitted, Fold, Rows, cross_validation, fit_own, one_fold
from tribrain.evaluation.job import Job
from tribrain.evaluation.reduction import Reduction
from tribrain.evaluation.ridges import FIRRidge
from tribrain.evaluation.tested import spans_to_test
from tribrain.evaluation.work import Work
from tribrain.studies.intersubject import leave_one_out
from tribrain.studies.prepared import PreparedRun, open_prepared
from tribrain.studies.simulated_truth import preparation
from tribrain.training.ensemble import make_ensemble
from tribrain.training.sides import member_split

pytestmark = pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")
QUICK = {"permutations": 60, "draws": 100}
TRAINED = ("01", "02", "03")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("evaluated")


@pytest.fixture(scope="module")
def truth(place):
    return write_study(place / "study")


@pytest.fixture(scope="module")
def study(place, truth):
    return open_prepared(place / "study")


@pytest.fixture(scope="module")
def folder(place, truth):
    return train_model(place / "study", place / "run")


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder, device="cpu", cache=False)


@pytest.fixture(scope="module")
def found(model, study, folder):
    return evaluate_model(model, study, place=folder, baselines="fir", **QUICK)


def predicted(model, truth, film, subject=None):
    series = truth.features(film).series
    whole = {name: np.asarray(values) for name, values in series.items()}
    return model.predict(features=whole, duration=60.0, subject=subject).data.values


def score(found, way, subject, film, column="r"):
    table = found.scores
    rows = table[(table["way"] == way) & (table["subject"] == subject) & (table["group"] == film)]
    assert len(rows) == 1
    return float(rows[column].iloc[0])


def test_scores_are_the_correlations_of_the_raw_arrays(found, model, truth, study):
    for subject in TRAINED:
        for film in TESTED:
            measured = scaled_bold(study, subject, film)
            for way, name in (("model", f"simulated/{subject}"), ("model, unseen", None)):
                rows = predicted(model, truth, film, name)[: len(measured)]
                r = pearson(rows, measured)
                assert score(found, way, subject, film) == pytest.approx(r.mean(), abs=1e-5)
                r2 = 1 - ((measured - rows) ** 2).mean(0)
                assert score(found, way, subject, film, "r2") == pytest.approx(r2.mean(), abs=1e-5)


def test_the_mean_of_people_is_predicted_by_the_row_of_people_never_seen(
    found, model, truth, study
):
    r = []
    for film in TESTED:
        mean = np.mean([scaled_bold(study, one, film) for one in (*TRAINED, HELD_OUT)], axis=0)
        r.append(pearson(predicted(model, truth, film)[: len(mean)], mean).mean())
    assert found.row("model, unseen")["R_group"] == pytest.approx(np.mean(r), abs=1e-5)


def test_people_are_the_reference(found, model, study, folder):
    asked = evaluate_model(model, study, place=folder, baselines="none", ceiling="people", **QUICK)
    for film in TESTED:
        people = (*TRAINED, HELD_OUT)
        isc = leave_one_out(np.stack([scaled_bold(study, one, film) for one in people]))
        for number, subject in enumerate(people):
            assert score(found, "people", subject, film) == pytest.approx(
                isc[number].mean(), abs=1e-5
            )
            high = isc[number] >= 0.1
            assert score(asked, "model, unseen", subject, film, "ceiling") == pytest.approx(
                isc[number][high].mean(), abs=1e-5
            )
            assert score(asked, "model, unseen", subject, film, "left_out") == (~high).sum()


def test_what_people_share_is_the_ceiling(found, study):
    reliability, rows = 0.0, 0
    for film in TESTED:
        values = [scaled_bold(study, one, film) for one in (*TRAINED, HELD_OUT)]
        halves = split_half(np.stack(values), 100, found.told["seeds"]["all"])
        reliability = reliability + len(values[0]) * halves.reliability_of_one
        rows += len(values[0])
    ceiling = np.sqrt(np.maximum(reliability / rows, 0))
    high = ceiling >= 0.1
    for subject in (*TRAINED, HELD_OUT):
        assert score(found, "fir, unseen", subject, TESTED[0], "ceiling") == pytest.approx(
            ceiling[high].mean(), abs=1e-5
        )
        assert score(found, "fir, unseen", subject, TESTED[0], "left_out") == (~high).sum()


def test_a_baseline_is_what_is_fitted_by_hand(found, truth, study):
    """The penalty is taken from the library, all else is worked out from the films."""

    def delayed(film, n):
        shown = film_features(truth, film)
        row = np.arange(n)[:, None] + 5 - np.array(DELAYS, int)  # row 0 is measured at second 5
        there = (row >= 0) & (row < len(shown))
        return np.where(there[..., None], shown[np.clip(row, 0, len(shown) - 1)], 0).reshape(n, -1)

    subject = "02"
    pairs = [
        (delayed(film, len(y)), y)
        for film in ("film1", "film2")
        for y in [scaled_bold(study, subject, film)]
    ]
    x, y = (np.concatenate(part) for part in zip(*pairs, strict=True))
    groups = np.repeat(["film1", "film2"], [len(one) for _, one in pairs])
    penalties = FIRRidge(delays=(0,), gap=6).fit(x, y, groups=groups, runs=groups)
    for film in TESTED:
        measured = scaled_bold(study, subject, film)
        rows = penalties.predict(delayed(film, len(measured)))
        r = pearson(rows, measured).mean()
        assert score(found, "fir", subject, film) == pytest.approx(r, abs=2e-3)


def test_zero_shot_is_of_films_that_nobody_was_trained_on(model, study, folder):
    """Also where the rest of a person held out is scored: films that others were trained on."""
    found = evaluate_model(model, study, place=folder, side="all", baselines="fir", **QUICK)
    rows = found.scores[found.scores["subject"] == HELD_OUT]
    assert {"film1", "film2", *TESTED} <= set(rows["group"])
    for way in ("model, unseen", "fir, unseen"):
        new = rows[(rows["way"] == way) & ~rows["group"].isin(["film1", "film2"])]
        expected = np.average(new["r"], weights=new["rows"])
        assert found.row(way)["zero"] == pytest.approx(expected, abs=1e-6)
        every = rows[rows["way"] == way]["r"].mean()
        assert abs(every - expected) > 1e-3  # what others were trained on is predicted otherwise


def test_nothing_is_fitted_to_that_is_tested(found):
    sides = {}
    for one in found.told["splits"]:
        sides.setdefault(one["side"], set()).add(one["group"])
    assert sides["train"] == {"film1", "film2"}
    assert sides["test"] == set(TESTED)
    assert {one["subject"] for one in found.told["splits"] if one["side"] == "train"} == set(
        TRAINED
    )
    held = found.scores[found.scores["subject"] == HELD_OUT]
    assert set(held["group"]) == set(TESTED)  # not the film that chose the epoch
    assert not set(held["way"]) & {"model", "fir", "shifted"}


def test_shares_of_rows_add_up_to_the_scores(found):
    for (way, subject, group), shares in found.moments.groupby(["way", "subject", "group"]):
        if subject != GROUP:
            assert shares["value"].mean() == pytest.approx(
                score(found, way, subject, group), abs=1e-6
            )
        else:
            assert shares["second"].tolist() == list(range(len(shares)))
    shares = found.moments[(found.moments["subject"] == GROUP)]
    for way, one in shares.groupby("way"):
        assert one["value"].mean() == pytest.approx(found.row(way)["R_group"], abs=1e-6)


def test_the_summary_is_about_people_that_were_trained_on(found):
    for way in ("model", "model, unseen", "fir, unseen"):
        row, table = found.row(way), found.scores
        table = table[(table["way"] == way) & table["subject"].isin(TRAINED)]
        assert row["people"] == 3
        weighted = (table["r"] * table["rows"]).sum() / table["rows"].sum()
        assert row["r"] == pytest.approx(weighted, abs=1e-5)
        assert row["r_low"] < row["r"] < row["r_high"]
        assert np.nanmean(found.maps[f"{way}/r"]) == pytest.approx(row["r"], abs=1e-5)
    held = found.scores[found.scores["subject"] == HELD_OUT]
    zero = held[held["way"] == "model, unseen"]
    expected = (zero["r"] * zero["rows"]).sum() / zero["rows"].sum()
    assert found.row("model, unseen")["zero"] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(found.row("model")["zero"])


def test_real_features_are_above_their_null_and_shifted_ones_within(found):
    null = found.told["null"]
    assert found.row("fir")["r"] > null["fir"]["high"]
    assert found.row("fir")["p"] < 0.03 < found.row("shifted")["p"]
    assert found.row("shifted")["r"] < null["shifted"]["high"]
    assert found.row("fir")["significant"] > found.row("shifted")["significant"]
    assert found.row("fir")["top5"] > 0.5 > found.row("shifted")["top1"]


def test_an_evaluation_is_saved_and_read(found, tmp_path):
    save(found, tmp_path / "out")
    again = load(tmp_path / "out")
    assert again.ways == found.ways
    assert again.told["splits"] == found.told["splits"]


def test_fitting_to_what_is_tested_shows(study, model, folder, tmp_path):
    """Known to be bad: what keeps test rows out of training is what keeps scores down."""
    job = make_job(model, study, folder, tmp_path)
    tested = [part for part in job.parts if part.subject == "01"]
    noise = np.random.default_rng(0)
    kept = {part.number: noise.normal(size=(part.rows, 12)).astype("f4") for part in job.everything}

    class Noise(Rows):
        def bold(self, part):
            return kept[part.number]

    rows = Noise(job.data, job.data.stretches, job.everything)
    means = {}
    for name, folds in {
        "honest": job.folds,
        "leaky": one_fold([*job.everything], tested),
    }.items():
        work = Work(tmp_path / name, "key")
        made = Fitted(name, lambda bands: FIRRidge(delays=(1, 3, 5), penalties=(1e-3,)))
        fit_own(rows, folds, made, work)
        means[name] = np.mean(
            [pearson(work.get(name, one.number), kept[one.number]).mean() for one in tested]
        )
    assert abs(means["honest"]) < 0.1
    assert means["leaky"] > 0.3


def make_job(model, study, folder, tmp_path, **changes):
    split = member_split("m", folder / "model", [study])
    tested = spans_to_test(study, [split], lag=5.0)
    options = {"asked": ("fir",), "controls": False, "lag": 5.0} | changes
    return Job(model, study, tested, tmp_path / "work", **options)


def test_other_rows_of_the_test_change_no_prediction(study, model, folder, tmp_path, monkeypatch):
    first = make_job(model, study, folder, tmp_path / "a")
    first.predict()
    plain = fits.measured_rows

    def other(data, stretch):
        values = plain(data, stretch)
        return values if stretch.side == "train" else values[::-1].copy()

    monkeypatch.setattr(fits, "measured_rows", other)
    second = make_job(model, study, folder, tmp_path / "b")
    second.predict()
    for part in first.parts:
        for way in ("fir", "fir, unseen"):
            one, two = (job.scorer.predicted(way, part) for job in (first, second))
            assert (one is None) == (two is None)
            if one is not None:
                np.testing.assert_array_equal(one, two)


def test_a_model_of_which_nothing_is_known_is_tested_on_everything(model, study, truth):
    found = evaluate_model(model, study, baselines="plain", controls=False, **QUICK)
    assert set(found.scores["group"]) == {f"film{n}" for n in range(1, 6)}
    assert any("nobody can say" in note for note in found.told["notes"])
    assert np.isnan(found.row("model, unseen")["zero"])
    folds = {}
    for one in found.told["splits"]:
        sides = folds.setdefault(one["fold"], {"train": set(), "test": set()})
        sides[one["side"]].add(one["group"])
    assert len(folds) == 5
    for sides in folds.values():
        assert not sides["train"] & sides["test"]
    again = evaluate_model(model, study, baselines="plain", controls=False, seed=1, **QUICK)
    assert again.told["splits"] != found.told["splits"]
    with pytest.raises(InputError, match="no side test"):
        evaluate_model(model, study, side="test")


@pytest.mark.parametrize(
    ("side", "films"), [("validation", ["film3"]), ("train", ["film1", "film2"])]
)
def test_sides_that_are_asked_for(model, study, folder, side, films):
    found = evaluate_model(
        model, study, place=folder, side=side, baselines="none", ceiling="none", **QUICK
    )
    assert sorted(set(found.scores["group"])) == films
    assert bool(found.told["warning"]) == (side == "train")
    assert found.told["ceiling"] == "none"
    assert found.scores["ceiling"].isna().all()


def test_what_cannot_be_asked_is_said_in_a_line(model, study, folder):
    for change, said in (
        ({"side": "exam"}, "side 'exam' is unknown; known: validation"),
        ({"baselines": "svm"}, "baseline 'svm' is unknown; known: plain"),
        ({"ceiling": "glass"}, "ceiling 'glass' is unknown; known: auto"),
        ({"ceiling": "repeats"}, "nobody was shown the same twice"),
        ({"ceiling": "analytic"}, "needs the truth"),
        ({"permutations": 0}, "0 permutations"),
    ):
        with pytest.raises(InputError, match=said) as error:
            evaluate_model(model, study, place=folder, **({"baselines": "none"} | change))
        assert "\n" not in str(error.value)
    other = dataclasses.replace(study, space=dataclasses.replace(study.space, name="elsewhere"))
    with pytest.raises(InputError, match="elsewhere"):
        evaluate_model(model, other, place=folder)


@pytest.mark.parametrize(
    ("ceiling", "said"), [("repeats", "nobody was shown the same"), ("analytic", "needs the truth")]
)
def test_a_ceiling_that_is_not_there_is_refused_before_anything_is_predicted(
    model, study, folder, monkeypatch, ceiling, said
):
    predicted = []
    monkeypatch.setattr(Job, "predict", lambda job: predicted.append(job))
    with pytest.raises(InputError, match=said):
        evaluate_model(model, study, place=folder, baselines="none", ceiling=ceiling, **QUICK)
    assert predicted == []


def test_analytic_ceilings_are_those_of_the_truth(model, study, folder, truth):
    found = evaluate_model(model, study, place=folder, baselines="none", truth=truth, **QUICK)
    run, first, n = film_rows(study, "01", "film4")
    prepare = preparation(run.origin + np.arange(first, first + n), truth.repetition_time)
    for way, knows in (("model", "features"), ("model, unseen", "group")):
        ceiling = truth.ceiling("01", knows, films=["film4"], prepare=prepare)
        assert score(found, way, "01", "film4", "ceiling") == pytest.approx(
            ceiling[ceiling >= 0.1].mean(), abs=1e-5
        )


def test_work_goes_on_after_a_stop(model, study, folder, found, tmp_path, monkeypatch):
    fitted = []
    plain = FIRRidge.fit
    monkeypatch.setattr(FIRRidge, "fit", lambda *a, **k: fitted.append(1) or plain(*a, **k))

    def stop(name, done, total):
        if name == "fir" and done == 3:
            raise KeyboardInterrupt

    how = {"place": folder, "baselines": "fir", "work": tmp_path / "work", **QUICK}
    with pytest.raises(KeyboardInterrupt):
        evaluate_model(model, study, progress=stop, **how)
    before = len(fitted)
    again = evaluate_model(model, study, **how)
    assert before >= 2
    whole = 3 + 1 + 3 + 1  # people and their mean, and the control
    assert len(fitted) == whole + (before - 3)  # none of the three people is fitted anew
    for column in ("r", "R_group", "p"):
        np.testing.assert_allclose(again.summary[column], found.summary[column], atol=1e-9)
    evaluate_model(model, study, **(how | {"seed": 3}))  # of another key: nothing is taken over
    assert len(fitted) == whole + (before - 3) + whole


def test_repeats_are_a_ceiling(tmp_path):
    write_study(tmp_path / "study", n_subjects=2, films=2, repeats=2)
    store = open_prepared(tmp_path / "study")
    trained = train_model(tmp_path / "study", tmp_path / "run", 'data.held_out=[]',
                          'data.validation_groups=[]', 'data.test_groups=["film2"]')  # fmt: skip
    model = load_model(trained, device="cpu", cache=False)
    found = evaluate_model(model, store, place=trained, baselines="none", **QUICK)
    assert "several times" in found.told["ceiling"]
    assert len(found.scores[found.scores["way"] == "model"]) == 4
    people = [
        [r for r in store.runs if r.subject == one and r.task == "film2"] for one in "01 02".split()
    ]
    expected = []
    for runs in people:
        rows = []
        for run in runs:
            first = round(run.shown[0].onset + 5 - run.origin)
            rows.append(store.window(run, first, min(60, run.rows - first), np.float64))
        r = pearson(*rows)  # one of two repeats: the root of what both have in common
        expected.append(np.sqrt(np.where(r > 0, r, np.nan)))
    high = [one >= 0.1 for one in expected]
    ceilings = found.scores[found.scores["way"] == "model"].groupby("subject")["ceiling"].mean()
    np.testing.assert_allclose(
        ceilings, [one[mask].mean() for one, mask in zip(expected, high, strict=True)], atol=2e-3
    )


def test_blocks_of_one_film_are_left_out_with_gaps(tmp_path, model, study):
    one = dataclasses.replace(study, runs=tuple(r for r in study.runs if r.task == "film4"))
    found = evaluate_model(model, one, baselines="plain", controls=False, **QUICK)
    for fold in range(2):
        spans = [s for s in found.told["splits"] if s["fold"] == fold and s["subject"] == "01"]
        (tested,) = [s for s in spans if s["side"] == "test"]
        for trained in (s for s in spans if s["side"] == "train"):
            gap = max(trained["begin"] - tested["end"], tested["begin"] - trained["end"])
            assert gap >= 14


def test_folds_test_every_row_once(study, model, folder, tmp_path):
    job = make_job(model, study, folder, tmp_path)
    folds = cross_validation(job.everything, seed=4)
    assert all(isinstance(fold, Fold) for fold in folds)
    tested = [number for fold in folds for number in fold.test]
    assert sorted(tested) == [part.number for part in job.everything]


def test_wide_features_are_reduced_to_their_components():
    rng = np.random.default_rng(3)
    rows = (rng.normal(size=(80, 4)) @ rng.normal(size=(4, 30))).astype("f4")
    pieces = [rows[:50], rows[50:]]
    found = Reduction.of({"narrow": 2, "wide": 28}, lambda: iter(pieces), most=5)
    assert found.bands == (2, 5)
    kept = found.apply(rows)
    np.testing.assert_array_equal(kept[:, :2], rows[:, :2])
    wide = rows[:, 2:] - rows[:, 2:].mean(0)
    power = np.linalg.svd(wide, compute_uv=False)[:4] ** 2
    np.testing.assert_allclose((kept[:, 2:6] ** 2).sum(0), power, rtol=1e-3)
    left = wide - kept[:, 2:] @ np.linalg.lstsq(kept[:, 2:], wide, rcond=None)[0]
    assert np.abs(left).max() < 1e-3


def test_an_ensemble_is_tested_on_what_no_member_knows(place, study, folder, tmp_path, truth):
    other = train_model(place / "study", tmp_path / "other", "training.seed=1", "training.epochs=1")
    places = [folder / "model", other / "model"]
    made = make_ensemble(places, tmp_path / "both", studies=[study], device="cpu", cache=False)
    found = evaluate_model(
        made, study, place=tmp_path / "both", baselines="none", ceiling="none", **QUICK
    )
    assert set(found.scores["group"]) == set(TESTED)
    measured = scaled_bold(study, "03", "film5")
    parts = [
        predicted(one, truth, "film5", "simulated/03")[: len(measured)] for one in made.members
    ]
    r = pearson(made.combined(parts), measured).mean()
    assert score(found, "model", "03", "film5") == pytest.approx(r, abs=1e-5)
    weighted = evaluate_model(
        made, study, place=tmp_path / "both", baselines="none", side="validation", **QUICK
    )
    assert set(weighted.scores["group"]) == {"film3"}
    # A member whose run folder is gone: the ensemble still states what it was trained on.
    split = member_split("m", folder / "model", [study])
    tested = spans_to_test(
        study, [split, None], lag=5.0, trained_on=made.trained_on,
        weighted_by=made.how["weighted_by"]["spans"],
    )  # fmt: skip
    assert {span.group for span in tested.tested} == set(TESTED)
    assert any("some members" in note for note in tested.notes)


def test_a_model_of_other_films_is_tested_on_all_of_a_new_study(model, folder, tmp_path):
    write_study(tmp_path / "new", seed=7, films=2, n_subjects=2)
    study = open_prepared(tmp_path / "new")
    found = evaluate_model(model, study, place=folder, baselines="plain", controls=False, **QUICK)
    assert set(found.scores["group"]) == {"film1", "film2"}
    assert {one["fold"] for one in found.told["splits"]} == {0, 1}
    # People of the same names, in a study of the same name, which it was not trained on.
    assert len(found.scores[found.scores["way"] == "model, unseen"]) == 4


def test_outputs_that_were_not_measured_count_for_nothing(model, study, folder, found, monkeypatch):
    """One output of one person is gone in what is fitted to, one of another in what is tested."""
    read = PreparedRun.read

    def holed(run, first, n, dtype=np.float32):
        values = read(run, first, n, dtype)
        if run.subject == "01" and run.task == "film1":
            values[:, 3] = np.nan
        if run.subject == "02" and run.task == "film4":
            values[:, 5] = np.nan
            values[max(0, 30 - first) : max(0, 35 - first)] = np.nan  # and five rows of all
        return values

    monkeypatch.setattr(PreparedRun, "read", holed)
    other = evaluate_model(
        model, study, place=folder, baselines="fir", controls=False, permutations=20, draws=20
    )
    assert score(other, "fir", "01", "film5", "outputs") == 11
    assert score(other, "model", "01", "film5", "outputs") == 12
    assert score(other, "model", "02", "film4", "outputs") == 11
    assert (
        score(other, "model", "02", "film4", "rows")
        == score(found, "model", "02", "film4", "rows") - 5
    )
    assert score(other, "model", "03", "film4") == score(found, "model", "03", "film4")
    assert np.isfinite(other.summary["r"]).all()


def test_a_damaged_array_on_the_way_is_told_in_a_line(tmp_path):
    work = Work(tmp_path / "work", "key")
    work.put(np.ones((4, 3), np.float32), "bold", 0)
    file = tmp_path / "work" / "bold" / "0.npy"
    file.write_bytes(file.read_bytes()[:140])
    with pytest.raises(InputError, match="is damaged"):
        work.get("bold", 0)
    assert not Work(tmp_path / "work", "other key").has("bold", 0)
