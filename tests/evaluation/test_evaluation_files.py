"""Evaluations in folders: what is written is read back, by other tools too, or refused."""

from __future__ import annotations

import dataclasses
import gzip
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from safetensors.numpy import load_file

from evaluation_makers import make_evaluation
from tribrain.brain.spaces import Space, Voxels, join, mesh_space, voxel_space
from tribrain.errors import InputError
from tribrain.evaluation import evaluation_files
from tribrain.evaluation.evaluation import TABLES, Evaluation, role
from tribrain.evaluation.evaluation_files import (
    DESCRIPTION,
    check_target,
    is_evaluation,
    load,
    save,
)
from tribrain.files import sha256

WAYS = ("model", "model, unseen", "nuisance")
FILES = ("scores.tsv", "summary.tsv", "regions.tsv", "splits.tsv", "moments.tsv.gz",
         "maps.safetensors", "space.json")  # fmt: skip


def small(space: Space | str | None = "parcels", **more) -> Evaluation:
    return make_evaluation(
        space, **{"people": 2, "rows": 20, "films": ("a", "b"), "ways": WAYS} | more
    )


def voxels() -> Space:
    indices = np.array([(1, 2, 3), (0, 1, 1), (3, 3, 3), (2, 0, 1)])
    return voxel_space(Voxels("MNI152NLin6Asym", (4, 4, 5), np.diag([3.0, 3, 3, 1]), indices))


def grayordinates() -> Space:
    return join(mesh_space("fsaverage3"), voxels())


def same(one: Evaluation, other: Evaluation) -> None:
    for name in TABLES:
        a, b = getattr(one, name).reset_index(drop=True), getattr(other, name)
        assert_frame_equal(a, b, check_dtype=False, rtol=1e-8, atol=0)
    assert set(one.maps) == set(other.maps)
    for name, values in one.maps.items():
        np.testing.assert_array_equal(values, other.maps[name])
    assert one.told == other.told


@pytest.mark.parametrize(
    "space",
    ["fsaverage3", "parcels", None, voxels(), grayordinates()],
    ids=["surface", "parcels", "plain", "voxels", "grayordinates"],
)
def test_round_trip(tmp_path: Path, space: Space | str | None) -> None:
    made = small(space)
    assert save(made, tmp_path / "e") == tmp_path / "e"
    found = load(tmp_path / "e")
    same(made, found)
    if made.space is None:
        assert found.space is None
    else:
        assert found.space is not None
        assert dataclasses.asdict(found.space).keys() == dataclasses.asdict(made.space).keys()
        assert (found.space.name, found.space.size) == (made.space.name, made.space.size)
        assert found.space.parcels == made.space.parcels
        assert found.space.voxels == made.space.voxels
    assert not [path for path in tmp_path.iterdir() if path.name != "e"]


def test_saving_again_gives_the_same_bytes(tmp_path: Path) -> None:
    made = small("fsaverage3")
    for name in ("one", "two"):
        save(made, tmp_path / name, report="<p>page</p>")
    save(load(tmp_path / "one"), tmp_path / "three", report="<p>page</p>")
    files = {p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file()}
    assert len(files) > 20
    for name in ("two", "three"):
        assert [file for file in sorted(files)
                if (tmp_path / name / file).read_bytes() != (tmp_path / "one" / file).read_bytes()
                ] == []  # fmt: skip


def test_other_tools_read_the_tables(tmp_path: Path) -> None:
    made = small()
    save(made, tmp_path)
    table = pd.read_csv(tmp_path / "summary.tsv", sep="\t", na_values="n/a")
    np.testing.assert_allclose(table["r"], made.summary["r"], rtol=1e-8)
    assert "n/a" in (tmp_path / "summary.tsv").read_text()
    moments = gzip.decompress((tmp_path / "moments.tsv.gz").read_bytes()).decode().splitlines()
    assert len(moments) == len(made.moments) + 1
    assert moments[0].split("\t") == list(made.moments.columns)
    maps = pd.read_csv(tmp_path / "maps.tsv", sep="\t")
    assert list(maps["parcel"]) == list(made.space.parcels)
    np.testing.assert_allclose(maps["model/r"], made.maps["model/r"], rtol=1e-5)
    assert not any(column.endswith("/null") for column in maps.columns)
    arrays = load_file(tmp_path / "maps.safetensors")
    assert arrays["ceiling"].dtype == np.float32


def test_other_tools_read_the_maps(tmp_path: Path) -> None:
    made = small("fsaverage3")
    save(made, tmp_path)
    for side, half in (("L", slice(0, 642)), ("R", slice(642, 1284))):
        stem = f"hemi-{side}_space-fsaverage3_stat-r_desc-modelUnseen_boldmap"
        image = nib.load(tmp_path / "maps" / f"{stem}.func.gii")
        np.testing.assert_array_equal(
            image.darrays[0].data, made.maps["model, unseen/r"][half].astype(np.float32)
        )
        assert image.darrays[0].meta["Name"] == "r of model, unseen"
        assert json.loads((tmp_path / "maps" / f"{stem}.json").read_text())["Description"]
        assert (
            tmp_path / "maps" / f"hemi-{side}_space-fsaverage3_stat-ceiling_boldmap.json"
        ).exists()
    assert not list((tmp_path / "maps").glob("*null*"))


def test_maps_of_voxels_lie_where_they_are(tmp_path: Path) -> None:
    made = small(grayordinates())
    save(made, tmp_path)
    (file,) = (tmp_path / "maps").glob("*stat-r_desc-model_boldmap.nii.gz")
    volume = np.squeeze(np.asarray(nib.load(file).dataobj))
    indices = tuple(made.space.voxels.indices.T)
    np.testing.assert_allclose(volume[indices], made.maps["model/r"][1284:], rtol=1e-6)
    assert len(list((tmp_path / "maps").glob("*stat-r_desc-model_boldmap.func.gii"))) == 2


def test_ways_of_alike_names_have_files_of_their_own(tmp_path: Path) -> None:
    made = small("fsaverage3")
    values = made.maps["model/r"]
    names = ("a b", "aB", "a, b", "日本", "中国", "fir")
    maps = {f"{name}/r": values + number for number, name in enumerate(names)}
    save(dataclasses.replace(made, maps=maps), tmp_path)
    files = sorted((tmp_path / "maps").glob("*hemi-L*.func.gii"))
    assert len({file.name.lower() for file in files}) == len(names)
    found = {
        nib.load(file).darrays[0].meta["Name"]: nib.load(file).darrays[0].data[0] for file in files
    }
    expected = {f"r of {name}": np.float32(values[0] + k) for k, name in enumerate(names)}
    assert found == expected


def test_names_that_look_like_something_else(tmp_path: Path) -> None:
    made = small()
    nasty = ["007", "n/a", "nan", "", "1e5", 'a "quoted"\tname', "line\nbreak", "# no comment"]
    scores = pd.concat([made.scores.iloc[:1]] * len(nasty), ignore_index=True)
    scores["subject"] = nasty
    scores["normalised"] = [np.nan, 1.0, -0.5, np.nan, 0.1, 0.2, 0.3, 1e-12]
    scores["extra"] = [True, False] * 4
    save(dataclasses.replace(made, scores=scores), tmp_path)
    found = load(tmp_path).scores
    assert list(found["subject"]) == nasty
    assert_frame_equal(found, scores, check_dtype=False, rtol=1e-8)
    assert found["extra"].dtype == bool


def test_columns_of_objects_become_numbers_and_texts(tmp_path: Path) -> None:
    made = small()
    summary = made.summary.astype({"p": object, "significant": object})
    summary.loc[0, "p"] = None
    summary.loc[1, "significant"] = np.nan
    scores = made.scores.assign(group=[1] * len(made.scores))
    save(dataclasses.replace(made, summary=summary, scores=scores), tmp_path)
    found = load(tmp_path)
    assert np.isnan(found.summary["p"][0])
    assert np.isnan(found.summary["significant"][1])
    assert found.summary["significant"][0] == made.summary["significant"][0]
    assert set(found.scores["group"]) == {"1"}


def test_told_becomes_plain_data(tmp_path: Path) -> None:
    made = small()
    told = made.told | {
        "a": np.float32(0.5), "b": np.arange(3), "c": float("inf"), "d": {"x": (1, float("nan"))},
        "e": {"q", "p"}, "f": Path("x"), "g": np.int64(3), "h": None,
    }  # fmt: skip
    save(dataclasses.replace(made, told=told), tmp_path)
    found = load(tmp_path).told
    assert (found["a"], found["b"], found["c"], found["d"]) == (
        0.5,
        [0, 1, 2],
        None,
        {"x": [1, None]},
    )
    assert (found["e"], found["f"], found["g"], found["h"]) == (["p", "q"], "x", 3, None)
    assert "NaN" not in (tmp_path / DESCRIPTION).read_text()


def test_an_evaluation_without_rows(tmp_path: Path) -> None:
    made = small()
    empty = dataclasses.replace(
        made, regions=made.regions.iloc[:0], moments=made.moments.iloc[:0],
        told=made.told | {"splits": []},
    )  # fmt: skip
    save(empty, tmp_path)
    found = load(tmp_path)
    assert (len(found.regions), len(found.moments), found.told["splits"]) == (0, 0, [])
    assert list(found.moments.columns) == list(made.moments.columns)


def test_an_evaluation_is_replaced_only_if_asked(tmp_path: Path) -> None:
    folder = tmp_path / "e"
    save(small("fsaverage3"), folder, report="first")
    before = sorted(path.name for path in folder.rglob("*"))
    with pytest.raises(InputError, match="holds an evaluation already"):
        save(small(), folder)
    assert sorted(path.name for path in folder.rglob("*")) == before
    (folder / ".work").mkdir()
    save(small(), folder, overwrite=True)
    names = {path.name for path in folder.iterdir()}
    assert ".work" in names
    assert not names & {"maps", "report.html"}
    assert load(folder).space.parcels


@pytest.mark.parametrize("name", ["photo.jpg", "summary.tsv", "evaluation.json"])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="holds something else") as error:
            save(small(), tmp_path, overwrite=overwrite)
        assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "{}"


def test_a_file_is_no_target(tmp_path: Path) -> None:
    (tmp_path / "e").write_text("")
    for target in (tmp_path / "e", tmp_path / "e" / "below"):
        with pytest.raises(InputError):
            check_target(target)


def test_nothing_is_left_of_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "e"
    made = small()
    save(made, folder)

    def fail(*arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(evaluation_files, "_write_maps", fail)
    with pytest.raises(OSError, match="no space"):
        save(small(gains={"model": 0.1}), folder, overwrite=True)
    with pytest.raises(OSError, match="no space"):
        save(made, tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["e"]
    same(made, load(folder))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(small("fsaverage3"), tmp_path_factory.mktemp("saved") / "e")


def one_line(error: pytest.ExceptionInfo[InputError], *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "empty"])
def test_damage_is_told(saved: Path, tmp_path: Path, name: str, damage: str) -> None:
    folder = shutil.copytree(saved, tmp_path / "e")
    file = folder / name
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        middle = len(content) // 2
        changed = {
            "cut": content[:-7],
            "changed": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "empty": b"",
        }
        file.write_bytes(changed[damage])
    with pytest.raises(InputError) as error:
        load(folder)
    one_line(error, name, "damaged")
    assert is_evaluation(folder)


@pytest.mark.parametrize("name", FILES)
def test_damage_that_the_checksum_does_not_tell(saved: Path, tmp_path: Path, name: str) -> None:
    """Whoever writes such a folder by hand is told in a line as well."""
    folder = shutil.copytree(saved, tmp_path / "e")
    (folder / name).write_bytes(b"\x00\xff what is this\n1\t2\n")
    description = json.loads((folder / DESCRIPTION).read_text())
    description["files"][name] = sha256(folder / name)
    (folder / DESCRIPTION).write_text(json.dumps(description))
    with pytest.raises(InputError) as error:
        load(folder)
    one_line(error, "damaged")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda told: told.update(format="tribrain-evaluation-99"), "tribrain-evaluation-99"),
        (lambda told: told.pop("format"), "tribrain-evaluation-1"),
        (lambda told: told.pop("files"), "files"),
        (lambda told: told.update(told=[1]), "told"),
        (lambda told: told["columns"].pop("scores.tsv"), "damaged"),
        (lambda told: told["columns"]["scores.tsv"].update(r="shell"), "damaged"),
        (lambda told: told["columns"]["scores.tsv"].pop("r"), "lacks 'r'"),
        (lambda told: told["files"].pop("maps.safetensors"), "maps.safetensors"),
    ],
    ids="format no-format files told columns kind column maps".split(),
)
def test_a_description_that_is_wrong(saved: Path, tmp_path: Path, change, words: str) -> None:
    folder = shutil.copytree(saved, tmp_path / "e")
    description = json.loads((folder / DESCRIPTION).read_text())
    change(description)
    (folder / DESCRIPTION).write_text(json.dumps(description))
    with pytest.raises(InputError) as error:
        load(folder)
    one_line(error, words)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_description_that_is_none(saved: Path, tmp_path: Path, content: bytes) -> None:
    folder = shutil.copytree(saved, tmp_path / "e")
    (folder / DESCRIPTION).write_bytes(content)
    with pytest.raises(InputError) as error:
        load(folder)
    one_line(error, DESCRIPTION)


def test_no_evaluation(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match="holds no evaluation"):
            load(folder)
        assert not is_evaluation(folder)


def test_an_evaluation_is_checked_when_it_is_made() -> None:
    made = small()
    with pytest.raises(InputError, match="lacks 'R_group'"):
        dataclasses.replace(made, summary=made.summary.drop(columns="R_group"))
    with pytest.raises(InputError, match=r"fir/r .* \(42,\) fits"):
        dataclasses.replace(made, maps={"fir/r": np.zeros(41)})
    with pytest.raises(InputError, match="fits"):
        dataclasses.replace(made, space=None, maps={"a": np.zeros(3), "b": np.zeros(4)})
    with pytest.raises(InputError, match=r"'fri' .* model, model, unseen, nuisance"):
        made.row("fri")


def test_ways_have_roles_and_floors() -> None:
    made = small()
    assert made.ways == WAYS
    names = ("model", "model, unseen", "nuisance", "people", "shifted", "fir")
    roles = ("model", "model", "floor", "reference", "control", "baseline")
    assert tuple(map(role, names)) == roles
    assert made.floor("model")["r"] == made.row("nuisance")["r"]
    other = dataclasses.replace(made, told=made.told | {"floors": {"model": "model, unseen"}})
    assert other.floor("model")["way"] == "model, unseen"
    assert other.floor("model, unseen") is None
    assert small(ways=("model",)).floor("model") is None
