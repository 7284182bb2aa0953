"""The check of a study: silent where nothing is wrong, and each damage told with its run's name."""

from __future__ import annotations

import re
import shutil
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bids_makers import (
    FMRIPREP,
    PEOPLE,
    TR,
    N,
    bold_values,
    make_bids,
    make_events,
    make_sound,
    make_surfaces,
    make_volume,
    surface_path,
)
from tribrain.brain.meshes import medial_wall
from tribrain.brain.series import BoldSeries
from tribrain.brain.spaces import Voxels, join, mesh_space, parcel_space, voxel_space
from tribrain.errors import InputError, InputWarning
from tribrain.studies.arrays import ArrayBold
from tribrain.studies.bids import BidsStudy
from tribrain.studies.check import check, check_lines
from tribrain.studies.check_values import odd_values, parts
from tribrain.studies.runs import FeatureArrays, Problem, Run, Shown
from tribrain.studies.simulated import Simulated
from tribrain.studies.sources import SurfaceBold

NAMES = [f"sub-{person}_task-listen_run-{number}" for person in PEOPLE for number in (1, 2)]
RUN = NAMES[0]
MESH = mesh_space("fsaverage3")
PARCELS = parcel_space("four", ["a", "b", "c", "d"])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_bids(tmp_path_factory.mktemp("bids") / "data")


@pytest.fixture
def folder(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "data"))


def checked(folder, deep=False, **options):
    return check(BidsStudy(folder, mesh="fsaverage3", **options), deep=deep)


def events(folder, number=1, person="01"):
    name = f"sub-{person}_task-listen_run-{number:02d}_events.tsv"
    return folder / f"sub-{person}" / "func" / name


# A study made of whatever a test needs


@dataclass(frozen=True)
class Plain:
    """A study of given runs."""

    found: tuple
    name: str = "plain"
    licence: str = "CC0"
    citation: str = "nobody"
    tested_on: str = "nothing"

    def runs(self):
        yield from self.found


@dataclass(frozen=True)
class Held:
    """BOLD in memory."""

    values: np.ndarray = field(repr=False, compare=False)
    space: object = PARCELS
    stated: float | None = TR
    comes_with: float = TR
    volumes: int | None = None
    error: Exception | None = None
    warning: str = ""

    files = ()

    def header(self):
        return self.volumes or len(self.values), self.stated

    def load(self):
        if self.error is not None:
            raise self.error
        if self.warning:
            warnings.warn(self.warning, InputWarning, stacklevel=1)
        return BoldSeries(self.values, self.space, self.comes_with)


def noise(rows=20, n=4, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, n)).astype(np.float32)


def film(seconds=40.0, value=0.0, name="film.npy"):
    series = {"m": np.full((1, 2, round(seconds * 2)), value, np.float32)}
    return Made(series, 2.0, Path(name))


class Made(FeatureArrays):
    files = ()


def run_of(number=1, shown=None, bold=None, **changes):
    if shown is None:
        shown = (Shown(film(), 0.0, 40.0, "film"),)
    bold = Held(noise(seed=number)) if bold is None else bold
    made = Run("plain", "1", "a", bold, TR, tuple(shown), number=str(number))
    return replace(made, **changes)


def told(*runs, deep=False):
    """What is said of each run; problems of no run are under the name of the study."""
    problems = check(Plain(runs), deep=deep).problems
    return {problem.where: problem.what for problem in problems}


# Nothing is wrong


@pytest.mark.parametrize("deep", [False, True])
def test_nothing_is_said_of_a_right_data_set(made, deep):
    report = checked(made, deep)
    assert (report.problems, report.exit_code) == ((), 0)
    assert [run.name for run in report.runs] == NAMES
    assert report.lines() == [
        "study: Harboursounds",
        "licence: CC0",
        "citation: Someone et al. 2020; doi:10.0000/nothing",
        "loader tested on: a synthetic copy of its layout",
        "4 runs of 2 people: 01, 02",
        "tasks: listen (4 runs)",
        "0.03 hours of BOLD, repetition time 2 s",
        "spaces: fsaverage3 (4 runs)",
        "2 distinct stimuli, shown 4 times: harbour.wav 2 x, market.wav 2 x",
        "nothing is missing, nothing looks wrong",
    ]


def test_progress_is_told_and_ends_at_the_end(made):
    calls = []
    lines, code = check_lines(
        BidsStudy(made, mesh="fsaverage3"), progress=lambda *call: calls.append(call)
    )
    assert (code, lines[-1]) == (0, "nothing is missing, nothing looks wrong")
    assert [call for call in calls if call[0] == "runs"] == [("runs", k, 4) for k in (1, 2, 3, 4)]
    assert ("files", 8, 8) in calls
    assert calls[-1] == ("stimuli", 2, 2)


def test_a_study_without_runs():
    report = check(Plain(()))
    assert (report.found, report.exit_code) == (("no run can be used",), 0)


# Damage on the disk: what is said of the run, and of no other


def two_stimuli_at_once(folder):
    make_events(events(folder), [(0, 20, "harbour.wav"), (8, 16, "market.wav")])


def after_the_end(folder):
    make_sound(folder / "stimuli" / "beep.wav", 3, 7)
    make_events(events(folder), [(0, 20, "harbour.wav"), (24.5, 3, "beep.wav")])


def copied_run(folder):
    for side in "LR":
        shutil.copy(
            surface_path(folder / FMRIPREP, "02", 2, side),
            surface_path(folder / FMRIPREP, "01", 1, side),
        )


def copied_values(folder):
    make_surfaces(folder / FMRIPREP, "01", 1, bold_values("02", 2))
    for side in "LR":  # other bytes, the same values
        path = surface_path(folder / FMRIPREP, "01", 1, side)
        path.write_text(path.read_text().replace("<GIFTI ", "<GIFTI  ", 1))


def left_in_right(folder):
    values = bold_values("01", 1).copy()
    values[:, N:] = values[:, :N]
    make_surfaces(folder / FMRIPREP, "01", 1, values)


def in_values(change):
    def damage(folder):
        values = bold_values("01", 1).copy()
        change(values)
        make_surfaces(folder / FMRIPREP, "01", 1, values)

    return damage


def cut_file(folder):
    path = surface_path(folder / FMRIPREP, "01", 1, "R")
    path.write_bytes(path.read_bytes()[:-5000])


def longer_confounds(folder):
    name = f"{RUN}_desc-confounds_timeseries.tsv"
    path = surface_path(folder / FMRIPREP, "01", 1, "L").with_name(name)
    path.write_text(path.read_text() + "0.1\n")


def damaged_sound(folder):
    (folder / "stimuli" / "hum.wav").write_bytes(b"RIFF")
    make_events(events(folder), [(2, 20, "hum.wav")])


CORTEX = np.flatnonzero(~medial_wall("fsaverage3"))
SHALLOW = {
    "cut run": (
        lambda f: make_surfaces(f / FMRIPREP, "01", 1, bold_values("01", 1, 8)),
        r"lasts until 22.0 s, and the run ends at 16.0 s \(8 volumes of 2 s\)",
    ),
    "stimulus longer than shown": (
        lambda f: make_events(events(f), [(2, 12, "harbour.wav")]),
        r"harbour.wav is shown for 12.0 s, and lasts 20.0 s",
    ),
    "stimulus shorter than shown": (
        lambda f: make_events(events(f), [(2, 20, "market.wav")]),
        r"market.wav is shown until its second 20.0, and lasts 16.0 s",
    ),
    "overlap": (
        two_stimuli_at_once,
        r"1 of 2 things shown begin before .* market.wav, at 8.0 s, when harbour.wav lasts until",
    ),
    "after the end": (
        after_the_end,
        r"1 of 2 things shown begin after the end of the run, the first, beep.wav, at 24.5 s",
    ),
    "copied run": (
        copied_run,
        rf"has files of the same content as {RUN}: .*hemi-L_.* is .*hemi-L_.*; .*hemi-R_",
    ),
    "confounds": (longer_confounds, r"timeseries.tsv has 13 rows, and the run 12 volumes"),
    "damaged stimulus": (damaged_sound, r"hum.wav cannot be opened: .*hum.wav"),
}
DEEP = {
    "copied values": (copied_values, r"holds the same values as .*\(left hem.*; right hem"),
    "left in right": (left_in_right, r"holds values twice \(right hemisphere, as left hemisphere"),
    "NaN rows": (
        in_values(lambda v: v.__setitem__(5, np.nan)),
        r"1 of 12 rows \(the first: 5\) are NaN throughout",
    ),
    "NaN rows of a hemisphere": (
        in_values(lambda v: v.__setitem__((slice(5, 9), slice(N)), np.nan)),
        r"4 of 12 rows \(the first: 5\) are NaN throughout in the left hemisphere",
    ),
    "most rows of a hemisphere": (
        in_values(lambda v: v.__setitem__((slice(2, None), slice(N, None)), np.nan)),
        r"10 of 12 rows \(the first: 2\) are NaN throughout in the right hemisphere",
    ),
    "rows with holes": (
        in_values(lambda v: v.__setitem__((slice(3, 5), CORTEX[:100]), np.nan)),
        r"2 of 12 rows \(the first: 3\) have NaN where others have values \(left hemisphere\)",
    ),
    "row twice": (
        in_values(lambda v: v.__setitem__(7, v[6])),
        r"1 of 12 rows \(the first: 7\) are exact copies of the row before",
    ),
    "constant": (
        in_values(lambda v: v.__setitem__((slice(None), CORTEX[[3, 500, 900]]), 7)),
        r"3 of 1193 vertices and voxels never change",
    ),
    "spike": (
        in_values(lambda v: v.__setitem__((4, CORTEX[:2]), 1e4)),
        r"more than 20 robust .*: 2, in 1 of 12 rows \(the first: 4\)",
    ),
    "infinite": (
        in_values(lambda v: v.__setitem__((4, CORTEX[0]), np.inf)),
        r"1 values are infinite",
    ),
    "hole": (
        in_values(lambda v: v.__setitem__((slice(None), CORTEX[:200]), np.nan)),
        r"200 of 1193 vertices and voxels are NaN throughout \(17%\)",
    ),
    "file cut": (cut_file, r"cannot be read as GIFTI"),
}


@pytest.mark.parametrize("how", SHALLOW)
def test_damage_is_told(folder, how):
    damage, message = SHALLOW[how]
    damage(folder)
    report = checked(folder)
    (problem,) = report.problems
    assert problem.where == (NAMES[3] if how == "copied run" else RUN)
    assert re.search(message, problem.what), problem.what
    assert (report.exit_code, len(report.runs)) == (1, 4)
    assert any(RUN in line for line in report.lines())


@pytest.mark.parametrize("how", DEEP)
def test_damage_in_the_values_is_told_where_they_are_read(folder, how):
    damage, message = DEEP[how]
    damage(folder)
    assert checked(folder).problems == ()
    report = checked(folder, deep=True)
    (problem,) = report.problems
    assert problem.where == (NAMES[3] if how == "copied values" else RUN)
    assert re.search(message, problem.what), problem.what
    assert (report.exit_code, len(report.runs)) == (1, 4)


def test_problems_of_the_study_are_in_the_report_and_runs_left_out_are_marked(folder):
    surface_path(folder / FMRIPREP, "01", 1, "R").unlink()
    report = checked(folder)
    assert [run.name for run in report.runs] == NAMES[1:]
    last = report.lines()[-1]
    assert re.fullmatch(rf"  {RUN}: has no right hemisphere: .* \[left out\]", last)
    assert report.lines()[-2] == "what is missing or looks wrong: 1"


def test_what_is_wrong_with_many_runs_is_one_line(folder):
    for number in (1, 2):
        for person in PEOPLE:
            events(folder, number, person).unlink()
    lines = checked(folder).lines()
    assert lines[-1].startswith(f"  {', '.join(NAMES[:3])} and 1 more: has no events.tsv")
    assert "no run can be used" in lines


def test_spaces_that_differ_are_told(folder):
    for side in "LR":
        surface_path(folder / FMRIPREP, "02", 2, side).unlink()
    name = f"{NAMES[3]}_space-MNI152NLin6Asym_desc-preproc_bold.nii.gz"
    make_volume(folder / FMRIPREP / "sub-02" / "func" / name)
    report = checked(folder, deep=True)
    (problem,) = report.problems
    assert problem.where == "Harboursounds"
    assert problem.what == (
        f"its runs lie in 2 spaces: fsaverage3: {', '.join(NAMES[:3])}; MNI152NLin6Asym: {NAMES[3]}"
    )
    assert "spaces: fsaverage3 (3 runs), MNI152NLin6Asym (1 run)" in report.found


@pytest.mark.parametrize(
    ("name", "space"),
    [
        ("sub-1_task-a_space-fsaverage6_hemi-L_desc-clean.func.gii", "fsaverage6"),
        ("sub-1_task-a_hemi-L_space-fsaverage5_bold.func.gii", "fsaverage5"),
        ("lh.gii", "surface"),
    ],
)
def test_space_of_surfaces_is_that_of_their_names(name, space):
    bold = SurfaceBold(Path(name), Path(name.replace("-L", "-R")))
    assert f"spaces: {space} (1 run)" in check(Plain((run_of(bold=bold),))).found


def test_the_same_sound_under_two_names_and_in_two_groups(folder):
    stimuli = folder / "stimuli"
    shutil.copy(stimuli / "market.wav", stimuli / "again.wav")
    make_events(events(folder, 2), [(4, 16, "again.wav")])
    report = checked(folder)
    assert [(problem.where, problem.what) for problem in report.problems] == [
        ("again.wav", "has the same content as market.wav"),
        ("again.wav", "is in 2 groups, and must stay in one: again, market"),
    ]
    assert "2 distinct stimuli, shown 4 times: harbour.wav 2 x, again.wav 2 x" in report.found


def test_the_same_name_of_two_sounds(folder):
    make_sound(folder / "stimuli" / "other" / "market.wav", 16, seed=99)
    make_events(events(folder, 2), [(4, 16, "other/market.wav")])
    (problem,) = checked(folder).problems
    assert (problem.where, problem.what) == ("market.wav", "is the name of 2 different contents")


def test_a_file_that_has_gone_is_missing(folder):
    runs = [item for item in BidsStudy(folder, mesh="fsaverage3").runs() if isinstance(item, Run)]
    (folder / "stimuli" / "harbour_words.tsv").unlink()
    runs[1].bold.right.unlink()
    runs[3].confounds.unlink()
    problems = check(Plain(tuple(runs)), deep=True).problems
    assert [problem.where for problem in problems] == NAMES
    found = {problem.where: problem.what for problem in problems}
    assert re.search(r"hemi-R_.*func.gii does not exist", found[NAMES[1]])
    assert re.search(r"harbour_words.tsv does not exist", found[NAMES[0]])
    assert re.search(r"timeseries.tsv does not exist", found[NAMES[3]])


# Any study


def test_whatever_a_run_raises_is_told_and_the_others_are_read():
    bad = run_of(1, bold=Held(noise(), error=ZeroDivisionError("oh\nno")))
    worse = run_of(2, bold=Held(noise(), error=InputError("damaged")))
    odd = run_of(3, bold=object())
    report = check(Plain((bad, worse, odd, run_of(4))), deep=True)
    found = [(problem.where, problem.what) for problem in report.problems]
    assert (bad.name, "cannot be read: ZeroDivisionError: oh\\nno") in found
    assert (worse.name, "damaged") in found
    assert any(where == odd.name and "AttributeError" in what for where, what in found)
    assert {where for where, _ in found} <= {"plain", bad.name, worse.name, odd.name}
    assert len(report.runs) == 4


def test_a_study_that_raises_is_told_with_what_it_gave_before():
    @dataclass(frozen=True)
    class Broken(Plain):
        def runs(self):
            yield run_of(1)
            raise KeyError("s01")

    report = check(Broken(()))
    assert [run.name for run in report.runs] == [run_of(1).name]
    assert [str(p) for p in report.problems] == ["plain: its runs cannot be read: KeyError: 's01'"]


def test_problems_that_a_study_yields_and_names_twice_are_kept():
    report = check(Plain((run_of(1), Problem("x", "is odd", False), run_of(1))))
    assert [str(problem) for problem in report.problems] == [
        "x: is odd",
        "sub-1_task-a_run-1: is there twice; the first one is used",
    ]


@pytest.mark.parametrize(
    ("bold", "message"),
    [
        (Held(noise(), stated=1.5), "a repetition time of 2 s, its files state 1.5 s"),
        (Held(noise(), comes_with=2.5), "a repetition time of 2 s, its values come with 2.5 s"),
        (Held(noise(), volumes=25), "its header states 25 volumes, and it has 20"),
        (Held(noise(), warning="read in a way"), "read in a way"),
    ],
)
def test_header_and_values_against_the_study(bold, message):
    assert message in told(run_of(bold=bold), deep=True)[run_of().name]


@pytest.mark.parametrize("seconds", [1.49, 1.4900001, 1.4895])
def test_rounded_repetition_times_are_the_same(seconds):
    runs = run_of(bold=Held(noise(rows=27), stated=seconds), repetition_time=1.49)
    assert told(runs) == {}


def test_a_run_that_goes_on_is_told_and_a_little_rest_is_not():
    assert told(run_of(bold=Held(noise(rows=50)))) == {}
    found = told(run_of(bold=Held(noise(rows=60))))
    assert "what was shown ends at 40.0 s, and the run ends at 120.0 s" in found[run_of().name]


def test_rows_left_out_at_the_start_count_for_the_end(tmp_path):
    """An array of which the first rows are not read still ends where it ends."""
    np.save(tmp_path / "bold.npy", noise(rows=20))
    bold = ArrayBold(tmp_path / "bold.npy", PARCELS, TR, rows=(5, None))
    assert told(run_of(bold=bold)) == {}
    cut = ArrayBold(tmp_path / "bold.npy", PARCELS, TR, rows=(5, 15))
    assert "the run ends at 30.0 s" in told(run_of(bold=cut))[run_of().name]


def test_runs_that_read_the_same_part_of_an_array(tmp_path):
    np.save(tmp_path / "bold.npy", np.stack([noise(seed=k) for k in range(3)]))
    bolds = [ArrayBold(tmp_path / "bold.npy", PARCELS, TR, index=k) for k in (0, 1, 2, 1)]
    found = told(*(run_of(k, bold=bold) for k, bold in enumerate(bolds)))
    assert found == {"sub-1_task-a_run-3": "reads the same BOLD as sub-1_task-a_run-1, bold.npy"}


def test_parts_of_a_film_may_be_shorter_than_it():
    source = film(80.0)
    halves = [
        run_of(1, [Shown(source, 0.0, 40.0, "film")], Held(noise(rows=25, seed=1))),
        run_of(2, [Shown(source, 0.0, 40.0, "film", start=40.0)]),
    ]
    found = told(*halves)
    assert "film is shown for 40.0 s, and lasts 80.0 s" in found[halves[0].name]
    assert set(found) == {halves[0].name}
    assert told(run_of(2, [Shown(source, 0.0, 40.0, "film", start=20.0)])) == {}
    too_far = run_of(3, [Shown(source, 0.0, 40.0, "film", start=60.0)])
    assert "shown until its second 100.0, and lasts 80.0 s" in told(too_far)[too_far.name]


@pytest.mark.parametrize("seconds", [36.0, 39.0, 40.0])
def test_a_film_may_be_cut_off_by_the_end_of_the_run(seconds):
    shown = [Shown(film(80.0), 40.0 - seconds, seconds, "film")]
    assert told(run_of(shown=shown)) == {}
    late = [Shown(film(80.0), -10.0, 50.0, "film")]  # began before the first volume
    assert told(run_of(shown=late)) == {}
    short = run_of(shown=shown, bold=Held(noise(rows=23)))
    assert told(short) == {short.name: f"film is shown for {seconds:.1f} s, and lasts 80.0 s"}


def test_parts_of_a_film_may_be_groups_of_their_own():
    source = film(80.0)
    shown = [Shown(source, 10.0 + 20 * k, 20.0, f"part{k}", start=20.0 * k) for k in range(1, 4)]
    bold = Held(noise(rows=50))
    assert told(run_of(shown=shown, bold=bold)) == {}
    again = [Shown(film(80.0), 0.0, 20.0, "other", start=35.0)]  # cuts into two of them
    found = told(run_of(1, shown, bold), run_of(2, again))
    assert found == {"other": "is in 3 groups, and must stay in one: other, part1, part2"}


def test_whole_films_in_two_groups_are_told_whichever_is_longer():
    for lengths in ((40.0, 39.0), (39.0, 40.0), (0.05, 40.0), (0.05, 0.05)):
        shown = [[Shown(film(), 0.0, s, f"g{k}")] for k, s in enumerate(lengths)]
        found = told(run_of(1, shown[0]), run_of(2, shown[1]))
        assert found["g0"] == "is in 2 groups, and must stay in one: g0, g1"


def test_the_space_of_a_source_is_told_without_reading_it():
    report = check(Simulated(n_subjects=1, films=1, minutes=0.5))
    assert "spaces: fsaverage3 (1 run)" in report.found


def test_many_films_that_do_not_fit_are_counted():
    shown = [Shown(film(9.0 + k), 4.0 * k, 4.0, f"film{k}") for k in range(10)]
    problems = check(Plain((run_of(shown=shown, bold=Held(noise(rows=25))),))).problems
    assert [problem.what for problem in problems][-1] == (
        "7 more things shown do not fit their files"
    )
    assert len(problems) == 4


def test_stimuli_without_files_are_counted_by_content():
    shown = [Shown(film(4.0, k % 2), 4.0 * k, 4.0, f"film{k % 2}") for k in range(6)]
    report = check(Plain((run_of(shown=shown),)))
    assert (report.problems, report.found[-1]) == (
        (),
        "2 distinct stimuli, shown 6 times: film0 3 x, film1 3 x",
    )


def test_one_long_film_and_a_short_one_within_it_overlap():
    shown = [Shown(film(s), o, s, g) for s, o, g in ((30.0, 0, "a"), (2.0, 5, "b"), (2.0, 20, "c"))]
    found = told(run_of(shown=shown))
    assert found[run_of().name].startswith("2 of 3 things shown begin before the last one")
    assert told(run_of(shown=[Shown(film(20.0), o, 20.05, "a") for o in (0.0, 20.0)])) == {}


# Values


def series_of(values, space=PARCELS):
    return BoldSeries(np.asarray(values, np.float32), space, TR)


@given(arrays(np.float32, st.tuples(st.integers(0, 8), st.just(4)), elements=st.floats(width=32)))
def test_any_values_are_looked_at(values):
    """Rows are counted as a plain loop counts them."""
    found = list(odd_values(series_of(values)))
    empty = sum(all(np.isnan(row)) for row in values)
    assert any(line.startswith(f"{empty} of {len(values)} rows") for line in found) == (empty > 0)
    infinite = np.isinf(values).sum()
    assert any(line == f"{infinite} values are infinite" for line in found) == (infinite > 0)
    parts(series_of(values))


def test_spikes_are_counted_as_a_plain_loop_does():
    values = np.random.default_rng(5).standard_t(1.2, size=(300, 4)).astype(np.float32)
    spikes, rows = 0, set()
    for column in values.T.astype(float):
        centre = np.median(column)
        deviation = 1.4826 * np.median(np.abs(column - centre))
        for row, value in enumerate(column):
            if abs(value - centre) > 20 * deviation:
                spikes += 1
                rows.add(row)
    assert spikes > 3
    (line,) = odd_values(series_of(values))
    assert line.endswith(f": {spikes}, in {len(rows)} of 300 rows (the first: {min(rows)})")


def test_spikes_are_found_in_every_series():
    values = noise(12, 2 * N)
    values[4] = 1e4
    (line,) = odd_values(series_of(values, MESH))
    assert line.endswith(f": {len(CORTEX)}, in 1 of 12 rows (the first: 4)")


def test_series_that_mostly_stand_still_have_no_spikes():
    """Without a spread nothing tells what is far."""
    values = noise(20)
    values[:, 1] = 3
    values[[4, 9], 1] = 1e6
    assert list(odd_values(series_of(values))) == []


def test_rows_that_are_nan_are_no_copies():
    values = noise(20)
    values[4:7] = np.nan
    assert list(odd_values(series_of(values))) == ["3 of 20 rows (the first: 4) are NaN throughout"]


def test_voxels_that_some_rows_lack_are_told_apart_from_the_cortex():
    indices = np.argwhere(np.ones((3, 3, 3)))
    voxels = voxel_space(Voxels("MNI152NLin6Asym", (3, 3, 3), np.diag([6.0, 6, 6, 1]), indices))
    space = join(MESH, voxels)
    values = noise(20, space.size)
    values[:, medial_wall("fsaverage3").nonzero()[0]] = np.nan
    values[3, 2 * N + 4] = np.nan  # one voxel of 27 is usual
    values[7, : 2 * N] = values[9, 2 * N :] = np.nan
    assert list(odd_values(series_of(values, space))) == [
        "1 of 20 rows (the first: 7) are NaN throughout in the left hemisphere",
        "1 of 20 rows (the first: 7) are NaN throughout in the right hemisphere",
        "1 of 20 rows (the first: 9) are NaN throughout in the voxels",
    ]


def test_a_step_and_a_drift_are_no_spikes():
    time = np.arange(200.0)[:, None]
    values = noise(200) + 0.5 * time + 8 * (time > 150)
    assert list(odd_values(series_of(values))) == []


def test_the_medial_wall_does_not_count():
    values = noise(12, 2 * N)
    wall = medial_wall("fsaverage3")
    values[:, wall] = 0
    assert list(odd_values(series_of(values, MESH))) == []
    values[:, wall] = np.nan
    values[:, np.flatnonzero(~wall)[:50]] = np.nan  # the rim of another wall
    assert list(odd_values(series_of(values, MESH))) == []


def test_every_parcel_that_was_not_measured_is_told():
    values = noise()
    values[:, 2] = np.nan
    assert list(odd_values(series_of(values))) == ["1 of 4 parcels are NaN throughout (25%)"]
    assert list(odd_values(series_of(np.ones((5, 4))))) == [
        "4 of 5 rows (the first: 1) are exact copies of the row before",
        "4 of 4 parcels never change",
    ]


def test_parts_tell_hemispheres_and_voxels_apart():
    indices = np.argwhere(np.ones((3, 3, 3)))
    voxels = voxel_space(Voxels("MNI152NLin6Asym", (3, 3, 3), np.diag([6.0, 6, 6, 1]), indices))
    space = join(MESH, voxels)
    values = noise(5, space.size)
    found = parts(series_of(values, space))
    assert list(found) == ["left hemisphere", "right hemisphere", "voxels"]
    assert len(set(found.values())) == 3
    values[:, -1] += 1
    after = parts(series_of(values, space))
    assert [name for name in found if found[name] != after[name]] == ["voxels"]
    # Zeros are equal to zeros without having been copied.
    assert list(parts(series_of(np.zeros((5, space.size)), space))) == []
