"""Spaces: sizes, hemispheres, voxels, what is refused."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.masking import apply_mask, unmask

from tribrain.brain.response import place, space_of
from tribrain.brain.spaces import (
    MESHES,
    TEMPLATES,
    Space,
    Voxels,
    find_space,
    join,
    known_spaces,
    mesh_of_vertices,
    mesh_space,
    parcel_space,
    voxel_space,
)
from tribrain.errors import InputError

AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
TEMPLATE = "MNI152NLin6Asym"


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("fsaverage3", 1284),
        ("fsaverage4", 5124),
        ("fsaverage5", 20484),
        ("subcortex8802", 8802),
    ],
)
def test_known_sizes_have_known_spaces(name, size):
    found = find_space(None, size)
    assert (found.name, found.size) == (name, size)
    assert found.is_surface == name.startswith("fsaverage")
    assert find_space(name, size) == found


def test_slices_part_the_values_into_left_and_right():
    space = find_space(None, 1284)
    values = np.arange(1284)
    np.testing.assert_array_equal(values[space.slice("left")], np.arange(642))
    np.testing.assert_array_equal(values[space.slice("right")], np.arange(642, 1284))


def test_unknown_size_is_a_list_of_outputs_without_a_surface():
    space = find_space(None, 200)
    assert (space.name, space.size, space.is_surface) == ("outputs200", 200, False)


@pytest.mark.parametrize("name", ["fsaverage3", "fsaverage5", "subcortex8802"])
def test_named_space_of_an_unknown_size_is_refused(name):
    with pytest.raises(InputError, match=f"1000 values do not fit {name}.*20484"):
        find_space(name, 1000)


@pytest.mark.parametrize(("name", "size"), [("fsaverage5", 1284), ("fsaverage5", 8802)])
def test_size_wins_over_the_mesh_that_a_published_configuration_names(name, size):
    # Reduced and subcortical checkpoints carry the mesh of the model they were made from.
    assert find_space(name, size) == find_space(None, size)


@pytest.mark.parametrize("side", ["top", "", "L"])
def test_unknown_hemisphere_is_refused(side):
    with pytest.raises(InputError, match="left, right"):
        find_space(None, 1284).slice(side)


def test_space_without_surface_has_no_hemispheres():
    with pytest.raises(InputError, match="none in outputs200"):
        find_space(None, 200).slice("left")


# Voxels


def some_mask(shape: tuple[int, int, int] = (4, 5, 6), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < 0.3


def voxels(count: int, structures: list[str] | None = None) -> Voxels:
    """The first voxels of a grid whose edges differ, every other one left out."""
    shape = (7, 50, 60)
    indices = np.stack(np.unravel_index(2 * np.arange(count), shape), axis=1)
    return Voxels(TEMPLATE, shape, AFFINE, indices, structures)


def test_voxels_of_a_mask_have_the_order_of_nilearn():
    mask = some_mask()
    found = Voxels.from_mask(mask, AFFINE, TEMPLATE)
    assert len(found) == mask.sum()
    values = np.arange(mask.size, dtype=np.float32).reshape(mask.shape)
    image = nib.Nifti1Image(mask.astype(np.uint8), AFFINE)
    expected = apply_mask(nib.Nifti1Image(values, AFFINE), image)
    np.testing.assert_array_equal(values[tuple(found.indices.T)], expected)
    back = unmask(expected, image).get_fdata()
    np.testing.assert_array_equal(found.volume(expected), back)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([(), (1,), (3, 2)]))
def test_volume_is_a_plain_loop_over_the_voxels(seed, rows):
    found = Voxels.from_mask(some_mask(seed=seed), AFFINE, TEMPLATE)
    values = np.random.default_rng(seed).normal(size=(*rows, len(found))).astype(np.float32)
    whole = found.volume(values, np.nan)
    assert (whole.dtype, whole.shape) == (np.float32, (*rows, 4, 5, 6))
    expected = np.full_like(whole, np.nan)
    for number, (i, j, k) in enumerate(found.indices):
        expected[..., i, j, k] = values[..., number]
    np.testing.assert_array_equal(whole, expected)


def test_volume_of_whole_numbers_stays_whole_unless_filled_with_nan():
    found = voxels(3)
    assert found.volume(np.array([1, 2, 3], np.int16)).dtype == np.int16
    assert found.volume(np.array([1, 2, 3], np.int16), -1)[0, 0, 1] == -1
    filled = found.volume(np.array([1, 2, 3]), np.nan)
    assert np.isnan(filled[0, 0, 1])
    assert filled[0, 0, 2] == 2


@pytest.mark.parametrize(("values", "count"), [(np.zeros(4), 4), (np.zeros((3, 2)), 2), (1.0, 0)])
def test_volume_of_another_number_of_values_is_refused(values, count):
    with pytest.raises(InputError, match=f"{count} values do not fit 3 voxels"):
        voxels(3).volume(values)


def test_nan_in_a_mask_is_outside():
    mask = np.full((2, 2, 3), np.nan)
    mask[1, 0, 2], mask[0, 1, 1], mask[0, 0, 0] = 0.5, -1, 0
    found = Voxels.from_mask(mask, AFFINE, TEMPLATE)
    assert found.indices.tolist() == [[0, 1, 1], [1, 0, 2]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"template": "MNI152"}, f"'MNI152' is unknown; known: {', '.join(TEMPLATES)}"),
        ({"affine": np.eye(3)}, r"shape \(3, 3\); \(4, 4\) fits"),
        ({"affine": np.full((4, 4), np.nan)}, "affine is damaged"),
        ({"affine": np.diag([2.0, 2, 2, 2])}, "last row of 0 0 0 1"),
        ({"affine": np.diag([2.0, 2, 0, 1])}, "voxels of 2 x 2 x 0 mm; edges of 0.1 to 20 mm"),
        ({"affine": np.diag([0.002, 0.002, 0.002, 1])}, "0.002 x 0.002 x 0.002 mm"),
        ({"affine": np.diag([2000.0, 2000, 2000, 1])}, "2e.03"),
        (
            {"affine": [[2, 2, 0, 0], [0, 0.01, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]},
            "edges of 0.1 to 20 mm fit",
        ),
        ({"shape": (4, 5)}, r"shape \(4, 5\); three sizes fit"),
        ({"shape": (4, 5, 0)}, "three sizes fit"),
        ({"indices": [0, 1, 2]}, r"shape \(3,\); \(n, 3\) fits"),
        ({"indices": [[0, 1, 6]]}, r"outside the grid of \(4, 5, 6\)"),
        ({"indices": [[4, 0, 0]]}, "outside the grid"),
        ({"indices": [[0, -1, 0]]}, "outside the grid"),
        ({"indices": [[0, 1, 2], [1, 1, 1], [0, 1, 2]]}, "there twice"),
        ({"indices": [[0, 1, 2.5]]}, "no whole numbers"),
        ({"structures": ["a", "b"]}, "2 structures for 1 voxels"),
    ],
)
def test_impossible_voxels_are_refused(change, message):
    given = {
        "template": TEMPLATE,
        "shape": (4, 5, 6),
        "affine": AFFINE,
        "indices": [[3, 4, 5]],
    }
    assert len(Voxels(**given)) == 1
    with pytest.raises(InputError, match=message):
        Voxels(**(given | change))


@pytest.mark.parametrize(
    ("mask", "message"),
    [(np.ones((3, 3)), "three dimensions fit"), (np.zeros((3, 3, 3)), "the mask is empty")],
)
def test_mask_that_is_no_volume_or_empty_is_refused(mask, message):
    with pytest.raises(InputError, match=message):
        Voxels.from_mask(mask, AFFINE, TEMPLATE)


def test_voxels_equal_only_what_says_the_same():
    one = voxels(3, ["a", "b", "c"])
    assert one == voxels(3, ["a", "b", "c"])
    assert one != "voxels"
    others = [
        voxels(3),
        voxels(3, ["a", "b", "x"]),
        voxels(2, ["a", "b"]),
        Voxels("MNI305", one.shape, one.affine, one.indices, one.structures),
        Voxels(TEMPLATE, (8, 50, 60), one.affine, one.indices, one.structures),
        Voxels(TEMPLATE, one.shape, np.diag([2.0, 2, 2, 1]), one.indices, one.structures),
        Voxels(TEMPLATE, one.shape, one.affine, one.indices[::-1], one.structures),
    ]
    assert all(one != other for other in others)


def test_voxels_cannot_be_changed_from_outside():
    affine, indices, structures = AFFINE.copy(), np.array([[0, 1, 2]]), np.array(["thalamus"])
    found = Voxels(TEMPLATE, (4, 5, 6), affine, indices, structures)
    affine[0, 0], indices[0, 0], structures[0] = 9, 3, "x"
    assert found == Voxels(TEMPLATE, (4, 5, 6), AFFINE, [[0, 1, 2]], ["thalamus"])
    for array in (found.affine, found.indices, found.structures):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[0]


# Spaces of several parts


def test_join_puts_voxels_after_both_hemispheres():
    below = voxels(50)
    space = join(mesh_space("fsaverage3"), voxel_space(below, "amygdala"))
    assert (space.name, space.size) == ("fsaverage3+amygdala", 1334)
    assert (space.mesh, space.n_voxels, space.voxels) == ("fsaverage3", 50, below)
    parts = [space.slice("left"), space.slice("right"), slice(space.cortex.stop, space.size)]
    assert [(part.start, part.stop) for part in parts] == [(0, 642), (642, 1284), (1284, 1334)]


@pytest.mark.parametrize(
    ("cortex", "subcortex", "message"),
    [
        ("voxels", "voxels", "is not a surface alone; meshes: fsaverage3"),
        ("joined", "voxels", "is not a surface alone"),
        ("parcels", "voxels", "is not a surface alone"),
        ("mesh", "mesh", "fsaverage3 is no set of voxels"),
        ("mesh", "parcels", "pair is no set of voxels"),
    ],
)
def test_parts_that_cannot_be_joined_are_refused(cortex, subcortex, message):
    mesh, below = mesh_space("fsaverage3"), voxel_space(voxels(3))
    parts = {
        "mesh": mesh,
        "voxels": below,
        "joined": join(mesh, below),
        "parcels": parcel_space("pair", ["one", "other"]),
    }
    with pytest.raises(InputError, match=message):
        join(parts[cortex], parts[subcortex])


def test_grayordinates_are_found_by_name():
    space = find_space("fsaverage5+subcortex8802", 29286)
    assert space == join(mesh_space("fsaverage5"), known_spaces()["subcortex8802"])
    assert (space.n_left, space.n_right, space.n_voxels) == (10242, 10242, 8802)
    assert space.voxels is None
    assert find_space("fsaverage3+mine", 5124).n_voxels == 3840  # and not fsaverage4


@pytest.mark.parametrize("size", [29285, 29287, 20484, 8802, 0])
def test_grayordinates_of_another_size_are_refused(size):
    with pytest.raises(InputError, match=rf"{size} values do not fit fsaverage5\+subcortex8802; "):
        find_space("fsaverage5+subcortex8802", size)


def test_grayordinates_of_an_unknown_mesh_are_refused():
    with pytest.raises(InputError, match="mesh 'fsaverage9' is unknown; known: fsaverage3"):
        find_space("fsaverage9+subcortex8802", 29286)


@pytest.mark.parametrize("size", [1284, 8802, 20484, 64984])
def test_own_name_is_never_taken_for_a_mesh_of_that_size(size):
    assert find_space("schaefer", size) == Space("schaefer", size)


def test_mask_of_another_size_is_refused():
    space = known_spaces()["subcortex8802"]
    assert space.with_voxels(voxels(8802)).voxels == voxels(8802)
    with pytest.raises(InputError, match="8801 voxels does not fit subcortex8802"):
        space.with_voxels(voxels(8801))
    with pytest.raises(InputError, match="does not fit fsaverage3, which has 0"):
        mesh_space("fsaverage3").with_voxels(voxels(3))


def test_parcels_have_a_name_each_and_no_surface():
    space = parcel_space("lobes", ["frontal", "parietal", "temporal"])
    assert (space.name, space.size, space.n_voxels) == ("lobes", 3, 0)
    assert space.parcels == ("frontal", "parietal", "temporal")
    assert space != parcel_space("lobes", ["frontal", "temporal", "parietal"])
    with pytest.raises(InputError, match="lobes has no surface; meshes: fsaverage3"):
        _ = space.mesh
    with pytest.raises(InputError, match="1 names do not fit 3 parcels"):
        Space("lobes", 3, parcels=("frontal",))
    with pytest.raises(InputError, match="several parcels of lobes are called 'frontal'"):
        parcel_space("lobes", ["frontal", "parietal", "frontal"])


@pytest.mark.parametrize(
    ("space", "size", "message"),
    [
        ("fsaverage5", 20485, "20485 values and fsaverage5 has 20484; sizes: .*fsaverage5 20484"),
        ("fsaverage5", 64984, "64984 values and fsaverage5 has 20484; 64984 values fit fsLR32k"),
        ("fsLR32k", 20484, "20484 values fit fsaverage5"),
        ("subcortex8802", 8801, "subcortex8802 8802$"),
    ],
)
def test_array_of_another_size_is_refused_with_what_would_fit(space, size, message):
    with pytest.raises(InputError, match=f"^the map has .*{message}"):
        known_spaces()[space].check(np.zeros((2, size)), "the map")
    known_spaces()[space].check(np.zeros((2, known_spaces()[space].size)))


def test_single_number_is_refused():
    with pytest.raises(InputError, match="the array has 0 values"):
        mesh_space("fsaverage3").check(3.0)


def test_mesh_is_known_by_its_vertices():
    assert {mesh_of_vertices(count): count for count in MESHES.values()} == MESHES
    with pytest.raises(InputError, match=r"a\.annot has 10243 .*fsaverage5 10242, .*fsLR32k 32492"):
        mesh_of_vertices(10243, "a.annot")
    with pytest.raises(InputError, match="mesh 'fsaverage' is unknown; known: fsaverage3"):
        mesh_space("fsaverage")


# Spaces in the coordinates of a response

EVERY_SPACE = [
    mesh_space("fsaverage3"),
    mesh_space("fsLR32k"),
    known_spaces()["subcortex8802"],
    known_spaces()["subcortex8802"].with_voxels(voxels(8802)),
    voxel_space(voxels(3, ["left thalamus", "", "right amygdala"])),
    voxel_space(voxels(20), "amygdala"),
    voxel_space(voxels(1284)),  # as many as fsaverage3 has vertices
    join(mesh_space("fsaverage3"), known_spaces()["subcortex8802"]),
    join(mesh_space("fsaverage3"), voxel_space(voxels(2, ["a", "brain stem"]))),
    join(mesh_space("fsaverage3"), voxel_space(voxels(3840))),  # as many as fsaverage4
    parcel_space("lobes", ["frontal", "parietal"]),
    parcel_space("fine", [f"region {number}" for number in range(1284)]),
    Space("outputs7", 7),
    Space("mine", 1284),
]


@pytest.mark.parametrize("space", EVERY_SPACE, ids=lambda space: f"{space.name}-{space.size}")
def test_space_of_a_placed_response_is_its_space(space):
    values = np.arange(2.0 * space.size).reshape(2, -1)
    placed = place(xr.DataArray(values, dims=("time", "vertex")), space)
    assert space_of(placed) == space
    np.testing.assert_array_equal(placed.values, values)
    assert ("hemisphere" in placed.coords) == space.is_surface
    assert place(placed, space).identical(placed)


def test_placed_voxels_and_vertices_say_where_they_are():
    below = voxels(3, ["thalamus", "", "amygdala"])
    space = join(mesh_space("fsaverage3"), voxel_space(below))
    placed = place(xr.DataArray(np.zeros((1, 1287)), dims=("time", "vertex")), space)
    counts = [(side, len(list(part))) for side, part in itertools.groupby(placed.hemisphere.values)]
    assert counts == [("left", 642), ("right", 642), ("", 3)]
    where = np.stack([placed[axis].values for axis in "ijk"], axis=1)
    assert (where[:1284] == -1).all()
    np.testing.assert_array_equal(where[1284:], below.indices)
    assert placed.structure.values[1283:].tolist() == ["", "thalamus", "", "amygdala"]
