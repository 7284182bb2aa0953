"""People who were never seen, and new people with few minutes, for `learning.py`."""

from __future__ import annotations

import numpy as np
import torch

from learning_parts import Bench, Rows, scored
from learning_ridge import correlation, few_minutes
from learning_table import head, line, show, told_of
from tribrain.encoder.network import Encoder
from tribrain.training.adapt_data import Rows as PersonRows
from tribrain.training.adapt_people import ridge_people

MINUTES = (2, 5, 10, 20, 40)


def people(bench: Bench, models: list[Encoder]) -> list[str]:
    """Aims 3 and 4: people never seen, and a new person with few minutes."""
    head(f"{told_of(bench)}; {len(bench.held_out)} people held out")
    measured = bench.measured(bench.test, bench.held_out)
    together = {
        (film, "group"): np.mean([measured[film, p] for p in bench.held_out], axis=0)
        for film in bench.test
    }
    one = bench.held_out[:1]
    rows = [bench.predicted(model, one, unseen=True) for model in models]
    group = np.stack(
        [scored({(f, "group"): r for (f, _), r in seed.items()}, together) for seed in rows]
    )
    others = np.array(
        [
            [
                correlation(
                    measured[film, person],
                    np.mean([measured[film, p] for p in bench.held_out if p != person], axis=0),
                )
                for person in bench.held_out
            ]
            for film in bench.test
        ]
    )
    ceiling = bench.ceiling(bench.held_out, "group")[None]
    show("ceiling of R_group", ceiling[None, None], ceiling)
    linear, told = bench.ridge(group=True)
    print(f"  {told}")
    ridge = linear["banded ridge"]
    show("R_group, banded ridge on the mean", scored(ridge, together)[None], ceiling)
    show("R_group, row of people never seen", group, ceiling)
    show("each person with the others' mean", others[None])
    person = others.mean(axis=(0, 2))
    rng = np.random.default_rng(0)
    draws = np.median(person[rng.integers(len(person), size=(2000, len(person)))], axis=1)
    median, r_group = float(np.median(person)), float(group.mean())
    knife = [_without(together, measured, rows, bench, left) for left in bench.held_out]
    error = np.sqrt((len(knife) - 1) * np.var(knife))
    lines = [
        line(
            "3 people never seen: R_group above the median person's",
            f"R_group {r_group:.4f} (+- {error:.4f}, jackknife over people) of a ceiling of "
            f"{ceiling.mean():.4f}; median person {median:.4f} (+- {draws.std():.4f}, bootstrap); "
            f"{int((person < r_group).sum())} of {len(person)} people are below R_group",
            r_group > median,
        )
    ]
    return lines + new_people(bench, models, measured, ridge)


def _without(together: Rows, measured: Rows, rows: list[Rows], bench: Bench, left: str) -> float:
    """R_group without a person."""
    n = len(bench.held_out)
    found = []
    for seed in rows:
        for (film, _), predicted in seed.items():
            mean = (n * together[film, "group"] - measured[film, left]) / (n - 1)
            found.append(correlation(predicted, mean).mean())
    return float(np.mean(found))


def new_people(bench: Bench, models: list[Encoder], measured: Rows, group: Rows) -> list[str]:
    """Aim 4: ridge from scratch and the adapted model on the same minutes of each person.

    `group` holds the test rows that ridge on the mean of those trained on predicts.
    """
    persons = bench.held_out
    own = bench.measured(bench.adapting, persons)
    values = np.stack(
        [np.concatenate([own[film, p] for film in bench.adapting]) for p in persons]
    )  # (people, rows, outputs)
    zero = np.stack([scored(bench.predicted(m, persons, unseen=True), measured) for m in models])
    ceiling = bench.ceilings(persons, "features")
    head("new people with few minutes")
    show("ceiling: features", ceiling[None, None], ceiling)
    show("ceiling: the group's response", bench.ceilings(persons, "group")[None, None], ceiling)
    of_group = {(film, p): group[film, "group"] for film in bench.test for p in persons}
    show("zero-shot, banded ridge", scored(of_group, measured)[None], ceiling)
    show("zero-shot", zero, ceiling)
    films = (*bench.adapting, *bench.test)
    designs = {film: bench.design(film)[0].astype(np.float64) for film in films}
    seen = [bench.states(model, films) for model in models]
    lines = []
    for minutes in MINUTES:
        y = values[:, : 60 * minutes]
        if y.shape[1] < 60 * minutes:
            break
        x = np.concatenate([designs[film] for film in bench.adapting])[: y.shape[1]]
        path, chosen = few_minutes(x, np.concatenate(list(y), axis=1), len(persons))
        every = np.stack(
            [scored(per_person(designs, bench, [row] * len(persons)), measured) for row in path]
        )  # (penalties, films, people, outputs)
        best = every.mean(axis=(1, 3)).argmax(axis=0)
        scratch, picked = (
            np.stack([every[b][:, p] for p, b in enumerate(number)], axis=1)[None]
            for number in (chosen, best)
        )
        adapted = np.stack(
            [
                scored(per_person(states, bench, adapted_rows(model, states, y, bench)), measured)
                for model, states in zip(models, seen, strict=True)
            ]
        )
        show(f"{minutes:2} min: ridge from scratch", scratch, ceiling)
        show("        penalty picked on the test", picked, ceiling)
        show("        adapted", adapted, ceiling)
        if minutes == 10:
            r, ridge = adapted.mean(), scratch.mean()
            ratios = adapted.mean(axis=(0, 1, 3)) / scratch.mean(axis=(0, 1, 3))
            lines.append(
                line(
                    "4 new person, 10 min: twice ridge from scratch",
                    f"{r / ridge:.2f} times (+- {ratios.std(ddof=1) / np.sqrt(len(ratios)):.2f} "
                    f"over people; {r / picked.mean():.2f} times that with its penalty picked on "
                    f"the test): {r:.4f}, {ridge:.4f}, {picked.mean():.4f}; zero-shot "
                    f"{zero.mean():.4f}",
                    r >= 2 * ridge,
                )
            )
    return lines


def per_person(
    inputs: dict[str, np.ndarray], bench: Bench, rows: list[tuple[np.ndarray, np.ndarray]]
) -> Rows:
    """Predicted test rows of each person held out.

    Parameters
    ----------
    inputs : dict of str to ndarray (rows, columns)
        By film.
    bench : Bench
    rows : list of (ndarray (columns, outputs), ndarray (outputs,))
        Weight and bias of each; if they are of all people's outputs, those of each are taken.
    """
    size, found = bench.store.space.size, {}
    for number, (person, (weight, bias)) in enumerate(zip(bench.held_out, rows, strict=True)):
        own = slice(number * size, (number + 1) * size) if len(bias) > size else slice(None)
        for film in bench.test:
            found[film, person] = inputs[film] @ weight[:, own] + bias[own]
    return found


def adapted_rows(
    model: Encoder, states: dict[str, np.ndarray], values: np.ndarray, bench: Bench
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each person's own row in closed form, from the row of people never seen.

    Parameters
    ----------
    model : Encoder
    states : dict of str to ndarray (rows, R)
        By film.
    values : ndarray (people, n, outputs)
        BOLD of the first rows of the films for adapting.
    bench : Bench
    """
    x = np.concatenate([states[film] for film in bench.adapting])[: values.shape[1]]
    with torch.inference_mode():
        bias = model.read(torch.zeros(1, 1, x.shape[1]))[0, 0].double().numpy()
        weight = model.read(torch.eye(x.shape[1])[None])[0].double().numpy() - bias
    found = []
    for measured in values:
        positions = np.arange(len(x))
        rows = PersonRows(x, measured, positions, positions, np.zeros_like(positions))
        change, shift = ridge_people(rows, weight, bias).changes[0]
        found.append((weight + change, bias + shift))
    return found
