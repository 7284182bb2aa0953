"""The table of groups: its sources, and that its patterns match what they should."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from atlas_makers import write_annot, write_mgh
from tribrain.brain.atlas_places import KNOWN
from tribrain.brain.atlases import Atlas, group_vertices, groups, groups_table, load_atlas
from tribrain.brain.spaces import HEMISPHERES, mesh_space
from tribrain.errors import InputError

TABLE = groups_table()
GROUPS = (
    "early visual",
    "ventral stream",
    "dorsal stream",
    "motion",
    "auditory",
    "language",
    "default mode",
)
REAL = {
    "glasser": ("glasser_360",),
    "desikan-killiany": ("aparc",),
    "schaefer": ("schaefer_100", "schaefer_200", "schaefer_400", "schaefer_1000"),
}
DESTRIEUX = (
    "Unknown Medial_wall S_calcarine G_cuneus G_oc-temp_med-Lingual G_oc-temp_lat-fusifor "
    "S_oc-temp_lat S_oc-temp_med_and_Lingual G_oc-temp_med-Parahip S_intrapariet_and_P_trans "
    "G_parietal_sup G_temp_sup-G_T_transv S_temporal_transverse G_temp_sup-Plan_tempo "
    "G_temp_sup-Lateral G_front_inf-Opercular G_front_inf-Triangul S_temporal_sup "
    "G_temporal_middle G_cingul-Post-dorsal G_cingul-Post-ventral G_precuneus "
    "G_pariet_inf-Angular G_and_S_cingul-Ant G_rectus G_orbital S_central"
).split()
"""Some names of FreeSurfer's colour table of aparc.a2009s."""
SCHAEFER_17 = (
    "Background+FreeSurfer_Defined_Medial_Wall {h}_VisCent_ExStr_1 {h}_SomMotB_Aud_1 "
    "{h}_SomMotA_1 {h}_DefaultA_PFCm_1 {h}_DefaultB_Temp_1 {h}_DefaultC_PHC_1 {h}_TempPar_1"
)


def atlas_of(family: str, tmp_path: Path, request: pytest.FixtureRequest) -> list[Atlas]:
    """Real annotations where there are some, else small files with the names of the real ones."""
    space = mesh_space("fsaverage5")
    if family == "textbook":
        return [load_atlas("textbook", space)]
    if family in REAL:
        folder = request.getfixturevalue("atlases")
        return [load_atlas(folder / name, space) for name in REAL[family]]
    for side in HEMISPHERES:
        h = f"{side[0]}h"
        if family == "wang2015":
            write_mgh(tmp_path / f"{h}.wang2015_atlas.mgz", np.arange(642, dtype=np.int32) % 26)
        elif family == "destrieux":
            write_annot(
                tmp_path / f"{h}.aparc.a2009s.annot", np.arange(642) % len(DESTRIEUX), DESTRIEUX
            )
        else:
            names = SCHAEFER_17.format(h=f"17Networks_{h.upper()}").split()
            file = f"{h}.Schaefer2018_100Parcels_17Networks_order.annot"
            write_annot(tmp_path / file, np.arange(642) % len(names), names)
    return [load_atlas(tmp_path, mesh_space("fsaverage3"))]


def test_the_table_has_all_groups_and_no_gaps():
    assert list(TABLE.columns) == ["group", "atlas", "patterns", "hemisphere", "source"]
    assert not TABLE.isna().any().any()
    assert set(TABLE["group"]) == set(GROUPS)
    assert set(TABLE["atlas"]) <= {known.family for known in KNOWN.values()}
    assert set(TABLE["hemisphere"]) <= {"both", *HEMISPHERES}
    assert not TABLE.duplicated(["group", "atlas", "hemisphere"]).any()


def test_every_row_has_a_source_with_a_year():
    for source in TABLE["source"]:
        assert re.search(r"\b(19|20)\d\d\b", source), source


@pytest.mark.parametrize("family", sorted(set(TABLE["atlas"])))
def test_every_pattern_matches_regions_of_its_atlas(family, tmp_path, request):
    rows = TABLE[TABLE["atlas"] == family]
    for atlas in atlas_of(family, tmp_path, request):
        assert atlas.family == family
        assert groups(atlas) == tuple(dict.fromkeys(rows["group"]))
        for row in rows.itertuples():
            sides = HEMISPHERES if row.hemisphere == "both" else (row.hemisphere,)
            for side in sides:
                for pattern in row.patterns.split(","):
                    matched = atlas.match(pattern, side)
                    assert all(len(region.vertices) for region in matched), (row.group, pattern)


@pytest.fixture
def glasser(atlases: Path) -> Atlas:
    return load_atlas(atlases / "glasser_360", mesh_space("fsaverage5"))


@pytest.mark.parametrize(
    ("group", "areas"),
    [
        ("early visual", "V1 V2 V3 V4"),
        ("Early-Visual", "V1 V2 V3 V4"),
        ("motion", "MST MT V4t FST"),
        ("auditory", "A1 RI PBelt A5 MBelt LBelt A4"),
    ],
)
def test_groups_of_glasser_hold_their_areas_in_both_hemispheres(glasser, group, areas):
    found = group_vertices(glasser, group)
    assert set(found) == {f"{area}_{letter}" for area in areas.split() for letter in "LR"}
    for name, vertices in found.items():
        np.testing.assert_array_equal(vertices, glasser.vertices(name)[name])
    assert set(group_vertices(glasser, group, "right")) == {n for n in found if n.endswith("_R")}


def test_language_lies_more_in_the_left_hemisphere(glasser):
    """23 parcels, as Ji et al. 2019 count them; default mode has 77."""
    language, default = group_vertices(glasser, "language"), group_vertices(glasser, "default mode")
    assert (len(language), len(default)) == (23, 77)
    assert sum(name.endswith("_L") for name in language) == 14
    assert {"44_L", "PSL_L"} < set(language)
    assert "44_R" not in language


def test_groups_of_the_gyri_lie_where_those_of_the_areas_do(atlases: Path, glasser):
    """Of each group of Desikan-Killiany more lies in its namesake than a share by size would."""
    gyri = load_atlas(atlases / "aparc", glasser.space)
    cortex = int((glasser.labels >= 0).sum())
    shared = set(groups(gyri)) & set(groups(glasser))
    assert len(shared) == 6
    for group in shared:
        one, other = (
            np.concatenate(list(group_vertices(atlas, group).values())) for atlas in (gyri, glasser)
        )
        inside = np.isin(one, other).mean()
        assert inside > 1.5 * len(other) / cortex, group


def test_a_group_that_an_atlas_does_not_have_is_refused(glasser, atlases: Path):
    with pytest.raises(InputError, match=r"no group 'smell'; its groups: early visual, .*default"):
        group_vertices(glasser, "smell")
    schaefer = load_atlas(atlases / "schaefer_100", glasser.space)
    with pytest.raises(InputError, match=r"no group 'motion'; its groups: default mode; atlases"):
        group_vertices(schaefer, "motion")
    textbook = load_atlas("textbook", glasser.space)
    with pytest.raises(InputError, match="has no region in the right hemisphere"):
        group_vertices(textbook, "language", "right")
    with pytest.raises(InputError, match="known: left, right"):
        group_vertices(glasser, "motion", "R")


@pytest.mark.filterwarnings("ignore:.*have no vertex:tribrain.errors.InputWarning")
@pytest.mark.parametrize("name", ["glasser_360", "aparc", "schaefer_400"])
def test_groups_serve_coarse_meshes_too(atlases: Path, name):
    atlas = load_atlas(atlases / name, mesh_space("fsaverage3"))
    for group in groups(atlas):
        assert sum(map(len, group_vertices(atlas, group).values())) > 0
