"""Atlases: regions with names, and means of a response over them.

atlas = load_atlas("glasser", mesh_space("fsaverage5"))
atlas.summarise(values)                 # (..., region), in the order of atlas.names
atlas.vertices("V*", hemisphere="left")
group_vertices(atlas, "motion")
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, cached_property
from importlib.resources import files as package_files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tribrain.brain.atlas_files import (
    CIFTI_FILES,
    NO_REGION,
    SURFACE_FILES,
    VOLUME_FILES,
    Labels,
    has_ending,
    hemisphere_of,
    read_cifti,
    read_hemisphere,
    read_volume,
    split_name,
)
from tribrain.brain.atlas_places import (
    KNOWN,
    Files,
    find_known,
    find_path,
    known_names,
    name_of_files,
    names_of,
    places,
    resolve,
)
from tribrain.brain.atlas_regions import (
    Region,
    WrongMeshError,
    need_voxels,
    regions_of_surface,
    regions_of_volume,
    serving,
)
from tribrain.brain.regions import region_vertices
from tribrain.brain.spaces import HEMISPHERES, Space
from tribrain.errors import InputError
from tribrain.files import first_line

if TYPE_CHECKING:
    import pandas as pd

_BLOCK = 4_000_000  # values that are summed at a time (32 MB)


@dataclass(frozen=True, eq=False)
class Atlas:
    """Regions of a space.

    Attributes
    ----------
    name : str
    space : Space
    regions : tuple of Region
        The left hemisphere first. No region holds a vertex of the medial wall.
    source : str
        Paper, files, and what was done to make them fit.
    family : str
        What the table of groups calls it; empty for an atlas that it does not know.
    """

    name: str
    space: Space
    regions: tuple[Region, ...]
    source: str
    family: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(region.name for region in self.regions)

    @cached_property
    def labels(self) -> np.ndarray:
        """Number of the region of each value (size,) int32, -1 where there is none.

        Where regions overlap (those of the textbook do), that of the first.
        """
        labels = np.full(self.space.size, NO_REGION, np.int32)
        for number in reversed(range(len(self.regions))):
            labels[self.regions[number].vertices] = number
        labels.setflags(write=False)
        return labels

    def match(
        self, patterns: str | Iterable[str], hemisphere: str | None = None
    ) -> tuple[Region, ...]:
        """Regions by name, in the order of the atlas.

        Parameters
        ----------
        patterns : str or iterable of str
            Names (``V1_L``) or areas (``V1``, in both hemispheres), in which ``*`` stands for
            anything, ``?`` for one character and ``[ab]`` for either; upper and lower case
            differ. Several are parted by commas. A name itself always stands for itself.
        hemisphere : {"left", "right"}, optional
            Only regions of this one.

        Raises
        ------
        InputError
            If a pattern matches nothing; offers names like it.
        """
        _check_hemisphere(hemisphere)
        regions = [r for r in self.regions if hemisphere in (None, r.hemisphere)]
        found: set[str] = set()
        for pattern in self._parted(patterns):
            hits = {r.name for r in regions if pattern in (r.name, r.area)} or {
                r.name for r in regions if any(fnmatchcase(n, pattern) for n in (r.name, r.area))
            }
            if not hits:
                raise InputError(self._nothing(pattern, regions, hemisphere))
            found |= hits
        return tuple(region for region in regions if region.name in found)

    def _parted(self, patterns: str | Iterable[str]) -> list[str]:
        """Patterns one by one: some names have a comma within, so a whole name goes first."""
        if not isinstance(patterns, str):
            return [part for pattern in patterns for part in self._parted(pattern)]
        if any(patterns in (region.name, region.area) for region in self.regions):
            return [patterns]
        return [part.strip() for part in patterns.split(",") if part.strip()] or [patterns]

    def _nothing(self, pattern: str, regions: Sequence[Region], hemisphere: str | None) -> str:
        names = {name for region in regions for name in (region.area, region.name)}
        by_lower = {name.lower(): name for name in sorted(names)}
        near = difflib.get_close_matches(pattern.lower(), by_lower, n=5, cutoff=0.5)
        where = f" in the {hemisphere} hemisphere" if hemisphere else ""
        told = ", ".join(by_lower[name] for name in near) or ", ".join(sorted(names)[:5]) + ", ..."
        return f"no region of {self.name} is called {pattern!r}{where}; there are {told}"

    def vertices(
        self, patterns: str | Iterable[str] | None = None, hemisphere: str | None = None
    ) -> dict[str, np.ndarray]:
        """Where the values of each region lie; of all regions, or of those that `match`."""
        regions = self.match("*" if patterns is None else patterns, hemisphere)
        return {region.name: region.vertices for region in regions}

    def summarise(self, values: np.ndarray) -> np.ndarray:
        """Mean of each region over its vertices outside the medial wall.

        Parameters
        ----------
        values : ndarray (..., size)
            NaN is "not measured": a mean is over the vertices that were.

        Returns
        -------
        ndarray (..., region), float32 (float64 where values are)
            NaN where nothing of a region was measured. Sums are of float64.
        """
        self.space.check(values, "the response")
        values = np.asarray(values)
        rows = values.reshape(-1, values.shape[-1])
        double = values.dtype == np.float64
        means = np.empty((len(rows), len(self.regions)), np.float64 if double else np.float32)
        step = max(1, _BLOCK // self.space.size)
        for first in range(0, len(rows), step):
            # A copy (vertex, row), as a sparse product goes along rows.
            block = np.array(rows[first : first + step].T, np.float64, order="C")
            missing = np.isnan(block)
            counts: np.ndarray = self._sizes[:, None]
            if missing.any():
                block[missing] = 0
                counts = counts - self._sums @ missing.astype(np.float64)
            with np.errstate(invalid="ignore", divide="ignore"):
                means[first : first + step] = (self._sums @ block / counts).T
        return means.reshape(*values.shape[:-1], len(self.regions))

    @cached_property
    def _sizes(self) -> np.ndarray:
        return np.array([len(region.vertices) for region in self.regions], float)

    @cached_property
    def _sums(self) -> Any:
        """Sparse matrix (region, size) of ones, which sums over the vertices of each region."""
        from scipy.sparse import csr_array

        columns = np.concatenate([region.vertices for region in self.regions])
        starts = np.concatenate([[0], np.cumsum(self._sizes)]).astype(int)
        shape = (len(self.regions), self.space.size)
        return csr_array((np.ones(len(columns)), columns, starts), shape)


def _check_hemisphere(hemisphere: str | None) -> None:
    if hemisphere is not None and hemisphere not in HEMISPHERES:
        known = ", ".join(HEMISPHERES)
        raise InputError(f"hemisphere {hemisphere!r} is unknown; known: {known}")


def load_atlas(
    atlas: str | Path | Sequence[str | Path], space: Space, label_map: str | None = None
) -> Atlas:
    """An atlas by its name or its files, on a space.

    Parameters
    ----------
    atlas : str, path or pair of paths
        A name of `KNOWN`; or a file (of one hemisphere: the other is found by its name), a pair
        left and right, a folder that holds one atlas, or FOLDER/NAME, where NAME is part of its
        files' names. A name goes before a file that is called like it (write ./NAME).
    space : Space
        A finer fsaverage serves a coarser one exactly, as vertex k is vertex k; no other mesh
        does. A volume serves voxels by the nearest of its own.
    label_map : str, optional
        Which map of a file that holds several; else the first.

    Returns
    -------
    Atlas
        Without the medial wall: the atlas's own, where it leaves vertices of a hemisphere without
        a region, as it says where cortex ends; else that of `meshes.medial_wall`.

    Raises
    ------
    InputError
        An unknown name, no files, files that are damaged or do not fit the space.
    """
    if space.parcels:
        raise InputError(f"the values of {space.name} are regions already; no atlas parts them")
    known = resolve(atlas) if isinstance(atlas, str) else None
    if known == "textbook":
        return _textbook(space)
    if known is not None:
        return _load_known(known, space, label_map)
    if isinstance(atlas, (str, Path)):
        plain = isinstance(atlas, str) and not re.search(r"[/\\.]", atlas)
        if plain and not Path(atlas).exists():
            raise InputError(f"atlas {atlas!r} is unknown; known: {known_names()}, or a path")
        files = find_path(atlas)
    else:
        files = tuple(Path(file).expanduser() for file in atlas)
        if len(files) != 2:
            raise InputError(f"{len(files)} files of an atlas; two fit, left and right")
        if [hemisphere_of(file) for file in files] == ["right", "left"]:
            raise InputError(f"{files[0].name} is of the right hemisphere; give the left one first")
    found = name_of_files(files)
    return _load_files(files, space, found or split_name(files[0])[0], label_map)


def _textbook(space: Space) -> Atlas:
    sides = dict(zip("LR", HEMISPHERES, strict=True))
    regions = tuple(
        Region(name, name[:-2], sides[name[-1]], vertices)
        for name, vertices in region_vertices(space).items()
    )
    return Atlas("textbook", space, regions, KNOWN["textbook"].source, "textbook")


def _load_known(name: str, space: Space, label_map: str | None) -> Atlas:
    known = KNOWN[name]
    if not known.on_surface and not space.n_voxels:
        raise InputError(
            f"{name} is an atlas of voxels and {space.name} is a surface; "
            "give an atlas of the surface, such as glasser"
        )
    if not known.in_volume and not space.is_surface:
        raise InputError(
            f"{name} is an atlas of the surface and {space.name} has none; "
            "give an atlas of voxels, such as harvard-oxford"
        )
    if not (known.on_surface and space.is_surface):
        need_voxels(space, name)
    meshes = serving(space) if space.is_surface else []
    problem: InputError | None = None
    # A file of the surface does not serve voxels, for which some atlases are fetched.
    if space.is_surface or not known.on_surface:
        for files in find_known(name, meshes):
            try:
                return _load_files(files, space, name, label_map)
            except WrongMeshError as error:  # one that fits may lie in a later folder
                problem = problem or error
    try:
        fetched = _fetch(name, space)
    except InputError:
        raise
    except Exception as error:  # whatever is wrong with the network or the server
        told = first_line(error)[:80]
        problem = problem or _not_here(name, meshes, f"nilearn could not fetch it ({told})")
    else:
        if fetched is not None:
            return fetched
    raise problem or _not_here(name, meshes)


def _not_here(name: str, meshes: list[str], *more: str) -> InputError:
    looked = ", ".join(str(place) for place in places(meshes))
    told = "; ".join([f"{name} is not here (looked in {looked})", *more])
    called = KNOWN[name].files[0].format(h="lh", H="L")
    return InputError(
        f"{told}; where it comes from: {KNOWN[name].get}; put it (such as {called}) into one of "
        "these folders, or name its folder in TRIBRAIN_ATLASES"
    )


def _fetch(name: str, space: Space) -> Atlas | None:
    """An atlas by nilearn's fetcher, where nilearn has one for the space."""
    from nilearn import datasets

    known, fits = KNOWN[name], f"{KNOWN[name].source}; fetched by nilearn"
    if name == "destrieux" and "fsaverage5" in serving(space):
        bunch = datasets.fetch_atlas_surf_destrieux(verbose=0)
        texts = [t.decode() if isinstance(t, bytes) else str(t) for t in bunch["labels"]]
        maps = (np.asarray(bunch["map_left"]), np.asarray(bunch["map_right"]))
        hemispheres = {
            side: Labels(values, dict(enumerate(texts)))
            for side, values in zip(HEMISPHERES, maps, strict=True)
        }
        regions, told = regions_of_surface(hemispheres, space, name)
    elif name == "harvard-oxford":
        bunch = datasets.fetch_atlas_harvard_oxford("sub-maxprob-thr25-2mm", verbose=0)
        regions, told = _of_nilearn_volume(bunch, space, name)
    elif known.family.startswith("schaefer") and not space.is_surface:
        count, _, networks = name.removeprefix("schaefer").partition("-")
        bunch = datasets.fetch_atlas_schaefer_2018(
            n_rois=int(count), yeo_networks=int(networks or 7), resolution_mm=2, verbose=0
        )
        regions, told = _of_nilearn_volume(bunch, space, name)
    else:
        return None
    return Atlas(name, space, regions, "; ".join(filter(None, (fits, told))), known.family)


def _of_nilearn_volume(bunch: Any, space: Space, what: str) -> tuple[tuple[Region, ...], str]:
    """Regions of a volume of nilearn's, which is in FSL's MNI152 and numbers from Background on."""
    import nibabel as nib

    maps, texts = bunch["maps"], bunch["labels"]
    image: Any = nib.load(maps) if isinstance(maps, (str, Path)) else maps
    names = [t.decode() if isinstance(t, bytes) else str(t) for t in texts]
    first = 0 if names[0] == "Background" else 1  # nilearn before 0.12 left it out of Schaefer's
    labels = Labels(
        np.asanyarray(image.dataobj).astype(np.int32), dict(enumerate(names, start=first))
    )
    return regions_of_volume(labels, image.affine, "MNI152NLin6Asym", space, what)


def _load_files(files: Files, space: Space, name: str, label_map: str | None) -> Atlas:
    known = KNOWN.get(name)
    names = names_of(known, files[0]) if known else None
    made = "; ".join([*([known.source] if known else []), ", ".join(file.name for file in files)])
    family = known.family if known else ""
    if len(files) == 1 and has_ending(files[0], VOLUME_FILES):
        if not has_ending(files[0], CIFTI_FILES):
            labels, affine, template = read_volume(files[0], names)
            if template is None and name == "harvard-oxford":
                template = "MNI152NLin6Asym"
            regions, told = regions_of_volume(labels, affine, template, space, files[0].name)
            return Atlas(name, space, regions, f"{made}; {told}", family)
        hemispheres = read_cifti(files[0], label_map)
    elif len(files) == 2 and all(has_ending(file, SURFACE_FILES) for file in files):
        hemispheres = {
            side: read_hemisphere(file, side, names, label_map)
            for side, file in zip(HEMISPHERES, files, strict=True)
        }
    else:
        kinds = ", ".join((*SURFACE_FILES, *CIFTI_FILES, *VOLUME_FILES))
        told = " and ".join(file.name for file in files)
        raise InputError(f"{told} cannot be read as an atlas; these are read: {kinds}")
    regions, told = regions_of_surface(
        hemispheres, space, " and ".join(file.name for file in files)
    )
    return Atlas(name, space, regions, f"{made}; {told}" if told else made, family)


@cache
def groups_table() -> pd.DataFrame:
    """The table of groups, a row a group, atlas and hemisphere.

    Returns
    -------
    DataFrame
        Columns group, atlas (a family: ``schaefer`` of all resolutions with 7 networks), patterns
        (as `Atlas.match` reads them), hemisphere (both, left, right), source.
    """
    import pandas as pd

    with (package_files("tribrain.brain") / "groups.tsv").open(encoding="utf-8") as file:
        return pd.read_csv(file, sep="\t", dtype=str)


def groups(atlas: Atlas) -> tuple[str, ...]:
    """Groups that the table has for an atlas."""
    table = groups_table()
    return tuple(dict.fromkeys(table.loc[table["atlas"] == atlas.family, "group"]))


def group_vertices(
    atlas: Atlas, group: str, hemisphere: str | None = None
) -> dict[str, np.ndarray]:
    """Where the values of each region of a group lie, in the order of the atlas.

    Parameters
    ----------
    atlas : Atlas
    group : str
        Such as "early visual" (or early-visual).
    hemisphere : {"left", "right"}, optional
        Only regions of this one.

    Raises
    ------
    InputError
        If the table does not have the group for the atlas; names those that it has.
    """
    _check_hemisphere(hemisphere)
    name = group.replace("-", " ").replace("_", " ").lower()
    table = groups_table()
    rows = table[(table["atlas"] == atlas.family) & (table["group"] == name)]
    if rows.empty:
        known = ", ".join(groups(atlas)) or "none"
        having = ", ".join(dict.fromkeys(table.loc[table["group"] == name, "atlas"]))
        more = f"; atlases with that group: {having}" if having else ""
        raise InputError(f"{atlas.name} has no group {group!r}; its groups: {known}{more}")
    chosen = {
        region.name
        for patterns, side in zip(rows["patterns"], rows["hemisphere"], strict=True)
        for region in atlas.match(patterns, None if side == "both" else side)
        if hemisphere in (None, region.hemisphere)
    }
    if not chosen:
        raise InputError(f"{name} of {atlas.name} has no region in the {hemisphere} hemisphere")
    return {r.name: r.vertices for r in atlas.regions if r.name in chosen}
