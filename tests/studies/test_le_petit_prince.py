"""Le Petit Prince: its layout, which run is which section, its words, damage to it."""

from __future__ import annotations

import json
import pickle
import re
import shutil

import numpy as np
import pytest

from testing_makers import LPP_PEOPLE, LPP_VOLUMES, LPP_WORDS, lpp_bold, make_lpp, write_ramp
from tribrain.brain.meshes import surface
from tribrain.errors import InputError
from tribrain.studies.le_petit_prince import (
    SOUND,
    VOLUMES,
    LePetitPrince,
    read_section,
    sections,
)
from tribrain.studies.prepared_files import keep_source, make_source
from tribrain.studies.runs import sort_out


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_lpp(tmp_path_factory.mktemp("lpp"))


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "ds003643")


def found(folder, **options):
    return sort_out(LePetitPrince(folder, mesh="fsaverage3", **options).runs())


def test_volumes_cover_the_sound_and_are_those_of_the_readme():
    for language, volumes in VOLUMES.items():
        assert volumes == LPP_VOLUMES[language]
        for count, seconds in zip(volumes, SOUND[language], strict=True):
            assert 0 <= 2 * count - seconds < 12


def test_runs_in_order_are_the_sections(made):
    runs, problems = found(made)
    assert [problem for problem in problems if problem.fatal] == []
    assert len(runs) == 27
    for person, numbers in LPP_PEOPLE.items():
        own = [run for run in runs if run.subject == person]
        assert [run.name for run in own] == [
            f"sub-{person}_task-lpp{person[:2]}_run-{number}" for number in numbers
        ]
        assert [run.shown[0].group for run in own] == [f"le-petit-prince-{n}" for n in range(1, 10)]
        assert [run.shown[0].duration for run in own] == list(SOUND[person[:2]])
        assert {(run.shown[0].onset, run.repetition_time) for run in own} == {(0.0, 2.0)}


def test_languages_share_the_groups_and_the_book_can_be_one(made):
    runs, _ = found(made)
    third = {run.shown[0].condition for run in runs if run.shown[0].group == "le-petit-prince-3"}
    assert third == {"EN", "CN", "FR"}
    runs, _ = found(made, whole_book=True)
    assert {run.shown[0].group for run in runs} == {"le-petit-prince"}


def test_volumes_come_to_the_vertices_they_surround(made):
    """The ramp to the right gives each vertex its own x, and so tells left from right."""
    runs, _ = found(made)
    run = runs[0]  # of CN001
    assert run.bold.template == "MNIColin27"
    series = run.bold.load()
    assert series.values.shape == (283, 1284)
    x = np.concatenate([surface("fsaverage3", side, "pial")[0][:, 0] for side in ("left", "right")])
    np.testing.assert_allclose(series.values, np.arange(283)[:, None] + 0.1 * x, atol=0.05)


@pytest.mark.parametrize(("person", "code"), [("EN057", "en"), ("FR001", "fr"), ("CN001", "zh")])
def test_words_of_a_section(made, person, code):
    runs, _ = found(made)
    own = [run for run in runs if run.subject == person]
    source = own[3].shown[0].source
    stimulus = source.open()
    assert tuple(word.text for word in stimulus.words) == LPP_WORDS[person[:2]]
    assert stimulus.words[2].start == pytest.approx(2.14)  # section 4
    assert stimulus.words[2].duration == pytest.approx(0.5)
    assert stimulus.language == code
    assert any("without a word: 1" in note for note in stimulus.notes)
    assert len({run.shown[0].source.content() for run in own}) == 9


def test_a_sound_that_is_missing_is_told_and_its_words_stay(made):
    runs, problems = found(made)
    silent = [str(problem) for problem in problems]
    assert len(silent) == 9  # the Chinese sounds are not in the copy
    assert silent[0] == (
        "task-lppCN_section-1: its sound is not in stimuli; it is heard as words alone"
    )
    chinese, english = runs[0].shown[0].source, runs[9].shown[0].source
    assert chinese.open().modalities == ("text",)
    assert chinese.duration() == SOUND["CN"][0]
    assert english.open().modalities == ("text", "audio")


def test_a_source_can_be_sent_to_a_process_and_kept_in_a_store(made, tmp_path):
    runs, _ = found(made)
    source = runs[12].shown[0].source  # section 4 in English
    kept = json.loads(json.dumps(keep_source(source, source.content(), tmp_path)))
    for again in (pickle.loads(pickle.dumps(source)), make_source(kept, tmp_path)):
        assert again.open().words == source.open().words
        assert again.content() == source.content()


@pytest.mark.parametrize(
    ("language", "present", "expected"),
    [
        ("EN", [0, 1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("EN", [1, 2, 4, 8], [2, 3, 5, 9]),
        ("EN", [5], [6]),
        # Sections 2 and 3 are of one length in Chinese, and so are 5 and 8.
        ("CN", [0, 2, 3], [1, None, 4]),
        ("CN", [1, 2], [2, 3]),
        ("CN", [3, 4], [4, None]),
        ("CN", [4, 5, 6, 8], [5, 6, 7, 9]),
    ],
)
def test_volumes_tell_the_sections_where_runs_are_missing(language, present, expected):
    assert sections([VOLUMES[language][n] for n in present], language) == expected


def test_a_run_too_many_is_none():
    assert sections([282] * 10, "EN") == [None] * 10


def damage(folder, how):
    """Spoil the third run of EN057."""
    path = lpp_bold(folder, "EN057", 17)
    table = folder / "annotation" / "EN" / "lppEN_word_information.csv"
    if how == "repetition time":
        write_ramp(path, 340, 2.5)
    elif how == "truncated":
        write_ramp(path, 300, 2.0)
    elif how == "no NIfTI":
        path.write_bytes(b"not a volume")
    elif how == "three dimensions":
        import nibabel as nib

        nib.Nifti1Image(np.zeros((3, 3, 3), np.float32), np.diag([9, 9, 9, 1.0])).to_filename(path)
    elif how == "words":
        rows = table.read_text().splitlines()
        row = next(n for n, text in enumerate(rows) if text.endswith(",3"))
        rows[row] = rows[row].replace(",0.13,", ",soon,")
        table.write_text("\n".join(rows))
    elif how == "no words":
        rows = [row for row in table.read_text().splitlines() if not row.endswith(",3")]
        table.write_text("\n".join(rows))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("repetition time", r"states a repetition time of 2\.5 s; the study measured every 2 s"),
        (
            "truncated",
            r"ends at 671\.4 s .* the 300 volumes of .* at 600\.0 s: cut",
        ),
        ("no NIfTI", r"cannot be read as NIfTI"),
        ("three dimensions", r"shape \(3, 3, 3\); a series has four dimensions"),
        ("words", r"word_information\.csv, row 14: onset 'soon' is not a time in seconds"),
        ("no words", r"has no words of section 3"),
    ],
)
def test_damaged_run_is_named_and_the_others_go_on(folder, how, said):
    damage(folder, how)
    runs, problems = found(folder)
    assert len(runs) == 26
    (problem,) = (problem for problem in problems if problem.fatal)
    assert problem.where == "sub-EN057_task-lppEN_run-17"
    assert re.search(said, problem.what)
    assert "\n" not in str(problem)


def test_a_missing_run_leaves_the_others_at_their_sections(folder):
    lpp_bold(folder, "EN057", 17).unlink()
    runs, _ = found(folder)
    own = [run.shown[0].group for run in runs if run.subject == "EN057"]
    assert own == [f"le-petit-prince-{n}" for n in (1, 2, 4, 5, 6, 7, 8, 9)]


def test_runs_whose_section_cannot_be_told_are_problems(folder):
    for number in (4, 5, 7, 9, 10, 11, 12, 13):  # of CN001, all but section 3
        lpp_bold(folder, "CN001", number).unlink()
    runs, problems = found(folder)
    assert len(runs) == 18
    (problem,) = (problem for problem in problems if problem.fatal)
    assert problem.where == "sub-CN001_task-lppCN_run-6"
    assert "do not tell which section this one of 322 is" in problem.what


def test_a_run_of_other_length_is_told_and_used(folder):
    write_ramp(lpp_bold(folder, "EN057", 17), 342, 2.0)
    runs, problems = found(folder)
    assert len(runs) == 27
    told = [str(problem) for problem in problems if "volumes" in problem.what]
    assert told == ["sub-EN057_task-lppEN_run-17: 342 volumes, and section 3 has 340 by the README"]


def test_one_run_twice_is_used_once(folder):
    path = lpp_bold(folder, "EN057", 17)
    again = shutil.copy(path, path.with_name(path.name.replace("run-17", "run-017")))
    runs, problems = found(folder)
    assert len(runs) == 27
    (problem,) = (problem for problem in problems if problem.fatal)
    assert {str(problem)} <= {
        f"{one.name}: is that run once more; the first file is used" for one in (path, again)
    }


def test_a_person_with_ten_runs_is_a_problem(folder):
    path = lpp_bold(folder, "EN057", 17)
    shutil.copy(path, path.with_name(path.name.replace("run-17", "run-24")))
    runs, problems = found(folder)
    assert len(runs) == 18
    fatal = [str(problem) for problem in problems if problem.fatal]
    assert len(fatal) == 10
    assert "10 runs of EN057, and their volumes do not tell which section this one" in fatal[0]


def test_volumes_without_values_stay_nan(folder):
    write_ramp(lpp_bold(folder, "EN057", 15), 282, 2.0, nan=7)
    runs, _ = found(folder)
    (run,) = (run for run in runs if run.name == "sub-EN057_task-lppEN_run-15")
    values = run.bold.load().values
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(values).any(1)), [7])
    assert np.isnan(values[7]).all()


def test_a_file_cut_short_is_an_error_when_it_is_loaded(folder):
    path = lpp_bold(folder, "EN057", 15)
    path.write_bytes(path.read_bytes()[:-5000])
    runs, _ = found(folder)
    (run,) = (run for run in runs if run.name == "sub-EN057_task-lppEN_run-15")
    with pytest.raises(InputError, match="run-15_space-MNIColin27"):
        run.bold.load()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("word,onset,section\na,1,1\n", r"has no column offset; it has: word, onset, section"),
        ("word,onset,offset,section\na,1,2,10\n", r"row 2: section '10'; 1 to 9 fit"),
        ("word,onset,offset,section\na,1,2,12\n", r"row 2: section '12'; 1 to 9 fit"),
        ("word,onset,offset,section\na,1,2,\n", r"row 2: section ''; 1 to 9 fit"),
        ("word,onset,offset,section\na,1,2\n", r"row 2: 3 cells; the header has 4"),
        ("word,onset,offset,section\na,2,1,1\n", r"row 2: the offset 1 s lies before the onset"),
        ("", r"is empty"),
    ],
)
def test_damaged_table_of_words_is_refused(tmp_path, content, said):
    path = tmp_path / "words.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=said):
        read_section(path, 1)


def test_an_empty_folder_and_a_strange_name(folder, tmp_path):
    (tmp_path / "none").mkdir()
    runs, (problem,) = found(tmp_path / "none")
    assert runs == []
    assert "holds no derivatives/sub-*/func" in str(problem)
    path = lpp_bold(folder, "EN057", 17)
    path.rename(path.with_name(path.name.replace("_run-17", "")))
    runs, problems = found(folder)
    assert len(runs) == 26
    assert any("is no sub-LLnnn_task-lppLL_run-n" in str(problem) for problem in problems)
