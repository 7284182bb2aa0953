"""Atlases: found, fitted to a space, their names, and means over their regions."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas_makers import (
    NAMES,
    STRUCTURES,
    N,
    labels,
    write_annot,
    write_cifti,
    write_gifti,
    write_mgh,
    write_volume,
)
from tribrain.brain import atlas_places
from tribrain.brain.atlas_places import KNOWN, resolve
from tribrain.brain.atlases import Atlas, load_atlas
from tribrain.brain.meshes import MNI305_TO_MNI152, medial_wall
from tribrain.brain.regions import region_vertices
from tribrain.brain.spaces import (
    FSAVERAGE,
    HEMISPHERES,
    Space,
    Voxels,
    find_space,
    join,
    mesh_space,
    parcel_space,
    voxel_space,
)
from tribrain.errors import InputError, InputWarning

SMALL, REAL = mesh_space("fsaverage3"), mesh_space("fsaverage5")
REGIONS = {"glasser_360": 360, "aparc": 68, "schaefer_100": 100, "schaefer_1000": 1000}
"""Regions of the real annotations, both hemispheres."""


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """No atlas is found but those that a test makes, and nothing is fetched."""
    from nilearn import datasets

    for name in ("TRIBRAIN_ATLASES", "TRIBRAIN_SURFACES", "SUBJECTS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("platformdirs.user_data_dir", lambda app: str(tmp_path / "data" / app))

    def offline(*args, **options):
        raise ConnectionError("no network in tests")

    for name in ("surf_destrieux", "harvard_oxford", "schaefer_2018"):
        monkeypatch.setattr(datasets, f"fetch_atlas_{name}", offline)


def write_pair(folder: Path, pattern: str = "{h}.areas.annot", n: int = N, **options) -> Path:
    """Annotations of both hemispheres; returns the left one."""
    folder.mkdir(parents=True, exist_ok=True)
    for side in HEMISPHERES:
        write_annot(folder / pattern.format(h=f"{side[0]}h"), labels(side, n), **options)
    return folder / pattern.format(h="lh")


def expected_labels(atlas: Atlas) -> np.ndarray:
    """Names of the made labels at each vertex, as the atlas should have them."""
    return np.concatenate(
        [
            np.array(["", *(f"{name}_{side[0].upper()}" for name in NAMES[1:])])[labels(side)]
            for side in HEMISPHERES
        ]
    )


def names_at_vertices(atlas: Atlas) -> np.ndarray:
    return np.array([*atlas.names, ""])[atlas.labels]


def loop(atlas: Atlas, values: np.ndarray) -> np.ndarray:
    """Means by a plain loop over rows, regions and vertices, in float64."""
    means = np.full((len(values), len(atlas.regions)), np.nan)
    for t, row in enumerate(values.tolist()):
        for r, region in enumerate(atlas.regions):
            seen = [row[v] for v in region.vertices.tolist() if row[v] == row[v]]
            if seen:
                means[t, r] = sum(seen) / len(seen)
    return means


# --- means ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REGIONS)
def test_means_of_real_atlases_equal_a_plain_loop(atlases: Path, name):
    atlas = load_atlas(atlases / name, REAL)
    random = np.random.default_rng(1)
    values = random.standard_normal((3, REAL.size)).astype(np.float32) + 100
    values[0, random.random(REAL.size) < 0.3] = np.nan
    values[1, atlas.regions[5].vertices] = np.nan
    means = atlas.summarise(values)
    assert means.shape == (3, REGIONS[name])
    assert means.dtype == np.float32
    assert np.isnan(means[1, 5])
    assert not np.isnan(means[2]).any()
    np.testing.assert_allclose(means, loop(atlas, values), rtol=1e-6)


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 2**16),
    rows=st.integers(0, 4),
    offset=st.sampled_from([0.0, 1e4]),
    lost=st.sampled_from([0.0, 0.5, 1.0]),
    kind=st.sampled_from([np.float16, np.float32, np.float64]),
)
def test_means_equal_a_plain_loop_whatever_is_missing(tmp_path, seed, rows, offset, lost, kind):
    atlas = load_atlas(write_pair(tmp_path), SMALL)
    random = np.random.default_rng(seed)
    values = (random.standard_normal((rows, SMALL.size)) + offset).astype(kind)
    values[random.random(values.shape) < lost] = np.nan
    before = values.copy()
    means = atlas.summarise(values)
    np.testing.assert_array_equal(values, before)
    assert means.dtype == (np.float64 if kind == np.float64 else np.float32)
    np.testing.assert_allclose(means, loop(atlas, values), rtol=1e-6, atol=1e-7)


def test_any_leading_axes_are_kept(tmp_path):
    atlas = load_atlas(write_pair(tmp_path), SMALL)
    values = np.random.default_rng(0).standard_normal((2, 3, SMALL.size)).astype(np.float32)
    means = atlas.summarise(values)
    assert means.shape == (2, 3, 6)
    np.testing.assert_array_equal(means[1, 2], atlas.summarise(values[1, 2]))
    np.testing.assert_array_equal(means, atlas.summarise(values.transpose(1, 0, 2)).swapaxes(0, 1))


def test_left_and_right_do_not_swap(tmp_path):
    atlas = load_atlas(write_pair(tmp_path), SMALL)
    values = np.repeat([1.0, -2.0], N)
    for region, mean in zip(atlas.regions, atlas.summarise(values), strict=True):
        assert mean == {"left": 1.0, "right": -2.0}[region.hemisphere]
        assert region.name.endswith({"left": "_L", "right": "_R"}[region.hemisphere])


def test_values_of_another_size_are_refused(tmp_path):
    atlas = load_atlas(write_pair(tmp_path), SMALL)
    with pytest.raises(InputError, match=r"1285 values and fsaverage3 has 1284"):
        atlas.summarise(np.zeros(1285))


def test_a_long_response_is_summarised_in_blocks(atlases: Path):
    atlas = load_atlas(atlases / "glasser_360", REAL)
    values = np.random.default_rng(0).standard_normal((900, REAL.size), dtype=np.float32)
    atlas.summarise(values[:1])
    tracemalloc.start()
    means = atlas.summarise(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80e6  # a copy of all of it in float64 would take 147 MB
    np.testing.assert_array_equal(means[-1], atlas.summarise(values[-1]))


def test_the_textbook_regions_serve_without_any_file():
    atlas = load_atlas("textbook", REAL)
    vertices = region_vertices(REAL)
    assert atlas.names == tuple(vertices)
    values = np.random.default_rng(0).standard_normal(REAL.size)
    means = [values[index].mean() for index in vertices.values()]  # regions overlap here
    np.testing.assert_allclose(atlas.summarise(values), means, rtol=1e-12)


# --- formats and meshes --------------------------------------------------------------------


def write_format(folder: Path, kind: str) -> Path:
    left = folder / f"lh.areas{kind}"
    if kind == ".dlabel.nii":
        parts = {side: (np.arange(N), labels(side)) for side in HEMISPHERES}
        return write_cifti(folder / f"areas{kind}", parts)
    for side in HEMISPHERES:
        path = folder / f"{side[0]}h.areas{kind}"
        if kind == ".annot":
            write_annot(path, labels(side))
        elif kind == ".label.gii":
            write_gifti(path, {"areas": labels(side)}, STRUCTURES[side])
        else:
            write_mgh(path, labels(side))
    lines = [f"{key}\t{name}" for key, name in enumerate(NAMES)]
    (folder / "areas.tsv").write_text("\n".join(["index\tname", *lines]), "utf-8")
    return left


@pytest.mark.parametrize("kind", [".annot", ".label.gii", ".mgz", ".mgh", ".dlabel.nii"])
@pytest.mark.parametrize("how", ["file", "folder", "folder/name"])
def test_every_format_gives_the_same_regions(tmp_path, kind, how):
    file = write_format(tmp_path, kind)
    given = {"file": file, "folder": tmp_path, "folder/name": tmp_path / "areas"}[how]
    atlas = load_atlas(given, SMALL)
    np.testing.assert_array_equal(names_at_vertices(atlas), expected_labels(atlas))
    assert (atlas.name, atlas.family) == ("areas", "")
    assert file.name in atlas.source


def test_right_file_or_pair_gives_the_same_atlas(tmp_path):
    left = write_pair(tmp_path)
    right = left.with_name("rh.areas.annot")
    for files in (right, str(right), (left, right)):
        atlas = load_atlas(files, SMALL)
        np.testing.assert_array_equal(names_at_vertices(atlas), expected_labels(atlas))


@pytest.mark.parametrize("name", REGIONS)
def test_real_annotations_are_those_of_nibabel(atlases: Path, name):
    atlas = load_atlas(atlases / name, REAL)
    assert len(set(atlas.names)) == len(atlas.regions) == REGIONS[name]
    found = names_at_vertices(atlas)
    for side in HEMISPHERES:
        file = atlases / f"fsa5_{side[0]}h_{name}.annot"
        numbers, _, names = nib.freesurfer.read_annot(file)
        true = np.array([text.decode() for text in names])[numbers]
        here = found[REAL.slice(side)]
        areas = np.array([text.removesuffix(f"_{side[0].upper()}") for text in here])
        walls = (
            "unknown",
            "corpuscallosum",
            "medialwall",
            "Background+FreeSurfer_Defined_Medial_Wall",
        )
        np.testing.assert_array_equal(areas, np.where(np.isin(true, walls), "", true))


@pytest.mark.parametrize("mesh", ["fsaverage3", "fsaverage4"])
def test_a_finer_fsaverage_serves_a_coarser_one_vertex_by_vertex(atlases: Path, mesh):
    n = FSAVERAGE[mesh]
    fine = names_at_vertices(load_atlas(atlases / "schaefer_100", REAL))
    coarse = load_atlas(atlases / "schaefer_100", mesh_space(mesh))
    expected = np.concatenate([fine[:n], fine[10242 : 10242 + n]])
    np.testing.assert_array_equal(names_at_vertices(coarse), expected)
    assert f"the first {n} of 10242 vertices" in coarse.source


def test_regions_that_a_coarse_mesh_misses_have_no_mean_and_that_is_said(atlases: Path):
    with pytest.warns(
        InputWarning, match=r"12 regions have no vertex of fsaverage3.*LO1_L"
    ) as told:
        atlas = load_atlas(atlases / "glasser_360", SMALL)
    assert len(told) == 1
    assert len(atlas.names) == 360
    means = dict(zip(atlas.names, atlas.summarise(np.ones(SMALL.size)), strict=True))
    assert np.isnan(means["LO1_L"])
    assert means["V1_L"] == 1
    assert sum(map(np.isnan, means.values())) == 12


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        ("fsaverage4", r"642 vertices a hemisphere \(fsaverage3\) do not fit fsaverage4; these do: "
         r"2562 \(fsaverage4\), 10242"),
        ("fsLR32k", r"do not fit fsLR32k; these do: 32492 \(fsLR32k\)"),
    ],
)  # fmt: skip
def test_an_atlas_of_another_mesh_is_refused_with_the_sizes_that_fit(tmp_path, mesh, message):
    path = write_pair(tmp_path)
    with pytest.raises(InputError, match=message):
        load_atlas(path, mesh_space(mesh))


def test_fslr_labels_do_not_serve_fsaverage_but_fslr(tmp_path):
    vertices = np.arange(0, 32492, 3)
    parts = {side: (vertices, labels(side, len(vertices))) for side in HEMISPHERES}
    path = write_cifti(tmp_path / "areas.dlabel.nii", parts, n=32492)
    with pytest.raises(InputError, match=r"32492 vertices a hemisphere \(fsLR32k\) do not fit"):
        load_atlas(path, REAL)
    atlas = load_atlas(path, mesh_space("fsLR32k"))
    found = np.flatnonzero(atlas.labels == atlas.names.index("V2_R"))
    np.testing.assert_array_equal(found, 32492 + vertices[labels("right", len(vertices)) == 2])


def test_hemispheres_of_two_sizes_are_refused(tmp_path):
    left = write_annot(tmp_path / "lh.x.annot", labels("left"))
    write_annot(tmp_path / "rh.x.annot", labels("right", 2562))
    with pytest.raises(InputError, match="left hemisphere has 642 vertices and the right 2562"):
        load_atlas(left, SMALL)


def test_hemispheres_that_their_names_show_swapped_are_refused(tmp_path):
    for side, names in (("l", "R"), ("r", "L")):
        areas = [f"{names}_V{k}_ROI" for k in range(4)]
        write_annot(tmp_path / f"{side}h.x.annot", labels("left"), areas)
    with pytest.raises(InputError, match=r"left hemisphere holds R_V0_ROI, which is of the right"):
        load_atlas(tmp_path, SMALL)


def test_hemispheres_that_gifti_shows_swapped_are_refused(tmp_path):
    for side, other in (("left", "right"), ("right", "left")):
        write_gifti(tmp_path / f"{other[0]}h.x.label.gii", {"a": labels(side)}, STRUCTURES[side])
    with pytest.raises(InputError, match="is of CortexRight, and the left hemisphere"):
        load_atlas(tmp_path, SMALL)


# --- the medial wall -----------------------------------------------------------------------


def test_an_atlas_with_a_wall_of_its_own_decides_where_it_is(atlases: Path):
    atlas = load_atlas(atlases / "glasser_360", REAL)
    ours = medial_wall("fsaverage5")
    assert ((atlas.labels >= 0) & ours).any()  # cortex to the atlas, thin to us
    assert ((atlas.labels < 0) & ~ours).any()


def test_an_atlas_without_a_wall_is_cut_at_that_of_the_mesh(tmp_path):
    path = write_pair(tmp_path, names=("A", "B", "C", "D"))
    atlas = load_atlas(path, SMALL)
    np.testing.assert_array_equal(atlas.labels < 0, medial_wall("fsaverage3"))
    assert "medial wall by the thickness" in atlas.source


WALLS = (
    *("unknown", "Unknown", "???", "L_???", "Background", "Medial wall", "Medial_wall"),
    *("medialwall", "corpuscallosum", "lh_unknown", "ctx-lh-unknown", ""),
    "Background+FreeSurfer_Defined_Medial_Wall",
)


@pytest.mark.parametrize("wall", WALLS)
def test_names_of_the_wall_are_no_regions(tmp_path, wall):
    for side in HEMISPHERES:
        name = wall.replace("L_", "R_").replace("lh", "rh") if side == "right" else wall
        write_gifti(
            tmp_path / f"{side[0]}h.x.label.gii", {"a": labels(side)}, None, (name, *NAMES[1:])
        )
    atlas = load_atlas(tmp_path, SMALL)
    np.testing.assert_array_equal(names_at_vertices(atlas), expected_labels(atlas))


# --- names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "name", "area"),
    [
        (("V1", "V1"), "V1_L", "V1"),
        (("L_V1_ROI", "R_V1_ROI"), "V1_L", "V1"),
        (("L_bankssts", "R_bankssts"), "bankssts_L", "bankssts"),
        (("L_V1_ROI-lh", "R_V1_ROI-rh"), "V1_L", "V1"),
        (("lh_bankssts", "rh_bankssts"), "bankssts_L", "bankssts"),
        (("ctx-lh-cuneus", "ctx-rh-cuneus"), "cuneus_L", "cuneus"),
        (("7Networks_LH_Vis_1", "7Networks_RH_Vis_1"), "7Networks_LH_Vis_1", "7Networks_LH_Vis_1"),
        (("1", "1"), "1_L", "1"),
    ],
)
def test_names_of_regions(tmp_path, texts, name, area):
    for side, text in zip(HEMISPHERES, texts, strict=True):
        names = ("unknown", text, "B", "C")
        write_annot(tmp_path / f"{side[0]}h.x.annot", labels(side), names)
    region = load_atlas(tmp_path, SMALL).regions[0]
    assert (region.name, region.area, region.hemisphere) == (name, area, "left")


def test_labels_without_a_name_are_no_region_and_that_is_said(tmp_path):
    for side in HEMISPHERES:
        maps = {"a": np.where(labels(side) == 2, 77, labels(side))}
        write_gifti(tmp_path / f"{side[0]}h.x.label.gii", maps, STRUCTURES[side])
    count = (labels("left") == 2).sum()
    with pytest.warns(InputWarning, match=r"labels have no name in its table") as told:
        atlas = load_atlas(tmp_path, SMALL)
    assert f" {count} labels" in str(told[0].message)
    assert atlas.names == ("V1_L", "A5_L", "V1_R", "A5_R")


def test_labels_of_one_name_are_one_region_and_that_is_said(tmp_path):
    with pytest.warns(InputWarning, match="several labels are called V1; each name is one region"):
        atlas = load_atlas(write_pair(tmp_path, names=("unknown", "V1", "V1", "A5")), SMALL)
    assert atlas.names == ("V1_L", "A5_L", "V1_R", "A5_R")
    expected = np.flatnonzero(np.isin(labels("left"), [1, 2]))
    np.testing.assert_array_equal(atlas.vertices("V1_L")["V1_L"], expected)


@pytest.fixture
def glasser(atlases: Path) -> Atlas:
    return load_atlas(atlases / "glasser_360", REAL)


@pytest.mark.parametrize(
    ("patterns", "hemisphere", "expected"),
    [
        ("A5", None, ["A5_L", "A5_R"]),
        ("A5_R", None, ["A5_R"]),
        ("A5", "left", ["A5_L"]),
        ("A?", "right", ["A1_R", "A5_R", "A4_R"]),
        ("A[45]", "left", ["A5_L", "A4_L"]),
        ("VMV*_L, FFC_R", None, ["VMV1_L", "VMV3_L", "VMV2_L", "FFC_R"]),
        (["MT", "MST"], "left", ["MST_L", "MT_L"]),
        ("p9-46v", "left", ["p9-46v_L"]),
    ],
)
def test_regions_are_found_by_name(glasser, patterns, hemisphere, expected):
    assert [region.name for region in glasser.match(patterns, hemisphere)] == expected
    assert list(glasser.vertices(patterns, hemisphere)) == expected


def test_every_region_goes_by_its_own_name_alone(glasser):
    for region in glasser.regions:
        assert glasser.match(region.name) == (region,)
    assert list(glasser.vertices()) == list(glasser.names)


def test_networks_are_found_by_wildcards(atlases: Path):
    atlas = load_atlas(atlases / "schaefer_100", REAL)
    names = [region.name for region in atlas.match("7Networks_LH_*")]
    assert len(names) == 50
    assert names == [name for name in atlas.names if "_LH_" in name]
    assert {r.hemisphere for r in atlas.match("7Networks_RH_Vis_*")} == {"right"}


@pytest.mark.parametrize(
    ("pattern", "hemisphere", "message"),
    [
        ("v1", None, r"no region of glasser is called 'v1'; there are V1"),
        ("FCC", None, r"'FCC'; there are .*FFC"),
        ("A5_R", "left", r"'A5_R' in the left hemisphere; there are .*A5_L"),
        ("Z*", None, r"'Z\*'; there are"),
        ("", None, r"called ''"),
        ("A5", "L", r"hemisphere 'L' is unknown; known: left, right"),
    ],
)
def test_a_name_that_matches_nothing_is_refused_with_names_like_it(
    glasser, pattern, hemisphere, message
):
    with pytest.raises(InputError, match=message):
        glasser.match(pattern, hemisphere)


def test_one_wrong_pattern_of_several_is_refused(glasser):
    with pytest.raises(InputError, match="'FCC'"):
        glasser.match("A5,FCC")


def test_names_with_characters_of_patterns_and_commas_stand_for_themselves(tmp_path):
    names = ("unknown", "hMT+ [left?]", "Gyrus, anterior", "hMT+ l")
    atlas = load_atlas(write_pair(tmp_path, names=names), SMALL)
    for name in names[1:]:
        assert [r.area for r in atlas.match(name, "left")] == [name]
    assert [r.area for r in atlas.match("hMT+ *", "left")] == ["hMT+ [left?]", "hMT+ l"]


# --- finding -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alias", "name"),
    [("HCP-MMP1", "glasser"), ("glasser360", "glasser"), ("aparc", "desikan-killiany"),
     ("dk", "desikan-killiany"), ("aparc.a2009s", "destrieux"), ("Schaefer400", "schaefer400"),
     ("schaefer400-7", "schaefer400"), ("schaefer1000-17", "schaefer1000-17")],
)  # fmt: skip
def test_aliases_lead_to_known_atlases(alias, name):
    assert resolve(alias) == name
    assert name in KNOWN


@pytest.mark.parametrize("name", ["schaefer150", "glas", "yeo"])
def test_unknown_names_are_refused_with_the_known_ones(name):
    with pytest.raises(
        InputError, match=f"{name!r} is unknown; known: textbook, glasser, schaefer100"
    ):
        load_atlas(name, SMALL)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("glasser", "{h}.HCP-MMP1.annot"),
        ("glasser", "fsa5_{h}_glasser_360.annot"),
        ("desikan-killiany", "{h}.aparc.annot"),
        ("destrieux", "{h}.aparc.a2009s.annot"),
        ("schaefer400", "{h}.Schaefer2018_400Parcels_7Networks_order.annot"),
        ("schaefer400-17", "{h}.Schaefer2018_400Parcels_17Networks_order.annot"),
    ],
)
def test_known_atlases_are_found_in_the_folders_of_tribrain_atlases(
    tmp_path, monkeypatch, name, pattern
):
    write_pair(tmp_path / "b", pattern)
    write_pair(tmp_path / "b", "{h}.other.annot", names=("wrong", "wrong", "wrong", "wrong"))
    monkeypatch.setenv(
        "TRIBRAIN_ATLASES", os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "b")])
    )
    atlas = load_atlas(name, SMALL)
    np.testing.assert_array_equal(names_at_vertices(atlas), expected_labels(atlas))
    assert (atlas.name, atlas.family) == (name, KNOWN[name].family)
    assert atlas.source.startswith(KNOWN[name].source)
    by_path = load_atlas(tmp_path / "b" / pattern.format(h="rh"), SMALL)
    assert (by_path.name, by_path.family) == (name, KNOWN[name].family)


def test_places_are_looked_in_in_their_order(tmp_path, monkeypatch):
    """TRIBRAIN_ATLASES, the user's data folder, FreeSurfer's labels: own mesh, then finer ones."""
    subjects = tmp_path / "subjects"
    homes = [
        subjects / "fsaverage" / "label",
        subjects / "fsaverage3" / "label",
        tmp_path / "data" / "tribrain" / "atlases",
        tmp_path / "own",
    ]
    monkeypatch.setenv("SUBJECTS_DIR", str(subjects))
    monkeypatch.setenv("TRIBRAIN_ATLASES", str(tmp_path / "own"))
    for number, home in enumerate(homes):  # each goes before those that were there
        n = FSAVERAGE["fsaverage7"] if number == 0 else N
        write_pair(home, "{h}.aparc.annot", n, names=("unknown", f"A{number}", "B", "C"))
        assert load_atlas("dk", SMALL).regions[0].area == f"A{number}"


def test_an_atlas_of_another_mesh_is_passed_over_for_one_that_fits(tmp_path, monkeypatch):
    write_pair(tmp_path / "a", "{h}.aparc.annot", names=("unknown", "coarse", "B", "C"))
    monkeypatch.setenv("TRIBRAIN_ATLASES", str(tmp_path / "a"))
    with pytest.raises(InputError, match=r"642 vertices a hemisphere \(fsaverage3\) do not fit"):
        load_atlas("dk", mesh_space("fsaverage4"))
    monkeypatch.setenv("SUBJECTS_DIR", str(tmp_path))
    write_pair(tmp_path / "fsaverage4" / "label", "{h}.aparc.annot", 2562)
    assert load_atlas("dk", mesh_space("fsaverage4")).regions[0].area == "V1"


def test_an_atlas_that_is_nowhere_says_where_it_was_looked_for_and_how_to_get_it(tmp_path):
    with pytest.raises(InputError) as error:
        load_atlas("schaefer200", SMALL)
    message = str(error.value)
    assert str(tmp_path / "data" / "tribrain" / "atlases") in message
    assert "CBIG" in message
    assert "TRIBRAIN_ATLASES" in message
    assert "\n" not in message


def test_destrieux_is_fetched_where_it_is_not_here(monkeypatch):
    from nilearn import datasets

    with pytest.raises(InputError, match=r"could not fetch it \(no network in tests\)"):
        load_atlas("destrieux", REAL)
    left, right = labels("left", 10242), labels("right", 10242)
    bunch = {"labels": list(NAMES), "map_left": left, "map_right": right}
    monkeypatch.setattr(datasets, "fetch_atlas_surf_destrieux", lambda **options: bunch)
    atlas = load_atlas("destrieux", REAL)
    np.testing.assert_array_equal(
        atlas.vertices("A5_R")["A5_R"], 10242 + np.flatnonzero(right == 3)
    )
    assert "fetched by nilearn" in atlas.source
    with pytest.raises(InputError, match="destrieux is not here"):
        load_atlas("destrieux", mesh_space("fsaverage6"))  # nilearn has fsaverage5 alone


def test_wang_2015_gets_its_names_by_number(tmp_path, monkeypatch):
    for side in HEMISPHERES:
        numbers = np.zeros(N, np.float32)
        numbers[: 25 * 4] = np.repeat(np.arange(1, 26), 4) if side == "left" else 13
        write_mgh(tmp_path / f"{side[0]}h.wang15_mplbl.v1_0.mgz", numbers)
    monkeypatch.setenv("TRIBRAIN_ATLASES", str(tmp_path))
    atlas = load_atlas("wang2015", SMALL)
    assert [r.area for r in atlas.regions if r.hemisphere == "left"] == [
        *"V1v V1d V2v V2d V3v V3d hV4 VO1 VO2 PHC1 PHC2 MST hMT LO2 LO1 V3b V3a".split(),
        *"IPS0 IPS1 IPS2 IPS3 IPS4 IPS5 SPL1 FEF".split(),
    ]
    np.testing.assert_array_equal(atlas.vertices("hMT_L")["hMT_L"], np.arange(48, 52))
    np.testing.assert_array_equal(atlas.vertices("hMT_R")["hMT_R"], N + np.arange(100))


def test_a_folder_of_several_atlases_lists_them_and_each_goes_by_its_name(tmp_path):
    write_pair(tmp_path, "fsa5_{h}_schaefer_100.annot")
    write_pair(tmp_path, "fsa5_{h}_schaefer_1000.annot", names=("unknown", "X", "Y", "Z"))
    (tmp_path / "LICENSE").write_text("none", "utf-8")
    with pytest.raises(InputError, match=r"several atlases; write .*NAME.*schaefer_100, .*_1000"):
        load_atlas(tmp_path, SMALL)
    with pytest.raises(InputError, match="say more than 'schaefer'"):
        load_atlas(tmp_path / "schaefer", SMALL)
    with pytest.raises(
        InputError, match=r"no atlas with 'zzz' in its name; it has: fsa5_schaefer_100"
    ):
        load_atlas(tmp_path / "zzz", SMALL)
    assert load_atlas(tmp_path / "schaefer_100", SMALL).regions[0].area == "V1"
    assert load_atlas(str(tmp_path / "1000"), SMALL).regions[0].area == "X"


def test_one_atlas_in_two_formats_is_two_to_choose_from(tmp_path):
    for kind in (".annot", ".label.gii"):
        write_format(tmp_path, kind)
    (tmp_path / "areas.tsv").unlink()
    with pytest.raises(InputError, match="several"):
        load_atlas(tmp_path, SMALL)
    held = atlas_places.atlases_in(tmp_path)
    assert [len(files) for files in held.values()] == [2, 2]
    assert [file.name for file in held["areas.label.gii"]] == [
        "lh.areas.label.gii",
        "rh.areas.label.gii",
    ]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere/atlas", "does not exist"),
        ("x.annot", "holds no atlas with 'x.annot'"),
        (".", "holds no atlas; these are read: .annot"),
        ("lh.alone.annot", "rh.alone.annot is not there"),
        ("notes.md", "cannot be read as an atlas"),
    ],
)
def test_paths_that_lead_to_no_atlas_are_refused(tmp_path, path, message):
    if path not in (".", "x.annot"):
        write_annot(tmp_path / "lh.alone.annot", labels("left"))
        (tmp_path / "notes.md").write_text("x", "utf-8")
    with pytest.raises(InputError, match=message):
        load_atlas(tmp_path / path, SMALL)


def test_a_pair_in_the_other_order_is_refused(tmp_path):
    left = write_pair(tmp_path)
    with pytest.raises(InputError, match=r"rh.areas.annot is of the right.*give the left"):
        load_atlas((left.with_name("rh.areas.annot"), left), SMALL)


def test_three_files_are_no_atlas(tmp_path):
    with pytest.raises(InputError, match="3 files of an atlas; two fit"):
        load_atlas([tmp_path / name for name in "abc"], SMALL)


# --- volumes -------------------------------------------------------------------------------

GRID = np.array([[-4.0, 0, 0, 20], [0, 4, 0, -16], [0, 0, 4, -8], [0, 0, 0, 1]])
"""Voxels of 4 mm, x from right to left as FSL has it."""


def some_voxels(template: str = "MNI152NLin6Asym") -> Voxels:
    """Voxels of 3 mm, in no order, some outside the atlas."""
    affine = np.diag([3.0, 3, 3, 1])
    affine[:3, 3] = [-21.3, -18.4, -12.2]  # no voxel lies midway between two of the atlas
    places = np.random.default_rng(3).permutation(12**3)[:200]
    return Voxels(template, (12, 12, 12), affine, np.stack(np.unravel_index(places, (12,) * 3), 1))


@pytest.fixture
def structures(tmp_path) -> Path:
    """A volume of three structures that lies nowhere symmetric."""
    data = np.zeros((9, 8, 6), np.int16)
    data[5:, 1:5, 2:] = 1
    data[:4, 2:7, 1:4] = 2
    data[4] = 3
    path = write_volume(tmp_path / "deep_space-MNI152NLin2009cAsym.nii.gz", data, GRID)
    table = "index\tname\n0\tBackground\n1\tLeft Thalamus\n2\tRight Putamen\n3\tBrain-Stem\n"
    (tmp_path / "deep_space-MNI152NLin2009cAsym.tsv").write_text(table, "utf-8")
    return path


def looked_up(path: Path, mm: np.ndarray) -> np.ndarray:
    """Labels at points, by a plain loop over all voxels of a volume."""
    image = nib.load(path)
    data = np.asarray(image.dataobj)
    centres = nib.affines.apply_affine(image.affine, np.argwhere(np.ones(data.shape)))
    found = []
    for point in mm:
        apart = np.abs(centres - point)
        nearest = int(np.linalg.norm(apart, axis=1).argmin())
        found.append(int(data.ravel()[nearest]) if (apart[nearest] <= 2).all() else 0)
    return np.array(found)


def test_voxels_take_the_label_of_the_nearest_voxel_of_the_atlas(structures):
    voxels = some_voxels()
    atlas = load_atlas(structures, voxel_space(voxels))
    expected = looked_up(structures, nib.affines.apply_affine(voxels.affine, voxels.indices))
    names = np.array(["", "Left Thalamus", "Right Putamen", "Brain-Stem"])
    np.testing.assert_array_equal(names_at_vertices(atlas), names[expected])
    assert {r.name: r.hemisphere for r in atlas.regions} == {
        "Left Thalamus": "left",
        "Right Putamen": "right",
        "Brain-Stem": "",
    }
    assert "MNI152NLin2009cAsym looked up at voxels in MNI152NLin6Asym" in atlas.source
    assert [r.name for r in atlas.match("*", "left")] == ["Left Thalamus"]


def test_voxels_in_mni305_are_moved_to_mni152_first(structures):
    voxels = some_voxels("MNI305")
    mm = nib.affines.apply_affine(voxels.affine, voxels.indices)
    moved = mm @ MNI305_TO_MNI152[:, :3].T + MNI305_TO_MNI152[:, 3]
    expected = looked_up(structures, moved)
    assert (expected != looked_up(structures, mm)).any()
    atlas = load_atlas(structures, voxel_space(voxels))
    names = np.array(["", "Left Thalamus", "Right Putamen", "Brain-Stem"])
    np.testing.assert_array_equal(names_at_vertices(atlas), names[expected])


def test_voxels_after_a_surface_have_regions_of_either_kind_of_atlas(structures, tmp_path):
    alone = voxel_space(some_voxels())
    both = join(SMALL, alone)
    deep = load_atlas(structures, both)
    assert (deep.labels[:1284] == -1).all()
    np.testing.assert_array_equal(deep.labels[1284:], load_atlas(structures, alone).labels)
    surface = load_atlas(write_pair(tmp_path / "s"), both)
    assert (surface.labels[1284:] == -1).all()
    np.testing.assert_array_equal(surface.labels[:1284], load_atlas(tmp_path / "s", SMALL).labels)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (SMALL, r"does not fit fsaverage3, a surface; give an atlas of the surface"),
        (find_space(None, 8802), r"not known where the values of subcortex8802 lie; give its mask"),
        (parcel_space("schaefer100", ["a", "b"]), r"regions already"),
    ],
)  # fmt: skip
def test_label_volumes_do_not_serve_every_space(structures, space: Space, message):
    with pytest.raises(InputError, match=message):
        load_atlas(structures, space)


def test_a_surface_atlas_does_not_serve_voxels(tmp_path):
    space = voxel_space(some_voxels())
    with pytest.raises(InputError, match="give a label volume"):
        load_atlas(write_pair(tmp_path), space)
    with pytest.raises(InputError, match=r"glasser is an atlas of the surface and .* has none"):
        load_atlas("glasser", space)
    with pytest.raises(InputError, match="harvard-oxford is an atlas of voxels and fsaverage3 is"):
        load_atlas("harvard-oxford", SMALL)


def test_a_volume_that_does_not_tell_its_template_is_refused(structures):
    plain = structures.with_name("deep.nii.gz")
    structures.rename(plain)
    structures.with_name("deep_space-MNI152NLin2009cAsym.tsv").rename(plain.with_name("deep.tsv"))
    with pytest.raises(InputError, match=r"tells its template; put tpl-TEMPLATE"):
        load_atlas(plain, voxel_space(some_voxels()))


def test_a_volume_without_any_of_the_voxels_is_refused(structures):
    far = Voxels("MNI152NLin6Asym", (2, 2, 2), np.diag([3.0, 3, 3, 1]) + 0, [[1, 1, 1]])
    moved = np.array(far.affine)
    moved[:3, 3] = 500
    space = voxel_space(Voxels(far.template, far.shape, moved, far.indices))
    with pytest.raises(InputError, match="no vertex or voxel of the response lies in a region"):
        load_atlas(structures, space)


def test_harvard_oxford_and_schaefer_are_fetched_for_voxels(structures, monkeypatch):
    from nilearn import datasets

    space = voxel_space(some_voxels())
    with pytest.raises(InputError, match=r"could not fetch it \(no network"):
        load_atlas("harvard-oxford", space)
    image = nib.load(structures)
    names = ["Background", "Left Thalamus", "Right Putamen", "Brain-Stem"]
    asked = {}

    def fetch(*args, **options):
        asked.update(options, args=args)
        return {"maps": image, "labels": names}

    monkeypatch.setattr(datasets, "fetch_atlas_harvard_oxford", fetch)
    monkeypatch.setattr(datasets, "fetch_atlas_schaefer_2018", fetch)
    atlas = load_atlas("harvard-oxford", space)
    np.testing.assert_array_equal(atlas.labels, load_atlas(structures, space).labels)
    assert asked["args"] == ("sub-maxprob-thr25-2mm",)
    assert load_atlas("schaefer300-17", space).names == atlas.names
    assert (asked["n_rois"], asked["yeo_networks"]) == (300, 17)


def test_harvard_oxford_of_fsl_takes_its_names_from_the_table_of_fsl(
    structures, tmp_path, monkeypatch
):
    folder = tmp_path / "HarvardOxford"
    folder.mkdir()
    structures.rename(folder / "HarvardOxford-sub-maxprob-thr25-2mm.nii.gz")
    parts = enumerate(("Left Thalamus", "Right Putamen", "Brain-Stem"))
    lines = [f'<label index="{k}" x="0" y="0" z="0">{name}</label>' for k, name in parts]
    text = "<atlas><type>Probabilistic</type>" + "\n".join(lines) + "</atlas>"
    (tmp_path / "HarvardOxford-Subcortical.xml").write_text(text, "utf-8")
    monkeypatch.setenv("TRIBRAIN_ATLASES", str(folder))
    atlas = load_atlas("harvard-oxford", voxel_space(some_voxels()))
    assert set(atlas.names) == {"Left Thalamus", "Right Putamen", "Brain-Stem"}
