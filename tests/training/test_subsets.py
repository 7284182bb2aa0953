"""Nested parts of the training side."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from training_data_makers import Content, coded_run
from tribrain.errors import InputError
from tribrain.studies.groups import Span
from tribrain.studies.prepared import windows
from tribrain.studies.runs import Shown
from tribrain.studies.splits import split
from tribrain.training.subsets import fewer_hours, fewer_people

FILMS = "ABCDEFGH"
LENGTH = 20


def make_runs(people=("1", "2", "3"), seconds=90, films=FILMS):
    return [
        coded_run(
            [Shown(Content(film), 5.0, seconds, group=f"film{film}")],
            rows=seconds + 15,
            subject=person,
            name=f"sub-{person}_film{film}",
        )
        for person in people
        for film in films
    ]


def sides_of(runs):
    return split(runs, {}, validation_groups=["filmA"], test_groups=["filmB"])


def rows_of(sides, runs):
    """(run, row) of every measured second that is trained on."""
    known = {run.name: run for run in runs}
    found = set()
    for span, side in sides.items():
        if side == "train":
            for window in windows(known[span.run], span, length=1):
                found.add((span.run, window.first))
    return found


def seconds_of_each(sides, runs):
    subjects = {run.name: run.subject for run in runs}
    return Counter(subjects[run] for run, _ in rows_of(sides, runs))


@pytest.mark.parametrize("seed", [0, 1])
def test_smaller_parts_are_contained_in_larger_ones(seed):
    runs = make_runs()
    whole = sides_of(runs)
    total = len(rows_of(whole, runs))
    before = set()
    for seconds in (60, 100, 300, 301, 700, 1100, total):
        sides = fewer_hours(whole, runs, seconds / 3600, length=LENGTH, seed=seed)
        rows = rows_of(sides, runs)
        assert before <= rows
        assert abs(len(rows) - seconds) <= LENGTH / 2
        each = seconds_of_each(sides, runs).values()
        assert len(each) == 3
        assert max(each) - min(each) <= LENGTH
        before = rows
    assert before == rows_of(whole, runs)
    assert list(sides) == list(whole)


def test_other_sides_stay_and_what_is_left_is_whole_but_for_one_group_a_person():
    runs = make_runs()
    whole = sides_of(runs)
    sides = fewer_hours(whole, runs, 700 / 3600, length=LENGTH)
    others = {span: side for span, side in whole.items() if side != "train"}
    assert {span: side for span, side in sides.items() if side != "train"} == others
    for person in "123":
        trained = [s for s, side in sides.items() if side == "train" and s.subject == person]
        cut = [span for span in trained if span not in whole]
        assert len(cut) <= 1
        for span in cut:
            lost = span.end - span.begin
            assert math.isclose(lost % LENGTH, 0, abs_tol=1e-6)


def test_groups_come_in_one_order_for_everyone_and_another_with_another_seed():
    runs = make_runs()
    whole = sides_of(runs)

    def films(seed, seconds=3 * 90):
        sides = fewer_hours(whole, runs, seconds / 3600, length=90, seed=seed)
        return {
            person: {
                s.group for s, side in sides.items() if side == "train" and s.subject == person
            }
            for person in "123"
        }

    found = [films(seed) for seed in range(6)]
    for one in found:
        assert one["1"] == one["2"] == one["3"]
        assert len(one["1"]) == 1
    assert len({min(one["1"]) for one in found}) > 1


def test_who_has_less_gives_all_of_it():
    runs = make_runs(("1",)) + make_runs(("2",), films="ABC")
    whole = sides_of(runs)
    each = seconds_of_each(fewer_hours(whole, runs, 400 / 3600, length=LENGTH), runs)
    assert each["2"] == 90
    assert abs(each["1"] - 310) <= LENGTH / 2


def test_more_hours_than_there_are_or_too_few_are_refused():
    runs = make_runs()
    whole = sides_of(runs)
    with pytest.raises(InputError, match=r"2 hours to train on, and the training side has 0\.45"):
        fewer_hours(whole, runs, 2, length=LENGTH)
    with pytest.raises(InputError, match=r"a window for each of 3 people; 0\.017 or more"):
        fewer_hours(whole, runs, 0.01, length=LENGTH)


def test_people_are_nested_and_drawn_by_the_seed():
    people = tuple("123456")
    runs = make_runs(people, films="ABC")
    whole = sides_of(runs)

    def drawn(count, seed=0):
        return {s.subject for s, side in fewer_people(whole, count, seed=seed).items()
                if side == "train"}  # fmt: skip

    assert drawn(1) < drawn(2) < drawn(4) < drawn(6) == set(people)
    assert len({min(drawn(1, seed)) for seed in range(8)}) > 1
    tested = [span for span, side in whole.items() if side != "train"]
    assert [s for s, side in fewer_people(whole, 1).items() if side != "train"] == tested
    with pytest.raises(InputError, match="7 people to train on, and the training side has 6"):
        fewer_people(whole, 7)


def test_a_new_person_changes_no_place_of_the_others():
    few, many = (sides_of(make_runs(people, films="ABC")) for people in (("1", "2"), tuple("123")))
    first, second = (
        next(s.subject for s, side in fewer_people(sides, 1).items() if side == "train")
        for sides in (few, many)
    )
    assert second in (first, "3")


def test_spans_without_bold_do_not_count():
    runs = make_runs(("1",), films="ABC")
    late = Span("coded", runs[2].name, "1", 500.0, 600.0, "filmC")
    sides = {**sides_of(runs), late: "train"}
    assert late not in fewer_hours(sides, runs, 60 / 3600, length=LENGTH)
