"""Names and sidecars of BIDS-derivative files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_rules import ORDER, assert_bids
from tribrain.brain.bids_names import ENTITIES, bids_name, sidecar, space_entities
from tribrain.brain.spaces import MESHES, Space, Voxels, join, mesh_space, parcel_space, voxel_space
from tribrain.errors import InputError

WALL_91K = (29696, 29716)


def voxels(count: int = 5, template: str = "MNI152NLin6Asym", sizes=(2, 2, 2)) -> Voxels:
    """The first voxels of a grid of 91 x 109 x 91, the first axis to the left."""
    affine = np.diag([-sizes[0], sizes[1], sizes[2], 1.0])
    indices = np.argwhere(np.ones((91, 109, 91), bool))[:count]
    return Voxels(template, (91, 109, 91), affine, indices)


def write(folder: Path, name: str, fields: dict) -> Path:
    path = folder / name
    path.touch()
    path.with_name(name.partition(".")[0] + ".json").write_text(json.dumps(fields), "utf-8")
    return path


@pytest.mark.parametrize(
    ("suffix", "extension", "entities", "name"),
    [  # the interface, the specification's own examples, fMRIPrep
        (
            "bold",
            ".func.gii",
            {
                "desc": "predicted",
                "space": "fsaverage5",
                "hemi": "left",
                "task": "film",
                "sub": "a",
            },
            "sub-a_task-film_hemi-L_space-fsaverage5_desc-predicted_bold.func.gii",
        ),
        (
            "bold",
            ".dtseries.nii",
            {"den": "10k", "res": "1", "space": "fsLR", "run": 1, "task": "rest", "sub": "001"},
            "sub-001_task-rest_run-1_space-fsLR_res-1_den-10k_bold.dtseries.nii",
        ),
        (
            "bold",
            ".nii.gz",
            {"desc": "preproc", "sub": "001", "task": "rest", "space": "MNI305", "run": "1"},
            "sub-001_task-rest_run-1_space-MNI305_desc-preproc_bold.nii.gz",
        ),
        ("dseg", ".label.gii", {"hemi": "R", "sub": "001"}, "sub-001_hemi-R_dseg.label.gii"),
        ("mask", ".nii.gz", {"label": "tumor", "sub": "m"}, "sub-m_label-tumor_mask.nii.gz"),
    ],
)
def test_names_are_those_of_interface_and_specification(suffix, extension, entities, name):
    assert bids_name(suffix, extension, **entities) == name
    if suffix == "bold":
        assert_bids(_json(name))


def _json(name: str) -> str:
    return name.partition(".")[0] + ".json"


def test_entities_are_those_of_the_rules():
    assert list(ENTITIES) == ORDER


@given(st.dictionaries(st.sampled_from(ENTITIES), st.text(max_size=8), max_size=8))
def test_any_labels_give_a_name_that_reads_back(entities):
    entities.pop("hemi", None)
    name = bids_name("bold", ".nii.gz", **entities)
    parts = [part.split("-") for part in name.removesuffix("bold.nii.gz").split("_")[:-1]]
    assert [key for key, _ in parts] == [key for key in ORDER if key in entities]
    for key, label in parts:
        assert label
        assert set(label) <= set(map(chr, range(128)))
        assert all(letter.isalnum() or letter == "+" for letter in label)
        plain = entities[key].isascii() and entities[key].isalnum()
        assert not plain or label == entities[key]


def test_label_without_a_letter_gets_one_of_its_own():
    names = [bids_name("bold", ".nii.gz", sub="s", task=task) for task in ("電影", "電", "--")]
    assert len(set(names)) == 3
    for name in names:
        assert_bids(_json(name))


def test_none_leaves_an_entity_out():
    assert bids_name("bold", ".nii.gz", sub="s", task="t", run=None) == "sub-s_task-t_bold.nii.gz"


def test_unknown_entity_and_hemisphere_name_the_known():
    with pytest.raises(InputError, match=r"'subject' is unknown; known: sub, .*, desc"):
        bids_name("bold", ".nii.gz", subject="s")
    with pytest.raises(InputError, match="hemisphere 'B' is unknown; known: left, right, L, R"):
        bids_name("bold", ".func.gii", sub="s", hemi="B")


@pytest.mark.parametrize(
    ("space", "entities"),
    [
        (mesh_space("fsaverage3"), {"space": "fsaverage3"}),
        (mesh_space("fsaverage5"), {"space": "fsaverage5"}),
        (mesh_space("fsaverage6"), {"space": "fsaverage6"}),
        (mesh_space("fsaverage7"), {"space": "fsaverage", "den": "164k"}),
        (mesh_space("fsLR32k"), {"space": "fsLR", "den": "32k"}),
        (voxel_space(voxels()), {"space": "MNI152NLin6Asym", "res": "2"}),
        (voxel_space(voxels(sizes=(2.5, 2.5, 2.5))), {"space": "MNI152NLin6Asym", "res": "2p5"}),
        (voxel_space(voxels(sizes=(2, 2, 3.2))), {"space": "MNI152NLin6Asym", "res": "2x2x3p2"}),
        (voxel_space(voxels(), "subcortex8802"), {"space": "MNI152NLin6Asym", "res": "2"}),
        (
            join(mesh_space("fsaverage5"), voxel_space(voxels())),
            {"space": "fsaverage5", "res": "2"},
        ),
        (
            join(mesh_space("fsLR32k"), voxel_space(voxels())),
            {"space": "fsLR", "den": "32k", "res": "2"},
        ),
        (parcel_space("7 Networks", ["a", "b"]), {"seg": "7Networks"}),
    ],
)
def test_spaces_have_the_entities_of_the_specification(space, entities):
    assert space_entities(space) == entities


@pytest.mark.parametrize("space", [Space("subcortex8802", 8802), Space("outputs1000", 1000)])
def test_values_of_no_known_place_have_no_name_in_bids(space):
    with pytest.raises(InputError, match=f"{space.name} has no place in BIDS.*give a mask"):
        space_entities(space)


def test_91k_is_only_the_standard():
    standard = join(mesh_space("fsLR32k"), voxel_space(voxels(31870)))
    assert space_entities(standard, WALL_91K) == {"space": "fsLR", "den": "91k"}
    others = [
        (standard, None),
        (standard, (29696, 29696)),
        (join(mesh_space("fsLR32k"), voxel_space(voxels(31869))), WALL_91K),
        (join(mesh_space("fsLR32k"), voxel_space(voxels(31870, "MNI305"))), WALL_91K),
        (join(mesh_space("fsLR32k"), voxel_space(voxels(31870, sizes=(2, 2, 2.5)))), WALL_91K),
        (join(mesh_space("fsaverage6"), voxel_space(voxels(31870))), WALL_91K),
    ]
    for space, vertices in others:
        assert space_entities(space, vertices).get("den") != "91k"


def _files() -> list[tuple[Space, str, str, str | None, tuple[int, int] | None]]:
    grid = voxel_space(voxels(31870))
    surfaces = [
        (mesh_space(mesh), "bold", ".func.gii", side, None)
        for mesh in MESHES
        for side in ("left", "right")
    ]
    return [
        *surfaces,
        *(
            (voxel_space(voxels(5, template)), "bold", ".nii.gz", None, None)
            for template in TEMPLATES
        ),
        (join(mesh_space("fsLR32k"), grid), "bold", ".dtseries.nii", None, WALL_91K),
        (join(mesh_space("fsLR32k"), grid), "bold", ".dtseries.nii", None, None),
        (join(mesh_space("fsaverage5"), grid), "bold", ".dtseries.nii", None, None),
        (mesh_space("fsaverage7"), "bold", ".dtseries.nii", None, (150000, 150001)),
        (parcel_space("Schaefer 400", ["a"]), "timeseries", ".ptseries.nii", None, None),
        (join(mesh_space("fsLR32k"), grid), "boldmap", ".dscalar.nii", None, WALL_91K),
        (mesh_space("fsaverage5"), "boldmap", ".func.gii", "right", None),
    ]


TEMPLATES = ("MNI152NLin6Asym", "MNI152NLin6Sym", "MNI152NLin2009cAsym", "MNI305", "MNIColin27")


@pytest.mark.parametrize(("space", "suffix", "extension", "side", "vertices"), _files())
def test_names_and_sidecars_follow_the_rules(tmp_path, space, suffix, extension, side, vertices):
    series = {} if suffix == "boldmap" else {"task": "ein Film", "repetition_time": 1.49}
    fields = sidecar(
        space,
        hemisphere=side,
        vertices=vertices,
        description="made for a test",
        units="z",
        sources=["bids:raw:sub-01/func/sub-01_task-film_bold.nii.gz"],
        Lag=5.0,
        **series,
    )
    entities = {"sub": "01", "task": "ein Film", "hemi": side} | space_entities(space, vertices)
    name = bids_name(suffix, extension, **entities, desc="predicted")
    found = assert_bids(write(tmp_path, name, fields))
    assert found["task"] == "einFilm"
    assert fields.get("TaskName", "ein Film") == "ein Film"
    assert fields["Lag"] == 5.0
    assert next(iter(fields)) == ("Description" if suffix == "boldmap" else "RepetitionTime")
    if side is not None:
        assert f"hemi-{side[0].upper()}_" in fields["SpatialReference"]


def test_sidecar_explains_voxels_and_vertices():
    space = join(mesh_space("fsLR32k"), voxel_space(voxels(31870)))
    fields = sidecar(space)
    assert fields["Density"] == "32492 vertices per hemisphere"
    assert fields["Resolution"] == "2 mm, grid of 91 x 109 x 91 voxels"
    assert fields["SkullStripped"] is True
    references = fields["SpatialReference"]
    assert "hemi-L" in references["CIFTI_STRUCTURE_CORTEX_LEFT"]
    assert "hemi-R" in references["CIFTI_STRUCTURE_CORTEX_RIGHT"]
    assert "MNI152NLin6Asym" in references["VolumeReference"]
    assert "91,282" in sidecar(space, vertices=WALL_91K)["Density"]
    assert "Resolution" not in sidecar(space, vertices=WALL_91K)
    assert sidecar(voxel_space(voxels(sizes=(2, 2, 3))))["Resolution"].startswith("2 x 2 x 3 mm")


def test_surface_has_no_field_of_a_volume():
    fields = sidecar(mesh_space("fsaverage5"), hemisphere="left")
    assert set(fields) == {"SpatialReference"}


def test_series_needs_task_and_repetition_time():
    with pytest.raises(InputError, match="both a task and a repetition time"):
        sidecar(mesh_space("fsaverage5"), task="film")


GOOD = "sub-01_task-a_run-1_hemi-L_space-fsaverage5_desc-x_bold.func.gii"


def good_fields() -> dict:
    return sidecar(mesh_space("fsaverage5"), hemisphere="left", task="a", repetition_time=2.0)


def test_rules_accept_the_good(tmp_path):
    assert assert_bids(write(tmp_path, GOOD, good_fields()))["run"] == "1"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("sub-01_task-a", "task-a_sub-01"),
        ("sub-01_", ""),
        ("_task-a", ""),
        ("run-1", "run-one"),
        ("hemi-L", "hemi-B"),
        ("_hemi-L", ""),
        ("hemi-L_space-fsaverage5", "space-fsaverage5_hemi-L"),
        ("space-fsaverage5", "space-fsaverage5_res-2"),
        ("fsaverage5", "fsaverage9"),
        ("desc-x", "desc-x-y"),
        ("desc-x", "desc-ü"),
        ("desc-x", "what-x"),
        ("desc-x", "desc-x_desc-y"),
        ("desc-x", "den-10k_desc-x"),  # not explained
        ("bold.func.gii", "bold.gii"),
        ("bold.func.gii", "bold.nii.gz"),  # both hemispheres
        ("bold.", "signal."),
    ],
)
def test_rules_refuse_names(tmp_path, old, new):
    assert old in GOOD
    with pytest.raises(AssertionError):
        assert_bids(write(tmp_path, GOOD.replace(old, new), good_fields()))


@pytest.mark.parametrize(
    "change",
    [
        {"RepetitionTime": 0},
        {"RepetitionTime": "2"},
        {"TaskName": ""},
        {"SpatialReference": "fsaverage5"},
        {"SpatialReference": {"CIFTI_STRUCTURE_CORTEX_LEFT": "https://example.org/L"}},
        {"Sources": "bids::sub-01"},
        {"Description": float("nan")},
    ],
)
def test_rules_refuse_sidecars(tmp_path, change):
    with pytest.raises(AssertionError):
        assert_bids(write(tmp_path, GOOD, good_fields() | change))


@pytest.mark.parametrize("field", ["RepetitionTime", "TaskName", "SpatialReference"])
def test_rules_need_fields(tmp_path, field):
    fields = good_fields()
    del fields[field]
    with pytest.raises((AssertionError, KeyError)):
        assert_bids(write(tmp_path, GOOD, fields))


def test_rules_need_skull_stripped_and_resolution_of_a_volume(tmp_path):
    space = voxel_space(voxels())
    name = bids_name("bold", ".nii.gz", sub="s", task="a", **space_entities(space))
    fields = sidecar(space, task="a", repetition_time=2.0)
    assert_bids(write(tmp_path, name, fields))
    for field in ("SkullStripped", "Resolution", "SpatialReference"):
        less = {key: value for key, value in fields.items() if key != field}
        with pytest.raises((AssertionError, KeyError)):
            assert_bids(write(tmp_path, name, less))


def test_rules_need_a_sidecar(tmp_path):
    (tmp_path / GOOD).touch()
    with pytest.raises(AssertionError, match="no JSON file"):
        assert_bids(tmp_path / GOOD)
