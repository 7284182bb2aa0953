"""NNDb: its layout, its films and words, damage to it."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from testing_makers import (
    NNDB_PEOPLE,
    NNDB_VOLUMES,
    make_nndb,
    nndb_bold,
    write_film,
    write_ramp,
)
from tribrain.brain.meshes import surface
from tribrain.errors import InputError
from tribrain.studies.nndb import FILMS, Nndb, read_words
from tribrain.studies.runs import sort_out


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_nndb(tmp_path_factory.mktemp("nndb"))


@pytest.fixture
def folder(made, tmp_path):
    """A copy whose volumes are those of the original, as they are large."""
    copy = tmp_path / "ds002837"
    shutil.copytree(made / "stimuli", copy / "stimuli")
    for person in NNDB_PEOPLE:
        path = nndb_bold(copy, person)
        path.parent.mkdir(parents=True)
        path.symlink_to(nndb_bold(made, person))
    return copy


def found(folder, **options):
    return sort_out(Nndb(folder, mesh="fsaverage3", **options).runs())


def test_every_person_has_a_film(made):
    runs, problems = found(made)
    assert problems == []
    assert {run.name: run.bold.header() for run in runs} == {
        f"sub-{person}_task-{film}": (NNDB_VOLUMES[film], 1.0)
        for person, film in NNDB_PEOPLE.items()
    }
    for run in runs:
        (shown,) = run.shown
        assert (shown.onset, shown.duration, shown.group) == (0.0, FILMS[run.task], run.task)
        assert (run.repetition_time, run.bold.template) == (1.0, "MNIColin27")
    assert len({run.shown[0].source.content() for run in runs}) == 2
    assert runs[0].shown[0].source is runs[1].shown[0].source


def test_volumes_come_to_the_vertices_they_surround(made):
    runs, _ = found(made)
    series = runs[1].bold.load()  # the second person
    assert series.values.shape == (5470, 1284)
    x = np.concatenate([surface("fsaverage3", side, "pial")[0][:, 0] for side in ("left", "right")])
    expected = 100 + np.arange(5470)[::600, None] + 0.1 * x
    np.testing.assert_allclose(series.values[::600], expected, atol=0.05)


def test_words_alone_last_as_long_as_the_film(made):
    runs, _ = found(made)
    stimulus = runs[2].shown[0].source.open()
    assert stimulus.duration == 5900
    assert [word.text for word in stimulus.words] == ["this", "is", "a", "littlemisssunshine"]
    assert (stimulus.words[3].start, stimulus.words[3].duration) == (5000.5, 0.75)
    assert stimulus.modalities == ("text",)


def test_a_film_of_another_length_is_told(folder, tmp_path):
    film = write_film(tmp_path / "films" / "500daysofsummer.mkv", 12)
    runs, (problem,) = found(folder, films=tmp_path / "films")
    assert len(runs) == 3
    assert not problem.fatal
    assert re.match(
        r"task-500daysofsummer: 500daysofsummer\.mkv lasts 2\.\d* s, and what was shown 5470 s; "
        r"another cut or speed",
        str(problem),
    )
    source = runs[0].shown[0].source
    assert source.files == (film, folder / "stimuli/task-500daysofsummer_word-annotation.1D")
    with_film = source.open()
    assert with_film.modalities == ("video",)
    assert "left out, as they start after the end: 4 of 4 words" in with_film.notes
    assert runs[2].shown[0].source.medium is None


def test_other_derivatives_are_asked_for_by_kind(folder):
    write_ramp(nndb_bold(folder, "63", "blur_no_censor_ica"), 5900, 1.0)
    runs, _ = found(folder, kind="blur_no_censor_ica")
    assert [run.name for run in runs] == ["sub-63_task-littlemisssunshine"]
    with pytest.raises(InputError, match="kind 'blur_censor' is unknown; known: no_blur_no_censor"):
        Nndb(folder, kind="blur_censor")


def damage(folder, how):
    """Spoil the run of person 63."""
    path = nndb_bold(folder, "63")
    words = folder / "stimuli" / "task-littlemisssunshine_word-annotation.1D"
    path.unlink()
    if how == "repetition time":
        write_ramp(path, 5900, 1.5)
    elif how == "truncated":
        write_ramp(path, 4000, 1.0)
    elif how == "no NIfTI":
        path.write_bytes(b"")
    else:
        write_ramp(path, 5900, 1.0)
    if how == "no words":
        words.unlink()
    elif how == "short row":
        words.write_text(words.read_text() + "end 5100.2\n")
    elif how == "no time":
        words.write_text(words.read_text().replace("3.6", "x"))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("repetition time", r"states a repetition time of 1\.5 s; the study measured every 1 s"),
        (
            "truncated",
            r"ends at 5900\.0 s .* the 4000 volumes of .* at 4000\.0 s",
        ),
        ("no NIfTI", r"cannot be read as NIfTI"),
        ("no words", r"neither stimuli/task-littlemisssunshine_word-annotation\.1D nor a film"),
        ("short row", r"annotation\.1D, row 5: 'end 5100\.2'; word, onset and offset fit"),
        ("no time", r"annotation\.1D, row 2: offset 'x' is not a time in seconds"),
    ],
)
def test_damaged_run_is_named_and_the_others_go_on(folder, how, said):
    damage(folder, how)
    runs, problems = found(folder)
    assert [run.subject for run in runs] == ["1", "2"]
    (problem,) = problems
    assert (problem.where, problem.fatal) == ("sub-63_task-littlemisssunshine", True)
    assert re.search(said, problem.what)
    assert "\n" not in str(problem)


def test_a_link_to_nothing_is_a_missing_file(folder):
    path = nndb_bold(folder, "63")
    path.unlink()
    path.symlink_to(folder / "nowhere.nii.gz")  # as git-annex leaves what was not fetched
    runs, (problem,) = found(folder)
    assert len(runs) == 2
    assert re.search(r"sub-63_task-littlemisssunshine: recording .* does not exist", str(problem))


def test_a_run_in_two_files_is_used_once(folder, made):
    again = nndb_bold(folder, "63")
    again = again.with_name(again.name.removesuffix(".gz"))
    write_ramp(again, 5900, 1.0)
    runs, (problem,) = found(folder)
    assert len(runs) == 3
    assert str(problem) == ("sub-63_task-littlemisssunshine: is there twice; the first one is used")


def test_unknown_film_and_an_empty_folder(folder, tmp_path):
    path = nndb_bold(folder, "63")
    path.rename(path.with_name(path.name.replace("littlemisssunshine", "jaws")))
    runs, (problem,) = found(folder)
    assert len(runs) == 2
    assert "is of no known film; known: 12yearsaslave, 500daysofsummer" in str(problem)
    runs, (problem,) = found(tmp_path / "none")
    assert runs == []
    assert "holds no derivatives/sub-*/func" in str(problem)


def test_words_without_times_are_noted(tmp_path):
    path = tmp_path / "words.1D"
    path.write_text("one 1 2\ntwo nan nan\n\nthree 4 5\n")
    words, notes = read_words(path)
    assert [(word.text, word.start, word.source) for word in words] == [
        ("one", 1.0, "transcript"),
        ("two", 2.0, "interpolated"),
        ("three", 4.0, "transcript"),
    ]
    assert len(notes) == 1
