"""The law of scores against points whose law is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tribrain.errors import InputError
from tribrain.training.scaling_law import fit_law, law_line

HOURS = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
INTERCEPT, SLOPE = 0.12, 0.035


def make_points(
    random, *, groups=8, runs=2, seeds=1, between=0.01, training=0.004, noise=0.01, hours=HOURS
):
    """Scores (sizes, seeds, runs) about the law.

    Groups have slopes and heights of their own, trainings are off by as much for all runs.
    """
    x = np.log2(hours)[:, None, None]
    names = np.repeat(np.arange(groups), runs)
    height, slope = random.normal(0, between, (2, groups))[:, names]
    points = INTERCEPT + height + (SLOPE + slope / 4) * x
    points = points + training * random.normal(size=(len(hours), seeds, 1))
    points = points + noise * random.normal(size=(len(hours), seeds, groups * runs))
    return points, [f"film{name}" for name in names]


def test_exact_points_give_their_law():
    points = np.broadcast_to((INTERCEPT + SLOPE * np.log2(HOURS))[:, None, None], (5, 1, 6))
    law = fit_law(HOURS, points, list("aabbcc"))
    np.testing.assert_allclose((law.intercept, law.slope), (INTERCEPT, SLOPE))
    np.testing.assert_allclose(law.slope_interval, SLOPE)
    np.testing.assert_allclose(law.at(32), INTERCEPT + 5 * SLOPE)
    assert law.explained == pytest.approx(1)
    assert law.notes == ()
    assert law.units == "3 groups, 1 seed"


@pytest.mark.parametrize(
    ("groups", "seeds", "between", "training"),
    [(8, 1, 0.01, 0.002), (8, 1, 0.0, 0.006), (5, 3, 0.01, 0.006), (3, 1, 0.02, 0.0)],
)
def test_intervals_hold_the_truth_as_often_as_they_say(groups, seeds, between, training):
    random = np.random.default_rng(3)
    n, slopes, expected = 200, 0, 0
    for _ in range(n):
        points, names = make_points(
            random, groups=groups, seeds=seeds, between=between, training=training
        )
        law = fit_law(HOURS, points, names, draws=200)
        low, high = law.slope_interval
        slopes += low <= SLOPE <= high
        _, low, high = law.at(32)
        expected += low <= INTERCEPT + 5 * SLOPE <= high
    assert slopes / n >= 0.92  # of 0.95; one standard error is 0.015
    assert expected / n >= 0.92


@pytest.mark.parametrize(("people", "seeds"), [(4, 1), (6, 3)])
def test_intervals_over_people_hold_the_slope_of_all_people(people, seeds):
    """Slopes differ from person to person more than from group to group."""
    random = np.random.default_rng(4)
    n, held, without = 200, 0, 0
    x = np.log2(HOURS)[:, None, None]
    for _ in range(n):
        points, names = make_points(random, runs=people, seeds=seeds)
        whose = np.tile(np.arange(people), 8)
        points = points + (0.012 * random.normal(size=people))[whose] * x
        law = fit_law(HOURS, points, names, [f"study/{one}" for one in whose], draws=200)
        low, high = law.slope_interval
        held += low <= SLOPE <= high
        low, high = fit_law(HOURS, points, names, draws=200).slope_interval
        without += low <= SLOPE <= high
    assert held / n >= 0.92
    assert without / n < 0.7  # what it is for
    assert law.units == f"8 groups, {people} people, {seeds} seed{'s' * (seeds > 1)}"


def test_one_person_is_told():
    points, names = make_points(np.random.default_rng(0))
    plain = fit_law(HOURS, points, names)
    law = fit_law(HOURS, points, names, ["01"] * len(names))
    assert law.slope_interval == plain.slope_interval
    assert "95 %, 8 groups, one person, 1 seed)" in law_line(law, "subjects")
    assert any("tells nothing of others" in note for note in law.notes)


def test_intervals_are_not_wide_without_need():
    """With many groups, the interval is about that of a plain least-squares law of each group."""
    random = np.random.default_rng(1)
    points, names = make_points(random, groups=60, runs=1, training=0.0)
    law = fit_law(HOURS, points, names)
    laws = np.polynomial.polynomial.polyfit(np.log2(HOURS), points[:, 0], 1)[1]
    width = 2 * 1.96 * laws.std(ddof=1) / np.sqrt(len(laws))
    low, high = law.slope_interval
    assert width < high - low < 1.8 * width  # the scatter holds some of it again


def test_a_poor_fit_and_few_points_are_told():
    bent = np.broadcast_to(np.array([0.1, 0.3, 0.1, 0.3])[:, None, None], (4, 2, 6))
    law = fit_law(HOURS[:4], bent, list("aabbcc"))
    assert any("poor" in note for note in law.notes)
    two = fit_law(HOURS[:2], bent[:2], list("aabbcc"))
    assert any("two sizes" in note for note in two.notes)
    assert np.isnan(two.explained)
    three = fit_law(HOURS[:3], bent[:3], list("aabbcc"))
    assert any("3 sizes" in note for note in three.notes)


def test_no_growth_is_told():
    random = np.random.default_rng(0)
    points = 0.2 + 0.02 * random.normal(size=(5, 1, 12))
    law = fit_law(HOURS, points, list("abcdef") * 2)
    low, high = law.slope_interval
    assert low < 0 < high
    assert any("do not show that more helps" in note for note in law.notes)


def test_few_groups_are_replaced_by_runs_and_told():
    points, names = make_points(np.random.default_rng(0), groups=2, runs=5)
    law = fit_law(HOURS, points, names)
    assert law.units == "10 runs, 1 seed"
    assert any("nothing of other stimuli" in note for note in law.notes)


def test_a_single_run_and_seed_have_an_interval_of_scatter_or_none():
    points = (INTERCEPT + SLOPE * np.log2(HOURS) + [0, 0.001, -0.001, 0.001, 0])[:, None, None]
    assert np.isfinite(fit_law(HOURS, points, ["a"]).slope_interval).all()
    law = fit_law(HOURS[:2], points[:2], ["a"])
    assert np.isnan(law.slope_interval).all()
    assert "no interval" in law_line(law, "hours")
    json.dumps(law.as_table(), allow_nan=False)


def test_runs_without_a_score_are_left_out_and_told():
    points, names = make_points(np.random.default_rng(0))
    damaged = points.copy()
    damaged[2, 0, 0] = np.nan
    law = fit_law(HOURS, damaged, names)
    without = fit_law(HOURS, points[:, :, 1:], names[1:])
    assert law.slope == without.slope
    assert "1 runs without a score" in law.notes[0]
    with pytest.raises(InputError, match="no run could be scored"):
        fit_law(HOURS, np.full_like(points, np.nan), names)
    with pytest.raises(InputError, match="two or more"):
        fit_law([2.0, 2.0], points[:2], names)


def test_the_line_says_it_all():
    points, names = make_points(np.random.default_rng(0))
    law = fit_law(HOURS, points, names)
    line = law_line(law, "hours")
    low, high = law.slope_interval
    assert "\n" not in line
    for told in (f"{law.intercept:.4f}", f"{low:.4f} to {high:.4f}", "expected at 32 hours"):
        assert told in line
    falling = fit_law(HOURS, points[::-1], names)
    assert " - 0.0" in law_line(falling, "hours")
