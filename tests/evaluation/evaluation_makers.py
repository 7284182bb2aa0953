"""Evaluations that nobody measured, with known scores: people who saw the same films."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tribrain.brain.meshes import medial_wall, midsurface
from tribrain.brain.spaces import Space, mesh_space, parcel_space
from tribrain.evaluation.evaluation import GROUP, Evaluation

WAYS = {
    "model": (0.118, "the trained model, with the row of the head that is the person's own"),
    "model, unseen": (0.109, "the trained model, with the row for people never seen"),
    "fir": (0.074, "ridge with a weight for each feature and each of 10 s before"),
    "banded": (0.086, "ridge with a penalty for each modality"),
    "textbook": (0.031, "regions that follow single features, from the literature"),
    "people": (0.211, "the mean of the other people: a reference, and no bound"),
    "nuisance": (0.027, "word rate, loudness and motion energy through a haemodynamic response"),
    "shifted": (0.002, "control: fir, fitted and tested with features that are shifted in time"),
}
NETWORKS = ("Vis", "SomMot", "DorsAttn", "SalVentAttn", "Limbic", "Cont", "Default")
REGIONS = ("V1", "V2", "MT", "FFC", "A1", "A4", "STSda", "STSdp", "TPOJ1", "44", "45", "PGi",
           "IPS1", "LIPv", "6v", "4", "46", "10v", "RSC", "7m")  # fmt: skip
PARCELS = tuple(
    f"7Networks_{side}H_{network}_{number}"
    for side in "LR" for network in NETWORKS for number in (1, 2, 3)
)  # fmt: skip


def make_evaluation(
    space: Space | str | None = "parcels",
    *,
    people: int = 6,
    films: Mapping[str, int] | Sequence[str] = ("documentary", "sitcom 1", "sitcom 2"),
    rows: int = 120,
    gains: Mapping[str, float] | None = None,
    ways: Sequence[str] = tuple(WAYS),
    seed: int = 0,
    first: int = 0,
    noise: float = 0.3,
    title: str | None = None,
    repeats: int = 1,
    variant: int = 0,
) -> Evaluation:
    """An evaluation whose every score follows from its moments.

    Parameters
    ----------
    space : Space, "parcels", a mesh, or None
        None for 50 plain outputs.
    people, films, rows
        How many; films may come with rows of their own.
    gains : mapping of str to float
        Added to the true r of a way; the noise stays the same.
    seed : int
        Of the noise of people, films and moments.
    first : int
        Number of the first person.
    noise : float
        Standard deviation of a row's share.
    repeats : int
        Runs in which a person saw each film.
    variant : int
        Of the noise that people and films do not share: evaluations of other variants differ as
        those of other models on the same data do.
    """
    space = _space(space)
    lengths = dict(films) if isinstance(films, Mapping) else dict.fromkeys(films, rows)
    gains = gains or {}
    maps = _maps(space, ways, gains)
    moments = _moments(lengths, people, first, ways, gains, seed, noise, repeats, variant)
    size = len(maps["ceiling"])
    left_out = int((~(maps["ceiling"] >= 0.1)).sum())
    scores = _scores(moments, size, left_out)
    return Evaluation(
        told=_told(space, lengths, people, first, ways, seed, title, repeats),
        space=space,
        scores=scores,
        summary=_summary(scores, moments, ways, size, left_out),
        regions=_regions(space, ways, gains),
        maps=maps,
        moments=moments,
    )


def _space(space: Space | str | None) -> Space | None:
    if space == "parcels":
        return parcel_space("Schaefer42", PARCELS)
    return mesh_space(space) if isinstance(space, str) else space


def _moments(
    lengths: Mapping[str, int], people: int, first: int, ways: Sequence[str],
    gains: Mapping[str, float], seed: int, noise: float, repeats: int, variant: int,
) -> pd.DataFrame:  # fmt: skip
    parts = []
    for f, (film, rows) in enumerate(lengths.items()):
        shared = _wander(np.random.default_rng([seed, 1, f]), rows) * noise
        for p in [*range(first, first + people), -1]:
            for n in range(repeats if p >= 0 else 1):
                own = _wander(np.random.default_rng([seed, 2, f, p + 1, n]), rows) * noise
                able = np.random.default_rng([seed, 3, p + 1]).normal(0, 0.02)
                for way in ways:
                    key = [seed, 4, list(WAYS).index(way), variant]
                    fine = np.random.default_rng([*key, f, p + 1, n])
                    r = WAYS[way][0] + gains.get(way, 0.0) + able + 0.012 * (f - 1)
                    r += np.random.default_rng([*key, p + 1]).normal(0, 0.006)
                    r = 2.2 * r if p < 0 else r
                    wander = 0.5 * shared + 0.5 * own + _wander(fine, rows) * noise * 0.3
                    parts.append(pd.DataFrame({
                        "way": way, "study": "Made", "run": f"{_person(p)}-{film}-{n + 1}",
                        "subject": _person(p), "group": film, "second": np.arange(rows) + 10.0,
                        "value": (r + wander - wander.mean()).astype(np.float32),
                    }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def _wander(random: np.random.Generator, rows: int) -> np.ndarray:
    """Noise whose neighbours are alike, as those of BOLD are."""
    return np.convolve(random.normal(size=rows + 7), np.full(8, 8**-0.5), "valid")


def _person(number: int) -> str:
    return GROUP if number < 0 else f"{number + 1:02d}"


def _scores(moments: pd.DataFrame, size: int, left_out: int) -> pd.DataFrame:
    keys = ["way", "study", "subject", "run", "group"]
    own = moments[moments["subject"] != GROUP]
    found = own.groupby(keys, sort=False)["value"].agg(rows="size", r="mean").reset_index()
    found["r"] = found["r"].astype(float)
    floor = found[found["way"] == "nuisance"].set_index("run")["r"]
    found["outputs"] = size
    found["r2"] = found["r"] ** 2 - 0.01
    found["explained_variance"] = found["r"] ** 2 - 0.008
    found["ceiling"] = 0.29
    found["normalised"] = found["r"] / 0.29
    found["left_out"] = left_out
    found["floor"] = found["run"].map(floor)
    return found


def _summary(
    scores: pd.DataFrame, moments: pd.DataFrame, ways: Sequence[str], size: int, left_out: int
) -> pd.DataFrame:
    rows = []
    group = moments[moments["subject"] == GROUP].groupby("way")["value"].mean()
    floor = scores[scores["way"] == "nuisance"]["r"].mean()
    for way in ways:
        there = scores[scores["way"] == way]
        each = there.groupby("subject")["r"].mean()
        r, error = float(each.mean()), float(each.std() / len(each) ** 0.5)
        whole = float(group.get(way, np.nan))
        reference = way == "people"
        rows.append({
            "way": way, "people": len(each), "r": r, "r_low": r - 1.96 * error,
            "r_high": r + 1.96 * error, "r2": r**2 - 0.01, "explained_variance": r**2 - 0.008,
            "ceiling": 0.29, "normalised": r / 0.29, "left_out": left_out,
            "zero": r - 0.01 if way == "model, unseen" else np.nan,
            "R_group": np.nan if reference else whole,
            "R_group_low": np.nan if reference else whole - 0.034,
            "R_group_high": np.nan if reference else whole + 0.034,
            "R_group_ceiling": 0.84, "floor": floor, "p": 0.42 if way == "shifted" else 0.000999,
            "significant": 0 if way == "shifted" else round(size * min(1.0, 6 * r)),
            "top1": min(1.0, 0.02 + 2 * max(r, 0)), "top5": min(1.0, 0.1 + 4 * max(r, 0)),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _regions(space: Space | None, ways: Sequence[str], gains: Mapping[str, float]) -> pd.DataFrame:
    random = np.random.default_rng(7)
    kinds = [("network", name) for name in NETWORKS]
    if space is None:
        kinds = []
    elif space.is_surface:
        kinds += [("region", name) for name in REGIONS]
    strong = dict(zip(kinds, random.uniform(0.3, 2.2, len(kinds)), strict=True))
    rows = [
        {"way": way, "region": name, "kind": kind, "outputs": 30,
         "r": (WAYS[way][0] + gains.get(way, 0.0)) * strong[kind, name],
         "ceiling": 0.29 * strong[kind, name] ** 0.5,
         "normalised": WAYS[way][0] * strong[kind, name] ** 0.5 / 0.29}
        for way in ways for kind, name in kinds
    ]  # fmt: skip
    columns = ["way", "region", "kind", "outputs", "r", "ceiling", "normalised"]
    return pd.DataFrame(rows, columns=columns)


def _maps(
    space: Space | None, ways: Sequence[str], gains: Mapping[str, float]
) -> dict[str, np.ndarray]:
    random = np.random.default_rng(8)
    if space is not None and space.is_surface:
        places = np.concatenate([midsurface(side, space.mesh) for side in ("left", "right")])
        ceiling = np.full(space.size, 0.08)
        for centre in ((-52, -22, 8), (52, -22, 8), (-12, -92, 0), (12, -92, 0), (45, -65, 2)):
            distance = ((places - np.array(centre)) ** 2).sum(axis=1)
            ceiling[: len(places)] += 0.5 * np.exp(-distance / (2 * 18.0**2))
        ceiling[: len(places)][medial_wall(space.mesh)] = np.nan
    else:
        size = 50 if space is None else space.size
        ceiling = random.uniform(0.05, 0.6, size)
    maps = {"ceiling": ceiling}
    for way in ways:
        part = (WAYS[way][0] + gains.get(way, 0.0)) / 0.2
        maps[f"{way}/r"] = part * ceiling + random.normal(0, 0.015, ceiling.shape)
        maps[f"{way}/normalised"] = np.where(ceiling >= 0.1, maps[f"{way}/r"] / ceiling, np.nan)
        maps[f"{way}/q"] = np.where(maps[f"{way}/r"] > 0.05, 0.01, 0.4) + 0 * ceiling
        maps[f"{way}/null"] = random.normal(0, 0.02, ceiling.shape) + 0 * ceiling
    return {name: values.astype(np.float32) for name, values in maps.items()}


def _told(
    space: Space | None, lengths: Mapping[str, int], people: int, first: int, ways: Sequence[str],
    seed: int, title: str | None, repeats: int,
) -> dict[str, Any]:  # fmt: skip
    splits = [
        {"study": "Made", "run": f"{_person(p)}-{film}-{n + 1}", "subject": _person(p),
         "begin": 10.0, "end": 10.0 + rows, "group": film, "side": "test"}
        for p in range(first, first + people) for film, rows in lengths.items()
        for n in range(repeats)
    ]  # fmt: skip
    return {
        "title": title or "quick-small on Made", "model": "quick-small", "revision": "none",
        "studies": ["Made"], "space": None if space is None else space.name, "lag": 5.0,
        "unit": "z-scored BOLD", "checksums": {"Made": "0" * 64},
        "ways": {way: WAYS[way][1] for way in ways},
        "ceiling": "each person against the mean of the other people",
        "notes": ["person 07 left out: no run of the side test"],
        "seeds": {"seed": seed}, "settings": {"permutations": 1000, "block_s": 30, "draws": 2000},
        "versions": {"tribrain": "0.1", "numpy": np.__version__}, "splits": splits,
        "least_ceiling": 0.1,
        "null": {way: {"kind": "circular shifts", "n": 1000, "low": -0.009, "high": 0.011}
                 for way in ways if way != "people"},
    }  # fmt: skip
