"""BIDS with fMRIPrep derivatives: read whole, in every space, and damaged in every way."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_makers import (
    FMRIPREP,
    PEOPLE,
    SOUNDS,
    TR,
    VOLUMES,
    N,
    bold_values,
    make_bids,
    make_events,
    make_sound,
    make_surfaces,
    make_volume,
    sidecar_of,
    surface_path,
    write_json,
)
from tribrain.brain.cifti_files import write_dtseries
from tribrain.brain.spaces import mesh_space
from tribrain.brain.surface_files import write_gifti
from tribrain.errors import InputError, InputWarning
from tribrain.studies.bids import BidsStudy
from tribrain.studies.bids_bold import best_files
from tribrain.studies.bids_events import TRANSCRIPTS, Showing, read_events
from tribrain.studies.bids_layout import in_order, parse_name
from tribrain.studies.runs import sort_out

NAMES = [f"sub-{person}_task-listen_run-{number}" for person in PEOPLE for number in (1, 2)]
RUN = NAMES[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_bids(tmp_path_factory.mktemp("bids") / "data")


@pytest.fixture
def folder(made, tmp_path):
    """A copy that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "data", symlinks=True))


def read(folder, **options):
    return sort_out(BidsStudy(folder, mesh="fsaverage3", **options).runs())


def func(folder, person="01"):
    return folder / f"sub-{person}" / "func"


def prepared(folder, person="01"):
    return folder / FMRIPREP / f"sub-{person}" / "func"


def events(folder, number=1, person="01"):
    return func(folder, person) / f"sub-{person}_task-listen_run-{number:02d}_events.tsv"


def link(path, target):
    try:
        path.symlink_to(target)
    except OSError:
        pytest.skip("links need more rights here")


# The whole data set


def test_every_run_is_read_as_it_is(made):
    runs, problems = read(made)
    assert problems == []
    assert [run.name for run in runs] == NAMES
    for run in runs:
        number = int(run.number)
        film = list(SOUNDS)[number - 1]
        series = run.bold.load()
        np.testing.assert_array_equal(series.values, bold_values(run.subject, number))
        assert (series.space.name, series.repetition_time, series.start) == ("fsaverage3", TR, 0)
        assert run.repetition_time == TR
        (shown,) = run.shown
        assert shown.source.path == made / "stimuli" / f"{film}.wav"
        assert (shown.onset, shown.duration) == (2.0 * number, SOUNDS[film])
        assert (shown.group, shown.condition, shown.start) == (film, "story", 0.0)
        assert run.confounds.name == f"{run.name}_desc-confounds_timeseries.tsv"


def test_files_are_those_that_nilearn_finds(made):
    from nilearn.interfaces.bids import get_bids_files

    runs, _ = read(made)
    for ending, files in {
        "func.gii": [path for run in runs for path in run.bold.files],
        "tsv": [run.confounds for run in runs],
    }.items():
        tag = "bold" if ending == "func.gii" else "timeseries"
        found = get_bids_files(made / FMRIPREP, file_tag=tag, file_type=ending)
        assert sorted(map(str, files)) == sorted(found)


def test_hemispheres_do_not_swap(made):
    runs, _ = read(made)
    values = runs[0].bold.load().values
    assert values[:, :N].mean() < 1 < 99 < values[:, N:].mean()


def test_transcript_beside_a_stimulus_gives_its_words(made):
    runs, _ = read(made)
    stimulus = runs[0].shown[0].source.open()
    assert [word.text for word in stimulus.words] == ["the", "boat"]
    assert stimulus.duration == pytest.approx(20.0)
    assert runs[1].shown[0].source.options == {}


def test_study_says_what_it_is(made):
    study = BidsStudy(made)
    assert (study.name, study.licence) == ("Harboursounds", "CC0")
    assert study.citation == "Someone et al. 2020; doi:10.0000/nothing"
    assert BidsStudy(made, label="harbour").name == "harbour"
    assert next(BidsStudy(made, label="harbour", mesh="fsaverage3").runs()).study == "harbour"


@pytest.mark.parametrize(
    ("options", "names", "missing"),
    [
        ({"subjects": ("02",)}, NAMES[2:], []),
        ({"subjects": "sub-02, 01"}, NAMES, []),
        ({"tasks": "rest,listen"}, NAMES, ["task-rest"]),
        ({"tasks": ("list",)}, [], ["task-list"]),
        ({"subjects": ("0",)}, [], ["sub-0"]),
        ({"stimuli": {"film": ("a.mp4", 0.0)}}, NAMES, ["task-film"]),
    ],
)
def test_people_and_tasks_are_chosen_by_whole_labels(made, options, names, missing):
    runs, problems = read(made, **options)
    assert [run.name for run in runs] == names
    assert [(p.where, p.what) for p in problems] == [
        (where, "has no BOLD in the data set") for where in missing
    ]


def test_a_study_can_be_changed(made, monkeypatch):
    monkeypatch.chdir(made.parent)
    study = BidsStudy(Path(made.name), derivatives=FMRIPREP, mesh="fsaverage3")
    changed = replace(study, subjects=("02",))
    assert [run.name for run in changed.runs()] == NAMES[2:]


# Names


@pytest.mark.parametrize(
    "name",
    [
        "bold.nii.gz",
        "sub-01_bold",
        "sub-01_sub-02_bold.nii",
        "sub_01_bold.nii",
        "sub-01_task-a-b_bold.nii",
        "sub-01_task-_bold.nii",
        "sub-01_Task-a_bold.nii",
        "sub-01 (copy)_bold.nii",
        "._sub-01_bold.nii",
        "sub-01_task-a_bold_copy 2.nii",
    ],
)
def test_what_is_no_name_of_bids_is_not_guessed_at(name):
    assert parse_name(Path(name)) is None


@given(
    st.lists(
        st.sampled_from("sub ses task acq dir hemi space desc".split()), unique=True, min_size=1
    ),
    st.text("abcXYZ019+", min_size=1),
    st.integers(0, 500),
    st.integers(0, 4),
)
def test_names_are_read_back(entities, value, number, zeros):
    pairs = dict.fromkeys(entities, value)
    written = "_".join(f"{entity}-{value}" for entity in pairs)
    found = parse_name(Path(f"{written}_run-{'0' * zeros}{number}_bold.dtseries.nii"))
    assert found.entities == pairs | {"run": str(number)}
    assert (found.suffix, found.extension) == ("bold", ".dtseries.nii")


def test_run_two_comes_before_run_ten():
    keys = [parse_name(Path(f"sub-1_task-a_run-{n}_bold.nii")).key for n in (10, 2, 1)]
    assert [key[-1] for key in in_order(keys)] == ["1", "2", "10"]


# Spaces


def files_of(*names):
    found = [parse_name(Path(f"sub-1_task-a_{name}")) for name in names]
    assert None not in found
    return found


def surfaces(space):
    return [f"hemi-{side}_space-{space}_bold.func.gii" for side in "RL"]


IN_ORDER = [
    surfaces("fsaverage5"),
    surfaces("fsaverage6"),
    surfaces("fsaverage"),
    ["space-fsLR_den-91k_bold.dtseries.nii"],
    ["space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"],
    ["space-MNI152NLin6Asym_res-2_desc-preproc_bold.nii.gz"],
]
OTHERS = [
    "space-T1w_desc-preproc_bold.nii.gz",
    "space-fsnative_hemi-L_bold.func.gii",
    "echo-1_space-MNI152NLin6Asym_desc-preproc_bold.nii.gz",
    "part-phase_space-MNI152NLin6Asym_desc-preproc_bold.nii.gz",
    "space-MNI152NLin6Asym_desc-smoothAROMAnonaggr_bold.nii.gz",
    "space-MNI152NLin6Asym_bold.nii.gz",
    "space-MNI152NLin6Asym_desc-preproc_bold.json",
    "space-MNI152NLin6Asym_desc-brain_mask.nii.gz",
    "space-MNI152NLin6Asym_boldref.nii.gz",
]


@pytest.mark.parametrize("first", range(len(IN_ORDER)))
def test_the_first_space_of_the_order_is_taken(first):
    names = [name for kind in reversed(IN_ORDER[first:]) for name in kind]
    chosen = best_files(files_of(*names, *OTHERS))
    # The left hemisphere comes first, whatever the order of the files.
    assert [f.path.name for f in chosen] == [f"sub-1_task-a_{n}" for n in IN_ORDER[first][::-1]]


@pytest.mark.parametrize(
    "space", ["fsaverage6", "fsLR", "fsLR:den-91k", "MNI152NLin6Asym", "MNI152NLin6Asym:res-2"]
)
def test_a_space_can_be_asked_for(space):
    chosen = best_files(files_of(*OTHERS, *(name for kind in IN_ORDER for name in kind)), space)
    assert {file.entities["space"] for file in chosen} == {space.split(":")[0]}


def test_spaces_that_do_not_fit_are_named():
    with pytest.raises(InputError, match=r"no BOLD in a space that fits; it has: T1w, fsnative"):
        best_files(files_of(*OTHERS[:2]))
    with pytest.raises(InputError, match=r"no BOLD in space fsaverage6; it has: fsLR:den-91k"):
        best_files(files_of(*IN_ORDER[3]), "fsaverage6")


def test_two_resolutions_are_not_chosen_between():
    both = files_of(
        "space-MNI152NLin6Asym_res-2_desc-preproc_bold.nii.gz",
        "space-MNI152NLin6Asym_desc-preproc_bold.nii.gz",
    )
    with pytest.raises(InputError, match=r"as MNI152NLin6Asym and as MNI152NLin6Asym:res-2; say"):
        best_files(both)
    assert best_files(both, "MNI152NLin6Asym:res-2") == both[:1]


def test_volumes_are_projected(folder):
    name = f"{RUN}_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"
    make_volume(prepared(folder) / name)
    runs, problems = read(folder, space="MNI152NLin2009cAsym", subjects=("01",))
    assert [problem.where for problem in problems] == [NAMES[1]]
    (run,) = runs
    assert run.repetition_time == TR
    values = run.bold.load().values
    assert values.shape == (VOLUMES, 2 * N)
    # The volumes hold x in mm, and 10 more in each.
    assert values[0, :N].mean() < -20 < 20 < values[0, N:].mean()
    np.testing.assert_allclose(values[3] - values[0], 30, atol=1e-3)


def test_cifti_is_taken_to_the_mesh_without_its_voxels(folder):
    for path in prepared(folder).glob("*_run-1_hemi-*.gii"):
        path.unlink()
    values = bold_values("01", 7)
    path = prepared(folder) / f"{RUN}_space-fsLR_den-91k_bold.dtseries.nii"
    write_dtseries(path, values, mesh_space("fsaverage3"), repetition_time=TR, start=0)
    runs, problems = read(folder)
    assert (problems, [run.name for run in runs]) == ([], NAMES)
    np.testing.assert_allclose(runs[0].bold.load().values, values, rtol=1e-6)
    runs, problems = read(folder, repetition_time=1.25)
    series = runs[0].bold.load()
    assert (series.repetition_time, runs[0].repetition_time) == (1.25, 1.25)
    np.testing.assert_allclose(series.values, values, rtol=1e-6)


# Recordings


def test_sessions_directions_and_events_at_the_root(made, tmp_path):
    """Tables and sidecars at the root serve every run of a task; more entities come first."""
    write_json(tmp_path / "task-film_bold.json", {"RepetitionTime": TR})
    make_sound(tmp_path / "stimuli" / "a.wav", 20, 0)
    make_events(tmp_path / "task-film_events.tsv", [(1.5, 20, "a.wav")])
    make_events(tmp_path / "task-film_dir-AP_events.tsv", [(3.5, 20, "a.wav")])
    write_json(tmp_path / "dataset_description.json", {"Name": "x"})
    for direction in ("AP", "PA"):
        stem = f"sub-7_ses-3_task-film_dir-{direction}"
        raw = tmp_path / "sub-7" / "ses-3" / "func" / f"{stem}_bold.nii.gz"
        raw.parent.mkdir(parents=True, exist_ok=True)
        raw.write_bytes(b"")
        for side in "LR":
            path = tmp_path / FMRIPREP / "sub-7" / "ses-3" / "func"
            path.mkdir(parents=True, exist_ok=True)
            shutil.copy(
                surface_path(made / FMRIPREP, "01", 1, side),
                path / f"{stem}_hemi-{side}_space-fsaverage3_bold.func.gii",
            )
    runs, problems = read(tmp_path)
    assert [run.name for run in runs] == [
        "sub-7_ses-3_task-film_run-dirAP",
        "sub-7_ses-3_task-film_run-dirPA",
    ]
    assert [run.shown[0].onset for run in runs] == [3.5, 1.5]
    assert {str(problem.what) for problem in problems} == {
        "has no table of confounds, desc-confounds_timeseries.tsv"
    }
    assert not any(problem.fatal for problem in problems)


def test_the_nearest_sidecar_and_events_are_right(folder):
    """A run's own sidecar overrules that of the root, and its events those of the person."""
    write_json(folder / "task-listen_bold.json", {"RepetitionTime": 9.0})
    write_json(folder / "sub-01" / "sub-01_task-listen_bold.json", {"RepetitionTime": TR})
    make_events(folder / "sub-01" / "sub-01_task-listen_events.tsv", [(0.5, 16, "market.wav")])
    events(folder).unlink()
    runs, problems = read(folder)
    assert [problem.where for problem in problems] == NAMES[2:]
    assert "9 s by task-listen_bold.json and of 2 s by the derivatives'" in problems[0].what
    assert [run.shown[0].onset for run in runs] == [0.5, 4.0]


def test_slice_timing_moves_the_first_volume(folder):
    """Events count from the first slice on, and the volumes stand for the middle one."""
    for side in "LR":
        path = sidecar_of(surface_path(folder / FMRIPREP, "01", 1, side))
        write_json(path, {"RepetitionTime": TR, "StartTime": 0.95, "SliceTimingCorrected": True})
    runs, problems = read(folder)
    assert problems == []
    series = runs[0].bold.load()
    assert (series.start, series.time[1]) == (0.95, 2.95)
    assert runs[0].shown[0].onset == 2.0
    assert runs[1].bold.load().start == 0


def test_repetition_time_that_is_given_overrules_the_files(folder):
    for side in "LR":
        write_json(sidecar_of(surface_path(folder / FMRIPREP, "01", 1, side)), {})
    make_surfaces(folder / FMRIPREP, "01", 1, tr=1.0)
    runs, problems = read(folder, repetition_time=2.5)
    assert (problems, {run.repetition_time for run in runs}) == ([], {2.5})
    with pytest.warns(InputWarning, match=r"2\.5 s is used as given"):
        assert runs[1].bold.load().repetition_time == 2.5


def test_rest_has_no_events_and_shows_nothing(folder):
    for path in [*func(folder).iterdir(), *prepared(folder).iterdir()]:
        path.rename(path.with_name(path.name.replace("task-listen", "task-rest")))
    write_json(folder / "task-rest_bold.json", {"RepetitionTime": TR})
    for path in func(folder).glob("*_events.tsv"):
        path.unlink()
    runs, problems = read(folder)
    assert problems == []
    assert [run.shown == () for run in runs] == [True, True, False, False]


# What was shown


def test_a_task_whose_events_name_no_file(folder):
    for number in (1, 2):
        for person in PEOPLE:
            events(folder, number, person).write_text("onset\tduration\n1\t2\n")
    runs, problems = read(folder)
    assert runs == []
    assert "names no files in a column stim_file (it has onset, duration)" in problems[0].what
    runs, problems = read(folder, stimuli={"listen": ("market.wav", 6.0)})
    assert problems == []
    shown = runs[0].shown[0]
    assert (shown.onset, shown.duration, shown.group) == (6.0, pytest.approx(16.0), "market")


def test_rows_without_a_file_are_not_shown_and_onsets_are_put_in_order(folder):
    make_events(
        events(folder),
        [(9, "n/a", "market.wav", '"b'), (1, 0, "n/a", "answer"), (-1, 5, "harbour.wav", "n/a")],
    )
    runs, problems = read(folder)
    assert problems == []
    first, second = runs[0].shown
    assert (first.onset, first.duration, first.condition) == (-1, 5, "")
    # Until it ended, where the table does not say how long.
    assert (second.onset, second.duration, second.condition) == (9, pytest.approx(16.0), '"b')


def test_pictures_are_shown_as_long_as_the_table_says(folder):
    from PIL import Image

    Image.new("RGB", (16, 16), (200, 10, 10)).save(folder / "stimuli" / "face.png")
    make_events(events(folder), [(1, 0.5, "face.png"), (3, 4, "face.png")])
    make_events(events(folder, 2), [(1, "n/a", "face.png")])
    runs, problems = read(folder)
    assert [shown.source.duration() for shown in runs[0].shown] == [0.5, 4]
    assert len({shown.source.content() for shown in runs[0].shown}) == 1
    assert [problem.where for problem in problems] == [NAMES[1]]
    assert problems[0].what.endswith("line 2: face.png is shown for a duration of n/a")


def test_groups_by_column_and_by_pattern(folder):
    for number, season in ((1, "s1"), (2, "s2")):
        for person in PEOPLE:
            name = list(SOUNDS)[number - 1]
            row = (1, 16, f"{name}.wav", "story", season)
            make_events(events(folder, number, person), [row], ("season",))
    runs, _ = read(folder, group_column="season")
    assert [run.shown[0].group for run in runs] == ["s1", "s2"] * 2
    runs, _ = read(folder, group_pattern=r"^(har|mark)")
    assert [run.shown[0].group for run in runs] == ["har", "mark"] * 2
    runs, problems = read(folder, group_pattern="h.r")
    assert [run.shown[0].group for run in runs] == ["har"] * 2
    assert problems[0].what.endswith("market.wav does not match 'h.r'")
    runs, problems = read(folder, group_column="film")
    assert "no value in the column 'film'" in problems[0].what
    with pytest.raises(InputError, match="contradict each other"):
        BidsStudy(folder, group_column="season", group_pattern="s")
    with pytest.raises(InputError, match="group_pattern"):
        BidsStudy(folder, group_pattern="(")


@pytest.mark.parametrize("ending", TRANSCRIPTS)
def test_transcripts_of_every_kind_are_found(folder, ending):
    path = folder / "stimuli" / f"market{ending.replace('grid', 'Grid')}"
    path.write_text("")
    (folder / "stimuli" / "marketplace.srt").write_text("")
    runs, _ = read(folder)
    assert runs[1].shown[0].source.options == {"transcript": path}


def test_a_table_is_no_transcript_of_itself(folder):
    (folder / "stimuli" / "Harbour.tsv").write_text("file\tonset\tduration\n")
    showing = Showing(folder / "stimuli", (folder,))
    assert showing.stimulus("Harbour.tsv", None).options == {
        "transcript": folder / "stimuli" / "harbour_words.tsv"
    }
    (folder / "stimuli" / "harbour_words.tsv").unlink()
    showing = Showing(folder / "stimuli", (folder,))
    assert showing.stimulus("Harbour.tsv", None).options == {}


def test_language_and_folder_of_stimuli_are_passed_on(folder):
    (folder / "stimuli").rename(folder / "stimulus_set")
    runs, problems = read(folder)
    assert (runs, len(problems)) == ([], 4)
    runs, problems = read(folder, stimulus_folder=Path("stimulus_set"), language="de")
    assert problems == []
    assert runs[0].shown[0].source.open().language == "de"


# Damage: the run is named, and the others are there


def wrong_time(folder):
    make_surfaces(folder / FMRIPREP, "01", 1, tr=1.5)


def wrong_header(folder):
    sidecars = [sidecar_of(surface_path(folder / FMRIPREP, "01", 1, side)) for side in "LR"]
    texts = [sidecar.read_text() for sidecar in sidecars]
    make_surfaces(folder / FMRIPREP, "01", 1, tr=1.5)
    for sidecar, text in zip(sidecars, texts, strict=True):
        sidecar.write_text(text)


def two_files(folder):
    path = surface_path(folder / FMRIPREP, "01", 1, "L")
    shutil.copy(path, surface_path(folder / FMRIPREP, "01", "01", "L"))


def cut_hemisphere(folder):
    path = surface_path(folder / FMRIPREP, "01", 1, "R")
    write_gifti(path, bold_values("01", 1, 5)[:, N:], "right", TR)


def link_outside(folder):
    outside = make_sound(folder.parent / "secret.wav", 20, 3)
    link(folder / "stimuli" / "link.wav", outside)
    make_events(events(folder), [(1, 5, "link.wav")])


def events_text(text):
    return lambda folder: events(folder).write_text(text)


def events_of(file):
    return lambda folder: make_events(events(folder), [(1, 5, file)])


def sidecar_text(text):
    return lambda folder: sidecar_of(surface_path(folder / FMRIPREP, "01", 1, "L")).write_text(text)


def gone(*which):
    def damage(folder):
        for path in which:
            (folder / path).unlink()

    return damage


L, R = (surface_path(FMRIPREP, "01", 1, side) for side in "LR")
EVENTS = Path("sub-01", "func", f"{RUN.replace('run-1', 'run-01')}_events.tsv")
HEADER = "onset\tduration\tstim_file\n"
DAMAGE = {
    "left missing": (gone(L), r"has no left hemisphere: there is .*hemi-R"),
    "right missing": (gone(R), r"has no right hemisphere: there is .*hemi-L"),
    "nothing prepared": (gone(L, R), r"has no BOLD in .*fmriprep"),
    "no events": (gone(EVENTS), r"has no events.tsv in the raw data set; add it, or"),
    "time against sidecar": (
        wrong_time,
        r"2 s by task-listen_bold.json and of 1.5 s by the derivatives' .*mend .* repetition_time=",
    ),
    "time against header": (wrong_header, r"states 2 s, .*func.gii 1500"),
    "two files": (two_files, r"run-01_.* and .*run-1_.* are two files of one run"),
    "one hemisphere cut": (cut_hemisphere, r"has hemispheres of 5 and 12 volumes"),
    "run cut": (
        lambda folder: make_surfaces(folder / FMRIPREP, "01", 1, bold_values("01", 1, 5)),
        r"ends at 22.0 s of the run, and the 5 volumes .* at 10.0 s",
    ),
    "stimulus longer than the run": (
        lambda folder: make_events(events(folder), [(2, 90, "harbour.wav")]),
        r"ends at 92.0 s of the run",
    ),
    "no header": (lambda f: (f / L).write_text("{"), r"cannot be read as GIFTI"),
    "stimulus missing": (events_of("gone.wav"), r"line 2: stimulus .*gone.wav does not exist"),
    "stimulus is a folder": (events_of("."), r"line 2: stimulus .* does not exist"),
    "leads out": (events_of("../../secret.wav"), r"line 2: '../../secret.wav' leads out of the"),
    "absolute path": (events_of("/etc/passwd"), r"'/etc/passwd' leads out of the data set"),
    "link outside": (link_outside, r"line 2: 'link.wav' leads out of the data set"),
    "no name": (events_of("a\0b.wav"), r"line 2: 'a\\x00b.wav' is no file's name"),
    "escapes": (events_of("\x1b[2J.wav"), r"x1b"),
    "row too short": (events_text(HEADER + "1\t2\n"), r"line 2: 2 cells; 3 fit"),
    "row too long": (events_text(HEADER + "1\t2\ta\tb\n"), r"line 2: 4 cells; 3 fit"),
    "onset": (events_text(HEADER + "soon\t2\ta\n"), r"line 2: onset 'soon'; a number of seconds"),
    "onset missing": (events_text(HEADER + "n/a\t2\ta\n"), r"line 2: onset 'n/a'; a number"),
    "onset not finite": (events_text(HEADER + "inf\t2\ta\n"), r"line 2: onset 'inf'; a number"),
    "duration": (events_text(HEADER + "1\t-2\ta\n"), r"line 2: duration '-2'; a number"),
    "duration 0": (events_text(HEADER + "1\t0\tharbour.wav\n"), r"is shown for a duration of 0"),
    "no onset": (events_text("start\tduration\n1\t2\n"), r"0 columns onset, .* it has: start, dur"),
    "commas": (events_text("onset,duration,stim_file\n1,2,a\n"), r"0 columns onset, parted by tab"),
    "two onsets": (events_text("onset\tonset\tduration\n1\t1\t1\n"), r"2 columns onset"),
    "empty events": (events_text("\n"), r"is empty; columns onset and duration fit"),
    "events without rows": (events_text(HEADER), r"names no files .*\(it has no rows\)"),
    "no text": (lambda f: events(f).write_bytes(b"\xff\xfe\x00"), r"no table of UTF-8 text"),
    "sidecar no JSON": (sidecar_text('{"Repet'), r"bold.json cannot be read as JSON"),
    "sidecar a list": (sidecar_text("[2.0]"), r"holds a list; a JSON object fits"),
    "time is text": (sidecar_text('{"RepetitionTime": "2"}'), r"is '2'; a number of seconds"),
    "time is true": (sidecar_text('{"RepetitionTime": true}'), r"is True; a number of seconds"),
    "time negative": (sidecar_text('{"RepetitionTime": -2}'), r"is -2; a number of seconds"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_is_told_with_the_name_of_its_run(folder, how):
    damage, message = DAMAGE[how]
    damage(folder)
    runs, problems = read(folder)
    assert [run.name for run in runs] == NAMES[1:]
    (problem,) = problems
    assert (problem.where, problem.fatal) == (RUN, True)
    assert re.search(message, problem.what), problem.what
    assert problem.what.isprintable()


def test_two_sidecars_of_one_folder(folder):
    write_json(func(folder) / "sub-01_task-listen_run-1_bold.json", {"RepetitionTime": TR})
    write_json(func(folder) / "sub-01_task-listen_run-01_bold.json", {"RepetitionTime": TR})
    runs, problems = read(folder)
    assert [run.name for run in runs] == NAMES[1:]
    assert "are both of this run; one fits" in problems[0].what


def test_no_repetition_time_is_not_guessed(folder):
    (folder / "task-listen_bold.json").unlink()
    for side in "LR":
        path = surface_path(folder / FMRIPREP, "01", 1, side)
        sidecar_of(path).unlink()
        part = bold_values("01", 1)[:, :N] if side == "L" else bold_values("01", 1)[:, N:]
        write_gifti(path, part, {"L": "left", "R": "right"}[side], None)
    runs, problems = read(folder)
    assert [run.name for run in runs] == NAMES[1:]
    assert problems[0].what.startswith("states no repetition time, in no sidecar or header; give")
    assert read(folder, repetition_time=TR)[0][0].bold.load().repetition_time == TR


def test_files_that_are_of_no_run_are_told(folder):
    (prepared(folder) / "sub-01_task-listen_bold (copy).func.gii").write_text("")
    (prepared(folder) / "._sub-01_task-listen_bold.func.gii").write_text("")
    shutil.copy(surface_path(folder / FMRIPREP, "02", 1, "L"), prepared(folder))
    runs, problems = read(folder)
    assert [run.name for run in runs] == NAMES
    assert [problem.where for problem in problems] == [
        "sub-01_task-listen_bold (copy).func.gii",
        "sub-02_task-listen_run-1_hemi-L_space-fsaverage3_bold.func.gii",
    ]
    assert "is none of BIDS" in problems[0].what
    assert "names another person or session than" in problems[1].what


def test_no_confounds_and_two(folder):
    path = prepared(folder) / f"{RUN}_desc-confounds_timeseries.tsv"
    shutil.copy(path, prepared(folder) / f"{RUN}_desc-confounds_regressors.tsv")
    runs, problems = read(folder)
    assert runs[0].confounds == path
    assert "has two tables of confounds" in problems[0].what
    path.unlink()
    runs, problems = read(folder)
    assert (runs[0].confounds.name, problems) == (f"{RUN}_desc-confounds_regressors.tsv", [])
    runs[0].confounds.unlink()
    runs, problems = read(folder)
    assert (len(runs), runs[0].confounds, problems[0].fatal) == (4, None, False)


@pytest.mark.parametrize("text", [None, "{", "[]", "\xff"])
def test_description_that_cannot_be_read(folder, text):
    path = folder / "dataset_description.json"
    path.unlink() if text is None else path.write_bytes(text.encode("latin-1"))
    study = BidsStudy(folder, mesh="fsaverage3")
    runs, problems = sort_out(study.runs())
    assert [run.name for run in runs] == NAMES
    (problem,) = problems
    assert (problem.where, problem.fatal) == ("dataset_description.json", False)
    assert "licence and citation are not known" in problem.what
    assert (study.name, study.citation) == ("data", "not stated")
    assert study.licence.startswith("not stated")


def test_description_of_other_kinds(folder):
    fields = {"Name": "a/b: c", "License": None, "ReferencesAndLinks": ["One\n2020", "Two 2021"]}
    (folder / "dataset_description.json").write_text(json.dumps(fields))
    study = BidsStudy(folder)
    assert (study.name, study.citation) == ("abc", "One\\n2020; Two 2021")


def test_folders_that_are_no_data_sets(made, tmp_path):
    with pytest.raises(InputError, match=r"nothing is no folder"):
        BidsStudy(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"is no BIDS data set: there are no folders sub-\*"):
        BidsStudy(tmp_path)
    (tmp_path / "sub-01").mkdir()
    with pytest.raises(InputError, match=r"no derivatives of fMRIPrep in derivatives/fmriprep or"):
        BidsStudy(tmp_path)
    with pytest.raises(InputError, match=r"no derivatives of fMRIPrep in elsewhere; give"):
        BidsStudy(made, derivatives=Path("elsewhere"))
    with pytest.raises(InputError, match="mesh 'fsaverage9' is unknown"):
        BidsStudy(made, mesh="fsaverage9")
    with pytest.raises(InputError, match=r"stimuli=\{TASK: \(FILE, ONSET\)\}"):
        BidsStudy(made, stimuli="listen")


def test_derivatives_in_other_places(folder, tmp_path):
    shutil.move(folder / FMRIPREP, tmp_path / "elsewhere")
    runs, problems = read(folder, derivatives=tmp_path / "elsewhere")
    assert (len(runs), problems) == (4, [])
    shutil.move(tmp_path / "elsewhere", folder / "derivatives" / "versionB" / "fmriprep")
    runs, problems = read(folder)
    assert (len(runs), problems) == (4, [])
    (folder / "derivatives" / "versionA" / "fmriprep").mkdir(parents=True)
    with pytest.raises(InputError, match=r"several .*versionA/fmriprep, derivatives/versionB"):
        read(folder)
    assert len(read(folder, derivatives=Path("derivatives", "versionB", "fmriprep"))[0]) == 4


def test_a_link_within_the_data_set_is_followed_and_one_to_nothing_told(folder):
    store = folder / ".git" / "annex" / "key.wav"
    store.parent.mkdir(parents=True)
    (folder / "stimuli" / "harbour.wav").rename(store)
    link(folder / "stimuli" / "harbour.wav", store)
    assert len(read(folder)[0]) == 4
    store.unlink()
    runs, problems = read(folder)
    assert [run.number for run in runs] == ["2", "2"]
    assert "harbour.wav does not exist (a link to nothing: not downloaded yet?)" in problems[0].what


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_any_text_is_a_table_or_an_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any_events.tsv"
    path.write_bytes(("onset\tduration\tstim_file\n" + text).encode())
    try:
        found = read_events(path)
    except InputError as error:
        found, told = [], str(error)
    else:
        told = ""
    assert told == "" or told.isprintable()
    assert [event.onset for event in found] == sorted(event.onset for event in found)
    assert all(np.isfinite(event.onset) and len(event.cells) == 3 for event in found)
