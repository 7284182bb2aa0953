import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel import cifti2

from tribrain.brain.cifti_axes import cifti_structure
from tribrain.brain.cifti_files import (
    read_cifti,
    read_maps,
    write_dlabel,
    write_dscalar,
    write_dtseries,
    write_ptseries,
)
from tribrain.brain.painting import grid
from tribrain.brain.series import BoldSeries
from tribrain.brain.spaces import (
    MESHES,
    Voxels,
    join,
    known_spaces,
    mesh_space,
    parcel_space,
    voxel_space,
)
from tribrain.errors import InputError, InputWarning

SHAPE, AFFINE = grid("MNI152NLin6Asym", 2)
LEFT, RIGHT = "CIFTI_STRUCTURE_CORTEX_LEFT", "CIFTI_STRUCTURE_CORTEX_RIGHT"
STRUCTURES = set(cifti2.cifti2.CIFTI_BRAIN_STRUCTURES.ciftiname.values())
SURFACE = mesh_space("fsaverage3")


def _voxels(structures=("CIFTI_STRUCTURE_THALAMUS_LEFT", "CIFTI_STRUCTURE_BRAIN_STEM"), n=6):
    """n voxels of each structure in turn, in no order within it."""
    flat = np.random.default_rng(1).permutation(np.prod(SHAPE))[: n * len(structures)]
    indices = np.stack(np.unravel_index(flat, SHAPE), axis=1)
    return Voxels("MNI152NLin6Asym", SHAPE, AFFINE, indices, np.repeat(structures, n))


GREY = join(SURFACE, voxel_space(_voxels(), "few"))


def _rows(space, time: int = 5) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(time, space.size)).astype(np.float32)


def _with_wall(space, time: int = 5) -> np.ndarray:
    """Rows without some vertices, other ones left than right."""
    rows = _rows(space, time)
    rows[:, 3:40] = np.nan
    rows[:, space.n_left + 600 : space.n_left + 642] = np.nan
    rows[1, 50] = np.nan  # not throughout: stays in the file
    return rows


@pytest.mark.parametrize("space", [SURFACE, GREY, voxel_space(_voxels(), "few")])
def test_series_round_trip(tmp_path: Path, space):
    rows = _with_wall(space) if space.is_surface else _rows(space)
    path = tmp_path / "bold.dtseries.nii"
    write_dtseries(path, rows, space, repetition_time=1.49, start=-3.25)
    series = read_cifti(path)
    np.testing.assert_array_equal(series.values, rows)
    assert (series.space, series.repetition_time, series.start) == (space, 1.49, -3.25)
    write_dtseries(tmp_path / "again.dtseries.nii", series)
    assert (tmp_path / "again.dtseries.nii").read_bytes() == path.read_bytes()


def test_nibabel_finds_every_value_at_its_structure(tmp_path: Path):
    rows = _with_wall(GREY)
    path = tmp_path / "bold.dtseries.nii"
    write_dtseries(path, rows, GREY, repetition_time=2)
    image = nib.load(path)
    assert image.nifti_header.get_intent()[::2] == ("ConnDenseSeries", "ConnDenseSeries")
    time, brain = (image.header.get_axis(i) for i in (0, 1))
    assert (time.unit, time.step, time.start, time.size) == ("SECOND", 2, 0, 5)
    assert brain.nvertices == {LEFT: 642, RIGHT: 642}
    assert (brain.name == LEFT).sum() == 642 - 37
    assert (brain.name == RIGHT).sum() == 642 - 42
    assert brain.volume_shape == SHAPE
    np.testing.assert_array_equal(brain.affine, AFFINE)
    data = image.get_fdata(dtype=np.float32)
    for column, (name, vertex, voxel) in enumerate(
        zip(brain.name, brain.vertex, brain.voxel, strict=True)
    ):
        if name in (LEFT, RIGHT):
            expected = rows[:, vertex + (0 if name == LEFT else 642)]
        else:
            which = np.flatnonzero((GREY.voxels.indices == voxel).all(axis=1)).item()
            assert GREY.voxels.structures[which] == name
            expected = rows[:, 2 * 642 + which]
        np.testing.assert_array_equal(data[:, column], expected)


def test_what_nibabel_writes_is_read(tmp_path: Path):
    """Right before left, voxels before both: structures say where values belong."""
    right = cifti2.BrainModelAxis.from_surface(np.arange(0, 642, 2), 642, "CortexRight")
    left = cifti2.BrainModelAxis.from_surface(np.arange(1, 642, 3), 642, "CortexLeft")
    mask = np.zeros(SHAPE, bool)
    mask[20:23, 40, 40] = True
    deep = cifti2.BrainModelAxis.from_mask(mask, affine=AFFINE, name="thalamus_right")
    brain = deep + right + left
    data = np.arange(4 * len(brain), dtype=np.float32).reshape(4, -1)
    image = cifti2.Cifti2Image(data, (cifti2.SeriesAxis(0.5, 0.72, 4), brain))
    image.to_filename(tmp_path / "sub-1_space-fsLR_den-91k_bold.dtseries.nii")
    series = read_cifti(tmp_path / "sub-1_space-fsLR_den-91k_bold.dtseries.nii")
    assert (series.repetition_time, series.start) == (0.72, 0.5)
    assert series.space.name == "fsaverage3+MNI152NLin6Asym"
    np.testing.assert_array_equal(series.values[:, 1284:], data[:, :3])
    np.testing.assert_array_equal(series.values[:, 642:1284:2], data[:, 3 : 3 + 321])
    np.testing.assert_array_equal(series.values[:, 1:642:3], data[:, 3 + 321 :])
    assert np.isnan(series.values[:, 643:1284:2]).all()
    assert np.isnan(series.values).sum() == 4 * (1284 - 321 - 214)
    np.testing.assert_array_equal(series.space.voxels.indices, [[i, 40, 40] for i in (20, 21, 22)])
    assert set(series.space.voxels.structures) == {"CIFTI_STRUCTURE_THALAMUS_RIGHT"}


def test_one_hemisphere(tmp_path: Path):
    rows = _rows(SURFACE)
    rows[:, SURFACE.slice("left")] = np.nan
    write_dtseries(tmp_path / "r.dtseries.nii", rows, SURFACE, repetition_time=1)
    brain = nib.load(tmp_path / "r.dtseries.nii").header.get_axis(1)
    assert set(brain.name) == {RIGHT}
    np.testing.assert_array_equal(read_cifti(tmp_path / "r.dtseries.nii").values, rows)


@given(st.permutations(range(12)), st.booleans())
@settings(max_examples=25, deadline=None)
def test_no_value_moves_to_another_voxel(tmp_path_factory, order, named):
    """Voxels whose structures are mixed come back in another order, each with its own value."""
    folder = tmp_path_factory.mktemp("mixed")
    grouped = _voxels()
    mixed = Voxels(
        grouped.template,
        SHAPE,
        AFFINE,
        grouped.indices[order],
        grouped.structures[order] if named else None,
    )
    space = voxel_space(mixed, "mixed")
    rows = _rows(space, 2)
    write_dtseries(folder / "a.dtseries.nii", rows, space, repetition_time=1)
    series = read_cifti(folder / "a.dtseries.nii")
    after = {tuple(i): tuple(v) for i, v in zip(mixed.indices, rows.T, strict=True)}
    for i, structure, v in zip(
        series.space.voxels.indices,
        series.space.voxels.structures if named else [None] * 12,
        series.values.T,
        strict=True,
    ):
        assert after.pop(tuple(i)) == tuple(v)
        if named:
            where = (mixed.indices == i).all(axis=1)
            assert structure == mixed.structures[where].item()
    assert not after
    if not named:
        assert series.space == space
    # What was read lies in groups: it stays as it is from then on.
    write_dtseries(folder / "b.dtseries.nii", series)
    assert (folder / "b.dtseries.nii").read_bytes() == (folder / "a.dtseries.nii").read_bytes()


def test_real_size_of_91k_grayordinates(tmp_path: Path):
    """29,696 + 29,716 vertices of fsLR 32k and 31,870 voxels, which ones at random."""
    rng = np.random.default_rng(0)
    cortex = mesh_space("fsLR32k")
    names = sorted(name for name in STRUCTURES if "CORTEX" not in name)[:19]
    flat = np.sort(rng.choice(np.prod(SHAPE), 31870, replace=False))
    indices = np.stack(np.unravel_index(flat, SHAPE), axis=1)
    structures = np.sort(rng.choice(names, 31870))
    voxels = Voxels("MNI152NLin6Asym", SHAPE, AFFINE, indices, structures)
    space = join(cortex, voxel_space(voxels))
    rows = _rows(space, 3)
    for side, kept in (("left", 29696), ("right", 29716)):
        out = rng.permutation(MESHES["fsLR32k"])[kept:]
        rows[:, space.slice(side).start + out] = np.nan
    path = tmp_path / "sub-1_space-fsLR_den-91k_bold.dtseries.nii"
    write_dtseries(path, rows, space, repetition_time=0.72)
    image = nib.load(path)
    assert image.shape == (3, 91282)
    series = read_cifti(path)
    np.testing.assert_array_equal(series.values, rows)
    assert series.space == space
    # The same from nibabel, which says nothing of the template: the grid does.
    axes = (image.header.get_axis(0), image.header.get_axis(1))
    cifti2.Cifti2Image(image.get_fdata(), axes).to_filename(tmp_path / "plain.dtseries.nii")
    plain = read_cifti(tmp_path / "plain.dtseries.nii")
    np.testing.assert_array_equal(plain.values, rows)
    assert plain.space == space


def test_subcortical_voxels_keep_their_name(tmp_path: Path):
    flat = np.arange(8802) * 7
    indices = np.stack(np.unravel_index(flat, SHAPE), axis=1)
    voxels = Voxels("MNI152NLin6Asym", SHAPE, AFFINE, indices)
    space = join(SURFACE, known_spaces()["subcortex8802"].with_voxels(voxels))
    write_dtseries(tmp_path / "a.dtseries.nii", _rows(space, 1), space, repetition_time=1)
    assert read_cifti(tmp_path / "a.dtseries.nii").space == space


# Structures


def test_names_of_structures():
    known = {
        "Left Thalamus": "THALAMUS_LEFT",
        "Right Caudate": "CAUDATE_RIGHT",
        "Left Cerebral White Matter": "CEREBRAL_WHITE_MATTER_LEFT",
        "Brain-Stem": "BRAIN_STEM",
        "Left-Thalamus-Proper": "THALAMUS_LEFT",
        "Right-Accumbens-area": "ACCUMBENS_RIGHT",
        "Left-VentralDC": "DIENCEPHALON_VENTRAL_LEFT",
        "Right-Cerebellum-Cortex": "CEREBELLUM_RIGHT",
        "Left Hippocampus": "HIPPOCAMPUS_LEFT",
        "Right Lateral Ventricle": "OTHER",
        "Left Cerebral Cortex": "OTHER",
        "CIFTI_STRUCTURE_CORTEX_LEFT": "OTHER",
        "": "OTHER",
    }
    assert {name: cifti_structure(name) for name in known} == {
        name: f"CIFTI_STRUCTURE_{found}" for name, found in known.items()
    }
    own = [name for name in STRUCTURES if "CORTEX" not in name]
    assert len(own) > 25
    assert [cifti_structure(name) for name in own] == own


def test_harvard_oxford_names_and_one_without_a_name(tmp_path: Path):
    voxels = _voxels(("Left Thalamus", "Left Lateral Ventricle", "Right Thalamus"))
    space = voxel_space(voxels, "ho")
    rows = _rows(space)
    with pytest.warns(InputWarning, match="no name for Left Lateral Ventricle; .*_OTHER"):
        write_dtseries(tmp_path / "a.dtseries.nii", rows, space, repetition_time=1)
    series = read_cifti(tmp_path / "a.dtseries.nii")
    np.testing.assert_array_equal(series.values, rows)
    assert list(series.space.voxels.structures[::6]) == [
        "CIFTI_STRUCTURE_THALAMUS_LEFT",
        "CIFTI_STRUCTURE_OTHER",
        "CIFTI_STRUCTURE_THALAMUS_RIGHT",
    ]


# Maps, labels, parcels


def test_maps_round_trip(tmp_path: Path):
    maps = _with_wall(GREY, 3)
    names = ["faces > objects", "r²", "ceiling"]
    write_dscalar(tmp_path / "maps.dscalar.nii", maps, names, GREY)
    values, read, space = read_maps(tmp_path / "maps.dscalar.nii")
    np.testing.assert_array_equal(values, maps)
    assert (read, space) == (names, GREY)
    image = nib.load(tmp_path / "maps.dscalar.nii")
    assert list(image.header.get_axis(0).name) == names
    np.testing.assert_array_equal(image.get_fdata()[:, -12:], maps[:, -12:])
    with pytest.raises(InputError, match="holds no series"):
        read_cifti(tmp_path / "maps.dscalar.nii")


def test_labels_are_read_by_nibabel(tmp_path: Path):
    labels = np.zeros(GREY.size, int)
    labels[5:9], labels[700:720], labels[-3:] = 1, 2, 30
    names = {1: "L_V1", 2: "R_V1", 30: "thalamus"}
    write_dlabel(tmp_path / "atlas.dlabel.nii", labels, names, GREY, title="areas")
    image = nib.load(tmp_path / "atlas.dlabel.nii")
    np.testing.assert_array_equal(image.get_fdata()[0], labels)
    axis, brain = image.header.get_axis(0), image.header.get_axis(1)
    assert axis.name.item() == "areas"
    table = axis.label.item()
    assert {key: name for key, (name, _) in table.items()} == names | {0: "???"}
    assert len({colour for _, colour in table.values()}) == 4
    here = image.get_fdata()[0] == 2
    assert set(brain.name[here]) == {RIGHT}
    np.testing.assert_array_equal(brain.vertex[here], np.arange(700, 720) - 642)
    with pytest.raises(InputError, match=r"label 30 has no name; named: 1, 2"):
        write_dlabel(tmp_path / "b.dlabel.nii", labels, {1: "a", 2: "b"}, GREY)
    with pytest.raises(InputError, match="whole numbers"):
        write_dlabel(tmp_path / "b.dlabel.nii", labels + 0.5, names, GREY)


def test_parcels_round_trip(tmp_path: Path):
    regions = {
        "V1_L": np.array([4, 2, 9]),
        "V1_R": np.array([642 + 100, 642 + 7]),
        "both": np.array([20, 642 + 20, 2 * 642 + 1]),
        "stem": np.array([2 * 642 + 8, 2 * 642 + 6]),
    }
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    rows[1, 2] = np.nan
    path = tmp_path / "a.ptseries.nii"
    write_ptseries(path, rows, regions, GREY, repetition_time=1.5, start=5, atlas="mine")
    series = read_cifti(path)
    np.testing.assert_array_equal(series.values, rows)
    assert (series.space, series.repetition_time) == (parcel_space("mine", list(regions)), 1.5)
    assert series.start == 5
    axis = nib.load(path).header.get_axis(1)
    assert axis.nvertices == {LEFT: 642, RIGHT: 642}
    parcels = {name: (voxels, vertices) for name, voxels, vertices in axis}
    np.testing.assert_array_equal(parcels["V1_L"][1][LEFT], [2, 4, 9])
    assert RIGHT not in parcels["V1_L"][1]
    np.testing.assert_array_equal(parcels["V1_R"][1][RIGHT], [7, 100])
    np.testing.assert_array_equal(parcels["both"][1][LEFT], [20])
    np.testing.assert_array_equal(parcels["both"][1][RIGHT], [20])
    np.testing.assert_array_equal(parcels["both"][0], GREY.voxels.indices[[1]])
    np.testing.assert_array_equal(parcels["stem"][0], GREY.voxels.indices[[6, 8]])
    assert len(parcels["V1_L"][0]) == 0


def test_parcels_that_overlap_or_are_nowhere(tmp_path: Path):
    path, rows = tmp_path / "seg-x_a.ptseries.nii", np.ones((2, 2), np.float32)
    regions = {"a": np.array([1, 2]), "b": np.array([2, 3])}
    with pytest.warns(InputWarning, match="overlap in 1 places"):
        write_ptseries(path, rows, regions, SURFACE, repetition_time=1)
    axis = nib.load(path).header.get_axis(1)
    np.testing.assert_array_equal(axis.vertices[1][LEFT], [3])
    for wrong in ([], [-1], [SURFACE.size]):
        with pytest.raises(InputError, match="region 'b' is empty or outside fsaverage3"):
            write_ptseries(path, rows, regions | {"b": wrong}, SURFACE, repetition_time=1)
    with pytest.raises(InputError, match="3 values"):
        write_ptseries(path, np.ones((2, 3)), regions, SURFACE, repetition_time=1)


# What does not fit


def test_what_cannot_be_written(tmp_path: Path):
    path = tmp_path / "a.dtseries.nii"

    def refuse(told, values=None, space=SURFACE, to=path, seconds=1.0):
        values = _rows(space, 2) if values is None else values
        with pytest.raises(InputError, match=told):
            write_dtseries(to, values, space, repetition_time=seconds)

    refuse("20485 values and fsaverage5 has 20484", np.zeros((1, 20485)), mesh_space("fsaverage5"))
    refuse(r"\.dtseries\.nii fits", to=tmp_path / "a.nii")
    refuse("where the 8802 voxels", space=known_spaces()["subcortex8802"])
    refuse("one value a region", space=parcel_space("pair", ["a", "b"]))
    refuse("needs its space and its repetition time", seconds=None)
    refuse("repetition time 0 s", seconds=0)
    refuse("no number in the values", np.full((2, SURFACE.size), np.nan))
    refuse("no rows", _rows(SURFACE, 0))
    with pytest.raises(InputError, match="2 names"):
        write_dscalar(tmp_path / "a.dscalar.nii", _rows(SURFACE, 3), ["a", "b"], SURFACE)
    assert not list(tmp_path.iterdir())


def _save(path: Path, brain, time=None) -> Path:
    time = time or cifti2.SeriesAxis(0, 1, 2)
    cifti2.Cifti2Image(np.zeros((len(time), len(brain)), "f4"), (time, brain)).to_filename(path)
    return path


def test_what_cannot_be_read(tmp_path: Path):
    path = tmp_path / "a.dtseries.nii"
    surface = cifti2.BrainModelAxis.from_surface

    def refuse(told: str, brain, time=None, **options):
        with pytest.raises(InputError, match=told) as error:
            read_cifti(_save(path, brain, time), **options)
        assert "\n" not in str(error.value)

    left = surface(np.arange(9), 642, "CortexLeft")
    refuse("59292 vertices, .* fsLR32k 32492", surface(np.arange(9), 59292, "CortexLeft"))
    refuse("of one mesh fit", left + surface(np.arange(9), 2562, "CortexRight"))
    refuse("CIFTI_STRUCTURE_CEREBELLUM", left + surface(np.arange(9), 642, "Cerebellum"))
    refuse("twice", surface(np.array([1, 2, 2]), 642, "CortexLeft"))
    refuse("in HERTZ; SECOND", left, cifti2.SeriesAxis(0, 1, 2, "HERTZ"))
    mask = np.ones((3, 3, 3), bool)
    deep = cifti2.BrainModelAxis.from_mask(mask, affine=np.diag([3, 3, 3, 1]), name="thalamus_left")
    refuse("template=, one of MNI152NLin6Asym", deep)
    refuse("template 'MNI' is unknown", deep, template="MNI")
    for wrong in (np.zeros((4, 4)), np.full((4, 4), np.nan)):
        broken = cifti2.BrainModelAxis.from_mask(mask, affine=wrong, name="thalamus_left")
        refuse("the affine ", broken, template="MNI305")
        refuse("does not show which template", broken)
    _save(path, deep)
    assert read_cifti(path, template="MNI305").space.voxels.template == "MNI305"
    _save(tmp_path / "space-MNIColin27_a.dtseries.nii", deep)
    named = tmp_path / "space-MNIColin27_a.dtseries.nii"
    assert read_cifti(named).space.voxels.template == "MNIColin27"
    with pytest.raises(InputError, match="in MNIColin27 by its name, not in MNI305"):
        read_cifti(named, template="MNI305")
    write_dtseries(path, _rows(GREY), GREY, repetition_time=1)
    with pytest.raises(InputError, match="in MNI152NLin6Asym by its header, not in MNI305"):
        read_cifti(path, template="MNI305")
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3, 2)), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(InputError, match="no CIFTI-2 file"):
        read_cifti(tmp_path / "a.nii")
    with pytest.raises(InputError, match="holds no maps"):
        read_maps(path)


def test_damaged_files(tmp_path: Path):
    path = tmp_path / "a.dtseries.nii"
    write_dtseries(path, _rows(GREY), GREY, repetition_time=1)
    whole = path.read_bytes()
    start = int(nib.Nifti2Header.from_fileobj(path.open("rb"))["vox_offset"])
    cut = (whole[:100], whole[:700], whole[: start - 40], whole[: start + 100], whole[:-1])
    broken = whole.replace(b"<BrainModel ", b"<Brainmodel ", 1)
    for content in (b"", b"garbage" * 300, *cut, broken):
        path.write_bytes(content)
        with pytest.raises(InputError, match="CIFTI") as error:
            read_cifti(path)
        assert "\n" not in str(error.value)
    header = bytearray(whole)
    header[16 + 5 * 8 : 16 + 6 * 8] = (4).to_bytes(8, "little")  # one row fewer than its axis
    path.write_bytes(header)
    with pytest.raises(InputError, match=r"\(4, 1296\) values, and its header says 5 x 1296"):
        read_cifti(path)


def test_memory_of_a_long_series_is_its_own(tmp_path: Path, monkeypatch):
    """Writing needs a fraction of the series, reading the series and a fraction."""
    monkeypatch.setattr("tribrain.brain.cifti_files._BLOCK", 500_000)
    space = mesh_space("fsaverage4")
    series = BoldSeries(_rows(space, 1000), space, 1.0)
    series.values[:, :100] = np.nan
    path = tmp_path / "a.dtseries.nii"
    tracemalloc.start()
    write_dtseries(path, series)
    assert tracemalloc.get_traced_memory()[1] < 0.4 * series.values.nbytes
    tracemalloc.reset_peak()
    read = read_cifti(path)
    assert tracemalloc.get_traced_memory()[1] < 1.4 * series.values.nbytes
    tracemalloc.stop()
    np.testing.assert_array_equal(read.values, series.values)
