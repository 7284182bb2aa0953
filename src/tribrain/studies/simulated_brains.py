"""Simulated brains: how strongly each drive moves each vertex, in the population and in a person.

Everything is made on the sphere of fsaverage5 and read off at the vertices of the space, displaced
from person to person; a parcel is the mean of its vertices.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from tribrain.brain.regions import region_maps, textbook_table
from tribrain.brain.spaces import HEMISPHERES
from tribrain.errors import InputError
from tribrain.studies.simulated_places import (
    RADIUS,
    corners_of,
    gather,
    mesh_of,
    move,
    regions_of,
    smooth_fields,
    sphere,
    unit,
)
from tribrain.studies.simulated_stimuli import LINEAR, NONLINEAR, generator

UNEXPLAINED = 3
"""Series of a person that repeat with a film and that no feature explains."""

NONLINEAR_REGIONS = {
    "synchrony": ("hMT+", "PT", "TVA", "pSTS"),
    "novelty": ("V1", "V2d", "V2v", "V3d", "V3v", "V3A", "hMT+", "V6", "hV4", "V8"),
    "context": ("pSTS", "aSTS", "IFG", "IFGorb", "MFG", "AG"),
}
"""Regions of the textbook table that each nonlinear drive moves."""

_INTERACTION = 2.2  # weight of a nonlinear drive, of the largest linear weight of the region
_BACKGROUND = 0.3  # standard deviation of weights outside the regions
_SMOOTH = {"background": 30.0, "deformation": 40.0, "own": 15.0}  # mm on the sphere
_POPULATION = 32


@dataclass(frozen=True)
class People:
    """How people differ.

    Attributes
    ----------
    deformation : float
        Root mean square of the displacement of what lies at a vertex, in mm on the sphere of
        radius 100 mm (about 0.75 mm of cortex each).
    gain : float
        Standard deviation of the logarithm of a region's amplitude.
    delay : float
        Standard deviation of the haemodynamic delay, in seconds (none beyond twice that).
    idiosyncrasy : float
        Standard deviation of own weights on the same drives, of the amplitude of the group's.
    unexplained : float
        The same, of what repeats with a film in this person and follows from no feature.
    """

    deformation: float = 5.0
    gain: float = 0.25
    delay: float = 0.6
    idiosyncrasy: float = 0.4
    unexplained: float = 0.3

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            most = {"deformation": 15.0, "delay": 2.0}.get(field.name, np.inf)
            if not 0 <= value <= most or value == np.inf:
                fits = "0 or more" if most == np.inf else f"0 to {most:g}"
                raise InputError(f"people: {field.name} {value:g}; {fits} fits")


@dataclass(frozen=True)
class World:
    """What fixes every brain: hashable, so that maps are made once.

    Attributes
    ----------
    seed : int
    place : str or int
        A mesh, or a number of parcels.
    nonlinear : bool
    people : People
    """

    seed: int
    place: str | int
    nonlinear: bool
    people: People


@dataclass(frozen=True, eq=False)
class Brain:
    """A person's maps.

    Attributes
    ----------
    maps : ndarray (drives, n)
        BOLD of each vertex for a drive of standard deviation 1.
    unexplained : ndarray (UNEXPLAINED, n)
    delay : float
        Of the haemodynamic response, seconds.
    """

    maps: np.ndarray
    unexplained: np.ndarray
    delay: float


@dataclass(frozen=True, eq=False)
class Population:
    """The mean of people who are in no study, and how much their maps vary.

    Attributes
    ----------
    maps : ndarray (drives, n)
    delays : tuple of float
    core : ndarray (people, drives, vertices of regions), float32
        Each person's maps in the regions, for the mean power there.
    own : ndarray (vertices of regions,)
        Mean power of what is a person's own.
    """

    maps: np.ndarray
    delays: tuple[float, ...]
    core: np.ndarray
    own: np.ndarray


@lru_cache(maxsize=64)
def brain_of(world: World, number: int) -> Brain:
    """The maps of a person of a study, who is the same whoever else is in it."""
    return _make(world, (1, number), own=True)


@lru_cache(maxsize=8)
def population(world: World) -> Population:
    """The mean of 32 other people of the same world: what is common to people."""
    core = np.unique(np.concatenate(list(regions_of(world.place).values())))
    brains = [_make(world, (2, number), own=False) for number in range(_POPULATION)]
    kept = np.stack([brain.maps[:, core] for brain in brains]).astype(np.float32)
    power = (kept.astype(float) ** 2).sum(axis=1).mean(axis=0)
    own = (world.people.idiosyncrasy**2 + world.people.unexplained**2) * power
    maps = np.mean([brain.maps for brain in brains], axis=0)
    return Population(maps, tuple(brain.delay for brain in brains), kept, own)


def _make(world: World, key: tuple[int, int], *, own: bool) -> Brain:
    """A person; without `own`, only what is shared with others, moved and scaled."""
    people, seed = world.people, world.seed
    shared, regions = _template(seed, world.nonlinear)
    parts = len(shared)
    shifts, own_maps = [], []
    for side, hemisphere in enumerate(HEMISPHERES):
        points = sphere(mesh_of(world.place), hemisphere)
        rng = generator(seed, *key, side)
        shift = smooth_fields(rng, points, 3, _SMOOTH["deformation"])
        # Two of three directions lie in the surface.
        moved = points + people.deformation / np.sqrt(2) * shift
        shifts.append(corners_of(hemisphere, RADIUS * unit(moved)))
        if own:
            own_maps.append(smooth_fields(rng, points, parts + UNEXPLAINED, _SMOOTH["own"]).T)
    maps, gains = (move(values, shifts) for values in (shared, regions))
    rng = generator(seed, *key, 2)
    logs = people.gain * rng.standard_normal(len(regions))
    delay = float(people.delay * np.clip(rng.standard_normal(), -2, 2))
    maps = maps * np.exp(logs @ gains / np.maximum(gains.sum(axis=0), 1.0))
    unexplained = np.zeros((UNEXPLAINED, maps.shape[1]))
    if own:
        amplitude = np.sqrt((maps**2).sum(axis=0))
        fields_ = np.concatenate(own_maps, axis=1) * amplitude
        unexplained = people.unexplained * fields_[parts:] / np.sqrt(UNEXPLAINED)
        # Own weights are shared among drives as those of the group's background are.
        scale = _scale(parts)[:, None]
        maps = maps + people.idiosyncrasy * scale * fields_[:parts] / np.linalg.norm(scale)
    maps, unexplained = (gather(world.place, part) for part in (maps, unexplained))
    return Brain(maps, unexplained, delay)


@lru_cache(maxsize=4)
def _template(seed: int, nonlinear: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weights (drives, 20484) of fsaverage5 that people share, and the maps of the regions."""
    regions = region_maps("fsaverage5")
    names = LINEAR + NONLINEAR if nonlinear else LINEAR
    weights = {name: np.zeros(next(iter(regions.values())).size) for name in names}

    def add(drive: str, values: np.ndarray) -> None:
        # As in the textbook model: the border between two areas does not respond twice.
        weights[drive] = np.where(values > weights[drive], values, weights[drive])

    table = textbook_table()
    columns = (table["region"], table["hemisphere"], table["feature"], table["weight"])
    largest: dict[tuple[str, str], float] = {}
    for region, letter, drive, weight in zip(*columns, strict=True):
        add(drive, float(weight) * regions[f"{region}_{letter}"])
        largest[region, letter] = max(largest.get((region, letter), 0.0), float(weight))
    if nonlinear:
        for drive, affected in NONLINEAR_REGIONS.items():
            for (region, letter), weight in largest.items():
                if region in affected:
                    add(drive, _INTERACTION * weight * regions[f"{region}_{letter}"])

    maps = np.stack(list(regions.values()))
    outside = 1 - np.minimum(maps.sum(axis=0), 1.0)
    background = [
        smooth_fields(
            generator(seed, 0, side), sphere("fsaverage5", hemisphere), len(names),
            _SMOOTH["background"],
        ).T
        for side, hemisphere in enumerate(HEMISPHERES)
    ]  # fmt: skip
    spread = _BACKGROUND * _scale(len(names))[:, None] * np.concatenate(background, axis=1)
    return np.stack(list(weights.values())) + outside * spread, maps


def _scale(parts: int) -> np.ndarray:
    """How large the weights of each drive are, linear ones first."""
    return np.where(np.arange(parts) < len(LINEAR), 1.0, _INTERACTION)
