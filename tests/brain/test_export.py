"""Responses to and from files."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

from tribrain.brain import export
from tribrain.brain.export import check_target, load_response, save_response
from tribrain.brain.response import Response
from tribrain.errors import InputError, InputWarning

SIDES = {"L": ("CortexLeft", slice(0, 642)), "R": ("CortexRight", slice(642, 1284))}


def made(
    outputs: int = 1284, rows: int = 4, checksum: str | None = "aa", subject: str = "unseen"
) -> Response:
    """A response whose left half is positive and whose right half is negative."""
    values = np.abs(np.random.default_rng(0).normal(size=(rows, outputs))) + 0.1
    values[:, outputs // 2 :] *= -1
    provenance = {"model": {"name": "made", "settings": [1, 2.5, None]}}
    if checksum is not None:
        provenance["stimulus"] = {"sha256": checksum, "file": "film.mp4", "notes": ["no sound"]}
    return Response.from_rows(
        values,
        lag=5.0,
        stimulus=np.arange(rows) < 2,
        space=None,
        attrs={
            "model": "made",
            "revision": "7",
            "licence": "CC0",
            "label": "made for a test",
            "subject": subject,
            "modalities": ["audio", "video"],
        },
        provenance=provenance,
    )


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, hidden ones too, with its bytes."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("outputs", [1284, 5124, 20484, 8802, 1000])
def test_saved_response_loads_as_it_was(tmp_path, outputs):
    response = made(outputs)
    assert save_response(response, tmp_path / "out", "film") == tmp_path / "out"
    loaded = load_response(tmp_path / "out")
    xr.testing.assert_identical(loaded.data, response.data)
    assert loaded.data.dtype == np.float32
    assert loaded.data["stimulus"].dtype == bool
    assert loaded.data.attrs == response.data.attrs
    assert loaded.provenance == response.provenance
    assert loaded.space == response.space


def test_loaded_response_can_be_saved_again(tmp_path):
    made().save(tmp_path / "one", "film")
    load_response(tmp_path / "one").save(tmp_path / "two", "film")
    xr.testing.assert_identical(load_response(tmp_path / "two").data, made().data)
    assert load_response(tmp_path / "two").provenance == made().provenance


def test_response_loads_from_the_path_of_its_store(tmp_path):
    made().save(tmp_path, "film")
    loaded = load_response(str(tmp_path / "film_response.zarr"))
    xr.testing.assert_identical(loaded.data, made().data)


def test_folder_holds_what_the_interface_states(tmp_path):
    made().save(tmp_path / "out", "film", also={"film_report.html": "<p>ü</p>"})
    stem = "sub-unseen_task-film_hemi-{}_space-fsaverage3_desc-predicted_bold"
    gifti = [stem.format(side) + end for side in "LR" for end in (".func.gii", ".json")]
    assert names(tmp_path / "out") == sorted(
        [
            "film_regions.tsv",
            "film_report.html",
            "film_response.json",
            "film_response.zarr",
            *gifti,
        ]
    )
    assert (tmp_path / "out" / "film_report.html").read_text("utf-8") == "<p>ü</p>"


@pytest.mark.parametrize("side", "LR")
def test_gifti_holds_the_values_of_its_own_hemisphere(tmp_path, side):
    response = made()
    response.save(tmp_path, "film")
    (file,) = tmp_path.glob(f"*_hemi-{side}_*.func.gii")
    image = nib.load(file)
    structure, part = SIDES[side]
    assert image.meta["AnatomicalStructurePrimary"] == structure
    found = np.stack([array.data for array in image.darrays])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, response.data.values[:, part])
    assert (found > 0).all() == (side == "L")


def test_gifti_is_a_time_series_with_a_time_step(tmp_path):
    made().save(tmp_path, "film")
    for file in tmp_path.glob("*.func.gii"):
        image = nib.load(file)
        assert len(image.darrays) == 4
        for array in image.darrays:
            assert array.intent == nib.nifti1.intent_codes["NIFTI_INTENT_TIME_SERIES"]
            assert float(array.meta["TimeStep"]) in (1.0, 1000.0)  # s, or ms as in FreeSurfer
            assert array.data.shape == (642,)


def test_sidecars_say_what_a_row_is(tmp_path):
    made().save(tmp_path, "film")
    files = sorted(tmp_path.glob("sub-*.json"))
    assert len(files) == 2
    for file in files:
        sidecar = json.loads(file.read_text("utf-8"))
        assert file.with_suffix("").with_suffix(".func.gii").exists()
        assert sidecar["RepetitionTime"] == 1.0
        assert sidecar["TaskName"] == "film"
        assert sidecar["Space"] == "fsaverage3"
        assert sidecar["Lag"] == 5.0
        assert "5 s after second t" in sidecar["Description"]
        assert "made for a test" in sidecar["Description"]
        assert (sidecar["Model"], sidecar["ModelRevision"]) == ("made", "7")
        assert sidecar["Units"] == made().data.attrs["unit"]


def test_names_follow_bids_whatever_subject_and_task_are_called(tmp_path):
    made(subject="Study/sub-01").save(tmp_path, "my_long-film2")
    pattern = r"sub-[A-Za-z0-9]+_task-[A-Za-z0-9]+_hemi-[LR]_space-[A-Za-z0-9]+_desc-predicted_bold"
    files = list(tmp_path.glob("*.func.gii"))
    assert len(files) == 2
    for file in files:
        assert re.fullmatch(pattern + r"\.func\.gii", file.name)
        assert file.name.startswith("sub-Studysub01_task-mylongfilm2_")


def test_description_is_plain_json_about_response_and_origin(tmp_path):
    made().save(tmp_path, "film")
    text = (tmp_path / "film_response.json").read_text("utf-8")
    held = json.loads(text, parse_constant=pytest.fail)
    assert held["response"]["rows"] == 4
    assert held["response"]["outputs"] == 1284
    assert held["response"]["first_bold_time_s"] == 5.0
    assert held["response"]["rows_without_stimulus"] == 2
    assert held["response"]["label"] == "made for a test"
    assert held["model"] == made().provenance["model"]
    assert held["stimulus"]["notes"] == ["no sound"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", held["written"])


def test_region_table_is_that_of_the_response(tmp_path):
    made().save(tmp_path, "film")
    table = pd.read_csv(tmp_path / "film_regions.tsv", sep="\t", index_col="time")
    expected = made().regions()
    assert table.columns.tolist() == expected.columns.tolist()
    assert table.index.tolist() == expected.index.tolist()
    np.testing.assert_allclose(table, expected, rtol=1e-4)


def test_response_without_surface_has_neither_gifti_nor_regions(tmp_path):
    with pytest.warns(InputWarning, match="gifti is left out: outputs1000"):
        made(1000).save(tmp_path, "film", formats=("gifti", "npz"))
    assert names(tmp_path) == ["film_response.json", "film_response.npz", "film_response.zarr"]
    assert load_response(tmp_path).space.name == "outputs1000"


def test_npz_holds_values_and_clock(tmp_path):
    response = made()
    response.save(tmp_path, "film", formats=("npz",))
    assert not list(tmp_path.glob("*.gii"))
    with np.load(tmp_path / "film_response.npz") as held:
        assert set(held) == {"response", "time", "bold_time", "stimulus", "attributes"}
        np.testing.assert_array_equal(held["response"], response.data.values)
        for name in ("time", "bold_time", "stimulus"):
            np.testing.assert_array_equal(held[name], response.data[name].values)


def test_no_format_leaves_the_store_alone(tmp_path):
    made().save(tmp_path, "film", formats=())
    assert names(tmp_path) == ["film_regions.tsv", "film_response.json", "film_response.zarr"]


def test_unknown_format_is_refused_before_anything_is_written(tmp_path):
    known = "gifti, cifti, nifti, mgh, npz"
    with pytest.raises(InputError, match=f"format .mat. is unknown; known: {known}"):
        made().save(tmp_path / "out", "film", formats=("gifti", "mat"))
    assert names(tmp_path) == []


def test_long_responses_are_cut_into_pieces_of_whole_rows(tmp_path):
    made(20484, rows=120).save(tmp_path, "film", formats=())
    rows, outputs = zarr.open_group(tmp_path / "film_response.zarr", mode="r")["response"].chunks
    assert outputs == 20484
    assert 1 < rows < 120


def test_same_stimulus_is_written_again_without_a_question(tmp_path):
    made(rows=4).save(tmp_path, "film")
    made(rows=6).save(tmp_path, "film")
    assert load_response(tmp_path).data.sizes["time"] == 6
    assert len(nib.load(next(tmp_path.glob("*_hemi-L_*.func.gii"))).darrays) == 6


def test_other_files_in_the_folder_stay(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    made().save(tmp_path, "film")
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(("name", "checksum"), [("film", "bb"), ("other", "aa"), ("other", "bb")])
def test_folder_of_another_stimulus_is_refused_and_left_as_it_was(tmp_path, name, checksum):
    made().save(tmp_path / "out", "film")
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match=r"another stimulus \(film_response.json\).*--overwrite"):
        made(checksum=checksum).save(tmp_path / "out", name)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"stimulus": null}', "\xff"])
def test_folder_with_an_unreadable_description_is_refused(tmp_path, content):
    (tmp_path / "film_response.json").write_text(content, "latin-1")
    with pytest.raises(InputError, match="another stimulus"):
        check_target(tmp_path, "film", "aa", overwrite=False)


def test_overwrite_replaces_the_response_to_another_stimulus(tmp_path):
    made(rows=4).save(tmp_path, "film")
    made(rows=6, checksum="bb").save(tmp_path, "film", overwrite=True)
    loaded = load_response(tmp_path)
    assert loaded.data.sizes["time"] == 6
    assert loaded.provenance["stimulus"]["sha256"] == "bb"


def test_overwrite_by_a_stimulus_of_another_name_can_be_loaded(tmp_path):
    made(rows=4).save(tmp_path, "film")
    made(rows=6, checksum="bb").save(tmp_path, "other", overwrite=True)
    assert load_response(tmp_path).data.sizes["time"] == 6


def test_overwrite_leaves_no_file_of_the_response_before(tmp_path):
    made(checksum="aa").save(tmp_path, "film", also={"film_words.tsv": "onset\tduration\ttext\n"})
    made(checksum="bb").save(tmp_path, "film", formats=("npz",), overwrite=True)
    expected = "film_regions.tsv film_response.json film_response.npz film_response.zarr"
    assert names(tmp_path) == expected.split()


@pytest.mark.parametrize(
    "listed",
    [
        [".."],
        [""],
        ["."],
        ["../keep.txt"],
        ["film_response.zarr/../../keep.txt"],
        [5],
        None,
    ],
    ids=str,
)
def test_damaged_list_of_files_deletes_nothing_outside_or_new(tmp_path, listed):
    parent = tmp_path / "parent"
    made().save(parent / "out", "film")
    (parent / "keep.txt").write_text("mine")
    (parent / "out" / "keep.txt").write_text("mine too")
    description = parent / "out" / "film_response.json"
    description.write_text(json.dumps(json.loads(description.read_text()) | {"files": listed}))
    made(rows=6).save(parent / "out", "film")
    assert (parent / "keep.txt").exists()
    assert (parent / "out" / "keep.txt").exists()
    assert load_response(parent / "out").data.sizes["time"] == 6


def test_target_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="is a file; --out takes a folder"):
        made().save(tmp_path / "out", "film", overwrite=True)
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), RuntimeError("?")])
@pytest.mark.parametrize("held", [True, False])
def test_failure_while_writing_changes_nothing(tmp_path, monkeypatch, error, held):
    if held:
        made(rows=3).save(tmp_path / "out", "film")
    before, there = snapshot(tmp_path), names(tmp_path)

    def fail(response, folder, name, atlas):
        (folder / "half.gii").write_text("half")
        raise error

    monkeypatch.setitem(export.FORMATS, "gifti", fail)
    with pytest.raises(type(error)):
        made(rows=6).save(tmp_path / "out", "film")
    assert snapshot(tmp_path) == before
    assert names(tmp_path) == there


def test_nothing_hidden_is_left_after_success(tmp_path):
    made().save(tmp_path / "deep" / "out", "film")
    assert names(tmp_path / "deep") == ["out"]


def test_folder_without_a_response_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"one \*_response.zarr is expected; found: none"):
        load_response(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.zarr"])
def test_path_that_is_not_there_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="found: none"):
        load_response(tmp_path / name)


def test_folder_with_two_responses_is_refused_and_both_are_named(tmp_path):
    made().save(tmp_path, "film")
    shutil.copytree(tmp_path / "film_response.zarr", tmp_path / "again_response.zarr")
    with pytest.raises(InputError, match=r"found: again_response.zarr, film_response.zarr"):
        load_response(tmp_path)


@pytest.mark.parametrize("content", ["{", "", "\xff\xfe"])
def test_damaged_description_is_refused(tmp_path, content):
    made().save(tmp_path, "film")
    (tmp_path / "film_response.json").write_text(content, "latin-1")
    with pytest.raises(InputError, match="cannot be read as a response"):
        load_response(tmp_path)


@pytest.mark.parametrize("content", ["[]", "5", "null"])
def test_description_that_is_no_object_is_refused(tmp_path, content):
    made().save(tmp_path, "film")
    (tmp_path / "film_response.json").write_text(content)
    with pytest.raises(InputError, match="cannot be read as a response"):
        load_response(tmp_path)


@pytest.mark.parametrize(
    "part", ["film_response.json", "film_response.zarr/zarr.json", "film_response.zarr/response"]
)
def test_missing_part_is_refused(tmp_path, part):
    made().save(tmp_path, "film")
    path = tmp_path / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(InputError, match="cannot be read as a response"):
        load_response(tmp_path)


def chunk_files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.zarr/response/c/**/*") if path.is_file()]


def test_broken_piece_of_the_store_is_refused(tmp_path):
    made().save(tmp_path, "film")
    for path in chunk_files(tmp_path):
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputError, match="cannot be read as a response"):
        load_response(tmp_path)


def test_missing_piece_of_the_store_is_refused(tmp_path):
    made().save(tmp_path, "film")
    for path in chunk_files(tmp_path):
        path.unlink()
    with pytest.raises(InputError, match="cannot be read as a response"):
        load_response(tmp_path)


@pytest.mark.parametrize(
    ("attribute", "value", "told"),
    [
        ("space", None, "does not state its space"),
        ("space", 5, "does not state its space"),
        ("space", "fsaverage4", "states the space fsaverage4; its 1284 values fit fsaverage3"),
        ("space", "lobes", "its hemisphere is missing or not that of lobes"),
        ("lag", None, "its lag is None; a number of seconds fits"),
        ("lag", "nan", "its lag is 'nan'"),
        ("lag", 4.0, "its bold_time is not its time and a lag of 4 s"),
        ("modalities", 5, "'int' object is not iterable"),
    ],
)
def test_attributes_of_the_store_are_checked(tmp_path, attribute, value, told):
    made().save(tmp_path, "film")
    attrs = zarr.open_group(tmp_path / "film_response.zarr", mode="a")["response"].attrs
    if value is None:
        del attrs[attribute]
    else:
        attrs[attribute] = value
    with pytest.raises(InputError, match=f"cannot be read as a response: .*{told}"):
        load_response(tmp_path)


@pytest.mark.parametrize("part", ["time", "bold_time", "stimulus", "hemisphere"])
def test_store_without_a_coordinate_is_refused(tmp_path, part):
    made().save(tmp_path, "film")
    shutil.rmtree(tmp_path / "film_response.zarr" / part)
    with pytest.raises(InputError, match=f"cannot be read as a response: .*{part}"):
        load_response(tmp_path)


@pytest.mark.parametrize("times", [[0, 1, 1, 2], [0, 1, np.nan, 3]])
def test_store_whose_time_does_not_run_on_is_refused(tmp_path, times):
    made().save(tmp_path, "film")
    zarr.open_group(tmp_path / "film_response.zarr", mode="a")["time"][:] = times
    with pytest.raises(InputError, match="its time does not increase"):
        load_response(tmp_path)


def test_part_of_a_response_can_be_saved_and_loaded(tmp_path):
    part = made().data[1:3]
    Response(part, made().provenance).save(tmp_path, "film")
    xr.testing.assert_identical(load_response(tmp_path).data, part)


def test_saving_and_loading_warn_about_nothing(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made().save(tmp_path, "film")
        load_response(tmp_path)


@pytest.mark.parametrize("name", ["../outside", "a/b", "my film: 1", "é.mp4"])
def test_unsafe_characters_are_removed_from_the_name(tmp_path, name):
    made().save(tmp_path / "out", name)
    assert names(tmp_path) == ["out"]
    assert all(re.fullmatch(r"[\w.-]+", file) for file in names(tmp_path / "out"))
    assert load_response(tmp_path / "out").data.sizes["time"] == 4


def test_an_interrupt_while_files_are_moved_leaves_the_former_response(tmp_path, monkeypatch):
    made(rows=4).save(tmp_path / "out", "film")
    before = snapshot(tmp_path)
    rename, count = Path.rename, [0]

    def interrupted(self, target):
        count[0] += 1
        if count[0] == 6:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made(rows=6).save(tmp_path / "out", "film", formats=("npz",), overwrite=True)
    assert snapshot(tmp_path) == before


def test_a_target_under_a_file_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot be made or written to"):
        check_target(tmp_path / "file" / "out", "film", None, overwrite=True)


def test_a_response_of_unknown_origin_is_not_replaced_unasked(tmp_path):
    made(checksum=None).save(tmp_path, "film")
    with pytest.raises(InputError, match="--overwrite"):
        made(checksum=None).save(tmp_path, "film")
