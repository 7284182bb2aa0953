"""Responses in the files of other tools: written, opened by their own readers, read back."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import xarray as xr

from bids_rules import assert_bids
from test_response import lopsided, made, noise
from tribrain.brain.atlases import Atlas, Region
from tribrain.brain.export import load_response
from tribrain.brain.meshes import medial_wall
from tribrain.brain.response import Response
from tribrain.brain.response_files import FORMATS
from tribrain.brain.spaces import (
    Space,
    Voxels,
    find_space,
    join,
    mesh_space,
    parcel_space,
    voxel_space,
)
from tribrain.errors import InputError, InputWarning

WALL = medial_wall("fsaverage3")


def thalami() -> Space:
    """Ten voxels left of the middle and ten right of it, at 2 mm in MNI152."""
    mask = np.zeros((91, 109, 91))
    mask[51:56, 55:57, 40] = 1  # x under 0: this grid runs from right to left
    mask[35:40, 55:57, 40] = 1
    affine = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
    voxels = Voxels.from_mask(mask, affine, "MNI152NLin6Asym")
    left = voxels.indices[:, 0] > 45
    order = np.argsort(~left, kind="stable")
    structures = np.where(left, "CIFTI_STRUCTURE_THALAMUS_LEFT", "CIFTI_STRUCTURE_THALAMUS_RIGHT")
    return voxel_space(
        Voxels(voxels.template, voxels.shape, affine, voxels.indices[order], structures[order]),
        "thalami",
    )


def cortex_and_thalami() -> Response:
    space = join(mesh_space("fsaverage3"), thalami())
    values = np.concatenate([lopsided("fsaverage3"), noise(3, 20)], axis=1)
    return made(values, space=space)


def halves() -> Atlas:
    """Front and back of each hemisphere by number: an atlas whose regions do not overlap."""
    cortex = np.flatnonzero(~WALL)
    regions = []
    for side, first in (("left", 0), ("right", 642)):
        inside = cortex[(cortex >= first) & (cortex < first + 642)]
        for name, part in zip(("front", "back"), np.array_split(inside, 2), strict=True):
            regions.append(Region(f"{name}_{side[0].upper()}", name, side, part))
    return Atlas("halves", mesh_space("fsaverage3"), tuple(regions), "made for a test")


def saved(response: Response, folder: Path, kind: str, **options: object) -> list[Path]:
    response.save(folder, "film", formats=(kind,), **options)
    return sorted(path for path in folder.iterdir() if path.name.startswith("sub-"))


@pytest.mark.parametrize("kind", ["gifti", "mgh", "cifti", "npz"])
def test_surface_response_is_read_back_equal_with_its_clock(tmp_path, kind):
    response = made(lopsided("fsaverage3", 4), lag=4.5)
    files = saved(response, tmp_path, kind)
    file = next((f for f in files if f.suffix != ".json"), tmp_path / "film_response.npz")
    back = load_response(file)
    xr.testing.assert_identical(back.data, response.data)
    assert back.space == response.space


@pytest.mark.parametrize("kind", ["cifti", "npz"])
def test_cortex_and_subcortex_are_read_back_equal(tmp_path, kind):
    response = cortex_and_thalami()
    files = saved(response, tmp_path, kind)
    file = next((f for f in files if f.suffix != ".json"), tmp_path / "film_response.npz")
    back = load_response(file)
    np.testing.assert_array_equal(back.data.values, response.data.values)
    assert back.space.voxels == response.space.voxels
    assert (back.space.n_left, back.space.n_right) == (642, 642)


def test_the_store_keeps_voxels_and_parcels(tmp_path):
    for number, response in enumerate(
        [
            cortex_and_thalami(),
            made(noise(3, 20), space=thalami()),
            made(noise(3, 2), space=parcel_space("lobes", ["front", "back"])),
        ]
    ):
        response.save(tmp_path / str(number), "film")
        back = load_response(tmp_path / str(number))
        xr.testing.assert_identical(back.data, response.data)
        assert back.space == response.space


def test_parcels_go_into_the_table_and_npz_as_they_are(tmp_path):
    response = made(noise(3, 2), space=parcel_space("lobes", ["front", "back"]))
    response.save(tmp_path, "film", formats=("npz",))
    assert (tmp_path / "film_regions.tsv").read_text().splitlines()[0] == "time\tfront\tback"
    assert load_response(tmp_path / "film_response.npz").space == response.space


def test_volume_holds_left_values_left_of_the_middle_and_voxels_in_their_place(tmp_path):
    response = cortex_and_thalami()
    (sidecar, file) = saved(response, tmp_path, "nifti")
    assert (
        file.name == "sub-unseen_task-film_space-MNI152NLin6Asym_res-2_desc-predicted_bold.nii.gz"
    )
    image = nib.load(file)
    volume = np.asarray(image.dataobj)
    i, j, k = thalami().voxels.indices.T
    np.testing.assert_array_equal(volume[i, j, k].T, response.data.values[:, 1284:])
    volume[i, j, k] = 0
    x = nib.affines.apply_affine(image.affine, np.argwhere(volume[..., 0] > 0))[:, 0]
    assert (x < 2).all()
    x = nib.affines.apply_affine(image.affine, np.argwhere(volume[..., 0] < 0))[:, 0]
    assert (x > -2).all()
    assert json.loads(sidecar.read_text())["Resolution"]


def test_painted_volume_is_read_back_onto_the_surface(tmp_path):
    response = made(lopsided("fsaverage3"))
    _, file = saved(response, tmp_path, "nifti")
    back = load_response(file)
    np.testing.assert_array_equal(back.data.values[:, ~WALL], response.data.values[:, ~WALL])
    assert np.isnan(back.data.values[:, WALL]).all()


def test_voxels_without_a_mask_are_no_volume_until_it_is_given(tmp_path):
    response = made(noise(2, 8802))
    with pytest.raises(InputError, match="mask"):
        response.save(tmp_path / "out", "film", formats=("nifti",))
    assert not (tmp_path / "out").exists()
    indices = np.stack(np.unravel_index(np.arange(8802), (30, 30, 30)), axis=1)
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = -30
    voxels = Voxels("MNI152NLin6Asym", (30, 30, 30), affine, indices)
    response.with_voxels(voxels).save(tmp_path / "out", "film", formats=("nifti",))
    (file,) = (tmp_path / "out").glob("*.nii.gz")
    found = np.asarray(nib.load(file).dataobj)[tuple(indices.T)].T
    np.testing.assert_array_equal(found, response.data.values)
    with pytest.raises(InputError, match="8802"):
        response.with_voxels(Voxels("MNI152NLin6Asym", (30, 30, 30), affine, indices[1:]))


def test_an_atlas_without_overlap_gives_a_parcellated_file(tmp_path):
    response = made(lopsided("fsaverage3"))
    files = saved(response, tmp_path, "cifti", atlas=halves())
    (file,) = [f for f in files if f.name.endswith(".ptseries.nii")]
    assert "_seg-halves_" in file.name
    assert_bids(file)
    back = load_response(file)
    expected = response.regions(halves())
    np.testing.assert_array_equal(back.data.values, expected.to_numpy())
    assert back.space.parcels == ("front_L", "back_L", "front_R", "back_R")
    assert nib.load(file).header.get_axis(1).name.tolist() == list(back.space.parcels)


@pytest.mark.parametrize("kind", ["gifti", "cifti", "nifti"])
@pytest.mark.parametrize("make", [lambda: made(lopsided("fsaverage3")), cortex_and_thalami])
def test_names_and_sidecars_follow_bids(tmp_path, kind, make):
    files = saved(make(), tmp_path, kind)
    for file in files:
        entities = assert_bids(file)
        assert (entities["sub"], entities["task"]) == ("unseen", "film")
    assert len(files) == (4 if kind == "gifti" else 2)


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_nothing_swaps_left_and_right(tmp_path, kind):
    response = made(lopsided("fsaverage3"))
    files = saved(response, tmp_path, kind)
    file = next((f for f in files if f.suffix != ".json"), tmp_path / "film_response.npz")
    values = load_response(file).data.values
    left, right = (values[:, part][:, ~WALL[part]] for part in (slice(0, 642), slice(642, 1284)))
    assert (left > 0).all()
    assert (right < 0).all()


def test_either_hemisphere_brings_its_partner(tmp_path):
    response = made(lopsided("fsaverage3"))
    files = [f for f in saved(response, tmp_path, "gifti") if f.suffix == ".gii"]
    for file in files:
        np.testing.assert_array_equal(load_response(file).data, response.data)
    files[1].unlink()
    with pytest.raises(InputError, match=files[1].name):
        load_response(files[0])


def test_a_file_without_its_sidecar_is_no_response(tmp_path):
    file, sidecar = saved(made(lopsided("fsaverage3")), tmp_path, "cifti")
    held = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps({k: v for k, v in held.items() if k != "Lag"}))
    with pytest.raises(InputError, match=r"Lag.*no response"):
        load_response(file)
    sidecar.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        load_response(file)
    sidecar.unlink()
    with pytest.raises(InputError, match=r"has no .*json beside it"):
        load_response(file)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        *[("cifti", "Lag", value) for value in (None, "nan", "5", True, float("nan"), 10**400)],
        *[("cifti", "RowsWithoutStimulus", rows) for rows in (["x"], [999], [-1], [3], 1, [1.0])],
        ("nifti", "Space", ["a"]),
        ("cifti", "Space", None),
    ],
)
def test_a_sidecar_of_other_contents_is_refused_in_one_line(tmp_path, kind, field, value):
    files = saved(made(lopsided("fsaverage3")), tmp_path, kind)
    file, sidecar = sorted(files, key=lambda path: path.suffix == ".json")
    fields = json.loads(sidecar.read_text()) | {field: value}
    sidecar.write_text(json.dumps(fields))
    with pytest.raises(InputError, match=rf"^{field} .* fits") as caught:
        load_response(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["lag", "stimulus"])
def test_npz_without_a_part_is_refused_in_one_line(tmp_path, damage):
    made(lopsided("fsaverage3")).save(tmp_path, "film", formats=("npz",))
    path = tmp_path / "film_response.npz"
    arrays = dict(np.load(path))
    if damage == "lag":
        attrs = json.loads(str(arrays["attributes"]))
        del attrs["lag"]
        arrays["attributes"] = np.array(json.dumps(attrs))
    else:
        arrays["stimulus"] = arrays["stimulus"][:-1]
    np.savez(path, **arrays)
    with pytest.raises(InputError, match="cannot be read as a response") as caught:
        load_response(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["film.mat", "film_response.npz"])
def test_foreign_and_damaged_files_are_refused_in_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04 no such thing")
    with pytest.raises(InputError) as caught:
        load_response(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overwriting_takes_away_files_of_every_format(tmp_path):
    made(lopsided("fsaverage3")).save(tmp_path, "film", formats=tuple(FORMATS), atlas=halves())
    made(lopsided("fsaverage3")).save(tmp_path, "film", formats=(), overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "film_regions.tsv",
        "film_response.json",
        "film_response.zarr",
    ]


PARCELS = parcel_space("lobes", ["front", "back"])


@pytest.mark.parametrize(
    ("space", "formats", "left_out"),
    [
        (PARCELS, ("cifti",), ["cifti"]),
        (PARCELS, ("gifti", "npz"), ["gifti"]),
        (PARCELS, ("gifti", "cifti"), ["gifti", "cifti"]),
        (PARCELS, ("gifti",), []),  # what is asked for by default
        (thalami(), ("gifti", "npz"), ["gifti"]),
    ],
)
def test_formats_that_cannot_hold_a_space_are_left_out_aloud(tmp_path, space, formats, left_out):
    response = made(noise(2, space.size), space=space)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", InputWarning)
        response.save(tmp_path, "film", formats=formats)
    told = [str(warning.message) for warning in told if warning.category is InputWarning]
    assert [message.split()[0] for message in told] == left_out
    assert all("is left out" in message and "npz fits" in message for message in told)
    assert not list(tmp_path.glob("sub-*"))
    assert (tmp_path / "film_response.npz").exists() == ("npz" in formats)


def test_surfaceless_spaces_and_mgh(tmp_path):
    with pytest.raises(InputError, match="no surface"):
        made(noise(2, 20), space=thalami()).save(tmp_path / "out", "film", formats=("mgh",))
    assert find_space("fsaverage3", 1284).mesh == "fsaverage3"
