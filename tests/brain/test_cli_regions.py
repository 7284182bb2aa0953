"""The regions verb, and the options of predict that say which atlas, formats and mask."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import tribrain
from atlas_makers import labels, write_annot
from conftest import ROOT
from test_response import lopsided, made
from tribrain import cli

WORDS = ROOT / "examples" / "film_text.txt"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tribrain", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


@pytest.fixture
def saved(tmp_path) -> Path:
    """A response whose left half is positive and whose right half is negative."""
    return made(lopsided("fsaverage3", 5)).save(tmp_path / "saved", "film")


def annotated(folder: Path, n: int = 10242) -> Path:
    """An atlas of three regions a hemisphere; their names begin with a, b and c."""
    folder.mkdir()
    names = ("unknown", "a1", "b1", "c1")
    for side, letters in (("left", "lh"), ("right", "rh")):
        write_annot(folder / f"{letters}.mine.annot", labels(side, n), names)
    return folder


def test_table_names_the_strongest_regions_first(run, saved):
    code, out, _ = run("regions", saved, "--top", 3)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == [
        *("region", "hemisphere", "vertices", "mean", "peak"),
        *("peak_time_s", "peak_bold_time_s", "share"),
    ]
    assert len(lines) == 5
    assert all(line.split()[1] == "left" for line in lines[1:4])
    assert lines[4] == "3 of 40 regions; --top 0 shows all"


def test_numbers_are_those_of_a_plain_loop_over_vertices(run, saved, tmp_path):
    folder = annotated(tmp_path / "atlas")
    code, out, _ = run("regions", saved, "--atlas", folder, "--top", 0, "--out", "t/regions.tsv")
    assert code == 0
    assert out.splitlines()[-1] == f"written to {Path('t/regions.tsv')}"
    table = pd.read_csv(tmp_path / "t" / "regions.tsv", sep="\t").set_index("region")
    assert len(table) == 6
    values = lopsided("fsaverage3", 5).astype(np.float32).astype(float)
    inside = np.zeros(1284, bool)
    for side, first, letter in (("left", 0, "L"), ("right", 642, "R")):
        numbers = labels(side, 10242)[:642]
        for number, name in enumerate(("a1", "b1", "c1"), start=1):
            vertices = first + np.flatnonzero(numbers == number)
            inside[vertices] = True
            row = table.loc[f"{name}_{letter}"]
            means = [np.mean([values[t, v] for v in vertices]) for t in range(5)]
            assert row["vertices"] == len(vertices)
            np.testing.assert_allclose(row["mean"], np.mean(means), rtol=1e-5)
            np.testing.assert_allclose(row["peak"], max(means), rtol=1e-5)
            assert row["peak_time_s"] == np.argmax(means)
            assert row["peak_bold_time_s"] == np.argmax(means) + 5
    assert 0 < table["share"].sum() <= 1
    assert table["mean"].is_monotonic_decreasing


def test_share_is_that_of_the_variance_outside_the_medial_wall(saved):
    response = tribrain.load_response(saved)
    table = response.region_table()
    values = response.data.values.astype(float)
    wall = np.isnan(response.contrast([(0, 1)], [(1, 2)]).values)
    spread = np.where(wall, 0, values.var(axis=0))
    from tribrain.brain.regions import region_vertices

    for name, vertices in region_vertices(response.space).items():
        found = table.set_index("region").loc[name, "share"]
        np.testing.assert_allclose(found, spread[vertices].sum() / spread.sum(), rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--match", "V1"], {"V1_L", "V1_R"}),
        (["--match", "V1_R"], {"V1_R"}),
        (["--match", "V1,A1", "--hemisphere", "right"], {"V1_R", "A1_R"}),
        (["--group", "motion"], {"hMT+_L", "hMT+_R"}),
        (["--group", "motion", "--hemisphere", "left"], {"hMT+_L"}),
    ],
)
def test_regions_are_chosen_by_name_hemisphere_and_group(run, saved, options, names):
    code, out, _ = run("regions", saved, *options)
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()[1:]} == names


def test_order_is_by_what_is_asked_for(run, saved):
    for sort, column in (("share", "share"), ("peak", "peak")):
        run("regions", saved, "--sort", sort, "--out", f"{sort}.tsv")
        assert pd.read_csv(f"{sort}.tsv", sep="\t")[column].is_monotonic_decreasing
    run("regions", saved, "--sort", "atlas", "--out", "atlas.tsv")
    names = pd.read_csv("atlas.tsv", sep="\t")["region"].tolist()
    assert names == list(tribrain.load_response(saved).regions())


def test_atlases_and_groups_are_listed(run, saved):
    code, out, _ = run("regions", saved, "--atlas", "list")
    assert code == 0
    assert {"textbook", "glasser", "schaefer400", "wang2015"} <= {
        line.split()[0] for line in out.splitlines()
    }
    code, out, _ = run("regions", saved, "--group", "list")
    assert code == 0
    assert "early visual  " in out


def test_a_single_file_serves_as_well(run, saved):
    file = next(saved.glob("*_hemi-R_*.func.gii"))
    code, out, _ = run("regions", file, "--top", 1)
    assert code == 0
    assert out == run("regions", saved, "--top", 1)[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--atlas", "atlantis"], "known: textbook, glasser"),
        (["--match", "V11"], "V1"),
        (["--group", "smell"], "early visual"),
        (["--hemisphere", "top"], "left, right"),
        (["--sort", "size"], "mean, peak, share, atlas"),
        (["--top", "-1"], "--top -1"),
        (["--out", "regions.xlsx"], ".tsv"),
        (["--match", "V1", "--group", "motion"], "motion"),
    ],
)
def test_wrong_options_are_refused_in_one_line(run, saved, options, words, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run("regions", saved, *options)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert words in err
    assert sorted(tmp_path.rglob("*")) == before


def test_an_annotation_of_another_mesh_names_the_sizes_that_fit(run, saved, tmp_path):
    code, _, err = run("regions", saved, "--atlas", annotated(tmp_path / "atlas", 162))
    assert code == 2
    assert "162" in err
    assert "642 (fsaverage3)" in err


def test_what_is_no_response_is_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()
    for given in ("empty", "nowhere", WORDS):
        code, _, err = run("regions", given)
        assert code == 2
        assert len(err.splitlines()) == 1


def test_predict_takes_an_atlas_and_formats(run, tmp_path):
    folder = annotated(tmp_path / "atlas")
    (tmp_path / "story.txt").write_text("The sea was calm. Nobody had noticed.")
    code, _, err = run(
        "predict", "story.txt", "--atlas", folder, "--format", "cifti,nifti,mgh", "--out", "out"
    )
    assert code == 0, err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    stem = "sub-unseen_task-story"
    assert {
        f"{stem}_space-fsaverage5_desc-predicted_bold.dtseries.nii",
        f"{stem}_space-fsaverage5_seg-mine_desc-predicted_timeseries.ptseries.nii",
        f"{stem}_space-MNI152NLin6Asym_res-2_desc-predicted_bold.nii.gz",
        f"{stem}_hemi-L_space-fsaverage5_desc-predicted_bold.mgh",
    } <= names
    header = (tmp_path / "out" / "story_regions.tsv").read_text().splitlines()[0]
    assert header == "time\ta1_L\tb1_L\tc1_L\ta1_R\tb1_R\tc1_R"
    facts = json.loads((tmp_path / "out" / "story_response.json").read_text())
    assert "mine" in facts["regions"]["source"]
    assert "mine" in (tmp_path / "out" / "story_report.html").read_text()


def test_predict_refuses_an_atlas_before_it_works(run, tmp_path):
    (tmp_path / "story.txt").write_text("The sea was calm.")
    code, _, err = run("predict", "story.txt", "--atlas", "atlantis")
    assert code == 2
    assert err.splitlines()[-1].startswith("tribrain: atlas 'atlantis' is unknown")
    assert not (tmp_path / "story_tribrain").exists()


def test_a_mask_of_another_size_is_refused(run, tmp_path):
    (tmp_path / "story.txt").write_text("The sea was calm.")
    mask = np.zeros((91, 109, 91), np.uint8)
    mask[40:44, 50:60, 40] = 1
    affine = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(mask, affine), tmp_path / "mask.nii.gz")
    code, _, err = run("predict", "story.txt", "--mask", "mask.nii.gz")
    assert code == 2
    assert "40 voxels" in err
    assert "fsaverage5" in err
