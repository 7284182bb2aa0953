"""Spaces: sizes, hemispheres, voxels, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from tribrain.brain.spaces import find_space
from tribrain.errors import InputError


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
