"""BOLD in arrays: what is read, what is refused, and how much of a file is touched."""

from __future__ import annotations

import importlib.util
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tribrain.brain.spaces import parcel_space
from tribrain.errors import InputError
from tribrain.studies.arrays import ArrayBold, array_keys, array_shape, read_array
from tribrain.studies.intersubject import leave_one_out

SPACE = parcel_space("atlas", ("a", "b", "c", "d"))
VALUES = np.random.default_rng(0).normal(size=(9, 4))
STACKED = np.random.default_rng(1).normal(size=(3, 9, 4))

needs_h5py = pytest.mark.skipif(
    importlib.util.find_spec("h5py") is None, reason="h5py is not installed"
)
KINDS = [
    "npy",
    "npz",
    pytest.param("h5", marks=needs_h5py),
    pytest.param("hf5", marks=needs_h5py),
    "txt",
    "csv",
    "tsv",
]
BINARY = [kind for kind in KINDS if kind not in ("txt", "csv", "tsv")]


def write(folder, kind, array):
    """Write an array as a file of a kind; its path and key."""
    path = folder / f"bold.{kind}"
    if kind == "npy":
        np.save(path, array)
    elif kind == "npz":
        np.savez_compressed(path, other=np.zeros(2), run=array)
    elif kind in ("h5", "hf5"):
        import h5py

        with h5py.File(path, "w") as file:
            file["run"] = array
            file["session/other"] = np.zeros(2)
    else:
        np.savetxt(path, array, delimiter={"txt": "  ", "csv": ",", "tsv": "\t"}[kind])
    return path, "" if kind in ("npy", "txt", "csv", "tsv") else "run"


@pytest.mark.parametrize("kind", KINDS)
def test_run_is_read_as_it_was_written(tmp_path, kind):
    path, key = write(tmp_path, kind, VALUES)
    bold = ArrayBold(path, SPACE, 1.5, key)
    assert bold.files == (path,)
    assert bold.header() == (9, None)
    series = bold.load()
    np.testing.assert_array_equal(series.values, VALUES.astype(np.float32))
    assert series.values.dtype == np.float32
    assert (series.space, series.repetition_time, series.start) == (SPACE, 1.5, 0.0)
    assert array_shape(path, key) == (9, 4)


@pytest.mark.parametrize("kind", BINARY)
@pytest.mark.parametrize("person", [0, 2])
def test_person_of_a_stacked_array(tmp_path, kind, person):
    path, key = write(tmp_path, kind, STACKED)
    bold = ArrayBold(path, SPACE, 2.0, key, index=person, rows=(2, 8))
    assert bold.header() == (6, None)
    series = bold.load()
    np.testing.assert_array_equal(series.values, STACKED[person, 2:8].astype(np.float32))
    # The clock counts from the first row of the file.
    np.testing.assert_array_equal(series.time, [4.0, 6.0, 8.0, 10.0, 12.0, 14.0])


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i2"])
def test_other_types_and_orders_of_numbers(tmp_path, dtype):
    array = np.asfortranarray((100 * VALUES).astype(dtype))
    path, _ = write(tmp_path, "npy", array)
    np.testing.assert_array_equal(ArrayBold(path, SPACE, 1.0).load().values, array.astype("f4"))


@pytest.mark.parametrize("kind", KINDS)
def test_values_that_were_not_measured_stay_so(tmp_path, kind):
    values = VALUES.copy()
    values[3:5] = values[7, 1] = np.nan
    path, key = write(tmp_path, kind, values)
    found = ArrayBold(path, SPACE, 1.0, key).load().values
    np.testing.assert_array_equal(np.isnan(found), np.isnan(values))


@pytest.mark.parametrize("kind", ["npz", pytest.param("h5", marks=needs_h5py)])
def test_names_of_arrays(tmp_path, kind):
    path, _ = write(tmp_path, kind, VALUES)
    other = "other" if kind == "npz" else "session/other"
    assert set(array_keys(path)) == {"run", other}
    assert array_shape(path, other) == (2,)
    for wrong in ("Run", "", "session"):
        with pytest.raises(InputError, match=rf"bold.{kind} has no array '{wrong}'.*run"):
            read_array(path, wrong)
        with pytest.raises(InputError, match="has no array"):
            ArrayBold(path, SPACE, 1.0, wrong).header()


def test_name_of_the_only_array_is_refused(tmp_path):
    path, _ = write(tmp_path, "npy", VALUES)
    assert array_keys(path) == ()
    with pytest.raises(InputError, match="without a name; it was asked for 'run'"):
        read_array(path, "run")


@pytest.mark.parametrize("kind", KINDS)
def test_changed_file_is_read_again(tmp_path, kind):
    path, key = write(tmp_path, kind, VALUES)
    assert ArrayBold(path, SPACE, 1.0, key).load().values.shape == (9, 4)
    write(tmp_path, kind, -VALUES[:5])
    found = ArrayBold(path, SPACE, 1.0, key).load().values
    np.testing.assert_array_equal(found, -VALUES[:5].astype("f4"))


@pytest.mark.parametrize("kind", BINARY)
def test_what_is_read_may_be_changed_without_changing_what_is_read_next(tmp_path, kind):
    path, key = write(tmp_path, kind, VALUES.astype("f4"))
    bold = ArrayBold(path, SPACE, 1.0, key)
    bold.load().values[:] = 0
    read_array(path, key)[:] = 0
    np.testing.assert_array_equal(bold.load().values, VALUES.astype("f4"))


@pytest.mark.parametrize("kind", ["npz", pytest.param("h5", marks=needs_h5py)])
def test_header_does_not_touch_the_values(tmp_path, kind):
    """A run of a petabyte, of which the file holds no more than the header."""
    path, shape = tmp_path / f"bold.{kind}", (10**9, 10**6)
    if kind == "h5":
        import h5py

        with h5py.File(path, "w") as file:
            file.create_dataset("run", shape, "f4", chunks=(1, 1000))
    else:
        with zipfile.ZipFile(path, "w") as archive, archive.open("run.npy", "w") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
    assert array_shape(path, "run") == shape


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"index": 0}, r"shape \(9, 4\); \(people, time, values\) with 4 values of atlas"),
        ({"space": parcel_space("pair", ("a", "b"))}, r"shape \(9, 4\).*2 values of pair"),
        ({"rows": (0, 10)}, "has 9 rows; rows 0:10 do not fit"),
        ({"rows": (9, None)}, "has 9 rows; rows 9:9 do not fit"),
        ({"rows": (-2, None)}, "rows -2:9 do not fit"),
    ],
)
def test_shapes_that_do_not_fit(tmp_path, options, said):
    path, _ = write(tmp_path, "npy", VALUES)
    bold = ArrayBold(**{"path": path, "space": SPACE, "repetition_time": 1.0, **options})
    for ask in (bold.header, bold.load):
        with pytest.raises(InputError, match=said):
            ask()


@pytest.mark.parametrize(
    ("index", "said"), [(None, r"\(time, values\)"), (3, "number 3 is none of 0 to 2"), (-1, "-1")]
)
def test_person_who_is_not_in_the_array(tmp_path, index, said):
    path, _ = write(tmp_path, "npy", STACKED)
    with pytest.raises(InputError, match=said):
        ArrayBold(path, SPACE, 1.0, index=index).load()


@pytest.mark.parametrize("kind", BINARY)
@pytest.mark.parametrize("keep", [0, 3, 100, -200, -1])
def test_truncated_file_is_named(tmp_path, kind, keep):
    path, key = write(tmp_path, kind, np.random.default_rng(0).normal(size=(200, 4)))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=rf"bold\.{kind} cannot be read, it seems damaged: .+"):
        ArrayBold(path, SPACE, 1.0, key).load()


def test_flipped_bytes_of_a_compressed_array_are_noticed(tmp_path):
    path, key = write(tmp_path, "npz", VALUES)
    content = bytearray(path.read_bytes())
    place = content.index(b"run.npy") + 60
    content[place : place + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(InputError, match="seems damaged"):
        ArrayBold(path, SPACE, 1.0, key).load()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("1 2 3 4\n1 2 3\n", "cannot be read.*columns changed"),
        ("1 2 3 4\n1 2 x 4\n", "cannot be read.*'x'"),
    ],
)
def test_damaged_tables(tmp_path, content, said):
    path = tmp_path / "bold.txt"
    path.write_text(content)
    with pytest.raises(InputError, match=rf"bold\.txt {said}") as caught:
        ArrayBold(path, SPACE, 1.0).header()
    assert "\n" not in str(caught.value)


def test_bytes_are_no_table(tmp_path):
    path = tmp_path / "bold.txt"
    path.write_bytes(b"\xff\xfe\x00\x811 2 3")
    with pytest.raises(InputError, match=r"bold\.txt cannot be read"):
        ArrayBold(path, SPACE, 1.0).load()


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_pickled_objects_are_refused(tmp_path, kind):
    path = tmp_path / f"bold.{kind}"
    objects = np.array([[print, 1]], dtype=object)
    if kind == "npy":
        np.save(path, objects, allow_pickle=True)
    else:
        np.savez(path, run=objects)
    with pytest.raises(InputError, match=r"cannot be read.*([Oo]bject|pickle)"):
        read_array(path, "" if kind == "npy" else "run")


@needs_h5py
@pytest.mark.parametrize("how", ["external link", "external storage", "virtual", "group"])
def test_values_that_lie_in_another_file_are_refused(tmp_path, how):
    """A file from elsewhere must not name which files of this machine are read."""
    import h5py

    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["run"] = VALUES
    (tmp_path / "raw").write_bytes(VALUES.tobytes())
    key = "run"
    with h5py.File(tmp_path / "bold.h5", "w") as file:
        if how == "external link":
            file["run"] = h5py.ExternalLink(tmp_path / "other.h5", "run")
        elif how == "group":
            file["all"] = h5py.ExternalLink(tmp_path / "other.h5", "/")
            key = "all/run"
        elif how == "external storage":
            external = [(str(tmp_path / "raw"), 0, VALUES.nbytes)]
            file.create_dataset("run", VALUES.shape, VALUES.dtype, external=external)
        else:
            layout = h5py.VirtualLayout(VALUES.shape, VALUES.dtype)
            layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "run", VALUES.shape)
            file.create_virtual_dataset("run", layout)
        file["own"] = VALUES
    for ask in (read_array, array_shape):
        with pytest.raises(InputError, match=rf"bold\.h5, {key} lies in another file") as caught:
            ask(tmp_path / "bold.h5", key)
        assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(read_array(tmp_path / "bold.h5", "own"), VALUES)


@needs_h5py
def test_links_within_a_file_are_followed(tmp_path):
    import h5py

    with h5py.File(tmp_path / "bold.h5", "w") as file:
        file["there/values"] = VALUES
        file["run"] = h5py.SoftLink("/there/values")
        file["there/again"] = h5py.SoftLink("values")
        file["nowhere"] = h5py.SoftLink("/here/values")
        file["circle"] = h5py.SoftLink("/circle")
    for key in ("run", "there/values", "/there/again", "there//values"):
        np.testing.assert_array_equal(read_array(tmp_path / "bold.h5", key), VALUES)
    for key in ("nowhere", "circle", "run/values", "/"):
        with pytest.raises(InputError, match=f"has no array '{key}'; it has: there/values"):
            read_array(tmp_path / "bold.h5", key)


def test_words_are_no_bold(tmp_path):
    path, _ = write(tmp_path, "npy", np.full((9, 4), "word"))
    with pytest.raises(InputError, match="holds <U4; real numbers fit"):
        ArrayBold(path, SPACE, 1.0).load()


def test_unknown_and_missing_files_are_named(tmp_path):
    (tmp_path / "bold.mat").touch()
    with pytest.raises(InputError, match=r"bold.mat: unknown kind '.mat'; known: .npy, .npz"):
        array_shape(tmp_path / "bold.mat")
    with pytest.raises(InputError, match=r"bold\.h5 does not exist"):
        array_shape(tmp_path / "bold.h5")


def test_missing_h5py_says_what_brings_it(tmp_path, monkeypatch):
    (tmp_path / "bold.h5").touch()
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"needs h5py: pip install 'tribrain\[studies\]'"):
        array_shape(tmp_path / "bold.h5", "run")


def literally(values):
    """Leave-one-out correlation as its definition reads: loops, and NumPy's own correlation."""
    people, _, n = values.shape
    found = np.full((people, n), np.nan)
    for place in range(n):
        scores = []
        for series in values[:, :, place]:
            there = series[~np.isnan(series)]
            varies = len(there) and np.ptp(there) > 0
            scores.append((series - there.mean()) / there.std() if varies else series * np.nan)
        for person in range(people):
            pairs = []
            for row, own in enumerate(scores[person]):
                others = [scores[p][row] for p in range(people) if p != person]
                others = [value for value in others if not np.isnan(value)]
                if others and not np.isnan(own):
                    pairs.append((own, np.mean(others)))
            if pairs and all(np.ptp(side) > 1e-9 for side in zip(*pairs, strict=True)):
                found[person, place] = np.corrcoef(np.transpose(pairs))[0, 1]
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(4, 12), st.integers(0, 2**32 - 1), st.floats(0, 0.6))
@example(4, 5, 5, 0.5)  # all others have two rows: their mean is constant but for rounding
@example(4, 5, 2**27 + 1, 0.5)
def test_leave_one_out_equals_plain_loops(people, rows, seed, missing):
    rng = np.random.default_rng(seed)
    values = 50 + rng.normal(size=(people, rows, 3)) * rng.uniform(0.1, 10, size=(people, 1, 3))
    values[rng.random(values.shape) < missing] = np.nan
    values[0, :, 2] = 0.1
    np.testing.assert_allclose(leave_one_out(values), literally(values), atol=1e-9)


def test_leave_one_out_follows_gain_and_sign_and_nothing_else():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(1, 40, 3))
    values = shared + rng.normal(size=(4, 40, 3))
    found = leave_one_out(values)
    gains = np.array([3.0, 0.01, 7.0, 100.0])[:, None, None]
    np.testing.assert_allclose(leave_one_out(gains * values + 5), found, atol=1e-12)
    flipped = values.copy()
    flipped[2] *= -1
    np.testing.assert_allclose(leave_one_out(flipped)[2], -found[2], atol=1e-12)
    np.testing.assert_allclose(leave_one_out(values[::-1])[::-1], found, atol=1e-12)


def test_people_who_see_the_same_are_all_alike():
    series = np.random.default_rng(0).normal(size=(1, 30, 2))
    np.testing.assert_allclose(leave_one_out(np.repeat(series, 3, 0)), 1.0)


def test_someone_without_measurements_has_no_score_and_does_not_count_for_others():
    values = np.random.default_rng(0).normal(size=(4, 30, 2))
    values[1] = np.nan
    found = leave_one_out(values)
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(found[[0, 2, 3]], leave_one_out(values[[0, 2, 3]]))


@pytest.mark.parametrize("shape", [(1, 9, 4), (9, 4)])
def test_leave_one_out_needs_two_people(shape):
    with pytest.raises(InputError, match="two subjects at least"):
        leave_one_out(np.zeros(shape))
