"""Few minutes of a new person on the SONG benchmark (W3): ridge, and rows on the states."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.base import clone

from song_baselines import TUNED, Design, of_group, of_people, rest_ridge, settled, with_rest
from song_members import PENALTY, Member, newcomers
from song_rows import Bench, Films, Told, over_people, zscored
from tribrain.evaluation.ridges import ScaledRidge
from tribrain.studies.song import HELD_OUT, Rows, few_shot

_WHOLE = 47.9
MINUTES = (5.0, 10.0, 20.0, _WHOLE)


def few_shots(bench: Bench, every: Sequence[Member], n_seeds: int, kernel: Films) -> None:
    """Print the scores of the 6 held out (W3) with some minutes of their own.

    Parameters
    ----------
    bench : Bench
    every : sequence of Member
    n_seeds : int
        How many of them, from the first on, differ by their seed alone.
    kernel : dict of film to ndarray (rows, parcels)
        Test rows that kernel ridge predicts for everyone.
    """
    rest_of = rest_ridge(bench)
    tuned, _ = of_group(bench, TUNED)
    print(f"\nfew shot{'':38}{''.join(f'{m:>16g}' for m in MINUTES)}  minutes")
    lines: dict[str, list[tuple[float, float]]] = {}
    for minutes in MINUTES:
        rows = bench.split.train if minutes == _WHOLE else few_shot(minutes)
        answers = bench.cut(rows, HELD_OUT)
        told: dict[str, Told] = {}
        scratch = settled(tuned)
        told["ridge from scratch"] = of_people(bench, scratch, rows, answers, HELD_OUT)
        told["ridge, best penalty (on test rows)"] = _best(bench, scratch, rows, answers)
        told["group ridge + ridge on the rest"] = _towards(bench, tuned, rows, answers)
        rest = with_rest(bench, kernel, rest_of, rows, answers, HELD_OUT)
        told["RBF + ridge on the rest"] = rest
        for text, penalty in (("penalty of the 20", PENALTY), ("own penalty", None)):
            parts = [newcomers(bench, one, rows, penalty) for one in every]
            for number in range(min(3, n_seeds)):
                told[f"adapted, {text}, seed {number}"] = parts[number]
            for count in sorted({3, n_seeds, len(every)}):
                if count <= len(every):
                    told[f"adapted, {text}, mean of {count}"] = _mean_told(parts[:count])
            told[f"adapted, {text}, mean of {len(every)} + RBF"] = _mean_told(
                [_mean_told(parts), rest]
            )
        for name, found in told.items():
            lines.setdefault(name, []).append(over_people(bench, HELD_OUT, found))
    for name, values in lines.items():
        print(f"{name:46}{''.join(f'{v:>8.3f} ± {e:.3f}' for v, e in values)}", flush=True)


def _best(bench: Bench, ridge: ScaledRidge, rows: Mapping[str, Rows], told: Told) -> Told:
    """Ridge from scratch with the one penalty that is best on test rows."""
    found = [
        of_people(bench, clone(ridge).set_params(penalties=(one,)), rows, told, HELD_OUT)
        for one in ridge.penalties
    ]
    return max(found, key=lambda told: over_people(bench, HELD_OUT, told)[0])


def _towards(bench: Bench, tuned: ScaledRidge, rows: Mapping[str, Rows], told: Told) -> Told:
    """The group's ridge, and ridge on what it leaves of a person.

    The penalty, up to one that leaves nearly nothing, is chosen by leaving whole films out.
    """
    shown, asked = Design.of(bench, rows), Design.of(bench, bench.split.test)
    shown = dataclasses.replace(shown, groups=shown.runs)
    guessed, found = shown.predicted(tuned), {}
    ridge = settled(tuned).set_params(scoring="r2")
    for person in HELD_OUT:
        fitted = shown.fitted(ridge, {f: told[f, person] - guessed[f] for f in rows})
        for film, values in asked.predicted(tuned).items():
            found[film, person] = values + asked.predicted(fitted)[film]
    return found


def _mean_told(parts: Sequence[Told]) -> Told:
    return {key: np.mean([zscored(part[key]) for part in parts], axis=0) for key in parts[0]}
