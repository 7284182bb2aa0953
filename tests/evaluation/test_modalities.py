"""Which modality predicts what: of studies whose truth is known, and as files and words."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from evaluate_makers import film_features, scaled_bold, train_model, write_study
from evaluation_makers import make_evaluation
from tribrain.cli import app
from tribrain.encoder.models import load_model
from tribrain.errors import InputError
from tribrain.evaluation import modalities
from tribrain.evaluation.ablation import Ablation
from tribrain.evaluation.attribution import AND
from tribrain.evaluation.banded import BandedRidge
from tribrain.evaluation.evaluate import evaluate_model
from tribrain.evaluation.evaluation import MODALITIES
from tribrain.evaluation.evaluation_files import load, save
from tribrain.evaluation.modalities import modality_lines, of_encoder, of_ridge, products_of
from tribrain.evaluation.scores import score
from tribrain.studies.prepare import prepare
from tribrain.studies.prepared import open_prepared
from tribrain.studies.simulated import Simulated
from tribrain.studies.simulated_stimuli import DRIVES

pytestmark = pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")
QUICK = {"permutations": 20, "draws": 20, "baselines": "none", "attribution": True}
NAMES = ("audio", "text", "video")
EVERYONE = ("01", "02", "03", "04")
PARCELS = 60


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("modalities")


@pytest.fixture(scope="module")
def truth(place):
    return write_study(place / "study", space=PARCELS, minutes=2.0)


@pytest.fixture(scope="module")
def study(place, truth):
    return open_prepared(place / "study")


@pytest.fixture(scope="module")
def model(place, study):
    folder = train_model(place / "study", place / "run", "training.epochs=2")
    return load_model(folder, device="cpu", cache=False)


@pytest.fixture(scope="module")
def found(model, study, place):
    return evaluate_model(model, study, place=place / "run", **QUICK)


def explained(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Explained variance of y by least squares on x."""
    columns = np.c_[x, np.ones(len(x))]
    left = y - columns @ np.linalg.lstsq(columns, y, rcond=None)[0]
    return 1 - left.var(axis=0) / y.var(axis=0)


@pytest.fixture(scope="module")
def true_scores(truth):
    """Of the mean signal without noise, explained by what drives it: by each set of modalities."""
    drives = np.concatenate([truth.true_features(film) for film in truth.film_names])
    signal = np.concatenate(
        [
            np.mean([truth.truth(person, film, "features") for person in EVERYONE], axis=0)
            for film in truth.film_names
        ]
    )
    edges = np.cumsum([0, *map(len, DRIVES.values())])
    columns = {name: np.arange(*edges[number : number + 2]) for number, name in enumerate(DRIVES)}
    return {
        kept: explained(drives[:, np.concatenate([columns[name] for name in kept])], signal)
        for kept in modalities.subsets(NAMES)
    }


def test_the_winner_is_the_modality_that_moves_the_region(found, true_scores):
    alone = np.stack([true_scores[(name,)] for name in NAMES])
    ordered = np.sort(alone, axis=0)
    clear = ordered[-1] - ordered[-2] > 0.25
    assert found.told["modalities"]["names"] == list(NAMES)
    assert clear.sum() > 15
    assert len(set(alone.argmax(axis=0)[clear])) > 1
    right = found.maps["partition/winner"][clear] == alone.argmax(axis=0)[clear]
    assert right.mean() > 0.9


def test_what_is_unique_lies_where_one_modality_alone_moves_the_region(found, true_scores):
    unique = np.stack(
        [
            true_scores[NAMES] - true_scores[tuple(one for one in NAMES if one != name)]
            for name in NAMES
        ]
    )
    parted = np.stack([found.maps[f"partition/{name}/unique"] for name in NAMES])
    ordered = np.sort(unique, axis=0)
    clear = ordered[-1] - ordered[-2] > 0.25
    assert clear.sum() > 15
    assert (parted.argmax(axis=0) == unique.argmax(axis=0))[clear].mean() > 0.9
    products = np.stack([found.maps[f"partition/{name}/product"] for name in NAMES])
    assert (products.argmax(axis=0) == unique.argmax(axis=0))[clear].mean() > 0.9
    for one, other in zip(unique, parted, strict=True):  # of two films and 4 minutes fitted to
        assert np.corrcoef(one, other)[0, 1] > 0.5


def test_unique_and_shared_add_up_to_the_whole_and_so_does_the_product_measure(found):
    table = found.modalities[found.modalities["way"] == "banded"]
    for (_, place), rows in table.groupby(["kind", "region"]):
        rows = rows.set_index(["measure", "modality"])["value"]
        whole = rows["explained variance", "all"]
        assert rows["unique"].sum() + rows["shared"].sum() == pytest.approx(whole, abs=1e-6), place
        assert rows["product"].sum() == pytest.approx(whole, abs=1e-6), place
        assert rows["won"].sum() in (0.0, pytest.approx(1.0))
        assert sorted(rows["shared"].index) == [
            "audio & text", "audio & text & video", "audio & video", "text & video"
        ]  # fmt: skip


def test_explained_variance_is_that_of_a_ridge_that_is_fitted_by_hand(found, truth, study):
    """Fitted to the mean of those trained on, tested on the mean of all who were tested."""

    def delayed(film, n, kept):
        series = truth.features(film).series
        whole = film_features(truth, film)
        sizes = [one.shape[0] * one.shape[1] for _, one in sorted(series.items())]
        edges = np.cumsum([0, *sizes])
        parts = []
        for number, name in enumerate(sorted(series)):
            if name in kept:
                shown = whole[:, edges[number] : edges[number + 1]]
                row = np.arange(n)[:, None] + 5 - np.arange(2, 9)
                there = (row >= 0) & (row < len(shown))
                values = np.where(there[..., None], shown[np.clip(row, 0, len(shown) - 1)], 0)
                parts.append(values.reshape(n, -1))
        return parts

    def mean(people, film):
        return np.mean([scaled_bold(study, one, film) for one in people], axis=0)

    for kept in (("video",), ("audio", "text")):
        trained = [mean(("01", "02", "03"), film) for film in ("film1", "film2")]
        parts = [
            delayed(film, len(y), kept) for film, y in zip(("film1", "film2"), trained, strict=True)
        ]
        bands = [one.shape[1] for one in parts[0]]
        groups = np.repeat(["film1", "film2"], [len(y) for y in trained])
        ridge = BandedRidge(bands=bands, gap=6, scoring="r2").fit(
            np.concatenate([np.concatenate(one, axis=1) for one in parts]),
            np.concatenate(trained),
            runs=groups,
            groups=groups,
        )
        expected = []
        for film in ("film4", "film5"):
            y = mean(EVERYONE, film)
            rows = ridge.predict(np.concatenate(delayed(film, len(y), kept), axis=1))
            expected.append(1 - (y - rows).var(axis=0) / y.var(axis=0))
        maps = found.maps
        if len(kept) == 1:
            given = maps[f"partition/{kept[0]}/alone"]
        else:  # what all explain less what is unique to the third
            whole = sum(maps[f"partition/{one}/product"] for one in NAMES)
            given = whole - maps["partition/video/unique"]
        np.testing.assert_allclose(given, np.mean(expected, axis=0), atol=2e-3)


def test_the_encoder_is_scored_as_the_model_is(found):
    table = found.modalities[(found.modalities["way"] == "model")]
    whole = table[(table["kind"] == "all") & (table["measure"] == "r")]
    assert whole["value"].item() == pytest.approx(found.row("model")["r"], abs=1e-6)
    alone = np.stack([found.maps[f"modality/{name}/alone"] for name in NAMES])
    np.testing.assert_allclose(
        found.maps["modality/gain"], found.maps["model/r"] - alone.max(axis=0), atol=1e-6
    )
    wins = np.where(alone.max(axis=0) > 0, alone.argmax(axis=0), np.nan)
    np.testing.assert_array_equal(found.maps["modality/winner"], wins)
    ordered = np.sort(alone, axis=0)
    margin = np.where(np.isnan(wins), np.nan, ordered[-1] - ordered[-2])
    np.testing.assert_allclose(found.maps["modality/margin"], margin, atol=1e-6)


def test_rows_of_regions_are_the_means_of_maps(found):
    table = found.modalities
    assert list(table.columns) == list(MODALITIES)
    rows = table[(table["kind"] == "region") & (table["way"] == "banded")]
    one = rows[(rows["modality"] == "video") & (rows["measure"] == "unique")]
    assert list(one["region"]) == list(found.space.parcels)
    np.testing.assert_allclose(one["value"], found.maps["partition/video/unique"], atol=1e-6)
    assert (one["outputs"] == 1).all()
    every = table[(table["kind"] == "all") & (table["measure"] == "won")]
    for way, prefix in (("model", "modality"), ("banded", "partition")):
        winner = found.maps[f"{prefix}/winner"]
        shares = every[every["way"] == way].set_index("modality")["value"]
        for number, name in enumerate(NAMES):
            assert shares[name] == pytest.approx((winner == number).mean())


def test_notes_and_lines_say_what_was_done(found):
    notes = "\n".join(found.told["notes"])
    assert "modalities: the model was trained with modality dropout of 0.2" in notes
    assert (
        "explained variance is parted of the mean BOLD of people who were shown the same" in notes
    )
    lines = modality_lines(found)
    assert [line.split(",")[1].split(" (")[0] for line in lines] == [" model", " banded"]
    for line in lines:
        assert all(name in line for name in NAMES)
        assert "nan" not in line
    assert "shared audio & text" in lines[1]


@dataclasses.dataclass(frozen=True, eq=False)
class Partial(Simulated):
    """The same BOLD, with films of which some modalities are not known."""

    kept: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def features(self, film):
        whole, kept = super().features(film), dict(self.kept).get(film, NAMES)
        series = {name: one for name, one in whole.series.items() if name in kept}
        return dataclasses.replace(whole, series=series)


SMALL = {"n_subjects": 1, "films": 3, "minutes": 1.0, "space": PARCELS, "snr": 3.0, "dims": 6}


def partial(folder: Path, **kept):
    prepare(Partial(**SMALL, kept=tuple(kept.items())), folder)
    return open_prepared(folder)


def test_a_film_without_a_modality_is_told_of_and_one_person_is_fitted_apart(model, tmp_path):
    study = partial(tmp_path / "study", film3=("text", "audio"))
    found = evaluate_model(model, study, **QUICK)
    notes = "\n".join(found.told["notes"])
    assert "1 of 3 spans have no video and are not scored from video alone" in notes
    assert "explained variance is parted of 1 person, by banded ridge fitted to each" in notes
    assert "not known whether the model was trained with modalities left out" in notes
    for name, values in found.maps.items():
        if name.startswith(("modality/", "partition/")) and not name.endswith(("winner", "margin")):
            assert np.isfinite(values).all(), name
    rows = found.modalities[found.modalities["kind"] == "all"].set_index(["way", "measure"])
    banded = rows.loc["banded"]["value"]
    both = banded["unique"].sum() + banded["shared"].sum()
    assert both == pytest.approx(banded["explained variance"], abs=1e-6)


def test_one_modality_has_nothing_to_part(model, tmp_path):
    study = partial(tmp_path / "study", **dict.fromkeys(("film1", "film2", "film3"), ("text",)))
    found = evaluate_model(model, study, **QUICK)
    assert not len(found.modalities)
    assert not any(name.startswith(("modality/", "partition/")) for name in found.maps)
    assert "only text was shown: there are no modalities to part" in found.told["notes"]
    folder = save(found, tmp_path / "evaluation")
    assert not (folder / "modalities.tsv").exists()
    assert list(load(folder).modalities.columns) == list(MODALITIES)


def test_many_modalities_are_not_parted(model, study, place, monkeypatch):
    monkeypatch.setattr(modalities, "MOST", 2)
    monkeypatch.setattr(modalities, "_parted", lambda *_: pytest.fail("a ridge was fitted"))
    found = evaluate_model(model, study, place=place / "run", **QUICK)
    assert set(found.modalities["way"]) == {"model"}
    assert "3 modalities have 7 sets, a fit each; up to 2 are parted" in "".join(
        found.told["notes"]
    )


def test_a_model_that_cannot_do_without_leaves_the_ridge_to_be_parted(
    model, study, place, monkeypatch
):
    def refuse(*_, **__):
        raise InputError("member two does not read audio, which others do")

    monkeypatch.setattr(modalities, "ablate", refuse)
    found = evaluate_model(model, study, place=place / "run", **QUICK)
    assert set(found.modalities["way"]) == {"banded"}
    assert "the model is not parted (member two does not read audio" in "".join(found.told["notes"])
    assert "modality/winner" not in found.maps
    assert modality_lines(found)[0].startswith("modalities, banded")


def test_products_add_up_to_the_explained_variance_of_what_was_measured():
    rng = np.random.default_rng(3)
    apart = rng.normal(size=(3, 50, 1100)).astype("f4") + np.array([5, -2, 0.5])[:, None, None]
    measured = (apart.sum(axis=0) + rng.normal(size=(50, 1100))).astype("f4") + 7
    measured[rng.random(measured.shape) < 0.1] = np.nan
    measured[:, 3] = 1.0
    found = products_of(apart, measured)
    expected = score(apart.sum(axis=0), measured).explained_variance
    np.testing.assert_allclose(found.sum(axis=0), expected, atol=1e-5)
    assert np.isnan(found[:, 3]).all()
    there = ~np.isnan(measured[:, 0])
    x, y = apart[:, there, 0].astype(float), measured[there, 0].astype(float)
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean()
    by_hand = (2 * x @ y - x @ x.sum(axis=0)) / (y @ y)
    np.testing.assert_allclose(found[:, 0], by_hand, atol=1e-5)


def test_nothing_wins_where_none_predicts():
    alone = {"a": np.array([0.3, -0.2, np.nan, 0.0]), "b": np.array([0.1, -0.1, np.nan, -1.0])}
    whole = np.array([0.35, 0.1, np.nan, 0.2])
    ridge = of_ridge({("a",): alone["a"], ("b",): alone["b"], ("a", "b"): whole}, {})
    encoder = of_encoder(Ablation(("a", "b"), whole, {}, alone, "r", 1, 1, 9))
    for maps in (ridge, encoder):
        np.testing.assert_array_equal(maps["a", "won"], [1, 0, np.nan, 0])
        np.testing.assert_array_equal(maps["b", "won"], [0, 0, np.nan, 0])
        np.testing.assert_allclose(maps["all", "margin"], [0.2, np.nan, np.nan, np.nan])
        np.testing.assert_allclose(maps["all", "gain"], [0.05, 0.2, np.nan, 0.2])
    np.testing.assert_allclose(ridge[f"a{AND}b", "shared"][:2], [0.05, -0.4])


def test_files_hold_what_was_found(found, tmp_path):
    folder = save(found, tmp_path / "evaluation")
    table = pd.read_csv(folder / "modalities.tsv", sep="\t", na_values="n/a")
    np.testing.assert_allclose(table["value"], found.modalities["value"], rtol=1e-8)
    again = load(folder)
    pd.testing.assert_frame_equal(again.modalities, found.modalities, rtol=1e-8)
    assert again.told["modalities"] == found.told["modalities"]
    maps = pd.read_csv(folder / "maps.tsv", sep="\t", na_values="n/a")
    assert "partition/audio & text/shared" in maps.columns
    (folder / "modalities.tsv").write_text("way\n")
    with pytest.raises(InputError, match=r"damaged \(modalities.tsv is not what its checksum"):
        load(folder)


def test_maps_of_winners_say_whose_their_numbers_are(tmp_path):
    made = make_evaluation("fsaverage3", people=2, films=("a",), rows=10, ways=("model",))
    winner = np.arange(made.space.size) % 2
    made = dataclasses.replace(
        made,
        maps={**made.maps, "modality/winner": winner.astype("f4")},
        told={**made.told, "modalities": {"names": ["text", "video"], "ways": {}}},
    )
    folder = save(made, tmp_path / "evaluation") / "maps"
    (file,) = folder.glob("hemi-L*stat-winner*.func.gii")
    np.testing.assert_array_equal(nib.load(file).darrays[0].data, winner[made.space.slice("left")])
    told = json.loads(file.with_name(file.name.replace(".func.gii", ".json")).read_text())
    assert "0: text, 1: video" in told["Description"]


def test_the_command_writes_them_and_says_them(model, place, tmp_path):
    out = tmp_path / "evaluation"
    asked = ["--attribution", "--baselines", "none", "--permutations", "20", "--draws", "20"]
    result = CliRunner().invoke(
        app, ["evaluate", str(place / "run"), str(place / "study"), *asked, "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    found = load(out)
    for line in modality_lines(found):
        assert line in result.output
    assert "<h2>Modalities</h2>" in (out / "report.html").read_text("utf-8")


def test_arrays_have_no_modalities(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((30, 2)))
    given = ["--features", str(tmp_path / "x.npy"), "--bold", str(tmp_path / "x.npy"), "--tr", "1"]
    result = CliRunner().invoke(app, ["evaluate", *given, "--attribution"])
    assert isinstance(result.exception, InputError)
    assert "--attribution" in str(result.exception)
