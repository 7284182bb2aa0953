"""Ridge and kernel ridge of the SONG benchmark; settings are chosen on training rows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from song_rows import Bench, Films, Predicted, Told, correlation, zscored
from tribrain.studies.song import TRAINED, Rows

PENALTIES = np.logspace(0, 6, 13)
FADINGS = (0.0, 0.25, 0.5)
LAGS = (-1, 0, 1)
WIDTHS = (0.25, 0.5, 1.0)  # of the RBF kernel, in mean squared distances
_KERNEL_FADINGS = (0.25, 0.5)
_KERNEL_PENALTIES = np.logspace(-0.5, 1.5, 5)
_REST_PENALTIES = np.logspace(2.5, 5, 6)


def design(bench: Bench, film: str, rows: Rows, fading: float, lag: int) -> np.ndarray:
    """Faded components (rows, 100) of some rows, `lag` seconds earlier than the BOLD.

    They are z-scored over the part of the film, training or test, in which the rows lie.
    """
    components = bench.components[film]
    parts = [part[film] for part in (bench.split.train, bench.split.test) if film in part]
    first, last = next(p for p in parts if p[0] <= rows[0] and rows[1] <= p[1])
    at = np.clip(np.arange(first, last) - lag, 0, len(components) - 1)
    x = zscored(components[at]) * np.arange(1, components.shape[1] + 1) ** -fading
    return x[rows[0] - first : rows[1] - first]


def ridge_weights(x: np.ndarray, y: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    """Weights (penalties, features, targets) by one singular value decomposition."""
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    uy = u.T @ y
    return np.stack([vt.T @ ((s / (s * s + penalty))[:, None] * uy) for penalty in penalties])


@dataclass(frozen=True, eq=False)
class Ridge:
    """A fitted ridge.

    Attributes
    ----------
    weights : ndarray (components, parcels)
    fading, lag : float, int
        Of the components that it reads.
    penalty : float
    """

    weights: np.ndarray
    fading: float
    lag: int
    penalty: float

    def predict(self, bench: Bench, rows: Mapping[str, Rows]) -> Films:
        """Predicted rows of each film."""
        return {
            f: design(bench, f, r, self.fading, self.lag) @ self.weights for f, r in rows.items()
        }


def halves(x: Films, y: Films) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Leave half of each film out in turn: x and y of the rest, x and y of the half."""
    films = sorted(x)
    for left in films:
        middle = len(x[left]) // 2
        for out in (slice(None, middle), slice(middle, None)):
            kept = np.ones(len(x[left]), bool)
            kept[out] = False
            rest = [(x[f], y[f]) if f != left else (x[f][kept], y[f][kept]) for f in films]
            shown, answered = (np.concatenate(part) for part in zip(*rest, strict=True))
            yield shown, answered, x[left][out], y[left][out]


def tuned_ridge(
    bench: Bench,
    rows: Mapping[str, Rows],
    y: Films,
    fadings: Sequence[float] = FADINGS,
    lags: Sequence[int] = LAGS,
) -> Ridge:
    """Ridge on some rows; penalty, fading and lag are chosen by leaving half a film of them out."""
    films = sorted(rows)
    best = (-np.inf, 0.0, 0, 0)
    for fading in fadings:
        for lag in lags:
            x = {f: design(bench, f, rows[f], fading, lag) for f in films}
            found = np.zeros(len(PENALTIES))
            for shown, answered, asked, truth in halves(x, y):
                weights = ridge_weights(shown, answered, PENALTIES)
                found += [correlation(asked @ w, truth).mean() for w in weights]
            place = int(found.argmax())
            best = max(best, (float(found[place]), fading, lag, place))
    _, fading, lag, place = best
    return fitted_ridge(bench, rows, y, fading, lag, PENALTIES[place : place + 1])[0]


def fitted_ridge(
    bench: Bench, rows: Mapping[str, Rows], y: Films, fading: float, lag: int, penalties: np.ndarray
) -> list[Ridge]:
    """Ridge for each penalty."""
    films = sorted(rows)
    x = np.concatenate([design(bench, f, rows[f], fading, lag) for f in films])
    weights = ridge_weights(x, np.concatenate([y[f] for f in films]), penalties)
    return [Ridge(w, fading, lag, float(p)) for w, p in zip(weights, penalties, strict=True)]


def ridges(bench: Bench) -> dict[str, Predicted]:
    """Ridge on each person's own rows (for people never seen: the group's), and on the mean's.

    Fading and lag, which the components have and not the people, are those of the group.
    """
    start = time.perf_counter()
    rows, test = bench.split.train, bench.split.test
    base = tuned_ridge(bench, rows, bench.mean(bench.train, TRAINED))
    group = base.predict(bench, test)
    of_group = {(film, p): values for film, values in group.items() for p in TRAINED}
    found = {"ridge, group, tuned": Predicted(of_group, group, time.perf_counter() - start)}
    own: Told = {}
    for person in TRAINED:
        answers = {film: bench.train[film, person] for film in rows}
        ridge = tuned_ridge(bench, rows, answers, [base.fading], [base.lag])
        own |= {(film, person): values for film, values in ridge.predict(bench, test).items()}
    found["ridge, own, tuned"] = Predicted(own, group, time.perf_counter() - start)
    return found


def kernel_ridge(bench: Bench) -> Predicted:
    """RBF kernel ridge on the mean; width, fading and penalty by leaving half a film out."""
    start = time.perf_counter()
    rows, test = bench.split.train, bench.split.test
    films = sorted(rows)
    y = bench.mean(bench.train, TRAINED)
    best = (-np.inf, 0.0, 0.0, 0)
    for fading in _KERNEL_FADINGS:
        x = {f: design(bench, f, rows[f], fading, 0) for f in films}
        for width in WIDTHS:
            found = np.zeros(len(_KERNEL_PENALTIES))
            for shown, answered, asked, truth in halves(x, y):
                parts = _kernel_path(shown, answered, asked, width)
                found += [correlation(part, truth).mean() for part in parts]
            place = int(found.argmax())
            best = max(best, (float(found[place]), fading, width, place))
    _, fading, width, place = best
    shown = np.concatenate([design(bench, f, rows[f], fading, 0) for f in films])
    answered = np.concatenate([y[f] for f in films])
    asked = np.concatenate([design(bench, f, r, fading, 0) for f, r in test.items()])
    predicted = _kernel_path(shown, answered, asked, width)[place]
    edges = np.cumsum([last - first for first, last in test.values()])[:-1]
    group = dict(zip(test, np.split(predicted, edges), strict=True))
    of_group = {(film, p): values for film, values in group.items() for p in TRAINED}
    return Predicted(of_group, group, time.perf_counter() - start)


def _kernel_path(x: np.ndarray, y: np.ndarray, asked: np.ndarray, width: float) -> list[np.ndarray]:
    """Predictions (rows asked, targets) for each penalty."""
    x, y, asked = (part.astype(np.float32) for part in (x, y, asked))  # penalties are far above it
    scale = 2 * width * (x * x).sum(1).mean()
    kernel = np.exp(-_distances(x, x) / scale)
    asked = np.exp(-_distances(asked, x) / scale)
    unit = np.eye(len(x), dtype=np.float32)
    return [
        asked @ cho_solve(cho_factor(kernel + penalty * unit), y)
        for penalty in _KERNEL_PENALTIES.astype(np.float32)
    ]


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances (rows of a, rows of b)."""
    return np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T, 0)


def rest_settings(bench: Bench) -> tuple[float, float]:
    """Fading and penalty for ridge on what each of the 20 has beside the mean.

    Those with the least squared error when half a film is left out.
    """
    rest = _rest(bench, bench.split.train, bench.train, TRAINED)
    best = (np.inf, 0.0, 0.0)
    for fading in FADINGS[1:]:
        x = {f: design(bench, f, bench.split.train[f], fading, 0) for f in rest}
        errors = np.zeros(len(_REST_PENALTIES))
        for shown, answered, asked, truth in halves(x, rest):
            weights = ridge_weights(shown, answered, _REST_PENALTIES)
            errors += [((truth - asked @ w) ** 2).mean() for w in weights]
        place = int(errors.argmin())
        best = min(best, (float(errors[place]), fading, float(_REST_PENALTIES[place])))
    return best[1:]


def with_rest(
    bench: Bench,
    group: Films,
    settings: tuple[float, float],
    rows: Mapping[str, Rows],
    told: Told,
    people: Sequence[str],
) -> Told:
    """Test rows of people: the group's, and ridge on what they have beside the mean of the 20.

    Parameters
    ----------
    bench : Bench
    group : dict of film to ndarray (rows, parcels)
        Predicted for everyone.
    settings : (float, float)
        As of `rest_settings`.
    rows : mapping of str to (int, int)
        Of each film, training rows that the people have.
    told : dict of (film, person) to ndarray (rows, parcels)
        Their BOLD there.
    people : sequence of str
    """
    fading, penalty = settings
    rest = _rest(bench, rows, told, people)
    (ridge,) = fitted_ridge(bench, rows, rest, fading, 0, np.array([penalty]))
    found: Told = {}
    for film, values in ridge.predict(bench, bench.split.test).items():
        for person, part in zip(people, np.split(values, len(people), axis=1), strict=True):
            found[film, person] = group[film] + part
    return found


def _rest(bench: Bench, rows: Mapping[str, Rows], told: Told, people: Sequence[str]) -> Films:
    """What people have beside the mean of the 20 (rows, people x parcels), by film."""
    means = bench.mean(bench.cut(rows, TRAINED), TRAINED)
    return {
        film: np.concatenate([told[film, person] - means[film] for person in people], axis=1)
        for film in sorted(rows)
    }


def residual_ridge(bench: Bench, base: Ridge, rows: Mapping[str, Rows], y: Films) -> Ridge:
    """Ridge towards given weights; the penalty, up to infinity, by leaving a film out."""
    films = sorted(rows)
    x = {f: design(bench, f, rows[f], base.fading, base.lag) for f in films}
    rest_of = {f: y[f] - x[f] @ base.weights for f in films}
    found = np.zeros(len(PENALTIES) + 1)
    for left in films:
        rest = [film for film in films if film != left]
        changes = ridge_weights(
            np.concatenate([x[f] for f in rest]),
            np.concatenate([rest_of[f] for f in rest]),
            PENALTIES,
        )
        for place, change in enumerate([*changes, np.zeros_like(base.weights)]):
            found[place] += correlation(x[left] @ (base.weights + change), y[left]).mean()
    place = int(found.argmax())
    if place == len(PENALTIES):
        return base
    change = ridge_weights(
        np.concatenate([x[f] for f in films]),
        np.concatenate([rest_of[f] for f in films]),
        PENALTIES[place : place + 1],
    )[0]
    return Ridge(base.weights + change, base.fading, base.lag, float(PENALTIES[place]))


def kept_baselines(bench: Bench, file: Path) -> dict[str, Predicted]:
    """Ridge and kernel ridge of a part, from `file` if they are there."""
    if not file.is_file():
        found = ridges(bench) | {"RBF kernel ridge, group": kernel_ridge(bench)}
        arrays: dict[str, Any] = {}
        for name, one in found.items():
            arrays[f"{name}/seconds"] = np.array(one.seconds)
            arrays |= {f"{name}/group/{film}": values for film, values in one.group.items()}
            arrays |= {f"{name}/own/{f}/{p}": values for (f, p), values in one.own.items()}
        partial = file.with_suffix(".part.npz")
        np.savez(partial, **arrays)
        partial.replace(file)
    with np.load(file) as kept:
        values = {key: kept[key] for key in kept.files}
    names = dict.fromkeys(key.split("/")[0] for key in values)
    found = {}
    for name in names:
        own: Told = {}
        group: Films = {}
        for key, rows in values.items():
            what, *rest = key.split("/")[1:]
            if key.startswith(f"{name}/") and what == "own":
                own[rest[0], rest[1]] = rows
            elif key.startswith(f"{name}/") and what == "group":
                group[rest[0]] = rows
        found[name] = Predicted(own, group, float(values[f"{name}/seconds"]))
    return found
