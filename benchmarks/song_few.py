"""Few minutes of a new person on the SONG benchmark (W3): ridge, and rows on the states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from song_baselines import (
    PENALTIES,
    Ridge,
    fitted_ridge,
    residual_ridge,
    rest_settings,
    tuned_ridge,
    with_rest,
)
from song_members import PENALTY, Member, newcomers
from song_rows import Bench, Films, Told, over_people, zscored
from tribrain.studies.song import HELD_OUT, TRAINED, Rows, few_shot

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
    settings = rest_settings(bench)
    base = tuned_ridge(bench, bench.split.train, bench.mean(bench.train, TRAINED))
    print(f"\nfew shot{'':38}{''.join(f'{m:>16g}' for m in MINUTES)}  minutes")
    lines: dict[str, list[tuple[float, float]]] = {}
    for minutes in MINUTES:
        rows = bench.split.train if minutes == _WHOLE else few_shot(minutes)
        answers = bench.cut(rows, HELD_OUT)
        own = {p: {film: answers[film, p] for film in rows} for p in HELD_OUT}
        told: dict[str, Told] = {}
        scratch = {p: tuned_ridge(bench, rows, own[p], [base.fading], [base.lag]) for p in HELD_OUT}
        told["ridge from scratch"] = _told(bench, scratch)
        told["ridge, best penalty (on test rows)"] = _best(bench, base, rows, own)
        towards = {p: residual_ridge(bench, base, rows, own[p]) for p in HELD_OUT}
        told["group ridge + ridge on the rest"] = _told(bench, towards)
        rest = with_rest(bench, kernel, settings, rows, answers, HELD_OUT)
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


def _told(bench: Bench, by_person: Mapping[str, Ridge]) -> Told:
    return {
        (film, person): values
        for person, ridge in by_person.items()
        for film, values in ridge.predict(bench, bench.split.test).items()
    }


def _best(bench: Bench, base: Ridge, rows: Mapping[str, Rows], own: Mapping[str, Films]) -> Told:
    """Ridge from scratch with the one penalty that is best on test rows."""
    path = {
        p: fitted_ridge(bench, rows, own[p], base.fading, base.lag, PENALTIES) for p in HELD_OUT
    }
    found = [_told(bench, {p: path[p][n] for p in HELD_OUT}) for n in range(len(PENALTIES))]
    return max(found, key=lambda told: over_people(bench, HELD_OUT, told)[0])


def _mean_told(parts: Sequence[Told]) -> Told:
    return {key: np.mean([zscored(part[key]) for part in parts], axis=0) for key in parts[0]}
