import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tribrain.brain.meshes import medial_wall, midsurface
from tribrain.brain.painting import ribbon
from tribrain.brain.spaces import (
    Voxels,
    join,
    known_spaces,
    mesh_space,
    parcel_space,
    voxel_space,
)
from tribrain.brain.volume_files import (
    read_volume,
    read_volume_map,
    write_volume,
)
from tribrain.errors import InputError, InputWarning

FSL = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
COARSE = np.array([[-8.0, 0, 0, 90], [0, 8, 0, -126], [0, 0, 8, -72], [0, 0, 0, 1]])
SHAPE = (23, 27, 23)  # of COARSE


def _voxels(template: str = "MNI152NLin6Asym", n: int = 50) -> Voxels:
    """Voxels in no order, none of them mirrored: left and right cannot be mixed up."""
    rng = np.random.default_rng(3)
    flat = rng.permutation(11 * 27 * 23)[:n]
    return Voxels(template, SHAPE, COARSE, np.stack(np.unravel_index(flat, (11, 27, 23)), axis=1))


def _rows(space, time: int = 4) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(time, space.size)).astype(np.float32)


# Out and in


@pytest.mark.parametrize("extension", ["nii", "nii.gz"])
def test_voxels_round_trip_and_stand_at_their_places(tmp_path: Path, extension: str):
    space = voxel_space(_voxels(), "few")
    rows = _rows(space)
    rows[1, 7] = np.nan
    path = tmp_path / f"bold.{extension}"
    write_volume(path, rows, space, repetition_time=1.49, start=-2.5)
    image = nib.load(path)
    assert image.shape == (*SHAPE, 4)
    assert image.get_data_dtype() == np.float32
    assert (image.header["sform_code"], image.header["qform_code"]) == (4, 4)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert image.header.get_zooms() == pytest.approx((8, 8, 8, 1.49))
    np.testing.assert_allclose(image.header.get_qform(), COARSE, atol=1e-5)
    data = image.get_fdata()
    for column, (i, j, k) in enumerate(space.voxels.indices):
        np.testing.assert_array_equal(data[i, j, k], rows[:, column])
    assert np.count_nonzero(data) == rows.size  # NaN is not 0
    series = read_volume(path, space)
    np.testing.assert_array_equal(series.values, rows)
    assert (series.space, series.repetition_time, series.start) == (space, 1.49, -2.5)
    again = read_volume(path, mask=space.voxels)
    np.testing.assert_array_equal(again.values, rows)


def test_vertices_are_painted_and_read(tmp_path: Path):
    space = mesh_space("fsaverage3")
    rows = _rows(space, 2)
    path = tmp_path / "bold.nii.gz"
    write_volume(path, rows, space, repetition_time=1)
    image = nib.load(path)
    assert image.shape == (91, 109, 91, 2)
    np.testing.assert_array_equal(image.affine, FSL)
    found = ribbon("fsaverage3", "MNI152NLin6Asym", image.shape[:3], image.affine)
    expected = np.stack([found.voxels.volume(found.paint(row)) for row in rows], axis=-1)
    np.testing.assert_array_equal(image.get_fdata(), expected)
    read = read_volume(path, space).values
    np.testing.assert_array_equal(read[:, found.owners], rows[:, found.owners])
    np.testing.assert_array_equal(np.isnan(read).all(0), medial_wall("fsaverage3"))


def test_left_is_left(tmp_path: Path):
    space = mesh_space("fsaverage3")
    left = np.zeros(space.size, np.float32)
    left[space.slice("left")] = 1
    write_volume(tmp_path / "map.nii", left, space)
    image = nib.load(tmp_path / "map.nii")
    assert image.ndim == 3
    x = nib.affines.apply_affine(image.affine, np.argwhere(image.get_fdata() == 1))[:, 0]
    assert len(x) > 1000
    assert (x < 4).all()
    assert x.mean() < -20
    read = read_volume_map(tmp_path / "map.nii", space)
    assert np.nanmin(read[space.slice("left")]) == 1
    assert np.nanmax(read[space.slice("right")]) == 0


def test_voxels_win_where_a_vertex_would_paint_too(tmp_path: Path):
    whole = ribbon("fsaverage3", "MNI152NLin6Asym", SHAPE, COARSE)
    claimed = whole.voxels.indices[:: len(whole.voxels) // 9]
    inner = np.array([[11, 14, 10], [12, 13, 10]])
    inner = inner[[not (whole.voxels.indices == place).all(1).any() for place in inner]]
    voxels = Voxels("MNI152NLin6Asym", SHAPE, COARSE, np.concatenate([claimed, inner]))
    space = join(mesh_space("fsaverage3"), voxel_space(voxels, "some"))
    rows = _rows(space, 3)
    write_volume(tmp_path / "bold.nii", rows, space, repetition_time=2)
    data = nib.load(tmp_path / "bold.nii").get_fdata()
    for column, (i, j, k) in enumerate(voxels.indices):
        np.testing.assert_array_equal(data[i, j, k], rows[:, space.cortex.stop + column])
    free = [not (claimed == place).all(1).any() for place in whole.voxels.indices]
    for (i, j, k), vertex in zip(whole.voxels.indices[free], whole.vertices[free], strict=True):
        np.testing.assert_array_equal(data[i, j, k], rows[:, vertex])
    series = read_volume(tmp_path / "bold.nii", space)
    np.testing.assert_array_equal(series.values[:, space.cortex.stop :], rows[:, -len(voxels) :])
    owners = np.unique(whole.vertices[free])
    np.testing.assert_array_equal(series.values[:, owners], rows[:, owners])
    assert series.space == space


def test_vertices_beyond_the_grid_are_counted(tmp_path: Path):
    voxels = Voxels("MNI152NLin6Asym", (23, 27, 9), COARSE, [[11, 14, 5]])
    space = join(mesh_space("fsaverage3"), voxel_space(voxels))
    rows = _rows(space, 1)
    with pytest.warns(InputWarning, match="vertices of the cortex lie outside the grid") as told:
        write_volume(tmp_path / "bold.nii", rows, space, repetition_time=1)
    read = read_volume(tmp_path / "bold.nii", space).values[0]
    beyond = np.isnan(read[space.cortex]) & ~medial_wall("fsaverage3")
    assert str(told[0].message).startswith(f"{beyond.sum()} vertices")
    middle = np.concatenate([midsurface(side, "fsaverage3") for side in ("left", "right")])
    assert middle[beyond, 2].min() > -10  # mm; the grid ends at z = -4 mm in MNI152
    assert middle[~beyond & ~medial_wall("fsaverage3"), 2].max() < 0


def test_rows_one_by_one_give_the_same_bytes(tmp_path: Path):
    space = voxel_space(_voxels())
    rows = _rows(space, 7)
    options = {"repetition_time": 0.72}
    write_volume(tmp_path / "a.nii.gz", rows, space, **options)
    write_volume(tmp_path / "b.nii.gz", (row for row in rows), space, rows=7, **options)
    write_volume(tmp_path / "c.nii.gz", list(rows), space, **options)
    write_volume(tmp_path / "d.nii", rows, space, **options)
    packed = {(tmp_path / f"{name}.nii.gz").read_bytes() for name in "abc"}
    assert len(packed) == 1
    assert gzip.decompress(packed.pop()) == (tmp_path / "d.nii").read_bytes()


@pytest.mark.parametrize("broken", [3, 5])
def test_what_fails_half_way_leaves_what_was_there(tmp_path: Path, broken: int):
    space = voxel_space(_voxels())
    path = tmp_path / "bold.nii.gz"
    path.write_bytes(b"before")
    with pytest.raises(InputError, match=f"{broken} rows were there and 4 were announced"):
        write_volume(path, iter(_rows(space, broken)), space, repetition_time=1, rows=4)
    assert [file.name for file in tmp_path.iterdir()] == ["bold.nii.gz"]
    assert path.read_bytes() == b"before"


def test_other_templates_have_another_code(tmp_path: Path):
    space = voxel_space(_voxels("MNIColin27"))
    path = tmp_path / "space-MNIColin27_bold.nii"
    write_volume(path, _rows(space), space, repetition_time=1)
    assert nib.load(path).header["sform_code"] == 2
    assert read_volume(path, mask=space.voxels).space.voxels.template == "MNIColin27"


def test_what_cannot_be_written(tmp_path: Path):
    path, few = tmp_path / "bold.nii", voxel_space(_voxels())
    rows = _rows(few)

    def refuse(told: str, values=rows, space=few, to=path, **options):
        with pytest.raises(InputError, match=told):
            write_volume(to, values, space, **{"repetition_time": 1.0} | options)

    bare = known_spaces()["subcortex8802"]
    refuse("where the 8802 voxels of subcortex8802 lie", np.zeros((1, 8802)), bare)
    joined = join(mesh_space("fsaverage3"), bare)
    refuse("where the 8802 voxels", np.zeros((1, joined.size)), joined)
    refuse("one value a region", np.zeros((1, 2)), parcel_space("pair", ["a", "b"]))
    refuse("lie in MNI152NLin6Asym, not in MNI305", template="MNI305")
    refuse("row 0 has 49 values", rows[:, :49])
    refuse("a series needs a repetition time", repetition_time=None)
    refuse("a map has no repetition time", rows[0])
    refuse("repetition time 0 s", repetition_time=0)
    refuse("0 volumes", rows[:0])
    refuse("32768 volumes", iter(rows), rows=32768)
    refuse("rows=", iter(rows))
    refuse("no name of a NIfTI file", to=tmp_path / "bold.mgz")
    surface = mesh_space("fsaverage3")
    refuse("MNI305", _rows(surface, 1), surface, template="MNI305")
    refuse("3 mm", _rows(surface, 1), surface, resolution=3)
    assert not list(tmp_path.iterdir())


# A measured volume


@pytest.fixture
def measured(tmp_path: Path):
    """A scaled 16-bit volume and a mask, as scanners' programs write them; the truth."""
    rng = np.random.default_rng(8)
    data = rng.integers(-3000, 3000, (*SHAPE, 5)).astype(np.int16)
    mask = rng.random(SHAPE) < 0.1
    mask[11:] = False
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), COARSE), tmp_path / "mask.nii.gz")

    def make(name: str = "space-MNI152NLin6Asym_bold.nii.gz", unit="sec", seconds=2.0, slope=0.25):
        image = nib.Nifti1Image(data, COARSE)
        image.header.set_xyzt_units("mm", unit)
        image.header.set_zooms((8, 8, 8, seconds))
        image.header.set_slope_inter(slope, 10)
        nib.save(image, tmp_path / name)
        return tmp_path / name

    return make, tmp_path / "mask.nii.gz", mask, data


@pytest.mark.parametrize("extension", ["nii", "nii.gz"])
def test_mask_takes_its_voxels_as_nilearn_does(measured, extension, monkeypatch):
    from nilearn.masking import apply_mask

    make, mask, truth, data = measured
    path = make(f"space-MNI152NLin6Asym_bold.{extension}")
    monkeypatch.setattr("tribrain.brain.volume_files._BLOCK", 8 * 2 * truth.size)  # 2 volumes
    series = read_volume(path, mask=mask)
    np.testing.assert_array_equal(series.values, data[truth].T * np.float32(0.25) + 10)
    np.testing.assert_allclose(series.values, apply_mask(str(path), str(mask)), rtol=1e-6)
    assert series.repetition_time == 2
    assert series.space.voxels == Voxels.from_mask(truth, COARSE, "MNI152NLin6Asym")


@pytest.mark.parametrize(
    ("unit", "stored", "seconds"),
    [("sec", 0.72, 0.72), ("msec", 1490, 1.49), ("usec", 2.5e6, 2.5)],
)
def test_units_of_time(measured, unit: str, stored: float, seconds: float):
    make, mask, _, _ = measured
    assert read_volume(make(unit=unit, seconds=stored), mask=mask).repetition_time == seconds


def test_repetition_time_beside_the_file(measured):
    make, mask, _, _ = measured
    path = make(unit="unknown", seconds=1.0)
    with pytest.raises(InputError, match=r"tells no repetition time.* repetition_time="):
        read_volume(path, mask=mask)
    assert read_volume(path, mask=mask, repetition_time=1.5).repetition_time == 1.5
    beside = path.with_name("space-MNI152NLin6Asym_bold.json")
    beside.write_text('{"RepetitionTime": 1.4901}')
    assert read_volume(path, mask=mask).repetition_time == 1.4901
    assert read_volume(make(seconds=0.0), mask=mask).repetition_time == 1.4901
    assert read_volume(make(seconds=1.49), mask=mask).repetition_time == 1.4901
    with pytest.raises(InputError, match=r"2 s by its header and of 1\.4901 s by the JSON"):
        read_volume(make(seconds=2.0), mask=mask)
    with pytest.warns(InputWarning, match=r"2 s by its header; read with .* 1\.49 s"):
        read_volume(make(seconds=2.0), mask=mask, repetition_time=1.49)
    beside.write_text('{"RepetitionTime": "fast"}')
    with pytest.raises(InputError, match="'fast'"):
        read_volume(path, mask=mask)


def test_what_does_not_fit_the_volume(measured, tmp_path: Path):
    make, mask, truth, _ = measured
    path = make()
    shifted = COARSE.copy()
    shifted[0, 3] = 88
    good = Voxels.from_mask(truth, COARSE, "MNI152NLin6Asym")
    wrong = {
        r"grid of \(23, 27, 23\) and the mask of \(23, 27, 22\)": Voxels(
            "MNI152NLin6Asym", (23, 27, 22), COARSE, [[0, 0, 0]]
        ),
        r"affine \[-8 0 0 90.* the mask \[-8 0 0 88": Voxels(
            "MNI152NLin6Asym", SHAPE, shifted, [[0, 0, 0]]
        ),
        "'MNI152NLin6Asym' by its name, not in MNI305": Voxels(
            "MNI305", SHAPE, COARSE, [[0, 0, 0]]
        ),
    }
    for told, voxels in wrong.items():
        with pytest.raises(InputError, match=told):
            read_volume(path, mask=voxels)
    nib.save(nib.Nifti1Image(np.zeros((*SHAPE, 2)), COARSE), tmp_path / "four.nii")
    nib.save(nib.Nifti1Image(np.zeros(SHAPE), COARSE), tmp_path / "none.nii")
    for told, options in {
        r"\(23, 27, 23, 2\); three dimensions": {"mask": tmp_path / "four.nii"},
        "is empty": {"mask": tmp_path / "none.nii"},
        "one of space= and mask=": {},
        "does not exist": {"mask": tmp_path / "no.nii"},
        "one value a region": {"space": parcel_space("pair", ["a", "b"])},
    }.items():
        with pytest.raises(InputError, match=told):
            read_volume(path, **options)
    path.rename(tmp_path / "bold.nii.gz")
    with pytest.raises(InputError, match=r"does not show .* say it by template="):
        read_volume(tmp_path / "bold.nii.gz", mask=mask)
    (tmp_path / "bold.nii.gz").rename(path)
    with pytest.raises(InputError, match="one of space= and mask="):
        read_volume(path, voxel_space(good), mask=good)
    with pytest.raises(InputError, match=r"\(23, 27, 23\); a series has four"):
        read_volume(mask, mask=mask, template="MNI152NLin6Asym")
    with pytest.raises(InputError, match="a map has three"):
        read_volume_map(path, voxel_space(good))


@pytest.mark.parametrize("extension", ["nii", "nii.gz"])
def test_damaged_files(measured, tmp_path: Path, extension: str):
    make, mask, _, _ = measured
    whole = make(f"space-MNI152NLin6Asym_bold.{extension}").read_bytes()
    path = tmp_path / f"space-MNI152NLin6Asym_broken.{extension}"
    cut = (whole[:100], whole[: len(whole) // 2], whole[:-20])
    for content in (b"", b"garbage" * 200, *cut):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as NIfTI") as error:
            read_volume(path, mask=mask)
        assert "\n" not in str(error.value)


def test_other_kinds_of_files(measured, tmp_path: Path):
    mask = measured[1]
    nib.save(nib.MGHImage(np.zeros(SHAPE, np.float32), COARSE), tmp_path / "a.mgz")
    with pytest.raises(InputError, match=r"MGHImage; \.nii"):
        read_volume(tmp_path / "a.mgz", mask=mask)
    colours = np.zeros((*SHAPE, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, COARSE), tmp_path / "rgb.nii")
    with pytest.raises(InputError, match="real numbers"):
        read_volume(tmp_path / "rgb.nii", mask=mask)
