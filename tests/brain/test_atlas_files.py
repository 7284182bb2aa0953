"""Label files of every format: read as they were written, and what is refused."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

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
from tribrain.brain.atlas_files import (
    NO_REGION,
    hemisphere_of,
    names_beside,
    partner,
    read_cifti,
    read_hemisphere,
    read_names,
    read_volume,
    split_name,
)
from tribrain.brain.spaces import HEMISPHERES
from tribrain.errors import InputError, InputWarning

TABLE = dict(enumerate(NAMES))
both_sides = pytest.mark.parametrize("side", HEMISPHERES)


@pytest.mark.parametrize(
    ("name", "other", "plain", "ending"),
    [
        ("lh.HCP-MMP1.annot", "rh.HCP-MMP1.annot", "HCP-MMP1", ".annot"),
        ("fsa5_lh_glasser.annot", "fsa5_rh_glasser.annot", "fsa5_glasser", ".annot"),
        ("x_hemi-L_dseg.label.gii", "x_hemi-R_dseg.label.gii", "x_dseg", ".label.gii"),
        ("Q1.L.areas.label.gii", "Q1.R.areas.label.gii", "Q1.areas", ".label.gii"),
        ("left.aparc.a2009s.annot", "right.aparc.a2009s.annot", "aparc.a2009s", ".annot"),
        ("areas_Left.mgz", "areas_Right.mgz", "areas", ".mgz"),
        ("sub-R_lh.annot", "sub-R_rh.annot", "sub-R", ".annot"),
    ],
)
def test_the_partner_of_a_file_is_found_by_its_name_both_ways(tmp_path, name, other, plain, ending):
    for file in (name, other):
        (tmp_path / file).touch()
    assert partner(tmp_path / name).name == other
    assert partner(tmp_path / other).name == name
    assert hemisphere_of(Path(name)) == "left"
    assert hemisphere_of(Path(other)) == "right"
    assert split_name(Path(name)) == split_name(Path(other)) == (plain, ending)


def test_a_file_without_its_partner_or_without_a_hemisphere_is_refused(tmp_path):
    (tmp_path / "lh.x.annot").touch()
    with pytest.raises(InputError, match=r"lh.x.annot is of the left.*rh.x.annot is not there"):
        partner(tmp_path / "lh.x.annot")
    with pytest.raises(InputError, match=r"halves.annot does not tell its hemisphere"):
        partner(tmp_path / "halves.annot")


@both_sides
def test_annotations_are_read_as_written(tmp_path, side):
    values = labels(side)
    values[7] = -1
    found = read_hemisphere(write_annot(tmp_path / "x.annot", values), side)
    np.testing.assert_array_equal(found.values, values)
    assert found.names == TABLE


def test_annotations_agree_with_nibabel(atlases: Path):
    for file in sorted(atlases.glob("*.annot")):
        expected, _, names = nib.freesurfer.read_annot(file)
        found = read_hemisphere(file, "left" if "_lh_" in file.name else "right")
        np.testing.assert_array_equal(found.values, expected)
        assert list(found.names.values()) == [name.decode() for name in names]


def test_a_colour_without_a_name_is_no_neighbouring_region(tmp_path):
    values = labels("left")
    path = write_annot(tmp_path / "x.annot", values)
    raw = bytearray(path.read_bytes())
    place = 4 + 8 * 5 + 4  # the colour of vertex 5
    raw[place : place + 4] = (123_456).to_bytes(4, "big")
    path.write_bytes(bytes(raw))
    found = read_hemisphere(path, "left")
    assert found.values[5] not in found.names
    np.testing.assert_array_equal(np.delete(found.values, 5), np.delete(values, 5))


def test_two_regions_of_one_colour_are_refused(tmp_path):
    colours = np.array([[10, 20, 30, 0, 0]] * 2)
    nib.freesurfer.write_annot(tmp_path / "x.annot", np.zeros(9, int), colours, ["a", "b"], True)
    with pytest.raises(InputError, match="two regions share a colour"):
        read_hemisphere(tmp_path / "x.annot", "left")


@both_sides
def test_gifti_labels_are_read_as_written(tmp_path, side):
    path = write_gifti(tmp_path / "x.label.gii", {"areas": labels(side)}, STRUCTURES[side])
    found = read_hemisphere(path, side)
    np.testing.assert_array_equal(found.values, labels(side))
    assert found.names == TABLE


def test_gifti_of_the_other_hemisphere_is_refused(tmp_path):
    path = write_gifti(tmp_path / "x.label.gii", {"areas": labels("left")}, "CortexLeft")
    with pytest.raises(InputError, match="is of CortexLeft, and the right hemisphere"):
        read_hemisphere(path, "right")


def test_gifti_without_labels_is_refused(tmp_path):
    path = tmp_path / "x.label.gii"
    write_gifti(path, {"areas": labels("left")}, "CortexLeft", intent="NIFTI_INTENT_SHAPE")
    with pytest.raises(InputError, match="holds no labels"):
        read_hemisphere(path, "left")


def test_of_several_maps_the_first_is_read_and_said_or_the_named_one(tmp_path):
    maps = {"areas": labels("left"), "lobes": labels("left", seed=9)}
    path = write_gifti(tmp_path / "x.label.gii", maps, "CortexLeft")
    with pytest.warns(InputWarning, match=r"several maps \(areas, lobes\); the first"):
        np.testing.assert_array_equal(read_hemisphere(path, "left").values, maps["areas"])
    found = read_hemisphere(path, "left", label_map="lobes")
    np.testing.assert_array_equal(found.values, maps["lobes"])
    with pytest.raises(InputError, match="no map 'gyri'; its maps: areas, lobes"):
        read_hemisphere(path, "left", label_map="gyri")


@both_sides
def test_label_maps_take_their_names_from_the_table_beside_them(tmp_path, side):
    path = write_mgh(tmp_path / f"{side}.areas.mgz", labels(side).astype(np.float32))
    with pytest.raises(InputError, match=r"numbers without names.*areas.tsv"):
        read_hemisphere(path, side)
    lines = [f"{key}\t{name}" for key, name in TABLE.items()]
    (tmp_path / "areas.tsv").write_text("\n".join(["index\tname", *lines]), "utf-8")
    found = read_hemisphere(path, side)
    np.testing.assert_array_equal(found.values, labels(side))
    assert found.names == TABLE
    assert read_hemisphere(path, side, {1: "only"}).names == {1: "only"}


@pytest.mark.parametrize(
    ("values", "message"),
    [(np.full((6, 1, 1), 0.5, np.float32), "whole numbers"), (np.ones((3, 4, 1)), "has shape")],
)
def test_label_maps_of_other_values_or_shapes_are_refused(tmp_path, values, message):
    nib.save(nib.MGHImage(values.astype(np.float32), np.eye(4)), tmp_path / "lh.x.mgz")
    with pytest.raises(InputError, match=message):
        read_hemisphere(tmp_path / "lh.x.mgz", "left", {1: "a"})


@pytest.mark.parametrize("name", ["lh.x.mgh", "lh.x.mgz"])
def test_label_maps_leave_no_file_open(tmp_path, name):
    path = tmp_path / name
    write_mgh(path, np.zeros(5, np.int32))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        read_hemisphere(path, "left", {0: "a"})
        gc.collect()
    assert not [str(warning.message) for warning in told if name in str(warning.message)]


def cifti_parts() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every other vertex left, the last 500 right."""
    left, right = np.arange(0, N, 2), np.arange(142, N)
    return {"left": (left, labels("left")[left]), "right": (right, labels("right")[right])}


def test_cifti_labels_lie_at_their_vertices_and_nowhere_else(tmp_path):
    parts = cifti_parts()
    found = read_cifti(write_cifti(tmp_path / "x.dlabel.nii", parts))
    for side, (vertices, numbers) in parts.items():
        expected = np.full(N, NO_REGION)
        expected[vertices] = numbers
        np.testing.assert_array_equal(found[side].values, expected)
        assert found[side].names == TABLE


def test_cifti_with_the_right_hemisphere_first_is_read_the_same(tmp_path):
    parts = cifti_parts()
    swapped = {"right": parts["right"], "left": parts["left"]}
    one = read_cifti(write_cifti(tmp_path / "a.dlabel.nii", parts))
    other = read_cifti(write_cifti(tmp_path / "b.dlabel.nii", swapped))
    for side in HEMISPHERES:
        np.testing.assert_array_equal(one[side].values, other[side].values)


def test_voxels_of_a_cifti_file_are_left_out_and_that_is_said(tmp_path):
    path = write_cifti(tmp_path / "x.dlabel.nii", cifti_parts(), voxels=np.array([0, 2, 3]))
    with pytest.warns(InputWarning, match="2 labelled voxels are left out"):
        found = read_cifti(path)
    np.testing.assert_array_equal(found["right"].values[142:], labels("right")[142:])


def test_cifti_maps_are_chosen_by_name(tmp_path):
    path = write_cifti(tmp_path / "x.dlabel.nii", cifti_parts(), titles=("areas", "all"))
    assert set(read_cifti(path, "all")["left"].values[::2]) == {1}
    with pytest.warns(InputWarning, match="several maps"):
        assert len(set(read_cifti(path)["left"].values[::2])) == 4


def test_cifti_of_one_hemisphere_and_other_nifti_are_refused(tmp_path):
    only = {"left": cifti_parts()["left"]}
    with pytest.raises(InputError, match="holds no right hemisphere"):
        read_cifti(write_cifti(tmp_path / "x.dlabel.nii", only))
    with pytest.raises(InputError, match="holds no CIFTI-2 labels"):
        read_cifti(write_volume(tmp_path / "y.dlabel.nii", np.ones((2, 2, 2), np.int16), np.eye(4)))


AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -20], [0, 0, 2, 5], [0, 0, 0, 1]])


def test_volumes_are_read_with_their_matrix_names_and_template(tmp_path):
    data = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    path = write_volume(tmp_path / "tpl-MNIColin27_dseg.nii.gz", data, AFFINE)
    (tmp_path / "tpl-MNIColin27_dseg.tsv").write_text("index\tname\n3\tThalamus, left\n", "utf-8")
    found, affine, template = read_volume(path)
    np.testing.assert_array_equal(found.values, data)
    np.testing.assert_allclose(affine, AFFINE)
    assert (found.names, template) == ({3: "Thalamus, left"}, "MNIColin27")


@pytest.mark.parametrize(("code", "template"), [(4, "MNI152NLin6Asym"), (1, None), (3, None)])
def test_the_header_tells_mni152_or_nothing(tmp_path, code, template):
    path = write_volume(tmp_path / "x.nii", np.ones((2, 2, 2), np.int16), AFFINE, code)
    assert read_volume(path, {1: "a"})[2] == template


def test_a_volume_without_coordinates_is_refused(tmp_path):
    path = write_volume(tmp_path / "x.nii", np.ones((2, 2, 2), np.int16), AFFINE, 0)
    with pytest.raises(InputError, match="has no affine: sform and qform codes are 0"):
        read_volume(path, {1: "a"})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.ones((2, 2, 2, 3), np.int16), "three dimensions"),
        (np.full((2, 2, 2), 0.3, np.float32), "whole numbers"),
    ],
)
def test_volumes_that_are_no_labels_are_refused(tmp_path, data, message):
    path = write_volume(tmp_path / "x.nii.gz", data, AFFINE)
    with pytest.raises(InputError, match=message):
        read_volume(path, {1: "a"})


FSL = (
    '<type>{}</type>\n<label index="0" x="1" y="2">Left A &amp; B</label><label index="4">C</label>'
)


@pytest.mark.parametrize(
    ("file", "text", "names"),
    [
        ("a.tsv", "index\tname\tcolor\n1\tLeft A\t#f\n2\tB, c\t#0\n", {1: "Left A", 2: "B, c"}),
        ("a.csv", "\ufeffname,index\nX,7\n", {7: "X"}),
        (
            "a.txt",
            "# a comment\n0  Unknown  0 0 0 0\n17 Left-A 2 2 2 0\n",
            {0: "Unknown", 17: "Left-A"},
        ),
        ("a.txt", "1\tArea 4 left\n", {1: "Area 4 left"}),
        ("a.xml", FSL.format("Probabilistic"), {1: "Left A & B", 5: "C"}),
        ("a.xml", FSL.format("Label"), {0: "Left A & B", 4: "C"}),
    ],
)
def test_tables_of_names(tmp_path, file, text, names):
    (tmp_path / file).write_text(text, "utf-8")
    assert read_names(tmp_path / file) == names
    (tmp_path / "a.nii.gz").touch()
    assert names_beside(tmp_path / "a.nii.gz") == names


@pytest.mark.parametrize("text", ["", "number\tlabel\n1\tA\n", "index\tname\none\tA\n"])
def test_tables_without_index_and_name_are_refused(tmp_path, text):
    (tmp_path / "a.tsv").write_text(text, "utf-8")
    with pytest.raises(InputError, match="columns index and name fit"):
        read_names(tmp_path / "a.tsv")


def written(folder: Path, kind: str) -> Path:
    path = folder / f"lh.x{kind}"
    if kind == ".annot":
        return write_annot(path, labels("left"))
    if kind == ".label.gii":
        return write_gifti(path, {"areas": labels("left")}, "CortexLeft")
    if kind == ".dlabel.nii":
        return write_cifti(path, cifti_parts())
    if kind in (".mgz", ".mgh"):
        return write_mgh(path, labels("left"))
    return write_volume(path, np.ones((9, 9, 9), np.int16), AFFINE)


def read(path: Path) -> object:
    if path.name.endswith(".dlabel.nii"):
        return read_cifti(path)
    if ".nii" in path.name:
        return read_volume(path, {1: "a"})
    return read_hemisphere(path, "left", {1: "a"})


KINDS = (".annot", ".label.gii", ".mgz", ".mgh", ".dlabel.nii", ".nii.gz", ".nii")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["cut", "empty", "text", "absent"])
def test_damaged_files_are_one_clear_line(tmp_path, kind, damage):
    path = written(tmp_path, kind)
    raw = path.read_bytes()
    read(path)
    texts = {"cut": raw[: len(raw) // 2], "empty": b"", "text": b"no labels here\n" * 40}
    path.unlink()
    if damage in texts:
        path.write_bytes(texts[damage])
    with pytest.raises(InputError) as error:
        read(path)
    assert "\n" not in str(error.value)
    assert path.name in str(error.value)
