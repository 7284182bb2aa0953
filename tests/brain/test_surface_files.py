"""GIFTI and .mgh files of values on a surface."""

from __future__ import annotations

import gc
import gzip
import json
import shutil
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nilearn.surface import load_surf_data

from bids_rules import assert_bids
from tribrain.brain.bids_names import bids_name, sidecar, space_entities
from tribrain.brain.series import BoldSeries
from tribrain.brain.spaces import HEMISPHERES, mesh_space
from tribrain.brain.surface_files import (
    STRUCTURES,
    read_gifti,
    read_mgh,
    side_of_name,
    write_gifti,
    write_gifti_labels,
    write_mgh,
)
from tribrain.errors import InputError, InputWarning

N = 642
NAMES = {".func.gii": "sub-1_hemi-{}_bold.func.gii", ".mgh": "{}.bold.mgh", ".mgz": "{}.b.mgz"}


def run(rows: int = 4, n: int = N) -> np.ndarray:
    """A run (rows, 2 n): positive and rising on the left, negative on the right, some NaN."""
    values = np.random.default_rng(1).uniform(1, 2, (rows, 2 * n)).astype(np.float32)
    values[:, :n] += np.arange(n)
    values[:, n:] *= -1
    values[1, [5, n + 70]] = np.nan
    return values


def halves(values: np.ndarray) -> dict[str, np.ndarray]:
    n = values.shape[1] // 2
    return {"left": values[:, :n], "right": values[:, n:]}


def write(
    folder: Path, values: np.ndarray, name: str = NAMES[".func.gii"], time: float | None = 1.49
) -> tuple[Path, Path]:
    """Both hemispheres in files that `write_gifti` or `write_mgh` makes."""
    paths = []
    for side, part in halves(values).items():
        if name.endswith("gii"):
            paths.append(folder / name.format(side[0].upper()))
            write_gifti(paths[-1], part, side, time)
        else:
            paths.append(folder / name.format(f"{side[0]}h"))
            write_mgh(paths[-1], part, time)
    return paths[0], paths[1]


def read(path: Path | tuple[Path, Path], **options: float) -> BoldSeries:
    first = path if isinstance(path, Path) else path[0]
    return (read_gifti if ".gii" in first.name else read_mgh)(path, **options)


def made_gifti(
    path: Path,
    arrays: list[np.ndarray],
    structure: str | None,
    step: str | None = None,
    intent: str = "NIFTI_INTENT_TIME_SERIES",
) -> Path:
    """A GIFTI file by nibabel."""
    meta = {"TimeStep": step} if step is not None else {}
    image = nib.gifti.GiftiImage(
        darrays=[
            nib.gifti.GiftiDataArray(array, intent=intent, meta=nib.gifti.GiftiMetaData(meta))
            for array in arrays
        ]
    )
    if structure is not None:
        image.meta["AnatomicalStructurePrimary"] = structure
    nib.save(image, path)
    return path


def assert_same_bits(found: np.ndarray, values: np.ndarray) -> None:
    assert found.dtype == values.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), values.view(np.uint32))


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("mesh", ["fsaverage3", "fsaverage5", "fsLR32k"])
def test_what_is_written_is_read_from_either_file(tmp_path, kind, mesh):
    values = run(3, mesh_space(mesh).n_left)
    for path in write(tmp_path, values, NAMES[kind]):
        series = read(path)
        assert_same_bits(series.values, values)
        assert series.space == mesh_space(mesh)
        assert series.repetition_time == 1.49
        assert series.start == 0


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 9),
    kind=st.sampled_from(list(NAMES)),
    time=st.sampled_from([0.1, 0.57, 0.7201, 0.8, 1.0, 1.1, 1.49, 2.2, 2.5, 3.0, 30.0]),
)
def test_any_bits_and_lengths_come_back(tmp_path, seed, rows, kind, time):
    """Any float32 there is: infinite, denormal, NaN with any payload."""
    bits = np.random.default_rng(seed).integers(0, 2**32, (rows, 2 * N), np.uint32)
    pair = write(tmp_path, bits.view(np.float32), NAMES[kind], time)
    series = read(pair)
    assert_same_bits(series.values, bits.view(np.float32))
    assert series.repetition_time == time


@pytest.mark.parametrize("kind", [".func.gii", ".mgz"])  # nilearn knows no .mgh
def test_nilearn_reads_each_hemisphere(tmp_path, kind):
    values = run()
    pair = write(tmp_path, values, NAMES[kind])
    for path, part in zip(pair, halves(values).values(), strict=True):
        np.testing.assert_array_equal(load_surf_data(path), part.T)


@pytest.mark.parametrize("side", HEMISPHERES)
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("time", [None, 1.0])
def test_gifti_is_the_same_to_the_byte_as_nibabel_writes(tmp_path, side, rows, time):
    part = halves(run(4))[side][:rows]
    write_gifti(tmp_path / "ours.func.gii", part, side, time)
    made_gifti(
        tmp_path / "nibabel.func.gii",
        list(np.ascontiguousarray(part)),
        STRUCTURES[side],
        *(["1000.0"] if time else [None, "NIFTI_INTENT_NONE"]),
    )
    ours, theirs = (tmp_path / f"{name}.func.gii" for name in ("ours", "nibabel"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_gifti_maps_have_names_and_intent_and_no_time(tmp_path):
    part = run(2)[:, :N].astype(float)  # any dtype is written as float32
    path = tmp_path / "a_hemi-L_boldmap.func.gii"
    write_gifti(path, part, "left", None, names=["faces", "ä & <b>"], intent="NIFTI_INTENT_ZSCORE")
    image = nib.load(path)
    assert image.meta["AnatomicalStructurePrimary"] == "CortexLeft"
    assert [array.meta["Name"] for array in image.darrays] == ["faces", "ä & <b>"]
    for array, row in zip(image.darrays, part, strict=True):
        assert array.intent == nib.nifti1.intent_codes["NIFTI_INTENT_ZSCORE"]
        assert "TimeStep" not in array.meta
        assert_same_bits(array.data, row.astype(np.float32))


def test_time_step_is_written_in_plain_ms(tmp_path):
    write_gifti(tmp_path / "lh.a.gii", np.zeros((1, N)), "left", 0.57)  # 569.9999999999999
    assert nib.load(tmp_path / "lh.a.gii").darrays[0].meta["TimeStep"] == "570.0"


@pytest.mark.parametrize("kind", [".mgh", ".mgz"])
def test_mgh_leaves_no_file_open(tmp_path, kind):
    left, _ = write(tmp_path, run(3), NAMES[kind])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        read_mgh(left)
        gc.collect()
    assert not [str(warning.message) for warning in told if left.name in str(warning.message)]


def test_mgh_has_the_shape_and_time_step_of_freesurfer(tmp_path):
    values = run()
    left, _ = write(tmp_path, values, "{}.bold.mgh")
    image = nib.load(left)
    assert image.shape == (N, 1, 1, 4)
    assert image.get_data_dtype() == np.dtype(">f4")
    assert image.header.get_zooms()[3] == 1490
    np.testing.assert_array_equal(np.asarray(image.dataobj)[:, 0, 0].T, values[:, :N])


def test_names_and_sidecars_of_a_run_follow_bids(tmp_path):
    space = mesh_space("fsaverage3")
    for side, part in halves(run()).items():
        entities = {"sub": "a", "task": "film", "hemi": side} | space_entities(space)
        path = tmp_path / bids_name("bold", ".func.gii", **entities, desc="predicted")
        write_gifti(path, part, side, 2.0)
        fields = sidecar(space, hemisphere=side, task="film", repetition_time=2.0)
        Path(str(path).replace(".func.gii", ".json")).write_text(json.dumps(fields), "utf-8")
        assert_bids(path)
    assert read_gifti(path).repetition_time == 2.0


def test_files_of_other_tools(tmp_path):
    """One array a volume with the structure in each array, or one array (n, time); compressed."""
    values = run()
    for side, part in halves(values).items():
        letter = side[0].upper()
        made_gifti(tmp_path / f"two_hemi-{letter}.func.gii", [part.T.copy()], None, "2.0")
        path = made_gifti(tmp_path / f"one.{letter}.func.gii", list(part.copy()), None, "2000.000")
        image = nib.load(path)
        for array in image.darrays:
            array.meta["AnatomicalStructurePrimary"] = STRUCTURES[side]
        nib.save(image, path)
        packed = tmp_path / f"{side[0]}h.packed.gii.gz"
        with path.open("rb") as source, gzip.open(packed, "wb") as target:
            shutil.copyfileobj(source, target)
    for name in ("two_hemi-R.func.gii", "one.L.func.gii", "rh.packed.gii.gz"):
        series = read_gifti(tmp_path / name)
        np.testing.assert_array_equal(series.values, values)
        assert series.repetition_time == 2.0


def test_whole_numbers_are_read_as_they_are(tmp_path):
    for letter, first in (("L", 0), ("R", 100)):
        array = np.arange(first, first + N, dtype=np.int32)
        made_gifti(tmp_path / f"a_hemi-{letter}.gii", [array, array + 1], None, "1000")
    values = read_gifti(tmp_path / "a_hemi-L.gii").values
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values[:, [0, N - 1, N]], [[0, N - 1, 100], [1, N, 101]])


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (
            "sub-1_hemi-L_space-fsaverage3_bold.func.gii",
            "sub-1_hemi-R_space-fsaverage3_bold.func.gii",
        ),
        ("sub-1_task-right_hemi-L_bold.func.gii", "sub-1_task-right_hemi-R_bold.func.gii"),
        ("hemi-lh.gii", "hemi-rh.gii"),
        ("lh.sub-1.fsaverage5.gii", "rh.sub-1.fsaverage5.gii"),
        ("LH.a.gii", "RH.a.gii"),
        ("a.lh.func.gii", "a.rh.func.gii"),
        ("100307.L.func.gii", "100307.R.func.gii"),
        ("100307.l.32k.func.gii", "100307.r.32k.func.gii"),
        ("film_left.gii", "film_right.gii"),
        ("film_Left.func.gii", "film_Right.func.gii"),
        ("LEFT_film.gii", "RIGHT_film.gii"),
        ("lh.a_left.gii", "rh.a_right.gii"),
        ("left_a_left.gii", "right_a_right.gii"),
    ],
)
def test_names_that_tell_the_hemisphere(tmp_path, left, right):
    assert (side_of_name(left), side_of_name(right)) == ("left", "right")
    values = run()
    for name, part in zip((left, right), halves(values).values(), strict=True):
        made_gifti(tmp_path / name, list(part.copy()), None, "1000.0")
    for name in (left, right):
        np.testing.assert_array_equal(read_gifti(tmp_path / name).values, values)


@pytest.mark.parametrize(
    "name",
    ["bold.gii", "sub-1_task-left_bold.func.gii", "leftover.gii", "a_right-handed.gii", "L_a.gii"],
)
def test_names_that_tell_no_hemisphere(tmp_path, name):
    assert side_of_name(name) is None
    made_gifti(tmp_path / name, [np.zeros(N, np.float32)], "CortexLeft", "1000")
    with pytest.raises(
        InputError, match=r"tells no hemisphere; .*give both files as \(left, right"
    ):
        read_gifti(tmp_path / name)


def test_name_that_tells_both_hemispheres(tmp_path):
    path = made_gifti(tmp_path / "lh.a_right.gii", [np.zeros(N, np.float32)], None, "1000")
    with pytest.raises(InputError, match="tells both hemispheres"):
        read_gifti(path)


def test_pair_may_have_any_names(tmp_path):
    values = run()
    paths = [tmp_path / "one.gii", tmp_path / "two.gii"]
    for path, (side, part) in zip(paths, halves(values).items(), strict=True):
        write_gifti(path, part, side, 1.0)
    np.testing.assert_array_equal(read_gifti(paths).values, values)
    with pytest.raises(InputError, match=r"one\.gii should be the right .* swapped\?|swapped"):
        read_gifti(paths[::-1])
    with pytest.raises(InputError, match="files of 1 hemispheres are given"):
        read_gifti(paths[:1])


def test_swapped_hemispheres_are_refused(tmp_path):
    values = run()
    left, right = write(tmp_path, values)
    with pytest.raises(InputError, match="given as the left hemisphere; its name tells the other"):
        read_gifti((right, left))
    exchanged = tmp_path / "exchanged"
    exchanged.mkdir()
    shutil.copy(left, exchanged / right.name)
    shutil.copy(right, exchanged / left.name)
    for path in (exchanged / left.name, exchanged / right.name):
        with pytest.raises(InputError, match="CortexLeft; its metadata say CortexRight"):
            read_gifti(path)


def test_swapped_mgh_are_refused_by_name(tmp_path):
    left, right = write(tmp_path, run(), "{}.bold.mgh")
    with pytest.raises(InputError, match=r"rh\.bold\.mgh is given as the left hemisphere"):
        read_mgh((right, left))


def test_writers_refuse_a_name_of_the_other_hemisphere(tmp_path):
    part = run()[:, :N]
    with pytest.raises(InputError, match="to hold the right hemisphere; its name tells the other"):
        write_gifti(tmp_path / "lh.a.func.gii", part, "right", 1.0)
    with pytest.raises(InputError, match="to hold the left hemisphere; its name tells the other"):
        write_gifti_labels(tmp_path / "a_hemi-R.label.gii", np.zeros(N, int), {0: "?"}, "left")
    with pytest.raises(InputError, match=r"bold\.mgh does not tell a hemisphere; lh\.NAME\.mgh"):
        write_mgh(tmp_path / "bold.mgh", part, 1.0)
    with pytest.raises(InputError, match="'both' is unknown; known: left, right"):
        write_gifti(tmp_path / "a.func.gii", part, "both", 1.0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("writer", [write_gifti, write_mgh])
def test_writers_refuse_what_is_no_table(tmp_path, writer):
    more = ("left", 1.0) if writer is write_gifti else (1.0,)
    with pytest.raises(InputError, match=r"shape \(642,\); \(time, vertices\) fits"):
        writer(tmp_path / "lh.a.gii", np.zeros(N), *more)


def test_names_must_fit_the_maps(tmp_path):
    with pytest.raises(InputError, match="1 names do not fit 4 maps"):
        write_gifti(tmp_path / "a.gii", run()[:, :N], "left", None, names=["one"])


@pytest.mark.parametrize("kind", NAMES)
def test_missing_partner_names_what_was_looked_for(tmp_path, kind):
    left, right = write(tmp_path, run(), NAMES[kind])
    right.unlink()
    with pytest.raises(InputError, match=f"no partner: {right.name} was looked for.*give both"):
        read(left)
    with pytest.raises(InputError, match="does not exist"):
        read(right)
    with pytest.raises(InputError, match=r"file of the right hemisphere .* does not exist"):
        read((left, right))


def side_fields(folder: Path, left: object, right: object) -> None:
    for letter, fields in (("L", left), ("R", right)):
        (folder / f"sub-1_hemi-{letter}_bold.json").write_text(json.dumps(fields), "utf-8")


@pytest.mark.parametrize(
    ("step", "seconds"),
    [
        ("1490.000000", 1.49),
        ("1.49", 1.49),
        ("2", 2.0),
        ("100", 0.1),
        ("0.1", 0.1),
        ("30", 30.0),
        ("30000", 30.0),
    ],
)
def test_time_step_is_ms_or_s_by_its_size(tmp_path, step, seconds):
    for side, part in halves(run()).items():
        path = tmp_path / f"a_hemi-{side[0].upper()}.gii"
        made_gifti(path, list(part.copy()), STRUCTURES[side], step)
    assert read_gifti(path).repetition_time == seconds


@pytest.mark.parametrize("step", ["50", "0.05", "-2", "1e9", "nan"])
def test_time_step_of_no_likely_size_is_not_guessed(tmp_path, step):
    for letter in "LR":
        path = tmp_path / f"a_hemi-{letter}.gii"
        made_gifti(path, [np.zeros(N, np.float32)], None, step)
    with pytest.raises(InputError, match="neither s nor ms; give repetition_time in s"):
        read_gifti(path)


@pytest.mark.parametrize("step", [None, "0.000000", ""])
def test_without_any_time_step_one_must_be_given(tmp_path, step):
    values = run()
    for side, part in halves(values).items():
        path = tmp_path / f"sub-1_hemi-{side[0].upper()}_bold.func.gii"
        made_gifti(path, list(part.copy()), STRUCTURES[side], step)
    with pytest.raises(InputError, match="states a time step; give repetition_time in s"):
        read_gifti(path)
    assert read_gifti(path, repetition_time=0.05).repetition_time == 0.05
    side_fields(tmp_path, {"RepetitionTime": 2.5}, {"TaskName": "film"})
    assert read_gifti(path).repetition_time == 2.5


def test_mgh_without_time_step(tmp_path):
    left, _ = write(tmp_path, run(), "{}.bold.mgh", None)
    with pytest.raises(InputError, match="give repetition_time in s"):
        read_mgh(left)
    assert read_mgh(left, repetition_time=2).repetition_time == 2
    (tmp_path / "lh.bold.json").write_text('{"RepetitionTime": 1.2}', "utf-8")
    assert read_mgh(left).repetition_time == 1.2


def test_json_decides_and_disagreement_is_an_error_with_both(tmp_path):
    left, _ = write(tmp_path, run())  # 1490 ms
    side_fields(tmp_path, {"RepetitionTime": 1.49}, {"RepetitionTime": 1.49})
    assert read_gifti(left).repetition_time == 1.49
    side_fields(tmp_path, {"RepetitionTime": 2.0}, {"RepetitionTime": 2.0})
    with pytest.raises(InputError, match=r"bold\.json states 2 s, .*func\.gii 1490"):
        read_gifti(left)
    side_fields(tmp_path, {"RepetitionTime": 1.49}, {"RepetitionTime": 2.0})
    with pytest.raises(InputError, match=r"hemi-L.* states 1\.49 s, .*hemi-R.* 2; give rep"):
        read_gifti(left)


def test_time_steps_of_the_hemispheres_must_agree(tmp_path):
    left, right = write(tmp_path, run())
    write_gifti(right, run()[:, N:], "right", 2.0)
    with pytest.raises(InputError, match=r"hemi-L.* states 1\.49 s, .*hemi-R.* 2000"):
        read_gifti(left)


def test_given_repetition_time_is_used_and_contradiction_said(tmp_path):
    left, _ = write(tmp_path, run())
    assert read_gifti(left, repetition_time=1.49).repetition_time == 1.49
    with pytest.warns(InputWarning, match=r"states 1490; 2 s is used as given"):
        assert read_gifti(left, repetition_time=2.0).repetition_time == 2.0


@pytest.mark.parametrize("text", ["{", '{"RepetitionTime": "fast"}', "[]", "3", "\xff"])
def test_damaged_json_is_one_line(tmp_path, text):
    left, _ = write(tmp_path, run())
    (tmp_path / "sub-1_hemi-L_bold.json").write_bytes(text.encode("latin-1"))
    if text == "[]":
        assert read_gifti(left).repetition_time == 1.49
        return
    with pytest.raises(InputError, match=r"bold\.json is damaged") as raised:
        read_gifti(left)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", NAMES)
def test_hemispheres_that_do_not_belong_together(tmp_path, kind):
    left, _ = write(tmp_path, run(4), NAMES[kind])
    (tmp_path / "short").mkdir()
    _, short = write(tmp_path / "short", run(3), NAMES[kind])
    with pytest.raises(InputError, match=r"has 4 volumes of 642 vertices, .* 3 of 642"):
        read((left, short))
    (tmp_path / "fine").mkdir()
    _, fine = write(tmp_path / "fine", run(4, 2562), NAMES[kind])
    with pytest.raises(InputError, match=r"4 volumes of 642 vertices, .* 4 of 2562"):
        read((left, fine))


@pytest.mark.parametrize("kind", NAMES)
def test_unknown_mesh_names_the_known(tmp_path, kind):
    pair = write(tmp_path, np.zeros((2, 2 * 10243), np.float32), NAMES[kind])
    with pytest.raises(InputError, match=r"has 10243 vertices, .*fsaverage5 10242"):
        read(pair)


@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("sub-1_hemi-{}_space-fsaverage_den-10k_bold.func.gii", 2562),
        ("sub-1_hemi-{}_space-fsaverage4_bold.func.gii", 2562),
        ("sub-1_task-a_bold_space-fsaverage4.{}.func.gii", 2562),
        ("sub-1_hemi-{}_space-fsaverage4+subcortex_bold.func.gii", 2562),
        ("sub-1_hemi-{}_space-fsLR_den-32k_bold.func.gii", 32492),
        ("100307.{}.32k_fs_LR.func.gii", 32492),
    ],
)
def test_space_in_the_name_fits(tmp_path, name, n):
    left, _ = write(tmp_path, run(2, n), name)
    assert read_gifti(left).space.n_right == n


@pytest.mark.parametrize(
    ("name", "told", "n"),
    [
        ("sub-1_hemi-{}_space-fsaverage5_bold.func.gii", "fsaverage5", 2562),
        ("sub-1_hemi-{}_space-onavg_den-3k_bold.func.gii", "onavg", 2562),
        ("sub-1_hemi-{}_space-fsaverageSym_bold.func.gii", "fsaverageSym", 2562),
        ("sub-1_hemi-{}_space-fsLR_bold.func.gii", "fsLR", 2562),
        ("100307.{}.4k_fs_LR.func.gii", "fsLR", 2562),
        ("sub-1_hemi-{}_space-dhcpSym_bold.func.gii", "dhcpSym", 32492),
        ("sub-1_hemi-{}_space-fsaverage_bold.func.gii", "fsaverage", 32492),
    ],
)
def test_space_in_the_name_of_another_template(tmp_path, name, told, n):
    left, _ = write(tmp_path, run(2, n), name)
    with pytest.raises(InputError, match=f"tells the space {told}, and {n} vertices are read as"):
        read_gifti(left)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ([], "none"),
        ([np.zeros(N, np.float32), np.zeros(N + 1, np.float32)], r"\(642,\), \(643,\)"),
        ([np.zeros((N, 3), np.float32)] * 2, r"\(642, 3\)"),
        ([np.zeros((N, 1, 3), np.float32)], r"\(642, 1, 3\)"),
    ],
)
def test_other_shapes_are_refused(tmp_path, arrays, told):
    for letter in "LR":
        path = made_gifti(tmp_path / f"a_hemi-{letter}.gii", arrays, None, "1000")
    with pytest.raises(InputError, match=f"data arrays of {told}; one"):
        read_gifti(path)


def test_time_step_that_is_no_number(tmp_path):
    for letter in "LR":
        path = tmp_path / f"a_hemi-{letter}.gii"
        made_gifti(path, [np.zeros(N, np.float32)], None, "two")
    with pytest.raises(InputError, match=r"TimeStep that is no number: \['two'\]"):
        read_gifti(path)


@pytest.mark.parametrize("intent", ["POINTSET", "LABEL"])
def test_meshes_and_labels_are_no_series(tmp_path, intent):
    array = np.zeros((N, 3), np.float32) if intent == "POINTSET" else np.zeros(N, np.int32)
    for letter in "LR":
        path = tmp_path / f"a_hemi-{letter}.gii"
        made_gifti(path, [array], None, None, f"NIFTI_INTENT_{intent}")
    with pytest.raises(InputError, match="holds a mesh or labels"):
        read_gifti(path)


def test_mgh_of_a_volume_is_refused(tmp_path):
    for side in "lr":
        path = tmp_path / f"{side}h.a.mgh"
        nib.save(nib.MGHImage(np.zeros((4, 5, 6, 2), np.float32), np.eye(4)), path)
    with pytest.raises(InputError, match=r"shape \(4, 5, 6, 2\); \(vertices, 1, 1, time\) fits"):
        read_mgh(path)


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        (kind, damage)
        for kind in NAMES
        for damage in ("cut", "half", "empty", "garbage", "text", "flipped")
        if (kind, damage) != (".mgh", "flipped")  # it has no checksum
    ],
)
def test_damaged_files_are_one_line(tmp_path, kind, damage):
    left, _ = write(tmp_path, run(), NAMES[kind])
    whole = left.read_bytes()
    left.write_bytes(
        {
            "cut": whole[:40],
            "half": whole[: len(whole) // 2],
            "empty": b"",
            "garbage": np.random.default_rng(0).bytes(5000),
            "text": b"this is no surface",
            "flipped": whole[: len(whole) // 3] + b"\x00<&" + whole[len(whole) // 3 + 3 :],
        }[damage]
    )
    with pytest.raises(InputError, match=f"{left.name} cannot be read as") as raised:
        read(left)
    assert "\n" not in str(raised.value)


def test_labels_are_read_back_by_nibabel_and_nilearn(tmp_path):
    path = tmp_path / "sub-1_hemi-R_dseg.label.gii"
    labels = np.arange(N) % 3
    labels[-5:] = 7
    names = {7: "V1 & <V2>", 0: "???", 2: "MT", 1: "FFC", 9: "nowhere"}
    write_gifti_labels(path, labels, names, "right", {1: (1, 0.5, 0), 2: (0, 0, 1, 0.5)})
    image = nib.load(path)
    assert image.meta["AnatomicalStructurePrimary"] == "CortexRight"
    assert image.labeltable.get_labels_as_dict() == names
    (array,) = image.darrays
    assert array.intent == nib.nifti1.intent_codes["NIFTI_INTENT_LABEL"]
    assert array.data.dtype == np.int32
    np.testing.assert_array_equal(array.data, labels)
    np.testing.assert_array_equal(load_surf_data(path), labels)
    colours = {label.key: label.rgba for label in image.labeltable.labels}
    assert colours[1] == (1.0, 0.5, 0.0, 1.0)
    assert colours[2] == (0.0, 0.0, 1.0, 0.5)
    assert colours[0][3] == 0
    assert len(set(colours.values())) == len(names)
    assert all(0 <= part <= 1 for colour in colours.values() for part in colour)


def test_labels_need_names_and_whole_numbers(tmp_path):
    path = tmp_path / "lh.a.label.gii"
    with pytest.raises(InputError, match=r"label 5 of lh\.a\.label\.gii has no name"):
        write_gifti_labels(path, np.full(N, 5), {0: "none"}, "left")
    with pytest.raises(InputError, match=r"\(642,\), float64; \(n,\) integers fit"):
        write_gifti_labels(path, np.zeros(N), {0: "none"}, "left")
    assert not path.exists()
