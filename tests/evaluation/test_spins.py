"""Spin permutations: against turning each vertex by hand, and their level for smooth maps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import sph_harm_y
from scipy.stats import kstest, pearsonr

from tribrain.brain.atlas_regions import Region
from tribrain.brain.atlases import Atlas
from tribrain.brain.meshes import medial_wall, surface
from tribrain.brain.spaces import HEMISPHERES, mesh_space, parcel_space
from tribrain.errors import InputError
from tribrain.evaluation.statistics import spins
from tribrain.evaluation.statistics.spins import rotations, spin_parcels, spin_test

MESH = "fsaverage3"
N = mesh_space(MESH).n_left
MIRROR = np.diag([-1.0, 1.0, 1.0])


def points(side: str) -> np.ndarray:
    found = surface(MESH, side, "sphere")[0]
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def smooth_maps(count: int, seed: int, degree: int = 5) -> np.ndarray:
    """Random harmonics (count, 2 N) with the same spectrum, each hemisphere its own."""
    rng, sides = np.random.default_rng(seed), []
    for side in HEMISPHERES:
        x, y, z = points(side).T
        polar, around = np.arccos(np.clip(z, -1, 1)), np.arctan2(y, x)
        waves = [
            part(sph_harm_y(n, m, polar, around)) * (np.sqrt(2) if m else 1)
            for n in range(1, degree + 1)
            for m in range(n + 1)
            for part in ((np.real, np.imag) if m else (np.real,))
        ]
        sides.append(rng.normal(size=(count, len(waves))) @ np.array(waves))
    return np.concatenate(sides, axis=1)


def turned_by_hand(values: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Value of the vertex with the smallest angle to where each vertex's turn leads."""
    left, right = points("left"), points("right")
    from_left = ((left @ turn.T) @ left.T).argmax(axis=1)
    from_right = ((right @ (MIRROR @ turn @ MIRROR).T) @ right.T).argmax(axis=1)
    return np.concatenate([values[:N][from_left], values[N:][from_right]])


def masked_correlation(a: np.ndarray, b: np.ndarray) -> float:
    both = ~(np.isnan(a) | np.isnan(b))
    return float(pearsonr(a[both], b[both]).statistic)


def test_rotations_turn_every_point_anywhere():
    turns = rotations(2000, seed=1)
    np.testing.assert_allclose(
        turns @ turns.transpose(0, 2, 1), np.tile(np.eye(3), (2000, 1, 1)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(turns), 1)
    # Each coordinate of a point anywhere on the sphere is uniform (Archimedes).
    for start in np.eye(3):
        for coordinate in (turns @ start).T:
            assert kstest((coordinate + 1) / 2, "uniform").pvalue > 1e-3
    assert not np.array_equal(rotations(3, 1), rotations(3, 2))
    np.testing.assert_array_equal(rotations(3, 1), rotations(3, 1))


@pytest.mark.parametrize("two_sided", [False, True])
def test_null_is_that_of_maps_turned_by_hand(two_sided):
    a, b = smooth_maps(2, 0) + 100  # far from 0
    a[5:40] = np.nan
    b[N + 100 : N + 150] = np.nan
    found = spin_test(a, b, MESH, n=70, seed=3, two_sided=two_sided)
    wall = medial_wall(MESH)
    a, b = np.where(wall, np.nan, a), np.where(wall, np.nan, b)
    null = [masked_correlation(turned_by_hand(a, turn), b) for turn in rotations(70, 3)]
    np.testing.assert_allclose(found.null, null, atol=1e-9)
    r = masked_correlation(a, b)
    assert found.r == pytest.approx(r)
    reached = np.abs(null) >= abs(r) if two_sided else np.array(null) >= r
    assert found.p == pytest.approx((1 + reached.sum()) / 71)


def test_a_symmetric_map_stays_symmetric():
    """The turned map of a function of place is the function of the turned place, mirrored."""
    turn = rotations(1, 8)[0]
    left, right = points("left"), points("right")

    def function(p):
        return p[:, 0] * p[:, 1] + 0.5 * p[:, 2]

    values = np.concatenate([function(left), function(right @ MIRROR)])
    (places,) = next(spins._places([left, right], [left, right], 1, 8))
    expected = np.concatenate([function(left @ turn.T), function(right @ MIRROR @ turn.T)])
    np.testing.assert_allclose(values[places], expected, atol=0.15)  # half an edge
    assert (places[:N] < N).all()
    assert (places[N:] >= N).all()
    # As the same places of both hemispheres are mirror images of each other:
    mirrored = ((right @ MIRROR) @ left.T).argmax(axis=1)
    np.testing.assert_allclose(values[places][N:], values[places][:N][mirrored], atol=0.3)


def test_level_of_smooth_maps_that_have_nothing_to_do_with_each_other():
    a, b = smooth_maps(300, 1), smooth_maps(300, 2)
    found = spin_test(a, b, MESH, n=199, seed=0)
    assert kstest(found.p, "uniform").statistic < 0.08
    assert 0.02 < (found.p <= 0.05).mean() < 0.085
    # Vertices counted as if they were independent would tell of a likeness most of the time.
    cortex = ~medial_wall(MESH)
    naive = [pearsonr(x[cortex], y[cortex]).pvalue for x, y in zip(a, b, strict=True)]
    assert np.mean(np.array(naive) < 0.05) > 0.5


def test_maps_that_are_alike_are_found():
    a, noise = smooth_maps(1, 1)[0], smooth_maps(1, 2)[0]
    same = spin_test(a, 3 - 2 * a, MESH, n=199)
    assert same.r == pytest.approx(-1)
    assert same.p == 1 / 200
    assert spin_test(a, 3 - 2 * a, MESH, n=199, two_sided=False).p == 1
    assert spin_test(a, a + 0.5 * noise, MESH, n=199).p < 0.02


def test_many_maps_at_once_are_one_by_one():
    a, b = smooth_maps(3, 0), smooth_maps(3, 1)
    a[1, ::7] = np.nan
    pairs = spin_test(a, b, MESH, n=20)
    each = spin_test(a[1], b, MESH, n=20)
    for at in range(3):
        alone = spin_test(a[at], b[at], MESH, n=20)
        np.testing.assert_allclose(pairs.null[:, at], alone.null)
        assert pairs.p[at] == alone.p
    np.testing.assert_allclose(each.null[:, 1], pairs.null[:, 1])
    assert each.r.shape == (3,)


def test_the_medial_wall_and_maps_that_do_not_vary():
    a, b = smooth_maps(2, 0)
    changed = np.where(medial_wall(MESH), 1e6, a)
    np.testing.assert_array_equal(
        spin_test(a, b, MESH, n=10).null, spin_test(changed, b, MESH, n=10).null
    )
    flat = spin_test(a, np.full(2 * N, 0.1), MESH, n=10)
    assert np.isnan([flat.r, flat.p]).all()


def test_the_mesh_of_the_data():
    """fsaverage5 itself, the right hemisphere different from the left."""
    space = mesh_space("fsaverage5")
    coordinates = np.concatenate([surface("fsaverage5", s, "sphere")[0] for s in HEMISPHERES])
    values = coordinates[:, 1] + 30 * np.sin(coordinates[:, 2] / 20)
    found = spin_test(values, values, n=25)
    assert found.r == pytest.approx(1)
    assert found.p == 1 / 26
    assert np.abs(found.null).max() < 0.99
    assert len(values) == space.size


def atlas_of(count: int, sides: tuple[str, ...] = HEMISPHERES) -> Atlas:
    """Regions around `count` random places of each hemisphere, those of the right first."""
    regions = []
    for number, side in reversed(list(enumerate(sides))):
        seeds = np.random.default_rng(number).normal(size=(count, 3))
        nearest = (points(side) @ (seeds / np.linalg.norm(seeds, axis=1)[:, None]).T).argmax(axis=1)
        regions += [
            Region(f"{side}{k}", str(k), side, np.flatnonzero(nearest == k) + N * number)
            for k in range(count)
        ]
    return Atlas("made", mesh_space(MESH), tuple(regions), "made for the test")


def test_parcels_are_turned_by_their_centres():
    atlas, rng = atlas_of(12), np.random.default_rng(0)
    a, b = rng.normal(size=(2, 24))
    a[3] = np.nan
    found = spin_parcels(a, b, atlas, n=30, seed=5)
    null = []
    for turn in rotations(30, 5):
        new = np.empty(24)
        for at, region in enumerate(atlas.regions):
            side = region.hemisphere
            where = points(side)
            start = 0 if side == "left" else N
            own = [k for k, one in enumerate(atlas.regions) if one.hemisphere == side]
            centres = np.array([where[atlas.regions[k].vertices - start].mean(0) for k in own])
            centres /= np.linalg.norm(centres, axis=1, keepdims=True)
            turned = (turn if side == "left" else MIRROR @ turn @ MIRROR) @ centres[own.index(at)]
            new[at] = a[own[int((centres @ turned).argmax())]]
        null.append(masked_correlation(new, b))
    np.testing.assert_allclose(found.null, null, atol=1e-9)
    assert found.r == pytest.approx(masked_correlation(a, b))
    assert spin_parcels(b, b, atlas, n=99).p == 1 / 100


def test_an_atlas_of_one_hemisphere_is_enough():
    values = np.random.default_rng(0).normal(size=15)
    assert spin_parcels(values, values, atlas_of(15, ("left",)), n=49).p <= 2 / 50


def test_what_does_not_fit_is_told():
    good = np.arange(2.0 * N)
    with pytest.raises(InputError, match="known: "):
        spin_test(good, good, "fsaverage9")
    with pytest.raises(InputError, match="fsaverage5"):
        spin_test(good, good)
    with pytest.raises(InputError, match="do not fit each other"):
        spin_test(good, good[:5], MESH)
    with pytest.raises(InputError, match="do not fit each other"):
        spin_test(np.tile(good, (2, 1)), np.tile(good, (3, 1)), MESH)
    with pytest.raises(InputError, match="has 24 regions"):
        spin_parcels(np.ones(5), np.ones(5), atlas_of(12))
    flat = Atlas("list", parcel_space("list", ["a"]), (Region("a", "a", "", np.array([0])),), "")
    with pytest.raises(InputError, match="not of a surface"):
        spin_parcels(np.ones(1), np.ones(1), flat)
    nowhere = Atlas("odd", mesh_space(MESH), (Region("a", "a", "", np.array([0])),), "")
    with pytest.raises(InputError, match="region a of odd lies in no hemisphere"):
        spin_parcels(np.ones(1), np.ones(1), nowhere)
