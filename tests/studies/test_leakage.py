"""No second of stimulus is on two sides of a split, whatever the study."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from prepared_makers import SPACE
from tribrain.errors import InputError
from tribrain.studies.arrays import ArrayBold
from tribrain.studies.groups import merged_groups, spans
from tribrain.studies.prepared import PreparedRun, windows
from tribrain.studies.runs import Run, Shown
from tribrain.studies.splits import split

LAG = 5.0
WINDOW = 100
pytestmark = pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")


@dataclass(frozen=True)
class Content:
    """A stimulus that is nothing but its content; objects of the same content are others."""

    checksum: str
    name: str = ""

    @property
    def files(self):
        return ()

    def content(self):
        return self.checksum

    def duration(self):
        return 1e4


times = st.integers(0, 1600).map(lambda quarter: quarter / 4) | st.floats(0, 400)


@st.composite
def shown_in_a_run(draw):
    """Events: of few contents, under few names, trimmed, with gaps, abutting or overlapping."""
    events, now = [], draw(st.sampled_from([-20.0, 0.0, 7.3, 12.0]))
    for _ in range(draw(st.integers(0, 5))):
        content = draw(st.sampled_from("ABCDEFGH"))
        duration = draw(st.sampled_from([0.4, 3.0, 20.0, 13.01, 150.0, 260.0]))
        start = draw(st.sampled_from([0.0, 0.0, 150.0]) | times)
        group = draw(st.sampled_from([content, content, content + "2", "x", "y"]))
        events.append(Shown(Content(content, group), now, duration, group, start))
        now += duration + draw(st.sampled_from([0.0, 0.0, 2.0, 20.0, -0.3, -8.0]))
    return tuple(sorted(events, key=lambda shown: shown.onset))


@st.composite
def studies(draw):
    """Runs of several people and two studies, one film being there that none shares."""
    runs = []
    for number in range(draw(st.integers(2, 6))):
        study, person = draw(st.sampled_from("st")), draw(st.sampled_from("12"))
        shown = draw(shown_in_a_run())
        bold = ArrayBold(Path("none.npy"), SPACE, 1.0)
        runs.append(Run(study, person, f"r{number}", bold, 1.0, shown))
    for name in ("I", "J", "K"):
        shown = (Shown(Content(name), 3.0, 120.0, name),)
        runs.append(Run("s", "1", name, runs[0].bold, 1.0, shown))
    return runs


def as_prepared(run: Run, rows: int) -> PreparedRun:
    """As `prepare` would put the run into a store: rows at whole seconds of the first stimulus."""
    origin = (run.shown[0].onset - run.shown[0].start) % 1.0 if run.shown else 0.0
    return PreparedRun(
        run.study, run.name, run.subject, "", run.task, "", run.shown, rows, 7, origin, 1.0,
        "float16", 0, (), (), Path("none.npy"), 128, "",
    )  # fmt: skip


def seconds_shown(run: PreparedRun, begin: float, end: float) -> set[tuple[str, int]]:
    """(content, second) of all that was shown in seconds `begin` to `end` of a run; a loop."""
    seen = set()
    for shown in run.shown:
        first, last = max(begin, shown.onset), min(end, shown.onset + shown.duration)
        if last - first > 2e-6:
            low, high = (at - shown.onset + shown.start for at in (first, last))
            seen |= {
                (shown.source.content(), second)
                for second in range(math.floor(low + 1e-6), math.ceil(high - 1e-6))
            }
    return seen


def seconds_of_windows(run, span, step):
    """All that is shown while the features of a window, or its BOLD, are taken."""
    seen = set()
    for window in windows(run, span, length=WINDOW, step=step, lag=LAG):
        last_bold = run.origin + window.first + window.n - 1
        assert window.first >= 0
        assert window.first + window.n <= run.rows
        assert run.origin + window.first == pytest.approx(window.begin + LAG)
        seen |= seconds_shown(run, window.begin, max(window.begin + window.n, last_bold))
    return seen


@settings(max_examples=200, deadline=None)
@given(
    runs=studies(),
    seed=st.integers(0, 50),
    step=st.integers(1, 130),
    rows=st.sampled_from([30, 200, 900]),
    held_out=st.booleans(),
)
def test_no_second_of_stimulus_is_on_two_sides(runs, seed, step, rows, held_out):
    try:
        parts = split(
            runs,
            {"validation": 0.3, "test": 0.3},
            seed=seed,
            held_out_subjects=["s/2"] if held_out and any_person(runs, "s", "2") else (),
            lag=LAG,
        )
    except InputError:
        assume(False)
    prepared = {run.name: as_prepared(run, rows) for run in runs}
    seen: dict[str, set] = {}
    for span, side in parts.items():
        found = seconds_of_windows(prepared[span.run], span, step)
        seen.setdefault(side, set()).update(found)
    train = seen.get("train", set())
    for side in ("validation", "test", "held_out_unseen"):
        assert not train & seen.get(side, set()), side
    assert not seen.get("validation", set()) & seen.get("test", set())


def any_person(runs, study, subject):
    return any((run.study, run.subject) == (study, subject) for run in runs)


@settings(max_examples=60, deadline=None)
@given(runs=studies(), seed=st.integers(0, 50), order=st.randoms(use_true_random=False))
def test_neither_order_nor_a_new_film_moves_anything(runs, seed, order):
    try:
        parts = split(runs, {"validation": 0.4}, seed=seed)
    except InputError:
        assume(False)
    shuffled = order.sample(runs, len(runs))
    assert split(shuffled, {"validation": 0.4}, seed=seed) == parts
    new = Run("u", "1", "new", runs[0].bold, 1.0, (Shown(Content("new"), 0.0, 50.0, "new"),))
    more = split([new, *runs], {"validation": 0.4}, seed=seed)
    assert {span: side for span, side in more.items() if span.run != new.name} == parts


@settings(max_examples=60, deadline=None)
@given(runs=studies())
def test_every_second_is_in_a_window_but_those_near_another_group(runs):
    groups = merged_groups(runs)
    for run in runs:
        prepared = as_prepared(run, 2000)
        found = spans(run, groups, LAG)
        used = set().union(*(seconds_of_windows(prepared, span, 40) for span in found))
        assert used <= seconds_shown(prepared, -1e4, 1e4)
        if len({groups[shown.group] for shown in run.shown}) == 1 and run.shown[0].onset >= 0:
            last = max(shown.end for shown in run.shown)
            missed = seconds_shown(prepared, -1e4, 1e4) - used
            # Less than a second at either end does not fill a row.
            edges = seconds_shown(prepared, run.shown[0].onset, run.shown[0].onset + 1)
            assert missed <= edges | seconds_shown(prepared, last - 2, last)


def test_a_split_that_leaks_would_be_found():
    """The test itself: the same film under another name, without the rule that makes them one."""
    bold = ArrayBold(Path("none.npy"), SPACE, 1.0)
    first = Run("s", "1", "a", bold, 1.0, (Shown(Content("A"), 3.0, 120.0, "a"),))
    second = replace(first, task="b", shown=(Shown(Content("A"), 9.0, 30.0, "b", start=115.0),))
    seen = [
        seconds_of_windows(as_prepared(run, 300), spans(run)[0], 100) for run in (first, second)
    ]
    assert seen[0] & seen[1] == {("A", second) for second in range(115, 120)}
