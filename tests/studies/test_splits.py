"""Splits: what stays together, what moves, what is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prepared_makers import SPACE, Tiny, features
from tribrain.errors import InputError, InputWarning
from tribrain.studies.arrays import ArrayBold
from tribrain.studies.groups import Span, merged_groups, spans
from tribrain.studies.prepare import prepare
from tribrain.studies.prepared import open_prepared, windows
from tribrain.studies.runs import Run, Shown
from tribrain.studies.splits import SIDES, describe, split

BOLD = ArrayBold(Path("none.npy"), SPACE, 1.0)


def run(subject, *shown, study="tiny", task="t", number=""):
    shown = tuple(sorted(shown, key=lambda one: one.onset))
    return Run(study, subject, task, BOLD, 1.0, shown, number=number)


def film(name, onset=10.0, duration=50.0, group=None, start=0.0):
    return Shown(features(name), onset, duration, group or name, start)


def many(n=40, people=("1", "2"), study="tiny"):
    return [run(p, film(f"f{k}"), task=f"f{k}", study=study) for p in people for k in range(n)]


def groups_of(parts, side):
    return {span.group for span, where in parts.items() if where == side}


def test_the_published_fraction_of_many_films():
    parts = split(many(200), seed=1)
    assert set(parts.values()) == {"train", "validation"}
    # 200 films, each with probability 0.1: 20 with a standard deviation of 4.
    assert 8 < len(groups_of(parts, "validation")) < 32
    assert not groups_of(parts, "validation") & groups_of(parts, "train")
    both = split(many(200), {"validation": 0.1, "test": 0.2}, seed=1)
    assert groups_of(both, "validation") == groups_of(parts, "validation")
    assert 20 < len(groups_of(both, "test")) < 60


def test_the_same_seed_and_any_order_give_the_same_split():
    runs = many()
    parts = split(runs)
    shuffled = [runs[k] for k in np.random.default_rng(0).permutation(len(runs))]
    again = split(shuffled)
    assert list(again.items()) == list(parts.items())
    assert split(runs, seed=1) != parts
    # The very sides, so that a new version of the package moves no film either.
    assert groups_of(parts, "validation") == {"f17", "f37"}


@pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")
def test_new_films_people_and_studies_move_no_other():
    parts = split(many())
    more = split([*many(60, ("1", "2", "3")), *many(5, ("1",), "second")])
    assert {span: more[span] for span in parts} == parts
    assert len(more) == 60 * 3 + 5


def test_prepared_runs_split_as_the_runs_of_the_study(tmp_path):
    study = Tiny(tmp_path / "raw").write()
    prepare(study, tmp_path / "store")
    runs = open_prepared(tmp_path / "store").runs
    parts = split(runs, {}, test_groups=["bee"])
    assert parts == split(list(study.runs()), {}, test_groups=["bee"])
    assert len(parts) == 6


@pytest.mark.parametrize(
    ("other", "one"),
    [
        (film("ant", start=0.0, group="z"), True),
        (film("ant", start=49.0, group="z"), True),
        (film("ant", start=49.5, group="z"), True),
        (film("ant", start=50.0, group="z"), False),
        (film("ant", start=70.0, group="z", duration=10.0), False),
        (film("bee", group="z"), False),
        (film("bee", group="ant"), True),
    ],
)
def test_groups_that_share_seconds_of_a_content_are_one(other, one):
    groups = merged_groups([run("1", film("ant")), run("2", other, study="second")])
    assert (groups["ant"] == groups[other.group]) is one
    assert groups["ant"] == "ant"


def test_a_chain_of_repeats_is_one_group():
    runs = [
        run("1", film("ant", group="d"), task="a"),
        run("1", film("ant", group="c", start=40.0), task="b"),
        run("1", film("ant", group="b", start=80.0, duration=15.0), task="c"),
        run("2", film("bee", group="b"), task="d"),
        run("2", film("cat", group="a"), task="e"),
    ]
    assert merged_groups(runs) == {"a": "a", "b": "b", "c": "b", "d": "b"}


def test_what_is_shown_at_once_is_one_group():
    at_once = run("1", film("ant", 10, 50), film("bee", 30, 10), film("cat", 60, 10))
    assert merged_groups([at_once]) == {"ant": "ant", "bee": "ant", "cat": "cat"}
    (first, second) = spans(at_once)
    assert (first.group, first.begin, first.end) == ("ant", 10, 55)
    assert (second.group, second.begin, second.end) == ("cat", 65, 70)


def test_a_small_overlap_is_left_out_of_both():
    parts = spans(run("1", film("ant", 10, 50.25), film("bee", 60, 50)), lag=0, gap=0)
    assert [(p.group, p.begin, p.end) for p in parts] == [("ant", 10, 60), ("bee", 60.25, 110)]


def test_spans_end_before_the_bold_of_the_next_group():
    shown = [film("ant", 10, 50), film("ant", 61, 9), film("bee", 72, 20), film("ant", 120, 30)]
    assert spans(run("1", *shown)) == (
        Span("tiny", "sub-1_task-t", "1", 10, 67, "ant"),
        Span("tiny", "sub-1_task-t", "1", 75, 92, "bee"),  # ant ended at 70
        Span("tiny", "sub-1_task-t", "1", 120, 150, "ant"),
    )
    assert spans(run("1")) == ()
    assert [span.begin for span in spans(run("1", *shown), gap=0)] == [10, 72, 120]


def test_a_span_begins_once_the_bold_of_the_group_before_is_over():
    """Of one draw after the other: what is left of the first in the rows of the second."""
    glover = np.exp(-np.arange(30) / 1.0) * np.arange(30) ** 5 / 120  # peak at 5 s
    first = run("1", film("ant", 0, 60), film("bee", 60, 60))
    answer = np.convolve(np.repeat([1.0, 0.0], 60), glover)[:120]
    at = {gap: round(spans(first, gap=gap)[1].begin + 5) for gap in (0.0, 5.0)}
    assert answer[at[0.0]] > 0.5
    assert answer[at[5.0]] < 0.05
    assert spans(first)[1].begin == 65


def clips(seconds, every, n=40, people=("1",), group=None):
    return [
        run(p, *(film(f"f{k}", every * k, seconds, group and group(k)) for k in range(n)))
        for p in people
    ]


@pytest.mark.filterwarnings("ignore:.*cleaned as a whole")
@pytest.mark.parametrize(
    ("seconds", "every", "lost"),
    [
        # The last 3 s before the next block and the first 3 s after the one before.
        (12.0, 14.0, "48.8 %"),  # (39 * 3 + 39 * 3) / 480
        (60.0, 62.0, "9.75 %"),
    ],
)
def test_time_that_is_on_no_side_is_said(seconds, every, lost):
    told = rf"{lost} of the time shown \(.* of .* h\) is on no side.* group_column"
    with pytest.warns(InputWarning, match=told):
        parts = split(clips(seconds, every), {}, test_groups=["f3"])
    kept = sum(span.hours for span in parts) * 3600
    assert kept == pytest.approx(40 * seconds - 39 * 6)
    table = describe(parts, clips(seconds, every))
    assert list(table.index) == ["train", "test", "on_no_side"]
    assert table.loc["on_no_side", "hours"] * 3600 == pytest.approx(39 * 6)
    assert table["share"][:2].sum() == pytest.approx(1)


def test_trials_of_which_nothing_is_left():
    with pytest.raises(InputError, match=r"nothing is left to split: 100 % of .*group_pattern"):
        split(clips(3.0, 4.0))
    wide = clips(3.0, 4.0, people=("1", "2"))
    wide[1] = replace(wide[1], shown=tuple(replace(one, group="x") for one in wide[1].shown))
    one_group = [replace(wide[0], shown=()), wide[1], run("3", film("z"), task="z")]
    assert len(split(one_group, {}, test_groups=["z"])) == 2


def test_a_run_with_stretches_on_two_sides_is_said():
    runs = [*many(5), run("1", film("f1", 10), film("f2", 100), task="both")]
    with pytest.warns(InputWarning, match="1 of 11 runs have stretches .* tiny/sub-1_task-both"):
        split(runs, {}, test_groups=["f1"])
    split(runs, {}, test_groups=["f1", "f2"])
    split(runs, {}, test_groups=["f3"])


def test_hours_are_those_of_rows_where_runs_are_prepared(tmp_path):
    study = Tiny(tmp_path / "raw").write()
    prepare(study, tmp_path / "store")
    runs = [replace(run, rows=50) for run in open_prepared(tmp_path / "store").runs]
    parts = split(runs, {}, test_groups=["bee"])
    assert describe(parts)["hours"].sum() * 3600 == pytest.approx(600)
    hours = describe(parts, runs)["hours"] * 3600
    assert list(hours.index) == ["train", "test"]
    for side, films in (("train", ("ant", "cat")), ("test", ("bee",))):
        rows = sum(sum(w.n for w in windows(one)) for one in runs if one.task in films)
        assert hours[side] == pytest.approx(rows, abs=2 * len(films))


@pytest.mark.parametrize(
    "changes", [{"duration": np.nan}, {"duration": np.inf}, {"onset": -np.inf}, {"start": np.nan}]
)
def test_times_that_are_no_numbers(changes):
    wrong = Run("tiny", "1", "t", BOLD, 1.0, (replace(film("ant"), **changes),))
    for job in (lambda: merged_groups([wrong]), lambda: spans(wrong), lambda: split([wrong])):
        with pytest.raises(InputError, match=r"tiny/sub-1_task-t: ant has onset .*; seconds fit"):
            job()


def test_groups_can_be_put_on_a_side_with_all_that_is_one_with_them():
    runs = [*many(20), run("1", film("f3", group="again"), task="again")]
    parts = split(runs, {}, test_groups=["again"], validation_groups=["f5"])
    assert groups_of(parts, "test") == {"again"}
    assert {span.run for span, side in parts.items() if side == "test"} == {
        "sub-1_task-f3",
        "sub-2_task-f3",
        "sub-1_task-again",
    }
    assert groups_of(parts, "validation") == {"f5"}
    with pytest.raises(
        InputError, match="test group 'again' is also in validation; one: again, f3"
    ):
        split(runs, validation_groups=["f3"], test_groups=["again"])


def test_people_who_are_held_out():
    runs = [*many(20, ("1", "2", "3")), run("3", film("solo"), task="solo")]
    parts = split(runs, {}, test_groups=["f7"], held_out_subjects=["3"])
    by_run = {span.run: side for span, side in parts.items()}
    assert by_run["sub-1_task-f4"] == "train"
    assert by_run["sub-1_task-f7"] == "test"
    assert by_run["sub-3_task-f4"] == "held_out_seen"
    assert by_run["sub-3_task-f7"] == "held_out_unseen"
    assert by_run["sub-3_task-solo"] == "held_out_unseen", "nobody is trained on it"
    others = {span: side for span, side in parts.items() if span.subject != "3"}
    assert others == split(many(20), {}, test_groups=["f7"])


@pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")
def test_people_of_the_same_name_in_two_studies():
    runs = many(30) + many(30, ("1",), "second")
    with pytest.raises(InputError, match="in several studies; say which: second/1, tiny/1"):
        split(runs, held_out_subjects=["1"])
    parts = split(runs, held_out_subjects=["second/1"])
    assert {span.study for span, side in parts.items() if side.startswith("held")} == {"second"}


def test_a_table_of_what_fell_where():
    parts = split(many(20, ("1", "2", "3")), {}, test_groups=["f7", "f8"], held_out_subjects=["3"])
    table = describe(parts)
    assert list(table.index) == ["train", "test", "held_out_seen", "held_out_unseen"]
    assert list(table.index) == [side for side in SIDES if side in table.index]
    assert table.loc["test"].to_dict() == {
        "hours": pytest.approx(4 * 50 / 3600),
        "share": pytest.approx(4 / 60),
        "people": 2,
        "runs": 4,
        "groups": 2,
        "names": "f7, f8",
    }
    assert table["share"].sum() == pytest.approx(1)
    assert table["hours"].sum() == pytest.approx(3000 / 3600)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"fractions": {"train": 0.9}}, "fraction of 'train': validation and test fit"),
        ({"fractions": {"test": 1.5}}, r"fraction 1.5 of test: from 0 to below 1 fits"),
        ({"fractions": {"test": 0.5, "validation": 0.5}}, "leave nothing to train on"),
        ({"test_groups": ["g"]}, r"test group 'g' is unknown; known: f0, f1, .* \(20 in all\)"),
        ({"held_out_subjects": ["9"]}, "subject '9' is unknown; known: tiny/1, tiny/2"),
        ({"held_out_subjects": "12"}, "a list of names fits"),
        ({"held_out_subjects": ["1", "2"]}, "there is none to draw from"),
        ({"fractions": {}, "test_groups": [f"f{k}" for k in range(20)]}, "train would be empty"),
    ],
)
def test_what_cannot_be_split(options, told):
    with pytest.raises(InputError, match=told):
        split(many(20), **options)


def test_one_film_cannot_be_split():
    with pytest.raises(InputError, match="train, validation need a group each, and there is f0 to"):
        split(many(1))
    repeated = [*many(1), run("1", film("f0", group="other"), task="other")]
    with pytest.raises(InputError, match=r"and there is f0 to draw from .* are one"):
        split(repeated)


def test_rest_cannot_be_split_and_runs_are_there_once():
    with pytest.raises(InputError, match="nothing is shown in these runs"):
        split([run("1"), run("2")])
    with pytest.raises(InputError, match="run tiny/sub-1_task-f0 is there twice"):
        split([*many(5), many(5)[0]])


def test_few_films_name_a_seed_that_does():
    """The seed that is proposed holds what is said of it."""
    runs = many(4)
    empty = next(
        seed for seed in range(100) if len({side_or_none(runs, seed, k) for k in range(4)}) == 1
    )
    with pytest.raises(InputError, match="validation would be empty with seed") as raised:
        split(runs, seed=empty)
    seed = int(str(raised.value).split("; seed ")[1].split()[0])
    with pytest.warns(InputWarning, match="25 % is validation where 10 % was asked, as 4 groups"):
        assert len(groups_of(split(runs, seed=seed), "validation")) == 1


def side_or_none(runs, seed, number):
    """Side that a film has among many, which is that which it has among few."""
    parts = split(many(100, ("1",)), seed=seed)
    return next(side for span, side in parts.items() if span.group == f"f{number}")


def test_a_long_film_counts_for_its_time():
    runs = many(10)
    parts = split(many(100), seed=0)
    long = min(groups_of(parts, "validation") & {f"f{k}" for k in range(100)})
    runs = [*many(100), run("3", replace(film(long), duration=50_000.0), task="long")]
    with pytest.warns(InputWarning, match="is validation where 10 % was asked"):
        split(runs, seed=0)
