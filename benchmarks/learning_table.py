"""Rows of the tables of `learning.py`: means, standard errors, shares of a ceiling."""

from __future__ import annotations

import numpy as np

from learning_parts import Bench

USABLE = 0.1  # ceilings below this say little: nearly nothing of the output follows from features


def show(name: str, values: np.ndarray, ceiling: np.ndarray | None = None) -> float:
    """Print a row; returns the mean.

    Parameters
    ----------
    name : str
    values : ndarray (seeds, films, people, outputs)
    ceiling : ndarray (people, outputs), optional
    """
    errors = []
    for axis in (2, 3, 1, 0):
        kept = values.mean(axis=tuple(other for other in range(4) if other != axis))
        n = len(kept)
        errors.append(f"{kept.std(ddof=1) / np.sqrt(n):8.4f}" if n > 1 else f"{'-':>8}")
    of = "" if ceiling is None else f"{normalised(values, ceiling):11.4f}"
    print(f"  {name:34}{values.mean():8.4f}{''.join(errors)}{of}", flush=True)
    return float(values.mean())


def head(what: str) -> None:
    """Print the names of the columns."""
    errors = "".join(f"{name:>8}" for name in ("people", "outputs", "films", "seeds"))
    print(f"\n{what}\n  {'':34}{'r':>8}{errors}{'of ceiling':>11}\n  {'':42}  standard errors over")


def normalised(values: np.ndarray, ceiling: np.ndarray) -> float:
    """Mean of r by ceiling over the outputs whose ceiling is usable."""
    usable = ceiling >= USABLE
    return float((values.mean(axis=(0, 1))[usable] / ceiling[usable]).mean())


def line(aim: str, numbers: str, met: bool) -> str:
    """An aim, what was found, and whether it is met."""
    return f"{'met    ' if met else 'NOT met'}  {aim}: {numbers}"


def told_of(bench: Bench) -> str:
    """The study in a line."""
    study, part = bench.study, bench.part
    lost = part.test + part.adapting + part.validation
    hours = (len(study.film_names) - lost) * study.minutes / 60
    return (
        f"{part.name}: {len(bench.trained)} people, {hours:.1f} h of different film each to train "
        f"on, {part.test} films of {study.minutes:g} min to test, {study.bold_space.size} parcels, "
        f"signal-to-noise ratio {study.snr:g}"
    )
