"""Comparisons: the right rows are paired, and the differences are those of direct loops."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from evaluation_makers import make_evaluation
from tribrain.errors import InputError
from tribrain.evaluation.compare import TABLE, Comparison, compare, differences, save_comparison
from tribrain.evaluation.evaluation import GROUP, Evaluation
from tribrain.evaluation.statistics.bootstrap import bootstrap_blocks

WAYS = ("model", "fir", "nuisance")
FILMS = {"a": 90, "b": 60}


def made(**more) -> Evaluation:
    return make_evaluation(**{"people": 5, "films": FILMS, "ways": WAYS} | more)


def quick(one: Evaluation, other: Evaluation, ways=None, **more) -> Comparison:
    return compare(one, other, ways, **{"draws": 200} | more)


def table(comparison: Comparison, way: str = "model") -> dict[str, float]:
    (row,) = comparison.table[comparison.table["way"] == way].to_dict("records")
    return row


def without(evaluation: Evaluation, rows: pd.Series) -> Evaluation:
    return dataclasses.replace(evaluation, moments=evaluation.moments[~rows])


def looped(one: Evaluation, other: Evaluation, way: str, against: str) -> dict[str, list[float]]:
    """Differences of each person's shared rows, in plain loops over rows."""
    held: list[dict[tuple, list[float]]] = []
    for evaluation, name in ((one, way), (other, against)):
        shares: dict[tuple, list[float]] = {}
        for row in evaluation.moments.to_dict("records"):
            if row["way"] == name and row["subject"] != GROUP and row["value"] == row["value"]:
                key = (row["study"], row["group"], row["subject"], round(row["second"], 3))
                shares.setdefault(key, []).append(float(row["value"]))
        held.append(shares)
    found: dict[str, list[float]] = {}
    for key, values in held[0].items():
        if key in held[1]:
            difference = np.mean(values) - np.mean(held[1][key])
            found.setdefault(key[2], []).append(float(difference))
    return found


def test_a_known_gain_is_found() -> None:
    """The same noise in both: the difference is the gain itself, and nothing else differs."""
    found = quick(made(gains={"model": 0.03}), made())
    row = table(found)
    assert row["difference"] == pytest.approx(0.03, abs=1e-6)
    assert row["R_group_difference"] == pytest.approx(2.2 * 0.03, abs=1e-6)
    assert (row["people"], row["rows"], row["better"]) == (5, 5 * 150, 5)
    assert row["p"] < 0.05
    assert row["p_people"] == pytest.approx(2 / 2**5)
    assert list(found.table.columns) == list(TABLE)
    for way in ("fir", "nuisance"):
        other = table(found, way)
        assert (other["difference"], other["low"], other["high"]) == (0, 0, 0)
        assert (other["p"], other["p_people"]) == (1, 1)
    assert found.told["notes"] == []
    names = [found.told[key] for key in ("one", "other")]
    assert names == ["quick-small on Made (first)", "quick-small on Made (second)"]


def test_differences_are_those_of_loops_over_what_both_have() -> None:
    """People, films and seconds that one lacks are left out, and said to be."""
    one, other = made(seed=1), made(seed=2, first=2, films={"b": 80, "a": 50, "c": 30})
    odd = other.moments["second"] % 7 == 3
    other = without(other, odd & (other.moments["subject"] == "04"))
    other.moments["second"] += 2e-5  # a clock that was added up
    found = quick(one, other, ["model", ("model", "fir")])
    for against in ("model", "fir"):
        direct = looped(one, other, "model", against)
        row = found.table[found.table["against"] == against].iloc[0]
        people = found.people[found.people["against"] == against].set_index("subject")
        assert set(people.index) == set(direct) == {"03", "04", "05"}
        for subject, values in direct.items():
            assert people.loc[subject, "difference"] == pytest.approx(np.mean(values), abs=1e-9)
            assert people.loc[subject, "rows"] == len(values)
        means = [np.mean(values) for values in direct.values()]
        assert row["difference"] == pytest.approx(np.mean(means), abs=1e-9)
        assert row["r"] - row["r_against"] == pytest.approx(row["difference"], abs=1e-9)
        assert row["rows"] == sum(map(len, direct.values()))
    shared = int(found.table["rows"].iloc[0])
    notes = " | ".join(found.told["notes"])
    assert f"{750 - shared:,} of 750 rows are in the first alone" in notes
    assert "among them all of 2 people" in notes
    assert "in the second alone" in notes


def test_the_interval_is_that_of_the_paired_shares() -> None:
    one, other = made(seed=1), made(seed=1, variant=5, gains={"model": -0.02})
    found = table(quick(one, other, ["model"], block=20, draws=300, seed=4))
    films = []
    for film, rows in FILMS.items():
        values = np.full((5, rows), np.nan)
        for evaluation, sign in ((one, 1), (other, -1)):
            part = evaluation.moments
            part = part[(part["way"] == "model") & (part["group"] == film)]
            for person in range(5):
                own = part[part["subject"] == f"{person + 1:02d}"].sort_values("second")["value"]
                kept = 0.0 if sign > 0 else values[person]
                values[person] = kept + sign * own.to_numpy(float)
        films.append(values)
    direct = bootstrap_blocks(films, block=20, draws=300, seed=4)
    assert found["difference"] == pytest.approx(direct.mean, abs=1e-9)
    assert (found["low"], found["high"]) == pytest.approx((direct.low, direct.high), abs=1e-9)
    assert found["p"] == pytest.approx(direct.p)
    assert found["low"] < found["difference"] < found["high"]


def test_p_over_people_is_that_of_all_sign_flips() -> None:
    found = quick(made(), made(variant=3, gains={"model": -0.004}), ["model"])
    values = found.people["difference"].to_numpy()
    direct = scipy.stats.permutation_test(
        (values,), np.mean, permutation_type="samples", alternative="two-sided"
    )
    assert table(found)["p_people"] == pytest.approx(direct.pvalue)
    assert table(found)["better"] == (values > 0).sum()


def test_the_other_way_round_is_the_negative() -> None:
    one, other = made(), made(variant=1, gains={"fir": 0.01})
    a, b = quick(one, other), quick(other, one)
    for way in WAYS:
        there, back = table(a, way), table(b, way)
        for key in ("difference", "R_group_difference"):
            assert there[key] == pytest.approx(-back[key])
        for key in ("p_people", "people", "rows"):
            assert there[key] == back[key]


def test_equal_models_differ_by_chance_alone() -> None:
    """With no true difference, 95 % intervals leave 0 out in few of 20 evaluations."""
    missed = 0
    for seed in range(20):
        one, other = (
            make_evaluation(None, people=6, films={"a": 120, "b": 120}, ways=("fir",), seed=seed,
                            variant=variant)
            for variant in (0, 1)
        )  # fmt: skip
        row = compare(one, other, draws=200).table.iloc[0]
        missed += not row["low"] <= 0 <= row["high"]
    assert missed <= 4  # more of 20, at 5 % each: 3 in 1,000 times


def test_repeated_runs_count_as_their_mean() -> None:
    one, other = made(repeats=2, seed=3), made(seed=3)
    found = quick(one, other, ["model"])
    direct = looped(one, other, "model", "model")
    people = found.people.set_index("subject")["difference"]
    for subject, values in direct.items():
        assert people[subject] == pytest.approx(np.mean(values), abs=1e-9)
    assert table(found)["rows"] == 750


def test_ways_of_one_evaluation() -> None:
    evaluation = made()
    found = differences(evaluation, "fir", draws=200)
    assert list(found.table["way"]) == ["model", "nuisance"]
    same = quick(evaluation, evaluation, [("model", "fir"), ("nuisance", "fir")])
    pd.testing.assert_frame_equal(found.table, same.table)
    r = evaluation.scores.groupby(["way", "subject"])["r"].mean()
    weights = evaluation.scores.groupby(["way", "subject"])[["r", "rows"]].apply(
        lambda part: np.average(part["r"], weights=part["rows"])
    )
    assert table(found)["r"] == pytest.approx(weights["model"].mean(), abs=1e-6)
    assert len(r) == 15
    assert set(found.maps) == {"model - fir", "nuisance - fir"}
    np.testing.assert_array_equal(
        found.maps["model - fir"], evaluation.maps["model/r"] - evaluation.maps["fir/r"]
    )
    chosen = differences(evaluation, "fir", ["model"], draws=200).table
    pd.testing.assert_frame_equal(chosen, found.table.iloc[:1])


def test_regions_that_both_have() -> None:
    one, other = made(gains={"model": 0.02}), made()
    other = dataclasses.replace(other, regions=other.regions[other.regions["region"] != "Vis"])
    found = quick(one, other, ["model"]).regions
    assert "Vis" not in set(found["region"])
    assert len(found) == 6
    for row in found.to_dict("records"):
        a, b = (
            part.regions.set_index(["way", "region"])["r"]["model", row["region"]]
            for part in (one, other)
        )
        assert row["difference"] == pytest.approx(a - b)


def test_what_is_missing_stays_missing() -> None:
    one, other = made(people=1), made(people=1, variant=1)
    row = table(quick(one, other, ["model"]))
    assert np.isnan(row["p_people"])
    assert np.isfinite(row["low"])
    alone = without(other, other.moments["subject"] == GROUP)
    row = table(quick(one, alone, ["model"]))
    assert np.isnan(row["R_group_difference"])
    assert np.isnan(row["R_group_p"])
    assert np.isfinite(row["difference"])
    unmeasured = made(people=1, variant=1)
    unmeasured.moments.loc[unmeasured.moments["second"] < 40, "value"] = np.nan
    found = quick(one, unmeasured, ["model"])
    assert table(found)["rows"] == 150 - 2 * 30
    assert "60 of 150 rows are in the first alone" in " ".join(found.told["notes"])


def test_what_differs_is_said() -> None:
    one, other = made(), made(space="fsaverage3")
    other.told.update(lag=4.0, checksums={"Made": "1" * 64})
    found = quick(one, other, ["model"])
    notes = " ".join(found.told["notes"])
    for word in ("the outputs differ (Schaefer42 and fsaverage3)", "checksums", "the lag differs"):
        assert word in notes
    assert not found.maps
    assert found.space is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: made(first=10), "no second that a person saw"),
        (lambda e: made(films={"x": 30}), "no second that a person saw"),
        (lambda e: made(ways=("banded", "people")), "share no way"),
        (lambda e: without(e, e.moments["subject"] != GROUP), "no second that a person saw"),
    ],
    ids=["people", "films", "ways", "group alone"],
)
def test_what_cannot_be_paired_is_refused(change, words: str) -> None:
    one = made()
    with pytest.raises(InputError, match=words) as error:
        quick(one, change(made()))
    assert "\n" not in str(error.value)


def test_unknown_ways_are_refused() -> None:
    evaluation = made()
    for call in (
        lambda: quick(evaluation, evaluation, ["rbf"]),
        lambda: quick(evaluation, evaluation, [("fir", "rbf")]),
        lambda: differences(evaluation, "rbf"),
    ):
        with pytest.raises(InputError, match=r"'rbf' .* model, fir, nuisance"):
            call()
    with pytest.raises(InputError, match="no way but 'fir'"):
        differences(made(ways=("fir",)), "fir")
    with pytest.raises(InputError, match="1 at least"):
        quick(evaluation, evaluation, block=0)


@pytest.mark.parametrize(("step", "rows"), [(0.5, 60), (1.0, 30), (2.0, 15), (90.0, 1)])
def test_blocks_last_as_long_whatever_the_repetition_time(step: float, rows: int) -> None:
    one, other = made(seed=1), made(seed=2)
    for evaluation in (one, other):
        evaluation.moments["second"] *= step
    found = quick(one, other, ["model"])
    assert found.told["block"] == rows
    pd.testing.assert_frame_equal(found.table, quick(one, other, ["model"], block=rows).table)


def test_a_comparison_in_files(tmp_path: Path) -> None:
    found = quick(made(), made(variant=1, first=1))
    (tmp_path / "mine.txt").write_text("stays")
    assert save_comparison(found, tmp_path, report="<p>page</p>") == tmp_path
    save_comparison(found, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"mine.txt", "comparison.tsv", "comparison_people.tsv", "comparison.json",
                     "comparison_regions.tsv"}  # fmt: skip
    read = pd.read_csv(tmp_path / "comparison.tsv", sep="\t", na_values="n/a")
    pd.testing.assert_frame_equal(read, found.table, check_dtype=False, rtol=1e-8)
    people = pd.read_csv(tmp_path / "comparison_people.tsv", sep="\t", dtype={"subject": str})
    assert list(people["subject"]) == list(found.people["subject"])
    told = json.loads((tmp_path / "comparison.json").read_text())
    assert told["notes"] == found.told["notes"]
    assert (told["block"], told["draws"], told["seed"]) == (30, 200, 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        save_comparison(found, tmp_path / "file")


def test_the_seed_tells_the_draws() -> None:
    one, other = made(), made(variant=1)
    a, b, c = (quick(one, other, ["model"], seed=seed).table for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(a, b)
    assert a["low"].iloc[0] != c["low"].iloc[0]
    assert a["difference"].iloc[0] == c["difference"].iloc[0]
